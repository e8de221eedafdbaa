"""All facts at once, side by side: in all within the slowest part's limit."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.config.documents import MANAGED
from agent.config.installed import STATE
from agent.doctor.facts import (
    AdbFacts,
    AgentFacts,
    ConfigFacts,
    Facts,
    FleetFacts,
    StoreFacts,
    UnitFacts,
    UsbFacts,
    UsbmuxFacts,
)
from agent.doctor.gather import users
from agent.doctor.gather.agent import ask_agent
from agent.doctor.gather.android import look_at_adb
from agent.doctor.gather.fleet import look_at_fleet
from agent.doctor.gather.host import look_at_clock, look_at_store
from agent.doctor.gather.ios import look_at_usbmuxd
from agent.doctor.gather.limit import survived
from agent.doctor.gather.reach import reach_all
from agent.doctor.gather.unit import ask_systemd, unit_of
from agent.doctor.gather.usb import look_at_usb
from agent.model import SourceName
from agent.sources.registry import remote_bridges
from agent.store import SQLITE_VERSION

if TYPE_CHECKING:
    from agent.doctor.facts import User
    from agent.errors import Problem


async def gather(
    path: Path,
    checked: tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]],
    socket: Path,
) -> Facts:
    """Everything, within 10 s; raises nothing.

    Args:
        path: the configuration file.
        checked: what `check` made of it. Where it cannot be used, the defaults stand for it.
        socket: where the agent listens.
    """
    config, problems, warnings = checked
    used = config or Config()
    hub = used.fleet.role == "hub"
    name = unit_of(used)
    agent, unit = await asyncio.gather(
        survived(ask_agent(socket), lambda why: AgentFacts(socket, why, there=True)),
        survived(ask_systemd(name), lambda why: UnitFacts(booted=True, error=why, name=name)),
    )
    user = agent.user or _unit_user(unit) or users.own()
    state_dir = _state_dir(used, agent, unit)
    local = SourceName.ADB not in remote_bridges(used)
    sqlite = str(agent.status["store"]["sqlite"]) if agent.runs else ""
    usb_on, android, ios = used.usb.enabled, used.android, used.ios
    if hub:  # none of these is looked at: the phones are the agents'
        usb_on = False
        android = android.model_copy(update={"enabled": False})
        ios = ios.model_copy(update={"enabled": False})
    usb, adb, mux, store, reach, fleet = await asyncio.gather(
        survived(
            look_at_usb(enabled=usb_on),
            lambda why: UsbFacts(usb_on, udevd=True, netlink="", devices=None, error=why),
        ),
        survived(
            look_at_adb(android, local=local, state_dir=state_dir, user=user),
            lambda why: AdbFacts(android.enabled, android.adb_server, local=local, error=why),
        ),
        survived(
            look_at_usbmuxd(ios, state_dir),
            lambda why: UsbmuxFacts(ios.enabled, ios.usbmuxd, there=True, error=why),
        ),
        survived(
            look_at_store(state_dir, user, runs=agent.runs, sqlite=sqlite),
            lambda why: StoreFacts(
                state_dir, sqlite or SQLITE_VERSION, state="unreadable", detail=why
            ),
        ),
        reach_all(used.webhooks),
        survived(
            look_at_fleet(used.fleet, runs=agent.runs),
            lambda why: FleetFacts(used.fleet.role, "", "", error=why),
        ),
    )
    return Facts(
        agent,
        unit,
        ConfigFacts(
            path,
            problems,
            warnings,
            f"{len(used.webhooks)} webhooks, {len(used.devices)} devices",
            len(used.webhooks),
            max(_changed(path), _changed(state_dir / MANAGED)),
            hub=hub,
        ),
        usb,
        adb,
        mux,
        store,
        look_at_clock(),
        reach,
        fleet,
        user,
    )


def _unit_user(unit: UnitFacts) -> User | None:
    return users.by_name(unit.properties.get("User", "")) if unit.properties else None


def _state_dir(config: Config, agent: AgentFacts, unit: UnitFacts) -> Path:
    """As the agent says; else where it would be, which systemd decides for the unit."""
    if agent.runs:
        return Path(agent.status["store"]["directory"])
    path = config.state_dir(os.environ)
    by_unit = config.agent.state_dir is None and unit.properties.get("LoadState") == "loaded"
    return STATE.with_name(unit.name) if by_unit and not path.exists() else path


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

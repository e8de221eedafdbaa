"""The smallest world an agent lives in: a scripted adb server, receivers, a short directory."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes.fake_adb_host import Listed
from tests.kit.configs import AT_ONCE, only_adb

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.fakes.fake_adb_host import FakeAdbHost
    from tests.fakes.receiver import Receiver
    from tests.kit.agent import AgentProcess


def config(
    host: FakeAdbHost, webhooks: dict[int, tuple[Receiver, Collection[str]]], more: str = ""
) -> str:
    """No holds, no damping: every change counts at once. Webhooks: id → receiver and events."""
    tables = "".join(
        f'[[webhooks]]\nid = {number}\nname = "webhook {number}"\nurl = "{receiver.url()}"\n'
        f"events = {sorted(events)}\n"
        for number, (receiver, events) in webhooks.items()
    )
    return f"""
{AT_ONCE}
{only_adb(host.address)}
probe_interval = "0s"
{more}
{tables}"""


@contextmanager
def short_directory() -> Iterator[Path]:
    """Unix sockets' names have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        yield Path(name)


def transitions(agent: AgentProcess) -> list[tuple[str, str]]:
    """(udid, state) of every transition that the agent's log tells of, in order."""
    found = []
    for line in agent.log:
        if "device.transition" in line:
            pairs = dict(re.findall(r"(\w+)=(\S+)", line))
            found.append((pairs["udid"], pairs["state"]))
    return found


async def change(host: FakeAdbHost, agent: AgentProcess, number: int, state: str) -> None:
    """Bring phone N into that state, and wait until the agent has derived it."""
    udid = f"phone-{number}"
    before = len(transitions(agent))
    if state == "unplugged":
        host.remove(udid)
    else:
        adb_state = {"online": "device", "offline": "unauthorized"}[state]
        host.set(Listed(udid, adb_state, transport_id=number))
    await agent.until(lambda: len(transitions(agent)) > before, f"{udid} {state}")
    assert transitions(agent)[before:] == [(udid, state)]


def lines(agent: AgentProcess, name: str) -> list[str]:
    """The log's lines of that name."""
    return [line for line in agent.log if re.search(rf"\b{re.escape(name)}\b", line)]

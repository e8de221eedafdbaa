"""The agent itself: does it run, under which unit, with which configuration."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.doctor.metrics import number
from agent.model import SourceName
from agent.service.reload import IN_FORCE
from agent.text import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import AgentFacts, ConfigFacts, Facts

_AGENT = Section("Agent")
_CONFIG = Section("Configuration")
SHOWN = 5
"""Lines of one kind; the rest is counted."""
_SOURCES = (*SourceName, "store", "reload", "fleet")
"""What the agent complains of that has a check of its own."""
TOUCHED = 5.0
"""Seconds that a file may be newer than its loading: an editor, a slow disk."""
FEW_DESCRIPTORS = 0.8
"""Of the limit; the agent opens one per phone and attempt under way."""


def judge_agent(facts: Facts) -> Iterator[Finding]:
    """Does it run, and what does it say?"""
    agent, unit = facts.agent, facts.unit.name
    if agent.denied:
        yield _AGENT.fail(
            "agent",
            f"its socket {agent.socket} may not be used by this user: what follows is seen from "
            "outside",
            "use sudo, or join the group that owns it: "
            "sudo usermod --append --groups device-agent USER, then log in anew",
        )
        return
    if not agent.runs:
        what = "does not answer" if agent.there else "not running"
        yield _AGENT.fail(
            "agent",
            f"{what} ({agent.error}): what follows is seen from outside",
            f"its log says more (journalctl -u {unit}); sudo systemctl restart {unit}"
            if agent.there
            else f"sudo systemctl start {unit}, or device-agent run; "
            "with another configuration give --config FILE",
        )
        return
    status, now = agent.status, facts.host.now
    who = f", user {agent.user.name}" if agent.user is not None else ""
    since = datetime.fromisoformat(status["since"]).timestamp() if status["since"] else now
    found = f"{status['version']}, pid {agent.pid}{who}, for {elapsed(now - since)}"
    others = [
        text for text in status["problems"] if not text.startswith(tuple(f"{n}:" for n in _SOURCES))
    ]
    if others:
        yield _AGENT.warn("agent", "; ".join(others), "its log says more")
    elif status["ready"]:
        yield _AGENT.ok("agent", f"ready: {found}")
    elif status["store"]["ok"] and facts.config.hub:
        yield _AGENT.warn(
            "agent",
            f"not ready: {found}: the hub does not hear itself through the broker",
            "see Fleet below",
        )
    elif status["store"]["ok"]:
        yield _AGENT.warn(
            "agent",
            f"not ready: {found}: it waits for its sources",
            "see the lines below; it goes on without them after [agent] start_limit",
        )
    else:
        yield _AGENT.fail("agent", f"not ready: {found}", "see the store below")


def judge_descriptors(facts: Facts) -> Iterator[Finding]:
    """How many more connections the agent may open."""
    opened = number(facts.agent.metrics, "process_open_fds")
    most = number(facts.agent.metrics, "process_max_fds")
    if opened is None or not most:
        return
    found = f"{opened:.0f} of {most:.0f} in use"
    if opened / most >= FEW_DESCRIPTORS:
        yield _AGENT.fail(
            "descriptors",
            f"{found}: new connections will fail",
            f"raise LimitNOFILE= (sudo systemctl edit {facts.unit.name}), or ulimit -n",
        )
    else:
        yield _AGENT.ok("descriptors", found)


def judge_listener(facts: Facts) -> Iterator[Finding]:
    """Who can listen in on what the agent serves over TCP, and on what lets others change it."""
    agent = facts.agent
    if not agent.runs:
        return
    if agent.exposed:
        yield _AGENT.warn(
            "api",
            f"served at {agent.page} without TLS: whoever can read the network there reads what is "
            "asked for, the token and sessions",
            "set [api] cert and key (docs/api.md), or listen on 127.0.0.1 and come through ssh -L",
        )
    else:
        yield _AGENT.ok("api", f"served at {agent.page or 'its socket alone'}")


def judge_unit(facts: Facts) -> Iterator[Finding]:
    """What systemd makes of it."""
    unit, agent = facts.unit, facts.agent
    if not unit.booted:
        yield _AGENT.ok("unit", "systemd does not run this machine: nothing restarts the agent")
        return
    if unit.error:
        yield _AGENT.warn("unit", unit.error, "see systemctl status")
        return
    have = unit.properties
    if have.get("LoadState") != "loaded":
        yield _AGENT.ok("unit", f"{unit.name}.service is not installed")
        return
    state = f"{have.get('ActiveState')} ({have.get('SubState')})"
    pid, restarts = have.get("MainPID", "0"), have.get("NRestarts", "0")
    if have.get("ActiveState") == "failed":
        yield _AGENT.fail(
            "unit",
            f"failed: {have.get('Result')}, exit status {have.get('ExecMainStatus')}",
            "correct the configuration (device-agent check), then "
            f"sudo systemctl restart {unit.name}"
            if have.get("ExecMainStatus") == "2"
            else f"journalctl -u {unit.name} -n 50; then sudo systemctl restart {unit.name}",
        )
    elif agent.runs and pid not in {"0", str(agent.pid)}:
        yield _AGENT.warn(
            "unit",
            f"{state} with pid {pid}, but pid {agent.pid} answers at {agent.socket}",
            "another agent than the unit's was asked: give the unit's --config",
        )
    elif have.get("ActiveState") != "active":
        yield _AGENT.fail("unit", state, f"sudo systemctl start {unit.name}")
    elif have.get("NeedDaemonReload") == "yes":
        yield _AGENT.warn(
            "unit",
            f"{state}; its file was changed since",
            f"sudo systemctl daemon-reload && sudo systemctl restart {unit.name}",
        )
    elif restarts not in {"0", ""}:
        yield _AGENT.warn(
            "unit",
            f"{state}, restarted {restarts} times since it was started"
            + (": the watchdog ended it" if have.get("Result") == "watchdog" else ""),
            f"journalctl -u {unit.name} says why each time; "
            f"sudo systemctl reset-failed {unit.name} counts anew",
        )
    elif have.get("UnitFileState") == "disabled":
        yield _AGENT.warn(
            "unit", f"{state}, not started at boot", f"sudo systemctl enable {unit.name}"
        )
    else:
        watchdog = "" if have.get("WatchdogUSec") not in {None, "0", "infinity"} else "no "
        yield _AGENT.ok("unit", f"{state}, no restarts, {watchdog}watchdog")


def judge_config(facts: Facts) -> Iterator[Finding]:
    """The file, as `check` sees it."""
    config = facts.config
    for problem in config.problems[:SHOWN]:
        yield _CONFIG.fail("file", str(problem), "correct it; device-agent check shows the line")
    if len(config.problems) > SHOWN:
        yield _CONFIG.fail(
            "file", f"{len(config.problems) - SHOWN} more mistakes", "device-agent check lists them"
        )
    for warning in config.warnings[:SHOWN]:
        yield _CONFIG.warn("file", str(warning), "device-agent check shows the line")
    if len(config.warnings) > SHOWN:
        yield _CONFIG.warn(
            "file",
            f"{len(config.warnings) - SHOWN} more warnings",
            "device-agent check lists them",
        )
    if not config.problems and not config.warnings:
        yield _CONFIG.ok("file", f"{config.path}: {config.summary}")


def judge_last_reload(facts: Facts) -> Iterator[Finding]:
    """Whether the file is what runs."""
    if facts.agent.runs:
        yield _last_reload(facts.config, facts.agent, facts.unit.name)


def _last_reload(config: ConfigFacts, agent: AgentFacts, unit: str) -> Finding:
    reload = agent.status["reload"]
    if not reload["ok"]:
        first, _, rest = reload["error"].partition("\n")
        more = f" (and {len(rest.splitlines())} more)" if rest else ""
        if first.startswith(IN_FORCE):
            return _CONFIG.fail("last reload", first, f"sudo systemctl restart {unit}")
        return _CONFIG.fail(
            "last reload",
            f"refused at {reload['at']}, the old configuration is in force: {first}{more}",
            "correct the file, then device-agent reload",
        )
    moment = reload["at"] or agent.status["since"]
    loaded = datetime.fromisoformat(moment).timestamp()
    if config.changed_at > loaded + TOUCHED:
        return _CONFIG.warn(
            "last reload",
            f"at {moment}; the file was changed after it",
            "device-agent reload",
        )
    return _CONFIG.ok("last reload", f"good, at {moment}" if reload["at"] else "none since start")

"""What took several phones at once, and what is suspected to be broken."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from agent.doctor.finding import Finding, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts
    from agent.service.causes import CauseRow, SuspectRow

_CAUSES = Section("Causes")
SHOWN: Final = 10
"""Of each; `GET /v1/causes` and `device-agent report` have all."""
RECENT: Final = 86_400.0
"""Seconds for which a cause is of interest. A hub that was taken away for good is no fault."""
REMEDIES: Final = {
    "hub": "its power supply, then its cable, then the hub; dmesg says whether it disconnected",
    "controller": "see dmesg (xhci: died, resetting); fewer phones on it, else another controller",
    "source": "see adb server under Android, usbmuxd under iPhones",
    "host": "its power, its network, its agent (device-agent hosts)",
}
"""What to do, by the kind of what was lost."""


def judge_causes(facts: Facts) -> Iterator[Finding]:
    """Those of the last day, and what the last 30 days say of phones, ports and hubs."""
    agent = facts.agent
    if not agent.runs:
        return
    recent = [each for each in agent.causes if _age(each, facts.host.now) <= RECENT]
    for each in recent[:SHOWN]:
        yield _cause(each)
    for suspect in agent.suspects[:SHOWN]:
        yield _suspect(suspect)
    more = len(recent) - SHOWN, len(agent.suspects) - SHOWN
    if max(more) > 0:
        yield _CAUSES.ok("more", f"{max(0, more[0])} causes, {max(0, more[1])} suspects")
    elif not recent and not agent.suspects:
        yield _CAUSES.ok("causes", "no phones left at once in 24 h; no phone, port or hub suspect")


def _age(cause: CauseRow, now: float) -> float:
    return now - datetime.fromisoformat(cause["at"]).timestamp() if cause["at"] else 0.0


def _cause(cause: CauseRow) -> Finding:
    kind, place, devices = cause["kind"], cause["place"], len(cause["devices"])
    check = place if kind == "source" else f"{kind} {place}"
    found = f"{devices} phones of {cause['host']} lost at once, at {cause['at']}"
    if cause["over"]:
        return _CAUSES.ok(check, f"{found}; over")
    return _CAUSES.warn(check, found, REMEDIES[kind])


def _suspect(suspect: SuspectRow) -> Finding:
    found = f"{suspect['host']}: {suspect['evidence']}"
    return _CAUSES.warn(suspect["who"], found, suspect["advice"])

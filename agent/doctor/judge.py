"""Every check, in the order of the page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.judges.android import judge_adb
from agent.doctor.judges.batteries import judge_batteries
from agent.doctor.judges.causes import judge_causes
from agent.doctor.judges.fleet import judge_fleet
from agent.doctor.judges.host import judge_clock, judge_disk, judge_sqlite, judge_store
from agent.doctor.judges.ios import judge_usbmuxd
from agent.doctor.judges.phones import judge_phones, judge_usage
from agent.doctor.judges.service import (
    judge_agent,
    judge_config,
    judge_descriptors,
    judge_last_reload,
    judge_listener,
    judge_unit,
)
from agent.doctor.judges.usb import judge_usb
from agent.doctor.judges.webhooks import judge_webhooks
from agent.model import SourceName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.doctor.facts import Facts
    from agent.doctor.finding import Finding

    Judge = Callable[[Facts], Iterable[Finding]]

OF_SOURCES: dict[SourceName, Judge] = {
    SourceName.UDEV: judge_usb,
    SourceName.ADB: judge_adb,
    SourceName.USBMUX: judge_usbmuxd,
}
"""A judge for each device source."""


def judge_sources(facts: Facts) -> Iterable[Finding]:
    """Each of them; a hub has none."""
    if not facts.config.hub:
        for name in SourceName:
            yield from OF_SOURCES[name](facts)


JUDGES: tuple[Judge, ...] = (
    judge_agent,
    judge_descriptors,
    judge_listener,
    judge_unit,
    judge_config,
    judge_last_reload,
    judge_sources,
    judge_phones,
    judge_batteries,
    judge_causes,
    judge_usage,
    judge_webhooks,
    judge_fleet,
    judge_store,
    judge_sqlite,
    judge_disk,
    judge_clock,
)
"""All of them; findings of one section stand together."""


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Every finding about these facts."""
    return tuple(finding for each in JUDGES for finding in each(facts))

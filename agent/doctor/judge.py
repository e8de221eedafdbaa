"""All judges, in the order of the page; of device sources one for each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.judges.android import judge_adb
from agent.doctor.judges.host import judge_clock, judge_store
from agent.doctor.judges.ios import judge_usbmuxd
from agent.doctor.judges.phones import judge_phones, judge_usage
from agent.doctor.judges.service import judge_agent, judge_config, judge_unit
from agent.doctor.judges.usb import judge_usb
from agent.doctor.judges.webhooks import judge_webhooks
from agent.model import SourceName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.doctor.facts import Facts
    from agent.doctor.finding import Finding


OF_SOURCES: dict[SourceName, Callable[[Facts], Iterable[Finding]]] = {
    SourceName.UDEV: lambda facts: judge_usb(facts.usb, facts.agent),
    SourceName.ADB: lambda facts: judge_adb(facts.adb, facts.usb, facts.agent, facts.user),
    SourceName.USBMUX: lambda facts: judge_usbmuxd(facts.usbmux, facts.usb, facts.agent),
}


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Every finding about these facts."""
    agent = facts.agent
    return (
        *judge_agent(agent, facts.host.now),
        *judge_unit(facts.unit, agent),
        *judge_config(facts.config, agent),
        *(finding for name in SourceName for finding in OF_SOURCES[name](facts)),
        *judge_phones(agent),
        *judge_usage(agent),
        *judge_webhooks(agent, facts.reach, facts.config.webhooks, facts.host.now),
        *judge_store(facts.store, agent, facts.user),
        *judge_clock(facts.host),
    )

"""All judges, in the order of the page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.judges.android import judge_adb
from agent.doctor.judges.host import judge_clock, judge_store
from agent.doctor.judges.ios import judge_usbmuxd
from agent.doctor.judges.phones import judge_phones, judge_usage
from agent.doctor.judges.service import judge_agent, judge_config, judge_unit
from agent.doctor.judges.usb import judge_usb
from agent.doctor.judges.webhooks import judge_webhooks

if TYPE_CHECKING:
    from agent.doctor.facts import Facts
    from agent.doctor.finding import Finding


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Every finding about these facts."""
    agent = facts.agent
    return (
        *judge_agent(agent, facts.host.now),
        *judge_unit(facts.unit, agent),
        *judge_config(facts.config, agent),
        *judge_usb(facts.usb, agent),
        *judge_adb(facts.adb, facts.usb, agent, facts.user),
        *judge_usbmuxd(facts.usbmux, facts.usb, agent),
        *judge_phones(agent),
        *judge_usage(agent),
        *judge_webhooks(agent, facts.reach, facts.config.webhooks, facts.host.now),
        *judge_store(facts.store, agent, facts.user),
        *judge_clock(facts.host),
    )

"""The fleet's broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts

_FLEET = Section("Fleet")


def judge_fleet(facts: Facts) -> Iterator[Finding]:
    """Whether it lets us in."""
    fleet = facts.fleet
    if fleet.hub and not fleet.servers:
        yield _FLEET.fail(
            "broker",
            "the hub has no broker, so it hears of no host",
            'set [fleet] servers = ["nats://…:4222"] (docs/fleet.md)',
        )
    elif fleet.error:
        yield _FLEET.fail(
            "broker",
            fleet.error,
            "is it running there (systemctl status nats-server), does a firewall let port 4222 "
            "through, and does it know this user? See docs/fleet.md",
        )
    elif fleet.servers:
        of = f"one of {fleet.servers} servers, " if fleet.servers > 1 else ""
        yield _FLEET.ok("broker", f"{of}let in within {fleet.took:.2f} s")

"""Each webhook: can it be reached from here, and how does its delivery stand?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.doctor.metrics import number
from agent.text import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts, Reach
    from agent.service.webhooks import WebhookRow

_WEBHOOKS = Section("Webhooks")
OLD = 600.0
"""Seconds that a callback has waited: past them something keeps it."""
SOON = 14 * 86_400.0
"""Seconds before a certificate expires; those that renew by themselves do so 30 days before."""


def judge_webhooks(facts: Facts) -> Iterator[Finding]:
    """In the configuration's order; those that are off last."""
    agent = facts.agent
    rows = {row["name"]: row for row in agent.webhooks}
    for each in facts.reach:
        yield _webhook(each, rows.get(each.name), agent.metrics, facts.host.now)
    off = [row["name"] for row in agent.webhooks if not row["enabled"]]
    if off:
        yield _WEBHOOKS.ok("disabled", ", ".join(off))
    if not facts.config.webhooks and not agent.webhooks:
        yield _WEBHOOKS.warn(
            "webhooks",
            "none is configured: nobody is called",
            "add a [[webhooks]] table (agent.example.toml shows one), then device-agent reload",
        )


def _webhook(each: Reach, row: WebhookRow | None, metrics: str, now: float) -> Finding:  # noqa: PLR0911 - a table: one answer for each case
    proxy = " (a proxy: what is behind it was not tried)" if each.proxy else ""
    waiting, age = _backlog(each.name, metrics)
    backlog = f"; {waiting:.0f} callbacks wait, the oldest for {elapsed(age)}" if waiting else ""
    if row is not None and row.get("paused"):
        return _WEBHOOKS.fail(
            each.name,
            f"{row['status']}{backlog}",
            "the endpoint says that it is gone: correct the url (device-agent reload), or take the "
            "webhook out",
        )
    if each.error:
        return _WEBHOOKS.fail(
            each.name,
            f"{each.error}{proxy}{backlog}",
            _remedy(each.error),
        )
    reachable = f"{each.where} reached in {each.took * 1000:.0f} ms{proxy}"
    if row is not None and row.get("failing_since"):
        return _WEBHOOKS.fail(
            each.name,
            f"failing since {row['failing_since']}: {row['last_error']}{backlog}",
            f"{reachable}; try it: device-agent webhooks test {_quoted(each.name)}",
        )
    if waiting and age > OLD:
        return _WEBHOOKS.warn(
            each.name,
            f"{reachable}{backlog}",
            f"see why: device-agent deliveries list --webhook {_quoted(each.name)} --state pending",
        )
    if each.expires:
        until = f"{datetime.fromtimestamp(each.expires, UTC):%Y-%m-%d}"
        if each.expires - now < SOON:
            return _WEBHOOKS.warn(
                each.name,
                f"{reachable}; its certificate expires on {until}",
                "renew it at the endpoint: callbacks fail from then on",
            )
        return _WEBHOOKS.ok(each.name, f"{reachable}, certificate until {until}{backlog}")
    tls = ", TLS" if each.tls else ""
    return _WEBHOOKS.ok(each.name, f"{reachable}{tls}{backlog}")


def _backlog(name: str, metrics: str) -> tuple[float, float]:
    """Callbacks not delivered yet, and the age of the oldest in seconds."""
    pending = number(metrics, "device_agent_callbacks_pending", webhook=name)
    age = number(metrics, "device_agent_callbacks_oldest_pending_age_seconds", webhook=name)
    return pending or 0.0, age or 0.0


def _remedy(error: str) -> str:
    for words, remedy in (
        ("resolve", "see the url's host name, and the host's DNS (resolvectl query HOST)"),
        ("refuses", "start what should listen there, or correct the url's port"),
        ("within", "see firewalls and routes between this host and it"),
        ("certificate", "see its certificate and [webhooks.tls] ca; the clock too"),
        ("TLS", "see that the port speaks TLS, and [webhooks.tls]"),
        ("link-local", "correct the url, or set allow_link_local = true"),
        ("tls.", "correct the file that [webhooks.tls] names"),
    ):
        if words in error:
            return remedy
    return "see the url, and the network between this host and it"


def _quoted(name: str) -> str:
    from shlex import quote  # noqa: PLC0415 - where there is something to say

    return quote(name)

"""The fleet: its broker, this host's name in it, and whether a hub does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts, FleetFacts

_FLEET = Section("Fleet")


def judge_fleet(facts: Facts) -> Iterator[Finding]:
    """Nothing where none is configured."""
    fleet = facts.fleet
    if fleet is None:
        if facts.config.hub:
            yield _FLEET.fail(
                "broker",
                "the hub has none, so it hears of no host",
                'set servers = ["nats://…:4222"] in [fleet] (docs/fleet.md)',
            )
        return
    if fleet.error:
        yield _FLEET.fail("broker", fleet.error, _remedy(fleet.error))
    else:
        yield _FLEET.ok("broker", f"signed in at {fleet.servers} in {fleet.took * 1000:.0f} ms")
    if fleet.role == "agent":
        yield _name(facts, fleet)
        yield from _hub(facts)
    elif facts.agent.runs:
        yield _hosts(facts)


def _name(facts: Facts, fleet: FleetFacts) -> Finding:
    row = facts.agent.status.get("fleet") if facts.agent.runs else None
    remedy = (
        "give one of the two hosts another name (host in [fleet]); of a cloned disk the state "
        "directory, too, is to be its own"
    )
    if row is not None and row["state"] == "refused":
        return _FLEET.fail("name", row["error"], remedy)
    if fleet.taken:
        return _FLEET.fail(
            "name", f"no agent runs here, and another one is called {fleet.host}", remedy
        )
    if row is not None and row["host"] != fleet.host:
        return _FLEET.warn(
            "name",
            f"the agent is called {row['host']}, and {fleet.host} by the file",
            "device-agent reload",
        )
    return _FLEET.ok("name", fleet.host)


def _hub(facts: Facts) -> Iterator[Finding]:
    agent = facts.agent
    row = agent.status.get("fleet") if agent.runs else None
    if row is None:
        return
    waits = f"{row['unacked']} transitions wait for it" if row["unacked"] else "nothing waits"
    problem = agent.problem_of("fleet")
    if problem and row["state"] == "connected":
        yield _FLEET.warn(
            "hub",
            problem,
            "see whether a hub runs (device-agent doctor there); nothing is lost, it is sent then",
        )
    elif problem and row["state"] == "lost":
        yield _FLEET.fail("agent", problem, "see broker above, and the agent's log")
    elif row["acked"] is None and row["state"] == "connected":
        yield _FLEET.ok("hub", f"has acknowledged nothing since the start; {waits}")
    elif row["state"] == "connected":
        yield _FLEET.ok("hub", f"last acknowledged something at {row['acked']}; {waits}")


def _hosts(facts: Facts) -> Finding:
    """What the hub that runs here says of itself and its hosts."""
    problem = facts.agent.problem_of("fleet")
    if "is blind" in problem:
        return _FLEET.fail("hub", problem, "see broker above; what happens meanwhile comes then")
    if problem:
        return _FLEET.warn(
            "hosts",
            problem,
            "device-agent hosts shows them all; device-agent doctor there says why",
        )
    return _FLEET.ok("hosts", "the hub hears itself, and every host that it knows of")


def _remedy(error: str) -> str:
    for words, remedy in (
        ("nats-py", "install it into the agent's environment, then restart the agent"),
        ("credentials", "see credentials in [fleet], and that this user may read them"),
        ("certificate", "see tls in [fleet], the broker's certificate, and the clock"),
        ("TLS", "see tls in [fleet], and whether the broker speaks it"),
        ("refuses", "start the broker (nats-server), or correct servers in [fleet]"),
        ("within", "see firewalls and routes between this host and it"),
        ("resolve", "see servers in [fleet], and the host's DNS"),
    ):
        if words in error:
            return remedy
    return "see servers in [fleet], and the broker's log"

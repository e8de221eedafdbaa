"""What operators are told of an agent's fleet."""

from __future__ import annotations

import structlog

from agent.fleet.standing import PATIENCE, SILENT, Standing
from agent.store.tables.log import LogState
from tests.kit.clock import StubClock


def standing() -> tuple[Standing, StubClock, list[str]]:
    clock, told = StubClock(), []

    def changed() -> None:
        told.append(made.status.problem)

    made = Standing("rack-3", clock, changed)
    return made, clock, told


def test_a_connection_that_is_missing_for_a_moment_is_no_news() -> None:
    made, clock, told = standing()
    made.saw(LogState(1, 9, 4))
    made.lost("nothing listens there")
    assert (told, made.status.error, made.status.unacked) == ([], "nothing listens there", 5)
    clock.advance(PATIENCE)
    made.look()
    made.look()
    assert told == [
        "not connected for 30 s: nothing listens there; 5 transitions wait here for the hub"
    ]
    made.connected()
    assert told[1:] == [""]
    assert made.status.connected


def test_a_name_that_is_taken_is_told_at_once() -> None:
    made, _, told = standing()
    made.lost("another agent is called rack-3", refused=True)
    assert told == ["another agent is called rack-3"]
    assert made.status.refused
    made.lost("the broker is away")
    assert told[1:] == [""]
    assert not made.status.refused


def test_a_hub_that_acknowledges_nothing_is_told_of_while_something_waits() -> None:
    made, clock, told = standing()
    made.connected()
    made.saw(LogState(1, 4, 4))
    clock.advance(10 * SILENT)
    made.look()
    made.saw(LogState(1, 6, 4))
    clock.advance(SILENT - 1)
    made.saw(LogState(1, 7, 5))  # it does
    clock.advance(SILENT - 1)
    made.look()
    assert told == []
    clock.advance(1)
    made.look()
    (problem,) = told
    assert problem == (
        "no hub has acknowledged anything for 2 min; 2 transitions wait here for the hub: is one "
        "running, with this broker?"
    )
    made.saw(LogState(1, 7, 7))
    made.look()
    assert told[1:] == [""]


def test_bad_messages_are_counted_and_said_once_a_minute() -> None:
    made, clock, _ = standing()
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            made.bad("none of ours")
        clock.advance(60)
        made.bad("none of ours")
    assert made.status.bad_messages == 6
    assert [entry["so_far"] for entry in logs] == [1, 6]


def test_connections_are_counted() -> None:
    made, _, _ = standing()
    made.connected()
    made.lost("away")
    assert made.status.reconnects == 0
    made.connected()
    assert made.status.reconnects == 1

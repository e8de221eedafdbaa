"""When an endpoint counts as failing, when it is tried, when it is let go on: decisions alone."""

from __future__ import annotations

import pytest

from agent.deliver.breaker import BREAK_AFTER, Breaker
from agent.deliver.policy import LONGEST, PROBES, Delivered, Paused, Retry
from tests.kit.deliver import NOW_MS

FAILED = Retry("HTTP 500", NOW_MS + 5000)
GONE = Paused("HTTP 410 Gone", NOW_MS + round(LONGEST * 1000))
GOOD = Delivered()


def failing() -> Breaker:
    breaker = Breaker()
    for _ in range(BREAK_AFTER):
        breaker.judge(FAILED, NOW_MS, 0)
    return breaker


def test_it_opens_once_and_closes_with_the_first_success() -> None:
    breaker = Breaker()
    turns = [breaker.judge(FAILED, NOW_MS + n, n) for n in range(BREAK_AFTER + 2)]
    assert turns == [n == BREAK_AFTER - 1 for n in range(BREAK_AFTER + 2)]
    assert (breaker.failing, breaker.slots(8)) == (True, 1)
    assert breaker.failing_since_ms == NOW_MS + BREAK_AFTER - 1
    assert breaker.judge(GOOD, NOW_MS + 99, 99)
    assert (breaker.failing, breaker.slots(8), breaker.failing_since_ms) == (False, 8, 0)
    assert (breaker.draining, breaker.recoveries, breaker.last_success_ms) == (True, 1, NOW_MS + 99)
    assert not breaker.judge(GOOD, NOW_MS + 100, 100)
    assert breaker.recoveries == 1


def test_a_success_in_between_counts_the_failures_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(BREAK_AFTER - 1):
            assert not breaker.judge(FAILED, NOW_MS, 0)
        assert not breaker.judge(GOOD, NOW_MS, 0)
    assert not breaker.draining


def test_410_opens_it_at_once_and_pauses() -> None:
    breaker = Breaker()
    assert breaker.judge(GONE, NOW_MS, 0)
    assert (breaker.failing, breaker.paused) == (True, GONE.why)
    breaker.edited()
    assert (breaker.failing, breaker.paused, breaker.failing_since_ms) == (False, "", 0)
    assert breaker.probe_in(LONGEST, 1) is None


@pytest.mark.parametrize(("until", "every"), PROBES)
def test_it_is_probed_while_it_has_not_failed_for_long(until: float, every: float) -> None:
    breaker = Breaker()
    assert breaker.probe_in(LONGEST, 0) is None, "nothing is known against it"
    breaker.judge(FAILED, NOW_MS, 0)
    breaker.tried_at = now = until - 1
    assert breaker.probe_in(LONGEST, now) == every
    assert breaker.probe_in(every / 2, now) is None, "the lane itself comes earlier"
    assert breaker.probe_in(LONGEST, PROBES[-1][0]) is None, "down for long: the schedule alone"


def test_no_probe_before_what_the_endpoint_asked_for() -> None:
    breaker = Breaker()
    breaker.judge(Retry("HTTP 429", NOW_MS + 300_000, asked=True), NOW_MS, 10)
    breaker.judge(Retry("HTTP 429", NOW_MS + 60_000, asked=True), NOW_MS, 10)
    assert breaker.asked_until == 310
    assert breaker.probe_in(LONGEST, 10) == 300
    breaker.judge(GOOD, NOW_MS, 20)
    assert breaker.asked_until == 0


def test_draining_keeps_its_pace() -> None:
    breaker = failing()
    breaker.judge(GOOD, NOW_MS, 0)
    assert breaker.drain_in(4, now=100) == 0
    assert breaker.drain_in(4, now=100) == 0.25
    assert breaker.drain_in(4, now=100.125) == 0.125
    assert breaker.drain_in(4, now=100.25) == 0


def test_what_failed_before_the_start_is_probed() -> None:
    breaker = Breaker()
    breaker.was_down(50)
    assert breaker.probe_in(LONGEST, 50) == PROBES[0][1]
    assert not breaker.failing

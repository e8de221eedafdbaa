"""By what time things are deleted, while somebody turns the clock."""

from __future__ import annotations

import pytest

from agent.store.ageing import HOUR, Ageing

DAY = 86_400_000
NOW = 1_700_000_000_000
YEARS = 3 * 365 * DAY


def test_it_goes_with_a_clock_that_goes_well() -> None:
    ageing = Ageing(0, NOW, 50.0)
    for passed in (0, 60, 3600, 10**6):
        assert ageing.now(NOW + passed * 1000, 50.0 + passed) == NOW + passed * 1000
        assert not ageing.doubts


def test_a_clock_that_is_corrected_is_followed() -> None:
    ageing = Ageing(0, NOW, 0.0)
    wall = NOW
    for minute in range(1, 200):
        wall += 60_500  # a crystal that is bad, or a daemon that slews
        assert ageing.now(wall, 60.0 * minute) == wall


def test_years_ahead_for_minutes_age_nothing() -> None:
    ageing = Ageing(0, NOW, 0.0)
    for passed in range(60, 3600, 60):
        assert ageing.now(NOW + YEARS + passed * 1000, passed) == NOW + passed * 1000
        assert ageing.doubts
    assert ageing.now(NOW + 3_600_000, 3600.0) == NOW + 3_600_000
    assert not ageing.doubts


def test_a_clock_that_has_run_on_for_an_hour_is_believed() -> None:
    ageing = Ageing(0, NOW, 0.0)
    assert ageing.now(NOW + YEARS, 1.0) == NOW + 1000
    assert ageing.now(NOW + YEARS + 3_599_000, HOUR) == NOW + 3_600_000
    late = NOW + YEARS + 3_601_000
    assert ageing.now(late, HOUR + 1) == late
    assert not ageing.doubts


def test_each_leap_begins_the_hour_anew() -> None:
    ageing = Ageing(0, NOW, 0.0)
    for step in range(1, 5):
        steady = step * (HOUR - 1)
        wall = NOW + step * YEARS + round(steady * 1000)
        assert ageing.now(wall, steady) == NOW + round(steady * 1000)


def test_a_clock_that_goes_back_is_believed_at_once() -> None:
    ageing = Ageing(0, NOW, 0.0)
    assert ageing.now(NOW - YEARS, 1.0) == NOW - YEARS
    assert not ageing.doubts
    assert ageing.now(NOW + 2000, 2.0) == NOW - YEARS + 1000, "and forward again: doubted"


@pytest.mark.parametrize(
    ("away", "doubted"), [(0, False), (DAY, False), (DAY + 1, True), (YEARS, True)]
)
def test_after_a_long_stop_it_waits_an_hour(away: int, doubted: bool) -> None:
    ageing = Ageing(NOW, NOW + away, 500.0)
    assert ageing.doubts == doubted
    assert ageing.now(NOW + away, 500.0) == (NOW if doubted else NOW + away)
    after = NOW + away + 3_600_000
    assert ageing.now(after, 500.0 + HOUR) == after

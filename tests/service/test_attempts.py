"""Wrong tokens: slowed per address, forgiven in time, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.service.attempts import BURST, MOST, SECONDS, Attempts, network_of, whole_seconds


def test_after_so_many_one_has_to_wait_and_then_may_try_once() -> None:
    attempts = Attempts()
    for number in range(BURST):
        assert attempts.wait("10.0.0.1", 0.0) == 0
        assert attempts.failed("10.0.0.1", 0.0) == (number == BURST - 1)
    assert attempts.wait("10.0.0.1", 0.0) == SECONDS
    assert attempts.wait("10.0.0.2", 0.0) == 0
    assert attempts.wait("10.0.0.1", SECONDS) == 0
    attempts.failed("10.0.0.1", SECONDS)
    assert attempts.wait("10.0.0.1", SECONDS) == SECONDS
    assert attempts.wait("10.0.0.1", BURST * SECONDS) == 0
    assert attempts.wrong == BURST + 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("gone", "gone"),
    ],
)
def test_who_has_one_address_of_a_64_has_all_of_them(address: str, network: str) -> None:
    assert network_of(address) == network


def test_many_addresses_take_bounded_memory_and_guess_no_faster() -> None:
    attempts = Attempts()
    tried = 0
    for number in range(20_000):
        address = f"2001:db8:{number:x}::1"
        if not attempts.wait(address, 0.0):
            attempts.failed(address, 0.0)
            tried += 1
    assert len(attempts) <= MOST + 1
    assert tried <= MOST + BURST
    assert attempts.wait("10.0.0.1", 0.0) > 0, "the others share one count"
    assert attempts.wait("10.0.0.1", BURST * SECONDS) == 0
    attempts.failed("10.0.0.1", BURST * SECONDS)
    assert len(attempts) < 3, "what is forgiven is forgotten"


@given(
    st.lists(
        st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]), st.floats(0, 5)), max_size=200
    )
)
def test_no_address_ever_tries_more_often_than_it_may(tries: list[tuple[str, float]]) -> None:
    attempts = Attempts()
    now = 0.0
    done: dict[str, list[float]] = {}
    for address, seconds in tries:
        now += seconds
        wait = attempts.wait(address, now)
        assert 0 <= wait <= SECONDS
        if not wait:
            attempts.failed(address, now)
            done.setdefault(address, []).append(now)
    for times in done.values():
        for first, begin in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                assert count <= BURST + (end - begin) / SECONDS + 1e-6


def test_a_wait_is_told_in_whole_seconds_that_are_enough() -> None:
    assert [whole_seconds(each) for each in (0.01, 1.0, 1.2)] == [1, 1, 2]

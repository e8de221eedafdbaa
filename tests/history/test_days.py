"""Packed days say what they were made of, and add up, whoever moved or came."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.history.days import DAY_MS, Day, Sums, left_of, pack
from agent.history.replay import DOWN, STATES, Figures, Place, Standing
from tests.kit.examples import examples


def some_figures(rng: Random) -> Figures:
    """As a replay makes them: reasons are of what is offline and unplugged, and of nothing else."""
    ms = [rng.choice([0, 0, rng.randint(1, DAY_MS)]) for _ in STATES]
    entered = [rng.choice([0, 1, rng.randint(0, 9)]) for _ in STATES]
    found = Figures(ms, rng.choice([0, 7]), entered, rng.randint(0, 9), rng.randint(0, 1 << 34), 1)
    counts, times = (
        sum(each[number] for number, state in enumerate(STATES) if state in DOWN)
        for each in (entered, ms)
    )
    if counts or times:
        split = rng.randint(0, times)
        found.reasons = {"unauthorized": [counts, split]}
        if split < times:
            found.reasons["not_on_usb"] = [0, times - split]
        if not counts and not split:
            del found.reasons["unauthorized"]
    return found


def some_day(rng: Random, number: int, udids: list[str]) -> Day:
    end = (20_000 + number) * DAY_MS
    standing, figures = {}, {}
    for udid in udids:
        state = rng.choice(STATES)
        down = end - rng.randint(1, 1 << 40) if state in DOWN else None
        host = rng.choice(["", "", "rack-3"])
        port = rng.choice(["", "1-4.2", "1-4.2", "2-1", "ü\n"])
        standing[udid] = Standing(
            end - rng.randint(0, 1 << 40), state, rng.choice(["", "recovery"]), host, port, down, 5
        )
        figures[Place(udid, host, port)] = some_figures(rng)
        while rng.random() < 0.3:
            figures[Place(udid, "", rng.choice(["", "3-1", "4-1"]))] = some_figures(rng)
    return Day(end, rng.randint(0, 1 << 40), 3, 4, standing, figures)


@settings(max_examples=examples(60))
@given(st.integers(0, 1 << 32))
def test_days_add_up(seed: int) -> None:
    rng = Random(seed)
    phones = ["a", "b@pci-0000:00:14.0-usb-0:4.2", "ç", "d"]
    wanted: dict[Place, Figures] = {}
    sums = Sums()
    udids = phones[:2]
    for number in range(rng.randint(1, 40)):
        if rng.random() < 0.1:
            udids = rng.sample(phones, rng.randint(0, len(phones)))
        day = some_day(rng, number, udids)
        packed = pack(day)
        left = left_of(packed)
        assert (left.end_ms, left.through, left.last, left.next, left.final) == (
            *(day.end_ms, day.through, 3, 4, False),
        )
        assert left.standing == day.standing
        sums.add(packed)
        for place, each in day.figures.items():
            wanted.setdefault(place, Figures()).add(each)
    assert {at: each for at, each in sums.figures().items() if each != Figures()} == {
        at: each for at, each in wanted.items() if each != Figures()
    }

"""What is to be changed: named where the evidence is there, and not below it."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.history.evidence import APART_MS, BACK_MS, OWN, Evidence, Pair
from agent.history.suspects import Suspect, SuspectKind, suspects, tail
from agent.model import DeviceState, Transition
from agent.reasons import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

DAY = 86_400_000
MIN = 60_000
UNTIL = 30 * DAY
ONLINE, OFFLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.UNPLUGGED


class Story:
    """What phones went through, in the order of time."""

    def __init__(self) -> None:
        self.told: list[tuple[Transition, str]] = []

    def move(
        self,
        udid: str,
        port: str,
        at: int,
        state: DeviceState,
        before: DeviceState | None = ONLINE,
        *,
        code: str = "",
        cause: str = "",
        hub: str = "",
    ) -> None:
        transition = Transition(udid, before, state, "", at, code=code, cause=cause, port=port)
        self.told.append((transition, hub))

    def come(self, udid: str, port: str, at: int = 0) -> None:
        self.move(udid, port, at, ONLINE, None)

    def leave(self, udid: str, port: str, at: int, away: int = MIN) -> None:
        self.move(udid, port, at, UNPLUGGED)
        self.move(udid, port, at + away, ONLINE, UNPLUGGED)

    def evidence(self, since: int = 0, gone: Collection[str] = ()) -> Evidence:
        found = Evidence(since, UNTIL)
        for transition, hub in sorted(self.told, key=lambda each: each[0].at_ms):
            found.take(transition, hub)
        found.close({transition.udid for transition, _ in self.told} - {*gone})
        return found

    def named(self) -> list[Suspect]:
        return list(suspects(self.evidence()))


def rack(phones: int = 40) -> tuple[Story, list[tuple[str, str]]]:
    """Each on its port, ten to a hub."""
    story = Story()
    places = [(f"P{n:02}", f"1-{1 + n // 10}.{1 + n % 10}") for n in range(phones)]
    for udid, port in places:
        story.come(udid, port)
    return story, places


def spread(number: int, first: int = 0) -> list[int]:
    """So many moments, over 30 days."""
    return [DAY // 2 + (first + n) * DAY for n in range(number)]


def told(found: Iterable[Suspect]) -> list[tuple[str, str, str]]:
    return [(each.kind.value, each.udid, each.port) for each in found]


def test_a_healthy_rack_names_nobody() -> None:
    story, places = rack()
    for number, (udid, port) in enumerate(places):
        for at in spread(number % 3):
            story.leave(udid, port, at)
    assert story.named() == []


def test_a_phone_that_always_hung_at_one_port_may_be_either() -> None:
    story, _ = rack()
    for at in spread(12):
        story.leave("P03", "1-1.4", at)
    (found,) = story.named()
    assert told([found]) == [("phone_or_port", "P03", "1-1.4")]
    assert (found.times, found.days, found.others) == (12, 12, 1)
    assert found.evidence.startswith("12 interruptions on 12 days; in that time the rest of")
    assert "swap it" in found.advice


def test_a_phone_that_leaves_wherever_it_hangs() -> None:
    story, _ = rack()
    story.come("X", "1-5.1")
    for at in spread(8):
        story.leave("X", "1-5.1", at)
    story.move("X", "1-5.1", 10 * DAY, UNPLUGGED)
    story.move("X", "1-5.2", 10 * DAY + 60 * MIN, ONLINE, UNPLUGGED)
    story.come("Y", "1-5.1", 10 * DAY + 60 * MIN)  # which stays
    for at in spread(8, first=12):
        story.leave("X", "1-5.2", at)
    assert told(story.named()) == [("phone", "X", "")]


def test_a_port_from_which_whatever_hangs_there_leaves() -> None:
    story, _ = rack()
    story.come("X", "1-5.1")
    for at in spread(8):
        story.leave("X", "1-5.1", at)
    story.move("X", "1-5.1", 10 * DAY, UNPLUGGED)
    story.move("X", "1-5.2", 10 * DAY + 60 * MIN, ONLINE, UNPLUGGED)
    story.come("Y", "1-5.1", 10 * DAY + 60 * MIN)
    for at in spread(8, first=12):
        story.leave("Y", "1-5.1", at)
    (found,) = story.named()
    assert told([found]) == [("port", "", "1-5.1")]
    assert found.others == 2


def test_a_hub_whose_ports_all_suffer() -> None:
    story, places = rack()
    random = Random(5)
    for udid, port in places[:10]:
        for at in sorted(random.sample(range(30), 6)):
            story.leave(udid, port, at * DAY + DAY // 3)
    assert told(story.named()) == [("hub", "", "1-1")]


def test_one_bad_port_is_no_bad_hub() -> None:
    story, _ = rack()
    for at in spread(25):
        story.leave("P00", "1-1.1", at)
    assert told(story.named()) == [("phone_or_port", "P00", "1-1.1")]


def test_a_hub_that_is_lost_as_a_whole_again_and_again() -> None:
    story, places = rack()
    for number, at in enumerate(spread(3)):
        for udid, port in places[:10]:
            lost = {"code": "hub_lost", "cause": f"cause-{number}", "hub": "1-1"}
            story.move(udid, port, at, UNPLUGGED, **lost)  # type: ignore[arg-type]
            story.move(udid, port, at + MIN, ONLINE, UNPLUGGED)
    (found,) = story.named()
    assert told([found]) == [("hub", "", "1-1")]
    assert found.lost
    assert found.evidence == "lost as a whole 3 times, on 3 days"
    assert found.others == 10


def test_what_left_together_is_no_phones_fault() -> None:
    story, places = rack()
    for number, at in enumerate(spread(20)):
        for udid, port in places[:4]:
            story.move(udid, port, at, OFFLINE, code="source_lost", cause=f"cause-{number}")
            story.move(udid, port, at + MIN, ONLINE, OFFLINE)
    assert story.named() == []


@pytest.mark.parametrize("code", ["unauthorized", "recovery", "source_down"])
def test_who_says_itself_why_is_no_bad_cable(code: str) -> None:
    story, _ = rack()
    for at in spread(20):
        story.move("P00", "1-1.1", at, OFFLINE, code=code)
        story.move("P00", "1-1.1", at + MIN, ONLINE, OFFLINE)
    assert story.named() == []


def test_codes_are_of_the_list() -> None:
    assert set(ReasonCode) >= OWN


@pytest.mark.parametrize(("away", "named"), [(BACK_MS, True), (BACK_MS + 1, False)])
def test_who_was_taken_away_was_not_interrupted(away: int, named: bool) -> None:
    story, _ = rack()
    for at in spread(12):
        story.leave("P00", "1-1.1", at, away)
    assert bool(story.named()) is named


def test_who_is_moved_to_another_port_was_not_interrupted() -> None:
    story, _ = rack()
    for at in spread(12):
        story.move("P00", "1-1.1", at, UNPLUGGED)
        story.move("P00", "1-9.1", at + MIN, ONLINE, UNPLUGGED)
        story.move("P00", "1-9.1", at + 2 * MIN, UNPLUGGED)
        story.move("P00", "1-1.1", at + 3 * MIN, ONLINE, UNPLUGGED)
    assert story.named() == []


def test_one_bad_hour_is_no_evidence() -> None:
    story, _ = rack()
    for number in range(30):
        story.leave("P00", "1-1.1", DAY + number * 2 * MIN)
    assert story.named() == []


def test_what_comes_again_at_once_is_one_interruption() -> None:
    story, _ = rack()
    for start, apart in ((DAY, APART_MS - 1), (5 * DAY, APART_MS)):
        for number in range(3):
            story.leave("P00", "1-1.1", start + number * apart)
    cell = story.evidence().cells[Pair("", "P00", "1-1.1")]
    # 0 and 2 x (APART - 1) of the first three; each of the others.
    assert len(cell.at) == 5


def test_only_the_range_counts() -> None:
    story, _ = rack()
    for at in spread(12):
        story.leave("P00", "1-1.1", at)
    assert list(suspects(story.evidence(since=13 * DAY))) == []


def test_a_clock_that_was_set_back_ends_nothing() -> None:
    story, _ = rack()
    evidence = Evidence(0, UNTIL)
    for transition, _hub in story.told:
        evidence.take(transition)
    evidence.take(Transition("P00", ONLINE, UNPLUGGED, "", 9 * DAY, port="1-1.1"))
    evidence.take(Transition("P00", UNPLUGGED, ONLINE, "", 2 * DAY, port="1-1.1"))
    evidence.close({"P00"})
    cell = evidence.cells[Pair("", "P00", "1-1.1")]
    assert (cell.ms, cell.at) == (UNTIL, [9 * DAY])


def test_who_is_followed_no_more_is_not_taken_for_quiet_ever_since() -> None:
    story, places = rack()
    for number, (udid, port) in enumerate(places):
        for at in spread(16 if udid == "P00" else 4 + number % 2):
            story.leave(udid, port, at)
    assert story.named() == []
    gone = [f"G{number}" for number in range(600)]
    for number, udid in enumerate(gone):
        story.come(udid, f"2-1.{number}", DAY)
    assert suspects(story.evidence(gone=gone)) == []
    assert suspects(story.evidence()) != []  # were they quiet, all others would be worse than most


def test_hosts_are_told_apart() -> None:
    evidence = Evidence(0, UNTIL)
    for host in ("a", "b"):
        for number in range(20):
            udid = f"{host}{number}"
            evidence.take(Transition(udid, None, ONLINE, "", 0, host=host, port=f"1-1.{number}"))
    for at in spread(12):
        evidence.take(Transition("b3", ONLINE, UNPLUGGED, "", at, host="b", port="1-1.3"))
        evidence.take(Transition("b3", UNPLUGGED, ONLINE, "", at + MIN, host="b", port="1-1.3"))
    evidence.close(
        {pair.udid for pair in evidence.cells} | {f"{h}{n}" for h in "ab" for n in range(20)}
    )
    (found,) = suspects(evidence)
    assert (found.host, found.udid) == ("b", "b3")


def test_a_damaged_rack_is_not_named_port_by_port() -> None:
    story, places = rack()
    for udid, port in places:
        for at in spread(15):
            story.leave(udid, port, at)
    assert story.named() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30 * 24)), max_size=60))
def test_below_the_least_nobody_is_named(leavings: list[tuple[int, int]]) -> None:
    story, places = rack(10)
    free = dict.fromkeys((udid for udid, _ in places), -1)
    counts = dict.fromkeys(free, 0)
    for phone, hour in sorted(leavings, key=lambda each: each[1]):
        udid, port = places[phone]
        if hour > free[udid] and counts[udid] < 4:
            story.leave(udid, port, hour * 60 * MIN)
            free[udid], counts[udid] = hour, counts[udid] + 1
    assert [each for each in story.named() if each.kind is not SuspectKind.HUB] == []


@given(st.integers(1, 60), st.floats(0.01, 40))
def test_the_tail_is_that_of_the_sum(count: int, expected: float) -> None:
    total = 0.0
    for number in range(count):
        total += math.exp(
            math.lgamma(number + 2.0)
            - math.lgamma(number + 1)
            + 2.0 * math.log(2.0 / (2.0 + expected))
            + number * math.log(expected / (2.0 + expected))
        )
    assert tail(count, expected, 2.0) == pytest.approx(1 - total, abs=1e-9)


@pytest.mark.parametrize(("count", "expected", "is_"), [(0, 1.0, 1.0), (5, 0.0, 0.0)])
def test_the_ends_of_the_tail(count: int, expected: float, is_: float) -> None:
    assert tail(count, expected, 2.0) == is_

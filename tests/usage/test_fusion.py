"""The rules of fusion, each by name, and any order of what may be said."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.model import Usage, UsageReading
from agent.usage.fusion import ENOUGH, Fusion
from agent.usage.registry import STRENGTH
from tests.kit.examples import examples

APPIUM, GRID, WDA = ("appium", "a"), ("grid", "g"), ("wda", "port 8100 of D")
LEASE = UsageReading(Usage.IN_USE, "alice (pytest)", since_ms=5)
IDLE = UsageReading()


def fused(*voices: tuple[str, str]) -> Fusion:
    fusion = Fusion(STRENGTH)
    for voice in voices:
        fusion.know(voice, "D" if voice == WDA else "")
    return fusion


def test_in_use_at_once_idle_after_two_readings() -> None:
    fusion = fused(APPIUM)
    assert fusion.good(APPIUM, {"D": "s1"}, 7) == {"D"}
    assert fusion.reading("D") == UsageReading(Usage.IN_USE, "s1", since_ms=7)
    assert fusion.good(APPIUM, {}, 8) == set()
    assert fusion.ending(APPIUM)
    assert fusion.reading("D").usage is Usage.IN_USE
    assert fusion.good(APPIUM, {}, 9) == {"D"}
    assert fusion.reading("D") == IDLE
    assert not fusion.ending(APPIUM)


def test_a_session_seen_again_starts_the_count_anew() -> None:
    fusion = fused(APPIUM)
    for _ in range(3):
        fusion.good(APPIUM, {"D": "s1"}, 7)
        assert fusion.good(APPIUM, {}, 8) == set()
    assert fusion.reading("D").since_ms == 7


def test_an_unknown_in_between_neither_counts_nor_resets() -> None:
    fusion = fused(APPIUM)
    fusion.good(APPIUM, {"D": "s1"}, 7)
    fusion.good(APPIUM, {}, 8)
    fusion.unknown(APPIUM, "down")
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "s1", "down", 7)
    fusion.good(APPIUM, {}, 9)
    assert fusion.reading("D") == IDLE


def test_a_use_is_not_begun_anew_by_a_reading_that_leaves_it_out() -> None:
    fusion = fused(APPIUM)
    fusion.good(APPIUM, {"D": "s1"}, 7)
    fusion.unknown(APPIUM, "down")
    assert fusion.good(APPIUM, {}, 9) is None
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "s1", "down", 7)
    assert fusion.good(APPIUM, {"D": "s1"}, 10) == {"D"}
    assert fusion.reading("D") == UsageReading(Usage.IN_USE, "s1", since_ms=7)
    fusion.unknown(APPIUM, "down again")
    assert fusion.good(APPIUM, {"D": "s2"}, 11) is None
    assert fusion.reading("D") == UsageReading(Usage.IN_USE, "s2", since_ms=11)
    fusion.unknown(APPIUM, "down")
    fusion.good(APPIUM, {}, 12)
    fusion.good(APPIUM, {}, 13)
    assert fusion.reading("D") == IDLE


def test_an_unknown_is_idle_with_its_reason_where_nothing_was_in_use() -> None:
    fusion = fused(APPIUM)
    assert fusion.unknown(APPIUM, "refused") is None  # all devices
    assert fusion.unknown(APPIUM, "refused") == set()
    assert fusion.reading("D") == UsageReading(reason="usage unknown: refused")
    assert fusion.good(APPIUM, {}, 1) is None
    assert fusion.reading("D") == IDLE


def test_a_lease_that_ends_while_a_server_is_unknown_ends_at_once() -> None:
    fusion = fused(APPIUM)
    fusion.unknown(APPIUM, "refused")
    fusion.lease("D", LEASE)
    assert fusion.reading("D") == LEASE
    fusion.lease("D", IDLE)
    assert fusion.reading("D").usage is Usage.IDLE


def test_a_lease_that_ends_over_an_unknown_session_leaves_its_holder() -> None:
    fusion = fused(APPIUM)
    fusion.good(APPIUM, {"D": "s1"}, 7)
    fusion.lease("D", LEASE)
    fusion.unknown(APPIUM, "refused")
    fusion.lease("D", IDLE)
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "s1", "refused", 7)


def test_the_strongest_source_names_the_holder() -> None:
    fusion = fused(WDA, GRID, APPIUM, ("zoo", "z"), ("farm", "f"))
    for voice in (("zoo", "z"), ("farm", "f"), WDA, GRID, APPIUM):
        fusion.good(voice, {"D": voice[0]}, 1)
        assert fusion.reading("D").holder == voice[0]
    fusion.lease("D", LEASE)
    assert fusion.reading("D") == LEASE


def test_a_good_weak_voice_goes_before_an_unknown_strong_one() -> None:
    fusion = fused(APPIUM, WDA)
    fusion.good(APPIUM, {"D": "s1"}, 1)
    fusion.good(WDA, {"D": "w1"}, 2)
    fusion.unknown(APPIUM, "refused")
    assert fusion.reading("D") == UsageReading(Usage.IN_USE, "w1", since_ms=2)


def test_a_phones_own_voice_says_nothing_of_others() -> None:
    fusion = fused(WDA)
    assert fusion.unknown(WDA, "stuck") == {"D"}
    assert fusion.reading("E") == IDLE
    assert fusion.reading("D").reason == "usage unknown: stuck"


def test_a_dropped_voice_says_nothing() -> None:
    fusion = fused(APPIUM, WDA)
    fusion.good(WDA, {"D": "w1"}, 2)
    assert fusion.drop(WDA) == {"D"}
    assert fusion.reading("D") == IDLE
    assert fusion.drop(WDA) == set()


@pytest.mark.parametrize("first", ["good", "unknown"])
def test_use_before_the_start_lasts_until_it_is_confirmed_or_denied(first: str) -> None:
    fusion = fused(APPIUM, GRID)
    fusion.assume("D", "s0")
    if first == "good":
        fusion.good(APPIUM, {}, 1)
    else:
        fusion.unknown(APPIUM, "refused")
    assert fusion.reading("D").usage is Usage.UNKNOWN
    assert fusion.reading("D").holder == "s0"
    for _ in range(ENOUGH):
        fusion.good(APPIUM, {}, 2)
    assert fusion.reading("D").usage is Usage.UNKNOWN  # the Grid has not spoken
    fusion.good(GRID, {}, 3)
    assert fusion.good(GRID, {}, 3) is None
    assert fusion.reading("D") == IDLE
    fusion.know(WDA, "D")
    assert fusion.reading("D") == IDLE  # forgotten for good


def test_use_before_the_start_confirmed() -> None:
    fusion = fused(APPIUM)
    fusion.assume("D", "s0")
    fusion.good(APPIUM, {"D": "s1"}, 1)
    assert fusion.reading("D") == UsageReading(Usage.IN_USE, "s1", since_ms=1)


def test_use_before_the_start_lasts_while_nobody_can_speak_of_it() -> None:
    fusion = fused(APPIUM)
    fusion.source("appium")
    fusion.source("wda")
    fusion.assume("D", "s0")
    fusion.assume("E", "s1")
    for _ in range(3):
        fusion.good(APPIUM, {}, 1, reached={"E"})
        fusion.listed("appium", {"E"})
        fusion.listed("wda", {"E"})
    assert fusion.reading("E") == IDLE
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "s0", "not confirmed since the start")
    assert fusion.assuming
    fusion.listed("appium", {"D"})
    assert fusion.listed("wda", {"D"}) == {"D"}
    fusion.know(WDA, "D")
    for _ in range(ENOUGH):
        fusion.good(APPIUM, {}, 2, reached={"D"})
    assert fusion.reading("D").usage is Usage.UNKNOWN  # its own port has not spoken
    for _ in range(ENOUGH):
        fusion.good(WDA, {}, 2, reached={"D"})
    assert fusion.reading("D") == IDLE
    assert not fusion.assuming


def test_a_lease_in_between_says_nothing_of_a_session_before_the_start() -> None:
    fusion = fused(APPIUM)
    fusion.assume("D", "s0")
    fusion.lease("D", LEASE)
    assert fusion.reading("D") == LEASE
    fusion.lease("D", IDLE)
    assert fusion.reading("D").holder == "s0"


def test_a_holder_names_one_device_or_none() -> None:
    fusion = fused(APPIUM)
    for udid, holder in {"D": "s0", "E": "s1", "F": "s1"}.items():
        fusion.assume(udid, holder)
    assert [fusion.assumed("appium", holder) for holder in ("s0", "s1", "s2")] == ["D", None, None]
    assert fusion.assumed("of another package", "s0") is None, "two of its holders may be alike"


def test_an_incomplete_reading_ends_no_use() -> None:
    fusion = fused(GRID)
    fusion.assume("F", "s0")
    fusion.good(GRID, {"D": "s1", "E": "s2"}, 7)
    for _ in range(3):
        assert "D" in (fusion.good(GRID, {"E": "s2"}, 8, doubt="a node is missing") or set())
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "s1", "a node is missing", 7)
    assert fusion.reading("E") == UsageReading(Usage.IN_USE, "s2", since_ms=7)
    assert fusion.reading("F").usage is Usage.UNKNOWN
    assert fusion.reading("other") == IDLE
    fusion.good(GRID, {"E": "s2"}, 9)
    fusion.good(GRID, {"E": "s2"}, 9)
    assert fusion.reading("D") == IDLE
    assert fusion.reading("F") == IDLE


class Anything(RuleBasedStateMachine):
    """Whatever is said in whatever order: the reading is what the rules make of the history."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = fused(APPIUM, GRID)
        self.now = 0
        self.history: dict[tuple[str, str], list[set[str] | str]] = {APPIUM: [], GRID: []}
        self.leased: set[str] = set()

    @rule(voice=st.sampled_from([APPIUM, GRID]), udids=st.sets(st.sampled_from("DE")))
    def good(self, voice: tuple[str, str], udids: set[str]) -> None:
        self.now += 1
        self.fusion.good(voice, dict.fromkeys(udids, voice[0]), self.now)
        self.history[voice].append(udids)

    @rule(voice=st.sampled_from([APPIUM, GRID]), reason=st.sampled_from(["x", "y"]))
    def unknown(self, voice: tuple[str, str], reason: str) -> None:
        self.fusion.unknown(voice, reason)
        self.history[voice].append(reason)

    @rule(udid=st.sampled_from("DE"), on=st.booleans())
    def lease(self, udid: str, on: bool) -> None:
        self.fusion.lease(udid, LEASE if on else IDLE)
        (self.leased.add if on else self.leased.discard)(udid)

    @invariant()
    def as_the_rules_say(self) -> None:
        for udid in "DE":
            usages = [self._usage(voice, udid) for voice in (APPIUM, GRID)]
            if udid in self.leased or Usage.IN_USE in usages:
                expected = Usage.IN_USE
            else:
                expected = Usage.UNKNOWN if Usage.UNKNOWN in usages else Usage.IDLE
            assert self.fusion.reading(udid).usage is expected

    def _usage(self, voice: tuple[str, str], udid: str) -> Usage:
        said = self.history[voice]
        good = [each for each in said if isinstance(each, set)]
        seen = [udid in each for each in good]
        held = any(seen) and any(seen[-ENOUGH:])
        if not held:
            return Usage.IDLE
        listed = [n for n, each in enumerate(said) if isinstance(each, set) and udid in each]
        doubted = any(isinstance(each, str) for each in said[listed[-1] :])
        return Usage.UNKNOWN if doubted else Usage.IN_USE


Anything.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=30, deadline=None
)
TestAnything = Anything.TestCase


def test_what_may_go_on_below_a_lease_is_looked_for_before_its_end_counts() -> None:
    fusion = fused(APPIUM)
    fusion.lease("D", LEASE)
    fusion.assume("D", "")
    fusion.unknown(APPIUM, "refused")
    fusion.lease("D", IDLE)
    assert fusion.reading("D") == UsageReading(Usage.UNKNOWN, "", "refused")
    # One that is given out anew ends as it does without a start.
    fusion.lease("D", LEASE)
    fusion.lease("D", IDLE)
    assert fusion.reading("D").usage is Usage.IDLE
    fusion.lease("E", LEASE)
    fusion.assume("E", "")
    for _ in range(ENOUGH):
        fusion.good(APPIUM, {}, 2)
    fusion.lease("E", IDLE)
    assert fusion.reading("E") == IDLE

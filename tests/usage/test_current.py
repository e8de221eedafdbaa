"""What each device's usage is: as it stands when it is told, by the name of then."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.model import Platform, Usage, UsageReading
from agent.subscribers import Subscribers, Topic
from agent.usage.base import Phone
from agent.usage.current import UNCONFIRMED, CurrentUsage
from agent.usage.registry import STRENGTH
from tests.kit.clock import ClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALICE = UsageReading(Usage.IN_USE, "alice")
VOICE = ("appium", "one")


class Bench:
    """Leases and usage on the list, as the agent wires them; `told` is what the pipeline has."""

    def __init__(self) -> None:
        self.loop = ClockLoop()
        self.leased: dict[str, UsageReading] = {}
        self.told: dict[str, UsageReading] = {}
        self.news = Subscribers()
        self.usage = CurrentUsage(
            STRENGTH,
            lease=lambda udid: self.leased.get(udid, UsageReading()),
            phones=lambda: [Phone("D", Platform.ANDROID, "D"), Phone("E", Platform.IOS, "7")],
            changed=self.news.publisher(Topic.USAGE),
        )
        self.news.subscribe(Topic.LEASE, self.usage.lease_changed)
        self.news.subscribe(Topic.USAGE, self._hear)

    def _hear(self, udid: str) -> None:
        self.told[udid] = self.usage.reading(udid)

    def rename(self, old: str, new: str) -> None:
        """As the pipeline does it, and the leases after it: all in one turn."""
        if old in self.told:
            self.told[new] = self.told.pop(old)
        self.usage.rename(old, new)
        if old in self.leased:
            self.leased[new] = self.leased.pop(old)
        self.news.publish(Topic.LEASE, new)

    def lease(self, udid: str, reading: UsageReading | None) -> None:
        if reading is None:
            del self.leased[udid]
        else:
            self.leased[udid] = reading
        self.news.publish(Topic.LEASE, udid)

    def read(self, *in_use: str) -> None:
        """The voice has them in use, and nothing else."""
        self.usage.tell(self.usage.fusion.good(VOICE, dict.fromkeys(in_use, "session 1"), 1))

    def in_use(self) -> dict[str, str]:
        """By whom, once all is told."""
        self.loop.turns()
        assert self.loop.broken == []
        return {udid: r.holder for udid, r in self.told.items() if r.usage is not Usage.IDLE}


@pytest.fixture
def it() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.close()


def at_once(*called: Callable[[], None]) -> Callable[[], None]:
    """For a turn of the loop in which several things are called."""

    def all_of_them() -> None:
        for each in called:
            each()

    return all_of_them


def test_a_lease_that_begins_as_its_device_is_renamed(it: Bench) -> None:
    it.loop.turn(at_once(partial(it.lease, "old", ALICE), partial(it.rename, "old", "new")))
    assert it.in_use() == {"new": "alice"}


def test_a_lease_that_ends_as_its_device_is_renamed(it: Bench) -> None:
    """Of the old name it was not told yet, and of the new one nothing else would be."""
    it.loop.turn(lambda: it.lease("old", ALICE))
    assert it.in_use() == {"old": "alice"}
    it.loop.turn(at_once(partial(it.lease, "old", None), partial(it.rename, "old", "new")))
    assert it.in_use() == {}


def test_a_session_that_begins_and_ends_as_its_device_is_renamed(it: Bench) -> None:
    it.usage.fusion.know(VOICE)
    it.loop.turn(at_once(partial(it.read, "old"), partial(it.rename, "old", "new")))
    assert it.in_use() == {"new": "session 1"}
    it.loop.turn(it.read)
    it.loop.turn(at_once(it.read, partial(it.rename, "new", "newer")))
    assert it.in_use() == {}


def test_a_device_that_takes_the_name_of_one_in_use_is_in_use_by_all_that_was_said(
    it: Bench,
) -> None:
    it.usage.fusion.know(VOICE)
    it.loop.turn(at_once(partial(it.read, "old"), partial(it.lease, "new", ALICE)))
    assert it.in_use() == {"old": "session 1", "new": "alice"}
    it.loop.turn(lambda: it.rename("old", "new"))
    assert it.in_use() == {"new": "alice"}, "the lease is the stronger one"
    it.loop.turn(lambda: it.lease("new", None))
    assert it.in_use() == {"new": "session 1"}


def test_what_begins_and_ends_in_one_turn_is_told_as_it_is_after_it(it: Bench) -> None:
    heard: list[str] = []
    it.news.subscribe(Topic.USAGE, heard.append)
    it.loop.turn(at_once(partial(it.lease, "D", ALICE), partial(it.lease, "D", None)))
    assert it.in_use() == {}
    assert heard == []


@pytest.mark.parametrize("first", ["the news of the lease", "what is assumed"])
def test_what_is_assumed_below_a_stored_lease_is_looked_for_when_that_ends(
    it: Bench, first: str
) -> None:
    it.usage.fusion.source("appium")
    if first == "the news of the lease":
        it.loop.turn(lambda: it.lease("D", ALICE))
        it.loop.turns()
        it.loop.turn(lambda: it.usage.assume("D", ""))
    else:
        it.loop.turn(at_once(partial(it.lease, "D", ALICE), partial(it.usage.assume, "D", "")))
    assert it.in_use() == {"D": "alice"}
    it.loop.turn(lambda: it.lease("D", None))
    it.in_use()
    assert it.told["D"] == UsageReading(Usage.UNKNOWN, "", UNCONFIRMED)


def test_what_is_only_remembered_below_a_lease_ends_as_the_device_goes_away(it: Bench) -> None:
    it.usage.fusion.source("appium")
    it.loop.turn(at_once(partial(it.lease, "D", ALICE), partial(it.usage.assume, "D", "")))
    it.usage.fusion.know(VOICE)
    it.loop.turn(at_once(partial(it.read, "E"), partial(it.lease, "E", ALICE)))
    it.loop.turn(lambda: it.usage.tell(it.usage.fusion.unknown(VOICE, "down")))
    for udid in ("D", "E"):
        it.loop.turn(partial(it.usage.away, udid))
        assert it.in_use()[udid] == "alice", "the lease goes on"
        it.loop.turn(partial(it.lease, udid, None))
    assert it.in_use() == {}
    assert {it.told[udid].usage for udid in ("D", "E")} == {Usage.IDLE}


def test_a_session_that_is_known_of_goes_on_though_its_device_is_away(it: Bench) -> None:
    it.usage.fusion.know(VOICE)
    it.loop.turn(partial(it.read, "E"))
    it.loop.turn(partial(it.usage.away, "E"))
    assert it.in_use() == {"E": "session 1"}


def test_after_the_close_nobody_is_told_anything() -> None:
    told: list[str] = []
    usage = CurrentUsage(STRENGTH, lease=lambda _: ALICE, phones=tuple, changed=told.append)
    usage.close()
    usage.lease_changed("D")
    assert (told, usage.reading("D")) == ([], UsageReading())

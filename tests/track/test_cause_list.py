"""The last causes, by the transitions that told of them."""

from __future__ import annotations

import pytest

from agent.model import DeviceState, Transition
from agent.track.cause import Cause, CauseKind
from agent.track.cause_list import MOST, CauseList, hub_of_cause

ONLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.UNPLUGGED


def lost(udid: str, cause: Cause, at_ms: int = 1000, host: str = "") -> Transition:
    return Transition(
        udid, ONLINE, UNPLUGGED, cause.words, at_ms, host=host, code=cause.kind.code, cause=cause.id
    )


HUB = Cause("cause-1", CauseKind.HUB, "1-4.2", 3)


def test_what_counted_together_is_one() -> None:
    known = CauseList()
    for number, udid in enumerate("abc"):
        known.take(lost(udid, HUB, 1000 + number))
    known.take(Transition("d", ONLINE, UNPLUGGED, "", 2000))
    (told,) = known.all()
    assert (told.id, told.kind, told.place, told.at_ms) == ("cause-1", "hub", "1-4.2", 1000)
    assert list(told.devices) == ["a", "b", "c"]
    assert known.counts == {CauseKind.HUB: 1}


def test_the_newest_first_and_no_more_than_are_remembered() -> None:
    known = CauseList()
    for number in range(MOST + 5):
        known.take(lost("a", HUB._replace(id=f"cause-{number}")))
    found = known.all()
    assert len(found) == MOST
    assert found[0].id == f"cause-{MOST + 4}"
    assert known.counts[CauseKind.HUB] == MOST + 5


def test_what_is_stored_is_told_too_and_nothing_twice() -> None:
    known = CauseList()
    known.take(lost("c", HUB, 3000))
    older = HUB._replace(id="cause-0", place="1-5")
    stored = [lost("x", older, 500), lost("a", HUB, 1000), lost("c", HUB, 3000)]
    first, second = known.all(stored)
    assert (first.id, first.at_ms, list(first.devices)) == ("cause-1", 1000, ["a", "c"])
    assert (second.id, second.place) == ("cause-0", "1-5")


def test_one_that_grew_is_told_as_what_it_became() -> None:
    known = CauseList()
    known.take(lost("a", HUB))
    known.take(lost("b", HUB._replace(kind=CauseKind.CONTROLLER, place="0000:00:14.0", phones=9)))
    (told,) = known.all()
    assert (told.kind, told.place) == ("controller", "0000:00:14.0")
    assert known.counts == {CauseKind.HUB: 1}


def test_a_lost_host_is_one_of_its_phones() -> None:
    known = CauseList()
    for udid in "ab":
        known.take(
            Transition(
                udid, ONLINE, UNPLUGGED, "host r is lost: …", 1, host="r", code="host_lost",
                cause="cause-9",
            )
        )  # fmt: skip
    (told,) = known.all()
    assert (told.kind, told.place, told.host) == ("host", "r", "r")


def test_what_a_newer_agent_says_of_a_cause_is_left_out() -> None:
    known = CauseList()
    known.take(Transition("a", ONLINE, UNPLUGGED, "by the moon", 1, code="moon", cause="cause-9"))
    assert known.all() == []
    assert not known.counts


@pytest.mark.parametrize(
    ("cause", "hub"),
    [(HUB, "1-4.2"), (Cause("c", CauseKind.SOURCE, "adb", 3), "")],
)
def test_the_hub_of_a_transition(cause: Cause, hub: str) -> None:
    assert hub_of_cause(lost("a", cause)) == hub


def test_no_hub_without_a_cause() -> None:
    assert hub_of_cause(Transition("a", ONLINE, UNPLUGGED, HUB.words, 1)) == ""

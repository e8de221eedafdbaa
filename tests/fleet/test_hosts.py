"""What is taken of a host's log, what is asked for, and whether the host is there."""

from __future__ import annotations

import base64

import pytest

from agent.fleet.hub.hosts import Host, Need, Presence, Verdict
from agent.fleet.hub.message_ids import Cause, message_id
from agent.fleet.hub.seen_time import BLIND, STEP, SeenTime
from agent.fleet.hub.stored import Kept, Mark, Position, mark_row, position_row, read, told_row
from agent.fleet.hub.stored import Told as Word
from agent.fleet.words import DeviceTold, Heartbeat
from agent.model import DeviceState, Platform
from agent.store import FleetRow

EPOCH = 7


def beat(last: int, *, epoch: int = EPOCH, instance: str = "i") -> Heartbeat:
    return Heartbeat(host="A", epoch=epoch, instance=instance, last=last)


def known(cursor: int) -> Host:
    """One that was heard, and whose log is taken that far."""
    host = Host("A")
    host.beat(beat(cursor), 0.0)
    host.opened(EPOCH)
    host.begin(cursor)
    host.beat(beat(cursor), 0.0)
    return host


@pytest.mark.parametrize(
    ("epoch", "id_", "verdict", "need"),
    [
        (EPOCH, 4, Verdict.REPEAT, Need.NOTHING),
        (EPOCH, 5, Verdict.REPEAT, Need.NOTHING),
        (EPOCH, 6, Verdict.TAKE, Need.NOTHING),
        (EPOCH, 7, Verdict.AHEAD, Need.LOG),
        (EPOCH, 99, Verdict.AHEAD, Need.LOG),
        (EPOCH + 1, 6, Verdict.STRANGE, Need.NOTHING),
    ],
)
def test_a_log_is_taken_without_a_gap(epoch: int, id_: int, verdict: Verdict, need: Need) -> None:
    host = known(5)
    assert (host.judge(epoch, id_), host.need, host.cursor) == (verdict, need, 5)


@pytest.mark.parametrize(
    ("had", "before", "verdict", "need"),
    [
        (0, 0, Verdict.TAKE, Need.NOTHING),
        (0, 8, Verdict.TAKE, Need.NOTHING),  # the hub had it of an older agent
        (9, 0, Verdict.TAKE, Need.NOTHING),  # the agent does not know any more
        (9, 9, Verdict.TAKE, Need.NOTHING),
        (9, 8, Verdict.STRANGE, Need.LOG),
    ],
)
def test_a_row_goes_on_with_the_one_that_was_taken(
    had: int, before: int, verdict: Verdict, need: Need
) -> None:
    host = known(4)
    host.took(5, had)
    assert (host.judge(EPOCH, 6, before), host.need) == (verdict, need)


def test_a_host_that_is_new_or_begins_anew_is_asked_for_all() -> None:
    host = Host("A")
    assert host.judge(EPOCH, 1) is Verdict.STRANGE
    host.beat(beat(3), 0.0)
    assert (host.need, host.caught_up) == (Need.SNAPSHOT, False)
    host.opened(EPOCH)
    assert not host.caught_up
    host.begin(3)
    assert (host.need, host.caught_up, host.cursor) == (Need.NOTHING, True, 3)
    host.beat(beat(1, epoch=EPOCH + 1), 5.0)
    assert (host.need, host.caught_up) == (Need.SNAPSHOT, False)
    host.judge(EPOCH, 9)  # of the old log: it asks for nothing less
    assert host.need is Need.SNAPSHOT


def test_what_a_heartbeat_tells_of_may_be_on_its_way_until_the_next() -> None:
    host = known(5)
    host.beat(beat(8), 5.0)
    assert (host.need, host.lag) == (Need.NOTHING, 3)
    host.beat(beat(8), 10.0)
    assert host.need is Need.LOG
    for id_ in (6, 7, 8):
        host.took(id_)
    assert (host.need, host.lag) == (Need.NOTHING, 0)


def test_a_log_of_which_rows_were_dropped_is_asked_for_whatever_comes_meanwhile() -> None:
    host = known(5)
    host.behind()
    assert host.judge(EPOCH, 6) is Verdict.TAKE
    host.took(6)
    assert host.need is Need.LOG
    host.told_last(8)
    host.took(7)
    assert host.need is Need.LOG
    host.took(8)
    assert (host.need, host.lag) == (Need.NOTHING, 0)


def test_another_process_of_the_agent_is_asked_at_once() -> None:
    host = known(5)
    host.beat(beat(8, instance="j"), 5.0)
    assert host.need is Need.LOG


def test_a_log_that_went_back_is_asked_about_a_late_heartbeat_is_not() -> None:
    host = known(5)
    host.took(6)
    needs = []
    for at in (5.0, 10.0):  # the first was sent before the sixth
        host.beat(beat(5), at)
        needs.append(host.need)
    assert needs == [Need.NOTHING, Need.LOG]


def test_a_host_is_lost_then_gone_and_back_once_its_log_is_taken() -> None:
    host = known(5)
    assert (host.presence, host.caught_up) == (Presence.ALIVE, True)
    assert not host.age(60.0, 60.0, 30.0)
    assert host.age(61.0, 60.0, 30.0)
    assert (host.presence, host.caught_up) == (Presence.LOST, False)
    assert host.age(91.0, 60.0, 30.0)
    assert host.presence is Presence.GONE
    host.beat(beat(7), 100.0)
    assert (host.presence, host.caught_up, host.need) == (Presence.ALIVE, False, Need.LOG)
    host.took(6)
    assert not host.caught_up
    host.took(7)
    assert host.caught_up


def test_time_goes_on_with_the_heartbeats_that_are_heard_and_not_otherwise() -> None:
    seen = SeenTime()
    assert seen.blind(0.0)
    assert seen.heard(9.9, 10.0)
    assert (seen.seconds, seen.blind(10.0 + BLIND), seen.blind(10.1 + BLIND)) == (0.0, False, True)
    assert seen.heard(11.9, 12.0)
    assert seen.seconds == 2.0
    assert seen.heard(100.0, 100.0)
    assert seen.seconds == 2.0 + STEP
    assert not seen.heard(100.0, 140.0)  # it was held up
    assert (seen.seconds, seen.blind(140.0)) == (2.0 + STEP, True)
    seen.lost()
    assert seen.heard(150.0, 150.0)
    assert seen.seconds == 2.0 + STEP


def test_message_ids_are_made_of_their_cause() -> None:
    cause = Cause("rack-3", EPOCH, 12)
    made = message_id(cause, "p", 129)
    assert made == message_id(Cause("rack-3", EPOCH, 12), "p", 129)
    assert made.startswith("msg_")
    assert len(base64.urlsafe_b64decode(made[4:])) == 18
    others = {
        message_id(Cause("rack-4", EPOCH, 12), "p", 129),
        message_id(Cause("rack-3", EPOCH + 1, 12), "p", 129),
        message_id(Cause("rack-3", EPOCH, 13), "p", 129),
        message_id(Cause("rack-3", EPOCH, 12, "lost:1"), "p", 129),
        message_id(cause, "q", 129),
        message_id(cause, "p", 130),
    }
    assert len(others | {made}) == 7


def test_what_is_stored_is_read_again_and_nonsense_is_none() -> None:
    device = DeviceTold(
        udid="p", platform=Platform.IOS, state=DeviceState.OFFLINE, since_ms=1, tags=("a",)
    )
    word = Word("A", device, used=2, twin=True)
    mark, position = Mark("A", 2**63 - 1, 5, 2**63 - 2), Position("2026", 9)
    rows = [told_row(word), mark_row(mark), position_row(position)]
    assert read(rows) == Kept((word,), (mark,), position)
    bad = ["", "{", "[]", "{}", "null", '{"told": {}}', '{"epoch": "x", "cursor": 1}']
    for text in bad:
        assert read(
            [FleetRow("A", "p", text), FleetRow("A", "", text), FleetRow("", "", text)]
        ) == (Kept())
    older = FleetRow("A", "", '{"epoch": 7, "cursor": 5}')
    assert read([older]).marks == (Mark("A", 7, 5),)
    assert read([told_row(word)]) == Kept()  # without its host's mark all of it is asked for

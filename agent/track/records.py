"""Between what is followed and what is stored of a device. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model import DeviceRecord, DeviceState, Transition, Usage
from agent.reasons import Reason
from agent.text import whole
from agent.track.cause import read
from agent.track.derive import Track
from agent.track.known import Known
from agent.track.silence_book import stored_debt
from agent.track.waits import stored_waits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.track.devices import Facts
    from agent.track.waits import Owed, Telling


def record_of(facts: Facts, track: Track, since_ms: int, owed: Owed) -> DeviceRecord:
    """What is stored of a device that is in a state, by platforms that are known.

    Whatever a phone or a server called itself is stored as text: half a character in a session's
    id, which JSON can name, must not have the store refuse the transition.
    """
    assert facts.platform is not None
    assert track.state is not None
    reason = Reason(track.reason, track.code)
    if track.cause is not None and read(track.cause.id, track.reason) is None:
        # It arrives, or comes and goes: that is shown, and a restart is to know of the cause.
        reason = track.cause.reason(reason)
    return DeviceRecord(
        facts.udid,
        facts.platform,
        track.state,
        since_ms,
        name=whole(facts.name),
        model=whole(facts.model),
        port=facts.port,
        reason=whole(reason.text),
        holder=whole(track.holder),
        path=facts.path,
        address=facts.address,
        serial=facts.serial if facts.serial != facts.udid else "",
        shared=facts.shared_serial,
        ways=facts.ways,
        serial_read=facts.serial_read,
        debt=stored_debt(owed.debt),
        code=str(reason.code),
        cause=track.cause.id if track.cause else "",
        waits=stored_waits(owed),
    )


def told_of(record: DeviceRecord, previous: DeviceState | None, at_ms: int) -> Transition:
    """What webhooks are told of a stay, later than when it began."""
    return Transition(
        record.udid,
        previous,
        record.state,
        record.reason,
        at_ms,
        holder=record.holder,
        host=record.host,
        code=record.code,
        cause=record.cause,
        port=record.port,
    )


def told_with(
    transition: Transition, before: DeviceRecord | None, tellings: Iterable[Telling]
) -> list[tuple[Transition, Collection[int] | None]]:
    """What webhooks are told with a transition: `before` is how the device stood until then."""
    told = []
    for each in tellings:
        if each.late:
            assert before is not None, "it was in that state"
            told.append((told_of(before, each.previous, transition.at_ms), each.webhooks))
        elif each.previous is transition.previous:
            told.append((transition, each.webhooks))
        else:
            told.append((replace(transition, previous=each.previous), each.webhooks))
    return told


def restored(record: DeviceRecord) -> Track:
    """A use that lasted when the agent stopped is the last known one until a source speaks."""
    in_use = record.state is DeviceState.UTILIZING
    return Track(
        state=record.state,
        reason=record.reason,
        holder=record.holder,
        cause=read(record.cause, record.reason),
        usage=Usage.IN_USE if in_use else Usage.IDLE,
        usage_holder=record.holder if in_use else "",
        code=record.code,
    )


def known_of(record: DeviceRecord) -> Known:
    """Who the device was when the agent stopped."""
    return Known(
        record.udid,
        record.platform,
        record.port,
        record.name,
        record.model,
        path=record.path,
        address=record.address,
        serial=record.serial,
        shared=record.shared,
        ways=record.ways,
        serial_read=record.serial_read,
        there=record.state is not DeviceState.UNPLUGGED,
        since_ms=record.since_ms,
    )

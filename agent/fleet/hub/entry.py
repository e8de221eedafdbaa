"""A device as the hub stores it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.fleet.hub.message_ids import stored_cause
from agent.model import DeviceRecord
from agent.reasons import Reason
from agent.track.silence_book import stored_debt
from agent.track.waits import NOTHING, stored_waits

if TYPE_CHECKING:
    from agent.fleet.hub.board import Decision
    from agent.fleet.hub.message_ids import Cause
    from agent.track.waits import Owed


@dataclass(slots=True)
class Entry:
    """A device as it is stored, or about to be."""

    record: DeviceRecord
    owed: Owed = NOTHING
    """What webhooks are still to be told of it."""
    stay: Cause | None = None
    """What began its stay in its state."""
    looked: float = 0.0
    """Seen time at which it was last known to be in its state."""
    flapping: bool = False
    stored: bool = True
    """Or about to be; else the store refused it."""


def record_of(
    decision: Decision, before: DeviceRecord | None, at_ms: int, owed: Owed, stay: Cause | None
) -> DeviceRecord:
    """Its row, by what is decided; what that leaves open is as it was before."""
    word = decision.told.device
    if decision.reason is not None:
        reason = decision.reason
    else:
        reason = Reason(before.reason, before.code) if before else Reason()
    holder, cause = decision.holder, decision.told_cause
    told = word.state is decision.state and 0 < word.since_ms < at_ms
    return DeviceRecord(
        decision.key,
        word.platform,
        decision.state,
        word.since_ms if told else at_ms,
        name=word.name,
        model=word.model,
        port=word.port,
        reason=reason.text,
        holder=(before.holder if before else "") if holder is None else holder,
        serial=word.udid if word.udid != decision.key else "",
        debt=stored_debt(owed.debt),
        waits=stored_waits(owed, stored_cause(stay)),
        host=decision.told.host,
        code=str(reason.code),
        cause=(before.cause if before else "") if cause is None else cause,
    )

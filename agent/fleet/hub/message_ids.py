"""Message ids that whoever makes a callback anew makes alike. Pure.

A hub that begins again, is told something again, or takes over from another one derives the same
callbacks from the same log. Receivers tell repetitions by the id, so it is made of what the
callback is about, and of nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a device's state at the hub."""

    host: str
    epoch: int
    """Of the host's log."""
    event: int
    """Id in it; 0: none is stored there any more."""
    why: str = ""
    """Where it is not that event itself that is told: `lost:…`, `back:…`, `moved:…`, `silence:…`,
    and what tells those of one event apart."""


def late(stay: Cause) -> Cause:
    """Of what is told of a stay, by what began it, to webhooks that wait for it to last."""
    return replace(stay, why=f"after:{stay.why}")


def stored_cause(cause: Cause | None) -> tuple[str | int, ...]:
    """As it is kept."""
    return () if cause is None else (cause.host, cause.epoch, cause.event, cause.why)


def cause_of(kept: Sequence[object]) -> Cause | None:
    """As it was kept; what makes no sense is none."""
    match kept:
        case str(host), int(epoch), int(event), str(why):
            return Cause(host, epoch, event, why)
    return None


def host_cause(host: str, epoch: int, cursor: int) -> str:
    """Of the loss of a host: what its phones went offline by; alike at every hub of the fleet.

    By how far its log was taken: a host that was back and is lost again has told more by then.
    """
    text = f"{host}|{epoch}|{cursor}"
    return f"cause-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def message_id(cause: Cause, udid: str, webhook_id: int) -> str:
    """The `webhook-id`: 144 bits, as those of `agent.deliver.payload`."""
    text = "|".join(
        (cause.host, str(cause.epoch), str(cause.event), udid, str(webhook_id), cause.why)
    )
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return "msg_" + base64.urlsafe_b64encode(digest[:18]).decode()

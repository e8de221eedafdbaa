"""What the store answers with, beyond the words of `agent.model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.histogram import Tally
    from agent.model import Callback, CallbackState, Transition


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Can the store write? Anything but `ok` is for the operator to see everywhere."""

    ok: bool = True
    error: str = ""
    """Why not, with the path and what to do; "" while ok."""
    unstored: int = 0
    """Changes kept in memory because they could not be written yet; 0 while ok."""
    dropped: int = 0
    """Changes refused since start, because too many were kept in memory already."""
    recovered_from: str = ""
    """Path of the corrupt file that was set aside, "" if none was since start."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the store has counted since it was opened; to have them touches no disk."""

    queued: int
    """Changes that are not durable yet."""
    cancelled: int
    """Callbacks cancelled because their webhooks were gone."""
    commits: Tally
    """Seconds that each commit took, its fsync included."""
    failures: int
    """Commits and sweeps that failed."""
    size: int
    """Bytes of the store's files, measured within the last minute."""
    free: int
    """Bytes that are free on their file system for the agent's user, measured likewise."""


@dataclass(frozen=True, slots=True)
class StoredTransition:
    """A transition that is durable.

    Ids grow by one from one to the next: one that is left out was deleted by the retention. Only a
    store that was made anew after corruption begins again at 1.
    """

    id: int
    transition: Transition


@dataclass(frozen=True, slots=True)
class PendingLane:
    """One (webhook, device) that has callbacks to send, with the first of them."""

    webhook_id: int
    udid: str
    head: Callback


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which callbacks to list; None matches all."""

    webhook_id: int | None = None
    udid: str | None = None
    state: CallbackState | None = None
    message_id: str | None = None
    since_ms: int | None = None
    """Created at or after."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Revived:
    """One step of a replay."""

    callbacks: tuple[Callback, ...]
    """Pending again, oldest first."""
    last: int
    """Rowid up to which all was looked at."""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One callback and what became of it."""

    callback: Callback
    state: CallbackState
    finished_ms: int | None
    """When it was delivered, died or was cancelled; None while pending."""
    status: int | None
    """HTTP status of the last attempt; None if there was no attempt or no answer."""
    error: str
    """Of the last attempt; "" if there was none."""

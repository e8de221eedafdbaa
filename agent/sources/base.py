"""The one protocol that every device source speaks, and the back-off they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model import Emit, SourceName
    from agent.sources.usb_reading import Reading


class DeviceSource(Protocol):
    """Watches one system API for phones.

    `run` first listens, then enumerates: its first observation is a `Snapshot` of all it sees, or
    `Down` with the reason when it cannot see. After that come `Changed` and `Gone`, as edges. When
    the API dies it emits one `Down`, reconnects with a capped back-off, then a fresh `Snapshot`.
    Malformed input is logged once, ends the connection (`Down`, reconnect) and is never passed on.
    Within one connection a sighting is emitted only when it differs from the last one emitted.
    A bridge that asks ready phones whether they live asks for their batteries in the same breath,
    and emits each answer as a `BatteryRead`; that is no sighting, and may come at any time.
    """

    @property
    def name(self) -> SourceName:
        """Whose observations these are."""

    async def run(self, emit: Emit) -> None:
        """Observe until cancelled; raises nothing but CancelledError, and leaves nothing open."""

    async def recheck(self) -> None:
        """Read the whole truth anew now, and emit what differs from what was said (or a Snapshot).

        Asked shortly before a state counts, and after a time in which the process stood still.
        Returns when that is emitted, or at once when the source is down; within 2 s whatever hangs;
        raises nothing but CancelledError. May be called while it runs.
        """


@runtime_checkable
class SeesUsb(Protocol):
    """A source that knows all of this host's USB, not only the phones on it."""

    def plugged_in(self) -> tuple[Reading, ...] | None:
        """Every USB device, hubs included, from memory; None while it cannot see."""


def backoff(first: float = 0.1, factor: float = 2.0, cap: float = 10.0) -> Iterator[float]:
    """Seconds to wait before each reconnect: grows from `first` to `cap`, for ever.

    No jitter: the peer is a daemon on this host, and nobody else reconnects with us.
    """
    delay = first
    while True:
        yield delay
        delay = min(cap, delay * factor)

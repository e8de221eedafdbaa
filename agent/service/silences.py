"""Silences as operators ask for them: by whatever names a device, answered as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol, TypedDict

from agent.clock import timestamp
from agent.model import SilenceKind
from agent.service.rows import Also, Time

if TYPE_CHECKING:
    from agent.model import Silence
    from agent.service.devices import Devices
    from agent.track.silences import Silences
    from agent.track.tracker import Tracker


class SilenceRow(TypedDict):
    """One silence."""

    id: str
    kind: SilenceKind
    """What it covers devices by."""
    value: str
    """The UDID, tag, platform or hub; empty for all."""
    reason: str
    by: str
    """Who wanted it."""
    since: Time
    ends: Time
    devices: Annotated[int, Also(minimum=0)]
    """How many of those that are shown it covers now."""


class SilencesServed(Protocol):
    """Silences as the API asks for them: `SilenceDesk`, or a hub's `FleetSilenceDesk`."""

    @property
    def now_ms(self) -> int:
        """By the clock that silences end by."""

    def rows(self) -> list[SilenceRow]:
        """The silences in force, oldest first."""

    async def add(
        self, kind: SilenceKind, value: str, reason: str, ends_ms: int, by: str
    ) -> SilenceRow:
        """Keep back what would be told of these devices, until then."""

    async def end(self, silence_id: str, by: str) -> SilenceRow:
        """End one before its time."""


class SilenceDesk:
    """Finds the device meant and hands on. Methods raise SilenceError and its kinds."""

    def __init__(self, silences: Silences, devices: Devices, pipeline: Tracker) -> None:
        self._silences = silences
        self._devices = devices
        self._pipeline = pipeline

    @property
    def now_ms(self) -> int:
        """By the clock that silences end by."""
        return self._silences.now_ms

    def rows(self) -> list[SilenceRow]:
        """The silences in force, oldest first."""
        silences = self._silences.all()
        covered = self._pipeline.views.covered(silences)
        return [_row(silence, covered[silence.id]) for silence in silences]

    async def add(
        self, kind: SilenceKind, value: str, reason: str, ends_ms: int, by: str, id_: str = ""
    ) -> SilenceRow:
        """Keep back what would be told of these devices, until then; see `Silences.add`.

        Raises:
            UnknownDeviceError: no device is meant; the message names the nearest.
        """
        if kind is SilenceKind.DEVICE:
            value = self._devices.udid(value)
        return self._row_of(await self._silences.add(kind, value, reason, ends_ms, by, id_))

    async def end(self, silence_id: str, by: str) -> SilenceRow:
        """End one before its time."""
        return self._row_of(await self._silences.end(silence_id, by))

    def _row_of(self, silence: Silence) -> SilenceRow:
        return _row(silence, self._pipeline.views.covered([silence])[silence.id])


def _row(silence: Silence, devices: int) -> SilenceRow:
    return {
        "id": silence.id,
        "kind": silence.kind,
        "value": silence.value,
        "reason": silence.reason,
        "by": silence.by,
        "since": timestamp(silence.since_ms),
        "ends": timestamp(silence.ends_ms),
        "devices": devices,
    }

"""Where each phone hangs: this host's USB as it is now, from what the sources know already."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import StoreError
from agent.model import DeviceState, SourceName
from agent.service.port_tree import Hanging, Plugged, tree
from agent.service.rows import iso
from agent.service.slices import Slices
from agent.udid import controller_of

if TYPE_CHECKING:
    from agent.service.causes import CauseRow, Causes
    from agent.service.port_tree import PhoneAtPort, PortsRow
    from agent.sources.supervisor import Supervisor
    from agent.sources.usb_reading import Reading
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView


class Ports:
    """Reads the pipeline's views and what udev has told of all USB; asks no device and no disk."""

    def __init__(self, pipeline: Tracker, sources: Supervisor, causes: Causes, host: str) -> None:
        self._pipeline = pipeline
        self._sources = sources
        self._causes = causes
        self._host = host

    async def row(self) -> PortsRow:
        """All of it; others have the loop meanwhile."""
        slices = Slices()
        watched = self._watched
        phones = []
        for udid in self._pipeline.views.udids():
            if (one := self._hanging(udid, watched=watched)) is not None:
                phones.append(one)
            await slices.let_go()
        plugged = []
        for reading in self._sources.plugged_in():
            plugged.append(self._plugged(reading))
            await slices.let_go()
        await asyncio.sleep(0)
        made = tree(self._host, self._reason(), plugged, phones, await self._lost())
        await asyncio.sleep(0)  # it is written in another turn: each takes 10 ms of a full rack
        return made

    async def _lost(self) -> list[CauseRow]:
        """What was lost; a store that cannot be read is no reason to show no ports."""
        try:
            return (await self._causes.rows())["causes"]
        except StoreError:
            return []

    @property
    def _watched(self) -> bool:
        return SourceName.UDEV in self._pipeline.enabled and not self._blind

    @property
    def _blind(self) -> str:
        return self._pipeline.down.get(SourceName.UDEV, "")

    def _reason(self) -> str:
        if SourceName.UDEV not in self._pipeline.enabled:
            return (
                "USB is not watched ([usb] enabled = false): shown is what adb and usbmuxd tell of "
                "ports, and what was known before"
            )
        if self._blind:
            return f"udev: {self._blind}; shown is what was known last, and what adb tells of ports"
        return ""

    def _hanging(self, udid: str, *, watched: bool) -> Hanging | None:
        """None: it went away meanwhile, or was never seen."""
        view = self._pipeline.views.one(udid)
        if view is None or view.platform is None:
            return None
        place = self._pipeline.views.where(udid)
        # Without udev's word a phone that counts as there is where it was.
        here = place.seen or (not watched and view.state is not DeviceState.UNPLUGGED)
        return Hanging(_phone(view), view.since_ms, place.port, place.path, here)

    def _plugged(self, reading: Reading) -> Plugged:
        return Plugged(
            port=reading.port,
            controller=controller_of(reading.address),
            hub=reading.kind is None,
            port_count=reading.port_count,
            speed=reading.speed,
            vendor=reading.vendor,
            product=reading.product,
            maker=reading.maker,
            model=reading.model,
            blocked=reading.blocked,
            udid=self._pipeline.views.owner(SourceName.UDEV, reading.address),
        )


def _phone(view: DeviceView) -> PhoneAtPort:
    return {
        "udid": view.udid,
        "name": view.name,
        "platform": view.platform,
        "state": view.state,
        "flapping": view.flapping,
        "reason": view.reason,
        "reason_code": view.code,
        "cause_id": view.cause,
        "since": iso(view.since_ms),
    }

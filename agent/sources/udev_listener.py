"""Hears udevd on the event loop, and tells what it means; reads what it leaves out, in threads."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.model import Down, Snapshot, SourceName
from agent.sources.usb_devices import Devices, Message, compared, message_of
from agent.sources.usb_reading import fill, glance_all
from agent.threads import in_thread
from agent.wire.udev import LostError
from agent.wire.usb_sysfs import name_of

if TYPE_CHECKING:
    from agent.model import Changed, Emit, Gone, Sighting
    from agent.sources.usb_devices import Census, Found
    from agent.sources.usb_reading import Reading
    from agent.wire.udev import Monitor
    from agent.wire.usb_sysfs import Marks

log = structlog.get_logger(__name__)

BATCH = 256
"""Messages read per wake-up, about 10 ms; a storm leaves the loop its turns."""

DRAINS = 64
"""Batches that `drain_all` reads, more than the socket's buffer holds."""

SLICE = 32
"""Corrections made in one turn of the loop."""


class Teller:
    """Emits; says `Down` once per outage, and again where it turns out that a udevd is there."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._down: Down | None = None
        self._spoken = asyncio.Event()

    def snapshot(self, sightings: tuple[Sighting, ...]) -> None:
        """All that is seen: ends an outage."""
        self._down = None
        log.info("udev.snapshot", devices=len(sightings))
        self._emit(Snapshot(SourceName.UDEV, sightings))
        self._spoken.set()

    def edge(self, observation: Changed | Gone) -> None:
        """One change since the snapshot."""
        self._emit(observation)

    def down(self, reason: str, *, missing: bool = False) -> None:
        """Nothing is seen; `missing`: no udevd was ever there."""
        if self._down is None or self._down.missing != missing:
            self._down = Down(SourceName.UDEV, reason, missing)
            log.warning("udev.down", reason=reason)
            self._emit(self._down)
        self._spoken.set()

    def silent(self) -> None:
        """What was said no longer holds: a connection has ended."""
        if self._down is None:
            self._spoken.clear()

    async def heard(self) -> None:
        """Until there is a word that holds: `Down`, or a snapshot and what followed it."""
        await self._spoken.wait()


class Listener:
    """Reads one monitor on the event loop, from its making on; must be closed.

    What it hears before `go_live` is kept, and put on top of what enumeration found: a removal
    during enumeration wins. `lost` is done once messages were lost; nothing is read after that.
    """

    def __init__(self, monitor: Monitor, teller: Teller) -> None:
        self._loop = asyncio.get_running_loop()
        self._teller = teller
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._heard: list[Message] = []
        self._devices: Devices | None = None
        self._marks: Marks = {}
        self._told: set[str] = set()
        """Addresses that messages spoke of since the comparison under way began."""
        self._comparing = asyncio.Lock()
        self._comparisons = 0
        """How many were begun."""
        self._new: set[str] = set()
        """Addresses to glance at."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By address, those that read one device up; `glance` and `compare`, those of all."""
        self._monitor = monitor
        self._loop.add_reader(monitor.fileno(), self._drain)

    def go_live(self, found: Found, compare: float) -> None:
        """Tell the snapshot; tell every change from now on."""
        self._devices = Devices(found.readings)
        self._marks = found.marks
        for message in self._heard:
            self._devices.take(message)
        self._teller.snapshot(self._devices.sightings())
        for message in self._heard:
            self._look_closer(message.address)
        self._heard.clear()
        self._tasks["compare"] = self._loop.create_task(self._keep_comparing(compare))

    def close(self) -> None:
        """Stop. The socket closes with the last reference to the monitor, which is this one."""
        self._loop.remove_reader(self._monitor.fileno())
        del self._monitor
        self.lost.cancel()
        for task in self._tasks.values():
            task.cancel()

    # --- what udevd says ---------------------------------------------------------------------

    def _drain(self) -> bool:
        """Read what waits, up to a batch; whether there may be more."""
        for _ in range(BATCH):
            try:
                device = self._monitor.receive()
                if device is None:
                    return False
                message = message_of(device)
            except ValueError as error:
                # libudev refused it, or a property is no UTF-8. It is consumed.
                log.warning("udev.malformed", reason=str(error))
                continue
            except (LostError, OSError, MemoryError) as error:
                log.warning("udev.overflow", reason=str(error), consequence="enumerating again")
                self._loop.remove_reader(self._monitor.fileno())
                self._teller.silent()
                self.lost.set_result(None)
                return False
            if message is not None:
                self._take(message)
        return True

    @property
    def known(self) -> tuple[Reading, ...] | None:
        """All that is plugged in, as it is known now; None before the snapshot."""
        return None if self._devices is None else tuple(self._devices.known.values())

    async def drain_all(self) -> None:
        """Read what waits in the socket; a storm without an end is left to the loop."""
        for _ in range(DRAINS):
            if self.lost.done() or not self._drain():
                return
            await asyncio.sleep(0)

    def _take(self, message: Message) -> None:
        if self._devices is None:
            self._heard.append(message)
            return
        self._told.add(message.address)
        self._learn(message)
        self._look_closer(message.address)

    def _learn(self, message: Message) -> None:
        assert self._devices is not None, "only live listeners learn"
        change = self._devices.take(message)
        if change is not None:
            self._teller.edge(change)

    # --- what it left out ----------------------------------------------------------------------

    def _look_closer(self, address: str) -> None:
        """Read what no message tells of it; see `glance`, then `fill`."""
        self._new.add(address)
        if "glance" not in self._tasks:
            self._tasks["glance"] = self._loop.create_task(self._glance_at_new())

    async def _glance_at_new(self) -> None:
        """All of them in one thread: no device can hold that one up."""
        try:
            while self._new:
                assert self._devices is not None, "only live listeners look"
                known, new = self._devices.known, self._new
                self._new = set()
                readings = [known[address] for address in new if address in known]
                for before, after in zip(
                    readings, await in_thread(partial(glance_all, readings), "udev"), strict=True
                ):
                    if not self._devices.holds(before):
                        continue  # a newer message came meanwhile, and is in self._new
                    if after != before:
                        self._learn(Message("look", before.address, after))
                    self._reread(before.address)
        except Exception:
            log.exception("udev.unreadable", devices="those just plugged in")
        finally:
            del self._tasks["glance"]

    def _reread(self, address: str) -> None:
        """Where a message left something out, look into sysfs for it; once at a time per device."""
        reading = self._devices.missing(address) if self._devices is not None else None
        if reading is not None and address not in self._tasks:
            self._tasks[address] = self._loop.create_task(self._look(reading))

    async def _look(self, reading: Reading) -> None:
        address = reading.address
        filled = reading
        try:
            filled = await in_thread(partial(fill, reading), "udev")
        except Exception as error:
            log.exception("udev.unreadable", device=address, reason=str(error))
        finally:
            del self._tasks[address]
        assert self._devices is not None, "only live listeners look"
        if not self._devices.holds(reading):
            self._reread(address)  # a newer message came meanwhile, and may lack something too
        elif filled != reading:
            self._learn(Message("change", address, filled))

    # --- what nobody told ------------------------------------------------------------------------

    async def _keep_comparing(self, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            await self.compare()

    async def compare(self) -> None:
        """Hold what is known against sysfs, and tell what differs. Raises nothing.

        Who asks while one is under way waits for the next, and shares it with all that do.
        """
        begun = self._comparisons
        async with self._comparing:
            if self._devices is None or self.lost.done() or self._comparisons > begun:
                return
            self._comparisons += 1
            known = self._devices.known
            self._told.clear()
            try:
                census = await in_thread(partial(compared, known, self._marks), "udev")
            except Exception:
                log.exception("udev.uncompared")
                return
            if not self.lost.done():
                self._marks = census.marks
                await self._correct(census, known)

    async def _correct(self, census: Census, known: dict[str, Reading]) -> None:
        """Learn what a comparison found, a few at a time; messages that came since know better."""
        news = [Message("remove", address, None) for address in census.gone]
        news += (Message("look", reading.address, reading) for reading in census.read)
        for number, message in enumerate(news, 1):
            if self.lost.done():
                return
            if message.address in self._told:
                self._marks.pop(name_of(message.address), None)  # read again next time
                continue
            if (message.reading is None) == (message.address in known):
                log.info(
                    "udev.unheard", device=message.address, is_there=message.reading is not None
                )
            self._learn(message)
            self._reread(message.address)
            if number % SLICE == 0:
                await asyncio.sleep(0)

"""All simulated phones, and what can be done to them.

A phone and its settings outlive its unplugging. Wall times (`at`, `times`) are taken just before
the act, for those who measure what the kernel and everything above it make of it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .android import AndroidPhone
from .iphone import IPhone
from .usbip import Export
from .vhci import NoPortError, Port, Vhci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .device import Device

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds for the kernel, emulated and busy, to free a port after an unplug."""


class RefusedError(Exception):
    """A request that cannot be fulfilled; the text is for whoever sent it."""


@dataclass(eq=False)
class Slot:
    """One phone, and where it is plugged in."""

    phone: AndroidPhone | IPhone
    port: Port | None = None
    """Where it is or was last."""
    export: Export | None = None
    """While it is plugged in."""
    device: Device | None = None
    """As it is or was last on the bus."""
    plugged_at: float | None = None
    lost_with_hub: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while unplugged."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever plugs or unplugs it."""


class Phones:
    """The lab's phones, by serial."""

    def __init__(self, vhci: Vhci, lockdown: Path) -> None:
        """`lockdown` is usbmuxd's directory of pairing records."""
        self._vhci = vhci
        self._lockdown = lockdown
        self._slots: dict[str, Slot] = {}
        self._verbs = {
            "plug": self._plug,
            "unplug": self._unplug,
            "set": self._set,
            "mode": self._mode,
            "replug": self._replug,
            "plug_many": self._plug_many,
            "unplug_many": self._unplug_many,
            "hub_off": self._hub_off,
            "hub_on": self._hub_on,
            "forget": self._forget,
            "list": self._list,
        }

    async def do(self, request: Any) -> dict[str, Any]:
        """Fulfil one request of the control socket; RefusedError says why not."""
        if not isinstance(request, dict):
            raise RefusedError("a request is a JSON object")
        words = dict(request)
        verb = words.pop("verb", None)
        if verb not in self._verbs:
            raise RefusedError(f"no verb {verb!r}; there are {', '.join(self._verbs)}")
        try:
            return await self._verbs[verb](words)
        except (NoPortError, OSError) as error:
            raise RefusedError(f"{verb}: {error}") from error

    async def close(self) -> None:
        """Unplug all."""
        await self._pull(self._slots.values())

    # The verbs. Each takes the words of its request out of it; what is left over is a mistake.

    async def _plug(self, words: dict[str, Any]) -> dict[str, Any]:
        kind, hub = _take(words, "kind", str), _take(words, "hub", int, None)
        slot = self._made(kind, _take(words, "serial", str), words)
        at = await self._insert(slot, hub)
        return {**self._row(slot), "at": at}

    async def _unplug(self, words: dict[str, Any]) -> dict[str, Any]:
        slot = self._known(words)
        _done(words)
        if slot.export is None:
            raise RefusedError(f"{slot.phone.usb_serial!r} is not plugged in")
        return {"at": await self._pull([slot])}

    async def _set(self, words: dict[str, Any]) -> dict[str, Any]:
        slot = self._known(words)
        at = time.time()
        _configure(slot, words)
        return {**self._row(slot), "at": at}

    async def _mode(self, words: dict[str, Any]) -> dict[str, Any]:
        slot = self._known(words)
        delay = _take(words, "delay", float, 1.0)
        mode = _checked("mode", _take(words, "mode", str), slot.phone.kinds["mode"])
        _done(words)
        at = await self._pull([slot])
        slot.phone.set("mode", mode)
        await asyncio.sleep(delay)
        return {"off_at": at, "at": await self._insert(slot), **self._row(slot)}

    async def _replug(self, words: dict[str, Any]) -> dict[str, Any]:
        slot = self._known(words)
        delay, times = _take(words, "delay", float, 1.0), _take(words, "times", int, 1)
        _done(words)
        at = time.time()
        for turn in range(times):
            if turn:
                await asyncio.sleep(delay)
            await self._pull([slot])
            await asyncio.sleep(delay)
            await self._insert(slot)
        return {**self._row(slot), "at": at}

    async def _plug_many(self, words: dict[str, Any]) -> dict[str, Any]:
        kind, hub = _take(words, "kind", str), _take(words, "hub", int, None)
        interval = _take(words, "interval", float, 0.0)
        serials = _take(words, "serials", list, None)
        if serials is None:
            prefix = _take(words, "prefix", str)
            serials = [f"{prefix}{n:03}" for n in range(1, _take(words, "count", int) + 1)]
        slots = [self._made(kind, serial, dict(words)) for serial in serials]
        rows = []
        for turn, slot in enumerate(slots):
            if turn and interval:
                await asyncio.sleep(interval)
            at = await self._insert(slot, hub)
            rows.append({**self._row(slot), "at": at})
        return {"phones": rows}

    async def _unplug_many(self, words: dict[str, Any]) -> dict[str, Any]:
        interval = _take(words, "interval", float, 0.0)
        if _take(words, "all", bool, False):
            slots = list(self._slots.values())
        else:
            serials = _take(words, "serials", list)
            slots = [self._known({"serial": serial}) for serial in serials]
        _done(words)
        slots = [slot for slot in slots if slot.export is not None]
        at = time.time()
        if not interval:
            await self._pull(slots)
        else:
            for turn, slot in enumerate(slots):
                if turn:
                    await asyncio.sleep(interval)
                await self._pull([slot])
        return {"serials": [self._serial(slot) for slot in slots], "at": at}

    async def _hub_off(self, words: dict[str, Any]) -> dict[str, Any]:
        hub = _take(words, "hub", int)
        _done(words)
        lost = [s for s in self._slots.values() if s.export and s.port and s.port.hub == hub]
        if not lost:
            raise RefusedError(f"no phone is plugged into hub {hub}")
        at = await self._pull(lost)
        for slot in lost:
            slot.lost_with_hub = True
        return {"serials": [self._serial(slot) for slot in lost], "at": at}

    async def _hub_on(self, words: dict[str, Any]) -> dict[str, Any]:
        hub = _take(words, "hub", int)
        _done(words)
        back = [s for s in self._slots.values() if s.lost_with_hub and s.port and s.port.hub == hub]
        if not back:
            raise RefusedError(f"no phone was lost with hub {hub}")
        at = time.time()
        for slot in back:
            await self._insert(slot)
        return {"serials": [self._serial(slot) for slot in back], "at": at}

    async def _forget(self, words: dict[str, Any]) -> dict[str, Any]:
        slot = self._known(words)
        _done(words)
        at = await self._pull([slot])
        del self._slots[self._serial(slot)]
        return {"at": at}

    async def _list(self, words: dict[str, Any]) -> dict[str, Any]:
        _done(words)
        return {"phones": [self._row(slot) for slot in self._slots.values()]}

    # Phones by serial.

    def _known(self, words: dict[str, Any]) -> Slot:
        serial = _take(words, "serial", str)
        if serial not in self._slots:
            raise RefusedError(f"no phone {serial!r} was ever plugged in")
        return self._slots[serial]

    def _made(self, kind: str, serial: str, settings: dict[str, Any]) -> Slot:
        """The phone of that serial, new or known, with these settings; not plugged in."""
        slot = self._slots.get(serial)
        if slot is not None and slot.export is not None:
            raise RefusedError(f"{serial!r} is plugged in already")
        if slot is None:
            slot = Slot(self._new(kind, serial))
        elif slot.phone.kind != kind:
            raise RefusedError(f"{serial!r} is an {slot.phone.kind} phone")
        _configure(slot, settings)
        self._slots[serial] = slot
        return slot

    def _new(self, kind: str, serial: str) -> AndroidPhone | IPhone:
        if kind == AndroidPhone.kind:
            return AndroidPhone(usb_serial=serial)
        if kind == IPhone.kind:
            try:
                return IPhone(serial, self._lockdown)
            except ValueError as error:
                raise RefusedError(str(error)) from error
        raise RefusedError(f"no kind {kind!r}; there are android and iphone")

    def _serial(self, slot: Slot) -> str:
        return next(serial for serial, known in self._slots.items() if known is slot)

    # The cable.

    async def _insert(self, slot: Slot, hub: int | None = None) -> float:
        """Plug it in; returns when (wall time)."""
        async with slot.turn:
            if slot.export is not None:
                raise RefusedError(f"{self._serial(slot)!r} is plugged in already")
            await slot.phone.prepare()
            port = slot.port = await self._free_port(slot, hub)
            slot.lost_with_hub = False
            device = slot.device = slot.phone.device()
            # The port is this phone's from here on, as `_free_port` sees it.
            slot.export = export = Export(device, lambda why: self._lost(slot, export, why))
            slot.gone.clear()
            mine, theirs = socket.socketpair()
            try:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: export, mine)
                at = slot.plugged_at = time.time()
                self._vhci.attach(port, theirs.fileno())
            except OSError:
                export.unplug()
                await slot.gone.wait()
                raise
            finally:
                theirs.close()
            log.info("%s plugged into port %s (hub %s)", self._serial(slot), port.number, port.hub)
            return at

    async def _pull(self, slots: Iterable[Slot]) -> float:
        """Unplug them, all at once; returns when (wall time)."""
        at = time.time()
        pulled = [slot for slot in slots if slot.export is not None]
        for slot in pulled:
            assert slot.export is not None
            slot.export.unplug()
        for slot in pulled:
            await slot.gone.wait()
        return at

    def _lost(self, slot: Slot, export: Export, why: str) -> None:
        if slot.export is export:
            slot.export = None
            slot.gone.set()
            log.info(
                "%s unplugged%s", self._serial(slot), f": the kernel sent {why}" if why else ""
            )

    async def _free_port(self, slot: Slot, hub: int | None) -> Port:
        deadline = time.monotonic() + PATIENCE
        while True:
            taken = {other.port for other in self._slots.values() if other.export is not None}
            ports = self._vhci.ports()
            # The same again where it was, even if the kernel has not cleaned up there yet.
            wanted = [slot.port] if slot.port and hub in (None, slot.port.hub) else []
            wanted = [p for p in wanted if p not in taken] or [
                p for p in ports if p not in taken and hub in (None, p.hub)
            ]
            free = next(
                (port for port in wanted if ports.get(port) and not self._vhci.lingers(port)), None
            )
            if free is not None:
                return free
            if not wanted or time.monotonic() > deadline:
                where = "all hubs" if hub is None else f"hub {hub}"
                raise NoPortError(f"no free port on {where}; unplug a phone or name another hub")
            await asyncio.sleep(0.01)

    def _row(self, slot: Slot) -> dict[str, Any]:
        phone, port, device = slot.phone, slot.port, slot.device
        return {
            "serial": self._serial(slot),
            "kind": phone.kind,
            "plugged": slot.export is not None,
            "hub": port.hub if port else None,
            "port": port.number if port else None,
            "path": self._vhci.path(port) if port else None,
            **phone.settings(),
            "times": {
                "plugged": slot.plugged_at,
                "addressed": device.addressed_at if device else None,
                "configured": device.configured_at if device else None,
                "answered": phone.answered_at,
            },
        }


_NOTHING: Any = object()


def _take(words: dict[str, Any], name: str, kind: type, default: Any = _NOTHING) -> Any:
    """That word of the request, gone from it; RefusedError where it is missing or of no use."""
    value = words.pop(name, default)
    if value is _NOTHING:
        raise RefusedError(f"{name} is missing")
    if value is default:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return _checked(name, value, kind)


def _checked(name: str, value: Any, kind: type) -> Any:
    """A setting as its kind has it; RefusedError where it is of no use."""
    if issubclass(kind, StrEnum) and isinstance(value, str):
        try:
            return kind(value)
        except ValueError as error:
            raise RefusedError(f"{name}: {error}; there are {', '.join(kind)}") from error
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise RefusedError(f"{name} is {value!r}, which is no {kind.__name__}")
    return value


def _done(words: dict[str, Any]) -> None:
    if words:
        raise RefusedError(f"not understood: {', '.join(words)}")


def _configure(slot: Slot, settings: dict[str, Any]) -> None:
    """Set these, all of them or, where one is of no use, none."""
    phone = slot.phone
    if slot.export is not None and (fixed := settings.keys() & phone.fixed):
        raise RefusedError(f"{', '.join(sorted(fixed))} cannot change while it is plugged in")
    setters: list[Callable[[], None]] = []
    for name, value in settings.items():
        if name not in phone.kinds:
            raise RefusedError(f"an {phone.kind} phone has no {name!r}")
        setting: Any = _checked(name, value, phone.kinds[name])
        setters.append(lambda name=name, value=setting: phone.set(name, value))  # type: ignore[misc]  # one for each name
    for setter in setters:
        setter()

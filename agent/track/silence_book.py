"""Which device is silenced by what, and what its webhooks are owed. Pure: no await, clock or I/O.

A silence keeps callbacks back and nothing else: states are derived, stored and shown as ever. The
first transition that it keeps back leaves a *debt* on the device: the state that webhooks were last
told of. At the next moment in which nothing silences the device, its debt is paid with one callback
from that state to the one it is in, by the same table as any transition; where the two are equal
there is no debt. So silences may overlap, end early or be forgotten, a device may leave what is
silenced, and the agent may be down meanwhile: what is owed hangs on the device alone, is stored
with its state, and is gone in the transaction that stores the callbacks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from agent.errors import SilenceError, UnknownSilenceError
from agent.model import DeviceState, Platform, SilenceKind
from agent.text import elapsed, is_printable
from agent.udid import hubs_above, root_hub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.model import Device, DeviceRecord, Silence

MOST = 500
"""Silences at a time."""
LONGEST = 366 * 86_400.0
"""Seconds of a silence."""
TEXT_MAX = 512
"""Characters of a reason, or of a tag."""
REMEMBERED = 1000
"""Ends of silences that are told to who asks for them later."""
_NEVER: Final = "never seen"
SAID: Final[Mapping[str, DeviceState | None]] = MappingProxyType(
    {_NEVER: None, **{str(state): state for state in DeviceState}}
)
"""What `said` says, and of which state."""
_PORT = re.compile(r"[0-9]{1,4}-[0-9]{1,3}(\.[0-9]{1,3}){0,15}", re.ASCII)
_BUS = re.compile(r"(usb)?([0-9]{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Debt:
    """Something was kept back of a device."""

    before: DeviceState | None
    """The state that webhooks were last told of; None: it had never been seen."""


def said(state: DeviceState | None) -> str:
    """The state before a transition, as it is stored and logged."""
    return _NEVER if state is None else str(state)


def debt_of(record: DeviceRecord) -> Debt | None:
    """As it is stored; what makes no sense is none."""
    return Debt(SAID[record.debt]) if record.debt in SAID else None


def stored_debt(debt: Debt | None) -> str:
    """As `DeviceRecord` has it."""
    return "" if debt is None else said(debt.before)


def last_told(debt: Debt | None, state: DeviceState | None) -> DeviceState | None:
    """The state that webhooks go by, of a device that is in that one."""
    return state if debt is None else debt.before


def debt_after(
    debt: Debt | None, previous: DeviceState | None, state: DeviceState, *, silenced: bool
) -> Debt | None:
    """What is owed after a transition: nothing where it is told, or it led back."""
    before = last_told(debt, previous)
    return Debt(before) if silenced and before is not state else None


class SilenceBook:
    """All silences. One whose end has come covers nothing, whether it is still in here or not."""

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        self._silences = {silence.id: silence for silence in silences}
        self._ends: dict[str, str] = {}
        self._longest: dict[tuple[SilenceKind, str], Silence] = {}
        self._index()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._silences)

    def __contains__(self, silence_id: str) -> bool:
        """Whether there is one of that id."""
        return silence_id in self._silences

    def all(self) -> list[Silence]:
        """Oldest first."""
        return sorted(self._silences.values(), key=lambda silence: (silence.since_ms, silence.id))

    def get(self, silence_id: str) -> Silence:
        """That one.

        Raises:
            UnknownSilenceError: it has ended, or never was; the message says which.
        """
        try:
            return self._silences[silence_id]
        except KeyError:
            why = self._ends.get(silence_id, "it has ended, or never was: see 'silence list'")
            raise UnknownSilenceError(f"no silence {silence_id!r}: {why}") from None

    def of(self, device: Device, now_ms: int) -> Silence | None:
        """The silence that keeps back what is told of the device now: of several the longest."""
        if not self._longest:
            return None
        found = (self._longest.get(key) for key in _keys(device))
        in_force = [each for each in found if each is not None and each.ends_ms > now_ms]
        return max(in_force, key=lambda silence: silence.ends_ms, default=None)

    def names(self, device: Device) -> bool:
        """Whether any of them names the device, in force or not."""
        return any(key in self._longest for key in _keys(device))

    def over(self, now_ms: int) -> list[Silence]:
        """Those whose end has come."""
        return [silence for silence in self.all() if silence.ends_ms <= now_ms]

    def next_end_ms(self) -> int | None:
        """When the first of them ends; None: there is none."""
        return min((silence.ends_ms for silence in self._silences.values()), default=None)

    def add(self, silence: Silence) -> None:
        """Another one; `check` says what may be asked for."""
        self._silences[silence.id] = silence
        self._index()

    def remove(self, silence_id: str, why: str) -> None:
        """One of them ends; `why` is told to who asks for it later."""
        del self._silences[silence_id]
        self._ends[silence_id] = why
        if len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]
        self._index()

    def rename(self, old: str, new: str) -> list[Silence]:
        """A device has another UDID; the silences that name it, as they are now."""
        renamed = [
            replace(silence, value=new)
            for silence in self._silences.values()
            if (silence.kind, silence.value) == (SilenceKind.DEVICE, old)
        ]
        self._silences.update({silence.id: silence for silence in renamed})
        self._index()
        return renamed

    def _index(self) -> None:
        self._longest.clear()
        for silence in self._silences.values():
            key = silence.kind, silence.value
            other = self._longest.get(key)
            if other is None or other.ends_ms < silence.ends_ms:
                self._longest[key] = silence


def _keys(device: Device) -> Iterator[tuple[SilenceKind, str]]:
    yield SilenceKind.ALL, ""
    yield SilenceKind.DEVICE, device.udid
    yield SilenceKind.PLATFORM, device.platform
    for tag in device.tags:
        yield SilenceKind.TAG, tag
    for hub in hubs_of(device.port):
        yield SilenceKind.HUB, hub


def covered(silences: Iterable[Silence], devices: Iterable[Device]) -> dict[str, int]:
    """How many of the devices each silence names, by its id, whatever other one does."""
    named = {silence.id: (silence.kind, silence.value) for silence in silences}
    counts = dict.fromkeys(named.values(), 0)
    for device in devices:
        for key in counts.keys() & set(_keys(device)):
            counts[key] += 1
    return {id_: counts[key] for id_, key in named.items()}


def hubs_of(port: str) -> Iterator[str]:
    """All that what is at that port hangs on, itself first: `1-4.2`, `1-4`, `usb1`."""
    return iter([port, *hubs_above(port), root_hub(port)] if port else ())


def check(kind: SilenceKind, value: str, reason: str, ends_ms: int, now_ms: int) -> tuple[str, str]:
    """What may be asked for; value and reason as they are kept.

    Raises:
        SilenceError: a value that names nothing of its kind, no reason, text that is not printable,
            or an end that has passed or is too far.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise SilenceError("a silence needs a reason: those who miss a callback will read it")
    _check_text("a silence's reason", reason)
    if ends_ms <= now_ms:
        raise SilenceError("a silence's end must be to come; this one has passed")
    if ends_ms - now_ms > LONGEST * 1000:
        raise SilenceError(
            f"a silence lasts {elapsed(LONGEST)} at most: for good, set a device's visibility to "
            "'public', or a webhook's scope"
        )
    return _checked(kind, value), reason


def _checked(kind: SilenceKind, value: str) -> str:
    match kind:
        case SilenceKind.ALL:
            return ""
        case SilenceKind.PLATFORM:
            if value not in list(Platform):
                raise SilenceError(f"no platform {value!r}: {', '.join(Platform)}")
        case SilenceKind.HUB:
            bus = _BUS.fullmatch(value)
            if bus is not None:
                return f"usb{int(bus[2])}"
            if not _PORT.fullmatch(value):
                raise SilenceError(
                    f"no hub {value!r}: a hub is a USB port path as devices show it, 1-4.2, or a "
                    "bus, usb1"
                )
        case SilenceKind.TAG | SilenceKind.DEVICE:
            if not value.strip():
                raise SilenceError(f"a silence by {kind} needs its name")
            _check_text(f"the name of a {kind}", value)
    return value


def _check_text(what: str, text: str) -> None:
    if len(text) > TEXT_MAX:
        raise SilenceError(f"{what} has at most {TEXT_MAX} characters, not {len(text)}")
    if not all(map(is_printable, text)):
        raise SilenceError(f"{what} is text without control or invisible characters")

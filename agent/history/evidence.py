"""How often each phone was interrupted at each port, by what is stored. Pure; see `suspects`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model import DeviceState

if TYPE_CHECKING:
    from collections.abc import Container

    from agent.model import Transition

BACK_MS: Final = 15 * 60_000
"""Who is back at the same port within that time was not taken away."""
APART_MS: Final = 10 * 60_000
"""What comes sooner after the one before is the same interruption."""
OWN: Final = frozenset(
    {
        "unauthorized",
        "authorizing",
        "debugging_off",
        "not_trusted",
        "locked",
        "find_my",
        "managed",
        "not_activated",
        "recovery",
        "sideload",
        "rescue",
        "bootloader",
        "emergency_mode",
        "no_permissions",
        "blocked",
        "detached",
        "not_a_phone",
        "source_off",
        "ios_support_missing",
        "busy",
        "refused",
        "source_down",
        "source_lost",
        "controller_lost",
        "host_lost",
        "host_silent",
        "host_began_anew",
        "moving",
    }
)
"""Codes of what is no fault of a cable, a port or a hub."""
_WORSE: Final = {
    DeviceState.ONLINE: 0,
    DeviceState.UTILIZING: 0,
    DeviceState.OFFLINE: 1,
    DeviceState.UNPLUGGED: 2,
}


class Pair(NamedTuple):
    """A phone at a port."""

    host: str
    udid: str
    port: str


@dataclass(slots=True)
class Cell:
    """What happened to one pair."""

    ms: int = 0
    """How long the phone was there."""
    at: list[int] = field(default_factory=list)
    """Its interruptions, each when it began."""


class Move(NamedTuple):
    """What is needed of a transition: to read it takes a third of the time of a whole one."""

    id: int
    udid: str
    state: DeviceState
    at_ms: int
    host: str
    code: str
    cause: str
    port: str
    reason: str
    """Of one that has a cause; else empty."""


@dataclass(slots=True)
class _Phone:
    """Where one stands, by its transitions."""

    since: int
    """From when on its stay there is not counted yet."""
    at: int
    """Of its last transition: time does not go back."""
    state: DeviceState
    host: str
    port: str
    left: tuple[int, str] | None = None
    """When it left which port, for a reason that counts."""
    cell: Cell | None = None
    """Of where it stands; None: there is none yet, or it was not looked up."""


class Evidence:
    """Takes transitions in the order of their ids, and counts.

    Args:
        since: from when on, in wall-clock milliseconds.
        until: up to when.
    """

    def __init__(self, since: int, until: int) -> None:
        self.cells: dict[Pair, Cell] = {}
        self.hubs_lost: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        """By host and hub: when each cause began."""
        self._since = since
        self._until = until
        self._phones: dict[str, _Phone] = {}

    def take(self, move: Move | Transition, hub: str = "") -> None:
        """The next one; of one with a cause that is a hub: which."""
        udid, state, port, host = move.udid, move.state, move.port, move.host
        phone = self._phones.get(udid)
        if phone is None:
            at = move.at_ms
            self._phones[udid] = _Phone(at, at, state, host, port)
        else:
            at = max(move.at_ms, phone.at)
            if not (_WORSE[state] or _WORSE[phone.state] or hub) and (
                phone.port == port and phone.host == host and phone.left is None
            ):
                phone.at, phone.state = at, state  # most are of this kind: taken, given back
                return
            if phone.since < at:
                self._stay(udid, phone, at)
            left = phone.left if phone.host == host else None
            if _WORSE[state] > _WORSE[phone.state]:
                counts = port and not move.cause and move.code not in OWN
                left = (left or (at, port)) if counts else None
            elif not _WORSE[state]:
                if left is not None and left[1] == port and at - left[0] <= BACK_MS:
                    self._interrupted(Pair(host, udid, port), left[0])
                left = None
            if phone.port != port or phone.host != host:
                phone.host, phone.port, phone.cell = host, port, None
            phone.at, phone.state, phone.left = at, state, left
        if hub and move.cause and self._since <= at < self._until:
            self.hubs_lost[host, hub].setdefault(move.cause, at)

    def close(self, followed: Container[str]) -> None:
        """There are no more: each phone that is followed stays as it is.

        Of others (renamed since, ignored, their platform turned off) nobody knows how they went on.
        """
        for udid, phone in self._phones.items():
            if udid in followed:
                self._stay(udid, phone, self._until)

    def _stay(self, udid: str, phone: _Phone, until: int) -> None:
        begin, end = max(phone.since, self._since), min(until, self._until)
        phone.since = until
        if phone.port and begin < end and phone.state is not DeviceState.UNPLUGGED:
            if phone.cell is None:
                pair = Pair(phone.host, udid, phone.port)
                phone.cell = self.cells.setdefault(pair, Cell())
            phone.cell.ms += end - begin

    def _interrupted(self, pair: Pair, at: int) -> None:
        if not self._since <= at < self._until:
            return
        cell = self.cells.setdefault(pair, Cell())
        if not cell.at or at - cell.at[-1] >= APART_MS:
            cell.at.append(at)

"""A UTC day of all phones, packed into some bytes of each. Pure.

What is left of a day once its transitions are old: its figures (`agent.history.replay`), and how
each phone stands at its end, so that the next day can be gone on with. A packed day is

    1 byte    `OPEN`: its transitions are there, it may be packed anew; `FINAL`: they are not;
              `FOREIGN`: they are not, and the ids of transitions have begun anew since
    4 bytes   how long the next part is, the lowest first
    UDIDs     a JSON list, with zlib: a year of days that have the same is read once
    4 bytes   how long the next part is
    packed    with zlib: a JSON head, and planes of columns
    the rest  the other planes, as they are: what seems random, zlib makes no shorter, and slower

The head has the other words (hosts, ports, codes); the columns are of phones; of further places, at
which a phone was before the one where it ended the day; of both kinds of places in that order, and
of the reasons at each. The numbers of a column are all of some bytes,
and a plane is one byte of each: high bytes are nearly all zero. What can be reckoned from another
column is stored as the difference, which is mostly nothing: `online` as all time at that place,
seen or not; `repair_ms` less the time offline and unplugged.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import add, ne, sub
from typing import TYPE_CHECKING, Any, Final

from agent.history.replay import DOWN, STATES, Figures, Place, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_MS: Final = 86_400_000
OPEN: Final = b"\x01"
FINAL: Final = b"\x02"
FOREIGN: Final = b"\x03"
_PACKED, _PLAIN = "zp"
_WORTH: Final = 0.9
"""What a plane must shrink to, or it is left as it is."""
_AT_ONCE: Final = 16
"""Days that are added up at once."""
_N: Final = len(STATES)
_DOWN: Final = tuple(number for number, state in enumerate(STATES) if state in DOWN)
_CODES: Final = "BHIq"
"""Types of a column: 1, 2, 4 or 8 bytes, the last with a sign."""
_SIZES: Final = {"B": 1, "H": 2, "I": 4, "q": 8}
# Of a phone, of a place, of a reason: how many, and by which type.
_OF_PHONE: Final = ("state", "ago", "code", "host", "port", "down_ago", "down_ms")
_OF_EXTRA: Final = ("phone", "host", "port")
_OF_PLACE: Final = (
    "all",
    *(f"ms{number}" for number in range(1, _N)),
    "unseen",
    *(f"entered{number}" for number in range(_N)),
    "repairs",
    "repair_more",
    "flaps",
    "reasons",
)
_OF_REASON: Final = ("code", "count", "ms")


def day_of(ms: int) -> int:
    """The number of the UTC day in which that is; days are counted from 1970."""
    return ms // DAY_MS


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it is packed."""

    end_ms: int
    through: int
    """Id of the last transition that was there when it was reckoned up."""
    last: int
    """Of the last one that may count in it."""
    next: int
    """Of the first that may count in a later one."""
    standing: Mapping[str, Standing]
    figures: Mapping[Place, Figures]


_Rows = list[tuple[int, ...]]


class _Words:
    """Words by numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        return self.numbers.setdefault(word, len(self.numbers))

    def all(self) -> list[str]:
        return list(self.numbers)


def pack(day: Day) -> bytes:
    """All of it; see the top of this file."""
    hosts, ports, codes = _Words(), _Words(), _Words()
    phones, extras, places, reasons = _Rows(), _Rows(), _Rows(), _Rows()
    udids = sorted(day.standing)
    numbers = {udid: number for number, udid in enumerate(udids)}
    ends = [Place(udid, day.standing[udid].host, day.standing[udid].port) for udid in udids]
    others = sorted(day.figures.keys() - set(ends))
    for udid in udids:
        standing = day.standing[udid]
        phones.append(
            (
                STATES.index(standing.state),
                day.end_ms - standing.at,
                codes.number(standing.code),
                hosts.number(standing.host),
                ports.number(standing.port),
                # 0: it has none; one that it has began before the day's end.
                0 if standing.down_at is None else day.end_ms - standing.down_at,
                standing.down_ms,
            )
        )
    for place in others:
        extras.append((numbers[place.udid], hosts.number(place.host), ports.number(place.port)))
    for place in (*ends, *others):
        figures = day.figures.get(place) or Figures()
        places.append(
            (
                sum(figures.ms) + figures.unseen,
                *figures.ms[1:],
                figures.unseen,
                *figures.entered,
                figures.repairs,
                figures.repair_ms - sum(figures.ms[number] for number in _DOWN),
                figures.flaps,
                len(figures.reasons),
            )
        )
        reasons += [
            (codes.number(code), *counted) for code, counted in sorted(figures.reasons.items())
        ]
    columns = [
        *_columns(_OF_PHONE, phones),
        *_columns(_OF_EXTRA, extras),
        *_columns(_OF_PLACE, places),
        *_columns(_OF_REASON, reasons),
    ]
    planes = [plane for column in columns for plane in _planes(column)]
    plain = [len(zlib.compress(plane, 1)) > _WORTH * len(plane) for plane in planes]
    head = {
        "end": day.end_ms,
        "through": day.through,
        "last": day.last,
        "next": day.next,
        "types": "".join(column.typecode for column in columns),
        "planes": "".join(_PLAIN if each else _PACKED for each in plain),
        "rows": [len(phones), len(extras), len(places), len(reasons)],
        "hosts": hosts.all(),
        "ports": ports.all(),
        "codes": codes.all(),
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    packed = [plane for plane, is_plain in zip(planes, plain, strict=True) if not is_plain]
    first = zlib.compress(b"".join((_size(text), text, *packed)))
    rest = [plane for plane, is_plain in zip(planes, plain, strict=True) if is_plain]
    named = zlib.compress(json.dumps(udids, separators=(",", ":")).encode())
    return b"".join((OPEN, _size(named), named, _size(first), first, *rest))


def _columns(names: Sequence[str], rows: Sequence[tuple[int, ...]]) -> list[array[int]]:
    if not rows:
        return [array("B") for _ in names]
    return [array(_type(column), column) for column in zip(*rows, strict=True)]


class _Udids:
    """Those of the last day that was read: the next one mostly has the same."""

    def __init__(self) -> None:
        self.packed = b""
        self._udids: list[str] = []

    def read(self, packed: bytes) -> list[str]:
        if packed != self.packed:
            self._udids = json.loads(zlib.decompress(packed))
            self.packed = packed
        return self._udids


class _Unpacked:
    """A packed day, its columns as they are read."""

    def __init__(self, packed: bytes, known: _Udids) -> None:
        first = 5 + int.from_bytes(packed[1:5], "little")
        self.udids = known.read(packed[5:first])
        begin, first = first + 4, first + 4 + int.from_bytes(packed[first : first + 4], "little")
        text = zlib.decompress(packed[begin:first])
        at = 4 + int.from_bytes(text[:4], "little")
        head: dict[str, Any] = json.loads(text[4:at])
        self.end_ms: int = head["end"]
        self.through: int = head["through"]
        self.last: int = head["last"]
        self.next: int = head["next"]
        self.hosts: list[str] = head["hosts"]
        self.ports: list[str] = head["ports"]
        self.codes: list[str] = head["codes"]
        lengths = [
            rows
            for rows, names in zip(
                head["rows"], (_OF_PHONE, _OF_EXTRA, _OF_PLACE, _OF_REASON), strict=True
            )
            for _ in names
        ]
        # Of each section, and where its next plane begins.
        sections = {_PACKED: (text, at), _PLAIN: (packed, first)}
        kinds = iter(head["planes"])
        columns = []
        for type_, length in zip(head["types"], lengths, strict=True):
            planes = []
            for _ in range(_SIZES[type_]):
                kind = next(kinds)
                section, at = sections[kind]
                planes.append(section[at : at + length])
                sections[kind] = section, at + length
            columns.append(_joined(type_, length, planes))
        names = iter(columns)
        self.phone = {name: next(names) for name in _OF_PHONE}
        self.extra = {name: next(names) for name in _OF_EXTRA}
        self.place = {name: next(names) for name in _OF_PLACE}
        self.reason = {name: next(names) for name in _OF_REASON}

    def extras(self) -> list[Place]:
        """The further places."""
        return [
            Place(self.udids[phone], self.hosts[host], self.ports[port])
            for phone, host, port in zip(*self.extra.values(), strict=True)
        ]


def _unpacked(packed: bytes, known: _Udids) -> _Unpacked:
    """ValueError: it makes no sense."""
    try:
        return _Unpacked(packed, known)
    except (zlib.error, LookupError, TypeError, StopIteration) as error:
        raise ValueError(f"a packed day makes no sense: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Left:
    """What the next day begins with."""

    end_ms: int = 0
    through: int = 0
    last: int = 0
    next: int = 0
    standing: dict[str, Standing] = field(default_factory=dict)
    final: bool = False
    """Nothing that is written of that day, or of one before it, changes it any more."""


def left_of(packed: bytes) -> Left:
    """How each phone stands at the end of a packed day. ValueError: it makes no sense."""
    day = _unpacked(packed, _Udids())
    end = day.end_ms
    columns = [day.phone[name] for name in _OF_PHONE]
    standing = {
        udid: Standing(
            end - ago,
            STATES[state],
            day.codes[code],
            day.hosts[host],
            day.ports[port],
            end - down_ago if down_ago else None,
            down_ms,
        )
        for udid, state, ago, code, host, port, down_ago, down_ms in zip(
            day.udids, *columns, strict=True
        )
    }
    mark = packed[:1]
    if mark == FOREIGN:
        return Left(end, standing=standing, final=True)
    return Left(end, day.through, day.last, day.next, standing, mark != OPEN)


class Sums:
    """Figures of many packed days, added up.

    Most days have the same phones, and most phones end one where they ended the one before. So the
    columns of such days wait, and are added up at once, phone by phone; what a phone had before it
    moved is taken from where it is then, and given to where it was.
    """

    def __init__(self) -> None:
        self._udids = _Udids()
        self._known = b""
        """The UDIDs of the last day."""
        self._hosts, self._ports = _Words(), _Words()
        self._ends: tuple[list[int], list[int]] = ([], [])
        """At which host and port each phone ended the last day, by these words."""
        self._rows: dict[Place, int] = {}
        self._at: list[int] = []
        """The row of each phone, by where it ended the last day."""
        self._sums: dict[str, list[int]] = {name: [] for name in _OF_PLACE[:-1]}
        self._waiting: dict[str, list[Sequence[int]]] = {name: [] for name in self._sums}
        """Columns of days with the same phones, to be added up."""
        self._left: dict[int, list[tuple[dict[str, int], int]]] = {}
        """Of phones that moved in these days: up to which of the columns they were at which row."""
        self._reasons: dict[str, tuple[list[int], list[int]]] = {}
        """By code: how often and how long, by row."""

    def add(self, packed: bytes) -> None:
        """Another day's. ValueError: it makes no sense."""
        day = _unpacked(packed, self._udids)
        self._follow(day)
        extras = [self._row(place) for place in day.extras()]
        count = len(day.udids)
        for name, waiting in self._waiting.items():
            column = day.place[name]
            if isinstance(column, bytes):  # nothing but zeros
                continue
            waiting.append(column[:count] if extras else column)
            if extras:
                sums = self._sums[name]
                for row, value in zip(extras, column[count:], strict=True):
                    sums[row] += value
        self._add_reasons(day, [*self._at, *extras])
        if max(map(len, self._waiting.values())) >= _AT_ONCE:
            self._add_up()

    def _row(self, place: Place) -> int:
        if (row := self._rows.get(place)) is None:
            row = self._rows[place] = len(self._rows)
            for sums in self._sums.values():
                sums.append(0)
        return row

    def _follow(self, day: _Unpacked) -> None:
        """Know the row of each phone."""
        hosts = [self._hosts.number(each) for each in day.hosts]
        ports = [self._ports.number(each) for each in day.ports]
        ends = (
            list(map(hosts.__getitem__, day.phone["host"])),
            list(map(ports.__getitem__, day.phone["port"])),
        )
        if self._udids.packed != self._known:
            self._add_up()
            self._known = self._udids.packed
            moved: Iterable[int] = range(len(day.udids))
            self._at = [0] * len(day.udids)
        elif ends == self._ends:
            return
        else:
            moved = _differ(ends, self._ends)
            until = {name: len(waiting) for name, waiting in self._waiting.items()}
            for phone in moved:
                self._left.setdefault(phone, []).append((until, self._at[phone]))
        for phone in moved:
            host, port = day.phone["host"][phone], day.phone["port"][phone]
            self._at[phone] = self._row(Place(day.udids[phone], day.hosts[host], day.ports[port]))
        self._ends = ends

    def _add_up(self) -> None:
        for name, waiting in self._waiting.items():
            if not waiting:
                continue
            sums = self._sums[name]
            by_phone = list(zip(*waiting, strict=True))
            for row, value in zip(self._at, map(sum, by_phone), strict=True):
                sums[row] += value
            for phone, stays in self._left.items():
                begin = 0
                for until, row in stays:
                    end = until[name]
                    there = sum(by_phone[phone][begin:end])
                    sums[row] += there
                    sums[self._at[phone]] -= there
                    begin = end
            waiting.clear()
        self._left.clear()

    def _add_reasons(self, day: _Unpacked, at: Sequence[int]) -> None:
        rows = chain.from_iterable(map(repeat, at, day.place["reasons"]))
        by_code = [self._reasons.setdefault(code, ([], [])) for code in day.codes]
        for sums in (each for both in by_code for each in both):
            sums.extend([0] * (len(self._rows) - len(sums)))
        for row, code, count, ms in zip(
            rows, day.reason["code"], day.reason["count"], day.reason["ms"], strict=True
        ):
            counts, times = by_code[code]
            counts[row] += count
            times[row] += ms

    def figures(self) -> dict[Place, Figures]:
        """Of all days together, by place."""
        self._add_up()
        sums = self._sums
        down = [sum(row) for row in zip(*(sums[f"ms{number}"] for number in _DOWN), strict=True)]
        repaired = list(map(add, sums["repair_more"], down))
        online = list(sums["all"])
        for name in ("unseen", *(f"ms{number}" for number in range(1, _N))):
            online = list(map(sub, online, sums[name]))
        columns = zip(
            online,
            *(sums[f"ms{number}"] for number in range(1, _N)),
            sums["unseen"],
            *(sums[f"entered{number}"] for number in range(_N)),
            sums["repairs"],
            repaired,
            sums["flaps"],
            strict=True,
        )
        found = {
            place: Figures(
                list(row[:_N]),
                row[_N],
                list(row[_N + 1 : 2 * _N + 1]),
                row[2 * _N + 1],
                row[2 * _N + 2],
                row[2 * _N + 3],
            )
            for place, row in zip(self._rows, columns, strict=True)
        }
        places = list(self._rows)
        for code, (counts, times) in self._reasons.items():
            for place, count, ms in zip(places, counts, times, strict=False):
                if count or ms:
                    found[place].reasons[code] = [count, ms]
        return found


def _differ(now: Iterable[list[int]], then: Iterable[list[int]]) -> set[int]:
    """Where one of the lists has another number than before."""
    found: set[int] = set()
    for both in zip(now, then, strict=True):
        if both[0] != both[1]:
            found.update(n for n, differ in enumerate(map(ne, *both)) if differ)
    return found


def _type(column: Sequence[int]) -> str:
    """The smallest that holds all of it."""
    low, high = min(column, default=0), max(column, default=0)
    if low < 0:
        return "q"
    return next(type_ for type_ in _CODES if high < 1 << (8 * _SIZES[type_] - (type_ == "q")))


def _size(part: bytes) -> bytes:
    return len(part).to_bytes(4, "little")


def _planes(column: array[int]) -> list[bytes]:
    if sys.byteorder == "big":
        column.byteswap()
    raw, size = column.tobytes(), column.itemsize
    return [raw[place::size] for place in range(size)]


def _joined(type_: str, length: int, planes: Sequence[bytes]) -> Sequence[int]:
    """The column; ValueError: it is cut short."""
    if any(len(plane) != length for plane in planes):
        raise ValueError("it is cut short")
    if not any(plane.strip(b"\0") for plane in planes):
        return bytes(length)
    raw = bytearray(len(planes) * length)
    for place, plane in enumerate(planes):
        raw[place :: len(planes)] = plane
    column = array(type_)
    column.frombytes(bytes(raw))
    if sys.byteorder == "big":
        column.byteswap()
    return column

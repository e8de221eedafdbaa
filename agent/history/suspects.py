"""What is to be changed: a phone, a port or its cable, a hub. Pure.

Theory of operation. A phone, a cable or a hub that is about to fail shows by *interruptions*
(`evidence`): the phone leaves and is back at the same port within `BACK_MS`. Whoever takes a phone
away by hand, or moves it, makes none; nor does one that says itself why it cannot be used, or whose
source or host was down (`OWN`). What comes again within `APART_MS` is one interruption. Phones that
left together (a cause) make none either: a hub that was lost counts once, for the hub.

Interruptions and the time in which the phone was there are counted for each pair of phone and port.
Of a phone (at all its ports), a port (with all its phones) and a hub (all below it) they are held
against the rate of all the rest of that host's rack. Healthy ones differ too: their rates are taken
to vary as a Gamma, so that how many a healthy one may have is a negative binomial, whose tail is
the evidence. How much they differ is told by the rack itself (`_tell_shape`): by the four fifths of
its phones with the fewest, whom no fault has touched. One is named where all of this holds:

- it has at least `LEAST` interruptions, on at least `DAYS` days;
- that is at least `TIMES` as many as the rest would have had in that time;
- a healthy one would have so many with less than `CHANCE`, over all that were looked at
  (Bonferroni).

A hub needs that without its worst port and its worst phone, too, and `SPREAD` of each; or it was
lost as a whole at least `LOST` times, on at least `DAYS` days.

Whether it is the phone or the port is told by the likelihood of either, over all ports of the phone
and all phones of the port: where one is `SURE` times as likely it is that one, else it may be
either, and swapping them finds it out. The one with the strongest evidence is named first, and what
it explains is taken out before the next is looked for; so a bad phone does not make its port bad.
How often all that is right: `benchmarks/suspects.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.history.days import day_of
from agent.udid import hubs_above

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from agent.history.evidence import Cell, Evidence, Pair

LEAST: Final = 5
"""Fewer may be an unlucky month, whatever the others have."""
DAYS: Final = 2
"""All on one day may be somebody's work at the rack."""
TIMES: Final = 4.0
"""What is rarer than that is not worth anybody's way to the rack."""
CHANCE: Final = 0.01
"""Of one false name among all phones, or all ports, or all hubs of a rack."""
SHAPES: Final = (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25)
"""Of the Gamma: 2 is a standard deviation of 0.7 of the mean, 0.25 of twice the mean. Phones are
never taken to be more alike than by the first, which stands where they are too few to tell."""
ENOUGH: Final = 20
"""Phones that tell how much they differ."""
ASKED: Final = 250
"""Of more phones so many are asked."""
ORDINARY: Final = 0.8
"""The share of phones that is taken to be healthy, those with the fewest."""
SPREAD: Final = 3
"""Ports, and phones, that suffer below a bad hub."""
LOST: Final = 3
"""A hub that was lost twice may have been moved."""
SURE: Final = 20.0
"""Between the phone and its port: 20 to 1."""
MOST: Final = 20
"""Suspects of one host that are named: beyond that the rack is at fault."""
_HOUR_MS: Final = 3_600_000


class SuspectKind(StrEnum):
    """What is to be changed."""

    PHONE = "phone"
    PORT = "port"
    HUB = "hub"
    EITHER = "phone_or_port"


class Suspect(NamedTuple):
    """One that is to be changed, and why."""

    kind: SuspectKind
    host: str
    """"": this one."""
    udid: str
    """"": no phone."""
    port: str
    """Of a port and a hub; of a phone that was always there: its port; "": none."""
    times: int
    """Interruptions; of a hub that was lost as a whole: how often."""
    days: int
    """On how many days."""
    expected: float
    """How many the rest of the rack would have had in that time."""
    hours: float
    """In which a phone was there."""
    others: int
    """Of a phone: at how many ports; of a port and a hub: how many phones."""
    lost: bool = False
    """Of a hub: it was lost as a whole."""

    @property
    def evidence(self) -> str:
        """In operators' words."""
        if self.lost:
            return f"lost as a whole {self.times} times, on {self.days} days"
        rest = f"{self.expected:.1f}" if self.expected >= 0.05 else "fewer than 0.1"  # noqa: PLR2004 - as it is rounded
        told = (
            f"{self.times} interruptions on {self.days} days; in that time the rest of the rack "
            f"has {rest}"
        )
        match self.kind:
            case SuspectKind.PHONE:
                return f"{told}; at {_some(self.others, 'port')}"
            case SuspectKind.EITHER:
                return f"{told}; nothing tells the phone from its port and cable"
            case _:
                return f"{told}; with {_some(self.others, 'phone')}"

    @property
    def advice(self) -> str:
        """What to do."""
        match self.kind:
            case SuspectKind.PHONE:
                return (
                    "the phone leaves wherever it hangs: look at its socket, battery and software, "
                    "then replace it"
                )
            case SuspectKind.PORT:
                return "whatever hangs there leaves: change the cable, then use another port"
            case SuspectKind.HUB:
                return "change the hub's power supply, then its cable, then the hub"
            case SuspectKind.EITHER:
                return (
                    "swap it, without its cable, with a phone that is well: what leaves from then "
                    "on says whether it is the phone, or the port and its cable"
                )


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def suspects(evidence: Evidence) -> list[Suspect]:
    """Those that the evidence names, the strongest of each host first; none below it."""
    return [each for each in judged(evidence) if each is not None]


def judged(evidence: Evidence) -> Iterator[Suspect | None]:
    """The same, in steps of some 10 ms for a thousand phones; None where it only goes on."""
    hosts = sorted({pair.host for pair in evidence.cells} | {h for h, _ in evidence.hubs_lost})
    for host in hosts:
        cells = {pair: cell for pair, cell in evidence.cells.items() if pair.host == host}
        lost = {hub: at for (of, hub), at in evidence.hubs_lost.items() if of == host}
        whole = list(_lost_hubs(host, lost, cells))
        yield from whole
        yield from _Rack(host, cells, {suspect.port for suspect in whole}).judged()


def _lost_hubs(
    host: str, lost: Mapping[str, Mapping[str, int]], cells: Mapping[Pair, Cell]
) -> Iterator[Suspect]:
    ordered = sorted(lost.items(), key=lambda each: (-len(each[1]), each[0]))
    for hub, causes in ordered:
        days = len({day_of(at) for at in causes.values()})
        if len(causes) >= LOST and days >= DAYS:
            below = [pair for pair in cells if hub in hubs_above(pair.port)]
            hours = sum(cells[pair].ms for pair in below) / _HOUR_MS
            phones = len({pair.udid for pair in below})
            yield Suspect(
                SuspectKind.HUB, host, "", hub, len(causes), days, 0.0, hours, phones, lost=True
            )


class _Sum(NamedTuple):
    """Of several cells."""

    times: int
    ms: int
    days: int

    @classmethod
    def of(cls, cells: Collection[Cell]) -> _Sum:
        """All of them together."""
        at = [each for cell in cells for each in cell.at]
        return cls(len(at), sum(cell.ms for cell in cells), len({day_of(each) for each in at}))


class _Rack:
    """One host's cells, from which those are taken that are explained."""

    def __init__(self, host: str, cells: dict[Pair, Cell], named: set[str]) -> None:
        self._host = host
        self._cells = dict(cells)
        self._shape = SHAPES[0]
        self._named = named
        """Hubs that are named already."""

    def judged(self) -> Iterator[Suspect | None]:
        """One after the other; None where it only goes on."""
        yield from self._tell_shape()
        for _ in range(MOST):
            suspect = self._strongest()
            if suspect is None:
                return
            yield suspect

    def _strongest(self) -> Suspect | None:
        groups = self._groups()
        total = _Sum.of(self._cells.values())
        best: tuple[float, int, str, list[Pair]] | None = None
        for number, (kind, of) in enumerate(groups.items()):
            for name, pairs in of.items():
                chance = self._chance(pairs, total) * len(of)
                if chance >= CHANCE or (best is not None and chance >= best[0]):
                    continue
                if kind is SuspectKind.HUB and not self._is_hub(name, pairs, total, len(of)):
                    continue
                best = chance, number, name, pairs
        if best is None:
            return None
        _, number, name, pairs = best
        kind = list(groups)[number]
        if kind is not SuspectKind.HUB:
            kind, pairs = self._phone_or_port(pairs, total)
        return self._name(kind, name, pairs, total)

    def _tell_shape(self) -> Iterator[None]:
        """The shape by which the ordinary phones' numbers are the likeliest.

        Of the others it is only used that they have more: so a bad phone is not what shows how bad
        a healthy one may be.
        """
        phones: defaultdict[str, list[Cell]] = defaultdict(list)
        for pair, cell in self._cells.items():
            phones[pair.udid].append(cell)
        asked = sorted(phones)[:: -(-len(phones) // ASKED) or 1]
        of = [_Sum.of(phones[udid]) for udid in asked]
        numbers = sorted(each.times for each in of)
        total, ms = sum(numbers), sum(each.ms for each in of)
        if len(of) < ENOUGH or not total:
            return
        most, best = numbers[int(len(numbers) * ORDINARY)], -math.inf
        for shape in SHAPES:
            yield
            found = 0.0
            for each in of:
                mean = max(total / ms * each.ms, 1e-9)
                if each.times <= most:
                    found += _log(each.times, mean, shape)
                else:
                    found += math.log(max(tail(most + 1, mean, shape), 1e-300))
            if found > best:
                best, self._shape = found, shape

    def _groups(self) -> dict[SuspectKind, dict[str, list[Pair]]]:
        phones: defaultdict[str, list[Pair]] = defaultdict(list)
        ports: defaultdict[str, list[Pair]] = defaultdict(list)
        hubs: defaultdict[str, list[Pair]] = defaultdict(list)
        for pair in self._cells:
            phones[pair.udid].append(pair)
            ports[pair.port].append(pair)
            for hub in hubs_above(pair.port):
                hubs[hub].append(pair)
        return {SuspectKind.HUB: hubs, SuspectKind.PORT: ports, SuspectKind.PHONE: phones}

    def _sum(self, pairs: Iterable[Pair]) -> _Sum:
        return _Sum.of([self._cells[pair] for pair in pairs])

    def _expected(self, of: _Sum, total: _Sum) -> float:
        """How many interruptions all the others would have had in its time."""
        # Half of one is added: a rack without any has not been seen to have none for ever.
        return (total.times - of.times + 0.5) / max(1, total.ms - of.ms) * of.ms

    def _chance(self, pairs: Iterable[Pair], total: _Sum) -> float:
        """That a healthy one has so many; 1 where there is too little to say anything."""
        of = self._sum(pairs)
        expected = self._expected(of, total)
        if of.times < LEAST or of.days < DAYS or of.times < TIMES * expected or of.ms >= total.ms:
            return 1.0
        return tail(of.times, expected, self._shape)

    def _is_hub(self, name: str, pairs: list[Pair], total: _Sum, looked_at: int) -> bool:
        """Whether it is the hub, and not one port or phone below it."""
        if name in self._named:
            return False
        bad = [pair for pair in pairs if self._cells[pair].at]
        for part in _part_of(SuspectKind.PORT), _part_of(SuspectKind.PHONE):
            if len({part(pair) for pair in bad}) < SPREAD:
                return False
            worst = max(
                {part(pair) for pair in pairs},
                key=lambda one: self._sum(p for p in pairs if part(p) == one).times,
            )
            rest = [pair for pair in pairs if part(pair) != worst]
            if self._chance(rest, total) * looked_at >= CHANCE:
                return False
        return True

    def _phone_or_port(self, pairs: list[Pair], total: _Sum) -> tuple[SuspectKind, list[Pair]]:
        """Which of the two it is, by the pair in which most happened."""
        worst = max(pairs, key=lambda pair: len(self._cells[pair].at))
        phone = [pair for pair in self._cells if pair.udid == worst.udid]
        port = [pair for pair in self._cells if pair.port == worst.port]
        both = {*phone, *port}
        rest = self._sum(both)
        base = (total.times - rest.times + 0.5) / max(1, total.ms - rest.ms)
        by_phone, by_port = (self._likelihood(each, both, base) for each in (phone, port))
        if by_phone - by_port >= math.log(SURE):
            return SuspectKind.PHONE, phone
        if by_port - by_phone >= math.log(SURE):
            return SuspectKind.PORT, port
        return SuspectKind.EITHER, [worst]

    def _likelihood(self, guilty: Iterable[Pair], all_: Iterable[Pair], base: float) -> float:
        """Its logarithm: these have one rate of their own, the others that of the rest."""
        of = self._sum(guilty)
        rate = max(of.times / max(1, of.ms), base)
        found = of.times * math.log(rate) - rate * of.ms
        for pair in set(all_) - set(guilty):
            cell = self._cells[pair]
            found += len(cell.at) * math.log(base) - base * cell.ms
        return found

    def _name(self, kind: SuspectKind, name: str, pairs: list[Pair], total: _Sum) -> Suspect:
        of = self._sum(pairs)
        one = pairs[0]
        is_phone = kind in {SuspectKind.PHONE, SuspectKind.EITHER}
        ports = {pair.port for pair in pairs}
        port = name if kind is SuspectKind.HUB else one.port if len(ports) == 1 else ""
        found = Suspect(
            kind,
            self._host,
            one.udid if is_phone else "",
            port,
            of.times,
            of.days,
            self._expected(of, total),
            of.ms / _HOUR_MS,
            len(ports) if is_phone else len({pair.udid for pair in pairs}),
        )
        for pair in pairs:
            del self._cells[pair]
        return found


def _part_of(kind: SuspectKind) -> Callable[[Pair], str]:
    if kind is SuspectKind.PORT:
        return lambda pair: pair.port
    return lambda pair: pair.udid


def tail(number: int, mean: float, shape: float) -> float:
    """The chance of so many or more, of a negative binomial with that mean."""
    if number <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    ratio = mean / (shape + mean)
    term, found = math.exp(_log(number, mean, shape)), 0.0
    while term > found * 1e-12:
        found += term
        term *= (number + shape) / (number + 1) * ratio
        number += 1
    return min(1.0, found)


def _log(number: int, mean: float, shape: float) -> float:
    """The logarithm of the chance of just so many."""
    return (
        math.lgamma(number + shape)
        - math.lgamma(shape)
        - math.lgamma(number + 1)
        + shape * math.log(shape / (shape + mean))
        + number * math.log(mean / (shape + mean))
    )

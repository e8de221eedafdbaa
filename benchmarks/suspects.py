"""Planted faults: how often the right thing is named, another one, or one of a healthy rack.

Racks of 192 or 200 phones, 30 days each. Healthy phones are interrupted now and then, each at a
rate of its own (Gamma), are taken away for hours by hand, and some are swapped once with another
phone. One fault is planted: a phone, a port (or its cable), or a hub whose ports all suffer or that
is lost as a whole. *Named*: the very thing. *Either*: "this phone or its port: swap them", where it
is one of the two. *Wrong*: whatever else is named, beside it or instead of it.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from agent.history.days import DAY_MS
from agent.history.evidence import Evidence
from agent.history.suspects import SuspectKind, suspects
from agent.model import DeviceState, Transition
from agent.udid import hubs_above
from benchmarks.report import Figure, table
from benchmarks.trees import racks, towers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.history.suspects import Suspect

TREES = (towers, racks)
DAYS = 30
MIN_MS = 60_000
ONLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.UNPLUGGED


@dataclass(frozen=True)
class Life:
    """How healthy phones live."""

    what: str
    per_day: float
    """Interruptions, on average."""
    shape: float
    """How much phones differ: 2 is what the rule takes for granted, less is more."""
    taken: float = 0.2
    """How often somebody takes one away, a day."""
    moved: float = 0.3
    """How many are swapped with another one, once."""


QUIET = Life("0.05 a day", 0.05, 2.0)
LIVES = (
    QUIET,
    Life("0.05 a day, very unlike", 0.05, 0.7),
    Life("0.5 a day", 0.5, 2.0),
    Life("0.5 a day, very unlike", 0.5, 0.7),
)


@dataclass
class Rack:
    """One host's month."""

    ports: Sequence[str]
    life: Life
    random: Random
    bad_phone: dict[str, float] = field(default_factory=dict)
    """More interruptions a day."""
    bad_port: dict[str, float] = field(default_factory=dict)
    bad_hub: dict[str, float] = field(default_factory=dict)
    """Of each of its ports."""
    lost_hub: dict[str, float] = field(default_factory=dict)
    """As a whole."""

    def __post_init__(self) -> None:
        self.stays: list[tuple[str, str, int, int]] = []
        """Phone, port, from, to."""
        self.lost: list[tuple[int, str]] = []

    def live(self) -> list[tuple[int, str, str, bool, str, str]]:
        """(at, phone, port, comes, cause, hub), in order."""
        self._hang()
        end = DAYS * DAY_MS
        for hub, rate in self.lost_hub.items():
            self.lost += [(at, hub) for at in self._moments(rate, 0, end)]
        said: list[tuple[int, str, str, bool, str, str]] = []
        for phone, port, begin, until in self.stays:
            said.append((begin, phone, port, True, "", ""))
            own = self.random.gammavariate(self.life.shape, self.life.per_day / self.life.shape)
            rate = own + self.bad_phone.get(phone, 0) + self.bad_port.get(port, 0)
            rate += sum(self.bad_hub.get(hub, 0) for hub in hubs_above(port))
            gone = [(at, self._short(), "", "") for at in self._moments(rate, begin, until)]
            gone += [
                (at, self._long(), "", "") for at in self._moments(self.life.taken, begin, until)
            ]
            above = set(hubs_above(port))
            gone += [
                (at, self._short(), f"cause-{at}", hub)
                for at, hub in self.lost
                if hub in above and begin < at < until
            ]
            free = begin
            for at, away, cause, hub in sorted(gone):
                if at > free and at + away < until:
                    said.append((at, phone, port, False, cause, hub))
                    said.append((at + away, phone, port, True, "", ""))
                    free = at + away
            if until < end:
                said.append((until, phone, port, False, "", ""))
        return sorted(said)

    def _hang(self) -> None:
        """Who hangs where, swaps included."""
        end, hour = DAYS * DAY_MS, 60 * MIN_MS
        free = [f"P{number:03}" for number in range(len(self.ports))]
        at = list(self.ports)
        self.random.shuffle(at)
        pairs = list(zip(free, at, strict=True))
        swapped = int(len(pairs) * self.life.moved / 2)
        for number in range(swapped):
            (one, here), (other, there) = pairs[2 * number], pairs[2 * number + 1]
            when = self.random.randrange(5 * DAY_MS, end - 5 * DAY_MS)
            self.stays += [
                (one, here, 0, when),
                (other, there, 0, when),
                (one, there, when + hour, end),
                (other, here, when + hour, end),
            ]
        self.stays += [(phone, port, 0, end) for phone, port in pairs[2 * swapped :]]

    def _moments(self, per_day: float, begin: int, until: int) -> list[int]:
        found, at = [], float(begin)
        while per_day > 0 and (at := at + self.random.expovariate(per_day) * DAY_MS) < until:
            found.append(int(at))
        return found

    def _short(self) -> int:
        return min(10 * MIN_MS, 3_000 + int(self.random.expovariate(1 / 40_000)))

    def _long(self) -> int:
        return 20 * MIN_MS + int(self.random.expovariate(1 / (4 * 60 * MIN_MS)))

    def named(self) -> list[Suspect]:
        """Whom the agent suspects after that month."""
        evidence, phones = Evidence(0, DAYS * DAY_MS), set[str]()
        for at, phone, port, comes, cause, hub in self.live():
            state, before = (ONLINE, UNPLUGGED) if comes else (UNPLUGGED, ONLINE)
            code = "hub_lost" if cause else ""
            told = Transition(phone, before, state, "", at, code=code, cause=cause, port=port)
            evidence.take(told, hub)
            phones.add(phone)
        evidence.close(phones)
        return list(suspects(evidence))


def _plant(kind: str, rate: float, random: Random, tree: Sequence[str]) -> tuple[Rack, set[str]]:
    """A rack with one fault, and what may be called so."""
    rack = Rack(tree, QUIET, random)
    if kind.startswith("phone"):
        # Those of the first numbers are swapped once.
        number = random.randrange(40) if "moved" in kind else random.randrange(100, 190)
        rack.bad_phone[f"P{number:03}"] = rate
        return rack, {f"P{number:03}"}
    if kind.startswith("port"):
        rack.bad_port[port := random.choice(tree)] = rate
        return rack, {port}
    hubs = sorted({hub for port in tree for hub in hubs_above(port)})
    hub = random.choice(hubs)
    if kind == "hub, its ports":
        rack.bad_hub[hub] = rate
    else:
        rack.lost_hub[hub] = rate
    below = {port for port in tree if hub in hubs_above(port)}
    return rack, {each for each in hubs if {p for p in tree if each in hubs_above(p)} == below}


def _verdict(kind: str, guilty: set[str], named: Sequence[Suspect]) -> tuple[str, int]:
    """What was said of it, and how many others were named."""
    wanted = SuspectKind(kind.partition(",")[0])
    said, wrong = "silent", 0
    for each in named:
        who = each.udid if wanted is SuspectKind.PHONE else each.port
        if each.kind is wanted and who in guilty:
            said = "named"
        elif each.kind is SuspectKind.EITHER and who in guilty:
            said = "either" if said == "silent" else said
        else:
            wrong += 1
    return said, wrong


FAULTS = (
    ("phone", (0.2, 0.5, 1.0, 3.0)),
    ("phone, moved", (0.2, 0.5, 1.0, 3.0)),
    ("port", (0.2, 0.5, 1.0, 3.0)),
    ("hub, its ports", (0.2, 0.5, 1.0)),
    ("hub, as a whole", (0.1, 0.2, 0.5)),
)


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Play."""
    del directory
    trials = 20 if quick else 200
    rows: list[tuple[str, ...]] = [
        ("fault", "more a day", "named", "either", "silent", "wrong, a rack")
    ]
    figures = []
    for kind, rates in FAULTS:
        for rate in rates:
            said: Counter[str] = Counter()
            wrong = 0
            for trial in range(trials):
                tree = TREES[trial % 2]()
                rack, guilty = _plant(kind, rate, Random(f"{kind} {rate} {trial}"), tree)
                verdict, others = _verdict(kind, guilty, rack.named())
                said[verdict] += 1
                wrong += others
            of = [f"{said[what] / trials:.0%}" for what in ("named", "either", "silent")]
            rows.append((kind, f"{rate:g}", *of, f"{wrong / trials:.3f}"))
            figures.append(
                Figure(
                    f"{kind}, {rate:g} a day more: named",
                    of[0],
                    f"either {of[1]}, silent {of[2]}, wrong {wrong / trials:.3f}",
                )
            )
    print(table(rows))
    for life in LIVES:
        alarms = 0
        for trial in range(trials):
            rack = Rack(TREES[trial % 2](), life, Random(f"{life.what} {trial}"))
            alarms += len(rack.named())
        figures.append(
            Figure(
                f"healthy racks, {life.what}: false alarms a rack and month",
                f"{alarms / trials:.3f}",
                f"{alarms} in {trials}",
                "<= 0.05",
                alarms / trials <= 0.05,
            )
        )
    rack = Rack([*towers(25)], Life("", 0.5, 2.0), Random(1))
    said_ = rack.live()
    began = time.perf_counter()
    evidence = Evidence(0, DAYS * DAY_MS)
    for at, phone, port, comes, _, _ in said_:
        state, before = (ONLINE, UNPLUGGED) if comes else (UNPLUGGED, ONLINE)
        evidence.take(Transition(phone, before, state, "", at, port=port))
    evidence.close({phone for _, phone, *_ in said_})
    taken = time.perf_counter() - began
    list(suspects(evidence))
    figures.append(
        Figure(
            f"1,000 phones, {len(said_):,} transitions: taken; judged",
            f"{taken * 1000:.0f} ms; {(time.perf_counter() - began - taken) * 1000:.0f} ms",
        )
    )
    return figures

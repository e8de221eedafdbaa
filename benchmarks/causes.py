"""How often phones that left on their own are said to have one cause, and lost hubs are found.

Five hosts with 192 or 200 phones each, a thousand in all, each host with a book of its own
(`track.causes`), as its agent has it. *Independent*: every phone leaves by itself, as a Poisson
process, for 5 s, and counts after a hold of 3 s. Beside what was counted stands what chance says:
for each hub and controller, leavings x the probability that of the others there so many
leave within 2 s as the rule asks (binomial). *Lost*: hubs and controllers are lost with all their
phones within half a second or 1.5, on top of independent leavings; right is the very place, with
all its phones.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from agent.track.cause import CauseKind
from agent.track.causes import LEAST, SHARE, WINDOW, Causes, Spot, Stand
from agent.udid import hubs_above
from benchmarks.report import Figure, table
from benchmarks.trees import controller, racks, towers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.track.cause import Cause

HERE = Stand(there=True, listed=True, down=False, on_usb=True)
GONE = Stand(there=False, listed=False, down=False, on_usb=False)
HOSTS = (towers, towers, towers, racks, racks)
AWAY, HOLD = 5.0, 3.0
"""Seconds that a phone is away, and after which it counts."""
DAY = 86_400.0


@dataclass
class _Host:
    """One host's phones and its book."""

    ports: Sequence[str]
    found: list[tuple[str, Cause]] = field(default_factory=list)
    """What each phone that counted was told of."""

    def __post_init__(self) -> None:
        ids = count()
        self.book = Causes(lambda: f"cause-{next(ids)}")
        for port in self.ports:
            self.see(port, HERE, 0.0)

    def see(self, port: str, stand: Stand, now: float) -> None:
        """So it stands from now on."""
        spot = partial(Spot, port, controller(port), "adb")
        self.book.look(port, stand, port, now, spot)

    def play(self, leavings: Sequence[tuple[float, str]]) -> None:
        """Each is away for `AWAY` seconds, and counts after `HOLD`; who is away does not leave."""
        steps: list[tuple[float, int, str]] = []
        gone: set[str] = set()
        waiting = iter([*leavings, (math.inf, "")])
        at, port = next(waiting)
        while steps or at < math.inf:
            if steps and steps[0][0] <= at:
                now, step, who = heapq.heappop(steps)
                if step:
                    self.see(who, HERE, now)
                    gone.discard(who)
                elif (cause := self.book.cause_of(who)) is not None:
                    self.found.append((who, cause))
                    self.book.counted(who)
                continue
            if port not in gone:
                gone.add(port)
                self.see(port, GONE, at)
                heapq.heappush(steps, (at + HOLD, 0, port))
                heapq.heappush(steps, (at + AWAY, 1, port))
            at, port = next(waiting)


def independent(
    ports: Sequence[str], per_day: float, days: float, random: Random
) -> list[tuple[float, str]]:
    """When each leaves, in order."""
    number = _poisson(len(ports) * per_day * days, random)
    return sorted(
        (random.uniform(100, 100 + days * DAY), random.choice(ports)) for _ in range(number)
    )


def _poisson(mean: float, random: Random) -> int:
    return max(0, round(random.gauss(mean, math.sqrt(mean)))) if mean > 50 else _small(mean, random)


def _small(mean: float, random: Random) -> int:
    left, number = random.expovariate(1.0), 0
    while left < mean:
        left += random.expovariate(1.0)
        number += 1
    return number


def places(ports: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Every hub and controller with the ports below it."""
    found: dict[tuple[str, str], list[str]] = {}
    for port in ports:
        for hub in hubs_above(port):
            found.setdefault((CauseKind.HUB, hub), []).append(port)
        found.setdefault((CauseKind.CONTROLLER, controller(port)), []).append(port)
    return found


def chance(ports: Sequence[str], per_day: float) -> float:
    """Groups a day that independent leavings make, by the rule."""
    total = 0.0
    for below in places(ports).values():
        others = len(below) - 1
        needed = max(LEAST, -(-len(below) * SHARE[0] // SHARE[1])) - 1
        soon = 1 - math.exp(-per_day / DAY * WINDOW)
        tail = sum(
            math.comb(others, n) * soon**n * (1 - soon) ** (others - n)
            for n in range(needed, min(others, needed + 20) + 1)
        )
        total += len(below) * per_day * tail
    return total


def _independent(per_day: float, days: float, seed: int) -> tuple[int, float, float]:
    """Causes found, causes that chance makes, and the share of transitions that had one."""
    random = Random(seed)
    groups = with_cause = all_ = 0
    expected = 0.0
    for tree in HOSTS:
        host = _Host(tree())
        leavings = independent(host.ports, per_day, days, random)
        host.play(leavings)
        groups += len({cause.id for _, cause in host.found})
        with_cause += len(host.found)
        all_ += len(leavings)
        expected += days * chance(host.ports, per_day)
    return groups, expected, with_cause / max(1, all_)


def _lost(spread: float, losses: int, seed: int, per_day: float = 10.0) -> Counter[str]:
    """What losses of whole hubs and controllers are said to be."""
    random = Random(seed)
    found: Counter[str] = Counter()
    for number in range(losses):
        host = _Host(HOSTS[number % len(HOSTS)]())
        place, below = random.choice(
            [(p, b) for p, b in places(host.ports).items() if len(b) >= LEAST]
        )
        leavings = independent(host.ports, per_day, 0.01, random)
        start = random.uniform(100, 100 + 0.01 * DAY)
        lost = [(start + random.uniform(0, spread), port) for port in below]
        host.play(sorted(leavings + lost))
        told = {port: cause for port, cause in host.found if port in below}
        named = {(cause.kind.value, cause.place) for cause in told.values()}
        ids = {cause.id for cause in told.values()}
        same = _alike(place, named, host.ports)
        if same and len(told) == len(below) and len(ids) == 1:
            found["right"] += 1
        elif same and len(ids) == 1:
            found["right, not of every phone"] += 1
        else:
            found["another place" if told else "none"] += 1
    return found


def _alike(place: tuple[str, str], named: set[tuple[str, str]], ports: Sequence[str]) -> bool:
    """Whether it is that place, or one with the very same phones."""
    all_ = places(ports)
    return bool(named) and all(set(all_[each]) == set(all_[place]) for each in named)


def _at_once() -> float:
    """Milliseconds for a thousand phones that leave together, and what took each."""
    took = []
    for _ in range(5):
        host = _Host(
            [f"{1 + n % 4}-{1 + n // 100}.{1 + n // 10 % 10}.{1 + n % 10}" for n in range(1000)]
        )
        began = time.perf_counter()
        for port in host.ports:
            host.see(port, GONE, 10.0)
        for port in host.ports:
            host.book.cause_of(port)
        took.append((time.perf_counter() - began) * 1000)
    return min(took)


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Count."""
    del directory
    figures = []
    rows = [("leavings a phone and day", "days", "causes found", "by chance", "of all transitions")]
    for per_day, days in ((1.0, 30.0), (10.0, 30.0), (100.0, 10.0), (300.0, 2.0)):
        span = days / 10 if quick else days
        groups, expected, share = _independent(per_day, span, seed=round(per_day))
        rows.append((f"{per_day:g}", f"{span:g}", str(groups), f"{expected:.2g}", f"{share:.2%}"))
        figures.append(
            Figure(
                f"independent, {per_day:g} a phone and day: causes in {span:g} days",
                str(groups),
                f"by chance {expected:.2g}",
                "chance, within 3 sigma",
                abs(groups - expected) <= 3 * math.sqrt(expected) + 1,
            )
        )
    print(table(rows))
    for spread in (0.5, 1.5):
        losses = 100 if quick else 1000
        found = _lost(spread, losses, seed=7)
        print(f"lost within {spread:g} s: {dict(found)}")
        figures.append(
            Figure(
                f"whole hubs and controllers lost within {spread:g} s: named, of {losses}",
                f"{found['right'] / losses:.1%}",
                ", ".join(f"{what} {n}" for what, n in sorted(found.items()) if what != "right"),
            )
        )
    figures.append(
        Figure(
            "1,000 phones leave at once: all of it",
            f"{_at_once():.0f} ms",
            "",
            "<= 50 ms",
            _at_once() <= 50,
        )
    )
    return figures

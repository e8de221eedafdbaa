"""Figures and the table they are printed in; what else the machine was doing meanwhile."""

from __future__ import annotations

import os
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

QUIET = 0.25
"""Cores used by others above which what competes for them is measured again."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    value: str
    spread: str = ""
    target: str = ""
    reached: bool | None = None
    """None: there is no target."""


class Others:
    """Cores used by everybody else: not this process, its ended children, and those in `pids`."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self.cores = 0.0

    def __enter__(self) -> Self:
        self._load = os.getloadavg()[0]
        self._began = time.monotonic()
        self._before = self._spent()
        return self

    def __exit__(self, *_: object) -> None:
        spent = self._spent() - self._before
        self.cores = max(0.0, spent / (time.monotonic() - self._began))

    def _spent(self) -> float:
        return _busy() - _own() - sum(map(cpu_seconds, self._pids))

    @property
    def note(self) -> str:
        """How quiet the machine was."""
        return f"load {self._load:.1f} before, others {self.cores:.2f} cores"


def _busy() -> float:
    """Seconds of CPU spent by the whole machine (proc(5), /proc/stat: user … softirq less idle)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields)
    return (user + nice + system + irq + softirq) / TICK


def _own() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads (proc(5), /proc/PID/stat: utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mb(pid: int | str = "self", key: str = "VmRSS") -> float:
    """Resident memory in MB of 10^6 bytes; `RssAnon` is the part that is no file's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(key)


def median_spread(values: Sequence[float], form: str = ".0f") -> tuple[float, str]:
    """The median, and the smallest and greatest value as text."""
    return statistics.median(values), f"{min(values):{form}} to {max(values):{form}}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are at or below (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def show(figures: Sequence[Figure]) -> str:
    """The figures as a table."""
    words = {True: "reached", False: "MISSED", None: ""}
    return table(
        [
            ("figure", "median", "spread", "target", ""),
            *((f.what, f.value, f.spread, f.target, words[f.reached]) for f in figures),
        ]
    )

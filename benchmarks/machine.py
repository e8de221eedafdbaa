"""What the figures depend on: cores, and how long the disk takes to make a write durable."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.report import percentile


def describe(directory: Path) -> str:
    """The machine in one line, without its name."""
    times = _fsyncs(directory / "fsync")
    return (
        f"{os.cpu_count()} cores ({_processor()}), {_file_system(directory)}: write and fsync of 4"
        f" KiB {percentile(times, 0.5):.2f} ms (p50), {percentile(times, 0.99):.2f} ms (p99)"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def _file_system(directory: Path) -> str:
    """The type of the file system that a directory is on: the longest mount point that fits."""
    place = directory.resolve()
    best, kind = Path("/"), "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, type_, *_ = line.split(" ")
        if place.is_relative_to(where) and Path(where).is_relative_to(best):
            best, kind = Path(where), type_
    return kind


def _fsyncs(path: Path, count: int = 200) -> list[float]:
    """Milliseconds of each append of one page, durable."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return times

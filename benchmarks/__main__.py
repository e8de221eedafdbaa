"""`python -m benchmarks [NAME …]`: measure, and print one table."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
import sqlite3
import tempfile
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.report import Others, show

NAMES = (
    "causes",
    "suspects",
    "derive",
    "latency",
    "throughput",
    "sending",
    "isolation",
    "alertmanager",
    "peers",
    "stalls",
    "start",
    "memory",
    "idle",
    "probe",
    "history",
    "page",
    "fleet",
)


def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="shorter and rougher")
    parser.add_argument("--dir", type=Path, help="where stores are put: the disk to measure")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {min(unknown)!r}; there are {', '.join(NAMES)}")
    figures = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.dir) as name:
        place = Path(name)
        print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
        print(describe(place))
        for benchmark in [name for name in NAMES if name in arguments.names or not arguments.names]:
            module = importlib.import_module(f"benchmarks.{benchmark}")
            title = (module.__doc__ or "").partition("\n")[0]
            directory = place / benchmark
            directory.mkdir()
            print(f"\n== {benchmark}: {title}", flush=True)
            with Others() as others:
                found = asyncio.run(module.run(directory, quick=arguments.quick))
            print(f"   {others.note}")
            print(show(found), flush=True)
            figures += found
    if len(arguments.names) != 1:
        print("\n== all")
        print(show(figures))


if __name__ == "__main__":
    main()

"""Resident memory: Android only, with iOS support, with an iPhone attached; and where it goes.

`RSS` is VmRSS, in MB of 10^6 bytes; *own* is RssAnon, the part that is no file's and so shared with
nobody. The variants are what could be done about it.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.installation import android_only
from benchmarks.processes import ENVIRON, Agent, helper
from benchmarks.report import Figure, rss_mb, table
from benchmarks.sample import webhook_toml

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = {"Android only": 50, "iOS, no phone": 75, "iOS, one iPhone": 75}
LATER = 60.0
SOON = 5.0
IMPORTS = (
    "asyncio",
    "ssl",
    "structlog",
    "click",
    "pydantic",
    "tomli",
    "agent.config",
    "sqlite3",
    "agent.store",
    "aiohttp",
    "aiohttp.web",
    "agent.deliver.client",
    "agent.deliver.dispatcher",
    "pyudev",
    "agent.sources.adb",
    "agent.sources.usbmux",
    "agent.api.server",
    "agent.app",
    "agent.cli.run",
)
IOS_IMPORTS = ("pymobiledevice3.usbmux", "pymobiledevice3.lockdown")
NO_CERTIFICATES = {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"}
"""aiohttp makes a TLS context when it is imported."""
TRIM = """
import ctypes, gc, threading
def trim():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
timer = threading.Timer(2.0, trim)
timer.daemon = True
timer.start()
"""


@dataclass(frozen=True)
class Variant:
    """A measure: variables for the process, or Python before the agent's first import."""

    environ: dict[str, str] = field(default_factory=dict)
    prelude: str = ""


VARIANTS = {
    "as it is": Variant(),
    "MALLOC_ARENA_MAX=1": Variant({"MALLOC_ARENA_MAX": "1"}),
    "MALLOC_TRIM_THRESHOLD_=65536": Variant({"MALLOC_TRIM_THRESHOLD_": "65536"}),
    "PYTHONMALLOC=malloc": Variant({"PYTHONMALLOC": "malloc"}),
    "gc.collect, malloc_trim after 2 s": Variant(prelude=TRIM),
    "gc.freeze, threshold 200": Variant(prelude="import gc; gc.freeze(); gc.set_threshold(200)"),
    "PYTHONNODEBUGRANGES=1": Variant({"PYTHONNODEBUGRANGES": "1"}),
    "PYTHONOPTIMIZE=2": Variant({"PYTHONOPTIMIZE": "2"}),
    "no CA certificates": Variant(NO_CERTIFICATES),
    "the last three": Variant(
        {"PYTHONNODEBUGRANGES": "1", "PYTHONOPTIMIZE": "2", **NO_CERTIFICATES}
    ),
}


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure."""
    android = await android_only()
    ours = Path(sys.executable).parent.parent
    later = 5.0 if quick else LATER
    async with helper("benchmarks.iphone", str(directory / "mux")):
        cases = {
            "Android only": (android, "none", False),
            "iOS, no phone": (ours, "none", True),
            "iOS, one iPhone": (ours, "mux", True),
        }
        found = await asyncio.gather(
            *[
                _over_time(directory / f"case{number}", venv, _config(directory, mux, ios), later)
                for number, (venv, mux, ios) in enumerate(cases.values())
            ]
        )
    figures = []
    rows = [("MB", "RSS at READY", f"RSS {later:g} s later", "own", "online")]
    for name, (first, last, own, online) in zip(cases, found, strict=True):
        rows.append((name, f"{first:.1f}", f"{last:.1f}", f"{own:.1f}", str(online)))
        target = TARGETS[name]
        figures.append(
            Figure(
                f"RSS {later:g} s after READY, {name}",
                f"{last:.1f} MB",
                f"{first:.1f} at READY, own {own:.1f}",
                f"<= {target} MB",
                last <= target,
            )
        )
    print(table(rows), end="\n\n")
    print(await _by_import(android, IMPORTS), end="\n\n")
    print(await _by_import(ours, (*IMPORTS, *IOS_IMPORTS)), end="\n\n")
    async with helper("benchmarks.iphone", str(directory / "mux2")):
        print(await _variants(directory, (android, ours, ours), ("none", "none", "mux2")))
    return figures


async def _variants(directory: Path, venvs: Sequence[Path], muxes: Sequence[str]) -> str:
    """What each measure would save; the first start of each only fills the caches of bytecode."""
    rows = [(f"variant, MB {SOON:g} s after READY", *TARGETS)]
    for number, (name, variant) in enumerate(VARIANTS.items()):
        for _ in range(2):
            sizes = await asyncio.gather(
                *[
                    _variant(
                        directory / f"v{number}{case}",
                        venv,
                        _config(directory, mux, venv is not venvs[0]),
                        variant,
                    )
                    for case, (venv, mux) in enumerate(zip(venvs, muxes, strict=True))
                ]
            )
        rows.append((name, *(f"{size:.1f}" for size in sizes)))
    return table(rows)


def _config(directory: Path, mux: str, ios: bool) -> str:
    """Without phones; the webhook's endpoint refuses. iOS support that is not installed is off."""
    return (
        '[android]\nadb_server = "127.0.0.1:9"\nstart_server = false\n'
        f'[ios]\nusbmuxd = "{directory}/{mux}"\nenabled = {str(ios).lower()}\n'
        + webhook_toml("http://127.0.0.1:9/hook")
    )


async def _over_time(
    directory: Path, venv: Path, config: str, later: float
) -> tuple[float, float, float, int]:
    """RSS at READY and later, the own part of it, and how many devices are online."""
    async with Agent(directory, config, [str(venv / "bin" / "device-agent")]) as agent:
        first = rss_mb(agent.pid)
        await asyncio.sleep(later)
        last, own = rss_mb(agent.pid), rss_mb(agent.pid, "RssAnon")
        return first, last, own, (await agent.states()).count("online")


async def _variant(directory: Path, venv: Path, config: str, variant: Variant) -> float:
    code = f"{variant.prelude}\nfrom agent.cli import main\nmain()"
    command = [str(venv / "bin" / "python"), "-c", code]
    async with Agent(directory, config, command, **variant.environ) as agent:
        await asyncio.sleep(SOON)
        return rss_mb(agent.pid)


async def _by_import(venv: Path, names: Sequence[str]) -> str:
    """RSS and time added by each import, in this order."""
    code = """
import sys, time
def status():
    with open("/proc/self/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file)
    return int(lines[b"VmRSS"].split()[0]), int(lines[b"RssAnon"].split()[0])
rss, own = status()
print("(python itself)", rss, own, 0, len(sys.modules))
for name in sys.argv[1:]:
    began, count = time.perf_counter(), len(sys.modules)
    __import__(name)
    ms = (time.perf_counter() - began) * 1000
    now, anon = status()
    print(name, now - rss, anon - own, ms, len(sys.modules) - count)
    rss, own = now, anon
print("total", rss, own, 0, len(sys.modules))
"""
    process = await asyncio.create_subprocess_exec(
        str(venv / "bin" / "python"),
        "-c",
        code,
        *names,
        stdout=asyncio.subprocess.PIPE,
        env=ENVIRON,
    )
    output, _ = await process.communicate()
    rows: list[tuple[str, ...]] = [("import, in this order", "MB", "own", "ms", "modules")]
    for line in output.decode().splitlines():
        name, rss, own, ms, modules = line.rsplit(" ", 4)
        sizes = [f"{int(kb) * 1024 / 1e6:.1f}" for kb in (rss, own)]
        rows.append((name, *sizes, f"{float(ms):.0f}", modules))
    return table(rows)

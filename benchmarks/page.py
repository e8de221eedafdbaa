"""The web page in a real Chromium: size, first paint, 1,000 phones with 50 changes a second.

The whole agent with phones of a scripted adb server. The changes are leases, taken and given back.
A long task is one over 50 ms (the browser's `longtask`): nothing that is clicked or typed
meanwhile is answered. Beside it the CPU time of the longest one, from a trace of the page's main
thread: what others on the machine take from it does not count there.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.report import Figure
from tests.page.browser import CHROMIUM, Window, one_chromium
from tests.page.kit import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.async_api import Browser

    from tests.page.kit import Lab

PHONES = 1_000
RATE = 50
"""Changes a second."""
SECONDS = 20.0
BUDGET_KB = 80
LONG = 50
"""Milliseconds."""
VIEWS = {"devices": "tbody tr", "ports": ".phone", "history": ".place"}
"""Each with what one phone is there."""
TRACED = ["toplevel"]
"""What the browser notes: each task, by the clock and by its CPU."""
WATCH = """
globalThis.long = [];
new PerformanceObserver((list) => long.push(...list.getEntries().map((each) => each.duration)))
  .observe({ type: "longtask", buffered: true });
"""
LOADED = """() => {
  const of = (kind) => performance.getEntriesByType(kind);
  const own = [...of("navigation"), ...of("resource")]
    .filter((each) => !new URL(each.name).pathname.startsWith("/v1/"));
  return {
    sent: own.reduce((sum, each) => sum + each.transferSize, 0),
    read: own.reduce((sum, each) => sum + each.decodedBodySize, 0),
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  };
}"""


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    """Measure; nothing without Debian's Chromium."""
    del directory  # a socket's path must be shorter
    if shutil.which(CHROMIUM) is None:
        print(f"   left out: {CHROMIUM} is not here")
        return []
    phones = PHONES // 10 if quick else PHONES
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="da-") as place:
        async with (
            opened(Path(place), phones=phones, scripted=True) as lab,
            one_chromium() as chromium,
        ):
            for view, phone in VIEWS.items():
                figures += await _measure(
                    lab, chromium.browser, (view, phone), 5.0 if quick else SECONDS
                )
    return figures


async def _measure(
    lab: Lab, browser: Browser, shown: tuple[str, str], seconds: float
) -> list[Figure]:
    view, phone = shown
    window = Window(await browser.new_context(viewport={"width": 1440, "height": 900}), lab.base)
    await window.context.add_init_script(WATCH)
    tab = await window.tab()
    await browser.start_tracing(page=tab, categories=TRACED)
    await tab.goto(f"{lab.base}#/{view}")
    ready = "([phone, count]) => document.querySelectorAll(phone).length >= count"
    # In every frame it would take a part of what is measured.
    await tab.wait_for_function(ready, arg=[phone, len(lab.phones)], polling=50)
    took = await tab.evaluate("() => performance.now()")
    loaded: dict[str, Any] = await tab.evaluate(LOADED)
    begun: Sequence[float] = await tab.evaluate("() => long.splice(0)")
    busy = [_longest(await browser.stop_tracing())]
    await browser.start_tracing(page=tab, categories=TRACED)
    await _change(lab, seconds)
    during: Sequence[float] = await tab.evaluate("() => long.splice(0)")
    busy.append(_longest(await browser.stop_tracing()))
    await window.context.close()
    name = f"page, {view}, {len(lab.phones)} phones"
    return [
        Figure(
            f"{name}: sent; unpacked",
            f"{loaded['sent'] / 1024:.0f}; {loaded['read'] / 1024:.0f} KB",
            target=f"<= {BUDGET_KB} KB",
            reached=loaded["sent"] <= BUDGET_KB * 1024,
        ),
        Figure(f"{name}: first paint; all shown", f"{loaded['paint']:.0f}; {took:.0f} ms"),
        Figure(f"{name}: long tasks while it fills", _long(begun)),
        Figure(
            f"{name}: long tasks, {RATE} changes a second for {seconds:.0f} s",
            _long(during),
            target="none",
            reached=not during,
        ),
        Figure(
            f"{name}: CPU of the longest task while it fills; while it changes",
            f"{busy[0]:.0f}; {busy[1]:.0f} ms",
            target=f"<= {LONG} ms",
            reached=max(busy) <= LONG,
        ),
    ]


async def _change(lab: Lab, seconds: float) -> None:
    """Phones in a row come into use and out of it again, at an even pace."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(lab.agent.socket))
    ) as session:
        began, done = loop.time(), 0
        leases: list[str] = []
        while (now := loop.time() - began) < seconds:
            if done < now * RATE:
                phone = lab.phones[done * 7 % len(lab.phones)]
                if len(leases) < RATE:
                    body = {"udid": phone.udid, "holder": "benchmark", "ttl": 3600}
                    async with session.post("http://localhost/v1/leases", json=body) as response:
                        answer = await response.json()
                    if response.status == 201:
                        leases.append(answer["id"])
                else:
                    path = f"http://localhost/v1/leases/{leases.pop(0)}"
                    async with session.delete(path) as response:
                        await response.read()
                done += 1
            else:
                await asyncio.sleep(done / RATE - now)
        for lease in leases:
            async with session.delete(f"http://localhost/v1/leases/{lease}") as response:
                await response.read()


def _longest(trace: bytes) -> float:
    """Milliseconds of CPU of the longest task of a page."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    pages = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = (
        float(each.get("tdur", 0))
        for each in events
        if each["name"] == "ThreadControllerImpl::RunTask" and (each["pid"], each["tid"]) in pages
    )
    return max(tasks) / 1000


def _long(tasks: Sequence[float]) -> str:
    return f"{len(tasks)}, the longest {max(tasks):.0f} ms" if tasks else "none"

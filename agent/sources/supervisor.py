"""Keeps the configured sources running: starts them, restarts what failed or changed, ends them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.model import Down, SourceName
from agent.sources.adb import AdbSource
from agent.sources.base import backoff
from agent.sources.udev import UdevSource
from agent.sources.usbmux import UsbmuxSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from agent.config import Config
    from agent.model import Emit
    from agent.sources.base import DeviceSource

log = structlog.get_logger(__name__)

END_LIMIT = 1.0
"""Seconds that sources get to end."""
RECHECK_LIMIT = 2.0
"""Seconds for a source to read the whole truth anew; what it has not told by then comes late."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make a source, and the settings on which it hangs: equal ones need no restart."""

    settings: object
    make: Callable[[], DeviceSource]


Plans = dict[SourceName, Plan]


def plans_of(config: Config, names: Iterable[SourceName], state_dir: Path) -> Plans:
    """The plans of these sources; adb's keys and pair records live in the state directory."""
    android, ios = config.android, config.ios
    all_plans = {
        SourceName.UDEV: Plan(config.usb, UdevSource),
        SourceName.ADB: Plan(
            android,
            lambda: AdbSource(
                server=android.adb_server,
                start_server=android.start_server,
                adb_path=android.adb_path,
                network_devices=android.network_devices,
                probe_interval=android.probe_interval,
                probe_timeout=android.probe_timeout,
                home=state_dir,
            ),
        ),
        SourceName.USBMUX: Plan(
            ios,
            lambda: UsbmuxSource(
                address=ios.usbmuxd,
                network_devices=ios.network_devices,
                probe_interval=ios.probe_interval,
                probe_timeout=ios.probe_timeout,
                records=state_dir / "pairing",
            ),
        ),
    }
    return {name: all_plans[name] for name in names}


class Supervisor:
    """Runs sources, each in a task of its own; `emit` takes what they see.

    All methods run on the event loop's thread.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._running: dict[SourceName, tuple[Plan, asyncio.Task[None]]] = {}
        self._sources: dict[SourceName, DeviceSource] = {}

    def start(self, plans: Plans) -> None:
        """Start all of them."""
        for name, plan in plans.items():
            self._start(name, plan)

    async def swap(self, plans: Plans) -> list[str]:
        """Restart what changed; what did not is not touched. Returns their names."""
        changed = []
        for name in SourceName:
            old, new = self._running.get(name), plans.get(name)
            if old is not None and new is not None and old[0].settings == new.settings:
                continue
            if old is not None:
                await _cancel([old[1]])
                del self._running[name]
                self._emit(Down(name, "its configuration changed: reconnecting"))
                changed.append(str(name))
            if new is not None:
                self._start(name, new)
                changed.append(str(name))
        return sorted(set(changed))

    def recheck(self, name: SourceName) -> Awaitable[None] | None:
        """Have a source tell the whole truth anew: done when it has, or after `RECHECK_LIMIT`.

        None: it does not run.
        """
        source = self._sources.get(name)
        return None if source is None else self._recheck(name, source)

    async def _recheck(self, name: SourceName, source: DeviceSource) -> None:
        try:
            async with asyncio.timeout(RECHECK_LIMIT):
                await source.recheck()
        except TimeoutError:
            log.warning("source.recheck_hangs", source=str(name), limit_s=RECHECK_LIMIT)
        except Exception:
            log.exception("source.recheck_failed", source=str(name))

    async def close(self) -> None:
        """End all of them."""
        await _cancel([task for _, task in self._running.values()])
        self._running.clear()

    def _start(self, name: SourceName, plan: Plan) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(name, plan), name=str(name))
        self._running[name] = (plan, task)

    async def _supervise(self, name: SourceName, plan: Plan) -> None:
        """Run a source for ever; one that breaks its promise not to raise is started again."""
        for delay in backoff(first=1.0, cap=60.0):
            try:
                source = self._sources[name] = plan.make()
                await source.run(self._emit)
                reason = "the source ended by itself"
            except Exception as error:
                log.exception("source.failed", source=str(name), retry_in_s=delay)
                reason = f"internal error ({type(error).__name__}): see the log"
            finally:
                self._sources.pop(name, None)
            self._emit(Down(name, reason))
            await asyncio.sleep(delay)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_LIMIT)

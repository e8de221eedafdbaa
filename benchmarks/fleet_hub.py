"""`device-agent`, whose loop can be watched: `python -m benchmarks.fleet_hub run --config FILE`.

SIGUSR1 begins to watch, SIGUSR2 ends it and writes to $WATCHED, as JSON: how late the loop came to
what was due each millisecond, at most (`late`), and the most CPU time of its thread in one callback
of it (`cpu`), both in milliseconds. Nothing of it costs anything while nobody watches.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from agent.app import App
from agent.cli import main
from benchmarks.stalls import Heartbeat

_run = asyncio.Handle._run  # noqa: SLF001 - a turn of the loop


class Watch:
    """Of the loop's thread."""

    def __init__(self) -> None:
        self._heartbeat = Heartbeat()
        self.longest = 0.0

    def begin(self) -> None:
        """Watch."""
        self.longest = 0.0
        watch = self

        def run(self: asyncio.Handle) -> None:
            began = time.thread_time()
            _run(self)
            watch.longest = max(watch.longest, time.thread_time() - began)

        asyncio.Handle._run = run  # type: ignore[method-assign] # noqa: SLF001
        self._heartbeat.start()

    def end(self) -> None:
        """Write it down."""
        asyncio.Handle._run = _run  # type: ignore[method-assign] # noqa: SLF001
        found = {"late": self._heartbeat.stop(), "cpu": self.longest * 1000}
        path = Path(os.environ["WATCHED"])
        path.with_suffix(".new").write_text(json.dumps(found))
        path.with_suffix(".new").replace(path)


async def _watched(self: App, *arguments: Any, **keys: Any) -> Any:
    watch, loop = Watch(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, watch.begin)
    loop.add_signal_handler(signal.SIGUSR2, watch.end)
    return await _app_run(self, *arguments, **keys)


_app_run = App.run
App.run = _watched  # type: ignore[method-assign]

if __name__ == "__main__":
    main()

"""One running agent, from its store's lock to its end.

Order of a start: the store (whose lock says we are alone), webhook ids, the parts with the stored
devices, then `startup`. A stop goes the other way, and ends within `startup.STOP_LIMIT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.app.hub_stored import hub_stored
from agent.app.lifecycle import Lifecycle
from agent.app.parts import Outside, Parts, build
from agent.app.reloader import Reloader
from agent.app.setting import Setting
from agent.app.startup import STOP_LIMIT, Startup
from agent.app.subscriptions import Subscriptions
from agent.app.webhook_ids import WebhookIds
from agent.clock import LoopClock
from agent.errors import AgentError, StartError
from agent.service.live import Live
from agent.sources.registry import plans_of
from agent.store import Store
from agent.subscribers import Subscribers, Topic
from agent.tasks import Tasks
from agent.wire.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.config.file import ConfigFile
    from agent.model import SourceName
    from agent.service.doctor import Examine
    from agent.service.reload import ReloadBy, Reloaded
    from agent.service.services import Services
    from agent.sources.supervisor import SourcePlans

log = structlog.get_logger(__name__)


class App:
    """One running agent.

    Args:
        load: reads the configuration anew, for a reload; called in a thread; raises ConfigError.
        config: the one to start with.
        environ: the process's environment.
        file: what `load` reads, and `config` came from, where that is a file.
        plans: how to make the sources of a configuration; simulated ones in the demo.
        examine: the doctor, who looks at everything around it; None: nobody does, as in the demo.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        config: Config,
        environ: Mapping[str, str] = os.environ,
        file: ConfigFile | None = None,
        plans: Callable[[Config, Iterable[SourceName], Path], SourcePlans] = plans_of,
        examine: Examine | None = None,
    ) -> None:
        self._examine = examine
        self._setting = Setting(
            load=load, file=file, plans=plans, environ=environ, started_with=config
        )
        self._notifier = Notifier(environ)
        self._subscribers = Subscribers()
        self._tasks = Tasks(partial(self._subscribers.publish, Topic.TASK))
        self._turn = asyncio.Lock()
        """Held by the start, the stop and each reload."""
        self._stopping = asyncio.Event()
        self._starting: asyncio.Future[None] | None = None
        self._seen = asyncio.Event()
        """Every source has spoken."""
        self._ready = asyncio.Event()
        self._parts: Parts | None = None
        self._reloader: Reloader | None = None

    async def run(self) -> None:
        """Start, serve until `stop` (or SIGTERM, SIGINT), and stop.

        Raises:
            AgentError: it cannot start; nothing was sent or changed.
        """
        async with contextlib.AsyncExitStack() as stack:
            async with self._turn:  # the API answers before all has begun
                await self._start_unless_stopped(stack)
            await self._stopping.wait()
            self._notifier.stopping()
            log.info("agent.stopping")
            # One under way is done to its end, and none begins any more.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_LIMIT * 0.1):
                    await self._turn.acquire()
        log.info("agent.stopped")

    def stop(self) -> None:
        """Ask `run` to end, wherever it is."""
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()

    async def ready(self) -> None:
        """Wait until the first look at the phones is done."""
        await self._ready.wait()

    @property
    def parts(self) -> Parts:
        """What it is made of, once it has been built."""
        assert self._parts is not None, "the agent has not been built yet"
        return self._parts

    @property
    def services(self) -> Services:
        """What operators may ask of it, once it has been built."""
        return self.parts.services

    async def reload(self, by: ReloadBy = "request") -> Reloaded:
        """Put in force what is in the file, or leave everything as it was.

        It is done to its end, though its caller may be cancelled: a client that hangs up must not
        leave half of it behind.

        Args:
            by: who wants it, for operators; "file" asks only if what is in the file is new.

        Raises:
            AgentError: see `Reloader.reload`.
        """
        return await self._tasks.whole("reload", self._reload(by))

    async def _reload(self, by: ReloadBy) -> Reloaded:
        if self._reloader is None:  # a signal in the first moments of the start
            async with self._turn:
                pass
        if self._reloader is None:
            raise StartError("the agent was stopped before it had started")
        return await self._reloader.reload(by)

    async def _start_unless_stopped(self, stack: contextlib.AsyncExitStack) -> None:
        """A stop in the middle of it ends it there; what was started by then is in the stack."""
        self._starting = asyncio.ensure_future(self._start(stack))
        try:
            await self._starting
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if not self._stopping.is_set() or me is None or me.cancelling():
                raise
        except BaseException:
            self._stopping.set()  # a reload that waits for its turn must not begin what ends here
            raise

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        setting = self._setting
        config = setting.started_with
        clock = LoopClock()
        store = Store.open(
            setting.state_dir,
            settings=config.delivery,
            clock=clock,
            on_health=lambda _: self._subscribers.publish(Topic.STORE),
        )
        stack.push_async_callback(store.close)
        self._heed_signals()
        live = Live(config, setting.environ, {})
        ids = WebhookIds(store, live, self._tasks)
        live.webhooks = await ids.identify(config)
        ids.cancel_deleted()
        outside = Outside(
            file=setting.file,
            reload=self.reload,
            edited=partial(self.reload, "edit"),
            seen=self._seen.set,
            examine=self._examine,
        )
        records = await store.devices.all()
        silences = await store.silences.all()
        parts = build(
            live,
            clock,
            self._tasks,
            self._subscribers,
            store,
            ids,
            records,
            silences,
            await hub_stored(config, store, records),
            outside,
        )
        stack.push_async_callback(parts.senders.close)
        self._parts = parts
        lifecycle = Lifecycle(self._notifier, parts, self._ready)
        self._reloader = reloader = Reloader(
            parts, setting, lifecycle, self._turn, self._stopping.is_set
        )
        Subscriptions(parts, lifecycle).subscribe()
        await Startup(parts, setting, lifecycle, self._seen).begin(stack)
        if lifecycle.has_watchdog:
            self._tasks.keep("watchdog", lifecycle.feed_watchdog)
        if setting.file is not None:
            watch = reloader.watch(setting.file, self.reload)
            self._tasks.keep("watch of the configuration file", watch.run)

    def _heed_signals(self) -> None:
        """From when there is something to be ended in order; before, a signal just ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)

    def _reload_on_signal(self) -> None:
        async def work() -> None:
            with contextlib.suppress(AgentError):  # said in the log already
                await self.reload("signal")

        self._tasks.finish("reload by signal", work)

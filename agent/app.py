"""The only wiring: builds the parts, starts them in order, reloads (build, then swap), stops.

Order of a start: the store (whose lock says we are alone), webhook ids, the pipeline with the
stored devices, leases, the API, the dispatcher, and last the sources, whose first snapshots settle
the pipeline: then the agent is ready. A stop goes the other way, and ends within `STOP_LIMIT`; its
first step is silence, for what ends with us is no news of any phone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent import __version__
from agent.api.server import ApiServer
from agent.clock import wall_ms
from agent.config import Tls
from agent.deliver.client import Client, tls_context
from agent.deliver.dispatcher import Dispatcher
from agent.deliver.outbox import Outbox
from agent.errors import AgentError, InternalError, StartError, StoreError, UnusableError
from agent.model import DeviceState
from agent.service.config_watch import ConfigWatch, Looks
from agent.service.deliveries import Deliveries
from agent.service.devices import Devices
from agent.service.events import Events
from agent.service.health import Health
from agent.service.leases import LeaseDesk, candidate, candidates
from agent.service.live import Live
from agent.service.reload import LastReload, ReloadBy, Reloaded
from agent.service.scrape import Scraper
from agent.service.services import Services
from agent.service.webhook_editor import WebhookEditor
from agent.service.webhooks import Webhooks
from agent.sources.registry import plans_of, sources_of
from agent.sources.supervisor import Plans, Supervisor
from agent.store import Store
from agent.subscribers import Subscribers, Topic
from agent.tasks import Steps, Tasks, kind_of
from agent.threads import in_thread
from agent.track.commits import Commits
from agent.track.pace import Clocks
from agent.track.pipeline import Pipeline
from agent.usage.current import CurrentUsage
from agent.usage.leases import Leases
from agent.usage.poller import Poller
from agent.usage.registry import STRENGTH
from agent.usage.registry import plans_of as usage_plans_of
from agent.usage.schedule import Schedule
from agent.wire.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from agent.config import Config, Webhook
    from agent.config.file import ConfigFile
    from agent.model import SourceName
    from agent.usage.poller import Plans as UsagePlans

log = structlog.get_logger(__name__)

STOP_LIMIT = 5.0
"""Seconds within which a stop ends; the store may take 3 of them to write what is queued."""
ID_LIMIT = 5.0
"""Seconds to wait for the store to give new webhooks their ids."""
STATUS_DELAY = 1.0
"""Seconds that changes are gathered for before `STATUS=` tells of them."""
OVERDUE_LIMIT = 10.0
"""Seconds that a timed decision may be late before the watchdog is no longer fed."""
_NOTHING_NEW: Reloaded = {"changed": [], "restarted_sources": [], "needs_restart": []}


class App:
    """One running agent.

    Args:
        load: reads the configuration anew, for a reload; called in a thread; raises ConfigError.
        config: the one to start with.
        environ: the process's environment.
        file: what `load` reads, and `config` came from, where that is a file.
        plans: how to make the sources of a configuration; simulated ones in the demo.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        config: Config,
        environ: Mapping[str, str] = os.environ,
        file: ConfigFile | None = None,
        plans: Callable[[Config, Iterable[SourceName], Path], Plans] = plans_of,
    ) -> None:
        self._load = load
        self._file = file
        self._looks = Looks(file.loaded if file is not None else "")
        self._live = Live(config, environ, {})
        self._at_start = config
        self._environ = environ
        self._plans = plans
        self._notifier = Notifier(environ)
        self._stopping = asyncio.Event()
        self._starting: asyncio.Future[None] | None = None
        self._reload_lock = asyncio.Lock()
        self._status_timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks(self._status_soon)
        self._subscribers = Subscribers()
        self._state_dir = config.state_dir(environ)
        self._is_ready = asyncio.Event()
        self._seen = asyncio.Event()
        self._built = False

    # --- life ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until `stop` (or SIGTERM, SIGINT), and stop.

        Raises:
            AgentError: it cannot start; nothing was sent or changed.
        """
        async with contextlib.AsyncExitStack() as stack:
            async with self._reload_lock:  # the API answers before all is built
                await self._start_unless_stopped(stack)
            await self._stopping.wait()
            self._notifier.stopping()
            log.info("agent.stopping")
            # One under way is done to its end, and none begins any more.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_LIMIT * 0.1):
                    await self._reload_lock.acquire()
        log.info("agent.stopped")

    def stop(self) -> None:
        """Ask `run` to end, wherever it is."""
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()

    async def _start_unless_stopped(self, stack: contextlib.AsyncExitStack) -> None:
        """A stop in the middle of it ends it there; what was started by then is in the stack."""
        self._starting = asyncio.ensure_future(self._start(stack))
        try:
            await self._starting
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if not self._stopping.is_set() or me is None or me.cancelling():
                raise

    def _heed_signals(self) -> None:
        """From when there is something to be ended in order; before, a signal just ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)

    async def ready(self) -> None:
        """Wait until the first look at the phones is done."""
        await self._is_ready.wait()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        config = self._live.config
        self._store = Store.open(
            self._state_dir,
            retention=config.delivery.retention,
            on_health=lambda _: self._subscribers.publish(Topic.STORE),
        )
        stack.push_async_callback(self._store.close)
        self._heed_signals()
        self._recovered_from = self._store.health.recovered_from
        self._live.webhooks = await self._identified(config)
        self._cancel_deleted()

        self._client = Client()
        stack.push_async_callback(self._client.close)
        self._dispatcher = Dispatcher(
            self._store.callbacks,
            self._client,
            webhooks=self._live.webhooks,
            settings=config.delivery,
        )
        self._commits = Commits(
            self._store, self._outbox(config, self._live.webhooks), self._dispatcher.notify
        )
        self._pipeline = Pipeline(
            config,
            await self._store.devices.all(),
            self._commits,
            Clocks(loop.time, wall_ms, loop.call_later),
            self._recheck,
            self._seen.set,
        )
        self._sources = Supervisor(self._pipeline.observe)
        self._build_usage()
        self.services = self._build_services()
        self._subscribe()
        await self._leases.load()
        self._leases.turn(on=config.usage.leases)
        usage = usage_plans_of(config, self._pipeline.roster.find)
        self._assume_last_use(usage)
        stack.push_async_callback(self._dispatcher.stop, STOP_LIMIT * 0.3)
        stack.push_async_callback(self._leases.close, STOP_LIMIT * 0.1)
        stack.push_async_callback(self._close_pipeline)

        self._api = ApiServer(self.services)
        self._api.hosts = config.api.hosts
        stack.push_async_callback(self._api.close)
        self._api.use_unix(await self._api.open_unix(config.socket_path(self._environ)))
        if config.api.listen:
            self._api.use_tcp(await self._api.open_tcp(config.api.listen))

        stack.push_async_callback(self._poller.close)
        await self._poller.reconfigure(config.usage.interval, usage)

        # From here on nothing keeps the agent from starting: now it may send.
        await self._dispatcher.start()
        stack.push_async_callback(self._sources.close)
        self._built = True
        plans = self._plans(config, sources_of(config), self._state_dir)
        self._sources.start(plans)
        limit = config.agent.start_limit if plans else 0.0
        settle = loop.call_later(limit, self._settle)
        stack.callback(settle.cancel)
        if not plans:
            self._seen.set()
        self._begin_background(settle)
        stack.push_async_callback(self._end_background)
        stack.callback(self._fall_silent)

    def _build_usage(self) -> None:
        """What tells whether a phone is in use, over the pipeline's phones."""
        loop = asyncio.get_running_loop()
        self._leases = Leases(
            self._store.leases,
            self._subscribers.publisher(Topic.LEASE),
            candidates=partial(candidates, self._pipeline),
            candidate=partial(candidate, self._pipeline),
            wall_ms=wall_ms,
            call_later=loop.call_later,
        )
        self._usage = CurrentUsage(
            STRENGTH,
            lease=self._leases.reading,
            phones=self._pipeline.views.phones,
            changed=self._subscribers.publisher(Topic.USAGE),
        )
        self._poller = Poller(
            self._usage,
            Schedule(loop.call_later),
            phones=self._pipeline.views.phones,
            resolve=self._pipeline.roster.find,
            wall_ms=wall_ms,
        )

    def _subscribe(self) -> None:
        """Who hears of what. What is a call instead, and why, stands in `agent.subscribers`."""
        subscribe, publisher = self._subscribers.subscribe, self._subscribers.publisher
        subscribe(Topic.LEASE, self._usage.lease_changed, self._poller.nudge)
        subscribe(Topic.USAGE, self._use)
        subscribe(Topic.DEVICE, self._events.changed, self._on_change)
        subscribe(Topic.TRANSITION, lambda _: self._events.stored())
        subscribe(Topic.STORE, self._on_store)
        self._pipeline.watch(publisher(Topic.DEVICE))
        self._pipeline.commits.watch(partial(self._subscribers.publish, Topic.TRANSITION))
        self._pipeline.watch_renames(self._rename)
        self._subscribers.publish(Topic.STORE)  # it may have been made anew since it was opened

    def _begin_background(self, settle: asyncio.TimerHandle) -> None:
        self._tasks.finish("first look at usage", self._look_at_usage)
        self._tasks.finish("start", partial(self._announce, settle))
        if self._notifier.watchdog_interval:
            self._tasks.keep("watchdog", self._feed_watchdog)
        if self._file is not None:
            self._tasks.keep("watch of the configuration file", self._watch(self._file).run)

    def _fall_silent(self) -> None:
        """Sources, sessions and leases that end from now on do so with us: nothing is derived."""
        self._pipeline.stop()
        self._leases.freeze()

    def _assume_last_use(self, usage: UsagePlans) -> None:
        """What was in use when the agent stopped is so until a usage source says otherwise."""
        leased = {lease.udid for lease in self._leases.all()}
        for view in self._pipeline.views.all():
            if usage and view.state is DeviceState.UTILIZING:
                # Whether a session went on below a lease is not stored.
                self._usage.assume(view.udid, "" if view.udid in leased else view.holder)

    def _recheck(self, source: SourceName) -> Awaitable[None] | None:
        return self._sources.recheck(source)

    async def _look_at_usage(self) -> None:
        """Derive states once the usage of the phones that the sources see was read, too."""
        await self._seen.wait()
        await self._poller.first_round()
        self._settle()

    def _settle(self) -> None:
        """Derive states from now on, by all that is known of usage: what is still to be told, too.

        Else a phone in use would be online for a moment, and call back.
        """
        for udid in self._pipeline.roster.udids():
            self._use(udid)
        self._pipeline.settle()

    def _build_services(self) -> Services:
        live = self._live
        devices = Devices(self._pipeline, self._store)
        self._events = Events(self._pipeline, self._store)
        self._health = Health(self._pipeline, self._store, self._poller, self._tasks)
        return Services(
            live=live,
            devices=devices,
            events=self._events,
            webhooks=Webhooks(live, self._dispatcher, self._client),
            editor=WebhookEditor(
                None if self._file is None else self._file.path, live, partial(self.reload, "edit")
            ),
            deliveries=Deliveries(live, self._store, self._dispatcher, devices),
            leases=LeaseDesk(self._leases, devices),
            health=self._health,
            scraper=Scraper(
                live=live,
                pipeline=self._pipeline,
                store=self._store,
                dispatcher=self._dispatcher,
                leases=self._leases,
                poller=self._poller,
                health=self._health,
            ),
            reload=self.reload,
        )

    async def _announce(self, settle: asyncio.TimerHandle) -> None:
        """Say READY once states are derived."""
        await self._pipeline.wait_settled()
        settle.cancel()
        self._is_ready.set()
        # What is there by now stays: looking through it for garbage holds up callbacks by 30 ms.
        gc.collect()
        gc.freeze()
        self._notifier.ready()
        self._tell_status()
        log.info(
            "agent.ready",
            version=__version__,
            devices=len(self._pipeline.views.all()),
            webhooks=len(self._live.webhooks),
            socket=str(self._live.config.socket_path(self._environ)),
            api=self._api.address or "off",
            state_dir=str(self._state_dir),
        )

    async def _feed_watchdog(self) -> None:
        """While the loop turns, decisions are on time and the dispatcher lives, say so."""
        while True:
            if self._pipeline.overdue() < OVERDUE_LIMIT and self._dispatcher.alive:
                self._notifier.alive()
            else:
                log.error("watchdog.starved", overdue_s=self._pipeline.overdue())
            await asyncio.sleep(self._notifier.watchdog_interval)

    async def _close_pipeline(self) -> None:
        """What is decided gets stored; bounded, because a full disk may never take it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT * 0.1):
                await self._pipeline.close()

    async def _end_background(self) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
        await self._tasks.close(STOP_LIMIT / 5)

    # --- reload ----------------------------------------------------------------------------

    async def reload(self, by: ReloadBy = "request") -> Reloaded:
        """Parse, validate, build, then swap; whatever fails, everything is as it was.

        It is done to its end, though its caller may be cancelled: a client that hangs up must not
        leave half of it behind.

        Args:
            by: who wants it, for operators; "file" asks only if what is in the file is new.

        Raises:
            ConfigError: every mistake in the file.
            InternalError: a fault of the agent; the message says what is in force.
            AgentError: an address cannot be listened on, an id belongs to another webhook.
        """
        return await self._tasks.whole("reload", self._reload_alone(by))

    async def _reload_alone(self, by: ReloadBy) -> Reloaded:
        async with self._reload_lock:
            if by == "file" and not self._looks.wanted:
                return _NOTHING_NEW  # another reload came first
            if self._is_ready.is_set():
                self._notifier.reloading()
            try:
                result, failed = await self._reload()
            except AgentError as error:
                self._refuse(error, by)
                raise
            except Exception as error:
                log.exception("reload.failed", by=by)
                fault = InternalError(f"internal error ({kind_of(error)}): see the log")
                self._refuse(fault, by)
                raise fault from None
            else:
                last = LastReload(ok=not failed, at_ms=wall_ms(), by=by, failed=failed)
                self._note(last)
                if failed:
                    raise InternalError(last.problem())
                log.info("reload.done", by=by, **result)
                return result
            finally:
                if self._is_ready.is_set():
                    self._notifier.ready()
                self._tell_status()

    def _refuse(self, error: AgentError, by: ReloadBy, text: str | None = None) -> None:
        """Text: the fingerprint of what is refused, where that was not loaded."""
        self._note(LastReload(ok=False, at_ms=wall_ms(), error=str(error), by=by), text)
        log.error("reload.refused", by=by, error=str(error), hint="the old configuration stays")

    def _note(self, reload: LastReload, text: str | None = None) -> None:
        self._health.reloaded = reload
        if self._file is not None:
            text = self._file.loaded if text is None else text
            self._looks.loaded(text, ok=reload.in_force)
        self._status_soon()

    async def _reload(self) -> tuple[Reloaded, tuple[str, ...]]:
        """What came of it, and the parts that failed to take the new configuration."""
        old = self._live.config
        new = await in_thread(self._load, "read config")
        usage = usage_plans_of(new, self._pipeline.roster.find)
        sources = self._plans(new, sources_of(new), self._state_dir)
        socket_path = new.socket_path(self._environ)
        unix = tcp = None
        async with contextlib.AsyncExitStack() as undo:
            await in_thread(partial(_try_tls, new.webhooks), "try tls")
            made = self._poller.make(usage)
            undo.push_async_callback(self._poller.discard, made)
            if socket_path != old.socket_path(self._environ):
                unix = await self._api.open_unix(socket_path)
                undo.push_async_callback(unix.discard)
            if new.api.listen and new.api.listen != old.api.listen:
                tcp = await self._api.open_tcp(new.api.listen)
                undo.push_async_callback(tcp.discard)
            webhooks = await self._identified(new)  # the last: names are stored with it
            undo.pop_all()
        # From here on nothing stops it half-way: each part takes its own of the new configuration,
        # whatever comes of the others.
        changed = [
            name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)
        ]
        self._live.config, self._live.webhooks = new, webhooks
        steps = Steps()
        self._api.hosts = new.api.hosts
        if unix is not None:
            steps.do("api", partial(self._api.use_unix, unix))
        if new.api.listen != old.api.listen:
            steps.do("api", partial(self._api.use_tcp, tcp))
        self._store.retention = new.delivery.retention
        steps.do("delivery", partial(self._dispatcher.reconfigure, webhooks, new.delivery))
        # Without a pause between these: what a source was told to leave out must not be heard by a
        # pipeline that knows of it already, nor the other way round.
        dropped = self._sources.drop(sources)
        steps.do("devices", partial(self._reconfigure_devices, new, webhooks))
        steps.do("leases", partial(self._leases.turn, on=new.usage.leases))
        steps.do("events", self._events.refresh)
        steps.do("delivery", self._cancel_deleted)
        restarted = await steps.wait("sources", self._sources.swap(sources, dropped))
        await steps.wait("usage", self._poller.swap(new.usage.interval, usage, made))
        restart = _needs_restart(self._at_start, new, self._environ)
        if restart:
            log.warning("reload.needs_restart", keys=restart)
        result: Reloaded = {
            "changed": changed,
            "restarted_sources": restarted or [],
            "needs_restart": restart,
        }
        return result, steps.failed

    def _outbox(self, config: Config, webhooks: Mapping[int, Webhook]) -> Outbox:
        return Outbox(webhooks, config.org_of, socket.gethostname())

    def _reconfigure_devices(self, config: Config, webhooks: Mapping[int, Webhook]) -> None:
        self._commits.outbox = self._outbox(config, webhooks)
        self._pipeline.reconfigure(config)

    def _watch(self, file: ConfigFile) -> ConfigWatch:
        return ConfigWatch(
            file,
            self._looks,
            enabled=lambda: self._live.config.agent.watch_config,
            reload=partial(self.reload, "file"),
            refuse=lambda error, text: self._refuse(error, "file", text),
        )

    def _cancel_deleted(self) -> None:
        """Cancel what waits for webhooks that are gone; a failing disk may take its time.

        What is in force counts from this very call on.
        """
        cancelling = self._store.webhooks.retain(self._live.webhooks)

        async def tell() -> None:
            try:
                cancelled = await cancelling
            except StoreError as error:
                log.error("webhooks.not_cancelled", error=str(error))  # noqa: TRY400 - says it all
                return
            if cancelled:
                log.warning(
                    "webhooks.cancelled", callbacks=cancelled, hint="their webhooks are gone"
                )

        self._tasks.finish("cancelling for webhooks that are gone", tell)

    def _reload_on_signal(self) -> None:
        async def work() -> None:
            with contextlib.suppress(AgentError):  # said in the log already
                await self.reload("signal")

        self._tasks.finish("reload by signal", work)

    async def _identified(self, config: Config) -> dict[int, Webhook]:
        """The webhooks by id; those without one get theirs, once and for ever."""
        wanted = [(config.org_of(w), w.name, w.id) for w in config.webhooks]
        try:
            async with asyncio.timeout(ID_LIMIT):
                ids = await self._store.webhooks.ids(wanted)
        except TimeoutError:
            why = self._store.health.error or "the disk is too slow"
            self._tasks.finish("names of webhooks", self._keep_names)
            raise StartError(f"new webhooks need ids, which cannot be stored now: {why}") from None
        return {
            id_: webhook.model_copy(update={"id": id_})
            for id_, webhook in zip(ids, config.webhooks, strict=True)
        }

    async def _keep_names(self) -> None:
        """Ids that were asked for in vain may still be stored, with new names: undone behind it."""
        with contextlib.suppress(StoreError):  # then neither was stored
            await self._store.webhooks.ids(self._names_in_force())

    def _names_in_force(self) -> list[tuple[int, str, int | None]]:
        org_of = self._live.config.org_of
        return [
            (org_of(webhook), webhook.name, id_) for id_, webhook in self._live.webhooks.items()
        ]

    # --- status ----------------------------------------------------------------------------

    async def _store_again(self) -> None:
        """Give a store that was made anew what memory knows; salvage may have missed some of it."""
        wanted = self._names_in_force()
        # All of it is queued here and now: a lease that is released while this waits must not be
        # put behind its deletion, and come back at the next start.
        self._pipeline.store_again()
        leases = [self._store.leases.put(lease) for lease in self._leases.all()]
        try:
            await asyncio.gather(self._store.webhooks.ids(wanted), *leases)
        except StoreError as error:
            log.error("store.not_restored", error=str(error))  # noqa: TRY400 - says it all

    def _on_store(self, _udid: str) -> None:
        recovered_from = self._store.health.recovered_from
        if recovered_from != self._recovered_from:
            self._recovered_from = recovered_from
            self._tasks.finish("restoring what memory knows", self._store_again)
        self._status_soon()

    def _on_change(self, udid: str) -> None:
        self._status_soon()
        self._poller.phones_changed()
        self._leases.serve(udid)

    def _use(self, udid: str) -> None:
        self._pipeline.use(udid, self._usage.reading(udid))

    def _rename(self, old: str, new: str) -> None:
        """In the same turn everywhere: a call, and no news."""
        self._poller.rename(old, new)
        self._leases.rename(old, new)

    def _status_soon(self) -> None:
        if self._built and self._status_timer is None:
            loop = asyncio.get_running_loop()
            self._status_timer = loop.call_later(STATUS_DELAY, self._tell_status)

    def _tell_status(self) -> None:
        self._status_timer = None
        self._notifier.status(self._health.status_line())


def _needs_restart(old: Config, new: Config, environ: Mapping[str, str]) -> list[str]:
    """The keys that differ from those it was started with, and that only a start reads."""
    keys = ("log_level", "log_format")
    restart = [f"agent.{key}" for key in keys if getattr(new.agent, key) != getattr(old.agent, key)]
    if new.state_dir(environ) != old.state_dir(environ):
        restart.append("agent.state_dir")
    return restart


def _try_tls(webhooks: Iterable[Webhook]) -> None:
    """Build each webhook's TLS context once; UnusableError names the webhook and the file."""
    for webhook in webhooks:
        if webhook.tls != Tls():
            try:
                tls_context(webhook)
            except AgentError as error:
                raise UnusableError(f"webhook {webhook.name!r}: {error}") from None

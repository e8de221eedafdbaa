"""The only wiring: builds the parts, starts them in order, reloads (build, then swap), stops.

Order of a start: the store (whose lock says we are alone), webhook ids, the pipeline with the
stored devices, leases, the API, the dispatcher, and last the sources, whose first snapshots settle
the pipeline: then the agent is ready. A stop goes the other way, and ends within `STOP_LIMIT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import signal
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from yarl import URL

from agent import __version__
from agent.api.facade import iso
from agent.api.server import ApiServer
from agent.clock import wall_ms
from agent.config import Tls, parse_duration
from agent.deliver.client import Client, bare_url, tls_context
from agent.deliver.dispatcher import Dispatcher, WebhookStats
from agent.deliver.payload import new_message_id, render
from agent.deliver.policy import describe
from agent.errors import (
    AgentError,
    StartError,
    StoreError,
    UnknownDeliveryError,
    UnknownDeviceError,
    UnknownWebhookError,
)
from agent.model import (
    Callback,
    CallbackState,
    Device,
    DeviceState,
    Down,
    Platform,
    SourceName,
    Transition,
)
from agent.notify import Notifier
from agent.pipeline import Clocks, DeviceView, Pipeline, sources_of
from agent.sources.adb import AdbSource
from agent.sources.base import backoff
from agent.sources.udev import UdevSource
from agent.sources.usbmux import UsbmuxSource
from agent.store import DeliveryQuery, Store, StoreHealth
from agent.usage.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    from agent.api.facade import Json
    from agent.config import Config, Webhook
    from agent.model import Lease
    from agent.sources.base import DeviceSource
    from agent.store import DeliveryRow

log = structlog.get_logger(__name__)

STOP_LIMIT = 5.0
"""Seconds within which a stop ends; the store may take 3 of them to write what is queued."""
ID_LIMIT = 5.0
"""Seconds to wait for the store to give new webhooks their ids."""
STATUS_DELAY = 1.0
"""Seconds that changes are gathered for before `STATUS=` tells of them."""
MAX_ROWS = 1000
"""Rows of one answer."""
OVERDUE_LIMIT = 10.0
"""Seconds that a timed decision may be late before the watchdog is no longer fed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make a source, and the settings on which it hangs: equal ones need no restart."""

    settings: object
    make: Callable[[], DeviceSource]


Plans = dict[SourceName, Plan]


def plans_of(config: Config, state_dir: Path) -> Plans:
    """The sources that a configuration turns on."""
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
    return {name: all_plans[name] for name in sources_of(config)}


class App:
    """One running agent.

    Args:
        load: reads the configuration anew, for a reload; raises ConfigError.
        config: the one to start with.
        environ: the process's environment.
        plans: which sources to run for a configuration and a state directory.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        config: Config,
        environ: Mapping[str, str] = os.environ,
        plans: Callable[[Config, Path], Plans] = plans_of,
    ) -> None:
        self._load = load
        self._config = config
        self._environ = environ
        self._plans = plans
        self._notifier = Notifier(environ)
        self._stopping = asyncio.Event()
        self._reload_lock = asyncio.Lock()
        self._running: dict[SourceName, tuple[Plan, asyncio.Task[None]]] = {}
        self._status_timer: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._last_reload: Json = {"ok": True, "at": None, "error": ""}
        self._webhooks: dict[int, Webhook] = {}
        self._state_dir = config.state_dir(environ)
        self._started_ms = wall_ms()
        self._is_ready = asyncio.Event()
        self._built = False

    # --- life ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until `stop` (or SIGTERM, SIGINT), and stop.

        Raises:
            AgentError: it cannot start; nothing was sent or changed.
        """
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
            await self._stopping.wait()
            self._notifier.stopping()
            log.info("agent.stopping")
        log.info("agent.stopped")

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    async def ready(self) -> None:
        """Wait until the first look at the phones is done."""
        await self._is_ready.wait()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        config = self._config
        self._store = Store.open(
            self._state_dir,
            retention=config.delivery.retention,
            on_health=self._on_health,
        )
        stack.push_async_callback(self._store.close)
        self._recovered_from = self._store.health.recovered_from
        self._webhooks = await self._identified(config)
        self._spawn(self._cancel_deleted())

        self._client = Client()
        stack.push_async_callback(self._client.close)
        self._dispatcher = Dispatcher(
            self._store,
            self._client,
            webhooks=self._webhooks,
            max_age=config.delivery.max_age,
            concurrency=config.delivery.concurrency,
            timeout=config.delivery.timeout,
            drain_rate=config.delivery.drain_rate,
        )
        self._pipeline = Pipeline(
            config,
            self._webhooks,
            await self._store.devices(),
            self._store,
            self._dispatcher.notify,
            Clocks(loop.time, wall_ms, loop.call_later),
            socket.gethostname(),
        )
        self._leases = Leases(
            self._store, self._pipeline.use, wall_ms=wall_ms, call_later=loop.call_later
        )
        await self._leases.load()
        stack.push_async_callback(self._dispatcher.stop, STOP_LIMIT * 0.3)
        stack.push_async_callback(self._leases.close, STOP_LIMIT * 0.1)
        stack.push_async_callback(self._close_pipeline)

        self._api = ApiServer(self)
        stack.push_async_callback(self._api.close)
        await self._api.listen_unix(config.socket_path(self._environ))
        await self._api.listen_tcp(config.api.listen)

        # From here on nothing keeps the agent from starting: now it may send.
        await self._dispatcher.start()
        stack.push_async_callback(self._end_sources)
        self._built = True
        self._pipeline.watch(lambda _: self._status_soon())
        for name, plan in self._plans(config, self._state_dir).items():
            self._start_source(name, plan)
        limit = config.agent.start_limit if self._running else 0.0
        settle = loop.call_later(limit, self._pipeline.settle)
        stack.callback(settle.cancel)
        self._spawn(self._announce(settle))
        self._spawn(self._feed_watchdog())
        stack.push_async_callback(self._end_background)
        _warn_of_unbuilt(config)

    async def _announce(self, settle: asyncio.TimerHandle) -> None:
        """Say READY once states are derived."""
        await self._pipeline.wait_settled()
        settle.cancel()
        self._is_ready.set()
        self._notifier.ready()
        self._tell_status()
        log.info(
            "agent.ready",
            version=__version__,
            devices=len(self._pipeline.views()),
            webhooks=len(self._webhooks),
            socket=str(self._config.socket_path(self._environ)),
            api=self._api.address or "off",
            state_dir=str(self._state_dir),
        )

    async def _feed_watchdog(self) -> None:
        """While the loop turns, decisions are on time and the dispatcher lives, say so."""
        interval = self._notifier.watchdog_interval
        while interval:
            if self._pipeline.overdue() < OVERDUE_LIMIT and self._dispatcher.alive:
                self._notifier.alive()
            else:
                log.error("watchdog.starved", overdue_s=self._pipeline.overdue())
            await asyncio.sleep(interval)

    async def _close_pipeline(self) -> None:
        """What is decided gets stored; bounded, because a full disk may never take it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT * 0.1):
                await self._pipeline.close()

    async def _end_background(self) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
        await _cancel(self._background)

    # --- sources ---------------------------------------------------------------------------

    def _start_source(self, name: SourceName, plan: Plan) -> None:
        task = asyncio.get_running_loop().create_task(self._supervise(name, plan), name=str(name))
        self._running[name] = (plan, task)

    async def _supervise(self, name: SourceName, plan: Plan) -> None:
        """Run a source for ever; one that breaks its promise not to raise is started again."""
        for delay in backoff(first=1.0, cap=60.0):
            try:
                await plan.make().run(self._pipeline.observe)
                reason = "the source ended by itself"
            except Exception as error:
                log.exception("source.failed", source=str(name), retry_in_s=delay)
                reason = f"internal error ({type(error).__name__}): see the log"
            self._pipeline.observe(Down(name, reason))
            await asyncio.sleep(delay)

    async def _end_sources(self) -> None:
        await _cancel({task for _, task in self._running.values()})
        self._running.clear()

    async def _swap_sources(self, config: Config) -> list[str]:
        """Restart what changed; what did not is not touched. Returns their names."""
        plans = self._plans(config, self._state_dir)
        changed = []
        for name in SourceName:
            old, new = self._running.get(name), plans.get(name)
            if old is not None and new is not None and old[0].settings == new.settings:
                continue
            if old is not None:
                await _cancel({old[1]})
                del self._running[name]
                self._pipeline.observe(Down(name, "its configuration changed: reconnecting"))
                changed.append(str(name))
            if new is not None:
                self._start_source(name, new)
                changed.append(str(name))
        return sorted(set(changed))

    # --- reload ----------------------------------------------------------------------------

    async def reload(self) -> Json:
        """Parse, validate, build, then swap; a file that cannot be used changes nothing.

        Raises:
            ConfigError: every mistake in the file.
            AgentError: an address cannot be listened on, an id belongs to another webhook.
        """
        async with self._reload_lock:
            self._notifier.reloading()
            try:
                result = await self._reload()
            except AgentError as error:
                self._last_reload = {"ok": False, "at": iso(wall_ms()), "error": str(error)}
                log.error("reload.refused", error=str(error), hint="the old configuration stays")  # noqa: TRY400 - the message says it all
                raise
            else:
                self._last_reload = {"ok": True, "at": iso(wall_ms()), "error": ""}
                log.info("reload.done", **result)
                return result
            finally:
                self._notifier.ready()
                self._tell_status()

    async def _reload(self) -> Json:
        new = self._load()
        old = self._config
        webhooks = await self._identified(new)
        await asyncio.to_thread(_try_tls, webhooks.values())
        restart = []
        if new.state_dir(self._environ) != self._state_dir:
            restart.append("agent.state_dir")
        if new.socket_path(self._environ) != old.socket_path(self._environ):
            restart.append("api.socket")
        if new.api.listen != old.api.listen:
            await self._api.listen_tcp(new.api.listen)
        # From here on nothing can fail.
        changed = [
            name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)
        ]
        self._config, self._webhooks = new, webhooks
        self._dispatcher.reconfigure(
            webhooks,
            max_age=new.delivery.max_age,
            concurrency=new.delivery.concurrency,
            timeout=new.delivery.timeout,
            drain_rate=new.delivery.drain_rate,
        )
        self._pipeline.reconfigure(new, webhooks)
        sources = await self._swap_sources(new)
        self._spawn(self._cancel_deleted())
        if restart:
            log.warning("reload.needs_restart", keys=restart)
        _warn_of_unbuilt(new)
        return {
            "changed": changed,
            "restarted_sources": sources,
            "needs_restart": restart,
        }

    async def _cancel_deleted(self) -> None:
        """Cancel what waits for webhooks that are gone; a failing disk may take its time."""
        try:
            cancelled = await self._store.retain_webhooks(self._webhooks)
        except StoreError as error:
            log.error("webhooks.not_cancelled", error=str(error))  # noqa: TRY400 - says it all
            return
        if cancelled:
            log.warning("webhooks.cancelled", callbacks=cancelled, hint="their webhooks are gone")

    def _reload_on_signal(self) -> None:
        async def work() -> None:
            with contextlib.suppress(AgentError):  # said in the log already
                await self.reload()

        self._spawn(work())

    async def _identified(self, config: Config) -> dict[int, Webhook]:
        """The webhooks by id; those without one get theirs, once and for ever."""
        wanted = [(config.org_of(w), w.name, w.id) for w in config.webhooks]
        try:
            async with asyncio.timeout(ID_LIMIT):
                ids = await self._store.webhook_ids(wanted)
        except TimeoutError:
            why = self._store.health.error or "the disk is too slow"
            raise StartError(f"new webhooks need ids, which cannot be stored now: {why}") from None
        return {
            id_: webhook.model_copy(update={"id": id_})
            for id_, webhook in zip(ids, config.webhooks, strict=True)
        }

    # --- what the API asks -----------------------------------------------------------------

    def tcp_token(self) -> str | None:
        """See `api.facade.Agent`."""
        token = self._config.api.token
        return None if token is None else token.read(self._environ)

    def devices(self) -> list[Json]:
        """See `api.facade.Agent`."""
        return [_device_row(view) for view in self._pipeline.views()]

    def webhooks(self) -> list[Json]:
        """See `api.facade.Agent`."""
        stats = self._dispatcher.stats()
        return [
            {
                "id": id_,
                "name": webhook.name,
                "url": bare_url(URL(webhook.url)),
                "description": webhook.description,
                "events": [str(event) for event in webhook.events],
                "enabled": webhook.enabled,
                "orgId": self._config.org_of(webhook),
                "payload": webhook.payload,
                "devices": list(webhook.devices),
                "tags": list(webhook.tags),
                "platforms": [str(platform) for platform in webhook.platforms],
                **_delivery_state(webhook, stats.get(id_)),
            }
            for id_, webhook in self._webhooks.items()
        ]

    async def deliveries(self, query: dict[str, str]) -> list[Json]:
        """See `api.facade.Agent`."""
        rows = await self._store.deliveries(self._delivery_query(query))
        return [self._delivery_row(row) for row in rows]

    async def delivery(self, message_id: str) -> Json:
        """See `api.facade.Agent`."""
        rows = await self._store.deliveries(DeliveryQuery(message_id=message_id))
        if not rows:
            raise UnknownDeliveryError(
                f"no callback {message_id!r} is stored: mistyped, or older than delivery.retention"
            )
        row = rows[0]
        return {
            **self._delivery_row(row),
            "headers": dict(row.callback.headers),
            "body": row.callback.body.decode(errors="replace"),
            "tries": [
                {
                    "at": iso(attempt.started_ms),
                    "duration_ms": attempt.duration_ms,
                    "status": attempt.status,
                    "error": attempt.error,
                    "answer": attempt.answer,
                }
                for attempt in await self._store.attempts(message_id)
            ],
        }

    async def replay(self, query: dict[str, str]) -> list[str]:
        """See `api.facade.Agent`."""
        if "id" not in query:
            query = {"state": "dead", **query}
        wanted = self._delivery_query({"limit": "1000", **query})
        rows = await self._store.deliveries(wanted)
        # Oldest first: a lane sends in stored order whatever comes here, but the answer reads so.
        again = [row.callback for row in reversed(rows) if row.state is not CallbackState.PENDING]
        for callback in again:
            await self._store.finish(callback, None, CallbackState.PENDING)
        self._dispatcher.notify(again)
        log.info("deliveries.replayed", count=len(again), **query)
        return [callback.message_id for callback in again]

    async def test_webhook(self, name: str) -> Json:
        """See `api.facade.Agent`."""
        id_ = self._webhook_id(name)
        webhook = self._webhooks[id_]
        now = wall_ms()
        message_id = new_message_id()
        transition = Transition(
            "device-agent-test", None, webhook.events[0], "sent by `webhooks test`", now
        )
        device = Device(
            "device-agent-test", Platform.ANDROID, "TEST: no real device (webhooks test)"
        )
        body, headers = render(
            transition,
            device,
            webhook,
            org_id=self._config.org_of(webhook),
            message_id=message_id,
            created_ms=now,
            host=socket.gethostname(),
        )
        sample = Callback(message_id, id_, device.udid, now, body, headers)
        limit = webhook.timeout or self._config.delivery.timeout
        answer = await self._client.attempt(webhook, sample, now, limit=limit)
        return {
            "webhook": webhook.name,
            "id": message_id,
            "url": bare_url(URL(webhook.url)),
            "ok": answer.status is not None and 200 <= answer.status < 300,  # noqa: PLR2004 - 2xx
            "status": answer.status,
            "error": describe(answer),
            "answer": answer.excerpt,
            "duration_ms": answer.duration_ms,
            "body": body.decode(),
        }

    def _delivery_row(self, row: DeliveryRow) -> Json:
        callback = row.callback
        webhook = self._webhooks.get(callback.webhook_id)
        pending = row.state is CallbackState.PENDING
        return {
            "id": callback.message_id,
            "webhookId": callback.webhook_id,
            "webhookName": webhook.name if webhook else "",
            "deviceUdid": callback.udid,
            "deviceState": str(callback.state) if callback.state else None,
            "created": iso(callback.created_ms),
            "state": str(row.state),
            "attempts": callback.attempts,
            "due": iso(callback.due_ms) if pending else None,
            "finished": iso(row.finished_ms or 0),
            "status": row.status,
            "error": row.error,
        }

    def _delivery_query(self, query: dict[str, str]) -> DeliveryQuery:
        unknown = set(query) - {"webhook", "device", "state", "since", "limit", "id"}
        if unknown:
            raise ValueError(f"unknown filter {min(unknown)!r}")
        state = query.get("state")
        if state is not None and state not in set(CallbackState):
            raise ValueError(f"no state {state!r}: {', '.join(CallbackState)}")
        limit = query.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_ROWS:
            raise ValueError(f"'limit' is 1 to {MAX_ROWS}, not {limit!r}")
        try:
            webhook_id = self._webhook_id(query["webhook"]) if "webhook" in query else None
            udid = self._udid(query["device"]) if "device" in query else None
        except AgentError as error:
            raise ValueError(str(error)) from None
        return DeliveryQuery(
            webhook_id=webhook_id,
            udid=udid,
            state=CallbackState(state) if state else None,
            message_id=query.get("id"),
            since_ms=_since_ms(query["since"]) if "since" in query else None,
            limit=int(limit),
        )

    def _webhook_id(self, text: str) -> int:
        """The webhook meant, by name or id."""
        for id_, webhook in self._webhooks.items():
            if text in {webhook.name, str(id_)}:
                return id_
        names = [webhook.name for webhook in self._webhooks.values()]
        near = difflib.get_close_matches(text, names, n=2, cutoff=0.4) or names[:5]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "none is configured"
        raise UnknownWebhookError(f"no webhook {text!r}: {hint}")

    def leases(self) -> list[Lease]:
        """See `api.facade.Agent`."""
        return self._leases.all()

    async def acquire(self, udid: str, holder: str, purpose: str, ttl: float) -> Lease:
        """See `api.facade.Agent`."""
        return await self._leases.acquire(self._udid(udid), holder, purpose, ttl)

    async def renew(self, lease_id: str) -> Lease:
        """See `api.facade.Agent`."""
        return await self._leases.renew(lease_id)

    async def release(self, lease_id: str) -> Lease:
        """See `api.facade.Agent`."""
        return await self._leases.release(lease_id)

    def health(self) -> Json:
        """See `api.facade.Agent`."""
        # usbmuxd comes and goes with the first and the last iPhone; so may its support.
        problems = [
            f"{name}: {reason}"
            for name, reason in sorted(self._pipeline.down.items())
            if name is not SourceName.USBMUX or self._has_iphones()
        ]
        store = self._store.health
        if not store.ok:
            problems.append(f"store: {store.error} ({store.unstored} changes wait in memory)")
        if store.dropped:
            problems.append(f"store: {store.dropped} changes were lost: memory was full")
        if store.recovered_from:
            problems.append(f"store: was corrupt and set aside as {store.recovered_from}")
        if not self._last_reload["ok"]:
            problems.append(f"reload: refused at {self._last_reload['at']}")
        return {
            "ready": self._pipeline.settled and store.ok,
            "version": __version__,
            "since": iso(self._started_ms),
            "problems": problems,
            "reload": self._last_reload,
        }

    def _has_iphones(self) -> bool:
        return any(
            view.platform is Platform.IOS and view.state is not DeviceState.UNPLUGGED
            for view in self._pipeline.views()
        )

    def _udid(self, text: str) -> str:
        """The device meant; letter case and dashes do not matter."""
        views = self._pipeline.views()
        by_fold = {_fold(view.udid): view.udid for view in views}
        if (found := by_fold.get(_fold(text))) is not None:
            return found
        near = difflib.get_close_matches(_fold(text), list(by_fold), n=3, cutoff=0.5)
        by_name = [v.udid for v in views if v.name.casefold() == text.casefold()]
        names = {view.udid: view.name for view in views}
        shown = [f"{udid} ({names[udid]})" for udid in [*by_name, *(by_fold[n] for n in near)]]
        if not views:
            hint = "no device is known yet"
        elif shown:
            hint = f"did you mean {' or '.join(dict.fromkeys(shown))}?"
        else:
            hint = f"known: {', '.join(v.udid for v in views[:5])}" + (
                f" and {len(views) - 5} more" if len(views) > 5 else ""  # noqa: PLR2004 - as shown
            )
        raise UnknownDeviceError(f"no device {text!r}: {hint}")

    # --- status ----------------------------------------------------------------------------

    async def _store_again(self) -> None:
        """Give a store that was made anew what memory knows; salvage may have missed some of it."""
        wanted = [(self._config.org_of(w), w.name, id_) for id_, w in self._webhooks.items()]
        # All of it is queued here and now: a lease that is released while this waits must not be
        # put behind its deletion, and come back at the next start.
        self._pipeline.store_again()
        leases = [self._store.put_lease(lease) for lease in self._leases.all()]
        try:
            await asyncio.gather(self._store.webhook_ids(wanted), *leases)
        except StoreError as error:
            log.error("store.not_restored", error=str(error))  # noqa: TRY400 - says it all

    def _on_health(self, health: StoreHealth) -> None:
        if health.recovered_from != self._recovered_from:
            self._recovered_from = health.recovered_from
            self._spawn(self._store_again())
        self._status_soon()

    def _status_soon(self) -> None:
        if self._built and self._status_timer is None:
            loop = asyncio.get_running_loop()
            self._status_timer = loop.call_later(STATUS_DELAY, self._tell_status)

    def _tell_status(self) -> None:
        self._status_timer = None
        counts: dict[str, int] = {}
        for view in self._pipeline.views():
            counts[view.state] = counts.get(view.state, 0) + 1
        health = self.health()
        parts = [f"{count} {state}" for state, count in sorted(counts.items())] or ["no devices"]
        self._notifier.status("; ".join([", ".join(parts), *health["problems"]]))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _try_tls(webhooks: Iterable[Webhook]) -> None:
    """Build each webhook's TLS context once; AgentError names the webhook and the file."""
    for webhook in webhooks:
        if webhook.tls != Tls():
            try:
                tls_context(webhook)
            except AgentError as error:
                raise AgentError(f"webhook {webhook.name!r}: {error}") from None


def _warn_of_unbuilt(config: Config) -> None:
    """Say aloud what the file asks for and this version does not do."""
    if config.usage.appium or config.usage.grid:
        log.warning(
            "usage.not_polled",
            keys="usage.appium, usage.grid",
            hint="this version knows usage by leases only (device-agent use)",
        )


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_LIMIT / 5)


def _delivery_state(webhook: Webhook, stats: WebhookStats | None) -> Json:
    """How a webhook's delivery stands, for people (`status`) and programs."""
    if stats is None:  # asked in the instant before the dispatcher starts
        return {"status": "starting"}
    if not webhook.enabled:
        status = "disabled"
    elif stats.paused:
        status = f"paused: {stats.paused}"
    elif stats.failing_since_ms:
        status = f"failing since {iso(stats.failing_since_ms)}: {stats.last_error}"
    else:
        status = "good"
    return {
        "status": status,
        "paused": bool(stats.paused),
        "waiting_devices": stats.lanes,
        "failures": stats.failures,
        "failing_since": iso(stats.failing_since_ms),
        "last_error": stats.last_error,
        "last_success": iso(stats.last_success_ms),
    }


def _device_row(view: DeviceView) -> Json:
    return {
        "udid": view.udid,
        "name": view.name,
        "platform": str(view.platform) if view.platform else None,
        "state": str(view.state),
        "reason": view.reason,
        "since": iso(view.since_ms),
        "holder": view.holder,
        "port": view.port,
        "tags": list(view.tags),
        "visibility": str(view.visibility),
        "flapping": view.flapping,
        "model": view.model,
    }


def _since_ms(text: str) -> int:
    """A moment: ISO 8601, or how long ago (`2h`); ValueError otherwise."""
    try:
        return wall_ms() - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"'since' is a time like 2026-01-31T12:00:00Z or an age like 2h, not {text!r}"
        ) from None
    return int(moment.timestamp() * 1000)


def _fold(udid: str) -> str:
    return udid.strip().replace("-", "").casefold()

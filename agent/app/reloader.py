"""A reload: a plan, which may fail and is undone; then the swap, which nothing stops half-way."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.api.certificate import context_of
from agent.config import Tls
from agent.deliver.destination import tls_context
from agent.errors import AgentError, ConfigError, InternalError, StartError, UnusableError
from agent.service.config_watch import ConfigWatch, Looks
from agent.service.reload import LastReload, ReloadBy, Reloaded
from agent.sources.registry import sources_of
from agent.tasks import Steps, kind_of
from agent.threads import in_thread
from agent.usage.registry import plans_of as usage_plans_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from agent.api.server import Listener
    from agent.app.lifecycle import Lifecycle
    from agent.app.parts import Parts
    from agent.app.setting import Setting
    from agent.config import Api, Config, Webhook
    from agent.config.file import ConfigFile
    from agent.sources.supervisor import SourcePlans
    from agent.usage.poller import Made, UsagePlans

log = structlog.get_logger(__name__)
T = TypeVar("T")

READ_LIMIT = 10.0
"""Seconds for reading the file, and each webhook's certificates: one that hangs must not keep all
later reloads from their turn."""
_NOTHING_NEW: Reloaded = {"changed": [], "restarted_sources": [], "needs_restart": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A new configuration with all that could fail of it done, and nothing in force yet."""

    config: Config
    webhooks: Mapping[int, Webhook]
    sources: SourcePlans
    usage: UsagePlans
    made: Made
    """Usage sources that are new."""
    unix: Listener | None
    """The API's socket, where it moves."""
    tcp: Listener | None
    """Its address, where that is another one, or begins or ends to speak TLS."""
    tls: ssl.SSLContext | None
    """With the API's certificate, read anew; None: it has none."""


class Reloader:
    """Puts a new configuration in force, or leaves everything as it is.

    Args:
        parts: of the agent.
        setting: where configurations come from.
        lifecycle: tells systemd.
        turn: held while one is loaded, by the agent's start and stop, too.
        stopping: whether the agent has begun to stop: no reload begins any more.
    """

    def __init__(
        self,
        parts: Parts,
        setting: Setting,
        lifecycle: Lifecycle,
        turn: asyncio.Lock,
        stopping: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._setting = setting
        self._lifecycle = lifecycle
        self._turn = turn
        self._stopping = stopping
        self._looks = Looks(setting.file.loaded if setting.file is not None else "")

    async def reload(self, by: ReloadBy) -> Reloaded:
        """Parse, validate, build, then swap; whatever fails, everything is as it was.

        Raises:
            ConfigError: every mistake in the file.
            InternalError: a fault of the agent; the message says what is in force.
            StartError: the agent stops.
            AgentError: an address cannot be listened on, an id belongs to another webhook.
        """
        async with self._turn:
            if self._stopping():  # who waits for the turn is before the stop in it
                stops = StartError("the agent is stopping")
                self._refuse(stops, by)
                raise stops
            if by == "file" and not self._looks.wanted:
                return _NOTHING_NEW  # another reload came first
            self._lifecycle.reloading()
            try:
                result, failed = await self._swap(await self._plan())
            except AgentError as error:
                self._refuse(error, by)
                raise
            except Exception as error:
                log.exception("reload.failed", by=by)
                fault = InternalError(f"internal error ({kind_of(error)}): see the log")
                self._refuse(fault, by)
                raise fault from None
            else:
                last = LastReload(
                    ok=not failed, at_ms=self._parts.clock.wall_ms(), by=by, failed=failed
                )
                self._note(last)
                if failed:
                    raise InternalError(last.problem())
                log.info("reload.done", by=by, **result)
                return result
            finally:
                self._lifecycle.reloaded()

    def watch(
        self, file: ConfigFile, reload: Callable[[ReloadBy], Awaitable[Reloaded]]
    ) -> ConfigWatch:
        """What looks whether the file has changed; `reload` loads it to the end."""
        return ConfigWatch(
            file,
            self._looks,
            enabled=lambda: self._parts.live.config.agent.watch_config,
            reload=partial(reload, "file"),
            refuse=lambda error, text: self._refuse(error, "file", text),
        )

    async def _plan(self) -> Plan:
        """Do all that may fail; where it does, nothing is left of it."""
        parts, setting = self._parts, self._setting
        old = parts.live.config
        new = await _read(setting.load, "the file, or one that it names,")
        if new.is_hub is not old.is_hub:
            was, is_ = ("a hub", "none") if old.is_hub else ("no hub", "one")
            raise UnusableError(
                f"[fleet] role and servers make {is_} of what was started as {was}: restart it"
            )
        usage = usage_plans_of(new, parts.pipeline.roster.find, parts.clock)
        sources = setting.plans(new, sources_of(new), setting.state_dir)
        socket_path = new.socket_path(setting.environ)
        unix = tcp = None
        async with contextlib.AsyncExitStack() as undo:
            await _try_tls(new.webhooks)
            made = parts.poller.make(usage)
            undo.push_async_callback(parts.poller.discard, made)
            if socket_path != old.socket_path(setting.environ):
                unix = await parts.api.open_unix(socket_path)
                undo.push_async_callback(unix.discard)
            tls = None
            if new.api.listen:
                tls = await _read(partial(context_of, new.api), "[api] cert or key")
            if new.api.listen and _moves(old.api, new.api):
                shut = new.api.read == "token"
                tcp = await parts.api.open_tcp(new.api.listen, tls, shut=shut)
                undo.push_async_callback(tcp.discard)
            webhooks = await parts.ids.identify(new)  # the last: names are stored with it
            undo.pop_all()
        return Plan(
            config=new,
            webhooks=webhooks,
            sources=sources,
            usage=usage,
            made=made,
            unix=unix,
            tcp=tcp,
            tls=tls,
        )

    async def _swap(self, plan: Plan) -> tuple[Reloaded, tuple[str, ...]]:
        """Each part takes its own of it, whatever comes of the others; those that failed."""
        parts, new = self._parts, plan.config
        old = parts.live.config
        changed = [
            name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)
        ]
        parts.live.config, parts.live.webhooks = new, plan.webhooks
        steps = Steps()
        if plan.unix is not None:
            steps.do("api", partial(parts.api.use_unix, plan.unix))
        if _moves(old.api, new.api):
            steps.do("api", partial(parts.api.use_tcp, plan.tcp))
        elif plan.tls is not None:
            steps.do("api", partial(parts.api.use_certificate, plan.tls))
        steps.do("api", parts.api.end_unlawful)
        parts.store.reconfigure(new.delivery)
        steps.do("delivery", partial(parts.dispatcher.reconfigure, plan.webhooks, new.delivery))
        # Without a pause between these: what a source was told to leave out must not be heard by a
        # pipeline that knows of it already, nor the other way round.
        dropped = parts.sources.drop(plan.sources)
        steps.do("devices", partial(self._reconfigure_devices, plan))
        steps.do("leases", partial(parts.leases.reconfigure, new.usage))
        if parts.uplink is not None:
            steps.do("fleet", partial(parts.uplink.reconfigure, new.fleet))
        if parts.hub is not None:
            steps.do("fleet", partial(parts.hub.hub.reconfigure, new))
        steps.do("events", parts.services.events.refresh)
        steps.do("delivery", parts.ids.cancel_deleted)
        restarted = await steps.wait("sources", parts.sources.swap(plan.sources, dropped))
        await steps.wait("usage", parts.poller.swap(new.usage, plan.usage, plan.made))
        restart = _needs_restart(self._setting, new)
        if restart:
            log.warning("reload.needs_restart", keys=restart)
        result: Reloaded = {
            "changed": changed,
            "restarted_sources": restarted or [],
            "needs_restart": restart,
        }
        return result, steps.failed

    def _reconfigure_devices(self, plan: Plan) -> None:
        pipeline = self._parts.pipeline
        pipeline.commits.outbox = self._parts.outbox(plan.config, plan.webhooks)
        pipeline.reconfigure(plan.config)

    def _refuse(self, error: AgentError, by: ReloadBy, text: str | None = None) -> None:
        """Text: the fingerprint of what is refused, where that was not loaded."""
        last = LastReload(
            ok=False,
            at_ms=self._parts.clock.wall_ms(),
            error=str(error),
            by=by,
            problems=tuple(error.problems) if isinstance(error, ConfigError) else (),
        )
        self._note(last, text)
        log.error("reload.refused", by=by, error=str(error), hint="the old configuration stays")

    def _note(self, reload: LastReload, text: str | None = None) -> None:
        self._parts.services.health.reloaded = reload
        file = self._setting.file
        if file is not None:
            self._looks.loaded(file.loaded if text is None else text, ok=reload.in_force)
        self._lifecycle.status_soon()


def _moves(old: Api, new: Api) -> bool:
    """Whether another listener is needed over TCP, or none any more."""
    return (old.listen, old.cert is None) != (new.listen, new.cert is None)


def _needs_restart(setting: Setting, new: Config) -> list[str]:
    """The keys that differ from those it was started with, and that only a start reads."""
    old = setting.started_with
    keys = ("log_level", "log_format")
    restart = [f"agent.{key}" for key in keys if getattr(new.agent, key) != getattr(old.agent, key)]
    if new.state_dir(setting.environ) != setting.state_dir:
        restart.append("agent.state_dir")
    if new.is_hub and new.fleet.host != old.fleet.host:
        restart.append("fleet.host")
    return restart


async def _try_tls(webhooks: Iterable[Webhook]) -> None:
    """Build each webhook's TLS context once; UnusableError names the webhook and the file."""
    for webhook in webhooks:
        if webhook.tls != Tls():
            try:
                await _read(partial(tls_context, webhook), "a file under tls")
            except AgentError as error:
                raise UnusableError(f"webhook {webhook.name!r}: {error}") from None


async def _read(work: Callable[[], T], what: str) -> T:
    """Do it in a thread, which is left alone where it hangs; UnusableError."""
    try:
        async with asyncio.timeout(READ_LIMIT):
            return await in_thread(work, "reload")
    except TimeoutError:
        raise UnusableError(
            f"{what} could not be read within {READ_LIMIT:g} s: does a file system hang?"
        ) from None

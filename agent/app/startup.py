"""How an agent begins: what must run before what, and when it is ready.

The order: leases, the API, usage, the dispatcher, and last the sources. Then one coroutine goes on:
sources spoke → usage read → derive → ready. A stop goes the other way; its first step is silence,
for what ends with us is no news of any phone.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent import __version__
from agent.api.certificate import context_of
from agent.app.garbage import Garbage
from agent.errors import StartError
from agent.model import DeviceState
from agent.service.page import page_of
from agent.sources.registry import sources_of
from agent.threads import in_thread
from agent.usage.registry import plans_of as usage_plans_of

if TYPE_CHECKING:
    import ssl

    from agent.app.lifecycle import Lifecycle
    from agent.app.parts import Parts
    from agent.app.setting import Setting
    from agent.usage.poller import UsagePlans

log = structlog.get_logger(__name__)

READ_LIMIT = 10.0
"""Seconds for reading the API's certificate."""
STOP_LIMIT = 5.0
"""Seconds within which a stop ends; the store may take 3 of them to write what is queued."""


class Startup:
    """Begins what the parts do.

    Args:
        parts: of the agent.
        setting: where its configuration comes from.
        lifecycle: tells systemd.
        seen: set once every source has spoken.
    """

    def __init__(
        self, parts: Parts, setting: Setting, lifecycle: Lifecycle, seen: asyncio.Event
    ) -> None:
        self._parts = parts
        self._setting = setting
        self._lifecycle = lifecycle
        self._seen = seen
        self._garbage = Garbage()

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin all of it but deriving; what has begun is ended by the stack.

        Raises:
            AgentError: it cannot start; nothing was sent or changed.
        """
        parts, setting = self._parts, self._setting
        config = parts.live.config
        await parts.leases.load()
        parts.leases.reconfigure(config.usage)
        parts.silences.begin()
        usage = usage_plans_of(config, parts.pipeline.roster.find, parts.clock)
        self._assume_last_use(usage)
        if parts.hub is not None:
            stack.push_async_callback(parts.hub.close)
        stack.push_async_callback(parts.dispatcher.stop, STOP_LIMIT * 0.3)
        stack.push_async_callback(parts.leases.close, STOP_LIMIT * 0.1)
        stack.push_async_callback(self._close_pipeline)

        api = parts.api
        stack.push_async_callback(api.close)
        api.use_unix(await api.open_unix(config.socket_path(setting.environ)))
        if config.api.listen:
            api.use_tcp(await api.open_tcp(config.api.listen, await self._tls()))

        stack.push_async_callback(parts.poller.close)
        await parts.poller.reconfigure(config.usage, usage)

        # From here on nothing keeps the agent from starting: now it may send.
        await parts.dispatcher.start()
        stack.push_async_callback(parts.sources.close)
        plans = setting.plans(config, sources_of(config), setting.state_dir)
        parts.sources.start(plans)
        if parts.hub is not None:
            parts.hub.begin(partial(parts.tasks.tell, "fleet"))
        if not plans:
            self._seen.set()
        limit = config.agent.start_limit if plans or parts.hub is not None else 0.0
        until = asyncio.get_running_loop().time() + limit
        stack.callback(self._garbage.give_back)
        parts.tasks.finish("start", partial(self._first_look, until))
        parts.tasks.keep("garbage", self._garbage.watch)
        if parts.uplink is not None:
            parts.tasks.keep("fleet", parts.uplink.run)
        stack.push_async_callback(self._end_background)
        stack.callback(self._fall_silent)

    async def _tls(self) -> ssl.SSLContext | None:
        """With the API's certificate; None: it has none."""
        try:
            async with asyncio.timeout(READ_LIMIT):
                api = self._parts.live.config.api
                return await in_thread(partial(context_of, api), "certificate")
        except TimeoutError:
            raise StartError(
                f"[api] cert or key could not be read within {READ_LIMIT:g} s: does a file system "
                "hang?"
            ) from None

    async def _first_look(self, until: float) -> None:
        """Derive once the sources have spoken and usage was read, or at that time of the loop."""
        parts = self._parts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._seen.wait()
                await parts.poller.first_round()
                if parts.hub is not None:
                    await parts.hub.heard()
        parts.usage.confirm()  # where the time was up before, too: nobody else would
        # By all that is known of usage, what is still to be told, too: else a phone in use would be
        # online for a moment, and call back.
        began_ms, began = parts.clock.wall_ms(), parts.clock.monotonic()
        if parts.own is not None:
            for udid in parts.pipeline.roster.udids():
                parts.use(udid)
            parts.own.start_deriving()
            await parts.own.first_derived()
        parts.watching.begin(began_ms, began)
        self._garbage.take_over()
        self._lifecycle.ready()
        log.info(
            "agent.ready",
            version=__version__,
            devices=parts.pipeline.views.census().shown,
            webhooks=len(parts.live.webhooks),
            socket=str(parts.live.config.socket_path(self._setting.environ)),
            api=parts.api.address or "off",
            page=page_of(parts.live.config.api, parts.api.address).url or "off",
            state_dir=str(self._setting.state_dir),
        )

    def _assume_last_use(self, usage: UsagePlans) -> None:
        """What was in use when the agent stopped is so until a usage source says otherwise."""
        parts = self._parts
        leased = {lease.udid for lease in parts.leases.all()}
        for view in parts.pipeline.views.all():
            if usage and view.state is DeviceState.UTILIZING:
                # Whether a session went on below a lease is not stored.
                parts.usage.assume(view.udid, "" if view.udid in leased else view.holder)

    def _fall_silent(self) -> None:
        """Sources, sessions and leases that end from now on do so with us: nothing is derived."""
        self._parts.watching.end()
        self._parts.pipeline.stop()
        self._parts.leases.freeze()
        self._parts.silences.stop()

    async def _close_pipeline(self) -> None:
        """What is decided gets stored; bounded, because a full disk may never take it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT * 0.1):
                await self._parts.pipeline.close()

    async def _end_background(self) -> None:
        self._lifecycle.close()
        await self._parts.tasks.close(STOP_LIMIT / 5)

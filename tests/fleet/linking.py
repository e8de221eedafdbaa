"""Links over NATS, made and refused."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from agent.config.model import Fleet
from agent.fleet.broker_link import BrokerLink
from agent.fleet.link import LinkError
from agent.fleet.nats_link import NatsWire, dial
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent.fleet.link import Link
    from tests.kit.broker import Broker

    Serve = Callable[..., Awaitable[Broker]]


T = TypeVar("T")
SECRET = "hunter22"


def fleet(*servers: str, host: str = "rack-1", **more: Any) -> Fleet:
    """Its section of the configuration."""
    return Fleet.model_validate({"servers": list(servers), "host": host, **more})


@contextlib.asynccontextmanager
async def linked(*servers: str, **more: Any) -> AsyncIterator[Link]:
    """A link, closed at the end."""
    link = await dial(fleet(*servers, **more))
    try:
        yield link
    finally:
        await link.close()


class NotingDial:
    """Connects, and keeps which server it was told to try last each time."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    async def __call__(self, fleet: Fleet, last: str = "") -> Link:
        self.lost.append(last)
        return await dial(fleet, last)


async def refusal(*servers: str, **more: Any) -> str:
    """Why there is no link; no secret is in it, nor in what led to it."""
    with pytest.raises(LinkError) as caught:
        await dial(fleet(*servers, **more))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__context__
    return str(caught.value)


async def insisted(work: Callable[[], Awaitable[T]]) -> T:
    """What comes of it, tried again as agents and hubs do: three that elect have no leader."""
    async with asyncio.timeout(2 * LIMIT):
        while True:
            try:
                return await work()
            except LinkError:
                await asyncio.sleep(0.05)


async def api(link: Link, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A call of JetStream that links do not make."""
    assert isinstance(link, BrokerLink)
    return await link._jetstream.call("a test", name, body or {})


def socket_of(link: Link) -> asyncio.ReadTransport:
    """To be paused: a reader that is too slow."""
    assert isinstance(link, BrokerLink)
    assert isinstance(link._wire, NatsWire)
    writer = link._wire._transport._io_writer
    assert writer is not None
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    return transport

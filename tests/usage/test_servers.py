"""Appium and Grid, against servers that answer as the real ones do."""

from __future__ import annotations

import asyncio
import base64
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web

from agent.config import UsageServer, parse
from agent.config.secret import PrivateUrl
from agent.usage.appium import AppiumSource
from agent.usage.base import Incomplete, UsageUnknownError
from agent.usage.grid import GridSource
from agent.usage.http import shown
from tests.fakes.usage_servers import FakeAppium, FakeGrid, FakeServer, serving
from tests.kit.clock import StubClock
from tests.usage import conformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.usage.base import Phone, UsageSource

UDID = "R58M123"


def server_at(url: str) -> UsageServer:
    return UsageServer.model_validate({"url": url})


def source_of(server: type[FakeServer], servers: Sequence[UsageServer]) -> UsageSource:
    """The source that asks such a server."""
    if server is FakeAppium:
        return AppiumSource(servers)
    return GridSource(servers, StubClock())


class ServerHarness:
    """See `conformance.Harness`."""

    away_is_unknown = True
    phones: tuple[Phone, ...] = ()
    udid = UDID

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def backend(self) -> AbstractAsyncContextManager[None]:
        return serving(self.server)

    @property
    def source(self) -> UsageSource:
        if not hasattr(self, "_source"):
            self._source = self.make()
        return self._source

    @property
    def holder(self) -> str:
        return f"{self.source.name} session "

    def make(self) -> UsageSource:
        return source_of(type(self.server), [server_at(self.server.url)])

    def hold(self) -> None:
        if isinstance(self.server, FakeAppium):
            self.server.sessions["4f2a1c09-0000"] = {"udid": UDID}
        else:
            assert isinstance(self.server, FakeGrid)
            self.server.slots = [({"platformName": "android"}, {"appium:udid": UDID})]

    def end(self) -> None:
        if isinstance(self.server, FakeAppium):
            self.server.sessions.clear()
        else:
            assert isinstance(self.server, FakeGrid)
            self.server.slots = [({"appium:udid": UDID}, None)]

    async def leave(self) -> None:
        await self.server.stop()

    async def come_back(self) -> None:
        await self.server.start()

    def hang(self) -> None:
        self.server.hanging = True

    def babble(self) -> None:
        self.server.raw = web.Response(text="<html>It works!</html>")

    def behave(self) -> None:
        self.server.hanging = False
        self.server.raw = None


@pytest.mark.parametrize("server", [FakeAppium(3), FakeAppium(2), FakeGrid()], ids=["3", "2", "g"])
async def test_conformance(server: FakeAppium | FakeGrid) -> None:
    await server.start()  # its port is part of the source's URL
    await server.stop()
    harness = ServerHarness(server)
    async with harness.backend():
        pass
    await conformance.check(harness)


async def read(source: UsageSource) -> Mapping[str, str]:
    try:
        (target,) = await source.targets(())
        return await source.read(target)
    finally:
        await source.close()


@pytest.mark.parametrize(
    "capabilities",
    [
        {"udid": UDID},
        {"appium:udid": UDID},
        {"deviceUDID": UDID},
        {"appium:deviceUDID": UDID, "platformName": "iOS"},
        {"appium:options": {"udid": UDID}},
        {"desired": {"udid": UDID}},
        {"udid": UDID, "appium:udid": "another"},
    ],
)
async def test_a_session_is_matched_by_its_capabilities(capabilities: dict[str, Any]) -> None:
    server = FakeAppium()
    server.sessions["4f2a1c09-1111"] = capabilities
    server.sessions["no device"] = {"browserName": "chrome", "udid": 7}
    async with serving(server):
        told = await read(AppiumSource([server_at(server.url)]))
    assert told == {UDID: "appium session 4f2a1c09"}


async def test_a_base_path_and_the_path_found_once() -> None:
    server = FakeAppium(2, "/wd/hub")
    async with serving(server):
        source = AppiumSource([server_at(f"{server.url}/wd/hub/")])
        (target,) = await source.targets(())
        for _ in range(3):
            assert await source.read(target) == {}
        await source.close()
    assert server.asked == ["/wd/hub/appium/sessions", *["/wd/hub/sessions"] * 3]


async def test_discovery_not_allowed_says_how_to_allow_it() -> None:
    server = FakeAppium(discovery=False)
    async with serving(server):
        with pytest.raises(UsageUnknownError, match=r"allow-insecure=.*session_discovery"):
            await read(AppiumSource([server_at(server.url)]))


@pytest.mark.parametrize("how", ["userinfo", "basic", "bearer"])
@pytest.mark.parametrize("kind", [FakeAppium, FakeGrid])
async def test_authorisation(kind: type[FakeServer], how: str) -> None:
    server = kind()
    basic = "Basic " + base64.b64encode(b"ann:hunter22").decode()
    server.credentials = "Bearer hunter22" if how == "bearer" else basic
    async with serving(server):
        url = server.url
        tables = {
            "userinfo": f'"{url.replace("//", "//ann:hunter22@")}"',
            "basic": f'{{ url = "{url}", auth = {{ type = "basic", username = "ann", '
            f'password = "hunter22" }} }}',
            "bearer": f'{{ url = "{url}", auth = {{ type = "bearer", token = "hunter22" }} }}',
        }
        (good,) = parse(f"[usage]\nappium = [{tables[how]}]", "x").usage.appium
        assert await read(source_of(kind, [good])) == {}
        wrong = server_at(f"{url.replace('//', '//ann:wrong-one@')}/?k=v1v2")
        with pytest.raises(UsageUnknownError, match="other credentials") as caught:
            await read(source_of(kind, [wrong]))
    assert "hunter22" not in repr(good) + shown(good)
    assert "wrong-one" not in str(caught.value)
    assert "v1v2" not in str(caught.value)


async def test_several_servers_are_told_apart() -> None:
    one, two = FakeAppium(), FakeAppium()
    async with serving(one), serving(two):
        source = AppiumSource([server_at(one.url), server_at(two.url)])
        one.sessions["s1"], two.sessions["s2"] = {"udid": "A"}, {"udid": "B"}
        told = [await source.read(target) for target in await source.targets(())]
        await source.close()
    assert told == [
        {"A": f"appium session s1 at {one.url}"},
        {"B": f"appium session s2 at {two.url}"},
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "cannot be reached"),
        ("http://nobody.invalid:4723", "cannot be resolved"),
    ],
)
async def test_a_server_that_is_not_there(url: str, words: str) -> None:
    with pytest.raises(UsageUnknownError, match=words):
        await read(AppiumSource([server_at(url)]))


async def test_an_endless_answer_is_given_up() -> None:
    server = FakeAppium()
    server.raw = web.Response(body=b"[" * (5 << 20))
    async with serving(server):
        with pytest.raises(UsageUnknownError, match="more than 4 MB"):
            await read(AppiumSource([server_at(server.url)]))


async def test_a_redirect_is_not_followed() -> None:
    server = FakeGrid()
    server.raw = web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})
    async with serving(server):
        with pytest.raises(UsageUnknownError, match="HTTP 302"):
            await read(GridSource([server_at(server.url)], StubClock()))


async def test_grid_names_a_device_by_the_session_else_by_its_slot() -> None:
    server = FakeGrid()
    server.slots = [
        ({"appium:udid": "A"}, {"platformName": "android"}),
        ({"appium:udid": "B"}, {"appium:udid": "C"}),
        ({"appium:udid": "D"}, None),
        ({"browserName": "chrome"}, {"browserName": "chrome"}),
    ]
    async with serving(server):
        told = await read(GridSource([server_at(server.url)], StubClock()))
    assert told == {"A": "grid session 5e550-00", "C": "grid session 5e551-00"}


# --- what a hub can truthfully say ------------------------------------------------------------


class Hub:
    """A hub of two nodes, each with a session, as a source of ours sees it."""

    def __init__(self) -> None:
        self.server = FakeGrid()
        self.server.slots = [({}, {"udid": "A"})]
        self.server.others = {"m": [({}, {"udid": "B"})]}
        self.clock = StubClock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with serving(self.server):
            self.source = GridSource([server_at(self.server.url)], self.clock)
            assert await self.read() == ({"A", "B"}, "")
            yield
            await self.source.close()

    async def read(self) -> tuple[set[str], str]:
        """The devices in use, and why of others it cannot be said."""
        (target,) = await self.source.targets(())
        told = await self.source.read(target)
        return set(told), told.reason if isinstance(told, Incomplete) else ""


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.mark.parametrize(
    "nodes",
    [[], [{"id": "n"}], [{"id": "n", "availability": "DOWN", "slots": None}], ["n"]],
    ids=["none", "no slots", "null slots", "no node"],
)
async def test_a_hub_that_knows_no_node_knows_no_session(hub: Hub, nodes: list[Any]) -> None:
    async with hub.running():
        hub.server.raw = web.json_response({"value": {"ready": False, "nodes": nodes}})
        with pytest.raises(UsageUnknownError, match="has no nodes yet: was it just started"):
            await hub.read()
        hub.server.raw = None
        assert await hub.read() == ({"A", "B"}, "")


async def test_a_hub_that_was_started_anew_learns_of_its_nodes_one_by_one(hub: Hub) -> None:
    async with hub.running():
        node, hub.server.others = hub.server.others, {}
        in_use, reason = await hub.read()
        assert in_use == {"A"}
        assert "does not list http://node-m:5555 now" in reason
        hub.clock.now += 119
        assert (await hub.read())[1] == reason
        hub.server.others = node
        assert await hub.read() == ({"A", "B"}, "")
        hub.server.others = {"m": [({"udid": "B"}, None)]}
        assert await hub.read() == ({"A"}, ""), "it is listed, without a session: that has ended"


async def test_a_node_that_does_not_come_back_is_waited_for_two_of_its_heartbeats(hub: Hub) -> None:
    async with hub.running():
        hub.server.node = {"heartbeatPeriod": 10_000}
        await hub.read()
        hub.server.registered = False
        assert (await hub.read())[1]
        hub.clock.now += 20
        assert await hub.read() == ({"B"}, "")


async def test_a_node_that_was_draining_left_without_a_session(hub: Hub) -> None:
    async with hub.running():
        hub.server.node = {"availability": "DRAINING"}
        assert await hub.read() == ({"A", "B"}, "")
        hub.server.registered = False
        assert await hub.read() == ({"B"}, "")


async def test_the_sessions_of_a_node_end_with_it(hub: Hub) -> None:
    async with hub.running():
        hub.server.node = {"id": "started anew"}  # at the old one's address
        hub.server.slots = []
        assert await hub.read() == ({"B"}, "")


async def test_a_session_that_is_listed_elsewhere_is_not_missing(hub: Hub) -> None:
    async with hub.running():
        hub.server.registered = False
        hub.server.others["k"] = [({}, {"udid": "A"})]
        assert await hub.read() == ({"A", "B"}, "")


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FakeAppium, FakeGrid])
async def test_a_secret_that_is_missing_is_told_in_its_own_words(
    kind: type[FakeServer], tmp_path: Path
) -> None:
    server = kind()
    async with serving(server):
        table = (
            f'{{ url = "{server.url}", auth = {{ type = "basic", username = "ann", '
            f'password = {{ file = "{tmp_path}/absent" }} }} }}'
        )
        (good,) = parse(f"[usage]\nappium = [{table}]", "x").usage.appium
        with pytest.raises(UsageUnknownError) as caught:
            await read(source_of(kind, [good]))
        assert str(caught.value) == (
            f"{server.url} cannot be asked: secret file {tmp_path}/absent does not exist: correct "
            f"the path in the configuration"
        )
        assert server.asked == []


class HungSecret:
    """As on a mount that hangs."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = 0

    def read(self) -> str:
        self.began += 1
        assert self.gate.wait(60)
        return "hunter22"


async def test_a_secret_on_a_mount_that_hangs_holds_up_nothing_else() -> None:
    one, two = FakeAppium(), FakeAppium()
    one.credentials = "Bearer hunter22"
    secret = HungSecret()
    async with serving(one), serving(two):
        auth = SimpleNamespace(type="bearer", token=secret)
        hung = cast("UsageServer", SimpleNamespace(url=PrivateUrl(one.url), auth=auth))
        source = AppiumSource([hung, server_at(two.url)])
        first, second = await source.targets(())
        asking = [asyncio.ensure_future(source.read(first)) for _ in range(3)]
        assert await source.read(second) == {}
        asking.pop().cancel()
        assert secret.began == 1, "nor is it read once more for each question"
        secret.gate.set()
        assert await asyncio.gather(*asking) == [{}, {}]
        await source.close()

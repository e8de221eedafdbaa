"""Appium and Grid, against servers that answer as the real ones do."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.config import UsageServer, parse
from agent.usage.appium import AppiumSource
from agent.usage.base import UsageUnknownError
from agent.usage.grid import GridSource
from agent.usage.http import shown
from tests.fakes.usage_servers import FakeAppium, FakeGrid, FakeServer, serving
from tests.usage import conformance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from agent.usage.base import Phone, UsageSource

UDID = "R58M123"


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
        kind = AppiumSource if isinstance(self.server, FakeAppium) else GridSource
        return kind([UsageServer(url=self.server.url)])

    def hold(self) -> None:
        if isinstance(self.server, FakeAppium):
            self.server.sessions["4f2a1c09-0000"] = {"udid": UDID}
        else:
            self.server.slots = [({"platformName": "android"}, {"appium:udid": UDID})]

    def end(self) -> None:
        if isinstance(self.server, FakeAppium):
            self.server.sessions.clear()
        else:
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
        told = await read(AppiumSource([UsageServer(url=server.url)]))
    assert told == {UDID: "appium session 4f2a1c09"}


async def test_a_base_path_and_the_path_found_once() -> None:
    server = FakeAppium(2, "/wd/hub")
    async with serving(server):
        source = AppiumSource([UsageServer(url=f"{server.url}/wd/hub/")])
        (target,) = await source.targets(())
        for _ in range(3):
            assert await source.read(target) == {}
        await source.close()
    assert server.asked == ["/wd/hub/appium/sessions", *["/wd/hub/sessions"] * 3]


async def test_discovery_not_allowed_says_how_to_allow_it() -> None:
    server = FakeAppium(discovery=False)
    async with serving(server):
        with pytest.raises(UsageUnknownError, match=r"allow-insecure=.*session_discovery"):
            await read(AppiumSource([UsageServer(url=server.url)]))


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
        source = AppiumSource if kind is FakeAppium else GridSource
        assert await read(source([good])) == {}
        with pytest.raises(UsageUnknownError, match="other credentials") as caught:
            await read(
                source([UsageServer(url=f"{url.replace('//', '//ann:wrong-one@')}/?k=v1v2")])
            )
    assert "hunter22" not in repr(good) + shown(good)
    assert "wrong-one" not in str(caught.value)
    assert "v1v2" not in str(caught.value)


async def test_several_servers_are_told_apart() -> None:
    one, two = FakeAppium(), FakeAppium()
    async with serving(one), serving(two):
        source = AppiumSource([UsageServer(url=one.url), UsageServer(url=two.url)])
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
        await read(AppiumSource([UsageServer(url=url)]))


async def test_an_endless_answer_is_given_up() -> None:
    server = FakeAppium()
    server.raw = web.Response(body=b"[" * (5 << 20))
    async with serving(server):
        with pytest.raises(UsageUnknownError, match="more than 4 MB"):
            await read(AppiumSource([UsageServer(url=server.url)]))


async def test_a_redirect_is_not_followed() -> None:
    server = FakeGrid()
    server.raw = web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})
    async with serving(server):
        with pytest.raises(UsageUnknownError, match="HTTP 302"):
            await read(GridSource([UsageServer(url=server.url)]))


async def test_grid_names_a_device_by_the_session_else_by_its_slot() -> None:
    server = FakeGrid()
    server.slots = [
        ({"appium:udid": "A"}, {"platformName": "android"}),
        ({"appium:udid": "B"}, {"appium:udid": "C"}),
        ({"appium:udid": "D"}, None),
        ({"browserName": "chrome"}, {"browserName": "chrome"}),
    ]
    async with serving(server):
        told = await read(GridSource([UsageServer(url=server.url)]))
    assert told == {"A": "grid session 5e550-00", "C": "grid session 5e551-00"}

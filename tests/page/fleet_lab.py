"""A fleet as processes, and the page of its hub: three racks with simulated phones, one broker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.fakes.ports import free_port
from tests.kit.broker import Broker
from tests.kit.configs import AT_ONCE
from tests.kit.fleet import hub, servers
from tests.kit.rack import Rack
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

TWIN = "TWIN1"
"""The serial of two phones, at rack-1 and rack-2."""
TWINS = {
    "rack-1": Phone(TWIN, "Twin One", "1-3", Platform.ANDROID),
    "rack-2": Phone(TWIN, "Twin Two", "1-3", Platform.ANDROID),
}
PHONES = {
    "rack-1": (
        Phone("A1", "Galaxy Note 8", "1-1", Platform.ANDROID),
        Phone("A2", "Pixel 9", "1-2.1", Platform.ANDROID),
    ),
    "rack-2": (Phone("B1", "Pixel 8", "1-1", Platform.ANDROID),),
    "rack-3": (Phone("00008120-000A2D3C0E91801E", "Lab iPhone 15", "2-1", Platform.IOS),),
}


class FleetLab:
    """The hub serves the page at `base`; `racks["rack-1"]` serves one at `rack_base`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.broker = Broker(place / "broker")
        self.hub: Any = None
        self.racks: dict[str, Rack] = {}
        self.base = self.rack_base = ""

    async def code(self) -> str:
        """One for a browser, as `device-agent ui` gets it."""
        status, row = await self.hub.api("POST", "/v1/sessions/code")
        assert status == 200, row
        return str(row["code"])

    async def sign_in(self, page: Page) -> None:
        """Open the hub's page with a code; returns when it is signed in."""
        await page.goto(f"{self.base}#code={await self.code()}")
        await page.locator("html.may-change").wait_for()

    async def until_host(self, host: str, *states: str) -> None:
        """Until the hub says that it is in one of these."""
        async with asyncio.timeout(LIMIT):
            while True:
                rows = (await self.hub.api("GET", "/v1/hosts"))[1]["hosts"]
                if any(each["host"] == host and each["state"] in states for each in rows):
                    return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def opened_fleet(place: Path, *, host_grace: float = 8.0) -> AsyncIterator[FleetLab]:
    """All of it at work, with every phone online.

    A heartbeat comes every 5 s, and is heard up to 2 s late: with less grace hosts flicker.
    """
    lab = FleetLab(place)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(lab.broker.close)
        await lab.broker.start()
        urls = [lab.broker.url]
        lab.hub = hub(
            place / "hub",
            urls,
            "",
            host="hub-1",
            host_grace=host_grace,
            move_hold=1,
            source_grace=1,
            page=True,
        )
        await stack.enter_async_context(lab.hub)
        await lab.hub.start()
        lab.base = f"http://{lab.hub.listen}/"
        for name, phones in PHONES.items():
            directory = place / name
            directory.mkdir()
            listen = f"127.0.0.1:{free_port()}" if name == "rack-1" else ""
            fleet = f'[fleet]\nservers = {servers(urls)}\nhost = "{name}"\n'
            made = Rack(directory, fleet + AT_ONCE, listen=listen)
            lab.racks[name] = await stack.enter_async_context(made)
            for phone in phones:
                made.plug(phone, Bridge.READY)
            if name in TWINS:
                made.plug(TWINS[name], Bridge.READY)
            await made.start()
            if listen:
                lab.rack_base = f"http://{listen}/"
        for phones in PHONES.values():
            for phone in phones:
                await lab.hub.until_device(phone.serial, "state", "online")
        yield lab

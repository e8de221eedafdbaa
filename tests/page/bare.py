"""A tab that playwright does not hold: it can be hidden behind another one, and frozen.

What playwright holds counts as seen, and Chromium freezes nothing that is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, CDPSession


class BareTab:
    """Spoken to by CDP alone."""

    def __init__(self, browser: CDPSession, context: str, target: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._target = target
        self._session = session
        self._count = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        browser.on("Target.receivedMessageFromTarget", self._told)

    def _told(self, event: dict[str, Any]) -> None:
        if event["sessionId"] != self._session:
            return
        message = json.loads(event["message"])
        if message.get("method") == "Page.loadEventFired":
            self._loaded.set()
        answer = self._asked.pop(message.get("id"), None)
        if answer is not None:
            answer.set_result(message)

    async def _send(self, method: str, **params: Any) -> Any:
        number = next(self._count)
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        message = json.dumps({"id": number, "method": method, "params": params})
        where = {"sessionId": self._session, "message": message}
        await self._browser.send("Target.sendMessageToTarget", where)
        async with asyncio.timeout(LIMIT):
            told = await answer
        assert "error" not in told, told
        return told["result"]

    async def load(self, url: str) -> None:
        """Go to that address."""
        await self._send("Page.enable")
        self._loaded.clear()
        await self._send("Page.navigate", url=url)
        async with asyncio.timeout(LIMIT):
            await self._loaded.wait()

    async def evaluate(self, script: str) -> Any:
        """What it comes to; a promise is waited for."""
        how = {"expression": script, "awaitPromise": True, "returnByValue": True}
        told = await self._send("Runtime.evaluate", **how)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until that is true."""
        await self.evaluate(
            "new Promise((done) => { const look = () => "
            f"({condition}) ? done() : setTimeout(look, 50); look(); }})"
        )

    async def hide(self) -> None:
        """Another tab is opened in front of it."""
        where = {"url": "about:blank", "browserContextId": self._context}
        told = await self._browser.send("Target.createTarget", where)
        await self._browser.send("Target.activateTarget", {"targetId": told["targetId"]})
        await self.until("document.hidden")

    async def show(self) -> None:
        """It is in front again."""
        await self._browser.send("Target.activateTarget", {"targetId": self._target})
        await self.until("!document.hidden")

    async def freeze(self) -> None:
        """As the browser does with a tab that was hidden for long."""
        await self._send("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        """It runs on."""
        await self._send("Page.setWebLifecycleState", state="active")


@contextlib.asynccontextmanager
async def bare_tab(browser: Browser, url: str) -> AsyncIterator[BareTab]:
    """One at that address, in a profile of its own."""
    session = await browser.new_browser_cdp_session()
    context = (await session.send("Target.createBrowserContext"))["browserContextId"]
    try:
        where = {"url": "about:blank", "browserContextId": context}
        target = (await session.send("Target.createTarget", where))["targetId"]
        how = {"targetId": target, "flatten": False}
        held = (await session.send("Target.attachToTarget", how))["sessionId"]
        tab = BareTab(session, context, target, held)
        await tab.load(url)
        yield tab
    finally:
        await session.send("Target.disposeBrowserContext", {"browserContextId": context})
        await session.detach()

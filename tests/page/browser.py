"""Debian's Chromium under playwright, and a tab of it that forgives nothing.

Everything here lives on one event loop for the whole session (conftest.py sees to it): playwright's
objects cannot change loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Error, async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from playwright.async_api import (
        Browser,
        BrowserContext,
        CDPSession,
        ConsoleMessage,
        Page,
        Playwright,
        Request,
        WebError,
    )

    Scheme = Literal["light", "dark"]

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--headless=new",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--ignore-certificate-errors",  # the tests' own certificates, in workers, too
)
PATIENCE = 10_000.0
"""Milliseconds that playwright waits for what is to be on the page."""
NOT_REACHED = (
    r"net::ERR_(CONNECTION_\w+|EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING|SOCKET_NOT_CONNECTED"
    r"|TIMED_OUT|FAILED)"
)
"""What Chromium says on the console when the agent was killed, or answers nothing."""
UNTRUSTWORTHY = "Cross-Origin-Opener-Policy header has been ignored"
"""What it says where an address that is neither https nor this host is shown."""
SHOTS = Path(__file__).parents[2] / "build" / "page"
_AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
_GRAVE = {"serious", "critical"}


def refused(*statuses: int) -> str:
    """What Chromium says on the console when the agent answers with one of these."""
    return rf"server responded with a status of ({'|'.join(map(str, statuses))})\b"


@contextlib.asynccontextmanager
async def launched(playwright: Playwright, *arguments: str) -> AsyncIterator[Browser]:
    """A browser of its own, for tests that need other arguments; skips without one (not in CI)."""
    if shutil.which(CHROMIUM) is None:
        message = f"{CHROMIUM} is not here: apt-get install --no-install-recommends chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    browser = await playwright.chromium.launch(
        executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments], chromium_sandbox=False
    )
    try:
        yield browser
    finally:
        await browser.close()


@contextlib.asynccontextmanager
async def one_chromium() -> AsyncIterator[Chromium]:
    """Playwright, and a browser of it."""
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright, launched(playwright) as browser:
        workers = Workers(await browser.new_browser_cdp_session())
        await workers.start()
        yield Chromium(playwright, browser, workers)


class Chromium(NamedTuple):
    """A browser, with what belongs to it."""

    playwright: Playwright
    browser: Browser
    workers: Workers


class Workers:
    """The shared workers of a browser, of which playwright tells nothing (CDP does)."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._count = itertools.count(1)
        self._contexts: dict[str, str] = {}
        """Session → the window's id."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[tuple[str, str]] = []
        """Window's id and URL of each, but for those of a worker's first moments."""
        self.complaints: list[tuple[str, str]] = []

    async def start(self) -> None:
        """Hear of those that come."""
        self._session.on("Target.targetCreated", self._created)
        self._session.on("Target.receivedMessageFromTarget", self._told)
        only = [{"type": "shared_worker"}]
        await self._session.send("Target.setDiscoverTargets", {"discover": True, "filter": only})

    def asked(self, window: str) -> list[str]:
        """The URLs that a window's workers asked for."""
        return [url for id_, url in self.requests if id_ == window]

    def _created(self, event: dict[str, Any]) -> None:
        target = event["targetInfo"]
        if target["type"] == "shared_worker":
            task = asyncio.create_task(self._attach(target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attach(self, target: dict[str, Any]) -> None:
        with contextlib.suppress(Error):  # it has ended
            where = {"targetId": target["targetId"], "flatten": False}
            session = (await self._session.send("Target.attachToTarget", where))["sessionId"]
            self._contexts[session] = target["browserContextId"]
            for method in ("Runtime.enable", "Network.enable", "Log.enable"):
                message = json.dumps({"id": next(self._count), "method": method})
                await self._session.send(
                    "Target.sendMessageToTarget", {"sessionId": session, "message": message}
                )

    def _told(self, event: dict[str, Any]) -> None:
        window = self._contexts.get(event["sessionId"], "")
        message = json.loads(event["message"])
        told = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append((window, told["request"]["url"]))
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                text = details.get("exception", {}).get("description") or details["text"]
                self.complaints.append((window, f"worker, uncaught: {text}"))
            case "Runtime.consoleAPICalled" if told["type"] == "error":
                words = [str(each.get("value", each.get("description"))) for each in told["args"]]
                self.complaints.append((window, f"worker, console: {' '.join(words)}"))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                entry = told["entry"]
                text = f"worker, log: {entry['text']} ({entry.get('url', '')})"
                self.complaints.append((window, text))


class Window:
    """One browser profile: its tabs share storage and workers, and nothing with other windows.

    `close` fails the test on what the browser complained about: a console error, an error that no
    script caught, something against the Content-Security-Policy, a request to another origin.
    A test says before what it expects: `allow`, `visits`.
    """

    def __init__(self, context: BrowserContext, home: str, workers: Workers | None = None) -> None:
        self.context = context
        self._workers = workers
        self._id = ""
        """Of the context, as the browser has it."""
        self.origins = {origin_of(home)}
        self.requests: list[str] = []
        """Every URL that pages and their frames asked for."""
        self.failed: list[str] = []
        """`URL: why` of each request that got no answer."""
        self.complaints: list[str] = []
        self.allowed: list[re.Pattern[str]] = []
        context.on("console", self._console)
        context.on("weberror", self._uncaught)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)

    async def ready(self) -> None:
        """Begin to listen for what is against the policy."""
        await self.context.expose_binding("tellViolation", self._violation)
        await self.context.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => "
            "tellViolation(`${e.effectiveDirective} forbids ${e.blockedURI} ${e.sample}`), true)"
        )

    def allow(self, *patterns: str) -> None:
        """Complaints in which one of these is found are expected from now on.

        `refused(422)` and `NOT_REACHED` are two of them.
        """
        self.allowed += [re.compile(each) for each in patterns]

    def visits(self, *urls: str) -> None:
        """Requests to the origins of these are no complaint."""
        self.origins |= {origin_of(each) for each in urls}

    async def tab(self, url: str = "") -> Page:
        """One more tab, at that address."""
        page = await self.context.new_page()
        if not self._id:
            session = await self.context.new_cdp_session(page)
            told = await session.send("Target.getTargetInfo")
            self._id = told["targetInfo"]["browserContextId"]
            await session.detach()
        page.set_default_timeout(PATIENCE)
        if url:
            await page.goto(url)
        return page

    @property
    def worker_requests(self) -> list[str]:
        """Every URL that its shared workers asked for."""
        return [] if self._workers is None else self._workers.asked(self._id)

    def unexpected(self) -> list[str]:
        """Complaints that nobody expected."""
        told = list(self.complaints)
        if self._workers is not None:
            told += [text for id_, text in self._workers.complaints if id_ == self._id]
        told += [
            f"foreign: of a worker: {url}"
            for url in self.worker_requests
            if origin_of(url) not in self.origins
        ]
        return [each for each in told if not any(pattern.search(each) for pattern in self.allowed)]

    async def settle(self) -> None:
        """Hear what is still on its way from the browser."""
        for page in self.context.pages:
            with contextlib.suppress(Exception):  # a page that is being closed, or hangs
                async with asyncio.timeout(2):
                    await page.evaluate("() => new Promise((done) => setTimeout(done))")

    async def close(self) -> None:
        """Close it; fails on what nobody expected."""
        await self.settle()
        await self.context.close()
        if found := self.unexpected():
            pytest.fail("the browser complains:\n" + "\n".join(found), pytrace=False)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self.complaints.append(f"console: {message.text} ({where})")

    def _uncaught(self, error: WebError) -> None:
        self.complaints.append(f"uncaught: {error.error}")

    def _violation(self, source: Any, text: str) -> None:
        del source
        self.complaints.append(f"policy: {text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        origin = origin_of(request.url)
        if origin not in self.origins:
            self.complaints.append(f"foreign: {request.method} {request.url}")

    def _failed(self, request: Request) -> None:
        self.failed.append(f"{request.url}: {request.failure}")


def origin_of(url: str) -> str:
    """`scheme://host:port`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def no_serious_finding(page: Page, *, without: Iterable[str] = ()) -> None:
    """Fail on what axe-core finds serious or critical, in light and in dark.

    Args:
        page: in whatever state it is.
        without: ids of axe's rules that do not count; say why where you name one.
    """
    found: list[str] = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        if not await page.evaluate("() => 'axe' in globalThis"):
            await page.evaluate(_AXE.read_text())
        rules = {each: {"enabled": False} for each in without}
        answer = await page.evaluate(
            "(rules) => axe.run(document, {resultTypes: ['violations'], rules})", rules
        )
        found += [
            f"{scheme}: {each['id']} ({each['impact']}): {each['help']}\n    "
            + "\n    ".join(
                f"{node['target']} {node['html'][:200]} {node.get('failureSummary', '')}"
                for node in each["nodes"][:5]
            )
            for each in answer["violations"]
            if each["impact"] in _GRAVE
        ]
    await page.emulate_media(color_scheme="null")
    assert not found, "axe-core finds:\n" + "\n".join(found)


async def shots(page: Page, name: str, *, width: int = 1440, height: int = 900) -> list[Path]:
    """`build/page/NAME-light.png` and `NAME-dark.png` of what is to be seen now."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.set_viewport_size({"width": width, "height": height})
    made = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        made.append(SHOTS / f"{name}-{scheme}.png")
        await page.screenshot(path=made[-1], animations="disabled")
    await page.emulate_media(color_scheme="null")
    return made

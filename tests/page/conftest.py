"""Everything here looks at the page with a real Chromium, on one event loop."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.page.browser import Chromium, Window, one_chromium
from tests.page.kit import Lab, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Browser, Page

    MakeLab = Callable[..., Awaitable[Lab]]
    MakeWindow = Callable[..., Awaitable[Window]]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in this directory are `page`, and run on the browser's loop."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.page)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Chromium]:
    """This test worker's."""
    async with one_chromium() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def make_lab() -> AsyncIterator[MakeLab]:
    """More labs, or other ones; takes what `kit.opened` takes."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**how: Any) -> Lab:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="da-"))
            return await stack.enter_async_context(opened(Path(place), **how))

        yield make


@pytest_asyncio.fixture(loop_scope="session")
async def lab(make_lab: MakeLab) -> Lab:
    """The usual one: three phones online, one webhook."""
    return await make_lab()


@pytest_asyncio.fixture(loop_scope="session")
async def make_window(make_lab: MakeLab, chromium: Chromium) -> AsyncIterator[MakeWindow]:
    """More windows, each of a lab; they are closed, and judged, before the labs end."""
    del make_lab  # asked for so that it ends later
    windows: list[Window] = []

    async def make(lab: Lab, browser: Browser | None = None, **how: Any) -> Window:
        context = await (browser or chromium.browser).new_context(**how)
        windows.append(Window(context, lab.base, None if browser else chromium.workers))
        await windows[-1].ready()
        return windows[-1]

    yield make
    async with contextlib.AsyncExitStack() as stack:
        for window in windows:
            stack.push_async_callback(window.close)


@pytest_asyncio.fixture(loop_scope="session")
async def window(lab: Lab, make_window: MakeWindow) -> Window:
    """One of the usual lab's."""
    return await make_window(lab)


@pytest_asyncio.fixture(loop_scope="session")
async def page(lab: Lab, window: Window) -> Page:
    """A tab in it that shows the page; nobody is signed in."""
    return await window.tab(lab.base)

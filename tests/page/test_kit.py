"""The kit itself: that it forgives nothing, and that its phones do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.page.browser import refused

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab
    from tests.page.kit import Lab


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("() => console.error('my mistake')", "console: my mistake"),
        ("() => setTimeout(() => { throw new Error('not caught'); })", "uncaught: not caught"),
        (
            "() => { new Image().src = 'http://elsewhere.example/x.png'; }",
            "policy: img-src forbids http://elsewhere.example/x.png",
        ),
        ("() => fetch('v1/nothing')", "status of 404"),
    ],
)
async def test_what_the_browser_complains_about(
    window: Window, page: Page, script: str, told: str
) -> None:
    await page.evaluate(script)
    await window.settle()
    assert told in "\n".join(window.unexpected())
    window.allow("my mistake", "not caught", "elsewhere.example", refused(404))


async def test_a_request_to_another_origin(lab: Lab, window: Window) -> None:
    other = lab.receiver.url("/", host="localhost")
    page = await window.tab(other)
    assert any(f"foreign: GET {other}" in each for each in window.unexpected())
    assert page.url == other
    window.allow("foreign: GET")


@pytest.mark.parametrize("scripted", [False, True])
async def test_phones(make_lab: MakeLab, *, scripted: bool) -> None:
    lab = await make_lab(phones=2, scripted=scripted)
    phone, other = lab.phones
    await phone.unauthorize()
    await lab.until_state(phone, "offline")
    await phone.authorize()
    await lab.until_state(phone, "online")
    await phone.unplug()
    await lab.until_state(phone, "unplugged")
    await phone.rename("<img src=x onerror=alert(1)>")
    await phone.plug()
    await lab.until_state(phone, "online")
    await lab.agent.until_device(phone.udid, "name", "<img src=x onerror=alert(1)>")
    await lab.agent.until_device(other.udid, "name", other.name)
    if scripted:
        await lab.agent.until_device(phone.udid, "port", "1-1.1")
    await lab.receiver.until(lambda: len(lab.receiver.requests) >= 6)

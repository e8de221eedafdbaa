"""Around the page: zoom, forced colours, clocks put back, a tab that sleeps, a full disk."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.faults.private_disk import user_namespaces_work
from tests.kit.waiting import eventually
from tests.page.bare import bare_tab
from tests.page.browser import refused
from tests.page.relay import Relay

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

    from tests.page.browser import Chromium, Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

VIEWS = ("devices", "ports", "webhooks", "webhooks/new", "deliveries", "agent")
ZOOMED = {"width": 320, "height": 256}
"""1280 by 1024 at 400 %."""
CUT_OFF = """() => [...document.querySelectorAll("a, button, input, select, label, h1, h2, b")]
  .filter((each) => each.checkVisibility() && !each.closest(".unseen, .skip"))
  .filter((each) => {
    const {left, right} = each.getBoundingClientRect();
    const cut = each.clientWidth && each.scrollWidth > each.clientWidth + 1;
    return left < 0 || right > innerWidth || cut;
  })
  .map((each) => each.outerHTML.slice(0, 200))"""
FIRST, SECOND = "2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"
"""Half past two in Berlin, and half past two an hour later."""


async def live(page: Page) -> None:
    """Wait until what is shown is what is."""
    await expect(page.locator("#standing")).to_contain_text("live")


# --- 400 % --------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [*VIEWS, "device"])
async def test_nothing_is_lost_at_400_percent(lab: Lab, make_window: MakeWindow, view: str) -> None:
    window = await make_window(lab, viewport=ZOOMED)
    route = f"devices/{lab.phones[0].udid}" if view == "device" else view
    page = await window.tab(f"{lab.base}#/{route}")
    await live(page)
    await expect(
        page.locator("#main :is(tbody tr, .phone, .hooks li, form, dl)").first
    ).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == ZOOMED["width"]
    assert await page.evaluate(CUT_OFF) == []


async def test_the_sign_in_is_reached_at_400_percent(lab: Lab, make_window: MakeWindow) -> None:
    page = await (await make_window(lab, viewport=ZOOMED)).tab(lab.base)
    await page.locator("#sign").click()
    for _ in range(3):
        await page.keyboard.press("Tab")
    button = page.locator("#sign-in").get_by_role("button", name="Cancel")
    await button.focus()
    await expect(button).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in")).not_to_be_visible()


# --- forced colours -----------------------------------------------------------------------------


async def style(page: Page, selector: str, name: str) -> str:
    """As it is computed."""
    got: str = await page.locator(selector).first.evaluate(
        "(node, name) => getComputedStyle(node)[name]", name
    )
    return got


async def test_in_forced_colours_states_and_choices_are_told_apart(
    lab: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(lab, forced_colors="active")
    page = await window.tab(lab.base)
    await lab.phones[0].unauthorize()
    first = page.locator(f'tr[data-udid="{lab.phones[0].udid}"]')
    await expect(first.locator(".state")).to_have_text("▲ Offline")
    await expect(page.locator(".state.is-online").first).to_have_text("● Online")

    here, there = 'nav a[aria-current="page"]', "nav a:not([aria-current])"
    assert await style(page, here, "borderBottomColor") != await style(
        page, there, "borderBottomColor"
    )
    assert await style(page, there, "borderBottomColor") == await style(
        page, "body", "backgroundColor"
    )

    await page.locator(".count.is-offline").click()
    pressed, others = ".count[aria-pressed=true]", ".count[aria-pressed=false]"
    assert await style(page, pressed, "backgroundColor") != await style(
        page, others, "backgroundColor"
    )
    assert await style(page, f"{pressed} b", "color") != await style(page, f"{others} b", "color")

    await first.locator("a").click()
    await expect(first).to_have_attribute("aria-current", "true")
    assert await style(page, "tbody tr[aria-current]", "outlineStyle") == "solid"

    await page.keyboard.press("Tab")
    focused = page.locator(":focus-visible")
    await expect(focused).to_have_count(1)
    assert await style(page, ":focus-visible", "outlineStyle") == "solid"
    assert float((await style(page, ":focus-visible", "outlineWidth")).removesuffix("px")) >= 2

    await page.goto(f"{lab.base}#/webhooks")
    thumb = await page.locator(".toggle input").first.evaluate(
        "(box) => [getComputedStyle(box, '::after').backgroundColor,"
        " getComputedStyle(box).backgroundColor]"
    )
    assert thumb[0] != thumb[1]


# --- clocks put back ----------------------------------------------------------------------------


async def test_a_time_that_comes_twice_is_said_with_its_zone(
    lab: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(lab, timezone_id="Europe/Berlin", locale="en-GB")
    page = await window.tab()
    await page.clock.install(time="2026-10-25T02:45:00+01:00")
    phone = lab.phones[0]
    then = "Sun, 25 Oct 2026 01:45:00 GMT"

    async def date_back(route: Route) -> None:
        """The page learns from every answer what time it is at the agent."""
        response = await route.fetch()
        await route.fulfill(response=response, headers={**response.headers, "date": then})

    async def put_back(route: Route) -> None:
        response = await route.fetch()
        row = await response.json()
        move = row["transitions"][0]
        row["transitions"] = [
            {**move, "id": "b", "at": SECOND},
            {**move, "id": "a", "at": FIRST},
            {**move, "id": "0", "at": "2026-10-24T12:00:00.000Z"},
        ]
        row["since"] = FIRST
        headers = {**response.headers, "date": then}
        await route.fulfill(response=response, json=row, headers=headers)

    await page.route(re.compile(r"/v1/(?!events)"), date_back)
    await page.route(f"**/v1/devices/{phone.udid}", put_back)
    await page.goto(f"{lab.base}#/devices/{phone.udid}")
    times = page.locator(".moves time")
    await expect(times).to_have_text(["02:30:00 CET", "02:30:00 CEST", "24 Oct 2026, 14:00:00"])
    await expect(page.locator(".drawer")).to_contain_text("Online for 1 h, since 02:30:00 CEST")
    await expect(times.nth(1)).to_have_attribute("title", "25 Oct 2026, 02:30:00 CEST")


# --- a tab that sleeps --------------------------------------------------------------------------


async def test_a_frozen_tab_catches_up_and_says_so(lab: Lab, chromium: Chromium) -> None:
    phone = lab.phones[0]
    standing = "document.getElementById('standing')"
    row = f"document.querySelector('tr[data-udid=\"{phone.udid}\"]')"
    async with (
        Relay(lab.listen) as relay,
        bare_tab(chromium.browser, f"{relay.base}#/devices") as tab,
    ):
        await tab.until(f"{standing}?.className === 'is-live' && {row}")
        await tab.evaluate(
            f"""globalThis.said = [];
            new MutationObserver(() => said.push({standing}.className))
              .observe({standing}, {{attributes: true, attributeFilter: ["class"]}});"""
        )
        await tab.hide()
        await tab.freeze()
        await eventually(lambda: relay.open("/v1/events") == 0, "nothing is kept for it")
        await phone.unplug()
        await lab.until_state(phone, "unplugged")
        await tab.thaw()
        await tab.show()
        await tab.until(f"{standing}.className === 'is-live'")
        await tab.until(f"{row}.textContent.includes('Unplugged')")
        said = await tab.evaluate("said")
        assert said[0] == "is-connecting"
        assert said[-1] == "is-live"
        assert relay.open("/v1/events") == 1


# --- a full disk --------------------------------------------------------------------------------


@pytest.mark.netns
@pytest.mark.skipif(not user_namespaces_work(), reason="no private mount namespaces here")
async def test_what_is_typed_stays_when_the_disk_is_full(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(phones=0, small=True)
    assert lab.disk is not None
    window = await make_window(lab)
    page = await window.tab()
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks/new")
    name, url = page.get_by_label("Webhook Name"), page.get_by_label("URL", exact=True)
    await name.fill("board")
    await url.fill(lab.receiver.url("/board"))
    form = page.locator("form.drawer")
    await form.get_by_label("Online").check()
    lab.disk.fill()
    window.allow(refused(409))
    await form.get_by_role("button", name="Save").click()
    await expect(form.get_by_role("alert")).to_contain_text("No space left on device")
    await expect(name).to_have_value("board")
    await expect(form.get_by_label("Online")).to_be_checked()
    await expect(name).to_be_enabled()
    lab.disk.make_room()
    await form.get_by_role("button", name="Save").click()
    await expect(page.locator(".hooks > li")).to_have_count(2)
    await expect(page.get_by_role("link", name="board")).to_be_visible()


async def test_nothing_can_be_typed_that_would_not_be_saved(
    lab: Lab, window: Window, page: Page
) -> None:
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks/new")
    form = page.locator("form.drawer")
    name = form.get_by_label("Webhook Name")
    await form.get_by_label("URL", exact=True).fill(lab.receiver.url("/board"))
    await form.get_by_label("Online").check()
    await name.fill("board")
    answer, asked = asyncio.Event(), asyncio.Event()

    async def fail(route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        asked.set()
        await answer.wait()
        body = '{"error": {"code": "cannot_write", "message": "the disk is full"}}'
        await route.fulfill(status=503, body=body, content_type="application/json")

    await page.route("**/v1/webhooks", fail)
    window.allow(refused(503))
    await page.keyboard.press("Enter")
    await eventually(asked.is_set, "it is sent")
    await expect(name).to_be_disabled()
    await page.keyboard.type("lost?")
    answer.set()
    await expect(form.get_by_role("alert")).to_contain_text("the disk is full")
    await expect(name).to_be_focused()
    await page.keyboard.type("!")
    await expect(name).to_have_value("board!")

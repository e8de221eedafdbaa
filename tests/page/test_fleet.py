"""A fleet on the page: a hub's hosts, what it does not have, an agent's place, a blind hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio
from playwright.async_api import expect

from agent import __version__
from tests.page.browser import Window, no_serious_finding, refused
from tests.page.fleet_lab import TWIN, opened_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Locator, Page

    from tests.page.browser import Chromium
    from tests.page.fleet_lab import FleetLab

SLOW = 40_000.0
"""Milliseconds: heartbeats come every 5 s, twins are told apart after 30 s."""


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def fleet() -> AsyncIterator[FleetLab]:
    with tempfile.TemporaryDirectory(prefix="da-") as place:
        async with opened_fleet(Path(place)) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="session")
async def window(fleet: FleetLab, chromium: Chromium) -> AsyncIterator[Window]:
    made = Window(await chromium.browser.new_context(), fleet.base, chromium.workers)
    await made.ready()
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(window: Window) -> Page:
    return await window.tab()


def row(page: Page, host: str) -> Locator:
    return page.locator("table.fleet tbody tr").filter(has=page.get_by_text(host, exact=True))


async def test_a_hub_shows_how_it_and_its_hosts_stand(fleet: FleetLab, page: Page) -> None:
    await page.goto(f"{fleet.base}#/agent")
    hosts = page.locator("table.fleet tbody tr")
    await expect(hosts).to_have_count(3)
    await expect(row(page, "rack-1")).to_contain_text(
        re.compile(rf"alive.*0.*s ago{re.escape(__version__)}")
    )
    await expect(page.get_by_text("this hub sends the callbacks")).to_be_visible(timeout=SLOW)
    await expect(page.locator("#host")).to_contain_text("· hub")
    # What a hub has not is not told of; nor is a host that lives to be forgotten.
    await expect(page.get_by_role("heading", name="Sources")).to_have_count(0)
    await expect(page.get_by_role("button", name="Forget")).to_have_count(0)
    await no_serious_finding(page)
    for width in (360, 900, 1440):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    await row(page, "rack-1").get_by_role("link").click()
    await expect(page.locator("#main tbody tr").filter(has_text="rack-1").first).to_be_visible()
    await expect(
        page.locator("#main tbody tr").filter(has_text=re.compile("rack-[23]"))
    ).to_have_count(0)
    assert page.url.endswith("#/devices?host=rack-1")
    await expect(page.get_by_label("host")).to_have_value("rack-1")


async def test_a_phone_at_a_hub(fleet: FleetLab, page: Page) -> None:
    await fleet.sign_in(page)
    await page.goto(f"{fleet.base}#/devices/A2")
    drawer = page.locator(".drawer")
    await expect(drawer).to_contain_text("Hostrack-1")
    await expect(drawer).to_contain_text("on the own page of its host")
    await expect(
        drawer.locator("dt").filter(has_text=re.compile("USB|adb|bridge|Usage"))
    ).to_have_count(0)
    await drawer.get_by_role("button", name="Take a lease").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Take Pixel 9 at rack-1")
    await dialog.get_by_label("Holder").fill("alice")
    await dialog.get_by_role("button", name="Take").click()
    await expect(drawer).to_contain_text(re.compile("Leased to alice.* at rack-1"))
    await drawer.get_by_role("button", name="Release").click()
    await expect(drawer).to_contain_text("Online for", timeout=SLOW)


async def test_a_port_is_silenced_behind_its_host(fleet: FleetLab, page: Page) -> None:
    await fleet.sign_in(page)
    await page.goto(f"{fleet.base}#/devices/A2")
    await expect(page.locator(".drawer")).to_contain_text("on the own page of its host")
    await page.get_by_role("button", name="Silence…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("made at the agent of its host")
    await dialog.get_by_label("What").select_option("all ")
    await expect(dialog).to_contain_text("It is made at all hosts. Each must be reached.")
    await dialog.get_by_label("What").select_option("hub rack-1/1-2")
    await expect(dialog).to_contain_text("Covers 1 device now")
    await dialog.get_by_label("Reason").fill("new cables")
    await dialog.get_by_role("button", name="Silence").click()
    kept = page.locator(".drawer li").filter(has_text="hub rack-1/1-2")
    await expect(kept).to_contain_text("1 device")
    await kept.get_by_role("button", name="End").click()
    await expect(kept).to_have_count(0)


async def test_ports_are_elsewhere(fleet: FleetLab, page: Page) -> None:
    await page.goto(f"{fleet.base}#/ports")
    await expect(page.get_by_text("Ports are on each host's own page")).to_be_visible()
    await expect(page.get_by_text("USB is not watched")).to_have_count(0)
    await expect(page.get_by_label("Find a phone")).to_be_hidden()
    await no_serious_finding(page)
    await page.get_by_role("link", name="rack-3").click()
    await expect(page.locator("#main tbody tr")).to_have_count(1)


async def test_history_is_by_host(fleet: FleetLab, page: Page) -> None:
    await page.goto(f"{fleet.base}#/history")
    lanes = page.locator(".lanes tbody tr:not(.hub)")
    all_ = await fleet.hub.devices()
    await expect(lanes).to_have_count(len(all_))
    heads = await page.locator(".lanes .hub").all_inner_texts()
    assert [head.partition(" · ")[0] for head in heads] == sorted(
        head.partition(" · ")[0] for head in heads
    )
    assert {head.partition(" · ")[0] for head in heads} == {each["host"] for each in all_.values()}
    await expect(page.locator(".line[role=slider] rect")).not_to_have_count(0)
    await page.get_by_label("host").select_option("rack-3")
    await expect(lanes).to_have_count(1)
    await no_serious_finding(page)


async def test_a_host_that_was_taken_down_is_forgotten(
    fleet: FleetLab, window: Window, page: Page
) -> None:
    window.allow(refused(409))
    await fleet.sign_in(page)
    await page.goto(f"{fleet.base}#/devices/A1")
    await page.get_by_role("button", name="Silence…").click()
    # It is open while the host goes.
    silence = page.get_by_role("dialog")
    await silence.get_by_label("What").select_option("all ")
    await expect(silence).to_contain_text("made at all hosts. Each must be reached.")
    await fleet.racks["rack-3"].kill()
    await fleet.until_host("rack-3", "gone")
    await expect(silence).to_contain_text("all hosts, but for rack-3: what comes", timeout=SLOW)
    await page.keyboard.press("Escape")
    await page.goto(f"{fleet.base}#/devices?host=rack-3")
    await expect(page.locator("#main tbody tr")).to_contain_text("Offline")
    await expect(page.locator("#main tbody tr")).to_contain_text("host rack-3 is lost")
    await page.goto(f"{fleet.base}#/agent")
    lost = row(page, "rack-3")
    await expect(lost).to_contain_text("host rack-3 is lost", timeout=SLOW)
    await lost.get_by_role("button", name="Forget rack-3").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Its 1 phone is shown no more")
    await no_serious_finding(page)
    # It is back while somebody reads.
    await fleet.racks["rack-3"].start()
    await fleet.until_host("rack-3", "alive")
    await dialog.get_by_role("button", name="Forget it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("rack-3 is alive")
    await fleet.racks["rack-3"].kill()
    await fleet.until_host("rack-3", "lost", "gone")
    await dialog.get_by_role("button", name="Forget it").click()
    await expect(dialog).to_have_count(0)
    await expect(lost).to_have_count(0)
    await page.goto(f"{fleet.base}#/devices")
    await expect(page.locator("#main").get_by_text("Lab iPhone 15")).to_have_count(0)
    await fleet.racks["rack-3"].start()
    await expect(page.locator("#main").get_by_text("Lab iPhone 15")).to_be_visible(timeout=SLOW)


async def test_twins_have_their_hosts_in_their_names(fleet: FleetLab, page: Page) -> None:
    await page.goto(f"{fleet.base}#/devices?q={TWIN}")
    await expect(page.locator("#main tbody tr")).to_have_count(2, timeout=SLOW)
    twin = page.locator("#main tbody tr").filter(has_text=f"{TWIN}@")
    host = (await twin.locator("td").last.inner_text()).strip()
    await twin.get_by_role("link").click()
    assert re.search(rf"#/devices/{TWIN}(%40|@){host}\?", page.url)
    await expect(page.locator(".drawer")).to_contain_text(f"Also called{TWIN}")
    await expect(page.locator(".drawer")).to_contain_text(f"Host{host}")


async def test_a_blind_hub_and_an_agent_without_its_broker(
    fleet: FleetLab, window: Window, page: Page
) -> None:
    window.visits(fleet.rack_base)
    window.allow(refused(404))  # a rack of the tests has no file that a doctor could look at
    other = await window.tab(f"{fleet.rack_base}#/agent")
    place = other.locator("section.card").filter(has=other.get_by_role("heading", name="Fleet"))
    await expect(place).to_contain_text(re.compile("Calledrack-1.*connected.*has all of it"))
    await page.goto(f"{fleet.base}#/agent")
    await expect(row(page, "rack-1")).to_contain_text("alive")
    fleet.broker.stop()
    try:
        banner = page.locator("#banner")
        await expect(banner).to_contain_text("This hub is blind", timeout=SLOW)
        await expect(banner).to_contain_text("decides nothing until it hears itself")
        await expect(row(page, "rack-1")).to_contain_text("was alive")
        await expect(place).to_contain_text("lost", timeout=SLOW)
        await no_serious_finding(page)
    finally:
        fleet.broker.go_on()
    await expect(page.locator("#banner")).to_be_empty(timeout=SLOW)
    await expect(place).to_contain_text("connected", timeout=SLOW)

"""The installed service's page, opened at the machine's own address: the product's five acts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright, expect

from tests.lab.lab import ONLINE, SECRET, UNPLUGGED
from tests.lab.vm import GUEST_ADDRESS, LIMIT, PAGE_PORT
from tests.page.browser import UNTRUSTWORTHY, Window, launched

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from tests.lab.lab import Lab

LISTEN = f'[api]\nlisten = "{GUEST_ADDRESS}:{PAGE_PORT}"\n'
HOME = f"http://{GUEST_ADDRESS}:{PAGE_PORT}/"
SERIAL = "PAGE01"
PATH = "/page"


async def test_the_five_acts_from_a_browser(lab: Lab) -> None:
    lab.vm.connect_network()
    lab.fresh(LISTEN)
    expect.set_options(timeout=LIMIT * 1000)  # emulated, everything takes ten times as long
    there = f"--host-resolver-rules=MAP {GUEST_ADDRESS} 127.0.0.1:{lab.vm.page_port}"
    async with async_playwright() as playwright, launched(playwright, there) as browser:
        window = Window(await browser.new_context(), HOME)
        await window.ready()
        window.allow(UNTRUSTWORTHY)
        page = await window.tab()
        page.set_default_timeout(LIMIT * 1000)
        (link,) = lab.vm.run("device-agent", "ui", "--no-open").out.split()
        assert link.startswith(HOME)
        await page.goto(link)
        await page.locator("html.may-change").wait_for()
        await expect(page.locator("#banner")).to_contain_text("without TLS")
        await create(page)
        await verify(lab, page)
        await plugged(lab, page)
        await edit(lab, page)
        await delete(lab, page)
        await window.close()
    journal = lab.journal()
    assert "api.change" in journal
    assert "session=" in journal


def hook(page: Page, name: str) -> Locator:
    """Of the list."""
    return page.locator(".hooks > li").filter(has=page.locator("h2 a", has_text=name))


async def create(page: Page) -> None:
    """On an installed service, which may not write agent.toml."""
    await page.goto(f"{HOME}#/webhooks")
    await expect(hook(page, "lab").locator(".lock")).to_contain_text("agent.toml:")
    await page.get_by_role("link", name="Create Webhook").click()
    form = page.locator("form.drawer")
    await form.get_by_label("Webhook Name", exact=True).fill("From the page")
    await form.get_by_label("URL", exact=True).fill(f"http://127.0.0.1:8700{PATH}")
    await form.get_by_label("Online", exact=True).check()
    await form.locator("summary").click()
    await form.get_by_label("Signing secret", exact=True).fill(SECRET)
    await form.get_by_role("button", name="Save").click()
    await expect(hook(page, "From the page")).to_be_visible()


async def verify(lab: Lab, page: Page) -> None:
    """The sample is marked, and arrives."""
    await hook(page, "From the page").get_by_role("button", name="Verify").click()
    await expect(page.get_by_role("dialog")).to_contain_text("204 (")
    await page.keyboard.press("Escape")
    (sample,) = [each for each in lab.callbacks() if each["path"] == PATH]
    assert "TEST" in sample["body"]["deviceName"]


async def plugged(lab: Lab, page: Page) -> None:
    """A phone is seen as it comes, and who made the webhook is called back."""
    await page.goto(f"{HOME}#/devices")
    lab.plug("android", SERIAL)
    row = page.locator("tbody tr").filter(has_text=SERIAL)
    await expect(row).to_contain_text("Online")
    await asyncio.to_thread(lab.until, lambda: told(lab) == [ONLINE], "the callback")
    await page.goto(f"{HOME}#/deliveries?device={SERIAL}")
    await expect(page.locator("tbody tr").filter(has_text="From the page")).to_contain_text(
        "Delivered 204"
    )


async def edit(lab: Lab, page: Page) -> None:
    """From now on it hears of two states."""
    await page.goto(f"{HOME}#/webhooks")
    await hook(page, "From the page").get_by_role("link", name="Edit").click()
    form = page.locator("form.drawer")
    await form.get_by_label("Webhook Name", exact=True).fill("Renamed on the page")
    await form.get_by_label("Unplugged", exact=True).check()
    await form.get_by_role("button", name="Save").click()
    await expect(hook(page, "Renamed on the page")).to_be_visible()
    lab.unplug(SERIAL)
    await asyncio.to_thread(lab.until, lambda: told(lab) == [ONLINE, UNPLUGGED], "the callback")


async def delete(lab: Lab, page: Page) -> None:
    """Confirmed; from then on it hears nothing, and the file's own does."""
    await hook(page, "Renamed on the page").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Renamed on the page")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(hook(page, "Renamed on the page")).to_have_count(0)
    assert "Renamed" not in lab.vm.text("/var/lib/device-agent/webhooks.toml")
    lab.plug("android", SERIAL)
    lab.until_state(SERIAL, "online")
    lab.unplug(SERIAL)
    all_of_it = [ONLINE, UNPLUGGED, ONLINE, UNPLUGGED]
    await asyncio.to_thread(
        lab.until, lambda: told(lab, "/lab") == all_of_it, "what the file's webhook is told"
    )
    assert told(lab) == [ONLINE, UNPLUGGED]


def told(lab: Lab, path: str = PATH) -> list[str]:
    """What was called back there, in order."""
    return [
        each["body"]["eventDescription"]
        for each in lab.callbacks()
        if each["path"] == path and each["body"]["deviceUdid"] == SERIAL
    ]

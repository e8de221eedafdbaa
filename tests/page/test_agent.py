"""The agent itself on the page: whether it does its work, its doctor, who is signed in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from agent import __version__
from tests.page.browser import NOT_REACHED, no_serious_finding, refused

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab


def card(page: Page, title: str) -> Locator:
    """One of the view's sections."""
    return page.locator("section.card").filter(has=page.get_by_role("heading", name=title))


async def test_it_tells_what_works_and_what_does_not(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/agent")
    await expect(card(page, "Ready")).to_contain_text(f"Version{__version__}")
    sources = card(page, "Sources")
    await expect(sources.locator("li").filter(has_text="adb").first).to_contain_text("up")
    await expect(sources.locator("li").filter(has_text="udev")).to_contain_text(
        "off turned off in the configuration"
    )
    await expect(card(page, "Store")).to_contain_text(str(lab.place / "state"))
    await expect(card(page, "Configuration")).to_contain_text("As it was at the start.")
    await expect(card(page, "Who is signed in")).to_have_count(0)
    await lab.server.__aexit__(None, None, None)
    await expect(page.get_by_role("heading", name="Ready")).to_be_visible()
    await expect(sources.locator("li").filter(has_text="adb").first).to_contain_text("down")
    await expect(card(page, "Ready").locator("li").first).to_contain_text("adb")


async def test_the_doctor_is_asked_again(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/agent")
    doctor = card(page, "Doctor")
    await expect(doctor.locator("details").first).to_be_visible(timeout=20_000)
    await expect(doctor).to_contain_text(
        re.compile(r"\d+ findings? to look at, of \d+|All \d+ good")
    )
    await expect(doctor).to_contain_text("served at")
    await doctor.get_by_role("button", name="Examine again").click()
    await expect(doctor.get_by_role("button", name="Examine again")).to_be_enabled(timeout=20_000)
    await no_serious_finding(page)


async def test_a_reload_and_its_mistakes(lab: Lab, window: Window, page: Page) -> None:
    window.allow(refused(422))
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/agent")
    reload = page.get_by_role("button", name="Reload the configuration")
    lab.write(rest='[delivery]\nretention = "9d"\n')
    await reload.click()
    await expect(page.get_by_text("In force. Changed: delivery")).to_be_visible()
    await expect(card(page, "Configuration")).to_contain_text("as asked for")
    lab.write(rest='[delivery]\nretention = "<b>9d</b>"\n')
    await reload.click()
    alert = page.get_by_role("alert").filter(has_text="delivery")
    await expect(alert).to_contain_text("retention")
    await expect(card(page, "Configuration")).to_contain_text(
        re.compile(rf"Refused.*What was in force stays.*{re.escape(str(lab.agent.path))}:\d+:\d+")
    )
    await expect(reload).to_be_enabled()
    lab.write(rest="")
    await reload.click()
    await expect(alert).to_have_count(0)


async def test_a_session_of_somebody_else_is_ended(
    lab: Lab, page: Page, make_window: MakeWindow
) -> None:
    other = await make_window(lab)
    other.allow(refused(401))
    theirs = await other.tab()
    await lab.sign_in(theirs)
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/agent")
    rows = card(page, "Who is signed in").locator("li")
    await expect(rows).to_have_count(2)
    await expect(rows.filter(has_text="(this tab)").get_by_role("button")).to_have_count(0)
    await rows.get_by_role("button", name="End").click()
    await expect(rows).to_have_count(1)
    await theirs.goto(f"{lab.base}#/webhooks")
    await theirs.reload()
    await expect(theirs.locator("#sign")).to_have_text("Sign in to change")


async def test_who_may_not_change_is_asked_to_sign_in(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/agent")
    await page.get_by_role("button", name="Reload the configuration").click()
    await page.locator("#sign-in-token").fill(f"{lab.base}#code={await lab.code()}")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("In force. Nothing changed.")).to_be_visible()


async def test_an_agent_that_is_gone_leaves_what_was_told(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab()
    window = await make_window(lab)
    window.allow(NOT_REACHED)
    page = await window.tab(f"{lab.base}#/agent")
    await expect(card(page, "Ready")).to_be_visible()
    await lab.kill()
    await expect(page.locator("#main > div > p.error")).to_contain_text("does not answer")
    await expect(card(page, "Ready")).to_be_visible()
    await lab.start()
    await expect(page.locator("#main > div > p.error")).to_be_empty()

"""The page's frame: what holds for it whatever view is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import Page, expect

from tests.page.browser import no_serious_finding

if TYPE_CHECKING:
    from tests.page.kit import Lab


async def test_it_is_live_and_nothing_is_serious(lab: Lab, page: Page) -> None:
    await expect(page.locator("#standing")).to_contain_text("live")
    await no_serious_finding(page)


async def test_sign_in(lab: Lab, page: Page) -> None:
    await lab.sign_in(page)
    await expect(page.locator("#sign")).to_have_text("Sign out")

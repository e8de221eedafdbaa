"""The view of deliveries: what was sent, what waits, what died; and sending it again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest_asyncio
from playwright.async_api import expect

from tests.fakes.receiver import answer
from tests.page.browser import NOT_REACHED, no_serious_finding, refused

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

SHORT = '[delivery]\nmax_age = "1s"\n'
MARKUP = b"<b onclick=alert(1)>down</b>"


def rows(page: Page) -> Locator:
    """Those of the table."""
    return page.locator("tbody tr")


def drawer(page: Page) -> Locator:
    """The one that is open."""
    return page.get_by_role("complementary", name="One delivery")


async def dead(lab: Lab, count: int) -> list[str]:
    """Let that many die; the receiver is well again."""
    lab.receiver.default = answer(503, body=MARKUP)
    await lab.phones[0].unauthorize()
    for _ in range(count - 1):
        await lab.until_state(lab.phones[0], "offline")
        await lab.phones[0].authorize()
        await lab.until_state(lab.phones[0], "online")
        await lab.phones[0].unauthorize()
    await lab.agent.until_delivered()
    lab.receiver.default = answer()
    found = (await lab.ask("GET", "/v1/deliveries?state=dead"))["deliveries"]
    return [row["id"] for row in found]


@pytest_asyncio.fixture(loop_scope="session")
async def busy(make_lab: MakeLab) -> Lab:
    """Three phones whose first callbacks were delivered; what fails dies within a second."""
    lab = await make_lab(scripted=True, phones=3, config=SHORT)
    await lab.agent.until_delivered()
    return lab


async def test_what_happens_comes_on_top(busy: Lab, make_window: MakeWindow) -> None:
    page = await (await make_window(busy)).tab(f"{busy.base}#/deliveries")
    await expect(rows(page)).to_have_count(3)
    await expect(rows(page).first).to_contain_text("Delivered 200")
    await expect(rows(page).first).to_contain_text("rack")
    await expect(page.locator("#standing")).to_contain_text("live")
    first = rows(page).last
    await expect(first).to_contain_text("Phone ")
    await expect(first).to_contain_text("SERIAL")
    await busy.phones[0].unauthorize()
    await expect(rows(page)).to_have_count(4)
    await expect(rows(page).first).to_contain_text("Offline")
    await expect(rows(page).first).to_contain_text("Phone 1")
    await no_serious_finding(page)


async def test_one_with_all_its_attempts(busy: Lab, make_window: MakeWindow) -> None:
    (id_,) = await dead(busy, 1)
    page = await (await make_window(busy)).tab(f"{busy.base}#/deliveries")
    link = rows(page).first.get_by_role("link").first
    await link.click()
    await expect(page).to_have_url(f"{busy.base}#/deliveries/{id_}")
    await expect(page.get_by_role("heading", name="Delivery", exact=True)).to_be_focused()
    one = drawer(page)
    await expect(one).to_contain_text("HTTP 503")
    await expect(one).to_contain_text("given up")
    await expect(one.get_by_text(MARKUP.decode()).first).to_be_visible()
    await expect(one).to_contain_text("application/json")
    told = (await busy.ask("GET", f"/v1/deliveries/{id_}"))["delivery"]
    body = one.locator("pre").last
    assert await body.inner_text() == json.dumps(json.loads(told["body"]), indent=2)
    await one.get_by_role("button", name="Copy as sent").click()
    await expect(body).to_have_text(told["body"])
    assert await page.evaluate("String(getSelection())") == told["body"]
    await no_serious_finding(page)
    for width in (360, 3840):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    await one.get_by_role("link", name="Close").click()
    await expect(one).to_be_hidden()
    await expect(link).to_be_focused()
    await page.goto(f"{busy.base}#/deliveries/{id_}?state=dead")
    await expect(drawer(page).get_by_role("link", name="Phone 1")).to_be_visible()
    await drawer(page).get_by_role("link", name="Phone 1").click()
    await expect(page).to_have_url(f"{busy.base}#/devices/{busy.phones[0].udid}")


async def test_filters_are_in_the_address(busy: Lab, make_window: MakeWindow) -> None:
    await dead(busy, 1)
    window = await make_window(busy)
    page = await window.tab(f"{busy.base}#/deliveries")
    await expect(rows(page)).to_have_count(4)
    await expect(rows(page).last).to_contain_text("Phone ")  # names are told
    await page.get_by_label("state").select_option("Dead")
    await expect(rows(page)).to_have_count(1)
    assert page.url == f"{busy.base}#/deliveries?state=dead"
    await page.get_by_label("device").fill("Phone 2")
    await page.get_by_label("device").press("Enter")
    await expect(page.get_by_text("No callback matches.")).to_be_visible()
    assert page.url == f"{busy.base}#/deliveries?device=SERIAL0002&state=dead"
    await page.go_back()
    await expect(rows(page)).to_have_count(1)
    await expect(page.get_by_label("device")).to_have_value("")
    await page.goto(f"{busy.base}#/deliveries?webhook=1&since=1d")
    await expect(rows(page)).to_have_count(4)
    await expect(page.get_by_label("webhook")).to_have_value("1")
    await expect(page.get_by_label("time")).to_have_value("1d")
    await page.get_by_label("time").select_option("From … to …")
    await page.get_by_label("until").fill("2026-01-31T12:00")
    await page.get_by_label("until").press("Enter")
    await expect(page.get_by_text("No callback matches.")).to_be_visible()
    await expect(page).to_have_url(re.compile(r"until=2026-01-3"))
    await page.reload()
    await expect(page.get_by_label("until")).to_have_value("2026-01-31T12:00")


async def test_a_range_takes_in_both_of_an_hour_that_comes_twice(
    busy: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(busy, timezone_id="Europe/Berlin")
    page = await window.tab(f"{busy.base}#/deliveries")
    await page.get_by_label("time").select_option("From … to …")
    for name in ("since", "until"):
        await page.get_by_label(name).fill("2026-10-25T02:30")
        await page.get_by_label(name).press("Enter")
    wanted = "since=2026-10-25T00%3A30%3A00.000Z&until=2026-10-25T01%3A30%3A00.000Z"
    await expect(page).to_have_url(re.compile(re.escape(wanted)))
    for name in ("since", "until"):
        await expect(page.get_by_label(name)).to_have_value("2026-10-25T02:30")
    # As the agent reads it: without a zone it is UTC.
    await page.goto(f"{busy.base}#/deliveries?since=2026-01-31T12:00&until=2026-02-01")
    await expect(page.get_by_label("since")).to_have_value("2026-01-31T13:00")


async def test_a_filter_that_makes_no_sense(busy: Lab, make_window: MakeWindow) -> None:
    window = await make_window(busy)
    window.allow(refused(400, 404))
    page = await window.tab(f"{busy.base}#/deliveries?device=nobody")
    device = page.get_by_label("device")
    await expect(device).to_have_attribute("aria-invalid", "true")
    await expect(device).to_have_accessible_description(re.compile("no device 'nobody'"))
    await page.goto(f"{busy.base}#/deliveries?webhook=none")
    await expect(page.get_by_label("webhook")).to_have_accessible_description(
        re.compile("no webhook 'none'")
    )
    await expect(device).to_have_attribute("aria-invalid", "false")
    await page.goto(f"{busy.base}#/deliveries?since=yesterday")
    await expect(page.get_by_label("since")).to_have_accessible_description(
        re.compile("'since' is a time like")
    )
    await page.goto(f"{busy.base}#/deliveries?state=lost")
    await expect(page.get_by_label("state")).to_have_accessible_description(
        re.compile("no state 'lost'")
    )
    await page.goto(f"{busy.base}#/deliveries/msg_none")
    await expect(drawer(page)).to_contain_text("no callback 'msg_none' is stored")


async def test_replay_one(busy: Lab, make_window: MakeWindow) -> None:
    (id_,) = await dead(busy, 1)
    sent = len(busy.receiver.requests)
    page = await (await make_window(busy)).tab()
    await busy.sign_in(page)
    await page.goto(f"{busy.base}#/deliveries/{id_}")
    await drawer(page).get_by_role("button", name="Replay").click()
    await expect(page.get_by_text("1 callback will be sent again.")).to_be_visible()
    await expect(drawer(page)).to_contain_text("Delivered 200")
    assert [each.headers["webhook-id"] for each in busy.receiver.requests[sent:]] == [id_]


async def test_replay_the_dead_asks_for_a_sign_in_and_goes_on(
    busy: Lab, make_window: MakeWindow
) -> None:
    ids = await dead(busy, 2)
    sent = len(busy.receiver.requests)
    page = await (await make_window(busy)).tab(f"{busy.base}#/deliveries?device=SERIAL0001")
    await page.get_by_role("button", name="Replay the dead").click()
    code = await busy.code()
    await page.get_by_label("Link or token").fill(f"{busy.base}#code={code}")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    dialog = page.get_by_role("dialog", name="Replay dead callbacks")
    await expect(dialog).to_contain_text(f"{len(ids)} dead callbacks by this filter")
    await dialog.get_by_role("button", name="Replay").click()
    await expect(dialog).to_be_hidden()
    await expect(page.get_by_text(f"{len(ids)} callbacks will be sent again.")).to_be_visible()
    await busy.receiver.until(lambda: len(busy.receiver.requests) >= sent + len(ids))
    again = [each.headers["webhook-id"] for each in busy.receiver.requests[sent:]]
    assert again == ids[::-1], "oldest first"
    await expect(rows(page).filter(has_text="Dead")).to_have_count(0)


async def test_older_ones_are_appended_and_what_is_read_stays(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(scripted=True, phones=120)
    await lab.agent.until_delivered()
    page = await (await make_window(lab)).tab(f"{lab.base}#/deliveries")
    await expect(page.locator("#standing")).to_contain_text("live")
    await expect(rows(page)).to_have_count(100)
    await page.get_by_role("button", name="Older").click()
    await expect(rows(page)).to_have_count(120)
    await expect(page.get_by_role("button", name="Older")).to_be_hidden()
    last = rows(page).last.get_by_role("link").first
    await last.focus()
    await last.scroll_into_view_if_needed()
    before = await last.bounding_box()
    await lab.phones[0].unauthorize()
    await expect(rows(page)).to_have_count(121)
    after = await last.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    await expect(last).to_be_focused()


async def test_a_webhook_that_is_deleted(busy: Lab, make_window: MakeWindow) -> None:
    hook = {"name": "Board", "url": busy.receiver.url("/2"), "events": ["offline"]}
    made = await busy.ask("POST", "/v1/webhooks", hook)
    await busy.phones[0].unauthorize()
    await busy.receiver.until(lambda: any(r.target == "/2" for r in busy.receiver.requests))
    await busy.agent.until_delivered()
    await busy.ask("DELETE", f"/v1/webhooks/{made['id']}")
    page = await (await make_window(busy)).tab(f"{busy.base}#/deliveries")
    row = rows(page).filter(has_text=f"deleted webhook {made['id']}")
    await row.get_by_role("link").first.click()
    await expect(drawer(page)).to_contain_text("Delivered 200")
    await expect(drawer(page).get_by_role("button", name="Replay")).to_be_hidden()


async def test_what_was_told_stays_while_the_agent_is_away(
    busy: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(busy)
    page = await window.tab(f"{busy.base}#/deliveries")
    await expect(rows(page)).to_have_count(3)
    window.allow(NOT_REACHED)
    await busy.kill()
    await expect(page.get_by_text("What is shown is of")).to_be_visible()
    await expect(rows(page)).to_have_count(3)
    await busy.start()
    await expect(page.get_by_text("What is shown is of")).to_be_hidden()

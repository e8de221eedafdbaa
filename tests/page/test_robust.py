"""What goes wrong between a press and its answer: keys held down, unlike tabs, odd addresses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from playwright.async_api import expect

from agent.api.page import files
from tests.kit.waiting import eventually
from tests.page.browser import NOT_REACHED, refused
from tests.page.relay import Relay

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

TOKEN = "right-token-of-the-api"
SOON = 20_000.0
"""Milliseconds in which a tab is told that it may read no more, or again."""
MODULE = "(await import(new URL('web/{}.js', document.baseURI).href))"
NO_WORKERS = "delete globalThis.SharedWorker"
BROKEN_WORKERS = "globalThis.SharedWorker = class { constructor() { throw new Error('no'); } }"
LOST_WORKERS = """
globalThis.SharedWorker = class extends EventTarget {
  port = {postMessage() {}};
  constructor() { super(); setTimeout(() => this.dispatchEvent(new Event("error"))); }
}
"""

MUTE_WORKERS = """
globalThis.SharedWorker = class extends EventTarget { port = new MessageChannel().port1; }
"""


async def live(page: Page) -> None:
    """Wait until what is shown is what is."""
    await expect(page.locator("#standing")).to_contain_text("live")


async def later(page: Page, url: str, gate: asyncio.Event) -> list[str]:
    """Requests to it wait for the gate; their methods as they come."""
    came: list[str] = []

    async def wait(route: Route) -> None:
        came.append(route.request.method)
        await gate.wait()
        await route.continue_()

    await page.route(url, wait)
    return came


async def hook(lab: Lab, name: str = "board") -> Any:
    """A managed webhook."""
    body = {"name": name, "url": lab.receiver.url("/board"), "events": ["online"]}
    return await lab.ask("POST", "/v1/webhooks", body)


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["constructor", "__proto__", "toString", "code=a%20b"])
async def test_an_address_of_no_view_shows_the_first(lab: Lab, window: Window, view: str) -> None:
    page = await window.tab(f"{lab.base}#/{view}")
    await expect(page.locator(".view-devices tbody tr")).to_have_count(len(lab.phones))


async def test_a_filter_that_is_none_changes_no_object(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/deliveries?__proto__=x&constructor=y")
    await expect(page.locator("tbody tr").first).to_be_visible()
    assert await page.evaluate("() => ['value' in {}, 'value' in Object]") == [False, False]


async def test_the_silences_in_force_are_a_link_away(lab: Lab, page: Page) -> None:
    await lab.ask("POST", "/v1/silences", {"all": True, "reason": "moving", "seconds": 600})
    await page.goto(f"{lab.base}#/agent")
    await page.locator("dd a").click()
    await expect(page.get_by_role("heading", name="Silences in force")).to_be_visible()


# --- keys held down, dialogs left ---------------------------------------------------------------


async def test_enter_held_down_deletes_nothing(lab: Lab, page: Page) -> None:
    await hook(lab)
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks")
    await page.get_by_role("button", name="Delete").focus()
    await page.keyboard.down("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("will be cancelled")
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.method))
    await page.keyboard.down("Enter")  # as the keyboard repeats it
    await page.keyboard.up("Enter")
    await page.evaluate("() => fetch('-/healthy')")
    assert "DELETE" not in asked
    await page.keyboard.press("Enter")  # pressed anew
    await expect(dialog).to_have_count(0)
    await expect(page.locator(".hooks > li")).to_have_count(1)


async def test_a_dialog_waits_for_the_answer(lab: Lab, window: Window, page: Page) -> None:
    await hook(lab)
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks")
    await page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("will be cancelled")
    answer = asyncio.Event()

    async def fail(route: Route) -> None:
        if route.request.method != "DELETE":
            await route.continue_()
            return
        await answer.wait()
        body = '{"error": {"code": "cannot_write", "message": "the disk is full"}}'
        await route.fulfill(status=503, body=body, content_type="application/json")

    await page.route("**/v1/webhooks/*", fail)
    window.allow(refused(503))
    await dialog.get_by_role("button", name="Delete").click()
    for _ in range(3):
        await page.keyboard.press("Escape")
    await dialog.get_by_role("button", name="Cancel").click(force=True)
    answer.set()
    await expect(dialog).to_contain_text("the disk is full")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_what_is_saved_leads_nobody_away_from_another_view(lab: Lab, page: Page) -> None:
    row = await hook(lab)
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks/{row['id']}")
    await page.get_by_label("Description", exact=True).fill("of the hall")
    gate = asyncio.Event()
    came = await later(page, f"**/v1/webhooks/{row['id']}", gate)
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.get_by_role("button", name="Save").click()
    await eventually(lambda: "PATCH" in came, "it is sent")
    await page.get_by_role("link", name="Ports").click()
    await expect(page.locator(".view-ports")).to_be_visible()
    async with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        gate.set()
    await page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert page.url.endswith("#/ports")


async def test_a_webhook_that_could_not_be_read_is_read_when_it_can_be(
    lab: Lab, window: Window, page: Page
) -> None:
    row = await hook(lab)
    await page.goto(f"{lab.base}#/webhooks")
    await expect(page.locator(".hooks > li")).to_have_count(2)
    window.allow(refused(503), NOT_REACHED)
    await page.route(f"**/v1/webhooks/{row['id']}", lambda route: route.abort())
    await page.goto(f"{lab.base}#/webhooks/{row['id']}")
    await expect(page.get_by_text("device-agent does not answer").first).to_be_visible()
    await page.unroute_all()
    await expect(page.locator("form.drawer")).to_be_visible()
    await expect(page.get_by_text("device-agent does not answer")).to_have_count(0)


# --- signing in and out -------------------------------------------------------------------------


async def test_enter_twice_signs_in_once(lab: Lab, page: Page) -> None:
    await page.locator("#sign").click()
    await page.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    gate = asyncio.Event()
    came = await later(page, "**/v1/sessions", gate)
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await eventually(lambda: bool(came), "it is sent")
    gate.set()
    await expect(page.locator("#sign")).to_have_text("Sign out")
    assert came == ["POST"]
    assert await page.evaluate("() => sessionStorage.length") == 1


@pytest.mark.parametrize("typed", ["wrong", "wröng 📱", "a\u200bb"])
async def test_a_wrong_token_ends_nothing(
    make_lab: MakeLab, make_window: MakeWindow, typed: str
) -> None:
    lab = await make_lab(phones=0, api=f'token = "{TOKEN}"')
    window = await make_window(lab)
    window.allow(refused(401))
    page = await window.tab(lab.base)
    await live(page)
    await page.locator("#sign").click()
    await page.get_by_label("Link or token").fill(typed)
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in-error")).to_have_text(
        "this is not the token of [api] token"
    )
    await expect(page.locator("#banner")).not_to_contain_text("has ended")
    await live(page)


async def test_who_signs_out_of_an_agent_that_is_away_may_sign_in_again(
    lab: Lab, window: Window, page: Page
) -> None:
    await lab.sign_in(page)
    await live(page)
    window.allow(NOT_REACHED)
    await lab.kill()
    await page.locator("#sign").click()
    await expect(page.locator("#sign")).to_have_text("Sign in to change")
    await lab.start()
    await live(page)
    await page.locator("#sign").click()
    await expect(page.locator("#sign-in")).to_be_visible()


async def test_a_switch_that_waits_for_a_sign_in_is_not_turned_back(lab: Lab, page: Page) -> None:
    row = await hook(lab)
    await page.goto(f"{lab.base}#/webhooks")
    one = page.locator(".hooks > li", has=page.get_by_role("link", name="board"))
    await one.get_by_label("Enabled").click()
    async with page.expect_response(lambda answer: answer.url.endswith("/v1/webhooks")):
        pass  # the list, which tells of it as it was
    async with page.expect_response(lambda answer: answer.url.endswith("/v1/webhooks")):
        pass
    await page.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    await page.keyboard.press("Enter")
    await expect(one).to_contain_text("Disabled")
    assert not (await lab.ask("GET", f"/v1/webhooks/{row['id']}"))["enabled"]


async def test_a_press_that_waits_for_a_sign_in_is_of_what_was_pressed(
    lab: Lab, page: Page
) -> None:
    await lab.agent.until_delivered()
    await page.goto(f"{lab.base}#/deliveries")
    await page.locator("tbody a").first.click()
    await page.get_by_role("button", name="Replay", exact=True).click()
    one = page.url.rsplit("/", 1)[1]
    await page.go_back()
    asked: list[Any] = []
    page.on("request", lambda each: asked.append((each.method, each.post_data_json)))
    await page.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    await page.keyboard.press("Enter")
    await eventually(lambda: ("POST", {"id": one}) in asked, "it is replayed")


# --- tabs, streams ------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [NO_WORKERS, BROKEN_WORKERS, LOST_WORKERS, MUTE_WORKERS])
async def test_without_shared_workers(lab: Lab, make_window: MakeWindow, script: str) -> None:
    window = await make_window(lab)
    await window.context.add_init_script(script)
    page = await window.tab(lab.base)
    await live(page)
    await lab.phones[0].unplug()
    await expect(page.locator("#announce")).to_contain_text("is unplugged")


LATE = """globalThis.SharedWorker = class extends EventTarget {
  port = new MessageChannel().port1;
  constructor() { super(); globalThis.fail = () => this.dispatchEvent(new Event("error")); }
}"""


async def test_a_worker_that_fails_while_the_agent_is_away(
    lab: Lab, make_window: MakeWindow
) -> None:
    """As one whose script the agent could not send any more."""
    window = await make_window(lab)
    window.allow(NOT_REACHED)
    await window.context.add_init_script(LATE)
    page = await window.tab(lab.base)
    await expect(page.locator("#standing")).to_contain_text("connecting")
    await lab.kill()
    await page.evaluate("() => fail()")
    await expect(page.locator("#standing")).to_contain_text("not reached")
    await lab.start()
    await live(page)


@pytest.mark.parametrize("script", ["", NO_WORKERS])
async def test_who_signs_out_is_told_no_more(
    make_lab: MakeLab, make_window: MakeWindow, script: str
) -> None:
    lab = await make_lab(api=f'token = "{TOKEN}"\nread = "token"')
    window = await make_window(lab)
    if script:
        await window.context.add_init_script(script)
    window.allow(refused(401))
    page = await window.tab(lab.base)
    await page.locator("#sign").click()
    await page.get_by_label("Link or token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await live(page)
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.locator("#sign").click()
    await expect(page.locator("#standing")).to_contain_text("sign in to look")
    await expect(page.locator("tbody tr")).to_have_count(0)
    await expect(page.locator("#banner")).to_contain_text("Reading needs a session here")


async def test_a_token_that_is_void_hides_no_good_one(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(api=f'token = "{TOKEN}"\nread = "token"')
    window = await make_window(lab)
    window.allow(refused(401), NOT_REACHED)
    good = await window.tab(lab.base)
    await good.locator("#sign").click()
    await good.get_by_label("Link or token").fill(TOKEN)
    await good.keyboard.press("Enter")
    await live(good)
    other = await window.tab()
    await lab.sign_in(other)
    await live(other)
    await lab.kill()
    await lab.start()  # knows no session
    await expect(other.locator("#banner")).to_contain_text("Your session has ended")
    await live(good)
    await expect(good.locator("tbody tr")).to_have_count(3)


async def test_a_tab_is_told_what_its_own_token_may_read(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    closed = f'token = "{TOKEN}"\nread = "token"'
    lab = await make_lab(api=closed)
    async with Relay(lab.listen) as relay:
        window = await make_window(lab)
        window.visits(relay.base)
        window.allow(refused(401))
        good = await window.tab(relay.base)
        await good.locator("#sign").click()
        await good.get_by_label("Link or token").fill(TOKEN)
        await good.keyboard.press("Enter")
        await live(good)
        other = await window.tab(relay.base)
        rows = other.locator("tbody tr")
        await expect(other.locator("#standing")).to_contain_text("sign in to look")
        await expect(rows).to_have_count(0)
        await other.locator("#sign").click()
        await other.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
        await other.keyboard.press("Enter")
        await live(other)
        await expect(rows).to_have_count(3)
        assert relay.open("/v1/events") == 1

        (session,) = (await lab.ask("GET", "/v1/sessions"))["sessions"]
        await lab.ask("DELETE", f"/v1/sessions/{session['id']}")
        await expect(other.locator("#standing")).to_contain_text("sign in to look", timeout=SOON)
        await expect(rows).to_have_count(0)
        await lab.phones[0].unplug()
        await expect(good.locator("#announce")).to_contain_text("is unplugged")
        await expect(rows).to_have_count(0)

        lab.write(api=closed.replace("read", "# read"))
        await lab.ask("POST", "/v1/reload")
        await expect(other.locator("#standing")).to_contain_text("live", timeout=SOON)
        await expect(rows).to_have_count(3)
        assert relay.open("/v1/events") == 1


async def test_a_page_from_after_an_upgrade_shares_no_worker_with_those_before(
    lab: Lab, make_window: MakeWindow
) -> None:
    async with Relay(lab.listen) as relay:
        window = await make_window(lab)
        window.visits(relay.base)
        for _ in range(2):
            await live(await window.tab(relay.base))
        assert relay.open("/v1/events") == 1

        async def upgraded(route: Route) -> None:
            if route.request.method == "HEAD":
                await route.fulfill(headers={"ETag": 'W/"of another version"'})
            else:
                await route.continue_()

        await window.context.route("**/web/stream.js", upgraded)
        for _ in range(2):
            await live(await window.tab(relay.base))
        assert relay.open("/v1/events") == 2
        async with aiohttp.ClientSession() as client:  # what is in the worker's name
            for name in ("stream.js", "stream_worker.js"):
                async with client.head(f"{lab.base}web/{name}") as response:
                    assert response.headers["ETag"] == f'W/"{files()[name].etag}"'


async def test_why_there_are_no_events_is_said_in_the_agents_words(
    lab: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(lab)
    window.allow(refused(503))
    await window.context.add_init_script(NO_WORKERS)
    page = await window.tab()
    body = '{"error": {"code": "busy", "message": "too many follow already"}}'
    await page.route(
        "**/v1/events",
        lambda route: route.fulfill(status=503, body=body, content_type="application/json"),
    )
    await page.goto(lab.base)
    banner = page.locator("#banner")
    await expect(banner).to_contain_text("device-agent tells of no events: too many follow already")
    await expect(page.locator("#standing")).to_contain_text("no events")
    await page.unroute_all()
    await live(page)
    await expect(banner).to_be_empty()


async def test_reading_that_is_forbidden_meanwhile_is_said(
    lab: Lab, window: Window, page: Page
) -> None:
    await live(page)
    window.allow(refused(401))
    lab.write(api=f'token = "{TOKEN}"\nread = "token"')
    await lab.ask("POST", "/v1/reload")
    await expect(page.locator("#standing")).to_contain_text("sign in to look")
    await expect(page.locator("#banner")).to_contain_text("Reading needs a session here")


async def test_a_device_that_goes_and_comes_at_once_is_there(lab: Lab, page: Page) -> None:
    await live(page)
    told = await page.evaluate(
        f"""async () => {{
          const {{live}} = {MODULE.format("live")};
          const {{Stream}} = {MODULE.format("stream")};
          const stream = new Stream("", (news) => live.take({{news}}), () => {{}});
          const row = [...live.devices.values()][0];
          stream.take({{kind: "removed", id: "", data: JSON.stringify({{udid: row.udid}})}});
          stream.take({{kind: "device", id: "", data: JSON.stringify(row)}});
          stream.flush();
          return live.devices.has(row.udid);
        }}"""
    )
    assert told


async def test_many_changes_are_announced_together(lab: Lab, page: Page) -> None:
    await live(page)
    said = await page.evaluate(
        f"""async () => {{
          const {{live}} = {MODULE.format("live")};
          const row = [...live.devices.values()][0];
          let count = 0;
          new MutationObserver(() => count++).observe(document.getElementById("announce"),
            {{childList: true}});
          for (let i = 0; i < 30; i++) {{
            const detail = Array.from({{length: 4 + i}}, () => ({{...row, to: "online"}}));
            live.dispatchEvent(new CustomEvent("transitions", {{detail}}));
            await new Promise((done) => setTimeout(done, 20));
          }}
          return count;
        }}"""
    )
    assert said <= 2
    await expect(page.locator("#announce")).to_contain_text("devices changed")


async def test_events_that_a_proxy_keeps_back_are_missed_aloud(
    lab: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(lab)
    await window.context.add_init_script(NO_WORKERS)
    page = await window.tab()
    gate = asyncio.Event()
    await later(page, "**/v1/events", gate)
    await page.goto(lab.base)
    await expect(page.locator("#banner")).to_contain_text(
        "does a proxy in between buffer /v1/events", timeout=15_000
    )
    await expect(page.locator(".empty")).to_have_text("Waiting for the agent's events …")
    gate.set()
    await live(page)
    await expect(page.locator("#banner")).to_be_empty()


async def test_where_storage_is_forbidden_a_session_lasts_as_long_as_the_page(
    lab: Lab, make_window: MakeWindow
) -> None:
    window = await make_window(lab)
    await window.context.add_init_script(
        "Object.defineProperty(globalThis, 'sessionStorage',"
        " {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page = await window.tab()
    await lab.sign_in(page)
    await live(page)
    await expect(page.locator("#sign")).to_have_text("Sign out")


async def test_the_focus_is_somewhere_when_the_row_is_not_there(lab: Lab, page: Page) -> None:
    udid = lab.phones[0].udid
    await page.goto(f"{lab.base}#/devices/{udid}?state=offline")
    await expect(page.locator(".drawer").get_by_role("heading", name="Why")).to_be_visible()
    await page.locator(".drawer").get_by_role("button", name="Close").press("Enter")
    await expect(page.get_by_role("searchbox")).to_be_focused()

"""The page's frame: what holds for it whatever view is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from playwright.async_api import expect

from agent.api.page import files
from tests.kit.waiting import LIMIT, eventually
from tests.page.browser import NOT_REACHED, no_serious_finding, refused
from tests.page.relay import Relay

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

WEB = Path(__file__).parents[2] / "agent" / "web"
FILES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())
BUDGET = 80 * 1024
"""Bytes of all files together."""
SHOWN_WITHIN = 15_000.0
"""Milliseconds until an agent that is gone is shown so."""
ROUTES = {
    "Devices": "#/devices",
    "Ports": "#/ports",
    "History": "#/history",
    "Report": "#/report",
    "Webhooks": "#/webhooks",
    "Deliveries": "#/deliveries",
    "Agent": "#/agent",
}
TOKEN = "right-token-of-the-api"
POLICY = {
    "default-src": {"'none'"},
    "script-src": {"'self'"},
    "style-src": {"'self'"},
    "connect-src": {"'self'"},
    "img-src": {"'self'"},
    "base-uri": {"'none'"},
    "frame-ancestors": {"'none'"},
    "require-trusted-types-for": {"'script'"},
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


async def live(page: Page) -> None:
    """Wait until what is shown is what is."""
    await expect(page.locator("#standing")).to_contain_text("live", timeout=SHOWN_WITHIN)


# --- how it is served ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tcp", "socket"])
async def test_every_file_is_served_under_the_policy(lab: Lab, way: str) -> None:
    base = lab.base if way == "tcp" else "http://localhost/"
    connector = aiohttp.UnixConnector(str(lab.agent.socket)) if way == "socket" else None
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(LIMIT)
    ) as client:
        for name in ("", *(f"web/{each}" for each in FILES)):
            async with client.get(base + name) as response:
                body = await response.read()
                assert response.status == 200, name
                headers = response.headers
            assert body == (WEB / (name.removeprefix("web/") or "index.html")).read_bytes(), name
            assert {key: headers[key] for key in HEADERS} == HEADERS, name
            (text,) = headers.getall("Content-Security-Policy")
            policy = {words[0]: set(words[1:]) for words in map(str.split, text.split(";"))}
            assert policy.items() >= POLICY.items(), name
            assert "unsafe" not in text
            assert "*" not in text
            assert "http" not in text
            wanted = TYPES.get(Path(name or "index.html").suffix)
            assert wanted is None or headers["Content-Type"].startswith(wanted), name
        for name in ("web/", "web/none.js", "web/../api/page.py", "web/%2e%2e/api/page.py"):
            async with client.get(base + name) as response:
                assert response.status == 404, name
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["Cache-Control"] == "no-store"


def test_the_whole_page_is_small() -> None:
    """As every browser asks for it: packed."""
    sizes = {name: len(file.packed) for name, file in files().items()}
    assert list(sizes) == FILES
    assert sum(sizes.values()) <= BUDGET, sizes


def test_nothing_in_it_leads_elsewhere() -> None:
    for name in FILES:
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", (WEB / name).read_text())
        assert [each for each in found if not each.startswith("http://www.w3.org/")] == [], name


# --- looking at it ------------------------------------------------------------------------------


async def test_nothing_leaves_the_origin_whatever_view_is_opened(
    lab: Lab, window: Window, page: Page
) -> None:
    await live(page)
    for route in (*ROUTES.values(), f"#/devices/{lab.phones[0].udid}"):
        await page.goto(lab.base + route)
        await expect(page.locator("#main > *").first).to_be_attached()
    asked = window.requests + window.worker_requests
    assert all(each.startswith(lab.base) for each in asked), asked
    assert await window.context.cookies() == []
    assert await page.evaluate("() => localStorage.length") == 0


@pytest.mark.parametrize("view", ROUTES)
async def test_no_serious_finding_in_a_view(lab: Lab, page: Page, view: str) -> None:
    await page.goto(lab.base + ROUTES[view])
    await live(page)
    await no_serious_finding(page)


async def test_no_serious_finding_in_the_sign_in(page: Page) -> None:
    await live(page)
    await page.locator("#sign").click()
    await no_serious_finding(page)


async def test_the_views_by_keyboard(page: Page) -> None:
    await live(page)
    links = page.locator("nav a")
    await expect(links).to_have_text(list(ROUTES))
    await page.keyboard.press("Tab")
    await expect(page.locator("#skip")).to_be_focused()
    for name, route in ROUTES.items():
        await page.keyboard.press("Tab")
        link = links.filter(has_text=re.compile(f"^{name}$"))
        await expect(link).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(f"{route}$"))
        await expect(link).to_have_attribute("aria-current", "page")
        await expect(page.locator('nav a[aria-current="page"]')).to_have_count(1)
        await expect(page).to_have_title(f"{name} · device-agent")
    for _ in ROUTES:
        await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()


async def test_back_and_forward_go_through_the_views(lab: Lab, page: Page) -> None:
    await page.locator("nav a", has_text="Webhooks").click()
    await page.locator("nav a", has_text="Agent").click()
    await page.go_back()
    await expect(page.locator('nav a[aria-current="page"]')).to_have_text("Webhooks")
    await page.go_forward()
    await expect(page.locator('nav a[aria-current="page"]')).to_have_text("Agent")
    await page.goto(f"{lab.base}#/no-such-view")
    await expect(page.locator('nav a[aria-current="page"]')).to_have_text("Devices")


# --- signing in ---------------------------------------------------------------------------------


async def stored(page: Page) -> list[str]:
    """All that the tab keeps."""
    found: list[str] = await page.evaluate("() => Object.values(sessionStorage)")
    return found


async def history(window: Window, page: Page) -> list[str]:
    """The addresses that "back" leads to, and the one shown."""
    session = await window.context.new_cdp_session(page)
    told = await session.send("Page.getNavigationHistory")
    return [each["url"] for each in told["entries"]]


@pytest.mark.parametrize("first", [False, True], ids=["in an open tab", "in a new tab"])
async def test_a_code_signs_in_once_and_leaves_no_trace(
    lab: Lab, window: Window, make_window: MakeWindow, *, first: bool
) -> None:
    page = await window.tab("" if first else lab.base)
    code = await lab.code()
    await page.goto(f"{lab.base}#code={code}")
    await expect(page.locator("#sign")).to_have_text("Sign out")
    await expect(page).to_have_url(re.compile(rf"^{re.escape(lab.base)}(#/devices)?$"))
    assert code not in "".join(await history(window, page))
    (token,) = await stored(page)
    assert len(token) > 30
    assert await page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
    assert await window.context.cookies() == []
    assert not [each for each in window.requests if code in each or token in each]
    assert len((await lab.ask("GET", "/v1/sessions"))["sessions"]) == 1

    other = await make_window(lab)
    other.allow(refused(401))
    late = await other.tab(f"{lab.base}#code={code}")
    await expect(late.locator("#banner")).to_contain_text("this code is wrong, older than 60 s")
    await expect(late.locator("#sign")).to_have_text("Sign in to change")
    assert await stored(late) == []

    await page.reload()
    await expect(page.locator("#sign")).to_have_text("Sign out")
    await page.locator("#sign").click()
    await expect(page.locator("#sign")).to_have_text("Sign in to change")
    assert await stored(page) == []
    assert (await lab.ask("GET", "/v1/sessions"))["sessions"] == []


async def test_the_token_is_typed_in(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0, api=f'token = "{TOKEN}"')
    window = await make_window(lab)
    page = await window.tab(lab.base)
    field = page.get_by_label("Link or token")
    await page.locator("#sign").click()
    await expect(field).to_be_focused()
    window.allow(refused(401))
    await page.keyboard.type("wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in-error")).to_have_text(
        "this is not the token of [api] token"
    )
    await expect(field).to_be_focused()
    assert await stored(page) == []
    await field.fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign")).to_have_text("Sign out")
    await expect(page.locator("#sign-in")).not_to_be_visible()
    assert await stored(page) == [TOKEN]
    assert await field.input_value() == ""
    await page.locator("#sign").click()
    await expect(page.locator("#sign")).to_have_text("Sign in to change")
    assert await stored(page) == []
    assert "wrong" not in "".join(window.requests)


async def test_a_link_is_pasted(lab: Lab, page: Page) -> None:
    await page.locator("#sign").click()
    await page.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign")).to_have_text("Sign out")


async def test_the_dialog_is_left_by_escape_and_focus_comes_back(page: Page) -> None:
    await page.locator("#sign").click()
    await expect(page.locator("#sign-in")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#sign-in")).not_to_be_visible()
    await expect(page.locator("#sign")).to_be_focused()


async def test_reading_needs_a_session_where_the_file_says_so(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(api=f'token = "{TOKEN}"\nread = "token"')
    window = await make_window(lab)
    window.allow(refused(401))
    page = await window.tab(lab.base)
    await expect(page.locator("#banner")).to_contain_text("Reading needs a session here")
    await expect(page.locator("#standing")).to_contain_text("sign in to look")
    known = "async () => (await import(new URL('web/live.js', document.baseURI).href))"
    names = f"{known}.live.devices.values().map((each) => each.name).toArray().sort()"
    assert await page.evaluate(names) == []
    await lab.sign_in(page)
    await live(page)
    assert await page.evaluate(names) == sorted(each.name for each in lab.phones)


async def test_a_session_that_ended_is_said(lab: Lab, window: Window, page: Page) -> None:
    await lab.sign_in(page)
    (session,) = (await lab.ask("GET", "/v1/sessions"))["sessions"]
    await lab.ask("DELETE", f"/v1/sessions/{session['id']}")
    window.allow(refused(401))
    await page.goto(f"{lab.base}#/webhooks")
    await page.reload()
    await expect(page.locator("#banner")).to_contain_text("session has ended")
    await expect(page.locator("#sign")).to_have_text("Sign in to change")
    assert await stored(page) == []


# --- two tabs -----------------------------------------------------------------------------------


async def test_a_second_tab_has_no_session_and_shares_the_stream(
    lab: Lab, make_window: MakeWindow
) -> None:
    async with Relay(lab.listen) as relay:
        window = await make_window(lab)
        window.visits(relay.base)
        page = await window.tab(f"{relay.base}#code={await lab.code()}")
        await expect(page.locator("#sign")).to_have_text("Sign out")
        second = await window.tab(relay.base)
        third = await window.tab(f"{relay.base}#/ports")
        for each in (page, second, third):
            await live(each)
        await expect(second.locator("#sign")).to_have_text("Sign in to change")
        assert await stored(second) == []
        await eventually(lambda: relay.open("/v1/events") == 1, "one stream")
        await page.close()
        await lab.phones[0].unplug()
        for each in (second, third):
            await expect(each.locator("#announce")).to_contain_text("is unplugged")
        assert relay.open("/v1/events") == 1
        await second.close()
        await third.close()
        await eventually(lambda: relay.open("/v1/events") == 0, "no stream")


# --- gone and back ------------------------------------------------------------------------------


async def overhear(page: Page) -> None:
    """Have the page note each transition that it is told, and that it was not loaded anew."""
    await page.evaluate(
        "async () => { const {live} = await import(new URL('web/live.js', document.baseURI).href);"
        " globalThis.heard = []; live.addEventListener('transitions', (event) =>"
        " globalThis.heard.push(...event.detail.map((each) => each.id))); }"
    )


async def until_heard(lab: Lab, page: Page, before: set[Any]) -> None:
    """Wait until the page was told, once each, what the agent stored since."""
    wanted = sorted(await transitions(lab) - before)
    assert wanted
    await page.wait_for_function("(n) => globalThis.heard?.length >= n", arg=len(wanted))
    assert sorted(await page.evaluate("() => globalThis.heard")) == wanted


async def transitions(lab: Lab) -> set[Any]:
    """The ids of all that the agent stored."""
    found = set()
    for phone in lab.phones:
        answer = await lab.ask("GET", f"/v1/devices/{phone.udid}/transitions?limit=100")
        found |= {each["id"] for each in answer["transitions"]}
    return found


async def test_a_killed_agent_is_shown_and_the_page_goes_on(
    lab: Lab, window: Window, page: Page
) -> None:
    await live(page)
    before = await transitions(lab)
    await overhear(page)
    window.allow(NOT_REACHED)
    await lab.phones[0].unplug()
    await lab.until_state(lab.phones[0], "unplugged")
    await lab.kill()
    await expect(page.locator("#standing")).to_contain_text("not reached", timeout=SHOWN_WITHIN)
    await expect(page.locator("#banner")).to_contain_text("not reached")
    await no_serious_finding(page)
    await lab.phones[0].plug()
    await lab.phones[1].unplug()
    await lab.start()
    await live(page)
    await expect(page.locator("#banner")).not_to_contain_text("not reached")
    await lab.until_state(lab.phones[0], "online")
    await lab.until_state(lab.phones[1], "unplugged")
    await until_heard(lab, page, before)


async def test_a_stopped_agent_is_shown_and_the_page_goes_on(
    lab: Lab, window: Window, page: Page
) -> None:
    await live(page)
    before = await transitions(lab)
    await overhear(page)
    window.allow(NOT_REACHED)
    lab.freeze()
    try:
        await lab.phones[0].unplug()
        await expect(page.locator("#standing")).to_contain_text("not reached", timeout=SHOWN_WITHIN)
    finally:
        lab.thaw()
    await live(page)
    await lab.until_state(lab.phones[0], "unplugged")
    await until_heard(lab, page, before)


async def test_every_view_bears_an_agent_that_is_gone(lab: Lab, window: Window) -> None:
    page = await window.tab(lab.base)
    await live(page)
    window.allow(NOT_REACHED)
    await lab.kill()
    for each in ("#/webhooks", "#/agent", "#/deliveries", "#/ports"):
        await page.goto(lab.base + each)  # the views say so, and fall over nothing
        await expect(page.locator("#main > *").first).to_be_attached()
    await lab.start()
    await live(page)


# --- with TLS -----------------------------------------------------------------------------------


async def test_with_tls(make_lab: MakeLab, make_window: MakeWindow, pki: Path) -> None:
    lab = await make_lab(tls=pki)
    window = await make_window(lab)
    page = await window.tab(lab.base)
    await live(page)
    await lab.sign_in(page)
    await expect(page.locator("#banner")).to_be_empty()

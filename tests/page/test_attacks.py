"""Pages of other origins, in the browser in which somebody is signed in: nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.page import attack
from tests.page.attack import TOKEN, Elsewhere
from tests.page.browser import UNTRUSTWORTHY, launched, refused
from tests.page.relay import Relay

if TYPE_CHECKING:
    from tests.page.browser import Chromium
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

WEBHOOK = "page"
ELSEWHERE = [("127.0.0.1", ""), ("127.0.0.1", "localhost"), ("127.0.0.2", "")]
IDS = ["another port", "localhost", "127.0.0.2"]


async def prepared(make_lab: MakeLab) -> Lab:
    """A lab with a webhook that can be changed."""
    lab = await make_lab(phones=1, api=f'token = "{TOKEN}"')
    hook = {"name": WEBHOOK, "url": lab.receiver.url("/page"), "events": ["online"]}
    await lab.ask("POST", "/v1/webhooks", hook)
    return lab


@pytest.mark.parametrize("way", ["tcp", "socket"])
@pytest.mark.parametrize(("host", "name"), ELSEWHERE, ids=IDS)
async def test_another_origin_changes_and_reads_nothing(
    make_lab: MakeLab, make_window: MakeWindow, host: str, name: str, way: str
) -> None:
    lab = await prepared(make_lab)
    to = lab.listen if way == "tcp" else lab.agent.socket
    async with Relay(to) as relay, Elsewhere(host, name) as elsewhere:
        window = await make_window(lab)
        window.visits(relay.base)
        own = await window.tab(f"{relay.base}#code={await lab.code()}")
        await expect(own.locator("#sign")).to_have_text("Sign out")
        before = await attack.state(lab)
        window.visits(elsewhere.base)
        window.allow(".")  # what fails here says so on the console
        evil = await window.tab(elsewhere.base)
        seen = len(relay.asked)
        told = await attack.change(evil, relay.base, WEBHOOK, TOKEN)
        assert {(kind, status) for *_, kind, status in told} <= {("error", 0), ("opaque", 0)}
        told = await attack.read(evil, relay.base)
        assert {(kind, size) for *_, kind, size in told} == {("error", 0)}, told
        await attack.submit(evil, relay.base, WEBHOOK)
        assert await attack.frame(evil, relay.base) == "SecurityError"
        assert relay.base not in [each.url for each in evil.frames]
        changes = [each for each in relay.asked[seen:] if each.method not in {"GET", "HEAD"}]
        assert len(changes) > 24
        statuses = {"OPTIONS": 403, "POST": 403}
        assert {(each.method, each.status) for each in changes} <= set(statuses.items()), changes
        assert {each.headers["sec-fetch-site"] for each in changes} <= {"same-site", "cross-site"}
        assert await attack.state(lab) == before

        # The same from the agent's own page does change it: it was no empty threat.
        told = await attack.change(own, relay.base, WEBHOOK, TOKEN)
        assert ["POST", "v1/webhooks", "application/json", "cors", "basic", 201] in told
        assert await attack.state(lab) != before


@pytest.mark.parametrize(("host", "name"), ELSEWHERE, ids=IDS)
async def test_who_opens_it_has_no_hold_on_it(
    lab: Lab, make_window: MakeWindow, host: str, name: str
) -> None:
    window = await make_window(lab)
    async with Elsewhere(host, name) as elsewhere:
        window.visits(elsewhere.base)
        evil = await window.tab(elsewhere.base)
        code = await lab.code()
        async with window.context.expect_page() as opened:
            await evil.evaluate("(url) => { globalThis.w = open(url); }", f"{lab.base}#code={code}")
        page = await opened.value
        await expect(page.locator("#sign")).to_have_text("Sign out")
        assert await page.evaluate("() => opener") is None
        assert await evil.evaluate("() => w.closed"), "the opener has lost sight of it"
        looked = "() => { try { return w.document.title; } catch (error) { return error.name; } }"
        assert await evil.evaluate(looked) != "device-agent"
        assert await evil.evaluate("() => { try { return w.length; } catch { return 0; } }") == 0
        await evil.evaluate("() => w.postMessage({token: 'x'}, '*')")
        await evil.evaluate("(url) => { w.location = url; }", elsewhere.base)
        await expect(page.locator("#sign")).to_have_text("Sign out")
        assert page.url.startswith(lab.base)


async def test_a_name_that_is_rebound_gets_nothing(
    make_lab: MakeLab, make_window: MakeWindow, chromium: Chromium
) -> None:
    lab = await prepared(make_lab)
    before = await attack.state(lab)
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    for to in (lab.listen, lab.agent.socket):
        async with launched(chromium.playwright, rules) as browser, Relay(to) as relay:
            base = relay.base.replace("127.0.0.1", "evil.example")
            window = await make_window(lab, browser)
            window.visits(base)
            window.allow(refused(403), UNTRUSTWORTHY)
            relay.own["/evil"] = "<title>Evil</title>"
            page = await window.tab(f"{base}evil")
            await expect(page).to_have_title("Evil")
            seen = len(relay.asked)
            told = await attack.change(page, base, WEBHOOK, TOKEN)
            assert {status for *_, status in told} <= {403, 0}
            assert "basic" in {kind for *_, kind, _ in told}
            reading = (
                "async (base) => { const told = await fetch(base + 'v1/devices');"
                " return [told.status, (await told.json()).error.code]; }"
            )
            assert await page.evaluate(reading, base) == [403, "bad_host"]
            assert {each.status for each in relay.asked[seen:]} == {403}
            await page.goto(base)
            assert "ask by address" in await page.locator("body").inner_text()
            await window.close()
    assert await attack.state(lab) == before

"""The Webhook Settings of the product's document: create, verify, toggle, edit, delete."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.fakes.receiver import answer
from tests.kit.waiting import LIMIT
from tests.page.browser import NOT_REACHED, no_serious_finding, refused

if TYPE_CHECKING:
    from playwright.async_api import Dialog, Locator, Page, Route

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp" + "x" * 15


async def made(lab: Lab, **more: Any) -> dict[str, Any]:
    """A managed webhook, over the API."""
    body = {"name": "board", "url": lab.receiver.url("/board"), "events": ["online"], **more}
    row: dict[str, Any] = await lab.ask("POST", "/v1/webhooks", body)
    return row


async def saved(lab: Lab, name: str = "board") -> dict[str, Any]:
    """All that the API tells of it."""
    row: dict[str, Any] = await lab.ask("GET", f"/v1/webhooks/{name}")
    return row


async def shown(lab: Lab, page: Page, at: str = "") -> None:
    """Signed in, at the view."""
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/webhooks{at}")
    await line(page, "rack").wait_for()


def line(page: Page, name: str) -> Locator:
    """Of the list."""
    return page.locator(".hooks > li").filter(has=page.locator("h2 a", has_text=name))


def form(page: Page) -> Locator:
    return page.locator("form.drawer")


def field(page: Page, label: str) -> Locator:
    return form(page).get_by_label(label, exact=True)


async def press(page: Page, words: str) -> None:
    await form(page).get_by_role("button", name=words).click()


async def test_one_is_created_and_its_mistakes_stand_at_their_fields(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(422))
    await made(lab)
    await shown(lab, page)
    await page.get_by_role("link", name="Create Webhook").click()
    name, url = field(page, "Webhook Name"), field(page, "URL")
    await expect(name).to_be_focused()
    await press(page, "Save")
    await expect(name).to_be_focused()
    for label, words in (
        ("Webhook Name", "A webhook needs a name."),
        ("URL", "An absolute URL is needed"),
        ("Online", "Turn on at least one."),
    ):
        await expect(field(page, label)).to_have_attribute("aria-invalid", "true")
        await expect(field(page, label)).to_have_accessible_description(re.compile(words))
    await name.fill("\N{MOBILE PHONE}" * 51)
    await expect(form(page)).to_contain_text("51 of 50")
    await field(page, "Description").fill("d" * 513)
    await press(page, "Save")
    await expect(form(page).get_by_text("At most 50 characters.")).to_be_visible()
    await expect(form(page).get_by_text("At most 512 characters.")).to_be_visible()
    await name.fill("board")
    await url.fill("http://x.example:0/")
    await field(page, "Description").fill("")
    await field(page, "Offline").check()
    await form(page).locator("summary").click()
    await field(page, "Timeout").fill("5")
    await field(page, "TLS: its private key").fill("k.pem")
    await field(page, "Authentication").select_option("bearer")
    await press(page, "Save")
    await expect(name).to_have_accessible_description(re.compile("has this name"))
    await expect(name).to_be_focused()
    await expect(url).to_have_accessible_description("a URL's port is at least 1")
    for label, words in (
        ("Timeout", "a duration needs a unit"),
        ("TLS: its private key", "a key needs its certificate"),
        ("Password or token", "is empty"),
    ):
        await expect(field(page, label)).to_have_accessible_description(re.compile(words))
    await name.fill("\N{MOBILE PHONE}" * 50)
    await url.fill(lab.receiver.url("/new?key=s3cret-k"))
    await field(page, "Timeout").fill("250ms")
    await field(page, "TLS: its private key").fill("")
    await field(page, "Password or token").fill("t0ken")
    await field(page, "Headers").fill("X-Rack: 1\nX-Time: a:b")
    await field(page, "Only with one of these tags").fill("rack 1\nqa")
    await field(page, "iOS").check()
    await field(page, "Proxy").fill("none")
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    here = line(page, "\N{MOBILE PHONE}" * 50)
    await expect(here.get_by_role("link", name="Edit")).to_be_focused()
    await expect(page.locator(".beside > div > .error").first).to_be_hidden()
    await expect(here).to_contain_text("only iOS, rack 1, qa")
    row = await saved(lab, "%F0%9F%93%B1" * 50)
    assert row.items() >= {
        "events": ["offline"], "timeout": 0.25, "tags": ["rack 1", "qa"], "platforms": ["ios"],
        "auth": {"type": "bearer", "username": ""}, "headers": ["X-Rack", "X-Time"], "proxy": "",
        "url_private": True, "enabled": True, "backlog": "all",
    }.items()  # fmt: skip
    assert "s3cret-k" not in await page.content()


async def test_a_mistake_over_several_keys_stands_at_one(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(422))
    row = await made(lab, auth={"type": "basic", "username": "u", "password": "s3cret-k"})
    await shown(lab, page, f"/{row['id']}")
    await expect(field(page, "User, for basic")).to_have_value("u")
    await field(page, "URL").fill("http://u:p@x.example/")
    await press(page, "Save")
    await expect(field(page, "Authentication")).to_be_focused()
    await expect(field(page, "Authentication")).to_have_accessible_description(
        "the request is authorised already, by url: keep one of them"
    )
    await field(page, "URL").fill(lab.receiver.url("/board"))
    await field(page, "User, for basic").fill("other")
    await press(page, "Save")
    await expect(field(page, "Password or token")).to_be_focused()
    await field(page, "Authentication").select_option("None")
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    assert (await saved(lab))["auth"] is None


async def test_what_the_agent_cannot_put_in_force_is_said_on_top(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(422))
    await shown(lab, page, "/new")
    await field(page, "Webhook Name").fill("x")
    await field(page, "URL").fill("http://x.example/")
    await field(page, "Online").check()
    await form(page).locator("summary").click()
    await field(page, "TLS: trusted authorities").fill("/none.pem")
    await press(page, "Save")
    await expect(form(page).get_by_role("alert")).to_contain_text("/none.pem: No such file")
    await expect(form(page).get_by_role("button", name="Save")).to_be_enabled()
    await expect(field(page, "Webhook Name")).to_have_value("x")


async def test_an_edit_sends_what_was_changed_alone(lab: Lab, page: Page) -> None:
    await made(
        lab, url=lab.receiver.url("/board?key=s3cret-k"), secret="s3cret", description="old",
        headers={"X-A": "s3cret-k"}, events=["unplugged", "online"],
    )  # fmt: skip
    sent: list[str | None] = []
    await shown(lab, page)
    page.on("request", lambda each: sent.append(each.post_data) if each.method == "PATCH" else None)
    await line(page, "board").get_by_role("link", name="Edit").click()
    await expect(form(page)).to_contain_text("Its query or user is not shown.")
    await expect(form(page)).to_contain_text("values not shown: X-A")
    await expect(field(page, "URL")).to_have_value(lab.receiver.url("/board"))
    await field(page, "Description").fill("")
    await field(page, "Utilizing").check()
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    assert json.loads(sent[0] or "") == {
        "description": None, "events": ["online", "utilizing", "unplugged"],
    }  # fmt: skip
    row = await saved(lab)
    assert (row["url_private"], row["secrets"], row["headers"]) == (True, 1, ["X-A"])
    await line(page, "board").get_by_role("link", name="Edit").click()
    await field(page, "Remove the secret").check()
    await field(page, "Remove the headers").check()
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    assert json.loads(sent[1] or "") == {"secret": None, "headers": None}
    assert "s3cret-k" not in await page.content()


async def test_a_secret_is_made_to_be_copied_once(lab: Lab, page: Page) -> None:
    await made(lab)
    await shown(lab, page, f"/{(await saved(lab))['id']}")
    await form(page).locator("summary").click()
    await press(page, "Make one")
    secret = await field(page, "Signing secret").input_value()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret[6:], validate=True)) == 24
    await expect(form(page)).to_contain_text("it is not shown again")
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    await line(page, "board").get_by_role("link", name="Edit").click()
    await expect(form(page)).to_contain_text("Set, and not shown.")
    await expect(field(page, "Signing secret")).to_have_value("")
    await line(page, "board").get_by_role("button", name="Verify").click()
    await expect(page.get_by_role("dialog")).to_contain_text("200 (")
    assert "webhook-signature" in lab.receiver.requests[-1].headers


async def test_verify_shows_what_came_and_what_was_sent(lab: Lab, page: Page) -> None:
    lab.receiver.default = answer(503, (), b"<b>down</b>")
    await shown(lab, page)
    button = line(page, "rack").get_by_role("button", name="Verify")
    await button.click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("HTTP 503 Service Unavailable (")
    await expect(dialog.locator("pre").first).to_have_text("<b>down</b>")
    await expect(dialog.locator("pre").last).to_contain_text('"deviceUdid":"device-agent-test"')
    lab.receiver.default = answer(204)
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog).to_contain_text("204 (")
    await no_serious_finding(page)
    await page.keyboard.press("Escape")
    await expect(button).to_be_focused()
    await lab.receiver.close()
    await button.click()
    await expect(dialog).to_contain_text("refuses connections: nothing listens there")


async def test_events_are_switched_in_the_list(lab: Lab, page: Page) -> None:
    await made(lab)
    await shown(lab, page)
    here = line(page, "board")
    await here.get_by_label("Unplugged").check()
    await expect(here.get_by_role("group")).to_be_enabled()
    await expect(here.get_by_label("Unplugged")).to_be_focused()
    await here.get_by_label("Enabled").uncheck()
    await expect(here).to_contain_text("Disabled")
    row = await saved(lab)
    assert (row["events"], row["enabled"]) == (["online", "unplugged"], False)
    await here.get_by_label("Online").uncheck()
    await expect(here.get_by_role("group")).to_be_enabled()
    await here.get_by_label("Unplugged").click()
    await expect(here.get_by_role("alert")).to_have_text("At least one event stays on.")
    await expect(here.get_by_label("Unplugged")).to_be_checked()
    assert (await saved(lab))["events"] == ["unplugged"]
    await lab.ask("PATCH", "/v1/webhooks/board", {"events": ["utilizing"], "name": "other"})
    await expect(line(page, "other").get_by_label("Utilizing")).to_be_checked()
    await expect(line(page, "other").get_by_label("Unplugged")).not_to_be_checked()
    await expect(line(page, "rack").get_by_label("Online")).to_be_disabled()


async def test_delete_says_what_it_cancels_and_asks_again(lab: Lab, page: Page) -> None:
    await made(lab, url="http://127.0.0.1:1/")
    await made(lab, name="next")
    await shown(lab, page)
    await lab.phones[0].unplug()
    await lab.phones[0].plug()
    here = line(page, "board")
    await expect(here).to_contain_text("1 callback waits on 1 phone, next try in")
    await expect(here).to_contain_text("nothing listens there in ")
    await here.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Delete webhook “\u2068board\u2069”?")
    await expect(dialog).to_contain_text("1 callback on 1 phone will be cancelled.")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(here.get_by_role("button", name="Delete")).to_be_focused()
    await here.get_by_role("button", name="Delete").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(here).to_have_count(0)
    await expect(line(page, "next").get_by_role("link", name="next")).to_be_focused()


async def test_one_of_the_operator_s_file_is_shown_and_left_alone(lab: Lab, page: Page) -> None:
    await shown(lab, page)
    here = line(page, "rack")
    await expect(here.locator(".lock")).to_have_text(re.compile(r"^agent\.toml:\d+$"))
    await expect(here.get_by_role("button", name="Delete")).to_have_count(0)
    await here.get_by_role("link", name="Edit").click()
    await expect(form(page)).to_contain_text(f"It stands in {lab.agent.path}:")
    await expect(form(page)).to_contain_text("device-agent webhooks edit 1")
    await expect(field(page, "URL")).to_be_disabled()
    await expect(form(page).get_by_role("button", name="Save")).to_have_count(0)
    await no_serious_finding(page)


async def test_one_that_moves_to_the_operator_s_file_is_locked_from_then_on(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(404))
    await made(lab)
    await shown(lab, page, "/nothing")
    await expect(page.get_by_role("alert").filter(has_text="no webhook 'nothing'")).to_be_visible()
    await lab.ask("DELETE", "/v1/webhooks/board")
    await expect(line(page, "board")).to_have_count(0)
    lab.write(rest='[[webhooks]]\nname = "board"\nurl = "http://x/"\nevents = ["online"]\n')
    await lab.ask("POST", "/v1/reload")
    await expect(line(page, "board").locator(".lock")).to_be_visible()
    await expect(line(page, "board").get_by_label("Online")).to_be_disabled()


async def test_what_others_change_meanwhile_is_said_and_nothing_typed_is_lost(
    lab: Lab, page: Page
) -> None:
    row = await made(lab)
    await shown(lab, page, f"/{row['id']}")
    await field(page, "Description").fill("mine")
    await lab.ask("PATCH", "/v1/webhooks/board", {"description": "theirs", "name": "new name"})
    await expect(form(page)).to_contain_text(
        "Changed elsewhere meanwhile: Webhook Name, Description."
    )
    await expect(field(page, "Webhook Name")).to_have_value("new name")
    await expect(field(page, "Description")).to_have_value("mine")
    await lab.ask("DELETE", "/v1/webhooks/new%20name")
    await expect(form(page)).to_contain_text("It was deleted meanwhile.")
    await expect(field(page, "Description")).to_have_value("mine")
    await press(page, "Save")
    await expect(line(page, "new name")).to_contain_text("mine")
    assert (await saved(lab, "new%20name"))["events"] == ["online"]


async def test_what_was_typed_is_not_left_unasked(lab: Lab, page: Page) -> None:
    await shown(lab, page, "/new")
    await field(page, "Webhook Name").fill("typed")
    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    page.on("dialog", stay)
    await page.get_by_role("link", name="Devices").click()
    await expect(page).to_have_url(f"{lab.base}#/webhooks/new")
    await form(page).get_by_role("link", name="Cancel").click()
    await expect(page).to_have_url(f"{lab.base}#/webhooks/new")
    await page.evaluate(f"location.hash = '#code={await lab.code()}'")
    await expect(page).to_have_url(f"{lab.base}#/webhooks/new")
    await expect(field(page, "Webhook Name")).to_have_value("typed")
    assert asked == ["confirm", "confirm"]
    await page.close(run_before_unload=True)
    await expect(field(page, "Webhook Name")).to_have_value("typed")
    page.remove_listener("dialog", stay)
    page.on("dialog", lambda dialog: dialog.accept())
    await form(page).get_by_role("link", name="Cancel").click()
    await expect(form(page)).to_have_count(0)
    await expect(page.get_by_role("link", name="Create Webhook")).to_be_focused()


async def test_a_session_that_ends_keeps_what_was_typed(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(401))
    await shown(lab, page, "/new")
    await field(page, "Webhook Name").fill("typed")
    await field(page, "URL").fill("http://x.example/")
    await field(page, "Online").check()
    for each in (await lab.ask("GET", "/v1/sessions"))["sessions"]:
        await lab.ask("DELETE", f"/v1/sessions/{each['id']}")
    await press(page, "Save")
    await expect(form(page).get_by_role("alert")).not_to_be_empty()
    await press(page, "Save")
    await page.locator("#sign-in-token").fill(f"{lab.base}#code={await lab.code()}")
    await page.locator("#sign-in-form").get_by_role("button", name="Sign in").click()
    await expect(line(page, "typed")).to_be_visible()


async def test_where_reading_needs_a_session_it_is_shown_after_the_sign_in(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(phones=0, api='read = "token"')
    window = await make_window(lab)
    window.allow(refused(401, 403))
    row = await made(lab)
    page = await window.tab(f"{lab.base}#/webhooks/{row['id']}")
    await page.get_by_role("button", name="Sign in", exact=True).first.click()
    await page.locator("#sign-in-token").fill(f"{lab.base}#code={await lab.code()}")
    await page.locator("#sign-in-form").get_by_role("button", name="Sign in").click()
    await expect(field(page, "Webhook Name")).to_have_value("board")
    await expect(line(page, "board")).to_be_visible()
    await page.reload()
    await expect(line(page, "board")).to_be_visible()
    await expect(form(page)).to_have_count(1)


async def test_an_agent_that_is_gone_keeps_what_was_typed(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(NOT_REACHED, refused(401))  # its sessions ended with it
    row = await made(lab)
    await shown(lab, page, f"/{row['id']}")
    await field(page, "Description").fill("typed")
    await lab.kill()
    await press(page, "Save")
    await expect(form(page).get_by_role("alert")).to_contain_text("does not answer")
    await expect(page.locator(".beside > div > .error").first).to_contain_text(
        "What is shown is of "
    )
    await expect(line(page, "board")).to_be_visible()
    await lab.start()
    await expect(page.locator(".beside > div > .error").first).to_be_hidden()
    await expect(field(page, "Description")).to_have_value("typed")


async def test_names_from_outside_stay_text_and_break_nothing(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(phones=0)
    window = await make_window(lab, viewport={"width": 360, "height": 800})
    page = await window.tab(lab.base)
    await made(lab, name=HOSTILE, description=HOSTILE * 10, tags=["y" * 300], org_id=2)
    await shown(lab, page)
    await expect(line(page, HOSTILE[:20])).to_contain_text("organisation 2")
    await no_serious_finding(page)
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    await line(page, HOSTILE[:20]).get_by_role("link", name="Edit").click()
    await expect(field(page, "Webhook Name")).to_have_value(HOSTILE)
    await no_serious_finding(page)
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_a_preview_that_comes_late_leaves_what_saving_said_of_the_body(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(422))
    asked, answers = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await answers.wait()
        await route.continue_()

    await page.route("**/v1/preview", hold)
    await shown(lab, page, "/new")
    await field(page, "Webhook Name").fill("chat")
    await field(page, "URL").fill(lab.receiver.url("/chat"))
    await field(page, "Offline").check()
    await form(page).locator("summary").click()
    await field(page, "Payload").select_option("custom")
    async with asyncio.timeout(LIMIT):
        await asked.wait()
    await press(page, "Save")
    missing = re.compile("this key is missing: payload")
    await expect(field(page, "Body")).to_have_accessible_description(missing)
    async with page.expect_response("**/v1/preview"):
        answers.set()
    # Two frames later the page has taken it in.
    frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    await page.evaluate(frame)
    await expect(field(page, "Body")).to_have_accessible_description(missing, timeout=1)


async def test_a_body_of_ones_own_is_shown_as_it_would_be_sent_while_it_is_typed(
    lab: Lab, window: Window, page: Page
) -> None:
    window.allow(refused(422))
    await shown(lab, page, "/new")
    await field(page, "Webhook Name").fill(HOSTILE)
    await field(page, "URL").fill(lab.receiver.url("/chat"))
    await field(page, "Offline").check()
    await form(page).locator("summary").click()
    body, preview = field(page, "Body"), form(page).get_by_role("region", name="Preview")
    await expect(body).to_be_hidden()
    await field(page, "Payload").select_option("custom")
    await expect(body).to_be_visible()
    await press(page, "Save")
    await expect(body).to_be_focused()
    await expect(body).to_have_accessible_description(re.compile("this key is missing: payload"))
    await body.fill('{"text": "{deviceNam}')
    await expect(body).to_have_accessible_description(re.compile("^It is no JSON: "))
    await body.fill('{"text": "{deviceNam} {{", "x": {"y": [null]}}')
    await expect(body).to_have_accessible_description(
        re.compile(
            r"^text: unknown placeholder \{deviceNam\} \(did you mean \{deviceName\}\?\) "
            r"x\.y\[0\]: TOML has no null"
        )
    )
    await expect(body).to_have_attribute("aria-invalid", "true")
    await press(page, "Save")
    await expect(body).to_be_focused()
    good = {"text": "{eventDescription} <b> {{", "of": "{webhookName}", "tags": "{tags}"}
    await body.fill(json.dumps(good))
    await expect(preview).to_contain_text('"text": "Offline <b> {"')
    await expect(preview).to_contain_text(json.dumps(HOSTILE, ensure_ascii=False))
    await expect(preview).to_contain_text('"tags": []')
    await expect(body).not_to_have_attribute("aria-invalid", "true")
    await body.fill('{"text": "{"}')
    await expect(body).to_have_accessible_description(re.compile("^text: a single {"))
    await expect(preview).to_contain_text("Offline <b> {")
    await expect(form(page)).to_contain_text("This is the last that could be sent.")
    await no_serious_finding(page)
    await body.fill('{"z": "{webhookName:5}", "a": [1, 2.5, true, "{deviceUdid}"]}')
    await expect(preview).to_contain_text('"a": [')
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    rows = (await lab.ask("GET", "/v1/webhooks"))["webhooks"]
    row = next(each for each in rows if each["name"] == HOSTILE)
    detail = await saved(lab, str(row["id"]))
    assert detail["payload"] == "custom"
    wanted = {"z": "{webhookName:5}", "a": [1, 2.5, True, "{deviceUdid}"]}
    assert json.dumps(detail["body"]) == json.dumps(wanted)


async def test_a_body_that_is_there_is_changed_and_goes_with_its_payload(
    lab: Lab, page: Page
) -> None:
    row = await made(lab, payload="custom", body=["{deviceName}", {"k": "{tags}"}])
    await shown(lab, page, f"/{row['id']}")
    body, preview = field(page, "Body"), form(page).get_by_role("region", name="Preview")
    await expect(body).to_have_value(json.dumps(["{deviceName}", {"k": "{tags}"}], indent=2))
    await expect(preview).to_contain_text("TEST: no real device")
    await body.fill('"{deviceUdid}"')
    await expect(preview).to_have_text('"device-agent-test"')
    await field(page, "Payload").select_option("extended")
    await expect(body).to_be_hidden()
    await field(page, "Payload").select_option("custom")
    await expect(body).to_have_value('"{deviceUdid}"')
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    assert (await saved(lab))["body"] == "{deviceUdid}"
    await page.goto(f"{lab.base}#/webhooks/{row['id']}")
    await field(page, "Payload").select_option("standard")
    await press(page, "Save")
    await expect(form(page)).to_have_count(0)
    detail = await saved(lab)
    assert (detail["payload"], detail["body"]) == ("standard", None)

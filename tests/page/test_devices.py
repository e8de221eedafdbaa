"""The devices' view: the table, one device beside it, leases and silences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from agent.track.silence_book import hubs_of
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.page.browser import PATIENCE, no_serious_finding, refused
from tests.page.kit import ListedPhone
from tests.sources.test_adb_battery import LOLLIPOP

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page, Route

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

HOT_AND_LOW = LOLLIPOP.replace("level: 64", "level: 9").replace(": 283", ": 481")
HOSTILE = "<img src=x onerror=alert(1)>"
CONFIG = """\
[[devices]]
udid = "SERIAL0001"
name = "<img src=x onerror=alert(1)>"
tags = ["rack-1", "qa"]
[[devices]]
udid = "SERIAL0002"
tags = ["rack-1"]
[[devices]]
udid = "SERIAL0003"
visibility = "public"
[[devices]]
udid = "SERIAL0004"
name = "{long}"
""".format(long="\\u202e" + "x" * 500)
MANY = 60_000.0
"""Milliseconds in which a thousand phones come."""
FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"SERIAL000{number}" for number in range(1, 6))


@pytest_asyncio.fixture(loop_scope="session")
async def lab(make_lab: MakeLab) -> Lab:
    """Five phones with ports: all online."""
    return await make_lab(phones=5, scripted=True, config=CONFIG)


@pytest_asyncio.fixture(loop_scope="session")
async def signed(lab: Lab, page: Page) -> Page:
    """A tab that may change things."""
    await lab.sign_in(page)
    return page


def row(page: Page, udid: str) -> Locator:
    return page.locator(f'tr[data-udid="{udid}"]')


def count(page: Page, key: str) -> Locator:
    return page.locator(f".count.is-{key}")


async def udids(page: Page) -> list[str]:
    """As they stand."""
    found: list[str] = await page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => row.dataset.udid)"
    )
    return found


async def stand(page: Page, *wanted: str, within: float = PATIENCE) -> None:
    """Wait until the first rows are these."""
    for place, udid in enumerate(wanted):
        one = page.locator("tbody tr").nth(place)
        await expect(one).to_have_attribute("data-udid", udid, timeout=within)


async def opened(lab: Lab, page: Page, udid: str) -> Locator:
    """One device's drawer."""
    await page.goto(f"{lab.base}#/devices/{udid}")
    drawer = page.locator(".drawer")
    await expect(drawer.get_by_role("heading", name="Why")).to_be_visible()
    return drawer


# --- the table ----------------------------------------------------------------------------------


async def test_what_needs_somebody_is_on_top(lab: Lab, page: Page) -> None:
    await expect(page.locator("tbody tr")).to_have_count(5)
    await lab.phones[3].unplug()
    await lab.ask("POST", "/v1/leases", {"udid": FIRST, "holder": "alice", "ttl": 60})
    await lab.phones[4].unauthorize()
    await lab.phones[1].unauthorize()
    await stand(page, SECOND, FIFTH, FIRST, THIRD, FOURTH)
    await expect(row(page, SECOND)).to_contain_text("accept the USB debugging prompt")
    await expect(row(page, FIRST)).to_contain_text("in use by alice")
    await expect(row(page, THIRD)).to_contain_text("public: not called back")
    wanted = {"needs": 2, "offline": 2, "utilizing": 1, "online": 1, "unplugged": 1}
    for key, number in wanted.items():
        await expect(count(page, key).locator("b")).to_have_text(str(number))
    await lab.ask("POST", "/v1/silences", {"device": SECOND, "seconds": 60, "reason": "why"})
    await stand(page, FIFTH, SECOND, FIRST)
    await expect(row(page, SECOND)).to_contain_text("silenced until")
    await expect(count(page, "needs").locator("b")).to_have_text("1")
    await no_serious_finding(page)


async def test_batteries_are_words_in_the_row_and_beside_it(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(phones=3, scripted=True, config='probe_interval = "200ms"\n')
    page = await (await make_window(lab)).tab(lab.base)
    one, two, _ = (phone.row for phone in lab.phones if isinstance(phone, ListedPhone))
    one.battery, two.battery = LOLLIPOP, HOT_AND_LOW
    await expect(row(page, FIRST)).to_contain_text("64 % charging · 28 °C")
    await expect(row(page, SECOND)).to_contain_text("9 % charging · 48 °C · hot · low")
    await expect(row(page, SECOND)).to_contain_text("battery 48 °C: too hot; battery 9 %: low")
    await expect(row(page, THIRD)).not_to_contain_text("%")
    await expect(count(page, "needs").locator("b")).to_have_text("0")
    drawer = await opened(lab, page, SECOND)
    await expect(drawer).to_contain_text("9 % charging · 48 °C · hot · low · good")
    await no_serious_finding(page)
    two.battery = ""
    await expect(row(page, SECOND)).not_to_contain_text("%")
    await expect(row(page, SECOND)).not_to_contain_text("hot")


async def test_filters_are_the_address(lab: Lab, window: Window, page: Page) -> None:
    await lab.phones[1].unauthorize()
    await expect(count(page, "offline").locator("b")).to_have_text("1")
    await count(page, "offline").focus()
    await page.keyboard.press("Enter")
    await expect(count(page, "offline")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"#/devices\?state=offline$"))
    await page.get_by_label("tag").select_option("qa")
    await expect(page.get_by_text("No device fits.")).to_be_visible()
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(5)
    await expect(count(page, "offline")).to_have_attribute("aria-pressed", "false")

    await page.get_by_label("Search").fill("RACK-1 1-1.2")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(row(page, SECOND)).to_be_visible()
    other = await window.tab(page.url)
    await expect(other.get_by_label("Search")).to_have_value("RACK-1 1-1.2")
    await expect(other.locator("tbody tr")).to_have_count(1)
    await page.get_by_label("Search").fill("nothing like it")
    await page.get_by_role("button", name="Show all").click()
    await expect(page.locator("tbody tr")).to_have_count(5)
    await expect(page.get_by_label("Search")).to_have_value("")
    await expect(page.get_by_label("host")).to_be_hidden()


async def test_nothing_needs_you(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/devices?state=needs")
    await expect(page.get_by_text("Nothing needs you.")).to_be_visible()
    await lab.phones[0].unauthorize()
    await stand(page, FIRST)


async def test_no_phones_says_what_to_check(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab)).tab(lab.base)
    await expect(page.get_by_text("No phone is here.")).to_be_visible()
    await expect(page.get_by_role("link", name="What the agent finds missing")).to_be_visible()
    await no_serious_finding(page)


async def test_rows_change_in_place(lab: Lab, page: Page) -> None:
    link = row(page, FIRST).get_by_role("link")
    await link.focus()
    await row(page, FIRST).evaluate("row => { row.mark = 1 }")
    await lab.phones[0].unauthorize()
    await expect(row(page, FIRST)).to_contain_text("Offline")
    await stand(page, FIRST)
    await lab.phones[0].authorize()
    await expect(row(page, FIRST)).to_contain_text("Online")
    assert await row(page, FIRST).evaluate("row => row.mark") == 1
    await expect(link).to_be_focused()


async def test_no_row_moves_away_under_the_pointer(lab: Lab, page: Page) -> None:
    await expect(page.locator("tbody tr")).to_have_count(5)
    before = await udids(page)
    last = before[-1]
    await row(page, before[0]).hover()
    await lab.phones[int(last[-1]) - 1].unauthorize()
    await expect(row(page, last)).to_contain_text("Offline")
    assert await udids(page) == before
    await page.locator("header").hover()
    await stand(page, last)


async def test_hostile_names_are_text_and_break_nothing(lab: Lab, page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 700})
    for udid, name in ((FIRST, HOSTILE), (FOURTH, "x" * 500)):
        await expect(row(page, udid)).to_contain_text(name)
        drawer = await opened(lab, page, udid)
        await expect(drawer.get_by_role("heading", level=2)).to_contain_text(name)
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
    assert await page.locator("main img").count() == 0


async def test_a_thousand_phones(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0, scripted=True)
    page = await (await make_window(lab)).tab(lab.base)
    assert isinstance(lab.server, FakeAdbHost)
    phones = {udid: Listed(udid) for udid in (f"PHONE{number:04}" for number in range(1000))}
    lab.server.set(*phones.values())
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(1000, timeout=MANY)
    await expect(count(page, "online").locator("b")).to_have_text("1000", timeout=MANY)
    last = (await udids(page))[-1]
    phones[last].state = "unauthorized"
    lab.server.set(phones[last])
    await stand(page, last, within=MANY)
    assert len(set(await udids(page))) == 1000
    await count(page, "offline").click()
    await expect(rows).to_have_count(1)
    await count(page, "offline").click()
    await expect(rows).to_have_count(1000)


async def test_only_the_row_of_a_phone_that_changes_is_touched(lab: Lab, page: Page) -> None:
    """Not even an attribute of the table: it would have all rows laid out anew."""
    await expect(page.locator("tbody tr")).to_have_count(5)
    await page.evaluate(
        """() => {
          const table = document.querySelector("table.devices");
          globalThis.touched = new Set();
          new MutationObserver((records) => {
            for (const {type, target, addedNodes} of records) {
              if (target.closest?.("time.age")) continue; // they tick
              const row = (target.nodeName === "TBODY" ? addedNodes[0] : target)?.closest?.("tr");
              touched.add(row ? row.dataset.udid : `${type} ${target.nodeName}`);
            }
          }).observe(table, {attributes: true, childList: true, subtree: true});
        }"""
    )
    await lab.phones[2].unauthorize()
    await stand(page, THIRD)
    await expect(row(page, THIRD)).to_contain_text("Offline")
    touched = set(await page.evaluate("() => [...touched]"))
    assert touched - {"childList TBODY"} == {THIRD}


async def test_rows_stand_in_order_whatever_changes(lab: Lab, page: Page) -> None:
    """Many phones that come, change and go, drawn in pieces: each stands where it belongs."""
    await expect(page.locator("tbody tr")).to_have_count(5)
    told = await page.evaluate(
        """async () => {
          const {Rows} = await import(new URL("web/views/device_rows.js", document.baseURI).href);
          const {live} = await import(new URL("web/live.js", document.baseURI).href);
          const [like] = live.devices.values();
          let seed = 1;
          const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
          const table = document.createElement("table");
          const rows = new Rows(table);
          const known = new Map();
          const wrong = [];
          document.body.append(table);
          for (let step = 0; step < 3000; step++) {
            const udid = `P${random(200)}`;
            const state = ["offline", "utilizing", "online", "unplugged"][random(4)];
            const device = random(9) ? {...like, udid, name: udid + state, state,
              since: `2026-01-01T00:00:${10 + random(50)}Z`} : undefined;
            const listed = Boolean(device && random(4));
            rows.set(udid, device, listed);
            if (listed) known.set(udid, device);
            else known.delete(udid);
            if (random(5) === 0) rows.draw(performance.now() + random(2) / 10, random(3) === 0);
            if (random(100)) continue;
            while (!rows.draw(Infinity, false));
            const shown = [...table.rows].map((tr) => tr.dataset.udid);
            const wanted = rows.list.map(({device}) => device.udid);
            if (shown.join() !== wanted.join()) wrong.push(`${step}: order`);
            if (wanted.toSorted().join() !== [...known.keys()].sort().join())
              wrong.push(`${step}: which`);
            for (const tr of table.rows)
              if (!tr.textContent.includes(known.get(tr.dataset.udid).name))
                wrong.push(`${step}: what`);
            for (const body of table.tBodies)
              if (!body.rows.length || body.rows.length > 50) wrong.push(`${step}: size`);
            const needs = [...table.rows].map((tr) => tr.textContent.includes("Offline"));
            if (needs.lastIndexOf(true) >= needs.filter(Boolean).length)
              wrong.push(`${step}: what needs somebody is not on top`);
          }
          table.remove();
          return wrong;
        }"""
    )
    assert told == []


# --- one device ---------------------------------------------------------------------------------


async def test_a_device_by_keyboard(lab: Lab, page: Page) -> None:
    link = row(page, SECOND).get_by_role("link")
    await link.focus()
    await page.keyboard.press("Enter")
    drawer = page.locator(".drawer")
    await expect(drawer).to_be_focused()
    await expect(row(page, SECOND)).to_have_attribute("aria-current", "true")
    await expect(drawer).to_contain_text("adb sees")
    await expect(drawer).to_contain_text("1-1.2")
    await expect(drawer.get_by_role("link", name="rack: delivered")).to_have_attribute(
        "href", re.compile("^#/deliveries/msg_")
    )
    await lab.phones[1].unauthorize()
    await expect(drawer).to_contain_text("accept the USB debugging prompt")
    await expect(drawer.locator(".moves li").first).to_contain_text("Online → ▲ Offline")
    await no_serious_finding(page)
    await page.keyboard.press("Escape")
    await expect(drawer).to_be_hidden()
    await expect(link).to_be_focused()
    await expect(page).to_have_url(re.compile("#/devices$"))


async def test_a_device_that_is_none(lab: Lab, window: Window, page: Page) -> None:
    window.allow(refused(404))
    await page.goto(f"{lab.base}#/devices/SERIAL000")
    await expect(page.locator(".drawer [role=alert]").first).to_contain_text(
        "did you mean SERIAL000"
    )
    await page.goto(f"{lab.base}#/devices/serial0001?state=online")
    await expect(page).to_have_url(re.compile(rf"#/devices/{FIRST}\?state=online$"))


async def test_a_device_that_goes_stays_to_be_read(lab: Lab, window: Window, page: Page) -> None:
    drawer = await opened(lab, page, SECOND)
    window.allow(refused(404))
    lab.write(rest=CONFIG.replace('tags = ["rack-1"]', 'visibility = "ignore"'))
    await lab.ask("POST", "/v1/reload")
    await expect(page.locator("tbody tr")).to_have_count(4)
    await expect(drawer).to_contain_text(re.compile(f"no device '{SECOND}'.* What follows is from"))
    await expect(drawer).to_contain_text("adb sees")


async def test_older_transitions_come_by_pages(lab: Lab, page: Page) -> None:
    for _ in range(40):
        await lab.phones[4].unauthorize()
        await lab.until_state(lab.phones[4], "offline")
        await lab.phones[4].authorize()
        await lab.until_state(lab.phones[4], "online")
    drawer = await opened(lab, page, FIFTH)
    moves = drawer.locator(".moves li")
    await expect(moves).to_have_count(8)
    for number in (50, 81):
        await drawer.get_by_role("button", name="More").click()
        await expect(moves).to_have_count(number)
    await expect(drawer.get_by_role("button", name="More")).to_be_hidden()
    await expect(moves.last).not_to_contain_text("→")
    await lab.phones[4].unauthorize()
    await expect(moves.first).to_contain_text("Online → ▲ Offline")
    await expect(moves).to_have_count(81)


# --- leases -------------------------------------------------------------------------------------


async def test_a_lease_is_taken_and_given_back(lab: Lab, page: Page) -> None:
    drawer = await opened(lab, page, FIFTH)
    await drawer.get_by_role("button", name="Take a lease").click()
    await page.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Take Phone 5")
    await expect(dialog.get_by_label("Holder")).to_be_focused()
    await dialog.get_by_label("Holder").fill("bob <b>")
    await dialog.get_by_label("Purpose").fill("checkout")
    await dialog.get_by_label("For").select_option("2 h")
    await expect(dialog).to_contain_text("ends by itself at")
    await no_serious_finding(page)
    await dialog.get_by_role("button", name="Take").click()
    await expect(drawer).to_contain_text("Leased to bob <b> for checkout")
    await expect(row(page, FIFTH)).to_contain_text("in use by bob <b> (checkout)")
    (lease,) = (await lab.ask("GET", "/v1/leases"))["leases"]
    assert (lease["udid"], lease["ttl"]) == (FIFTH, 7200)
    await drawer.get_by_role("button", name="Release lease").click()
    await expect(row(page, FIFTH)).to_contain_text("Online")
    await expect(drawer.get_by_role("button", name="Take a lease")).to_be_focused()
    assert (await lab.ask("GET", "/v1/leases"))["leases"] == []


async def test_somebody_elses_lease_is_named_first(lab: Lab, signed: Page) -> None:
    drawer = await opened(lab, signed, FIFTH)
    await lab.ask("POST", "/v1/leases", {"udid": FIFTH, "holder": "alice", "ttl": 600})
    await drawer.get_by_role("button", name="Release lease").click()
    dialog = signed.get_by_role("dialog", name="Release the lease of alice?")
    await dialog.get_by_role("button", name="Cancel").click()
    assert len((await lab.ask("GET", "/v1/leases"))["leases"]) == 1
    await expect(drawer.get_by_role("button", name="Release lease")).to_be_focused()
    await drawer.get_by_role("button", name="Release lease").click()
    await dialog.get_by_role("button", name="Release").click()
    await expect(row(signed, FIFTH)).to_contain_text("Online")
    await expect(dialog).to_be_hidden()


async def test_what_is_typed_stays_when_somebody_was_faster(
    lab: Lab, window: Window, signed: Page
) -> None:
    drawer = await opened(lab, signed, FIFTH)
    await drawer.get_by_role("button", name="Take a lease").click()
    dialog = signed.get_by_role("dialog", name="Take Phone 5")
    await dialog.get_by_label("Purpose").fill("checkout")
    await lab.ask("POST", "/v1/leases", {"udid": FIFTH, "holder": "alice", "ttl": 600})
    window.allow(refused(409))
    await dialog.get_by_role("button", name="Take").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("alice")
    await expect(dialog.get_by_label("Purpose")).to_have_value("checkout")
    await expect(dialog.get_by_role("button", name="Take")).to_be_enabled()


# --- silences -----------------------------------------------------------------------------------


async def test_a_silence_ends_at_the_later_of_two_same_times(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    """Where clocks are put back; and what is meant is said before it is sent."""
    lab = await make_lab(phones=1, scripted=True)
    page = await (await make_window(lab, timezone_id="Europe/Berlin", locale="en-GB")).tab()
    await lab.sign_in(page)
    sent: list[Any] = []

    async def take(route: Route) -> None:
        sent.append(route.request.post_data_json)
        await route.fulfill(status=201, body="{}", content_type="application/json")

    await page.route("**/v1/silences", take)
    for said, word, ends in (
        ("2026-10-25T02:30", r", 25 Oct 2026, 02:30:00 (CET|GMT\+1), each", "25T01:30:00.000Z"),
        ("2026-10-25T01:30", r", 25 Oct 2026, 01:30:00,? ?\S*, each", "24T23:30:00.000Z"),
        ("2026-03-29T02:30", r", 29 Mar 2026, 03:30:00 (CEST|GMT\+2), each", "29T01:30:00.000Z"),
    ):
        drawer = await opened(lab, page, FIRST)
        await drawer.get_by_role("button", name="Silence").click()
        dialog = page.get_by_role("dialog", name="Keep callbacks back")
        await expect(dialog.get_by_role("status")).to_contain_text("At its end each")
        await dialog.get_by_label("For", exact=True).select_option("until …")
        await dialog.get_by_label("Until").fill(said)
        await expect(dialog.get_by_role("status")).to_contain_text(re.compile(word))
        await dialog.get_by_label("Reason").fill("clocks")
        await dialog.get_by_role("button", name="Silence").click()
        await expect(dialog).to_be_hidden()
        assert sent.pop()["ends"].endswith(ends)


async def test_what_is_long_takes_no_room_from_the_rest(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    config = f'[[devices]]\nudid = "SERIAL0001"\ntags = ["{"x" * 64}"]\n'
    lab = await make_lab(phones=1, scripted=True, config=config)
    lease = {"udid": FIRST, "holder": "h" * 120, "ttl": 60, "purpose": "p" * 200}
    await lab.ask("POST", "/v1/leases", lease)
    page = await (await make_window(lab)).tab(lab.base)
    why = row(page, FIRST).locator("td:nth-child(5) > div")
    await expect(why).to_have_attribute("title", re.compile("p" * 200))
    assert await why.evaluate("each => each.clientHeight < each.scrollHeight")
    wide = "each => each.getBoundingClientRect().width"
    search = await page.get_by_label("Search").evaluate(wide)
    assert search > 2 * await page.get_by_label("tag", exact=True).evaluate(wide)


async def test_a_tag_is_silenced_and_told_of_again(lab: Lab, signed: Page) -> None:
    drawer = await opened(lab, signed, FIRST)
    await drawer.get_by_role("button", name="Silence").click()
    dialog = signed.get_by_role("dialog", name="Keep callbacks back")
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    await expect(dialog.get_by_role("status")).to_contain_text("Covers 1 device now")
    choices = await dialog.get_by_label("What").locator("option").all_text_contents()
    assert choices == [
        f"device {FIRST}",
        "tag rack-1",
        "tag qa",
        "hub 1-1.1",
        "hub 1-1",
        "hub usb1",
        "platform android",
        "all devices",
    ]
    for choice, number in (("hub 1-1", 5), ("all devices", 5), ("tag rack-1", 2)):
        await dialog.get_by_label("What").select_option(choice)
        await expect(dialog.get_by_role("status")).to_contain_text(f"Covers {number} device")
    await dialog.get_by_label("For", exact=True).select_option("until …")
    await expect(dialog.get_by_label("Until")).to_be_visible()
    await no_serious_finding(signed)
    await dialog.get_by_role("button", name="Silence").click()
    await expect(dialog.get_by_label("Reason")).to_be_focused()  # it is needed
    await signed.keyboard.type(HOSTILE)
    await dialog.get_by_role("button", name="Silence").click()
    await expect(dialog).to_be_hidden()
    (silence,) = (await lab.ask("GET", "/v1/silences"))["silences"]
    assert (silence["kind"], silence["value"], silence["devices"]) == ("tag", "rack-1", 2)
    (session,) = (await lab.ask("GET", "/v1/sessions"))["sessions"]
    assert silence["by"] == session["user"]

    await lab.phones[0].unauthorize()
    await expect(drawer).to_contain_text("Kept back by a silence: webhooks go by Online.")
    await expect(drawer).to_contain_text(HOSTILE)
    await count(signed, "silenced").click()
    panel = signed.get_by_role("heading", name="Silences in force").locator("..")
    await expect(panel.get_by_role("listitem")).to_contain_text("tag rack-1 · 2 devices · until")
    await expect(signed.locator("tbody tr")).to_have_count(2)
    await no_serious_finding(signed)
    await panel.get_by_role("button", name="End").click()
    await expect(panel.get_by_role("listitem")).to_have_text("None.")
    await expect(count(signed, "silenced").locator("b")).to_have_text("0")
    await expect(drawer).not_to_contain_text("Kept back")


async def test_the_page_reads_hubs_off_a_port_as_the_agent_does(page: Page) -> None:
    ports = ["", "1-4", "1-4.2", "12-1.10.3.4", "usb1"]
    told = await page.evaluate(
        """async (ports) => {
          const {choicesOf} = await import(new URL("web/silence.js", document.baseURI).href);
          return ports.map((port) => choicesOf({udid: "", tags: [], platform: "", port})
            .filter((choice) => choice.startsWith("hub "))
            .map((choice) => choice.slice(4)));
        }""",
        ports,
    )
    assert told == [list(hubs_of(port)) for port in ports]


@pytest.mark.parametrize("way", ["gone", "ended"])
async def test_what_is_typed_stays_when_the_agent_or_the_session_goes(
    lab: Lab, window: Window, signed: Page, way: str
) -> None:
    drawer = await opened(lab, signed, FIRST)
    await drawer.get_by_role("button", name="Silence").click()
    dialog = signed.get_by_role("dialog", name="Keep callbacks back")
    await dialog.get_by_label("Reason").fill("new cables")
    window.allow(r"net::ERR_", refused(401, 404))
    if way == "gone":
        await lab.kill()
        await dialog.get_by_role("button", name="Silence").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("does not answer")
        await lab.start()
        await expect(signed.locator("#sign")).to_have_text("Sign in to change")
    else:
        (session,) = (await lab.ask("GET", "/v1/sessions"))["sessions"]
        await lab.ask("DELETE", f"/v1/sessions/{session['id']}")
        await dialog.get_by_role("button", name="Silence").click()
        await expect(dialog.get_by_role("alert")).not_to_be_empty()
    await dialog.get_by_role("button", name="Silence").click()
    await signed.get_by_label("Link or token").fill(f"{lab.base}#code={await lab.code()}")
    await signed.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    (silence,) = (await lab.ask("GET", "/v1/silences"))["silences"]
    assert silence["reason"] == "new cables"

"""Lines of time: what they are made of, one phone's, all phones', and the report."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.page.browser import NOT_REACHED, no_serious_finding, refused
from tests.page.past import DAY, HOUR, MINUTE, Move, give

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Locator, Page, Route

    from tests.page.browser import Window
    from tests.page.conftest import MakeLab, MakeWindow
    from tests.page.kit import Lab

HOSTILE = "<img src=x onerror=alert(1)>"
CONFIG = """\
[[devices]]
udid = "SERIAL0001"
name = "<img src=x onerror=alert(1)>"
tags = ["qa"]
[[devices]]
udid = "SERIAL0002"
name = "=cmd|' /C calc'!A0"
tags = ["qa", "spare"]
"""
PHONES = 9
"""Seven at hub 1-1, two at hub 1-2."""
MANY = 60_000.0
PROMPT = "accept the USB debugging prompt"
SERIALS = [f"SERIAL{number:04}" for number in range(1, PHONES + 1)]


def past() -> list[Move]:
    """Two days: hub 1-1 is lost 5 h ago for an hour; the first phone has a morning of its own."""
    moves = []
    for number, udid in enumerate(SERIALS):
        hub, port = divmod(number, 7)
        at = f"1-{hub + 1}.{port + 1}"
        moves.append(Move(2 * DAY, udid, "online", port=at))
        if hub == 0:
            reason = "hub 1-1 (7 phones) is lost"
            moves.append(Move(5 * HOUR + number, udid, "offline", reason, "hub_lost", port=at))
            moves.append(Move(4 * HOUR, udid, "online", port=at))
    first = SERIALS[0]
    own = (
        Move(3 * HOUR, first, "utilizing", "in use by alice", holder="alice"),
        Move(2 * HOUR, first, "unplugged", "not on USB", "not_on_usb"),
        Move(90 * MINUTE, first, "online"),
        Move(60 * MINUTE, first, "offline", PROMPT, "unauthorized"),
        Move(60 * MINUTE - 20, first, "online"),
    )
    moves += [each._replace(port="1-1.1") for each in own]
    return moves


@pytest_asyncio.fixture(loop_scope="session")
async def lab(make_lab: MakeLab) -> Lab:
    """Nine phones, of which two days are known; for an hour nobody looked."""
    lab = await make_lab(phones=PHONES, scripted=True, config=CONFIG)
    await give(lab, past(), [(10 * HOUR, 9 * HOUR)])
    for phone in lab.phones:
        await lab.until_state(phone, "online")
    return lab


def lane(page: Page, name: str) -> Locator:
    """One phone's, as it is called."""
    return page.get_by_role("slider", name=f"Timeline of {name}", exact=True)


async def known(page: Page, number: int = PHONES) -> None:
    """Wait until so many lanes are drawn."""
    await expect(page.locator(".line[role=slider]:has(rect)")).to_have_count(number)


async def states(line: Locator) -> list[str]:
    """From left to right; what was not seen last."""
    found: list[str] = await line.locator("rect").evaluate_all(
        """rects => rects.map((rect) => [rect.classList.contains("is-unseen"), rect.x.baseVal.value,
          rect.getAttribute("class").match(/is-(\\w+)/)[1]])
          .sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((each) => each[2])"""
    )
    return found


async def fits(page: Page) -> None:
    for width in (360, 1440, 3840):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    await page.set_viewport_size({"width": 1280, "height": 720})


# --- what they are made of ------------------------------------------------------------------------

PURE = "const {layout, ticks, rangeOf, addressOf} = await import('./web/timeline.js');"
BRUTE = (
    "async () => {"
    + PURE
    + """
  let seed = 7;
  const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  const names = ["online", "utilizing", "unplugged", "offline"];
  const wrong = [];
  for (let run = 0; run < 400; run++) {
    const width = 50 + random(800);
    const range = {from: 1000, to: 1000 + 10 + random(5000)};
    const stays = [];
    for (let at = random(1500), last = ""; at < 7000 && random(60);) {
      const state = names.filter((each) => each !== last)[random(3)];
      const long = [0, 1, 5, 100, 2000][random(5)];
      stays.push({from: at, to: random(20) ? at + long : Infinity, state});
      if (stays.at(-1).to === Infinity) break;
      [at, last] = [at + long, state];
    }
    const boxes = layout(stays, range, width);
    const place = (time) => (time - range.from) / (range.to - range.from) * width;
    const seen = stays.filter((each) => each.to >= range.from && each.from < range.to);
    const say = (what) => wrong.push(`${run}: ${what}`);
    if (boxes.reduce((sum, each) => sum + each.count, 0) !== seen.length) say("a stay is lost");
    if (boxes.length > width + 2) say(`${boxes.length} boxes in ${width} pixels`);
    boxes.forEach((box, i) => {
      if (box.x < 0 || box.x + box.width > width + 1e-6 || box.width < 2) say(`outside ${i}`);
      if (i && box.x < boxes[i - 1].x) say(`order ${i}`);
    });
    for (const stay of seen) {
      const [x, right] = [place(stay.from), place(stay.to)];
      const shown = (box) => box.x < right + 2.01 && box.x + box.width > x - 2.01;
      const worse = (box) => names.indexOf(box.state) >= names.indexOf(stay.state);
      if (!boxes.some((box) => shown(box) && worse(box))) say(`${stay.state} is hidden`);
    }
    for (let x = 0.5; x < width; x++) {
      const time = range.from + x / width * (range.to - range.from);
      const stay = stays.find((each) => each.from <= time && time < each.to);
      const at = boxes.filter((box) => box.x <= x && x <= box.x + box.width);
      const thin = boxes.some((box) => box.width <= 2 && Math.abs(box.x + 1 - x) < 4);
      if (!thin && at.map((box) => box.state).join() !== (stay?.state ?? "")) say(`${x}: ${at}`);
    }
  }
  return wrong.slice(0, 10);
}"""
)
TICKS = (
    "async ([day, hours, gap]) => {"
    + PURE
    + """
  const from = +new Date(day);
  const made = ticks({from, to: from + hours * 3600000}, 1000, gap);
  return made.map(({x, text, midnight}) => [Math.round(x / 1000 * hours * 60), text, midnight]);
}"""
)
ROUND = (
    "async () => {"
    + PURE
    + """
  const wrong = [];
  for (let day = 0; day < 366; day++) {
    const from = Date.UTC(2026, 0, 1 + day, day % 24, (day * 7) % 60, day % 60);
    for (const hours of [0.02, 0.5, 3, 25, 24 * 7, 24 * 30, 24 * 366]) {
      const made = ticks({from, to: from + hours * 3600000}, 900, 70);
      const gaps = made.slice(1).map(({x}, i) => x - made[i].x);
      if (made.length > 13 || (made.length < 2 && hours > 3)) wrong.push([day, hours, made.length]);
      if (gaps.some((gap) => gap < 33)) wrong.push([day, hours, gaps]);
      for (const {x, midnight} of made) {
        const at = new Date(Math.round(from + x / 900 * hours * 3600000));
        const minute = at.getHours() * 60 + at.getMinutes();
        if (at.getSeconds() % 10 || midnight !== !(minute || at.getSeconds())) wrong.push(`${at}`);
        if (hours > 12 && minute % 60) wrong.push(`${hours} ${at}`);
      }
    }
  }
  return wrong.slice(0, 5);
}"""
)
TURNED = (
    "async () => {"
    + PURE
    + """
  const now = Date.UTC(2026, 5, 1, 12);
  const wrong = [];
  for (const minutes of [1, 59, 600, 5999, 6001, 43200, 570000]) {
    for (const back of [0, 1, 50, 90000]) {
      const to = now - back * 60000;
      const range = {from: to - minutes * 60000, to};
      const said = addressOf(range, now);
      const again = rangeOf(said, now);
      const close = Math.max(minutes * 60000 / 100, 1000);
      if (Math.abs(again.from - range.from) > close || Math.abs(again.to - to) > close)
        wrong.push([minutes, back, said]);
      if (again.goes !== (back < minutes / 500)) wrong.push(["goes", minutes, back, said]);
    }
  }
  const day = (since, until) => rangeOf({since, until}, now);
  for (const [since, until] of [["what", "ever"], ["", ""], ["0d"], ["2027-01-01"], [undefined]]) {
    const {from, to, goes} = day(since, until);
    if (to !== now || from !== now - 86400000 || !goes) wrong.push([since, until, from, to]);
  }
  if (day("9999d").from !== now - 400 * 86400000) wrong.push("as long as may be");
  return wrong;
}"""
)


async def test_boxes_are_the_stays(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab)).tab(lab.base)
    assert await page.evaluate(BRUTE) == []
    assert await page.evaluate(TURNED) == []


async def test_times_are_said(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    how = {"timezone_id": "Europe/Berlin", "locale": "en-GB"}
    page = await (await make_window(lab, **how)).tab(lab.base)
    long = {0: "0 s", -5: "0 s", 59: "59 s", 60: "1 min", 3725: "1 h 2 min", 90061: "1 d 1 h"}
    for seconds, words in long.items():
        said = "async (ms) => (await import('./web/format.js')).lasted(ms)"
        assert await page.evaluate(said, seconds * 1000) == words
    said = """async (both) => {
      const {moments} = await import('./web/format.js');
      return moments(...both.map(Date.parse)).replace(/[\u2009\u202f\xa0]/g, " ");
    }"""
    one = await page.evaluate(said, ["2026-01-05T10:00:00Z", "2026-01-05T11:30:00Z"])
    assert re.fullmatch(r"5 Jan 2026, 11:00:00 ?. ?12:30:00", one)
    two = await page.evaluate(said, ["2026-01-05T10:00:00Z", "2026-01-06T11:30:00Z"])
    assert re.fullmatch(r"5 Jan 2026, 11:00:00 ?. ?6 Jan 2026, 12:30:00", two)
    # An hour that comes twice has its zone.
    twice = await page.evaluate(said, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"])
    assert "CEST" in twice or "GMT+2" in twice


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata"])
async def test_ticks_are_round_times(make_lab: MakeLab, make_window: MakeWindow, zone: str) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab, timezone_id=zone, locale="en-GB")).tab(lab.base)
    assert await page.evaluate(ROUND) == []
    if zone != "Europe/Berlin":
        return
    spring = await page.evaluate(TICKS, ["2026-03-29T00:00", 23, 100])
    assert spring[:3] == [[0, "29 Mar", True], [120, "03:00", False], [300, "06:00", False]]
    assert spring[-1] == [23 * 60, "30 Mar", True]
    autumn = await page.evaluate(TICKS, ["2026-10-25T00:00", 25, 100])
    assert autumn[:2] == [[0, "25 Oct", True], [240, "03:00", False]]
    assert autumn[-1] == [25 * 60, "26 Oct", True]
    # Two o'clock is left out there, and comes twice here.
    spring = await page.evaluate(TICKS, ["2026-03-29T00:00", 4, 200])
    assert [text for _, text, _ in spring] == ["29 Mar", "01:00", "03:00", "04:00", "05:00"]
    autumn = await page.evaluate(TICKS, ["2026-10-25T00:00", 4, 200])
    assert [text for _, text, _ in autumn] == ["25 Oct", "01:00", "02:00", "02:00", "03:00"]


async def test_an_address_is_read_as_the_agent_reads_it(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    """Without a zone a time is UTC, wherever the browser is; how long ago, in all its forms."""
    lab = await make_lab(phones=0)
    page = await (await make_window(lab, timezone_id="Europe/Berlin")).tab(lab.base)
    read = f"""async (said) => {{
      {PURE}
      const {{from, to}} = rangeOf(said, Date.UTC(2026, 5, 1, 12));
      return [from, to].map((at) => new Date(at).toISOString().slice(5, 16));
    }}"""
    for since, until, *wanted in (
        ("2026-05-30T08:00", "2026-05-31T08:00:00.5", "05-30T08:00", "05-31T08:00"),
        ("2026-05-30", "2026-05-31T08:00+02:00", "05-30T00:00", "05-31T06:00"),
        ("1h30m", "", "06-01T10:30", "06-01T12:00"),
        ("1d", "90s", "05-31T12:00", "06-01T11:58"),
    ):
        assert await page.evaluate(read, {"since": since, "until": until}) == wanted


# --- one phone ------------------------------------------------------------------------------------


async def test_a_phone_has_its_timeline(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/devices/{SERIALS[0]}")
    drawer = page.locator(".drawer")
    line = drawer.get_by_role("slider")
    await expect(drawer.get_by_role("button", name="Day")).to_have_attribute("aria-pressed", "true")
    await expect(line.locator(".is-offline")).to_have_count(2)
    went = ["online", "offline", "online", "utilizing", "unplugged", "online", "offline", "online"]
    assert (await states(line))[:8] == went
    assert (await states(line))[8] == "unseen"

    # It is said where it is pointed at: a moment of 20 s, too.
    tip = drawer.locator(".tip")
    await line.locator(".is-offline").last.hover()
    await expect(tip).to_contain_text("Offline")
    await expect(tip).to_contain_text(re.compile(r"\(20 s\)"))
    await expect(tip).to_contain_text(PROMPT)
    await line.locator(".is-unseen").first.hover()
    await expect(tip).to_contain_text(re.compile(r"Online.*Not seen .*\(1 h\): the agent"))
    await page.mouse.move(5, 5)
    await expect(tip).to_be_hidden()

    # By keyboard.
    await drawer.get_by_role("button", name="As a table").focus()
    await page.keyboard.press("Tab")
    await expect(line).to_be_focused()
    await expect(line).to_have_attribute("aria-valuetext", re.compile(r"^Online, .* now \("))
    await page.keyboard.press("ArrowLeft")
    text = re.compile(rf"^Offline, .*\(20 s\), {PROMPT}")
    await expect(line).to_have_attribute("aria-valuetext", text)
    await expect(line.locator(".chosen.is-offline")).to_have_count(1)
    await expect(tip).to_contain_text(PROMPT)
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("ArrowLeft")
    await expect(line).to_have_attribute("aria-valuetext", re.compile("^Unplugged, .*not on USB"))
    await page.keyboard.press("ArrowLeft")
    await expect(line).to_have_attribute("aria-valuetext", re.compile("^In use, .*in use by alice"))
    await page.keyboard.press("Home")
    await expect(line).to_have_attribute("aria-valuetext", re.compile(r"^Online, .*\(1 d 19 h\)"))
    await page.keyboard.press("End")
    await page.keyboard.press("ArrowRight")
    await expect(line).to_have_attribute("aria-valuetext", re.compile("now"))
    await page.keyboard.press("Escape")
    await expect(tip).to_be_hidden()
    await expect(drawer).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(drawer).to_be_hidden()


async def test_a_phones_timeline_as_a_table(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/devices/{SERIALS[0]}?q=serial")
    drawer = page.locator(".drawer")
    await drawer.get_by_role("button", name="As a table").click()
    rows = drawer.locator(".place tbody tr")
    await expect(rows.nth(1)).to_contain_text(re.compile(rf"Offline.*20 s{PROMPT}"))
    await expect(rows).to_have_count(9)
    await expect(rows.filter(has_text="Not seen")).to_contain_text(re.compile("1 h.*the agent"))
    await expect(rows.filter(has_text="hub 1-1 (7 phones) is lost")).to_contain_text("1 h")
    await expect(page).to_have_url(re.compile(r"\?q=serial&as=table$"))
    await no_serious_finding(page)
    await drawer.get_by_role("button", name="Week").click()
    await expect(page).to_have_url(re.compile(r"since=7d"))
    await expect(drawer.get_by_role("status").filter(has_text="known from")).to_be_visible()
    await page.go_back()
    await page.go_back()
    await expect(drawer.get_by_role("slider")).to_be_visible()
    await expect(page).to_have_url(re.compile(r"\?q=serial$"))
    await no_serious_finding(page)
    await fits(page)


# --- all phones -----------------------------------------------------------------------------------


async def test_a_hub_that_was_lost_is_a_column(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history")
    await known(page)
    await expect(page.locator(".lanes tbody")).to_have_count(2)
    await expect(page.get_by_role("rowheader", name="Hub 1-1")).to_be_visible()
    names = page.locator(".lanes .name")
    await expect(names.first).to_have_text(HOSTILE)
    await expect(names.last).to_have_text("Phone 9")
    lost = page.locator("tbody").first.locator("tr:not(.hub) .line")
    begun = await lost.evaluate_all(
        """lines => lines.map((line) => {
          const {x, width} = line.querySelector(".is-offline").getBoundingClientRect();
          return [Math.round(x), Math.round(width)];
        })"""
    )
    assert len(begun) == 7
    assert max(x for x, _ in begun) - min(x for x, _ in begun) <= 1
    assert all(width > 20 for _, width in begun)
    assert await page.locator("tbody").last.locator(".is-offline").count() == 0
    assert await page.locator(".line .is-unseen").count() == PHONES + 1, "all, and the legend"
    await lane(page, "Phone 3").locator(".is-offline").hover()
    tip = page.locator(".tip")
    await expect(tip).to_contain_text(re.compile(r"Offline.*\(1 h 2 s\)"))
    # Its place is another one in a window of another size.
    await page.mouse.move(5, 5)
    await lane(page, "Phone 3").focus()
    await page.keyboard.press("End")
    await expect(tip).to_be_visible()
    await page.set_viewport_size({"width": 700, "height": 900})
    await expect(tip).to_be_hidden()
    await no_serious_finding(page)
    await fits(page)
    assert await page.locator("#main img").count() == 0


async def test_phones_are_chosen(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history")
    await known(page)
    await page.get_by_label("tag").select_option("qa")
    await known(page, 2)
    await expect(page.get_by_role("status").filter(has_text="2 of 9")).to_be_visible()
    await page.get_by_label("tag").select_option("")
    await page.get_by_label("hub").select_option("1-2")
    await known(page, 2)
    await expect(page).to_have_url(re.compile(r"#/history\?hub=1-2$"))
    await page.go_back()
    await page.go_back()
    await known(page, 2)
    await expect(page.get_by_label("tag")).to_have_value("qa")
    await page.go_back()
    await known(page)
    await page.get_by_label("Search").fill("phone 4")
    await known(page, 1)
    await lab.phones[3].unauthorize()
    await page.get_by_label("Search").fill("")
    await page.get_by_label("state").select_option("offline")
    await known(page, 1)
    await expect(lane(page, "Phone 4").locator("rect").last).to_be_visible()
    await page.get_by_label("state").select_option("silenced")
    await expect(page.get_by_text("No device fits.")).to_be_visible()


async def test_what_changes_is_drawn_and_nothing_is_lost(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history?since=7h")
    await known(page)
    line = lane(page, "Phone 9")
    await line.focus()
    await page.keyboard.press("Home")
    assert await states(line) == ["online"]
    await lab.phones[8].unauthorize()
    await expect(line.locator(".is-offline")).to_have_count(1)
    assert await states(line) == ["online", "offline"]
    await expect(line).to_be_focused()
    await expect(line.locator(".chosen.is-online")).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"since=7h$"))
    await page.keyboard.press("ArrowUp")
    await expect(lane(page, "Phone 8")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(rf"#/devices/{SERIALS[8]}$"))


WIDE = "line => line.querySelector('.is-offline').getBoundingClientRect().width"


async def test_time_is_zoomed(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history")
    await known(page)
    line = lane(page, "Phone 3")
    box = await line.locator(".is-offline").bounding_box()
    assert box is not None
    y = box["y"] + 5
    # A range that is drawn: it begins a little before the hub was lost, and ends a little after.
    await page.mouse.move(box["x"] - 20, y)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 30, y)
    await page.mouse.move(box["x"] + box["width"] + 20, y + 200)
    await expect(page.locator(".grid rect")).to_have_count(1)
    await page.mouse.up()
    await expect(page).to_have_url(re.compile(r"since=2.*Z&until=2"))
    await expect(page.locator(".grid rect")).to_have_count(0)
    await expect(line.locator("rect")).to_have_count(3)
    assert await states(line) == ["online", "offline", "online"]
    assert await line.evaluate(WIDE) > 5 * box["width"]
    assert await page.locator(".grid .now").count() == 0
    # Escape gives it up.
    await page.mouse.move(box["x"], y)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 90, y)
    await expect(page.locator(".grid rect")).to_have_count(1)
    await line.focus()
    await page.keyboard.press("Escape")
    await page.mouse.up()
    await expect(page.locator(".grid rect")).to_have_count(0)
    await expect(page).to_have_url(re.compile(r"until="))
    await page.go_back()
    await expect(page).to_have_url(f"{lab.base}#/history")
    await expect(page.locator(".grid .now")).to_have_count(1)
    # The wheel; without ctrl it scrolls.
    await page.mouse.move(box["x"] + 10, y)
    await page.mouse.wheel(0, 50)
    await page.keyboard.down("Control")
    for _ in range(4):
        await page.mouse.wheel(0, -200)
    await page.keyboard.up("Control")
    await expect(page).to_have_url(re.compile(r"until="))
    assert await line.evaluate(WIDE) > 3 * box["width"]
    await page.go_back()
    await expect(page).to_have_url(f"{lab.base}#/history")


async def test_time_is_zoomed_by_keys_and_buttons(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history")
    await known(page)
    await lane(page, "Phone 3").focus()
    await page.keyboard.press("+")
    await expect(page).to_have_url(re.compile(r"since=720m$"))
    await page.keyboard.press("-")
    await expect(page).to_have_url(re.compile(r"since=1440m$"))
    await page.get_by_role("button", name="Earlier").click()
    await expect(page).to_have_url(re.compile(r"until="))
    await page.get_by_role("button", name="Later").click()
    await expect(page.get_by_role("button", name="Later")).to_be_disabled()
    await page.get_by_role("button", name="Month").click()
    await expect(page).to_have_url(re.compile(r"since=30d$"))
    await expect(page.get_by_role("status").filter(has_text="known from")).to_be_visible()


async def test_all_phones_as_tables(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history?as=table")
    phone = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Phone 3"))
    cells = phone.locator("tbody tr")
    await expect(cells).to_have_count(4)
    await expect(cells.nth(1)).to_contain_text(re.compile("Offline.*1 h 2 s"))
    await expect(cells.nth(2)).to_contain_text(re.compile("Not seen.*1 h.*the agent was not"))
    await no_serious_finding(page)
    await fits(page)


async def test_what_began_before_is_said_so(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/history?as=table")
    phone = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Phone 3"))
    await expect(phone.locator("tbody tr").last.locator("td")).to_contain_text(
        ["Online", re.compile("^before "), "", re.compile("^over .* h")]
    )


async def test_a_name_is_cut_at_its_end(make_lab: MakeLab, make_window: MakeWindow) -> None:
    name = "\u0647\u0627\u062a\u0641 " * 20
    config = f'[[devices]]\nudid = "SERIAL0001"\nname = "{name.strip()}"\n'
    lab = await make_lab(phones=1, scripted=True, config=config)
    page = await (await make_window(lab)).tab()
    for view in ("history", "devices"):
        await page.goto(f"{lab.base}#/{view}")
        link = page.locator("main .name")
        await expect(link).to_have_css("direction", "rtl")
        await expect(link).to_have_css("text-align", "left")


async def test_only_those_in_sight_are_asked_for(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(phones=0, scripted=True)
    window = await make_window(lab)
    assert isinstance(lab.server, FakeAdbHost)
    lab.server.set(
        *(Listed(f"PHONE{n:04}", port=f"1-{1 + n // 10}.{1 + n % 10}") for n in range(1000))
    )
    page = await window.tab(f"{lab.base}#/history")
    await expect(page.locator(".place")).to_have_count(1000, timeout=MANY)
    await expect(page.locator(".line[role=slider] rect").first).to_be_attached()

    def asked() -> list[list[str]]:
        urls = [urlsplit(url) for url in window.requests]
        return [parse_qs(url.query)["udid"] for url in urls if url.path == "/v1/history"]

    def all_asked() -> set[str]:
        return {udid for each in asked() for udid in each}

    assert "PHONE0999" not in all_asked()
    assert len(all_asked()) < 250
    assert max(map(len, asked())) <= 40
    order: list[str] = await page.locator(".lanes .name").all_text_contents()
    assert order == [f"PHONE{n:04}" for n in range(1000)]
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    await expect(lane(page, "PHONE0999").locator("rect")).not_to_have_count(0)
    assert "PHONE0500" not in all_asked()
    await expect(page.locator(".axis")).to_be_in_viewport()
    await page.get_by_label("hub").select_option("1-50")
    await known(page, 10)


async def test_what_is_shown_stays_while_the_agent_is_away(
    lab: Lab, window: Window, page: Page
) -> None:
    await page.goto(f"{lab.base}#/history")
    await known(page)
    window.allow(NOT_REACHED)
    await lab.kill()
    await page.get_by_role("button", name="Week").click()
    error = page.locator(".zoom .error")
    await expect(error).to_contain_text(re.compile("does not answer.*What is shown is of"))
    await known(page)
    await lab.start()
    await expect(error).to_be_empty(timeout=30_000)
    await known(page)


async def test_who_may_not_read_is_told(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=1, scripted=True, api='read = "token"\ntoken = "t0ken-of-the-lab"')
    window = await make_window(lab)
    window.allow(refused(401))
    page = await window.tab(f"{lab.base}#/history")
    await expect(page.get_by_text("Sign in to look.")).to_be_visible()
    await page.goto(f"{lab.base}#/report")
    await expect(page.locator("#main .error").first).not_to_be_empty()
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/history")
    await known(page, 1)


async def test_without_phones(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab)).tab(f"{lab.base}#/history")
    await expect(page.get_by_text("No phone is here.")).to_be_visible()
    await no_serious_finding(page)
    await page.goto(f"{lab.base}#/report")
    await expect(page.get_by_text("Nothing is stored of this time.")).to_be_visible()
    await expect(page.locator("#main table")).to_be_hidden()
    await no_serious_finding(page)


async def test_while_a_report_is_asked_for_nothing_is_blamed(lab: Lab, page: Page) -> None:
    gate = asyncio.Event()

    async def wait(route: Route) -> None:
        await gate.wait()
        await route.continue_()

    await page.route("**/v1/report*", wait)
    await page.goto(f"{lab.base}#/report")
    await expect(page.get_by_text("Asking the agent")).to_be_visible()
    await expect(page.locator(".view-report > .card")).to_be_hidden()
    gate.set()
    await expect(page.locator("#main tbody tr")).to_have_count(PHONES)


# --- the report -----------------------------------------------------------------------------------


async def first(page: Page, column: int = 0) -> list[str]:
    """A column's cells."""
    cells: list[str] = await page.locator(
        f"#main tbody tr > :nth-child({column + 1})"
    ).all_inner_texts()
    return cells


async def test_the_report_sorts(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/report?since=1d")
    rows = page.locator("#main tbody tr")
    await expect(rows).to_have_count(PHONES)
    worst = rows.first
    await expect(worst).to_contain_text(HOSTILE)
    await expect(worst.locator("td").first).to_contain_text(
        re.compile(r"9\d\.\d %of 23 h.* seen1 h not seen")
    )
    await expect(worst).to_contain_text(re.compile(r"hub lost 1.?, 1 hnot on USB 1.?, 30 min"))
    await expect(page.locator("#main tfoot")).to_contain_text(re.compile("All9 phones"))
    head = page.get_by_role("columnheader")
    await expect(head.filter(has_text="Available")).to_have_attribute("aria-sort", "ascending")
    await page.get_by_role("button", name="Phone").focus()
    await page.keyboard.press("Enter")
    await expect(head.filter(has_text="Phone")).to_have_attribute("aria-sort", "ascending")
    await expect(rows.first).to_contain_text("<img")
    await expect(page.get_by_role("button", name="Phone")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(rows.first).to_contain_text("Phone 9")
    await expect(page).to_have_url(re.compile("sort=-name"))
    await page.get_by_role("button", name="In use").click()
    await expect(head.filter(has_text="In use")).to_have_attribute("aria-sort", "descending")
    await expect(rows.first).to_contain_text("<img")
    await page.go_back()
    await expect(rows.first).to_contain_text("Phone 9")
    await no_serious_finding(page)
    await fits(page)
    assert await page.locator("#main img").count() == 0


async def test_the_report_by_others(lab: Lab, page: Page) -> None:
    await page.goto(f"{lab.base}#/report")
    await expect(page.locator("#main tbody tr")).to_have_count(PHONES)
    await page.get_by_label("by").select_option("hub")
    rows = page.locator("#main tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text(re.compile("1-1.*7 phones"))
    await page.get_by_label("since").select_option("7d")
    await expect(page).to_have_url(re.compile(r"#/report\?by=hub&since=7d$"))
    await expect(page.get_by_role("status").filter(has_text="(7 d)")).to_be_visible()
    await page.get_by_role("link", name="1-1").click()
    await expect(page).to_have_url(re.compile(r"#/history\?hub=1-1$"))
    await known(page, 7)
    await page.go_back()
    await expect(page.get_by_label("by")).to_have_value("hub")
    await page.get_by_label("by").select_option("tag")
    await expect(rows).to_have_count(3)
    await expect(rows.filter(has_text="(none)")).to_contain_text("7 phones")


async def test_the_report_is_downloaded(lab: Lab, page: Page, tmp_path: Path) -> None:
    await page.goto(f"{lab.base}#/report?since=2d")
    await expect(page.locator("#main tbody tr")).to_have_count(PHONES)
    kept: dict[str, str] = {}
    for kind in ("CSV", "JSON"):
        async with page.expect_download() as coming:
            await page.get_by_role("button", name=kind).click()
        download = await coming.value
        assert re.fullmatch(rf"report-device-[\d-]+\.{kind.lower()}", download.suggested_filename)
        await download.save_as(tmp_path / kind)
        kept[kind] = (tmp_path / kind).read_text("utf-8-sig")
    report: dict[str, Any] = json.loads(kept["JSON"])
    rows = list(csv.DictReader(io.StringIO(kept["CSV"], newline="")))
    assert len(rows) == PHONES + 1
    assert [row["key"] for row in rows] == [*(row["key"] for row in report["rows"]), "total"]
    by_key = {row["key"]: row for row in rows}
    assert by_key[SERIALS[0]]["name"] == HOSTILE
    assert by_key[SERIALS[1]]["name"] == "'=cmd|' /C calc'!A0"
    for row in report["rows"]:
        for key in ("seen_ms", "offline_ms", "offline_count", "availability"):
            assert by_key[row["key"]][key] == str(row[key])
    assert "hub_lost 1 " in by_key[SERIALS[0]]["reasons"]


WHY = "5 of 7 outages of its phones <b>began</b> within 2 s"


async def test_suspects_stand_above(lab: Lab, page: Page) -> None:
    async def answer(route: Route) -> None:
        response = await route.fetch()
        report = await response.json()
        one = {"kind": "hub", "host": "rack-1", "who": "hub 1-1", "evidence": WHY}
        one["advice"] = "change it"
        report["suspects"] = [one]
        await route.fulfill(response=response, json=report)

    await page.route("**/v1/report?*", answer)
    await page.goto(f"{lab.base}#/report")
    blamed = page.locator("#main li")
    await expect(blamed).to_contain_text(f"rack-1, hub 1-1: {WHY}. change it")
    await no_serious_finding(page)


async def test_a_report_that_cannot_be_made_says_why(lab: Lab, window: Window, page: Page) -> None:
    window.allow(refused(400), NOT_REACHED)
    await page.goto(f"{lab.base}#/report?since=yesterday")
    error = page.locator("#main .error").first
    await expect(error).to_contain_text("'since' is 'yesterday'")
    await expect(page.get_by_role("button", name="CSV")).to_be_disabled()
    await page.get_by_label("since").select_option("7d")
    await expect(page.locator("#main tbody tr")).to_have_count(PHONES)
    await expect(error).to_be_empty()
    await lab.kill()
    await page.get_by_label("by").select_option("model")
    await expect(error).to_contain_text(re.compile("does not answer.*What is shown is of"))
    await expect(page.locator("#main tbody tr")).to_have_count(PHONES)

"""The view of ports: whoever stands in front of the rack finds the cable."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from agent.model import DeviceState, Platform
from agent.service.port_tree import Hanging, Plugged, tree
from agent.track.cause import CauseKind
from tests.page.browser import NOT_REACHED, no_serious_finding

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from agent.service.causes import CauseRow
    from tests.page.conftest import MakeLab, MakeWindow

HOSTILE = "<img src=x onerror=alert(1)>\n\u202egnp" + "x" * 500
PCI = "0000:00:14.0"


def at(page: Page, port: str) -> Locator:
    """The place of a port."""
    words = re.compile(rf"^\s*\d+ {re.escape(port)}(?![\d.])")
    return page.locator(".ports li").filter(has_text=words)


class Rack:
    """A tree as udev would tell it, made by the agent's own code."""

    def __init__(self) -> None:
        self.reason = ""
        self._plugged: list[Plugged] = []
        self._phones: list[Hanging] = []
        self.lost: list[CauseRow] = []

    def hub(self, port: str, size: int, speed: float = 480.0) -> None:
        """One that is there."""
        self._plugged.append(
            Plugged(port, PCI, hub=True, port_count=size, speed=speed, maker="Acme", model="Hub")
        )

    def other(self, port: str, *, blocked: str = "") -> None:
        """A full-speed thing that is no phone."""
        self._plugged.append(
            Plugged(port, PCI, hub=False, speed=12.0, maker="Logi", model="Mouse", blocked=blocked)
        )

    def phone(
        self,
        port: str,
        udid: str,
        state: DeviceState = DeviceState.ONLINE,
        *,
        name: str = "",
        speed: float = 480.0,
        here: bool = True,
    ) -> None:
        """One that hangs there, or did."""
        if here and port:
            self._plugged.append(Plugged(port, PCI, hub=False, speed=speed, udid=udid))
        self._phones.append(
            Hanging(
                {
                    "udid": udid,
                    "name": name or f"Name of {udid}",
                    "platform": Platform.ANDROID,
                    "state": state,
                    "flapping": False,
                    "reason": "",
                    "reason_code": "",
                    "cause_id": "",
                    "since": "2026-01-31T12:00:00.000Z",
                },
                since_ms=1769860800000,
                port=port,
                here=here,
            )
        )

    async def show(self, page: Page) -> None:
        """What the page is answered from now on."""
        body = json.dumps(tree("rack", self.reason, self._plugged, self._phones, self.lost))
        await page.route(
            "**/v1/ports", lambda r: r.fulfill(body=body, content_type="application/json")
        )


async def test_phones_hang_at_their_ports_and_change_there(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(scripted=True, phones=9)
    window = await make_window(lab)
    page = await window.tab(f"{lab.base}#/ports")
    await expect(page.get_by_role("heading", name="Hub 1-1")).to_be_visible()
    await expect(page.get_by_role("heading", level=3)).to_have_text(["Bus usb1"])
    await expect(at(page, "1-1.1")).to_contain_text("Phone 1")
    await expect(at(page, "1-2.2")).to_contain_text("Phone 9")
    await expect(page.get_by_role("status").filter(has_text="USB is not watched")).to_be_visible()
    await expect(page.locator("#standing")).to_contain_text("live")
    asked = sum("/v1/ports" in url for url in window.requests)

    await lab.phones[0].unauthorize()
    await expect(at(page, "1-1.1")).to_contain_text("Offline")
    await expect(at(page, "1-1.1")).to_contain_text("accept the USB debugging prompt")
    assert sum("/v1/ports" in url for url in window.requests) == asked, "a state is told already"

    await at(page, "1-1.3").get_by_role("link").focus()
    await lab.phones[1].unplug()
    await expect(at(page, "1-1.2")).to_contain_text("left")
    await expect(at(page, "1-1.2")).to_contain_text("Phone 2")
    await expect(at(page, "1-1.3").get_by_role("link")).to_be_focused()
    await at(page, "1-1.3").get_by_role("link").click()
    await expect(page).to_have_url(f"{lab.base}#/devices/SERIAL0003")


async def test_hubs_stand_beside_each_other_on_a_wall(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(scripted=True, phones=22)
    page = await (await make_window(lab)).tab(f"{lab.base}#/ports")
    hubs = page.locator("li", has=page.locator("> div > h4"))
    await expect(hubs).to_have_count(4)
    for width, abreast in ((1280, 1), (1920, 2), (3840, 3)):
        await page.set_viewport_size({"width": width, "height": 1080})
        boxes = await hubs.evaluate_all(
            "(all) => all.map((each) => [each.getBoundingClientRect().top, each.clientWidth])"
        )
        assert sum(top == boxes[0][0] for top, _ in boxes) == abreast, (width, boxes)
        assert abreast * boxes[0][1] > width * 0.85, "none of it is left empty"
        # All seven ports of one in a row.
        tops = await hubs.first.locator(".ports > li").evaluate_all(
            "(all) => all.map((each) => each.getBoundingClientRect().top)"
        )
        assert len(tops) == 7
        assert len(set(tops)) == 1


async def test_what_took_several_phones_stands_at_its_hub(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(scripted=True, phones=1)
    page = await (await make_window(lab)).tab()
    rack = Rack()
    rack.hub("1-4", 8)
    rack.phone("1-4.1", "A")
    for kind, place, over in (
        (CauseKind.HUB, "1-4", False),
        (CauseKind.CONTROLLER, PCI, True),
    ):
        rack.lost.append(
            {
                "id": "cause-1",
                "kind": kind,
                "place": place,
                "host": "rack",
                "at": "2026-01-31T12:00:00.000Z",
                "devices": ["A", "B", "C"],
                "over": over,
            }
        )
    await rack.show(page)
    await page.goto(f"{lab.base}#/ports")
    hub = page.locator("li > div", has=page.get_by_role("heading", name="Hub 1-4", exact=True))
    await expect(hub.locator(".warn")).to_contain_text("Lost with 3 phones")
    controller = page.locator("li > div", has=page.get_by_role("heading", name="Controller"))
    await expect(controller.locator(".dim")).to_contain_text("Was lost with 3 phones")
    await expect(controller.locator(".warn")).to_have_count(0)


async def test_a_hub_that_is_lost_stands_on_top(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(scripted=True, phones=9)
    page = await (await make_window(lab)).tab(f"{lab.base}#/ports")
    await expect(at(page, "1-2.2")).to_contain_text("Online")
    alarm = page.locator(".lost")
    await expect(alarm).to_have_count(0)
    await lab.phones[7].unauthorize()
    await lab.phones[8].unauthorize()
    await expect(alarm).to_contain_text("Hub 1-2: none of its 2 phones is online")
    await alarm.get_by_role("link", name="Show").click()
    await expect(at(page, "1-2.1").locator(".found")).to_be_in_viewport()
    await lab.phones[8].authorize()
    await expect(alarm).to_have_count(0)


async def test_the_whole_of_a_rack(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab)).tab()
    rack = Rack()
    rack.reason = "udev: udevd is not running"
    rack.hub("usb1", 16)
    rack.hub("1-3", 8)
    rack.hub("1-3.8", 4)
    rack.phone("1-3.1", "FAST")
    rack.phone("1-3.2", "SLOW", speed=12.0)
    rack.phone("1-3.8.4", "DEEP", DeviceState.UTILIZING, name=HOSTILE)
    rack.phone("1-3.4", "LEFT", DeviceState.UNPLUGGED, here=False)
    rack.other("1-9", blocked="USBGuard blocks it")
    rack.hub("usb2", 4, speed=5000.0)
    rack.hub("2-1", 4, speed=5000.0)
    rack.phone("2-1.1", "HALF", speed=480.0)
    rack.phone("2-1.2", "FULL", speed=5000.0)
    for number in range(1, 5):
        rack.phone(f"1-4.{number}", f"GONE{number}", DeviceState.UNPLUGGED, here=False)
    for number in range(12):
        rack.phone("1-3.5", f"OLD{number:02}", DeviceState.UNPLUGGED, here=False)
    rack.phone("", "10.0.0.5:5555")
    await rack.show(page)
    await page.goto(f"{lab.base}#/ports")

    hub = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Hub 1-3.8"))
    await expect(page.get_by_role("heading", name=f"Controller {PCI}")).to_be_visible()
    await expect(hub.last).to_contain_text("Acme Hub · 480 Mb/s · 1 of 4 ports used")
    await expect(page.get_by_text("4 of 8 ports used")).to_have_count(0)
    await expect(page.get_by_text("3 of 8 ports used")).to_be_visible()
    await expect(hub.last.get_by_text("empty")).to_have_count(3)
    await expect(page.get_by_role("heading", name="Hub 1-3.8")).to_have_js_property("tagName", "H5")
    await expect(at(page, "1-3.1")).to_contain_text("480 Mb/s")
    await expect(at(page, "1-3.1")).not_to_contain_text("slow")
    await expect(at(page, "1-3.2")).to_contain_text("12 Mb/s: slow, try another cable")
    await expect(at(page, "2-1.1")).to_contain_text("480 Mb/s: slow")
    await expect(at(page, "2-1.2")).not_to_contain_text("slow")
    await expect(at(page, "1-9")).to_contain_text("Logi Mouse")
    await expect(at(page, "1-9")).not_to_contain_text("slow")
    await expect(at(page, "1-9")).to_contain_text("blocked: USBGuard blocks it")
    await expect(at(page, "1-3.4")).to_contain_text("left")
    await expect(at(page, "1-3.5")).to_contain_text("11 before")
    await expect(page.locator(".lost")).to_contain_text("Hub 1-4: none of its 4 phones")
    await expect(page.get_by_text("udevd is not running")).to_be_visible()
    unplaced = page.get_by_role("listitem").filter(
        has=page.get_by_role("heading", name="At no port of this host")
    )
    await expect(unplaced.get_by_role("link")).to_have_text("Name of 10.0.0.5:5555")
    await expect(at(page, "1-3.8.4")).to_contain_text("<img src=x onerror=alert(1)>")
    assert await page.locator("#main img").count() == 0
    await no_serious_finding(page)
    for width in (360, 1440, 3840):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


async def test_one_is_found(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(phones=0)
    page = await (await make_window(lab)).tab()
    rack = Rack()
    rack.hub("usb1", 4)
    for hub in range(1, 5):
        rack.hub(f"1-{hub}", 10)
        for number in range(1, 11):
            rack.phone(f"1-{hub}.{number}", f"S{hub}X{number}")
    for number in range(3):
        rack.phone("1-4.11", f"OLD{number}", DeviceState.UNPLUGGED, here=False)
    await rack.show(page)
    await page.set_viewport_size({"width": 360, "height": 640})
    await page.goto(f"{lab.base}#/ports?device=S4X1")
    found = page.locator(".found")
    await expect(found).to_have_count(1)
    await expect(found).to_contain_text("Name of S4X1")
    await expect(found).to_be_in_viewport()
    await expect(found).to_be_in_viewport()
    field = page.get_by_label("Find a phone")
    await expect(field).to_have_value("S4X1")
    await field.fill("name of s3x")
    await expect(found).to_have_count(10)
    await expect(page.get_by_role("status").filter(has_text="10 phones")).to_be_visible()
    await expect(found.first).to_be_in_viewport()
    await expect(page).to_have_url(f"{lab.base}#/ports?device=name%20of%20s3x")
    await field.fill("old2")
    await expect(found).to_be_in_viewport()
    await field.fill("nowhere")
    await expect(page.get_by_role("status").filter(has_text="0 phones")).to_be_visible()
    await field.fill("")
    await expect(found).to_have_count(0)


async def test_what_was_known_stays_while_the_agent_is_away(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(scripted=True, phones=3)
    window = await make_window(lab)
    page = await window.tab(f"{lab.base}#/ports")
    await expect(at(page, "1-1.1")).to_contain_text("Online")
    await expect(page.locator("#standing")).to_contain_text("live")
    window.allow(NOT_REACHED)
    await lab.kill()
    await lab.phones[0].unauthorize()
    await expect(page.locator("#standing")).to_contain_text("not reached", timeout=20_000)
    await expect(at(page, "1-1.1")).to_contain_text("Online")
    await lab.start()
    await expect(at(page, "1-1.1")).to_contain_text("Offline")


async def test_a_hub_is_silenced(make_lab: MakeLab, make_window: MakeWindow) -> None:
    lab = await make_lab(scripted=True, phones=3)
    page = await (await make_window(lab)).tab()
    await lab.sign_in(page)
    await page.goto(f"{lab.base}#/ports")
    await page.get_by_role("button", name="Silence Hub 1-1").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("its power supply is changed")
    await dialog.get_by_role("button", name="Silence").click()
    await expect(dialog).to_have_count(0)
    (silence,) = (await lab.ask("GET", "/v1/silences"))["silences"]
    assert (silence["kind"], silence["value"]) == ("hub", "1-1")

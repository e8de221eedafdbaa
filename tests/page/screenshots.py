"""`python -m tests.page.screenshots`: every view, light and dark, of a lab as an operator has it.

All go to build/page; the two that the README shows go to docs/images.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes.receiver import Receiver, answer
from tests.page.browser import SHOTS, Window, one_chromium, shots
from tests.page.kit import opened
from tests.page.past import DAY, HOUR, MINUTE, Move, give

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.page.kit import Lab

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SHOWN = {"devices-light.png": "devices.png", "ports-dark.png": "ports.png"}
"""What the README shows."""
MODELS = ("Galaxy S24", "Pixel 8", "Redmi Note 13", "Galaxy A54", "Pixel 9 Pro", "Galaxy Note 8")
PHONES = 19
WAITING, BROKEN, GONE, LEASED, SILENCED = (4, 11), 8, 13, (2, 6, 14), 17
"""By their places: who waits for its prompt, does not answer, was unplugged, is in use."""
VIEWS = {
    "devices": "#/devices",
    "device": "#/devices/SERIAL0003",
    "ports": "#/ports",
    "history": "#/history",
    "report": "#/report",
    "webhooks": "#/webhooks",
    "webhook-new": "#/webhooks/new",
    "deliveries": "#/deliveries",
    "agent": "#/agent",
}
SEEN = {
    "devices": "#main tbody tr",
    "device": ".drawer dl",
    "ports": "#main .phone",
    "history": ".place rect",
    "report": "#main tbody tr",
    "webhooks": "#main tbody tr, #main li",
    "webhook-new": "#main form",
    "deliveries": "#main tbody tr",
    "agent": "#main details",
}
"""What is there once it shows what it has."""
MANAGED = (
    ("Webhook for All events", "", ["online", "offline", "utilizing", "unplugged"]),
    ("Page on-call", "down", ["offline", "unplugged"]),
    ("Old board", "", ["online"]),
)


def devices() -> str:
    """The phones' names and tags, as an operator writes them."""
    tables = []
    for number in range(1, PHONES + 1):
        tags = [f"rack-{1 + (number - 1) // 7}", *(["qa"] if number % 5 == 0 else [])]
        name = f"{MODELS[number % len(MODELS)]} no {number}"
        tables.append(
            f'[[devices]]\nudid = "SERIAL{number:04}"\nname = "{name}"\ntags = {json.dumps(tags)}\n'
        )
    return "".join(tables)


def past() -> list[Move]:
    """Ten days of it, in which a hub was lost once."""
    chance = random.Random(16)
    moves = []
    for number in range(PHONES):
        udid = f"SERIAL{number + 1:04}"
        left = 10.0 * DAY
        moves.append(Move(left, udid, "online"))
        while (left := left - chance.expovariate(1 / (9 * HOUR))) > HOUR:
            back = left - min(left / 2, chance.expovariate(1 / HOUR))
            kind = chance.randrange(10)
            if kind < 6:
                moves.append(Move(left, udid, "utilizing", "in use by ci-runner-2"))
            elif kind < 9:
                moves.append(Move(left, udid, "offline", "asks for consent", "unauthorized"))
            else:
                moves.append(Move(left, udid, "unplugged", "not on USB", "not_on_usb"))
            moves.append(Move(back, udid, "online"))
            left = back
        if number // 7 == 1:
            moves = [each for each in moves if each.udid != udid or not 4 < each.ago / HOUR < 8]
            moves.append(Move(7 * HOUR, udid, "offline", "hub 1-2 (7 phones)", "hub_lost"))
            moves.append(Move(5 * HOUR + number, udid, "online"))
    return [*moves, *(Move(20 * MINUTE, f"SERIAL{n + 1:04}", "online") for n in range(PHONES))]


async def prepare(lab: Lab, down: Receiver) -> None:
    """Make it look like a morning in the lab."""
    await give(lab, past(), [(16 * HOUR, 14 * HOUR)])
    for phone in lab.phones:
        await lab.until_state(phone, "online")
    lab.receiver.default = answer(204)
    down.default = answer(503, body=b"down for maintenance")
    for name, path, events in MANAGED:
        url = (down if path == "down" else lab.receiver).url()
        body = {"name": name, "url": url, "events": events, "enabled": name != "Old board"}
        await lab.ask("POST", "/v1/webhooks", body)
    for place in WAITING:
        await lab.phones[place].unauthorize()
    await lab.phones[GONE].unplug()
    for place, holder in zip(LEASED, ("alice", "ci-runner-2", "bob"), strict=True):
        lease = {"udid": lab.phones[place].udid, "holder": holder, "ttl": 3600}
        await lab.ask("POST", "/v1/leases", {**lease, "purpose": "pytest tests/checkout"})
    silence = {"device": lab.phones[SILENCED].udid, "seconds": 7200, "reason": "new battery"}
    await lab.ask("POST", "/v1/silences", silence)
    for place in WAITING:
        await lab.until_state(lab.phones[place], "offline")
    await lab.until_state(lab.phones[GONE], "unplugged")


async def take(page: Page, lab: Lab) -> None:
    """Each view."""
    await lab.sign_in(page)
    for name, address in VIEWS.items():
        await page.goto(lab.base + address)
        await page.locator("#standing.is-live").wait_for()
        await page.locator(SEEN[name]).first.wait_for()
        for made in await shots(page, name):
            print(made)


async def main() -> None:
    """All of it."""
    shutil.rmtree(SHOTS, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="da-") as place:
        async with (
            opened(Path(place), phones=PHONES, scripted=True, config=devices()) as lab,
            one_chromium() as chromium,
        ):
            down = await Receiver().start()
            await prepare(lab, down)
            window = Window(await chromium.browser.new_context(), lab.base)
            await take(await window.tab(), lab)
            await window.context.close()
            await down.close()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for made, shown in SHOWN.items():
        shutil.copy(SHOTS / made, IMAGES / shown)


if __name__ == "__main__":
    asyncio.run(main())

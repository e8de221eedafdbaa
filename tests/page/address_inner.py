"""The page at an address of a network without TLS, where browsers send no `Sec-Fetch-*`.

Runs only inside a network namespace of its own; test_address.py brings it there.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.page import attack
from tests.page.attack import TOKEN, Elsewhere
from tests.page.browser import UNTRUSTWORTHY, launched
from tests.page.relay import Relay

if TYPE_CHECKING:
    from tests.page.browser import Chromium
    from tests.page.conftest import MakeLab, MakeWindow

ADDRESS, OTHER = "10.1.2.3", "10.1.2.4"
WEBHOOK = "page"


@pytest.fixture(autouse=True, scope="module")
def addresses() -> None:
    """Two of a network, both this machine's."""
    for words in (
        ("link", "set", "lo", "up"),
        *(("addr", "add", f"{each}/24", "dev", "lo") for each in (ADDRESS, OTHER)),
    ):
        subprocess.run(["ip", *words], check=True, timeout=20)


async def test_it_works_there_and_says_what_that_means(
    make_lab: MakeLab, make_window: MakeWindow
) -> None:
    lab = await make_lab(host=ADDRESS)
    window = await make_window(lab)
    window.allow(UNTRUSTWORTHY)
    page = await window.tab(lab.base)
    await expect(page.locator("#standing")).to_contain_text("live")
    await expect(page.locator("#banner")).to_contain_text("without TLS")
    await lab.sign_in(page)
    await page.locator("#sign").click()
    await expect(page.locator("#sign")).to_have_text("Sign in to change")
    await lab.phones[0].unplug()
    await expect(page.locator("#announce")).to_contain_text("is unplugged")


@pytest.mark.parametrize("way", ["tcp", "socket"])
@pytest.mark.parametrize("host", [ADDRESS, OTHER], ids=["another port", "another host"])
async def test_another_origin_changes_and_reads_nothing(
    make_lab: MakeLab, make_window: MakeWindow, chromium: Chromium, host: str, way: str
) -> None:
    lab = await make_lab(phones=1, api=f'token = "{TOKEN}"', host=ADDRESS)
    hook = {"name": WEBHOOK, "url": lab.receiver.url("/page"), "events": ["online"]}
    await lab.ask("POST", "/v1/webhooks", hook)
    to = lab.listen if way == "tcp" else lab.agent.socket
    async with (
        launched(chromium.playwright) as browser,
        Relay(to, ADDRESS) as relay,
        Elsewhere(host) as elsewhere,
    ):
        window = await make_window(lab, browser)
        window.visits(relay.base, elsewhere.base)
        window.allow(".")  # what fails here says so on the console
        own = await window.tab(relay.base)
        await expect(own.locator("#standing")).to_contain_text("live")
        before = await attack.state(lab)
        evil = await window.tab(elsewhere.base)
        seen = len(relay.asked)
        told = await attack.change(evil, relay.base, WEBHOOK, TOKEN)
        assert {(kind, status) for *_, kind, status in told} <= {("error", 0), ("opaque", 0)}
        told = await attack.read(evil, relay.base)
        assert {(kind, size) for *_, kind, size in told} == {("error", 0)}, told
        await attack.submit(evil, relay.base, WEBHOOK)
        assert await attack.frame(evil, relay.base) == "SecurityError"
        changes = [each for each in relay.asked[seen:] if each.method not in {"GET", "HEAD"}]
        assert len(changes) > 24
        statuses = {"OPTIONS": 403, "POST": 403}
        assert {(each.method, each.status) for each in changes} <= set(statuses.items()), changes
        assert not any("sec-fetch-site" in each.headers for each in relay.asked)
        assert all("origin" in each.headers for each in changes)
        assert await attack.state(lab) == before

        # The same from the agent's own page does change it: `Origin` is `Host` there.
        told = await attack.change(own, relay.base, WEBHOOK, TOKEN)
        assert ["POST", "v1/webhooks", "application/json", "cors", "basic", 201] in told
        assert await attack.state(lab) != before
        await window.close()

"""What docs/notify.md has operators copy, sent about hostile phones, judged as the services judge.

The blocks are read from the page itself, and go the whole way: the loader, the outbox, the store,
the dispatcher, the client, HTTP.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import parse
from agent.deliver.outbox import Outbox
from agent.deliver.policy import Paused, Retry
from agent.deliver.template import shown
from agent.model import CallbackState, DeviceState
from agent.store import DeliveryQuery
from tests.deliver.services.receivers import SERVICES
from tests.docs.pages import ROOT
from tests.fakes.receiver import answer
from tests.kit.deliver import NOW_MS, make_device, make_transition
from tests.kit.house import House
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.config import Config
    from agent.model import Callback, Device

PAGE = (ROOT / "docs" / "notify.md").read_text()
HOSTILE = [
    "Galaxy Note 8",
    "",
    "<!channel> <!here|x> <@U1> @everyone @here <@&1>",
    "[click](http://evil.example) *bold* _it_ `code` ~s~ # h",
    '"}, {"type": "mrkdwn", "text": "x',
    "two\nlines\r\n\u2028and\ttabs\x00\x07",
    "{deviceUdid} {{}} {file:/etc/shadow} %s ${HOME}",
    "\x01file:/etc/device-agent/pagerduty.key\x01",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\N{ZERO WIDTH JOINER}",
    "half \udcff surrogate",
    "\N{MOBILE PHONE}" * 500,
    "&<>\\" * 300,
]
REASON = 'adb says "unauthorized": <!channel> accept the key\non the phone; ' * 12


def block_of(service: str) -> str:
    """What stands to be copied under that heading."""
    (section,) = re.findall(rf"^## {service}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"^```toml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(block)


def hostile(number: int) -> Device:
    return make_device(
        f"udid-{number}",
        name=HOSTILE[number],
        model=HOSTILE[number],
        port="1-4.2",
        tags=("rack 1", 'qa"'),
    )


class Trial:
    """A service's block in force, towards its receiver."""

    def __init__(self, name: str, house: House, directory: Path) -> None:
        self.name = name
        self.house = house
        self.directory = directory
        self.service = SERVICES[name]()
        self.config: Config
        self.outbox: Outbox

    async def start(self, *changes: tuple[str, str]) -> Trial:
        """With these texts of the block replaced."""
        receiver = await self.house.receiver()
        receiver.default = self.service
        text = block_of(self.name)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        text, count = re.subn(r'url = "https://[^/"]+', f'url = "{receiver.url("")}', text)
        assert count == text.count("[[webhooks]]")
        text = text.replace("/etc/device-agent/", f"{self.directory}/")
        for file, secret in self.service.secrets.items():
            (self.directory / file).write_text(secret + "\n")
        self.config = parse(text, str(self.directory / "agent.toml"))
        webhooks = {
            number: webhook.model_copy(update={"id": number})
            for number, webhook in enumerate(self.config.webhooks, start=1)
        }
        self.outbox = Outbox(webhooks, self.config.org_of, "rack-7 " + "h" * 100)
        await self.house.start(*webhooks.values())
        return self

    async def tell(self, device: Device, state: DeviceState, **more: Any) -> list[Callback]:
        """Of a transition."""
        made = self.outbox.make(
            make_transition(state, **{"udid": device.udid, "reason": REASON, **more}), device, None
        )
        assert not made.failed
        return await self.house.commit(*made.callbacks)

    async def delivered(self, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            await self.house.settled(callback, CallbackState.DELIVERED)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    it = House(tmp_path)
    yield it
    await it.close()


def test_each_service_of_the_page_has_its_judge() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == list(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
async def test_whatever_a_phone_is_called_the_service_takes_it(
    name: str, house: House, tmp_path: Path
) -> None:
    trial = await Trial(name, house, tmp_path).start()
    service = trial.service
    for number in range(len(HOSTILE)):
        sent = [
            callback
            for state in DeviceState
            for callback in await trial.tell(hostile(number), state)
        ]
        assert sent
        await trial.delivered(sent)
    assert not service.refused
    events = [event for webhook in trial.config.webhooks for event in webhook.events]
    assert len(service.taken) == len(events) * len(HOSTILE)
    for body in service.taken:
        marked, plain = service.shown(body)
        # Where the service has markup there is nothing that a phone, a host or a source chose.
        assert not set(marked) & set('<@[*_`"{&\\\n')
        assert not set(plain) & {"\r", "\x00", "\N{RIGHT-TO-LEFT OVERRIDE}"}
    named = "".join(service.shown(body)[1] for body in service.taken)
    assert "<!channel> <!here|x> <@U1> @everyone" in named  # as it is, and nobody is called
    assert "{deviceUdid} {{}} {file:/etc/shadow}" in named


@pytest.mark.parametrize("name", SERVICES)
async def test_one_that_is_busy_is_asked_again_when_it_says(
    name: str, house: House, tmp_path: Path
) -> None:
    trial = await Trial(name, house, tmp_path).start()
    trial.service.busy = True
    (first, *_) = sent = await trial.tell(hostile(0), DeviceState.OFFLINE)
    await eventually(lambda: house.clock.armed)
    _, attempt, decision = house.attempts[0]
    assert attempt.error == "HTTP 429 Too Many Requests"
    headers, said, seconds = trial.service.limited
    assert attempt.answer == said.decode()
    assert isinstance(decision, Retry)
    assert decision.due_ms - NOW_MS == round(seconds * 1000)
    assert decision.asked == any(each.startswith("Retry-After") for each in headers)
    assert not trial.service.taken
    house.clock.advance(seconds)
    await trial.delivered(sent)
    assert [attempt.message_id for _, attempt, _ in house.attempts] == [first.message_id] * 2


WRONG = {
    # What somebody may get wrong in the block, and what the service says to it.
    "Slack": (('"plain_text"', '"plain"'), 400, "invalid_blocks"),
    "Microsoft Teams": (("sig=SIGNATURE", "sig=x"), 401, "DirectApiAuthorizationRequired"),
    "PagerDuty": (('"{file:', '"x{file:'), 400, "Length of 'routing_key' is incorrect"),
    "Discord": (("[[webhooks.body.embeds]]", "[[webhooks.body.embed]]"), 400, "empty message"),
    "ntfy": (("priority = 4", "priority = 9"), 400, "invalid request"),
    "Jira": (('key = "LAB"', 'key = ""'), 400, "Specify a valid project ID or key"),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_what_a_service_says_is_shown(name: str, house: House, tmp_path: Path) -> None:
    change, status, words = WRONG[name]
    trial = await Trial(name, house, tmp_path).start(change)
    (callback,) = await trial.tell(hostile(0), DeviceState.OFFLINE)
    await eventually(lambda: house.attempts)
    _, attempt, decision = house.attempts[0]
    assert attempt.status == status
    assert words in attempt.answer
    assert isinstance(decision, Retry)
    await house.settled(callback, CallbackState.PENDING)
    (row,) = await house.store.deliveries.find(DeliveryQuery(message_id=callback.message_id))
    assert words in (await house.store.attempts.of(row.callback.message_id))[0].answer


TOO_LONG = {
    # Without its number that text is too long for the service, and that is what it says.
    "Slack": ("deviceName:60", "invalid_blocks"),
    "PagerDuty": ("deviceName:100", "'summary' is too long"),
    "Discord": ("deviceName:60", "Must be 256 or fewer in length."),
    "Jira": ("deviceName:100", "Summary can't exceed 255 characters."),
}


@pytest.mark.parametrize("name", TOO_LONG)
async def test_the_numbers_of_the_blocks_are_needed(
    name: str, house: House, tmp_path: Path
) -> None:
    old, words = TOO_LONG[name]
    trial = await Trial(name, house, tmp_path).start((old, "deviceName"))
    await trial.tell(replace(hostile(0), name="\N{MOBILE PHONE}" * 500), DeviceState.OFFLINE)
    await eventually(lambda: trial.service.refused)
    assert words in trial.service.refused[0]


async def test_an_archived_slack_channel_pauses_the_webhook(house: House, tmp_path: Path) -> None:
    trial = await Trial("Slack", house, tmp_path).start()
    house.receivers[0].default = answer(410, (), b"channel_is_archived")
    await trial.tell(hostile(0), DeviceState.OFFLINE)
    await eventually(lambda: house.attempts)
    _, attempt, decision = house.attempts[0]
    assert attempt.answer == "channel_is_archived"
    assert isinstance(decision, Paused)


async def test_pagerduty_has_one_alert_of_a_phone_and_closes_it(
    house: House, tmp_path: Path
) -> None:
    trial = await Trial("PagerDuty", house, tmp_path).start()
    service: Any = trial.service
    for state in (DeviceState.OFFLINE, DeviceState.UNPLUGGED):
        await trial.delivered(await trial.tell(hostile(0), state))
    assert service.open == {"udid-0"}
    await trial.delivered(await trial.tell(hostile(1), DeviceState.OFFLINE))
    await trial.delivered(await trial.tell(hostile(0), DeviceState.ONLINE))
    assert service.open == {"udid-1"}
    await trial.delivered(await trial.tell(hostile(1), DeviceState.UTILIZING))
    assert not service.open
    assert service.opened == {"udid-0": 1, "udid-1": 1}
    details = service.taken[0]["payload"]["custom_details"]
    assert details["tags"] == ["rack 1", 'qa"']  # a list, for it stands alone


async def test_pagerdutys_key_is_in_no_store_and_is_read_at_each_use(
    house: House, tmp_path: Path
) -> None:
    trial = await Trial("PagerDuty", house, tmp_path).start()
    service: Any = trial.service
    key = service.secrets["pagerduty.key"]
    (tmp_path / "pagerduty.key").unlink()
    (callback,) = await trial.tell(hostile(0), DeviceState.OFFLINE)
    await eventually(lambda: house.attempts)
    assert "pagerduty.key does not exist" in house.attempts[0][1].error
    assert key.encode() not in callback.body
    body = json.loads(shown(callback.body))
    assert body["routing_key"] == f"{{file:{tmp_path}/pagerduty.key}}"
    (tmp_path / "pagerduty.key").write_text(key)
    house.clock.advance(5)
    await trial.delivered([callback])
    assert service.taken[0]["routing_key"] == key
    assert json.dumps({**body, "routing_key": key}) == json.dumps(service.taken[0])
    assert b"".join(path.read_bytes() for path in tmp_path.glob("*.db*")).count(key.encode()) == 0

"""`deliveries` and `webhooks` as an operator types them, against a running agent."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = (
    ONLY_ADB
    + """\
probe_interval = "0s"
[delivery]
max_age = "1s"
[[webhooks]]
id = 7
name = "status board"
url = "{url}"
events = ["online"]
secret = "{secret}"
"""
)


def config(host: FakeAdbHost, receiver: Receiver) -> str:
    url = receiver.url("/hook?token=hidden")
    return CONFIG.format(adb=host.address, url=url, secret=SECRET)


async def test_a_dead_callback_is_kept_shown_and_replayed(place: Path, receiver: Receiver) -> None:
    receiver.default = answer(503, body=b"out to lunch")
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        host.set(Listed("ce09"), Listed("r58m"))
        await agent.until(
            lambda: sum("callback.dead" in line for line in agent.log) == 2, "both to die"
        )
        await agent.until_delivered()
        code, out, _ = await agent.cli("deliveries", "list", "--dead", "--json")
        assert code == 0
        rows = json.loads(out)["deliveries"]
        assert {(row["udid"], row["state"]) for row in rows} == {
            ("ce09", "dead"),
            ("r58m", "dead"),
        }
        code, out, _ = await agent.cli("deliveries", "list", "--device", "ce09")
        assert code == 0
        assert re.search(r"status board\s+ce09\s+online\s+dead\s+\d+\s+.*HTTP 503", out)
        for wanted, filters in (
            (2, ("--webhook", "status board", "--since", "1h")),
            (2, ("--webhook", "7", "--state", "dead")),
            (1, ("--device", "r58m", "--dead", "--since", "2020-01-31T12:00:00Z")),
            (1, ("--limit", "1")),
            (0, ("--state", "pending")),
            (0, ("--since", "2999-01-31T12:00:00Z")),
        ):
            code, out, _ = await agent.cli("deliveries", "list", "--json", *filters)
            assert (code, len(json.loads(out)["deliveries"])) == (0, wanted), filters
        chosen = next(row["id"] for row in rows if row["udid"] == "ce09")
        code, out, _ = await agent.cli("deliveries", "show", chosen)
        assert code == 0
        assert "out to lunch" in out
        assert '"deviceUdid":"ce09"' in out
        assert re.search(r"#1 .* \d+ ms  HTTP 503", out)
        assert "#2" in out

        sent = next(r for r in receiver.requests if r.headers["webhook-id"] == chosen)
        receiver.requests.clear()
        receiver.default = answer(204)
        code, out, err = await agent.cli("deliveries", "replay", chosen)
        assert (code, out, err) == (0, "1 will be sent again\n", "")
        await receiver.until(lambda: len(receiver.requests) == 1, "the replayed one")
        again = receiver.requests[0]
        assert (again.headers["webhook-id"], again.body) == (chosen, sent.body)
        code, out, _ = await agent.cli("deliveries", "replay", "--since", "1h", "--json")
        assert len(json.loads(out)["replayed"]) == 1, "the other dead one, and not this one"
        await receiver.until(lambda: len(receiver.requests) == 2, "the other one")
        await agent.until_delivered()
        answer_ = (await agent.api("GET", "/v1/deliveries?state=delivered"))[1]["deliveries"]
        assert {row["udid"] for row in answer_} == {"ce09", "r58m"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--webhook", "status bord"), "did you mean 'status board'?"),
        (("list", "--since", "yesterday"), "an age like 2h"),
        (("list", "--limit", "0"), "'limit' is 1 to 1000"),
        (("list", "--device", "nobody"), "no device 'nobody'"),
        (("show", "msg_none"), "no callback 'msg_none' is stored"),
    ],
)
async def test_what_makes_no_sense_is_said(
    place: Path, receiver: Receiver, arguments: tuple[str, ...], message: str
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        code, out, err = await agent.cli("deliveries", *arguments)
        assert (code, out) == (1, "")
        assert message in err
        assert "Traceback" not in err


async def test_a_webhook_that_is_gone_is_paused_for_all_to_see_until_it_is_edited(
    place: Path, receiver: Receiver
) -> None:
    receiver.default = answer(410, body=b"moved out")
    async with FakeAdbHost() as host, AgentProcess(place, "") as agent:
        text = config(host, receiver).replace('max_age = "1s"', 'max_age = "72h"')
        agent.write(text)
        await agent.start()
        host.set(Listed("ce09"))
        await agent.until(lambda: any("webhook.paused" in line for line in agent.log), "the pause")
        code, out, _ = await agent.cli("webhooks", "list")
        assert code == 0
        assert re.search(r"status board.*paused: HTTP 410 Gone", out)
        (row,) = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert row["paused"] is True
        await agent.until_metric(
            r'(?m)^device_agent_webhook_state\{[^}]*state="paused"[^}]*\} 1\.0$'
        )
        host.set(Listed("ce09"), Listed("r58m"))
        await agent.until_device("r58m", "state", "online")
        assert len(receiver.requests) == 1, "nothing more is sent there"

        receiver.default = answer(204)
        agent.write(text.replace("/hook?", "/new?"))
        assert (await agent.cli("reload"))[0] == 0
        await receiver.until(lambda: len(receiver.requests) == 3, "both, at the new URL")
        assert [r.target.partition("?")[0] for r in receiver.requests[1:]] == ["/new", "/new"]
        await agent.until_delivered()
        (row,) = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert (row["status"], row["paused"]) == ("good", False)


async def test_a_webhook_is_tested_through_its_own_settings(
    place: Path, receiver: Receiver
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        code, out, err = await agent.cli("webhooks", "test", "status board")
        assert (code, err) == (0, ""), err
        assert "answered 200" in out
        assert "hidden" not in out, "the URL's query may be a secret"
        (request,) = receiver.requests
        assert request.target == "/hook?token=hidden"
        event = Webhook(SECRET).verify(request.body, request.headers)
        assert event["deviceUdid"] == "device-agent-test"
        assert event["webhookId"] == 7

        receiver.default = answer(418, body=b"short and stout")
        code, out, _ = await agent.cli("webhooks", "test", "7")
        assert code == 1
        assert "HTTP 418" in out
        assert "short and stout" in out
        code, _, err = await agent.cli("webhooks", "test", "nobody")
        assert code == 1
        assert "did you mean 'status board'" in err or "'status board'" in err
        assert (await agent.api("GET", "/v1/deliveries"))[1]["deliveries"] == []

        code, out, _ = await agent.cli("webhooks", "list")
        assert code == 0
        assert re.search(r"7\s+status board\s+yes\s+online\s+http://\S+/hook\s+good", out)
        code, out, _ = await agent.cli("webhooks", "show", "7")
        assert json.loads(out)["status"] == "good"

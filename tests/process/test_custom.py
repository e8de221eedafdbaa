"""Bodies of operators' own: by command, by the API, previewed; the same in every retry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import tomli

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import answer
from tests.kit.agent import AgentProcess
from tests.process.test_webhooks import config, managed, webhook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.receiver import Receiver

BODY: dict[str, Any] = {
    "z": "{deviceUdid} is {eventDescription}, {{as of}} {webhookName:4}",
    "key": "{file:hook.key}",
    "payload": {"summary": "{deviceName}" * 12, "tags": "{tags}", "org": "{orgId}"},
    "a": [{"text": "x" * 90}, 1, 2.5, True],
}


def hooked(receiver: Receiver) -> list[Any]:
    return [json.loads(each.body) for each in receiver.requests if each.target == "/chat"]


async def test_it_is_written_readably_sent_and_the_same_in_every_retry(
    place: Path, receiver: Receiver
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        (agent.directory / "hook.key").write_text("s3cret-k\n")
        file = agent.directory / "body.json"
        file.write_text(json.dumps(BODY))
        await agent.start()
        before = agent.path.read_text()
        made = await webhook(
            agent, "create", "--name", "chat room", "--url", receiver.url("/chat"),
            "--events", "offline,online,unplugged", "--payload", "custom", "--body-file", str(file),
        )  # fmt: skip
        written = agent.path.read_text()
        assert written.startswith(before)
        assert 'payload = "custom"\n\n[webhooks.body]\nz = "{deviceUdid} is ' in written
        assert max(map(len, written.splitlines())) < 200
        assert json.dumps(tomli.loads(written)["webhooks"][1]["body"]) == json.dumps(BODY)
        shown = await webhook(agent, "show", "chat room")
        assert json.dumps(shown["body"]) == json.dumps(BODY)
        tried = await webhook(agent, "test", "chat room")
        assert tried["ok"]
        assert hooked(receiver)[0]["z"] == "device-agent-test is Offline, {as of} cha…"
        assert hooked(receiver)[0]["key"] == "s3cret-k"
        assert json.loads(tried["body"])["key"] == f"{{file:{agent.directory}/hook.key}}"

        receiver.default = answer(503)
        host.set(Listed("ce09"))
        await receiver.until(lambda: len(hooked(receiver)) == 2, "a refused one")
        first = receiver.requests[-1].body
        file.write_text('["other {deviceUdid}", "{file:hook.key}"]')
        await webhook(agent, "edit", "chat room", "--body-file", str(file))
        await agent.kill()
        receiver.default = answer(204)
        await agent.start()
        await agent.until_delivered()
        sent = [each.body for each in receiver.requests if each.target == "/chat"]
        assert set(sent[1:]) == {first}, "the body that it was made with"
        assert json.loads(first)["z"].startswith("ce09 is Online")
        host.remove("ce09")
        await receiver.until(
            lambda: hooked(receiver)[-1] == ["other ce09", "s3cret-k"], "a new one"
        )
        await agent.until_delivered()

        _, listed = await agent.api("GET", f"/v1/deliveries?webhook={made['id']}")
        details = [
            (await agent.api("GET", f"/v1/deliveries/{each['id']}"))[1]["delivery"]
            for each in listed["deliveries"]
        ]
        assert [json.loads(each["body"]) for each in details] == [
            ["other ce09", f"{{file:{agent.directory}/hook.key}}"],
            json.loads(first) | {"key": f"{{file:{agent.directory}/hook.key}}"},
        ]
        plain = await webhook(agent, "edit", "chat room", "--payload", "extended")
        assert (plain["payload"], "body" in tomli.loads(agent.path.read_text())["webhooks"][1]) == (
            "extended",
            False,
        )
        assert "s3cret-k" not in json.dumps(details) + (await agent.metrics()) + "".join(agent.log)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": }', "body.json:1:7: is no JSON: Expecting value"),
        ('{"a": "{deviceNam}"}', "body: a: unknown placeholder {deviceNam} (did you mean"),
        ('{"a": [null]}', "body: a[0]: TOML has no null: leave it out"),
        ("[" * 100_000, "is no usable JSON: nested too deeply"),
        ("[" * 40 + "]" * 40, "body: nested too deeply: at most 32"),
        ("[" * 900 + "]" * 900, "body: nested too deeply: at most 32"),
        ('{"a": "\\ud800"}', "holds half a character"),
        ('{"\\udc80": 1}', "holds half a character"),
        (None, "No such file"),
    ],
)
async def test_a_bad_file_changes_nothing(place: Path, text: str | None, words: str) -> None:
    agent = AgentProcess(place, "")
    before = agent.path.read_text()
    file = agent.directory / "body.json"
    if text is not None:
        file.write_text(text)
    code, _, err = await agent.cli(
        "webhooks", "create", "--name", "x", "--url", "http://h/", "--events", "all",
        "--payload", "custom", "--body-file", str(file),
    )  # fmt: skip
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert agent.path.read_text() == before


async def test_over_the_api_and_previewed(place: Path, receiver: Receiver) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        new = {
            "name": "d",
            "url": receiver.url("/chat"),
            "events": ["offline"],
            "payload": "custom",
        }
        status, row = await agent.api("POST", "/v1/webhooks", {**new, "body": BODY})
        assert status == 201
        kept = managed(agent).read_text()
        assert json.dumps(tomli.loads(kept)["webhooks"][0]["body"]) == json.dumps(BODY)
        for wrong, messages in (
            ({**new, "name": "e"}, ['webhook \'e\' body: this key is missing: payload = "custom"']),
            ({**new, "name": "e", "body": {"a": ["{x}"], "b": "}"}}, [
                "webhook 'e' body: a[0]: unknown placeholder {x}",
                "webhook 'e' body: b: a single }",
            ]),
            ({**new, "name": "e", "body": {"a": [None]}}, ["body: a[0]: TOML has no null"]),
            ({**new, "name": "e", "body": 1, "payload": "extended"}, ["webhook 'e' body: payl"]),
        ):  # fmt: skip
            status, answered = await agent.api("POST", "/v1/webhooks", wrong)
            problems = answered["error"]["problems"]
            assert status == 422
            assert {each["key"] for each in problems} == {"body"}
            for each, message in zip(problems, messages, strict=True):
                assert each["message"].startswith(message)
        assert managed(agent).read_text() == kept
        status, _ = await agent.api("PATCH", f"/v1/webhooks/{row['id']}", {"body": ["{tags}", 1]})
        assert status == 200
        assert (await agent.api("GET", "/v1/webhooks/d"))[1]["body"] == ["{tags}", 1]
        assert (await agent.api("GET", "/v1/webhooks/board"))[1]["body"] is None
        status, answered = await agent.api("PATCH", "/v1/webhooks/d", {"payload": None})
        assert (status, answered["error"]["problems"][0]["key"]) == (422, "body")
        both = {"payload": None, "body": None}
        assert (await agent.api("PATCH", "/v1/webhooks/d", both))[0] == 200

        # A preview is sent nowhere, kept nowhere, and is for whoever may read.
        sent = len(receiver.requests)
        draft = {"payload": "custom", "body": BODY, "name": "new", "events": ["unplugged"], "id": 5}
        status, answered = await agent.api("POST", "/v1/preview", draft)
        assert status == 200
        assert answered["headers"] == {"Content-Type": "application/json"}
        body = json.loads(answered["body"])
        assert body["z"] == "device-agent-test is Unplugged, {as of} new"
        assert (body["key"], body["payload"]["org"]) == ("{file:hook.key}", 1)
        status, answered = await agent.api("POST", "/v1/preview", {"payload": "cloudevents"})
        assert (status, answered["headers"]["ce-type"]) == (200, "device.status.online")
        assert json.loads(answered["body"])["webhookName"] == "Webhook"
        refused: list[tuple[dict[str, Any], str]] = [
            ({"payload": "custom", "body": "{x}"}, "body"),
            ({"payload": "custom"}, "body"),
            ({"payload": "costum"}, "payload"),
            ({"name": "n" * 51}, "name"),
            ({"nmae": "n"}, ""),
        ]
        for draft, key in refused:
            status, answered = await agent.api("POST", "/v1/preview", draft)
            assert (status, [each["key"] for each in answered["error"]["problems"]]) == (422, [key])
        assert len(receiver.requests) == sent

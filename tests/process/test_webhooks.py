"""`webhooks create|edit|delete|enable|disable` and the API's: the file, and at once in force."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.faults.private_disk import user_namespaces_work
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = """# The lab's agent.
[usb]
enabled = false
[ios]
enabled = false
[hold]
unplugged = "0s"
[android]
adb_server = "{adb}"
start_server = false
probe_interval = "0s"

# The board in the hall.
[[webhooks]]
id = 7
name = "board"  # as on the door
url = "{url}"
events = ["online"]
"""


def config(host: FakeAdbHost, receiver: Receiver) -> str:
    return CONFIG.format(adb=host.address, url=receiver.url("/board"))


async def webhook(agent: AgentProcess, *arguments: str) -> dict[str, Any]:
    """What `webhooks ARGUMENTS --json` prints."""
    code, out, err = await agent.cli("webhooks", *arguments, "--json")
    assert code == 0, err
    row: dict[str, Any] = json.loads(out)
    return row


def managed(agent: AgentProcess) -> Path:
    """The agent's own file."""
    return agent.directory / "state" / "webhooks.toml"


def activities(receiver: Receiver, target: str) -> list[tuple[str, str]]:
    bodies = [json.loads(r.body) for r in receiver.requests if r.target == target]
    return [(body["deviceUdid"], body["eventDescription"]) for body in bodies]


async def test_a_webhook_s_life_while_the_agent_runs(place: Path, receiver: Receiver) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        before = agent.path.read_text()
        url = receiver.url("/new")
        made = await webhook(
            agent, "create", "--name", "new one", "--url", url, "--event", "Online",
            "--events", "unplugged,online", "--description", "a test",
        )  # fmt: skip
        assert made | {"status": "good"} == made
        assert (made["name"], made["url"], made["events"]) == (
            "new one",
            url,
            ["online", "unplugged"],
        )
        assert agent.path.read_text() == before + (
            f'\n[[webhooks]]\nname = "new one"\nurl = "{url}"\ndescription = "a test"\n'
            'events = ["online", "unplugged"]\n'
        )
        host.set(Listed("ce09"))
        await receiver.until(lambda: activities(receiver, "/new") != [], "its first callback")

        # What waits for it goes where it is sent to from now on, under whatever name.
        receiver.default = answer(503)
        host.remove("ce09")
        await receiver.until(lambda: len(activities(receiver, "/new")) == 2, "a refused one")
        edited = await webhook(
            agent, "edit", "new one", "--name", "newest", "--url", receiver.url("/newer")
        )
        assert (edited["id"], edited["name"]) == (made["id"], "newest")
        receiver.default = answer(204)
        await receiver.until(lambda: activities(receiver, "/newer") != [], "what waited")
        assert activities(receiver, "/newer")[0] == ("ce09", "Unplugged")
        assert f"id = {made['id']}\n" in agent.path.read_text()

        off = await webhook(agent, "disable", str(made["id"]))
        assert (off["enabled"], off["status"]) == (False, "disabled")
        host.set(Listed("r58m"))
        await receiver.until(lambda: ("r58m", "Online") in activities(receiver, "/board"), "board")
        assert (await webhook(agent, "enable", "newest"))["enabled"] is True
        assert set(activities(receiver, "/newer")) == {("ce09", "Unplugged")}

        gone = await webhook(agent, "delete", "newest", "--yes")
        assert gone == {"id": made["id"], "name": "newest"}
        assert agent.path.read_text() == before
        again = await webhook(agent, "create", "--name", "third", "--url", url, "--events", "all")
        assert again["id"] not in {7, made["id"]}
        code, out, err = await agent.cli(
            "webhooks", "create", "--name", "x", "--url", url, "--events", "all", "--id",
            str(made["id"]),
        )  # fmt: skip
        assert (code, out) == (1, "")
        assert "ids are never used twice" in err
        status = (await agent.api("GET", "/v1/status"))[1]
        assert status["reload"]["ok"], "the file says again what is in force"
        code, out, _ = await agent.cli("webhooks", "list")
        assert re.search(rf"{again['id']}\s+third\s+yes\s+online,offline,", out)
        assert "new" not in out.replace("/new", "")


async def test_a_webhook_s_life_without_an_agent(place: Path) -> None:
    agent = AgentProcess(place, '[[webhooks]]\nname = "board"\nurl = "http://b.example/"\n'
                                'events = ["online"]\nenabled = false # for now\n')  # fmt: skip
    before = agent.path.read_text()
    code, out, err = await agent.cli(
        "webhooks", "create", "--name", "X", "--url", "http://x.example/?token=hidden",
        "--events", "online", "--tag", "rack-1", "--platform", "ios", "--secret-file", "x.secret",
        "--set", "timeout=5s", "--set", "tls={verify=false}", "--json",
    )  # fmt: skip
    assert code == 0
    assert "not in force yet: no agent runs" in err
    row = json.loads(out)
    assert (row["id"], row["name"], row["tags"], row["platforms"]) == (
        None, "X", ["rack-1"], ["ios"],
    )  # fmt: skip
    assert "hidden" not in out + err
    assert agent.path.read_text() == before + (
        '\n[[webhooks]]\nname = "X"\nurl = "http://x.example/?token=hidden"\n'
        'events = ["online"]\nsecret = {file = "x.secret"}\ntls = {verify = false}\n'
        'timeout = "5s"\ntags = ["rack-1"]\nplatforms = ["ios"]\n'
    )
    assert (await webhook(agent, "edit", "X", "--url", "http://y.example/", "--unset", "tls"))[
        "url"
    ] == "http://y.example/"
    assert (await webhook(agent, "enable", "board"))["enabled"] is True
    assert "enabled = true # for now" in agent.path.read_text()
    assert (await webhook(agent, "disable", "X"))["status"] == "disabled"
    listed = json.loads((await agent.cli("webhooks", "list", "--json"))[1])["webhooks"]
    assert [(row["name"], row["enabled"]) for row in listed] == [("board", True), ("X", False)]
    shown = await webhook(agent, "show", "X")
    assert (shown["url"], shown["timeout"], shown["secrets"]) == ("http://y.example/", 5.0, 1)
    code, _, err = await agent.cli("webhooks", "edit", "X", "--name", "Y")
    assert (code, "has no id in the file" in err) == (1, True)
    assert (await webhook(agent, "edit", "X", "--name", "Y", "--set", "id=9"))["id"] == 9
    await webhook(agent, "delete", "Y", "-y")
    assert agent.path.read_text() == before.replace("false # for", "true # for")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create",), 2, "a webhook needs --name, --url, --events"),
        (("create", "--name", "x", "--url", "http://x/"), 2, "needs --events"),
        (("create", "--name", "board", "--url", "http://x/", "--events", "all"), 2, "nothing was"),
        (("create", "--name", "n" * 51, "--url", "u", "--events", "on"), 2, "at most 50"),
        (("edit", "board"), 2, "what is to change"),
        (("edit", "bord", "--url", "http://x/"), 1, "did you mean 'board'?"),
        (("edit", "board", "--set", f"secret_{SECRET}"), 2, "KEY=VALUE"),
        (("edit", "board", "--set", f"{SECRET}=1"), 2, "no such key"),
        (("edit", "board", "--set", f"secret='{SECRET}"), 2, "not TOML"),
        (("edit", "board", "--set", f"secret=[{{fil='{SECRET}'}}]"), 2, "did you mean 'file'?"),
        (("edit", "board", "--secret", f"whsec_{SECRET}"), 2, "no base64"),
        (("edit", "board", "--set", "time_out=5s"), 2, "did you mean 'timeout'?"),
        (("edit", "board", "--secret-file", "a", "--secret-env", "b"), 2, "give one of"),
        (("edit", "board", "--unset", "url"), 2, "this key is missing"),
        (("delete", "board"), 2, "say --yes"),
        (("show", "bord"), 1, "did you mean 'board'?"),
    ],
)
async def test_what_makes_no_sense_is_said_and_no_secret_is(
    place: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    agent = AgentProcess(place, '[[webhooks]]\nname = "board"\nurl = "http://b.example/"\n'
                                'events = ["online"]\n')  # fmt: skip
    before = agent.path.read_text()
    found, out, err = await agent.cli("webhooks", *arguments)
    assert (found, out) == (code, ""), err
    assert words in " ".join(err.split())
    assert SECRET[6:] not in err
    assert "Traceback" not in err
    assert agent.path.read_text() == before


async def test_two_commands_at_once_and_an_api_between(place: Path, receiver: Receiver) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        more = ("--url", "http://x.example/", "--events", "online", "--json")
        body = {"name": "c", "url": "http://x.example/", "events": ["online"]}
        a, b, (status, c) = await asyncio.gather(
            agent.cli("webhooks", "create", "--name", "a", *more),
            agent.cli("webhooks", "create", "--name", "b", *more),
            agent.api("POST", "/v1/webhooks", body),
        )
        assert (a[0], b[0], status) == (0, 0, 201), (a, b, c)
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert {row["name"] for row in rows} == {"board", "a", "b", "c"}
        assert len({row["id"] for row in rows}) == 4


async def test_the_api_s_webhooks(place: Path, receiver: Receiver) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        before = agent.path.read_text()
        body = {"name": "a/b c", "url": receiver.url("/x"), "events": ["offline"]}
        status, row = await agent.api("POST", "/v1/webhooks", body)
        assert status == 201
        assert (row["name"], row["events"], row["status"]) == ("a/b c", ["offline"], "good")
        shown = (await agent.api("GET", "/v1/webhooks/a%2Fb%20c"))[1]
        assert shown.items() >= row.items()
        assert shown["pending"] == 0, "one webhook's says what a delete would cancel, too"
        assert (shown["last_attempt"], shown["next_try"]) == (None, None)
        status, edited = await agent.api(
            "PATCH", f"/v1/webhooks/{row['id']}", {"name": "d", "description": "x"}
        )
        assert (status, edited) == (200, {**row, "name": "d", "description": "x"})
        status, edited = await agent.api("PATCH", "/v1/webhooks/d", {"description": None, "id": 99})
        assert (status, edited["id"], edited["description"]) == (200, 99, "")
        assert await agent.api("DELETE", "/v1/webhooks/d") == (200, {"id": 99, "name": "d"})
        kept = managed(agent).read_text()
        assert "[[webhooks]]" not in kept.replace("Only [[webhooks]]", "")
        assert (await agent.api("POST", "/v1/webhooks", {**body, "name": "kept"}))[0] == 201
        kept = managed(agent).read_text()

        for method, path, wrong, expected in (
            ("POST", "", {}, (400, "bad_edit")),
            ("POST", "", {"name": "x"}, (422, "bad_config")),
            ("POST", "", {**body, "name": "board"}, (422, "bad_config")),
            ("POST", "", {**body, "headers": {"X": None}}, (400, "bad_edit")),
            ("POST", "", {**body, "description": "\ud800"}, (400, "bad_edit")),
            ("POST", "", {**body, "id": 99}, (409, "id_taken")),
            ("POST", "", [], (400, "bad_request")),
            ("GET", "/bord", None, (404, "unknown_webhook")),
            ("PATCH", "/bord", {}, (404, "unknown_webhook")),
            ("PATCH", "/kept", {"evnets": []}, (422, "bad_config")),
            ("PATCH", "/kept", {"name": None}, (422, "bad_config")),
            ("PATCH", "/kept", {"name": "board"}, (422, "bad_config")),
            ("PATCH", "/board", {"enabled": False}, (409, "provisioned")),
            ("DELETE", "/7", None, (409, "provisioned")),
            ("DELETE", "/bord", None, (404, "unknown_webhook")),
        ):
            status, answered = await agent.api(method, f"/v1/webhooks{path}", wrong)
            assert (status, answered["error"]["code"]) == expected, answered
        _, answered = await agent.api("POST", "/v1/webhooks", {"name": "x", "url": "ftp://x"})
        assert [problem["message"] for problem in answered["error"]["problems"]] == [
            "webhook 'x': events: this key is missing",
            'webhook \'x\' url: must be absolute and start with "http://" or "https://"',
        ] or len(answered["error"]["problems"]) == 2
        assert {problem["key"] for problem in answered["error"]["problems"]} == {"events", "url"}
        wrong = {**body, "name": "board", "evnets": [], "tls": {"key": "k"}, "timeout": "9"}
        wrong |= {"auth": {"type": "basic", "username": "u"}, "headers": {"X-A": "a", "x-a": "b"}}
        _, answered = await agent.api("POST", "/v1/webhooks", wrong)
        assert {problem["key"] for problem in answered["error"]["problems"]} == {
            "name", "", "tls.key", "timeout", "auth.password", "headers",
        }  # fmt: skip
        _, answered = await agent.api("DELETE", "/v1/webhooks/board")
        assert f"stands in {agent.path}:20, which the API never" in answered["error"]["message"]
        assert agent.path.read_text() == before
        assert managed(agent).read_text() == kept
        assert (await agent.api("GET", "/v1/status"))[1]["reload"]["ok"]
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [(row["name"], row["managed"], row["file"], row["line"]) for row in rows] == [
            ("board", False, str(agent.path), 20),
            ("kept", True, str(managed(agent)), 4),
        ]


@pytest.mark.netns
@pytest.mark.skipif(not user_namespaces_work(), reason="no private mount namespaces here")
async def test_an_agent_that_may_write_nothing_but_its_state_makes_webhooks(
    place: Path, receiver: Receiver
) -> None:
    """As in its sandbox: the file system is read-only to it."""
    state = place / "state"
    state.mkdir()
    bind = (
        f"mount --bind {place} {place} && mount --bind {state} {state} && "
        f'mount -o remount,bind,ro {place} && exec "$@"'
    )
    wrapper = ("unshare", "-m", "sh", "-c", bind, "sh")
    if os.geteuid() != 0:
        wrapper = ("unshare", "-rm", "sh", "-c", bind, "sh")
    async with FakeAdbHost() as host:
        agent = AgentProcess(place, config(host, receiver), wrapper)
        text = agent.path.read_text().replace(f'"{agent.socket}"', f'"{state}/s"')
        agent.path.write_text(text)
        async with agent:
            await agent.start(ready=False)
            await agent.until(lambda: any("agent.ready" in line for line in agent.log), "ready")
            agent.directory = state  # where its socket is
            status, answered = await agent.api("PATCH", "/v1/webhooks/board", {"enabled": False})
            assert (status, answered["error"]["code"]) == (409, "provisioned")
            assert "'device-agent webhooks' on the agent's host" in answered["error"]["message"]
            row = await webhook(agent, "disable", "board")
            assert row["status"] == "disabled", "which is not in the sandbox"
            body = {"name": "new", "url": receiver.url("/new"), "events": ["online"]}
            assert (await agent.api("POST", "/v1/webhooks", body))[0] == 201
            assert agent.path.read_text() == text.rstrip("\n") + "\nenabled = false\n"
            assert 'name = "new"' in (state / "webhooks.toml").read_text()


@pytest.mark.netns
@pytest.mark.skipif(not user_namespaces_work(), reason="no private mount namespaces here")
async def test_a_file_that_is_mounted_by_itself_is_changed_in_place(
    place: Path, receiver: Receiver
) -> None:
    """As containers do it: nothing can be renamed over it."""
    path = place / "state" / "webhooks.toml"
    path.parent.mkdir()
    path.touch()
    bind = f'mount --bind {path} {path} && exec "$@"'
    unshare = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
    async with FakeAdbHost() as host:
        agent = AgentProcess(place, config(host, receiver), (*unshare, "sh", "-c", bind, "sh"))
        async with agent:
            await agent.start(ready=False)
            await agent.until(lambda: any("agent.ready" in line for line in agent.log), "ready")
            body = {"name": "new", "url": receiver.url("/new"), "events": ["online"]}
            assert (await agent.api("POST", "/v1/webhooks", body))[0] == 201
            assert 'name = "new"' in path.read_text()
            assert (await agent.api("PATCH", "/v1/webhooks/new", {"enabled": False}))[0] == 200
            assert (await agent.api("DELETE", "/v1/webhooks/new"))[0] == 200
            assert 'name = "new"' not in path.read_text()
            assert not [each for each in path.parent.iterdir() if each.name.startswith(".")]


async def talk(arguments: Sequence[str | Path], says: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Run on a terminal, answering each question; the exit code and all that was shown."""
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        DEVICE_AGENT, *arguments, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    loop = asyncio.get_running_loop()
    shown = ""

    async def until(words: str) -> None:
        nonlocal shown
        start = len(shown)
        while words not in shown[start:]:
            try:
                shown += (await loop.run_in_executor(None, os.read, master, 4096)).decode()
            except OSError:  # EIO: it ended
                return

    async with asyncio.timeout(2 * LIMIT):
        for question, reply in says:
            await until(question)
            os.write(master, f"{reply}\n".encode())
        await until("\0")
        code = await process.wait()
    os.close(master)
    return code, shown


async def test_on_a_terminal_it_asks(place: Path) -> None:
    agent = AgentProcess(place, '[[webhooks]]\nname = "board"\nurl = "http://b.example/"\n'
                                'events = ["online"]\n')  # fmt: skip
    config_ = ("--config", agent.path)
    code, shown = await talk(
        ("webhooks", "create", *config_),
        [
            ("Name", "board"),
            ("another webhook has this name", "hall"),
            ("URL", "hall.example"),
            ('start with "http://"', "http://hall.example/"),
            ("Description", ""),
            *[(f"Call back when {state}?", "n") for state in ("online", "offline")],
            *[(f"Call back when {state}?", "n") for state in ("utilizing", "unplugged")],
            ("At least one", ""),
            *[(f"Call back when {state}?", "n") for state in ("offline", "utilizing")],
            ("Call back when unplugged?", ""),
            ("Enabled?", ""),
        ],
    )
    assert code == 0, shown
    assert "webhook 'hall' created" in shown
    text = agent.path.read_text()
    assert text.endswith(
        '\n[[webhooks]]\nname = "hall"\nurl = "http://hall.example/"\n'
        'events = ["online", "unplugged"]\n'
    )
    code, shown = await talk(
        ("webhooks", "edit", "hall", *config_),
        [
            ("Name", ""),
            ("URL", "http://new.example/"),
            ("Description", "in the hall"),
            *[(f"Call back when {state}?", "") for state in ("online", "offline")],
            *[(f"Call back when {state}?", "") for state in ("utilizing", "unplugged")],
            ("Enabled?", "n"),
        ],
    )
    assert code == 0, shown
    assert agent.path.read_text() == text.replace("http://hall", "http://new") + (
        'description = "in the hall"\nenabled = false\n'
    )
    code, shown = await talk(
        ("webhooks", "create", "--url", "http://c.example/", "--events", "all", *config_),
        [("Name", "c")],
    )
    assert (code, "URL" in shown) == (0, False), "only what is missing"
    code, shown = await talk(("webhooks", "delete", "hall", *config_), [("Delete", "n")])
    assert code == 1
    assert 'name = "hall"' in agent.path.read_text()
    code, shown = await talk(("webhooks", "delete", "hall", *config_), [("Delete", "y")])
    assert code == 0
    assert "hall" not in agent.path.read_text()

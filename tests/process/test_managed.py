"""Webhooks that the agent keeps itself: beside the operator's, in a file of their own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.faults.private_disk import user_namespaces_work
from tests.kit.agent import AgentProcess, ended
from tests.kit.configs import only_adb
from tests.kit.seed import seed
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT
from tests.process.test_webhooks import activities, config, managed, webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

URL = "http://127.0.0.1:9/"


def bare() -> str:
    """One webhook, and one source, which sees nothing: there must be one."""
    board = f'[[webhooks]]\nname = "board"\nurl = "{URL}"\nevents = ["online"]\n'
    return only_adb("127.0.0.1:9") + board


def new(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "url": URL, "events": ["online"], **more}


async def in_force(agent: AgentProcess) -> list[str]:
    return [row["name"] for row in (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]]


async def last_reload(agent: AgentProcess) -> dict[str, Any]:
    row: dict[str, Any] = (await agent.api("GET", "/v1/status"))[1]["reload"]
    return row


async def until_reload(agent: AgentProcess, *, ok: bool, words: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    async with asyncio.timeout(LIMIT):
        while not (row.get("ok") is ok and words in row["error"] and row["by"] == "file"):
            await asyncio.sleep(0.05)
            row = await last_reload(agent)
    return row


async def test_it_keeps_its_id_and_what_waits_whoever_changes_it(
    place: Path, receiver: Receiver
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host, receiver)) as agent:
        await agent.start()
        before = agent.path.read_text()
        body = new("page", url=receiver.url("/page"), events=["online", "unplugged"])
        made = (await agent.api("POST", "/v1/webhooks", body))[1]
        assert stat.S_IMODE(managed(agent).stat().st_mode) == 0o600
        receiver.default = answer(503)
        host.set(Listed("ce09"))
        await receiver.until(lambda: activities(receiver, "/page") != [], "a refused one")

        edited = await webhook(agent, "edit", "page", "--name", "page two", "--set", "timeout=5s")
        assert (edited["id"], edited["managed"]) == (made["id"], True)
        off = await webhook(agent, "disable", "page two")
        assert (off["id"], off["status"]) == (made["id"], "disabled")
        # Its own id goes with it when it is carried over by hand.
        on = await webhook(agent, "enable", str(made["id"]))
        assert (on["id"], on["enabled"]) == (made["id"], True)
        where = receiver.url("/elsewhere")
        await webhook(agent, "edit", "page two", "--url", where)
        await agent.kill()
        receiver.default = answer(204)
        await agent.start()
        await receiver.until(lambda: activities(receiver, "/elsewhere") != [], "what waited")
        assert activities(receiver, "/elsewhere") == [("ce09", "Online")]
        assert agent.path.read_text() == before
        assert await webhook(agent, "delete", "page two", "--yes") == {
            "id": made["id"],
            "name": "page two",
        }
        code, out, _ = await agent.cli("webhooks", "list")
        assert code == 0
        assert re.search(r"NAME +ENABLED +EVENTS +URL +STATUS +IN", out)
        assert re.search(r" good +agent\.toml:20", out)


async def test_commands_write_the_file_in_which_it_is(place: Path) -> None:
    agent = AgentProcess(place, bare())
    before = agent.path.read_text()
    events = ("--url", URL, "--events", "online")
    code, _, err = await agent.cli("webhooks", "create", "--managed", "--name", "page", *events)
    assert (code, "start the agent, which makes its directory" in err) == (1, True)
    (place / "state").mkdir(mode=0o700)
    code, out, err = await agent.cli("webhooks", "create", "--managed", "--name", "page", *events)
    assert (code, out) == (0, f"webhook 'page' created in {managed(agent)}\n")
    assert "not in force yet: no agent runs" in err
    row = await webhook(agent, "disable", "page")
    assert (row["enabled"], row["managed"], row["line"]) == (False, True, 4)
    assert (await webhook(agent, "edit", "page", "--name", "p", "--set", "id=9"))["id"] == 9
    assert agent.path.read_text() == before
    code, _, err = await agent.cli("webhooks", "create", "--name", "p", *events)
    assert (code, f"organisation 1 ({managed(agent)}:4) has this name" in err) == (2, False)
    assert f"another webhook of organisation 1 ({agent.path}" in err

    async with agent:
        await agent.start()
        assert await in_force(agent) == ["board", "p"]
        code, out, err = await agent.cli("webhooks", "enable", "p")
        assert (code, out) == (0, f"webhook 'p' (id 9) enabled in {managed(agent)}\n"), err
        code, out, _ = await agent.cli("webhooks", "create", "--managed", "--name", "q", *events)
        assert re.fullmatch(rf"webhook 'q' \(id \d+\) created in {managed(agent)}\n", out)
        code, out, _ = await agent.cli("webhooks", "create", "--name", "own", *events)
        assert f"created in {agent.path}" in out
        bad = os.fsdecode(b"\xff")
        for arguments in (
            ("edit", "q", "--description", bad),
            ("edit", "q", "--set", "timeout=2024-01-01"),
        ):
            code, out, err = await agent.cli("webhooks", *arguments)
            assert (code != 0, out, "Traceback" in err) == (True, "", False), err
        code, out, err = await agent.cli(
            "webhooks", "edit", "q", "--set", "evnets=1", "--url", "no"
        )
        assert (code, out) == (2, "")
        code, out, err = await agent.cli("webhooks", "edit", "q", "--url", "no")
        assert (code, out) == (2, "")
        assert err.startswith("nothing was written: webhook 'q' url: must be absolute")
        code, out, _ = await agent.cli("webhooks", "delete", "q", "-y")
        assert out.endswith(f" deleted in {managed(agent)}\n")
        assert await in_force(agent) == ["board", "own", "p"]


@pytest.mark.netns
@pytest.mark.skipif(not user_namespaces_work(), reason="no private mount namespaces here")
async def test_who_may_not_write_the_operator_s_file_has_the_agent_make_it(place: Path) -> None:
    """Also root, whose `/etc` is read-only, or whose file comes from elsewhere."""
    agent = AgentProcess(place, bare())
    async with agent:
        await agent.start()
        # A file in a directory that is not there any more can be written by nobody.
        text = agent.path.read_text()
        for command in (
            ("create", "--name", "page", "--url", URL, "--events", "all"),
            ("delete", "page", "-y"),
        ):
            code, out, err = await read_only(agent, *command)
            assert (code, err) == (0, ""), out
            assert out.endswith(f"in {managed(agent)}\n")
        code, out, err = await read_only(agent, "disable", "board")
        assert (code, out) == (1, "")
        assert f"cannot change {agent.path} (" in err
        assert agent.path.read_text() == text
    code, _, err = await read_only(agent, "create", "--name", "x", "--url", URL, "--events", "all")
    assert (code, f"cannot change {agent.path} (" in err) == (1, True), err


async def read_only(agent: AgentProcess, *arguments: str) -> tuple[int, str, str]:
    """`webhooks ARGUMENTS`, to which the operator's directory is read-only."""
    unshare = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    place = agent.path.parent
    binds = f'mount --bind {place} {place} && mount -o remount,bind,ro {place} && exec "$@"'
    return await run((*unshare, "sh", "-ec", binds, "sh"), agent, "webhooks", *arguments)


async def run(wrapper: Sequence[str], agent: AgentProcess, *arguments: str) -> tuple[int, str, str]:
    """A command behind that one: (exit code, stdout, stderr)."""
    process = await asyncio.create_subprocess_exec(
        *wrapper,
        DEVICE_AGENT,
        *arguments,
        "--config",
        agent.path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    code, out, err = await ended(process)
    return code, out.decode(), err.decode()


async def test_one_that_is_broken_is_told_with_its_place_and_left(place: Path) -> None:
    async with AgentProcess(place, bare(), watch=True) as agent:
        await agent.start()
        assert (await agent.api("POST", "/v1/webhooks", new("page")))[0] == 201
        good = managed(agent).read_text()
        broken = good.replace("events", "evnets")
        where = f"{managed(agent)}:7:1: webhook 'page': unknown key 'evnets'"
        managed(agent).write_text(broken)
        row = await until_reload(agent, ok=False)
        assert where in row["error"]
        assert await in_force(agent) == ["board", "page"]
        assert any("reload.refused" in line and where in line for line in agent.log)
        code, out, err = await agent.cli("check")
        assert (code, out) == (2, "")
        assert where in err
        code, _, err = await agent.cli("reload")
        assert (code != 0, where in err) == (True, True)
        status, answered = await agent.api("POST", "/v1/webhooks", new("other"))
        assert (status, answered["error"]["code"]) == (422, "bad_config")
        assert answered["error"]["problems"][0]["file"] == str(managed(agent))
        assert managed(agent).read_text() == broken, "it is nobody's to set aside"
        code, _, err = await agent.cli("webhooks", "list")
        assert code == 0, "the agent is still to be asked"
        assert await agent.stop() == 0

        await agent.start(ready=False)
        assert await agent.ended() == 2
        assert any(where in line for line in agent.log)
        assert managed(agent).read_text() == broken
        managed(agent).write_text(good)
        await agent.start()
        assert await in_force(agent) == ["board", "page"]


@pytest.mark.parametrize("how", ["emptied", "deleted"])
async def test_one_that_is_emptied_is_not_taken_by_itself(place: Path, how: str) -> None:
    async with AgentProcess(place, bare(), watch=True) as agent:
        await agent.start()
        assert (await agent.api("POST", "/v1/webhooks", new("page")))[0] == 201
        good = managed(agent).read_text()
        managed(agent).write_text("") if how == "emptied" else managed(agent).unlink()
        await until_reload(agent, ok=False, words="which is not taken by itself")
        assert await in_force(agent) == ["board", "page"]
        code, _, err = await agent.cli("check")
        assert (code, "a reload deletes webhook 'page'" in err) == (0, True), err
        assert f"{managed(agent)}:1:1: " in err
        status, answered = await agent.api("POST", "/v1/webhooks", new("other"))
        assert (status, answered["error"]["code"]) == (422, "bad_config")
        assert await in_force(agent) == ["board", "page"]
        managed(agent).write_text(good)
        await until_reload(agent, ok=True)
        assert await in_force(agent) == ["board", "page"]
        managed(agent).write_text("") if how == "emptied" else managed(agent).unlink()
        assert (await agent.cli("reload"))[0] == 0
        assert await in_force(agent) == ["board"]
        assert (await agent.api("POST", "/v1/webhooks", new("other")))[0] == 201
        assert await in_force(agent) == ["board", "other"]


async def test_the_organisation_is_the_agent_s(place: Path) -> None:
    async with AgentProcess(place, "") as agent:
        agent.write(bare())
        agent.path.write_text(agent.path.read_text().replace("[agent]", "[agent]\norg_id = 6", 1))
        await agent.start()
        row = (await agent.api("POST", "/v1/webhooks", new("page")))[1]
        assert (row["org_id"], row["managed"]) == (6, True)
        other = (await agent.api("POST", "/v1/webhooks", new("page", org_id=1)))[1]
        assert other["org_id"] == 1
        assert (await agent.api("PATCH", "/v1/webhooks/page", {"enabled": False}))[0] == 404
        assert (await webhook(agent, "disable", "page", "--org", "6"))["id"] == row["id"]
        agent.path.write_text(agent.path.read_text().replace("org_id = 6", "org_id = 7"))
        code, _, err = await agent.cli("check")
        assert (code, "moves 2 webhooks from organisation 6 to 7" in err) == (0, True), err
        assert (await agent.cli("reload"))[0] == 0
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [(each["id"], each["org_id"]) for each in rows][1:] == [
            (row["id"], 7),
            (other["id"], 1),
        ]


async def test_another_state_directory_leaves_it_till_the_next_start(place: Path) -> None:
    async with AgentProcess(place, bare()) as agent:
        await agent.start()
        assert (await agent.api("POST", "/v1/webhooks", new("page")))[0] == 201
        agent.path.write_text(agent.path.read_text().replace("/state", "/other"))
        code, _, err = await agent.cli("check")
        assert (code, "deletes" in err) == (0, False), err
        code, out, err = await agent.cli("reload")
        assert (code, "agent.state_dir" in out + err) == (0, True)
        assert await in_force(agent) == ["board", "page"]
        assert (await agent.api("POST", "/v1/webhooks", new("two")))[0] == 201
        assert (await webhook(agent, "disable", "page"))["enabled"] is False
        assert 'name = "two"' in managed(agent).read_text()
        assert not (place / "other" / "webhooks.toml").exists()
        assert await agent.stop() == 0
        (place / "state").rename(place / "other")  # as the pages say: the whole directory
        await agent.start()
        assert await in_force(agent) == ["board", "page", "two"]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, and setpriv"
)
async def test_a_user_who_may_not_read_it(place: Path) -> None:
    place.chmod(0o755)
    async with AgentProcess(place, bare()) as agent:
        await agent.start()
        made = (await agent.api("POST", "/v1/webhooks", new("page", url=f"{URL}?key=t0ken")))[1]
        for path in (place, place / "state", managed(agent), agent.path, agent.socket):
            os.chown(path, 12345, 54321)
        agent.path.chmod(0o644)
        agent.socket.chmod(0o666)
        code, out, err = await powerless(agent, "check")
        assert code == 0, err
        said = "not checked: this user may not read it, and the agent keeps one webhook in it"
        assert f"{managed(agent)}:1:1: {said}" in err
        assert "deletes" not in err
        code, out, err = await powerless(agent, "webhooks", "list", "--json")
        assert (code, [each["name"] for each in json.loads(out)["webhooks"]]) == (
            0,
            ["board", "page"],
        )
        code, out, err = await powerless(agent, "webhooks", "edit", "page", "--name", "p")
        assert (code, out) == (0, f"webhook 'p' (id {made['id']}) changed in {managed(agent)}\n")
        assert 'url = "http://127.0.0.1:9/?key=t0ken"' in managed(agent).read_text()
        agent.socket.chmod(0o600)
        for arguments in (("--managed",), ()):
            code, out, err = await powerless(
                agent, "webhooks", "create", "--name", "x", "--url", URL, "--events", "all",
                *arguments,
            )  # fmt: skip
            assert (code, out) == (1, "")
            assert "not allowed to use the agent's socket" in err


async def powerless(agent: AgentProcess, *arguments: str) -> tuple[int, str, str]:
    """A command by a root that may open nobody else's files."""
    return await run(
        ("setpriv", "--bounding-set=-dac_override,-dac_read_search"), agent, *arguments
    )


async def test_many_at_once(place: Path) -> None:
    async with AgentProcess(place, bare()) as agent:
        await agent.start()
        bodies = [new(f"n{number}") for number in range(6)] + [new("twice"), new("twice")]
        answers = await asyncio.gather(
            *(agent.api("POST", "/v1/webhooks", body) for body in bodies)
        )
        assert sorted(status for status, _ in answers) == [201] * 7 + [422]
        assert len({row["id"] for status, row in answers if status == 201}) == 7
        assert set(await in_force(agent)) == {"board", "twice", *(f"n{n}" for n in range(6))}


@pytest.mark.parametrize("kills", [4, pytest.param(150, marks=pytest.mark.long)])
async def test_what_was_answered_survives_sigkill(place: Path, kills: int) -> None:
    chosen = seed(943)
    dice = random.Random(chosen)
    made: set[str] = set()
    async with AgentProcess(place, bare()) as agent:
        for kill in range(kills):
            await agent.start()

            async def work(prefix: str) -> None:
                number = 0
                while True:
                    status, _ = await agent.api("POST", "/v1/webhooks", new(f"{prefix}-{number}"))
                    assert status == 201
                    made.add(f"{prefix}-{number}")
                    number += 1

            working = asyncio.create_task(work(str(kill)))
            # The moment of death is the test's subject, not its synchronisation.
            await asyncio.sleep(dice.random() * 0.6)
            await agent.kill()
            await asyncio.wait({working})
            working.exception()
        await agent.start()
        found = set(await in_force(agent))
        assert made <= found
        assert len(found - made) <= kills + 1, "board, and those in mid-answer"

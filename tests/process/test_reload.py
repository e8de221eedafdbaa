"""A reload rebuilds what changed and touches nothing else; by request, by signal, by the file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port
from tests.fakes.receiver import answer
from tests.fakes.usage_servers import FakeAppium
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Self

    from tests.fakes.receiver import Receiver

CONFIG = """
[usb]
enabled = false
[ios]
enabled = false
[hold]
offline = "300ms"
unplugged = "300ms"
[android]
adb_server = "{adb}"
start_server = false
probe_interval = "0s"
[usage]
interval = "300ms"
uiautomator2 = false
appium = [{appium}]
[[webhooks]]
name = "board"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""


def config(adb: str, receiver: Receiver, appium: str = "") -> str:
    return CONFIG.format(adb=adb, url=receiver.url("/board"), appium=appium)


class Relay:
    """In front of an adb server: what the agent connects to, and counts its connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.trackers = 0
        """Connections that ever asked to be told of changes."""
        self.open = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
        first = await reader.read(65536)
        tracks = b"track-devices" in first
        self.trackers += tracks
        self.open += tracks
        outer.write(first)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, outer), copy(inner, writer))
        self.open -= tracks


@pytest.fixture
async def adb(tmp_path: Path) -> AsyncIterator[RealAdbServer]:
    async with RealAdbServer(BINARIES["bundled"], tmp_path) as server:
        yield server


def told(receiver: Receiver) -> list[str]:
    return [json.loads(request.body)["eventDescription"] for request in receiver.requests]


def reloads(agent: AgentProcess) -> list[str]:
    """Who each reload was by, as the log tells."""
    lines = [line for line in agent.log if "reload.done" in line or "reload.refused" in line]
    return [match[1] for line in lines if (match := re.search(r"by=(\w+)", line))]


async def status(agent: AgentProcess) -> dict[str, Any]:
    last: dict[str, Any] = (await agent.api("GET", "/v1/status"))[1]["reload"]
    return last


async def until_reloads(agent: AgentProcess, *by: str) -> None:
    await agent.until(lambda: len(reloads(agent)) >= len(by), f"reloads by {by}")
    assert reloads(agent) == list(by), agent.log


async def test_what_did_not_change_is_not_touched(
    place: Path, receiver: Receiver, adb: RealAdbServer
) -> None:
    """Through everything that can be changed but adb's own settings, its connection stays."""
    appium = FakeAppium()
    await appium.start()
    async with (
        FakePhone() as phone,
        Relay(adb.port) as relay,
        AgentProcess(place, "") as agent,
    ):
        text = config(f"127.0.0.1:{relay.port}", receiver, f'"{appium.url}"')
        agent.write(text)
        await agent.start()
        await adb.register(phone)
        await receiver.until(lambda: told(receiver) == ["Online"], "online")
        appium.sessions = {"s1": {"appium:udid": phone.serial}}
        await receiver.until(lambda: told(receiver) == ["Online", "Utilizing"], "in use")
        devices = await agent.devices()
        changes = [
            text + f'[[devices]]\nudid = "{phone.serial}"\ntags = ["rack-1"]\n',
            text.replace('offline = "300ms"', 'offline = "20s"'),
            text.replace('name = "board"', 'name = "board"\npayload = "extended"'),
            text + '[delivery]\nconcurrency = 3\nretention = "9d"\n',
            text.replace(f'"{appium.url}"', f'"{appium.url}", "http://127.0.0.1:1"'),
            text.replace('interval = "300ms"', 'interval = "200ms"'),
            text.replace("[ios]\nenabled = false", '[ios]\nusbmuxd = "/nowhere"'),
            text,
            text,
        ]
        for number, changed in enumerate(changes):
            agent.write(changed)
            code, out, err = await agent.cli("reload")
            assert (code, err) == (0, ""), changed
            nothing = number == len(changes) - 1
            assert out == "reloaded: nothing changed\n" if nothing else "changed" in out
            row = (await agent.devices())[phone.serial]
            assert (row["state"], row["since"]) == (
                "utilizing",
                devices[phone.serial]["since"],
            ), changed
            # With two servers it says which.
            assert row["holder"].split(" at ")[0] == devices[phone.serial]["holder"]
        assert (relay.trackers, relay.open) == (1, 1)
        assert told(receiver) == ["Online", "Utilizing"], "no callback for a reload"

        # What is adb's is rebuilt: one connection for the old one, and no callback either.
        agent.write(text.replace('probe_interval = "0s"', 'probe_interval = "40s"'))
        assert (await agent.cli("reload"))[0] == 0
        await agent.until(lambda: any("restarted_sources=['adb']" in x for x in agent.log), "adb")
        async with asyncio.timeout(LIMIT):
            while (relay.trackers, relay.open) != (2, 1):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        # Whatever it made of this one comes before what it makes of that one.
        async with FakePhone() as second:
            await adb.register(second)
            await receiver.until(lambda: len(told(receiver)) >= 3, "the second phone")
        assert told(receiver)[:3] == ["Online", "Utilizing", "Online"]
    await appium.stop()


async def test_a_changed_file_is_taken_by_itself_once(place: Path, receiver: Receiver) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(host.address, receiver), watch=True) as agent,
    ):
        await agent.start()
        assert (await status(agent))["by"] == "start"
        good = agent.path.read_text()
        agent.path.touch()

        # An editor that moves the old file away, and one that renames a new one into its place.
        agent.path.rename(place / "agent.toml~")
        agent.path.write_text(good.replace("board", "hall"))
        await until_reloads(agent, "file")
        last = await status(agent)
        assert (last["ok"], last["by"], last["error"]) == (True, "file", "")
        new = place / "new.toml"
        new.write_text(good.replace("board", "door"))
        new.rename(agent.path)
        await until_reloads(agent, "file", "file")
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [row["name"] for row in rows] == ["door"]

        # A link that is pointed elsewhere, as whole directories of settings are swapped.
        (place / "a.toml").write_text(good)
        (place / "link").symlink_to("a.toml")
        (place / "link").rename(agent.path)
        await until_reloads(agent, "file", "file", "file")

        # What a command did is no news.
        code, _, err = await agent.cli("webhooks", "disable", "board")
        assert code == 0, err
        assert agent.path.is_symlink()
        agent.path.write_text(agent.path.read_text() + "# a remark\n")
        await until_reloads(agent, "file", "file", "file", "request", "file")
        assert not any("refused" in line for line in agent.log)


async def test_a_bad_file_is_said_once_and_its_mending_too(place: Path, receiver: Receiver) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(host.address, receiver), watch=True) as agent,
    ):
        await agent.start()
        good = agent.path.read_text()
        agent.path.write_text(good.replace("events", "evnets"))
        await until_reloads(agent, "file")
        last = await status(agent)
        assert (last["ok"], last["by"]) == (False, "file")
        assert "did you mean 'events'" in last["error"]
        await agent.until(
            lambda: any("STATUS=" in x and "reload: refused" in x for x in agent.notifications),
            "STATUS=",
        )
        await agent.until_metric(r"config_last_reload_successful 0\.0")
        code, out, err = await agent.cli("devices")
        assert code == 0, "a file with mistakes does not keep the operator from the agent"
        assert out == "no devices\n"
        assert "has 2 mistakes: see 'device-agent check'" in err
        assert "the last reload was refused at" in err
        assert "did you mean 'events'" in err

        agent.path.write_text("")
        await until_reloads(agent, "file", "file")
        assert "the file is empty now" in (await status(agent))["error"]
        agent.path.write_text("[[")
        await until_reloads(agent, "file", "file", "file")
        agent.path.unlink()
        await until_reloads(agent, "file", "file", "file", "file")
        assert "no such file" in (await status(agent))["error"]
        agent.path.write_text(good)
        await until_reloads(agent, "file", "file", "file", "file", "file")
        assert (await status(agent))["ok"]
        assert (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"][0]["name"] == "board"
        code, _, err = await agent.cli("devices")
        assert (code, err) == (0, "")
        await agent.until(
            lambda: "reload" not in [x for x in agent.notifications if "STATUS=" in x][-1],
            "STATUS= without it",
        )


async def test_watching_can_be_turned_off_and_on(place: Path, receiver: Receiver) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host.address, receiver)) as agent:
        off = agent.path.read_text()
        good = off.replace("watch_config = false", "watch_config = true")
        await agent.start()
        agent.path.write_text(off.replace("board", "unseen"))
        # Long enough for a watching agent to have taken it: another one did.
        other = place / "other"
        other.mkdir()
        async with AgentProcess(other, config(host.address, receiver), watch=True) as second:
            await second.start()
            second.path.write_text(second.path.read_text() + "# a remark\n")
            await until_reloads(second, "file")
        assert reloads(agent) == []
        agent.signal(signal.SIGHUP)
        await until_reloads(agent, "signal")
        agent.path.write_text(good)
        assert (await agent.cli("reload"))[0] == 0
        agent.path.write_text(good + "# a remark\n")
        await until_reloads(agent, "signal", "request", "file")


async def test_whatever_fails_late_everything_is_as_before(place: Path, receiver: Receiver) -> None:
    """The id that cannot be had is found last of all, when all else stands ready."""
    appium = FakeAppium()
    await appium.start()
    async with FakeAdbHost() as host, AgentProcess(place, config(host.address, receiver)) as agent:
        first, second = free_port(), free_port()
        text = config(host.address, receiver, f'"{appium.url}"')
        agent.write(text)
        path = agent.path
        good = path.read_text().replace('listen = ""', f'listen = "127.0.0.1:{first}"')
        path.write_text(good)
        await agent.start()
        host.set(Listed("ce09"))
        await receiver.until(lambda: told(receiver) == ["Online"], "online")
        appium.sessions = {"s1": {"appium:udid": "ce09"}}
        await receiver.until(lambda: told(receiver) == ["Online", "Utilizing"], "in use")
        bad = (
            good.replace(f"127.0.0.1:{first}", f"0.0.0.0:{second}")
            .replace(f'socket = "{agent.socket}"', f'socket = "{place}/moved"')
            .replace(f'"{appium.url}"', '"http://127.0.0.1:1"')
            .replace('name = "board"', 'name = "board"\nid = 1')
        ) + '[[webhooks]]\nname = "thief"\nurl = "http://x/"\nevents = ["online"]\nid = 1\n'
        path.write_text(bad.replace("id = 1\n", "", 1).replace('name = "board"', 'name = "board" '))
        # Reached where it is, for the file says that it is elsewhere.
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["error"]["code"]) == (409, "id_taken"), answered
        assert "belongs to webhook 'board'" in answered["error"]["message"]
        assert not (place / "moved").exists()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", second))
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{first}/v1/devices") as response,
        ):
            (row,) = (await response.json())["devices"]
        assert (row["state"], row["holder"]) == ("utilizing", "appium session s1")
        targets = (await agent.api("GET", "/v1/status"))[1]["usage"]
        assert [
            (source["source"], [target["target"] for target in source["targets"]])
            for source in targets
            if source["source"] == "appium"
        ] == [("appium", [appium.url])]
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [(row["id"], row["name"]) for row in rows] == [(1, "board")]

        # Without the thief all of it moves at once.
        path.write_text(bad[: bad.rindex("[[webhooks]]")])
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["needs_restart"]) == (200, [])
        assert set(answered["changed"]) == {"api", "usage", "webhooks"}
        assert (await agent.cli("devices"))[0] == 0, "by the socket that the file names now"
        async with asyncio.timeout(LIMIT):
            while agent.socket.exists():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        with socket.create_connection(("127.0.0.1", second)):
            pass
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", first))
    await appium.stop()


async def test_an_address_in_use_is_refused_and_one_port_may_widen(
    place: Path, receiver: Receiver
) -> None:
    async with FakeAdbHost() as host, AgentProcess(place, config(host.address, receiver)) as agent:
        port = free_port()
        good = agent.path.read_text().replace('listen = ""', f'listen = "127.0.0.1:{port}"')
        agent.path.write_text(good)
        await agent.start()
        agent.path.write_text(good.replace(f":{port}", f":{receiver.port}"))
        code, _, err = await agent.cli("reload")
        assert code == 1
        assert f"127.0.0.1:{receiver.port} is in use" in err
        agent.path.write_text(good.replace(f"127.0.0.1:{port}", f"0.0.0.0:{port}"))
        code, _, err = await agent.cli("reload")
        assert (code, err) == (0, "")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.2:{port}/-/healthy") as response,
        ):
            assert response.status == 200


async def test_what_waits_goes_to_the_new_url_and_a_deleted_webhook_s_is_cancelled(
    place: Path, receiver: Receiver
) -> None:
    receiver.default = answer(503)
    async with FakeAdbHost() as host, AgentProcess(place, config(host.address, receiver)) as agent:
        text = config(host.address, receiver)
        more = '[[webhooks]]\nname = "other"\nurl = "{}"\nevents = ["online"]\n'
        agent.write(text + more.format(receiver.url("/other")))
        await agent.start()
        host.set(Listed("ce09"))
        await receiver.until(lambda: len(receiver.requests) == 2, "both refused")
        receiver.default = answer(204)
        receiver.requests.clear()
        agent.write(text.replace("/board", "/new"))
        assert (await agent.cli("reload"))[0] == 0
        await agent.until(lambda: any("webhooks.cancelled" in x for x in agent.log), "cancelled")
        await agent.until_delivered()
        assert [request.target for request in receiver.requests] == ["/new"]


async def test_leases_turned_off_while_somebody_waits(place: Path, receiver: Receiver) -> None:
    """By the file watch, which goes on watching; and the rest of the file counts, too."""
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(host.address, receiver), watch=True) as agent,
    ):
        await agent.start()
        host.set(Listed("ce09"), Listed("r58m"))
        for udid in ("ce09", "r58m"):
            await agent.until_device(udid, "state", "online")
        code, held = await agent.api("POST", "/v1/leases", {"udid": "ce09", "holder": "first"})
        assert code == 201, held
        waiting = [
            asyncio.create_task(
                agent.api("POST", "/v1/leases", {"udid": "ce09", "holder": who, "wait": 60})
            )
            for who in ("second", "third")
        ]
        await agent.until_metric(r"lease_requests_waiting 2\.0")
        text = agent.path.read_text()
        off = text.replace("[usage]", "[usage]\nleases = false")
        agent.path.write_text(off.replace('name = "board"', 'name = "hall"'))
        for each in waiting:
            async with asyncio.timeout(LIMIT):
                code, answered = await each
            assert (code, answered["error"]["code"]) == (403, "leases_off")
        await until_reloads(agent, "file")
        assert (await status(agent))["ok"]
        assert (await agent.api("GET", "/v1/leases"))[1] == {"leases": []}
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [row["name"] for row in rows] == ["hall"]
        await agent.until_device("ce09", "state", "online")

        agent.path.write_text(text)
        await until_reloads(agent, "file", "file")
        code, _ = await agent.api("POST", "/v1/leases", {"udid": "ce09", "holder": "again"})
        assert code == 201
        assert not any("Traceback" in line for line in agent.log)


@pytest.mark.parametrize("bad", ["", "\n \n", "[[", "[agent]\nnonsense = 1\n", None])
async def test_the_old_text_put_back_ends_every_refusal(
    place: Path, receiver: Receiver, bad: str | None
) -> None:
    """None: the file is taken away. Each is said once, and the old text is noticed."""
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(host.address, receiver), watch=True) as agent,
    ):
        await agent.start()
        good = agent.path.read_text()
        for number in (1, 2):
            if bad is None:
                agent.path.unlink()
            else:
                agent.path.write_text(bad)
            await until_reloads(agent, *["file"] * (2 * number - 1))
            assert not (await status(agent))["ok"]
            if number == 2:  # three more looks: it is not said again
                await agent.until(lambda: len(agent.log) > 0, "its log")
                other = place / "other"
                other.mkdir()
                async with AgentProcess(other, config(host.address, receiver), watch=True) as late:
                    await late.start()
                    late.path.write_text(late.path.read_text() + "# a remark\n")
                    await until_reloads(late, "file")
            agent.path.write_text(good)
            await until_reloads(agent, *["file"] * (2 * number))
            assert (await status(agent))["ok"]


async def test_a_file_that_may_not_be_read_is_not_called_empty(
    place: Path, receiver: Receiver
) -> None:
    async with (
        FakeAdbHost() as host,
        AgentProcess(place, config(host.address, receiver), watch=True) as agent,
    ):
        await agent.start()
        good = agent.path.read_text()
        agent.path.unlink()
        agent.path.mkdir()  # root may read everything else
        await until_reloads(agent, "file")
        assert "empty" not in (await status(agent))["error"]
        agent.path.rmdir()
        agent.path.write_text(good)
        await until_reloads(agent, "file", "file")
        assert (await status(agent))["ok"]


async def test_who_hangs_up_in_mid_reload_leaves_a_whole_one(
    place: Path, receiver: Receiver
) -> None:
    """The client goes away as soon as it has asked, and the reload is done to its end."""
    async with FakeAdbHost() as host, AgentProcess(place, config(host.address, receiver)) as agent:
        await agent.start()
        text = config(host.address, receiver)
        agent.write(
            text.replace('name = "board"', 'name = "hall"').replace(
                'probe_interval = "0s"', 'probe_interval = "40s"'
            )
        )
        _, writer = await asyncio.open_unix_connection(str(agent.socket))
        writer.write(b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.transport.abort()
        await until_reloads(agent, "request")
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        assert [row["name"] for row in rows] == ["hall"]
        host.set(Listed("ce09"))
        await agent.until_device("ce09", "state", "online")


async def test_another_organisation_cancels_nothing_and_check_says_so_beforehand(
    place: Path, receiver: Receiver
) -> None:
    """The default's change by a reload, and by a restart; ids and what waits stay."""
    receiver.default = answer(503)
    async with FakeAdbHost() as host, AgentProcess(place, "") as agent:
        own = (
            '[[webhooks]]\nname = "own"\norg_id = 7\nurl = "{url}"\nevents = ["online"]\n'
        ).format(url=receiver.url("/own"))
        agent.write(config(host.address, receiver) + own)
        text = agent.path.read_text().replace("[agent]", "[agent]\norg_id = 2")
        agent.path.write_text(text)
        await agent.start()
        host.set(Listed("ce09"))
        await receiver.until(lambda: len(receiver.requests) == 2, "both refused")

        async def webhooks() -> list[tuple[int, int, str]]:
            rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
            return [(row["id"], row["org_id"], row["name"]) for row in rows]

        assert await webhooks() == [(1, 2, "board"), (2, 7, "own")]
        agent.path.write_text(text.replace("org_id = 2", "org_id = 3"))
        code, out, err = await agent.cli("check")
        assert code == 0, err
        assert (
            "agent.toml:2:1: agent.org_id: a reload moves one webhook from organisation 2 to 3: "
            "ids stay, and what waits is sent as it was made, for 2 (warning)"
        ) in err
        assert out.endswith("good: 2 webhooks, 0 devices\n")
        code, _, err = await agent.cli("reload")
        assert (code, err) == (0, "")
        assert await webhooks() == [(1, 3, "board"), (2, 7, "own")]
        assert any("webhook.moved" in line for line in agent.log)
        assert "a reload" not in (await agent.cli("check"))[2]

        # A restart finds another default, and an organisation of its own that is new.
        assert await agent.stop() == 0
        agent.path.write_text(
            text.replace("org_id = 2", "org_id = 4").replace("org_id = 7", "org_id = 8")
        )
        await agent.start()
        assert await webhooks() == [(1, 4, "board"), (2, 8, "own")]
        assert not any("cancelled" in line for line in agent.log)

        # What ends is said beforehand, too; and refused where it cannot be told what is meant.
        new = text.replace('name = "own"', 'name = "other"').replace("org_id = 2", "org_id = 4")
        agent.path.write_text(new)
        code, _, err = await agent.cli("check")
        assert code == 0
        assert "a reload deletes webhook 'own', which is in force and not in this file, and " in err
        assert (
            "cancels what waits for it, of one device; should it only have a new name, say" in err
        )
        twice = text.replace("org_id = 2", "org_id = 5").replace('name = "own"', 'name = "board"')
        agent.path.write_text(twice)
        assert (
            "a reload is refused: webhook 'board' (organisation 5)" in (await agent.cli("check"))[2]
        )
        code, answered = await agent.api("POST", "/v1/reload")
        assert (code, answered["error"]["code"]) == (409, "id_taken")
        assert await webhooks() == [(1, 4, "board"), (2, 8, "own")]

        receiver.default = answer(204)
        agent.path.write_text(
            text.replace("org_id = 2", "org_id = 4")
            .replace("org_id = 7", "org_id = 8")
            .replace("/board", "/new/board")
            .replace("/own", "/new/own")
        )
        assert (await agent.cli("reload"))[0] == 0
        await agent.until_delivered()
        rows = (await agent.api("GET", "/v1/deliveries"))[1]["deliveries"]
        assert {row["state"] for row in rows} == {"delivered"}
        assert {json.loads(r.body)["orgId"] for r in receiver.requests} == {2, 7}, "byte-identical"


async def test_a_file_that_hangs_keeps_no_later_reload_from_its_turn(
    place: Path, receiver: Receiver
) -> None:
    text = config("127.0.0.1:1", receiver)
    fifo = place / "ca.pem"
    os.mkfifo(fifo)  # whoever opens it waits for a writer
    async with AgentProcess(place, text) as agent:
        await agent.start()
        agent.write(f'{text}tls = {{ ca = "{fifo}" }}\n')
        status, answered = await agent.api("POST", "/v1/reload")
        assert status == 422
        assert "webhook 'board': a file under tls could not" in answered["error"]["message"]
        agent.write(text)
        assert (await agent.api("POST", "/v1/reload"))[0] == 200
        assert await agent.stop() == 0

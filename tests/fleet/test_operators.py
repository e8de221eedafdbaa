"""Commands as operators run them at a hub: two racks, one broker, all as processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.cli.common import AgentClient
from agent.model import Platform
from agent.sources.simulated import Phone
from tests.kit.broker import Broker
from tests.kit.fleet import hub, rack
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.kit.agent import AgentProcess
    from tests.kit.rack import Rack

PHONES = {
    "rack-1": (
        Phone("A1", "One", "1-1", Platform.ANDROID),
        Phone("A2", "Two", "1-2", Platform.ANDROID),
    ),
    "rack-2": (Phone("B1", "Three", "1-1", Platform.ANDROID),),
}


class Fleet:
    """A hub and its racks."""

    def __init__(self, its_hub: AgentProcess, racks: dict[str, Rack]) -> None:
        self.hub = its_hub
        self.racks = racks

    async def cli(self, *words: str) -> str:
        """At the hub; it must succeed."""
        code, out, err = await self.hub.cli(*words)
        assert code == 0, err
        return out

    async def refused(self, *words: str) -> str:
        code, _, err = await self.hub.cli(*words)
        assert code != 0
        return err

    async def until(self, key: str, what: Callable[[list[Any]], bool]) -> list[Any]:
        """Until the hub's rows are like that."""
        async with asyncio.timeout(LIMIT):
            while True:
                _, answer = await self.hub.api("GET", f"/v1/{key}")
                rows: list[Any] = answer[key]
                if what(rows):
                    return rows
                await asyncio.sleep(0.05)

    async def told(self, kind: str) -> dict[str, Any]:
        """The first message of that kind that the hub's followers hear."""
        async with (
            asyncio.timeout(LIMIT),
            AgentClient(self.hub.socket) as client,
            contextlib.aclosing(client.events([], "", silence=LIMIT)) as messages,
        ):
            async for event in messages:
                if event.kind == kind:
                    return dict(event.data)
        raise AssertionError("it was not told")


@asynccontextmanager
async def fleet(place: Path, tmp_path: Path, host_grace: float = 60) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        broker = await Broker(tmp_path / "broker").start()
        stack.callback(broker.close)
        its_hub = hub(
            place / "hub",
            [broker.url],
            "",
            host="hub-1",
            host_grace=host_grace,
            move_hold=1,
            source_grace=1,
        )
        await stack.enter_async_context(its_hub)
        await its_hub.start()
        racks = {}
        for host, phones in PHONES.items():
            racks[host] = await stack.enter_async_context(rack(place / host, host, [broker.url]))
            for phone in phones:
                racks[host].plug(phone)
            await racks[host].start()
        for phones in PHONES.values():
            for phone in phones:
                await its_hub.until_device(phone.serial, "state", "online")
        yield Fleet(its_hub, racks)


async def test_leases_of_all_hosts(place: Path, tmp_path: Path) -> None:
    async with fleet(place, tmp_path) as them:
        table = await them.cli("devices")
        assert "HOST" in table.splitlines()[0]
        assert "rack-2" in table
        shown = json.loads(await them.cli("devices", "--json", "--host", "rack-1"))
        assert [each["udid"] for each in shown["devices"]] == ["A1", "A2"]
        _, filtered = await them.hub.api("GET", "/v1/devices?host=rack-2")
        assert [each["udid"] for each in filtered["devices"]] == ["B1"]

        id_ = (await them.cli("lease", "acquire", "b1", "--holder", "bob")).strip()
        assert id_.endswith("~rack-2")
        await them.hub.until_device("B1", "state", "utilizing")
        assert "B1 is held by bob" in await them.refused("lease", "acquire", "B1")
        await them.cli("lease", "acquire", "A1", "--holder", "eve")
        await them.until("leases", lambda rows: len(rows) == 2)
        assert "HOST" in (await them.cli("lease", "list")).splitlines()[0]
        assert "lasts until" in await them.cli("lease", "renew", id_)
        assert "B1 is released" in await them.cli("lease", "release", id_)
        await them.hub.until_device("B1", "state", "online")

        words = ("use", "--any", "--", "sh", "-c", "echo $DEVICE_AGENT_UDID $DEVICE_AGENT_HOST")
        assert await them.cli(*words) in {"A2 rack-1\n", "B1 rack-2\n"}
        await them.until("leases", lambda rows: [each["udid"] for each in rows] == ["A1"])


async def test_use_ends_with_its_process_and_waits_for_any(place: Path, tmp_path: Path) -> None:
    async with fleet(place, tmp_path) as them:
        argv = ("--config", str(them.hub.path), "--any", "--", "sleep", "60")
        using = [
            await asyncio.create_subprocess_exec(DEVICE_AGENT, "use", *argv, process_group=0)
            for _ in range(3)
        ]
        held = await them.until("leases", lambda rows: len(rows) == 3)
        assert {each["udid"] for each in held} == {"A1", "A2", "B1"}
        waiting = asyncio.create_task(
            them.cli("use", "--any", "--wait", "--", "sh", "-c", "echo $DEVICE_AGENT_UDID")
        )
        using[0].send_signal(signal.SIGKILL)
        assert (await waiting).strip() in {"A1", "A2", "B1"}
        for each in using[1:]:
            each.terminate()
        for each in using:
            await each.wait()
        await them.until("leases", lambda rows: not rows)
        for its_rack in them.racks.values():
            assert (await its_rack.api("GET", "/v1/leases"))[1] == {"leases": []}


async def test_a_host_that_is_away_is_an_error_at_once(place: Path, tmp_path: Path) -> None:
    async with fleet(place, tmp_path) as them:
        await them.racks["rack-2"].kill()
        assert "rack-2" in await them.refused("lease", "acquire", "B1")
        status, answer = await them.hub.api("POST", "/v1/leases", {"udid": "B1", "holder": "bob"})
        assert (status, answer["error"]["code"]) == (503, "host_unreachable")
        assert await them.cli("use", "--any", "--", "true") == ""


async def test_silences_of_all_hosts(place: Path, tmp_path: Path) -> None:
    async with fleet(place, tmp_path) as them:
        words = ("silence", "add", "--for", "1h", "--reason", "cables")
        told = asyncio.create_task(them.told("silences"))
        id_ = (await them.cli(*words, "--all")).strip()
        (row,) = await them.until(
            "silences", lambda rows: [each["devices"] for each in rows] == [3]
        )
        assert row["id"] == id_
        assert [each["id"] for each in (await told)["silences"]] == [id_]
        for each in them.racks.values():
            (there,) = (await each.api("GET", "/v1/silences"))[1]["silences"]
            assert (there["id"], there["reason"]) == (id_, "cables")
        port = (await them.cli(*words, "--hub", "rack-1/1-2")).strip()
        assert "such as rack-1/1-4.2" in await them.refused(*words, "--hub", "1-2")
        rows = await them.until("silences", lambda rows: len(rows) == 2)
        assert {each["value"] for each in rows} == {"", "rack-1/1-2"}
        assert "rack-1/1-2" in await them.cli("silence", "list")
        for each_id in (port, id_):
            await them.cli("silence", "end", each_id)
        await them.until("silences", lambda rows: not rows)


async def test_a_host_that_was_taken_down_is_forgotten(place: Path, tmp_path: Path) -> None:
    async with fleet(place, tmp_path, host_grace=8) as them:
        assert "rack-2 is alive" in await them.refused("hosts", "forget", "rack-2")
        status, answer = await them.hub.api("DELETE", "/v1/hosts/rack-2")
        assert (status, answer["error"]["code"]) == (409, "host_alive")
        status, answer = await them.hub.api("DELETE", "/v1/hosts/rack-9")
        assert (status, answer["error"]["code"]) == (404, "unknown_host")
        await them.racks["rack-2"].kill()
        await them.until("hosts", lambda rows: rows[1]["state"] in {"lost", "gone"})
        out = await them.cli("hosts", "forget", "rack-2")
        assert out == (
            "rack-2 is forgotten; its 1 phone is shown no more\n"
            "another hub, where there is one, has it still: forget it there, too\n"
        )
        assert "rack-2" not in await them.cli("hosts")
        shown = json.loads(await them.cli("devices", "--json"))
        assert {each["host"] for each in shown["devices"]} == {"rack-1"}
        await them.cli("silence", "add", "--all", "--for", "1m", "--reason", "x")
        assert "no device 'B1'" in await them.refused("lease", "acquire", "B1")
        await them.racks["rack-2"].start()
        await them.hub.until_device("B1", "host", "rack-2")

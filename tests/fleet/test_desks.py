"""Leases and silences at a hub: over a real broker, done by the real desks of two agents."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.clock import LoopClock
from agent.errors import (
    AgentError,
    BadRequestError,
    DeviceHeldError,
    HostUnreachableError,
    LeaseError,
    LeasesOffError,
    SilenceError,
    UnknownDeviceError,
    UnknownLeaseError,
    UnknownSilenceError,
)
from agent.fleet import subjects
from agent.fleet.commands import Commands
from agent.fleet.hub import remote as remote_module
from agent.fleet.hub.directory import Directory
from agent.fleet.hub.hosts import Host, Presence
from agent.fleet.hub.remote import Remote
from agent.fleet.link import LinkError, NobodyError
from agent.fleet.nats_link import dial
from agent.fleet.words import Answer, Command, pack, unpack
from agent.model import Battery, BatteryRead, DeviceState, Platform, SilenceKind, SourceName
from agent.service.devices import Devices
from agent.service.fleet_leases import FleetLeaseDesk
from agent.service.fleet_silences import FleetSilenceDesk
from agent.service.leases import LeaseDesk, candidate, candidates
from agent.service.silences import SilenceDesk
from agent.track.views import Census
from agent.usage.leases import Leases
from tests.fleet.agent_side import fleet_of, own_of
from tests.kit.broker import Broker
from tests.kit.settings import section
from tests.kit.tracking import adb, house, usb
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.config import UsageSection
    from agent.fleet.link import Incoming, Link
    from agent.track.views import DeviceView
    from tests.kit.tracking import House

PHONES = {"rack-1": "AB", "rack-2": "CD"}


class Agent:
    """One host: its desks, and its end of the broker."""

    def __init__(self, host: str, made: House, link: Link, hub: Hub) -> None:
        self.host = host
        self.made = made
        self.link = link
        self.hub = hub
        self.leases = Leases(
            made.store.leases,
            self._changed,
            candidates=partial(candidates, made.pipeline),
            candidate=partial(candidate, made.pipeline),
            clock=LoopClock(),
        )
        devices = Devices(made.pipeline, host)
        self.lease_desk = LeaseDesk(self.leases, devices)
        self.silence_desk = SilenceDesk(made.silences, devices, made.pipeline)
        self.bad: list[str] = []
        own = own_of(made.store, leases=self.lease_desk, silences=self.silence_desk)
        self.commands = Commands(own, self.bad.append)

    async def listen(self) -> None:
        await self.link.subscribe(subjects.command(self.host), self.commands.take)
        await self.link.subscribe(subjects.cancel(self.host), self.commands.cancel)

    def _changed(self, udid: str) -> None:
        asyncio.get_running_loop().call_soon(self.hub.leases.changed, udid)

    async def die(self) -> None:
        """Returns once the broker knows."""
        await self.commands.close(1.0)
        await self.link.close()
        for _ in range(200):
            try:
                assert self.hub.link is not None
                await self.hub.link.request(subjects.command(self.host), b"", 0.1)
            except NobodyError:
                return
            except LinkError:
                continue
        raise AssertionError("it is there still")

    def views(self) -> list[DeviceView]:
        return [replace(each, host=self.host) for each in self.made.pipeline.views.all()]


class Hub:
    """The hub's desks, over what the agents have this moment."""

    def __init__(self, link: Link) -> None:
        self.link: Link | None = link
        self.agents: dict[str, Agent] = {}
        self.presence: dict[str, Presence] = {}
        directory = Directory(cast("Any", SimpleNamespace(core=self)))
        tracker = cast("Any", SimpleNamespace(views=self, roster=self))
        devices = Devices(tracker, "hub")
        self.remote = Remote(lambda: self.link, directory)
        clock = LoopClock()
        self.leases = FleetLeaseDesk(self.remote, directory, devices, cast("Any", self), clock)
        self.silences = FleetSilenceDesk(self.remote, directory, devices, clock)

    # What the directory asks.
    @property
    def hosts(self) -> dict[str, Host]:
        hosts = {name: Host(name) for name in self.agents}
        for name, host in hosts.items():
            host.presence = self.presence.get(name, Presence.ALIVE)
        return hosts

    @property
    def board(self) -> Any:
        phones = {
            serial: SimpleNamespace(owner=host, serial=serial)
            for host, serials in PHONES.items()
            for serial in serials
        }
        return SimpleNamespace(phones=phones)

    @property
    def latest(self) -> dict[str, Any]:
        return {
            name: SimpleNamespace(
                leases=agent.lease_desk.rows(), silences=agent.silence_desk.rows()
            )
            for name, agent in self.agents.items()
        }

    # What the views are asked.
    def all(self) -> list[DeviceView]:
        return [view for agent in self.agents.values() for view in agent.views()]

    def one(self, udid: str) -> DeviceView | None:
        return next((each for each in self.all() if each.udid == udid), None)

    def udids(self) -> list[str]:
        return [each.udid for each in self.all()]

    def called(self, name: str) -> list[str]:
        return [each.udid for each in self.all() if each.name == name]

    def census(self) -> Census:
        return Census({(None, DeviceState.ONLINE): len(self.all())}, 0, 0)

    def named(self, text: str) -> tuple[str, ...]:
        return tuple(each.udid for each in self.all() if each.udid == text.upper())


@asynccontextmanager
async def fleet(tmp_path: Path) -> AsyncIterator[Hub]:
    broker = await Broker(tmp_path / "broker").start()
    async with AsyncExitStack() as stack:
        stack.callback(broker.close)
        hub = Hub(await dial(fleet_of(broker.url)))
        stack.push_async_callback(lambda: hub.link.close() if hub.link else asyncio.sleep(0))
        for host, serials in PHONES.items():
            (tmp_path / host).mkdir()
            made = await stack.enter_async_context(house(tmp_path / host))
            link = await dial(fleet_of(broker.url))
            agent = hub.agents[host] = Agent(host, made, link, hub)
            stack.push_async_callback(agent.leases.close)
            stack.push_async_callback(link.close)
            stack.push_async_callback(agent.commands.close, 1.0)
            for number, serial in enumerate(serials, start=1):
                made.see(usb(serial, f"1-{number}"), adb(serial, f"1-{number}"))
            made.wait(60)
            await made.pipeline.commits.drain()
            await agent.listen()
        yield hub
        assert hub.remote.under_way == 0
        assert [agent.bad for agent in hub.agents.values()] == [[], []]


async def test_a_lease_is_the_agents_and_bears_its_host(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        row = await hub.leases.acquire("c", "bob", "a  test", 30.0)
        assert (row["udid"], row["host"], row["holder"], row["purpose"], row["platform"]) == (
            *("C", "rack-2", "bob", "a test"),
            Platform.ANDROID,
        )
        there = hub.agents["rack-2"].lease_desk.rows()
        assert row["id"] == f"{there[0]['id']}~rack-2"
        assert hub.leases.rows() == [hub.leases.of("C")]
        again = await hub.leases.renew(row["id"])
        assert (again["id"], again["expires"] >= row["expires"]) == (row["id"], True)
        await hub.leases.release(row["id"])
        assert (hub.leases.rows(), hub.agents["rack-2"].leases.all()) == ([], [])
        with pytest.raises(
            UnknownLeaseError, match=r"rack-2: no lease '[0-9a-f]+': it was released"
        ):
            await hub.leases.renew(row["id"])


async def test_errors_are_the_agents_and_name_it(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        await hub.leases.acquire("A", "bob", "", 30.0)
        with pytest.raises(DeviceHeldError, match="rack-1: A is held by bob"):
            await hub.leases.acquire("A", "eve", "", 30.0)
        with pytest.raises(UnknownDeviceError, match="no device 'X'"):
            await hub.leases.acquire("X", "eve", "", 30.0)
        with pytest.raises(LeaseError, match="ttl is 1 to 86400"):
            await hub.leases.acquire("A", "eve", "", 0.1)
        for id_ in ("", "abc", "abc~rack-9", "~"):
            with pytest.raises(UnknownLeaseError, match="ID~HOST"):
                await hub.leases.renew(id_)
        taken = await hub.leases.acquire("A", "eve", "", 30.0, steal="release day")
        assert taken["taken_from"] == "bob: release day"
        hub.agents["rack-1"].leases.reconfigure(_no_leases())
        with pytest.raises(LeasesOffError, match="rack-1: "):
            await hub.leases.acquire("B", "eve", "", 30.0)


async def test_what_is_out_of_bounds_is_the_callers_mistake(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        for bad, words in (
            ({"holder": "x" * 513}, "holder: .* at most 512"),
            ({"purpose": "x" * 10_001}, "purpose: .* at most 10000"),
            ({"steal": "x" * 513}, "steal: .* at most 512"),
        ):
            asked: dict[str, Any] = {"holder": "bob", "purpose": "", "ttl": 30.0, **bad}
            with pytest.raises(BadRequestError, match=words):
                await hub.leases.acquire("A", **asked)
        for ask in (hub.leases.renew, hub.leases.release):
            with pytest.raises(BadRequestError, match=r"id: .* at most 512"):
                await ask("x" * 513 + "~rack-1")
        ends_ms = hub.silences.now_ms + 60_000
        with pytest.raises(BadRequestError, match=r"by: .* at most 512"):
            await hub.silences.add(SilenceKind.ALL, "", "x", ends_ms, "b" * 513)


def _no_leases() -> UsageSection:
    from agent.config import UsageSection  # noqa: PLC0415 - here alone

    return section(UsageSection, leases=False)


async def test_who_waits_is_served_by_the_agent(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        first = await hub.leases.acquire("A", "bob", "", 30.0)
        second = asyncio.create_task(hub.leases.acquire("A", "eve", "", 30.0, wait=60.0))
        await eventually(lambda: hub.agents["rack-1"].leases.waiting == 1)
        await hub.leases.release(first["id"])
        assert (await second)["holder"] == "eve"


async def test_who_hangs_up_holds_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        agent = hub.agents["rack-1"]
        first = await hub.leases.acquire("A", "bob", "", 30.0)
        second = asyncio.create_task(hub.leases.acquire("A", "eve", "", 30.0, wait=60.0))
        await eventually(lambda: agent.leases.waiting == 1)
        second.cancel()
        await eventually(lambda: agent.leases.waiting == 0)
        await hub.leases.release(first["id"])
        assert agent.leases.all() == []


async def test_any_device_of_any_host_the_one_used_longest_ago(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        given = [await hub.leases.acquire(None, "bob", "", 30.0) for _ in range(4)]
        assert sorted(each["udid"] for each in given) == ["A", "B", "C", "D"]
        with pytest.raises(DeviceHeldError, match="of 4 that fit none is free: A is held by bob"):
            await hub.leases.acquire(None, "eve", "", 30.0)
        with pytest.raises(UnknownDeviceError, match="any device ios: no device fits"):
            await hub.leases.acquire(None, "eve", "", 30.0, platform=Platform.IOS)
        waiting = [
            asyncio.create_task(hub.leases.acquire(None, who, "", 30.0, wait=60.0))
            for who in ("eve", "ann")
        ]
        await eventually(lambda: hub.leases.waiting == 2)
        for each in given[2:]:
            await hub.leases.release(each["id"])
        got = await asyncio.gather(*waiting)
        assert [each["udid"] for each in got] == [each["udid"] for each in given[2:]]
        with pytest.raises(DeviceHeldError, match=r"waited 0.2 s: any device: of 4"):
            await hub.leases.acquire(None, "eve", "", 30.0, wait=0.2)
        assert hub.leases.waiting == 0


async def test_any_device_goes_to_hot_and_empty_ones_last(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        tired = {"rack-1": ("A", Battery(3)), "rack-2": ("C", Battery(80, 60.0))}
        for host, (udid, battery) in tired.items():
            read = BatteryRead(SourceName.ADB, udid, battery)
            hub.agents[host].made.pipeline.observe(read)
        given = [await hub.leases.acquire(None, "bob", "", 30.0) for _ in range(4)]
        assert [each["udid"] for each in given] == ["B", "D", "A", "C"]


async def test_a_host_that_does_not_answer_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path) as hub:
        await hub.agents["rack-1"].die()
        with pytest.raises(HostUnreachableError, match="rack-1 is not connected: is its agent"):
            await hub.leases.acquire("A", "bob", "", 30.0)
        given = [await hub.leases.acquire(None, "bob", "", 30.0) for _ in range(2)]
        assert [each["host"] for each in given] == ["rack-2", "rack-2"], "the others are tried"
        with pytest.raises(DeviceHeldError, match="rack-1 is not connected"):
            await hub.leases.acquire(None, "bob", "", 30.0)
        hub.presence["rack-2"] = Presence.LOST
        with pytest.raises(HostUnreachableError, match="rack-2 is lost"):
            await hub.leases.renew(given[0]["id"])
        # One that hears it and says nothing.
        hub.presence.clear()
        monkeypatch.setattr(remote_module, "REPLY", 0.1)
        assert hub.link is not None
        await hub.link.subscribe(subjects.command("rack-1"), lambda _: None)
        withdrawn: list[Incoming] = []
        await hub.link.subscribe(subjects.cancel("rack-1"), withdrawn.append)
        with pytest.raises(HostUnreachableError, match="rack-1 did not answer in time"):
            await hub.leases.acquire("A", "bob", "", 30.0)
        await eventually(lambda: withdrawn)
        link, hub.link = hub.link, None
        with pytest.raises(HostUnreachableError, match="this hub is not connected to the broker"):
            await hub.leases.acquire("A", "bob", "", 30.0)
        hub.link = link


async def test_a_host_that_is_lost_during_a_long_wait_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "LOOK", 0.05)
    async with fleet(tmp_path) as hub:
        await hub.leases.acquire("A", "bob", "", 30.0)
        second = asyncio.create_task(hub.leases.acquire("A", "eve", "", 30.0, wait=60.0))
        await eventually(lambda: hub.agents["rack-1"].leases.waiting == 1)
        hub.presence["rack-1"] = Presence.LOST
        with pytest.raises(HostUnreachableError, match="rack-1 is lost"):
            await second


async def test_a_tied_lease_ends_with_its_connection_or_is_told_of_its_end(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        agent = hub.agents["rack-1"]
        row = await hub.leases.acquire("A", "bob", "", 30.0)
        assert hub.leases.tie(row["id"])["id"] == row["id"]
        assert await hub.leases.ended(row["id"], 0.01) is None
        await hub.leases.untie(row["id"], stopping=False)
        assert agent.leases.all() == []
        row = await hub.leases.acquire("A", "bob", "", 30.0)
        hub.leases.tie(row["id"])
        watching = asyncio.create_task(hub.leases.ended(row["id"], 60.0))
        await asyncio.sleep(0)
        await hub.leases.acquire("A", "eve", "", 30.0, steal="release day")
        assert await watching == "it was taken by eve: release day"
        await hub.leases.untie(row["id"], stopping=False)
        (left,) = agent.leases.all()
        assert left.holder == "eve"
        with pytest.raises(UnknownLeaseError):
            hub.leases.tie("abc~rack-1")


async def test_a_hub_that_stops_leaves_it_for_its_ttl(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        row = await hub.leases.acquire("A", "bob", "", 30.0)
        hub.leases.tie(row["id"])
        await hub.leases.untie(row["id"], stopping=True)
        assert len(hub.agents["rack-1"].leases.all()) == 1


async def test_a_tied_lease_outlives_a_broker_that_is_away_for_less_than_its_ttl(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as hub:
        row = await hub.leases.acquire("A", "bob", "", 2.0)
        hub.leases.tie(row["id"])
        link, hub.link = hub.link, None
        assert (await hub.leases.renew(row["id"]))["id"] == row["id"]
        assert await hub.leases.ended(row["id"], 0.01) is None
        hub.link = link
        await hub.leases.renew(row["id"])
        hub.link = None
        tied = hub.leases._tied[row["id"]]
        tied.renewed_at -= 2.0
        await hub.leases.renew(row["id"])
        assert await hub.leases.ended(row["id"], 1.0) == "rack-1 could not be reached for 2 s"
        await hub.leases.untie(row["id"], stopping=False)
        hub.link = link


# --- silences ----------------------------------------------------------------------------------


async def silence(hub: Hub, kind: SilenceKind, value: str = "") -> Any:
    return await hub.silences.add(kind, value, "repairs", hub.silences.now_ms + 60_000, "ann")


async def test_a_silence_is_every_hosts_under_one_id(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        row = await silence(hub, SilenceKind.ALL)
        assert (row["kind"], row["devices"], row["reason"], row["by"]) == (
            *("all", 4, "repairs"),
            "ann",
        )
        assert hub.silences.rows() == [row]
        for agent in hub.agents.values():
            (there,) = agent.silence_desk.rows()
            assert there["id"] == row["id"]
        assert (await hub.silences.end(row["id"], "ann"))["devices"] == 4
        assert hub.silences.rows() == []
        with pytest.raises(UnknownSilenceError):
            await hub.silences.end(row["id"], "ann")
        with pytest.raises(UnknownSilenceError):
            await hub.silences.end("no id", "ann")


async def test_a_silence_of_a_device_or_a_port_is_one_hosts(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        one = await silence(hub, SilenceKind.DEVICE, "c")
        port = await silence(hub, SilenceKind.HUB, "rack-1/1-2")
        assert (one["value"], port["value"], port["devices"]) == ("C", "rack-1/1-2", 1)
        assert [len(each.silence_desk.rows()) for each in hub.agents.values()] == [1, 1]
        assert {each["value"] for each in hub.silences.rows()} == {"C", "rack-1/1-2"}
        for wrong in ("1-2", "rack-9/1-2"):
            with pytest.raises(SilenceError, match=r"is HOST/PORT, such as rack-1/1-4\.2"):
                await silence(hub, SilenceKind.HUB, wrong)
        with pytest.raises(SilenceError):
            await silence(hub, SilenceKind.HUB, "rack-1/nonsense")
        await hub.silences.end(port["id"], "ann")
        assert hub.silences.rows() == [one]


async def test_a_silence_counts_at_all_hosts_or_at_none(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        kept = await silence(hub, SilenceKind.ALL)
        await hub.agents["rack-2"].die()
        with pytest.raises(
            HostUnreachableError,
            match="nothing is silenced, for rack-2 did not do it: rack-2 is not connected: is its",
        ):
            await silence(hub, SilenceKind.TAG, "x")
        assert [each["id"] for each in hub.agents["rack-1"].silence_desk.rows()] == [kept["id"]]
        with pytest.raises(
            HostUnreachableError,
            match=f"silence {kept['id']} lasts on at rack-2: .* it has ended at rack-1. End it ag",
        ):
            await hub.silences.end(kept["id"], "ann")
        assert hub.agents["rack-1"].silence_desk.rows() == []


async def test_a_host_that_is_gone_keeps_no_other_from_being_silenced(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        await hub.agents["rack-1"].die()
        for presence in (Presence.UNHEARD, Presence.LOST):
            hub.presence["rack-1"] = presence
            with pytest.raises(HostUnreachableError, match="rack-1"):
                await silence(hub, SilenceKind.ALL)
        hub.presence["rack-1"] = Presence.GONE
        row = await silence(hub, SilenceKind.ALL)
        assert [each["id"] for each in hub.agents["rack-2"].silence_desk.rows()] == [row["id"]]
        with pytest.raises(HostUnreachableError, match="rack-1"):
            await silence(hub, SilenceKind.DEVICE, "A")
        hub.presence["rack-2"] = Presence.GONE
        with pytest.raises(HostUnreachableError, match="rack-1"):
            await silence(hub, SilenceKind.ALL)


async def test_what_a_host_had_lent_is_free_where_its_phone_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path) as hub:
        await hub.leases.acquire("A", "bob", "", 30.0)
        assert hub.leases.of("A") is not None
        monkeypatch.setitem(PHONES, "rack-1", "B")
        monkeypatch.setitem(PHONES, "rack-2", "ACD")
        assert hub.leases.of("A") is None


async def test_what_a_host_that_is_gone_told_last_is_not_in_force(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        await hub.leases.acquire("A", "bob", "", 30.0)
        await silence(hub, SilenceKind.DEVICE, "A")
        hub.presence["rack-1"] = Presence.LOST
        assert (len(hub.leases.rows()), len(hub.silences.rows())) == (1, 1)
        hub.presence["rack-1"] = Presence.GONE
        assert (hub.leases.rows(), hub.silences.rows()) == ([], [])


async def test_rows_that_make_no_sense_are_left_out_or_said(tmp_path: Path) -> None:
    async with fleet(tmp_path) as hub:
        await hub.agents["rack-2"].die()
        assert hub.link is not None
        answers = iter([b"?", pack(Answer(result=5)), pack(Answer(result={"id": 5}))])
        asked: list[Command] = []

        def odd(message: Incoming) -> None:
            asked.append(unpack(Command, message.body, ""))
            assert message.reply is not None
            tasks.append(asyncio.ensure_future(message.reply(next(answers))))

        tasks: list[asyncio.Future[None]] = []
        await hub.link.subscribe(subjects.command("rack-2"), odd)
        for _ in range(3):
            with pytest.raises(AgentError, match=r"rack-2 .* makes no sense"):
                await hub.leases.acquire("C", "bob", "", 30.0, caller="ann")
        assert {each.caller for each in asked} == {"ann"}
        assert len({each.id for each in asked}) == 3


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), -1.0, 10**400, "NaN", None])
def test_a_lease_that_json_cannot_tell_is_left_out(ttl: object) -> None:
    now = "2026-01-01T00:00:00Z"
    good: dict[str, Any] = {
        "id": "a",
        "udid": "A",
        "platform": "android",
        "holder": "bob",
        "purpose": "p" * 20_000,
        "since": now,
        "ttl": 30.0,
        "expires": now,
        "taken_from": "",
    }
    snapshot = SimpleNamespace(leases=(good, {**good, "id": "b", "ttl": ttl}))
    core = SimpleNamespace(
        latest={"rack-1": snapshot},
        hosts={"rack-1": Host("rack-1")},
        board=SimpleNamespace(phones={}),
    )
    directory = Directory(cast("Any", SimpleNamespace(core=core)))
    none = cast("Any", None)
    (row,) = FleetLeaseDesk(none, directory, none, none, LoopClock()).rows()
    assert (row["id"], row["ttl"], len(row["purpose"])) == ("a~rack-1", 30.0, 10_000)

"""The broker's configurations that come with the agent: who may do what, on real servers.

They are used as they are, but for addresses and the store; and without `sync_interval` where the
server is too old for it, as they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.config.model import Fleet
from agent.fleet import subjects
from agent.fleet.broker_link import BrokerLink
from agent.fleet.link import LinkError, NobodyError, Stream
from agent.fleet.nats_link import dial
from tests.fakes.ports import free_ports
from tests.fleet.conformance import answered
from tests.fleet.heard import Heard
from tests.fleet.linking import insisted
from tests.kit.broker import BUNDLED, ROOT, Broker
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.fleet.link import Incoming, Link

TRANSITIONS = Stream(subjects.TRANSITIONS, (subjects.ALL_TRANSITIONS,), 3600.0, 1 << 24)
DONE = Stream(subjects.DONE, (subjects.DONE_SUBJECT,), 3600.0, 1 << 24)


def configuration(binary: Path) -> str:
    """Of one server."""
    text = (ROOT / "config/nats.conf").read_text()
    assert "sync_interval: always" in text
    for old, new in (
        ('"0.0.0.0:4222"', '"127.0.0.1:{port}"'),
        ('"127.0.0.1:8222"', '"127.0.0.1:{monitor}"'),
        ('"/var/lib/nats"', '"{store}"'),
        *([("  sync_interval: always\n", "")] if binary != BUNDLED else []),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def joined(*ports: int, user: str, host: str = "", role: str = "agent") -> Fleet:
    """As who is in the file."""
    urls = [f"nats://{user}:change-this-of-{_whose(user)}@127.0.0.1:{port}" for port in ports]
    return Fleet.model_validate({"servers": urls, "host": host or user, "role": role})


def _whose(user: str) -> str:
    return f"the-{user}" if user == "hub" else user


@pytest.fixture
async def broker(tmp_path: Path, binary: Path) -> AsyncIterator[Broker]:
    server = Broker(tmp_path / "n1", binary, config=configuration(binary))
    try:
        yield await server.start()
    finally:
        server.close()


async def _closing(fleet: Fleet) -> AsyncIterator[Link]:
    link = await dial(fleet)
    yield link
    await link.close()


@pytest.fixture
async def hub(broker: Broker) -> AsyncIterator[Link]:
    """The hub's, with all that it makes there."""
    async for link in _closing(joined(broker.port, user="hub", host="hub-1", role="hub")):
        await link.make_stream(TRANSITIONS)
        await link.make_stream(DONE)
        await link.make_bucket(subjects.HOSTS)
        await link.make_bucket(subjects.HUB)
        yield link


@pytest.fixture
async def rack(broker: Broker, hub: Link) -> AsyncIterator[Link]:
    """That of rack-1."""
    async for link in _closing(joined(broker.port, user="rack-1")):
        yield link


@pytest.fixture
async def other(broker: Broker, hub: Link) -> AsyncIterator[Link]:
    """That of rack-2."""
    async for link in _closing(joined(broker.port, user="rack-2")):
        yield link


async def test_an_agent_does_all_that_it_does(hub: Link, rack: Link) -> None:
    transitions, beats, snapshots = Heard(), Heard(), Heard()
    await hub.follow(subjects.TRANSITIONS, subjects.ALL_TRANSITIONS, 0, transitions)
    await hub.subscribe(subjects.ALL_BEATS, beats)
    await hub.watch(subjects.HOSTS, snapshots)

    with pytest.raises(NobodyError):
        await rack.request(subjects.who("rack-1"), b"?", LIMIT)
    asked = Heard()
    for subject in (
        subjects.who("rack-1"),
        subjects.ack("rack-1"),
        subjects.since("rack-1"),
        subjects.snapshot("rack-1"),
        subjects.command("rack-1"),
        subjects.cancel("rack-1"),
        subjects.beat("rack-1"),
    ):
        await rack.subscribe(subject, asked)
    await rack.put(subjects.HOSTS, "rack-1", b"snapshot")
    assert await rack.append(subjects.t("rack-1"), b"transition", "rack-1:1:1") == 1
    await rack.publish(subjects.beat("rack-1"), b"beat")
    await transitions.body(b"transition")
    await beats.body(b"beat")
    await snapshots.body(b"snapshot")
    assert snapshots.messages[0].subject == "rack-1"
    await hub.publish(subjects.ack("rack-1"), b"ack")
    await hub.publish(subjects.cancel("rack-1"), b"cancel")
    await asked.body(b"ack")
    await asked.body(b"cancel")


async def test_an_agent_answers_whoever_may_ask_it(broker: Broker, hub: Link, rack: Link) -> None:
    answers: set[asyncio.Task[None]] = set()

    def answer(request: Incoming) -> None:
        answers.add(asyncio.ensure_future(answered(request, b"re: " + request.body)))

    for of in (subjects.since, subjects.snapshot, subjects.command, subjects.who):
        await rack.subscribe(of("rack-1"), answer)
    for of in (subjects.since, subjects.snapshot, subjects.command):
        assert await hub.request(of("rack-1"), b"1", LIMIT) == b"re: 1"
    async for twin in _closing(joined(broker.port, user="rack-1")):
        assert await twin.request(subjects.who("rack-1"), b"2", LIMIT) == b"re: 2"
    await asyncio.gather(*answers)


async def test_the_hub_does_all_that_it_does(hub: Link) -> None:
    done, beats = Heard(), Heard()
    await hub.subscribe(subjects.ALL_HUB_BEATS, beats)
    await hub.publish(subjects.hub_beat("i"), b"beat")
    await beats.body(b"beat")
    await hub.follow(subjects.DONE, subjects.DONE_SUBJECT, 0, done)
    for number in range(3000):
        await hub.append(subjects.DONE_SUBJECT, b"%d" % number + bytes(1000), f"{number}")
    await done.until(3000)
    assert (await hub.last_number(subjects.DONE))[1] == 3000
    first = await hub.swap(subjects.HUB, subjects.LEADER, b"1", 0)
    assert first is not None
    assert await hub.swap(subjects.HUB, subjects.LEADER, b"2", first) is not None
    entry = await hub.get(subjects.HUB, subjects.LEADER)
    assert entry is not None
    assert entry.value == b"2"


async def test_the_hub_forgets_a_host(hub: Link, rack: Link) -> None:
    await rack.put(subjects.HOSTS, "rack-1", b"snapshot")
    assert await hub.remove(subjects.HOSTS, "rack-1")
    assert await hub.get(subjects.HOSTS, "rack-1") is None


NOT_TO_PUBLISH = (
    subjects.t("rack-2"),
    subjects.t("nobody"),
    subjects.beat("rack-2"),
    subjects.hub_beat("i"),
    subjects.who("rack-2"),
    subjects.ack("rack-1"),
    subjects.ack("rack-2"),
    subjects.command("rack-2"),
    subjects.DONE_SUBJECT,
    "$KV.da_hosts.rack-2",
    "$KV.da_hub.leader",
    "_INBOX.agent.rack-2.x",
    *(
        f"$JS.API.{name}"
        for name in (
            "INFO",
            "STREAM.NAMES",
            "STREAM.INFO.DA_TRANSITIONS",
            "STREAM.CREATE.X",
            "STREAM.UPDATE.DA_TRANSITIONS",
            "STREAM.DELETE.DA_TRANSITIONS",
            "STREAM.PURGE.KV_da_hosts",
            "STREAM.MSG.GET.KV_da_hosts",
            "STREAM.MSG.DELETE.DA_TRANSITIONS",
            "DIRECT.GET.KV_da_hosts.$KV.da_hosts.rack-2",
            "CONSUMER.CREATE.DA_TRANSITIONS.x.da.v1.t.*",
        )
    ),
)
NOT_TO_HEAR = (
    ">",
    "da.v1.>",
    subjects.command("rack-2"),
    "da.v1.h.*.command",
    subjects.ALL_TRANSITIONS,
    subjects.t("rack-2"),
    subjects.ALL_BEATS,
    subjects.beat("rack-2"),
    subjects.ALL_HUB_BEATS,
    subjects.DONE_SUBJECT,
    "$KV.>",
    "$JS.API.>",
    "_INBOX.>",
    "_INBOX.hub.>",
    "_INBOX.agent.rack-2.>",
)


async def test_an_agent_touches_what_bears_its_name_alone(hub: Link, rack: Link) -> None:
    assert isinstance(rack, BrokerLink)
    heard = Heard()
    await hub.subscribe("da.v1.>", heard)
    for subject in NOT_TO_PUBLISH:
        with pytest.raises(LinkError, match="does not allow this user to publish"):
            await rack._wire.ask(subject, b"forged", LIMIT)
    for subject in NOT_TO_HEAR:
        with pytest.raises(LinkError, match="does not allow this user to subscribe"):
            await rack.subscribe(subject, Heard())
    await rack.publish(subjects.beat("rack-1"), b"last")
    await heard.body(b"last")
    assert heard.bodies == [b"last"]
    assert (await hub.last_number(subjects.TRANSITIONS))[1] == 0


async def test_an_answer_opens_no_door(hub: Link, rack: Link) -> None:
    """Asking itself for an answer to somewhere else does not let it publish there."""
    assert isinstance(rack, BrokerLink)
    asked, forged = Heard(), Heard()
    await rack.subscribe(subjects.who("rack-1"), asked)
    await hub.subscribe(subjects.ALL_TRANSITIONS, forged)
    with capture_logs() as lines:
        await rack._wire.send(subjects.who("rack-1"), b"", reply=subjects.t("rack-2"))
        (request,) = await asked.until(1)
        await answered(request, b"forged")
        await rack.append(subjects.t("rack-1"), b"true", "1")
    await forged.body(b"true")
    assert forged.bodies == [b"true"]
    assert [line["event"] for line in lines] == ["fleet.not_allowed"]


async def test_the_hub_deletes_nothing(hub: Link) -> None:
    assert isinstance(hub, BrokerLink)
    for name in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE"):
        with pytest.raises(LinkError, match="does not allow"):
            await hub._wire.ask(f"$JS.API.{name}.{subjects.TRANSITIONS}", b"", LIMIT)


async def test_a_stranger_is_not_let_in(broker: Broker) -> None:
    for url in (broker.url, f"nats://rack-1:guessed@127.0.0.1:{broker.port}"):
        with pytest.raises(LinkError, match="does not let us in"):
            await dial(Fleet.model_validate({"servers": [url], "host": "rack-1"}))


@contextlib.asynccontextmanager
async def three(tmp_path: Path, binary: Path) -> AsyncIterator[list[Broker]]:
    """As nats-cluster.conf and nats.conf have them."""
    text = (ROOT / "config/nats-cluster.conf").read_text()
    ports = free_ports(3)
    servers = []
    for number, port in enumerate(ports, 1):
        mine = text
        for other_number, other_port in enumerate(ports, 1):
            mine = mine.replace(f"10.0.0.{6 + other_number}:6222", f"127.0.0.1:{other_port}")
        mine = mine.replace("0.0.0.0:6222", f"127.0.0.1:{port}").replace("nats-1", f"nats-{number}")
        assert not re.search(r"6222|10\.0\.0|0\.0\.0\.0", re.sub("(?m)^ *#.*", "", mine))
        server = Broker(tmp_path / f"n{number}", binary, size=3, config=mine)
        shared = configuration(binary)
        for key, value in (
            ("{port}", server.port),
            ("{monitor}", server.monitor),
            ("{store}", server.store),
        ):
            shared = shared.replace(key, str(value))
        (server.place / "nats.conf").write_text(shared)
        servers.append(server)
    try:
        for each in servers:
            each.launch()
        for each in servers:
            await each.ready(2 * LIMIT)
        yield servers
    finally:
        for each in servers:
            each.close()


async def test_three_brokers(tmp_path: Path, binary: Path) -> None:
    async with three(tmp_path, binary) as servers:
        urls = [each.port for each in servers]
        async for hub in _closing(joined(*urls, user="hub", host="hub-1", role="hub")):
            await insisted(partial(hub.make_stream, TRANSITIONS))
            assert isinstance(hub, BrokerLink)
            info = await insisted(partial(hub._jetstream.info, subjects.TRANSITIONS))
            assert info["config"]["num_replicas"] == 3
        async for rack in _closing(joined(*urls, user="rack-1")):
            assert await insisted(partial(rack.append, subjects.t("rack-1"), b"1", "1")) == 1


@pytest.mark.long
async def test_a_broker_that_hangs_is_dropped_by_the_others_and_comes_back(
    tmp_path: Path, binary: Path
) -> None:
    """Or else what was sent to it meanwhile can keep it deaf for a minute after it goes on."""
    async with three(tmp_path, binary) as (hangs, *others):
        hangs.stop()
        for each in others:
            await eventually(lambda each=each: "Stale Connection" in each.log, limit=2 * LIMIT)  # type: ignore[misc] # binds it
        hangs.go_on()
        await hangs.ready()
        async for hub in _closing(joined(hangs.port, user="hub", host="hub-1", role="hub")):
            for each in others:
                heard = Heard()
                await hub.subscribe(subjects.ALL_BEATS, heard)
                async for rack in _closing(joined(each.port, user="rack-1")):
                    async with asyncio.timeout(LIMIT):
                        while not heard.messages:
                            await rack.publish(subjects.beat("rack-1"), b"")
                            await asyncio.sleep(0.05)

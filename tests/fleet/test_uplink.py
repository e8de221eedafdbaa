"""The agent's uplink over a real broker: what happens to the log, to the name, to a connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from agent.fleet import subjects
from agent.fleet.nats_link import dial
from agent.fleet.words import Heartbeat, HostSnapshot, unpack
from tests.fleet.agent_side import HOST, Hub, agent, fleet_of
from tests.fleet.linking import NotingDial
from tests.fleet.test_nats_conf import configuration, joined
from tests.kit.broker import BUNDLED, Broker
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from pathlib import Path


def ids(hub: Hub) -> list[int]:
    return [each.id for each in hub.taken]


async def test_what_happens_is_told_stored_there_and_acknowledged(
    broker: Broker, tmp_path: Path
) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: made.status.connected and hub.snapshots)
        await made.happen(30)
        await eventually(lambda: ids(hub) == list(range(1, 31)))
        await eventually(lambda: made.status.unacked == 0)
        assert hub.pulled == 0  # the stream was enough
        told = hub.taken[8]
        assert (told.host, told.device.udid, told.device.event) == (HOST, "phone-1", 9)
        assert (told.device.reason, told.device.since_ms, told.previous) == ("turn 9", 9, "online")
        await eventually(lambda: made.status.snapshot_bytes)
        assert made.status.acked_ms
        assert hub.link is not None
        async with asyncio.timeout(LIMIT):
            while True:
                entry = await hub.link.get(subjects.HOSTS, HOST)
                assert entry is not None
                found = unpack(HostSnapshot, entry.value, "")
                if found.through == 30:
                    break
        assert (found.epoch, found.host) == (hub.epoch, HOST)
    await hub.stop()


async def test_days_without_a_hub_lose_nothing(broker: Broker, tmp_path: Path) -> None:
    """Neither hub nor streams: what happens waits in the store, over restarts of both sides."""
    fleet = fleet_of(broker.url)
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: made.status.connected)
        await made.happen(40)
        await eventually(lambda: "no stream takes" in made.status.error)
        await eventually(lambda: made.status.unacked == 40)
    async with agent(tmp_path / "a", fleet) as made:
        await made.happen(10)
        hub = Hub(fleet)
        hub.epoch = (await made.store.log.state()).epoch  # it knew this agent before
        await hub.start()
        await eventually(lambda: ids(hub) == list(range(1, 51)))
        await eventually(lambda: made.status.unacked == 0)
    await hub.stop()


async def test_ten_thousand_transitions_while_the_broker_is_away(
    broker: Broker, tmp_path: Path
) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet) as made:
        await made.happen(5)
        await eventually(lambda: made.status.unacked == 0 and made.status.acked_ms)
        await hub.stop()
        broker.kill()
        await eventually(lambda: not made.status.connected)
        for _ in range(10):
            await made.happen(1000)
        await eventually(lambda: made.status.unacked == 10_000)
        broker.wipe()
        await broker.start()
        again = Hub(fleet)
        again.epoch, again.cursor = hub.epoch, hub.cursor
        await again.start()
        await eventually(lambda: made.status.unacked == 0, limit=60)
        assert ids(again) == list(range(hub.cursor + 1, 10_006))
        assert made.status.reconnects >= 1
        await again.stop()


async def test_a_broker_that_is_killed_again_and_again(broker: Broker, tmp_path: Path) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: hub.snapshots)
        for turn in range(3):
            await made.happen(50)
            if turn == 1:
                await eventually(lambda hub=hub: hub.cursor >= 60)  # type: ignore[misc] # binds it
            await hub.stop()
            await broker.restart(wipe=turn == 1)
            before, hub = hub, Hub(fleet)
            hub.epoch, hub.cursor, hub.taken = before.epoch, before.cursor, before.taken
            await hub.start()
        await eventually(lambda: made.status.unacked == 0 and hub.cursor == 150, limit=60)
        assert ids(hub) == list(range(1, 151))
    await hub.stop()


async def test_a_broker_that_was_lost_is_named_when_the_next_one_is_dialled(
    broker: Broker, tmp_path: Path
) -> None:
    noting = NotingDial()
    async with agent(tmp_path / "a", fleet_of(broker.url), noting) as made:
        await eventually(lambda: made.status.connected)
        await broker.restart()
        await eventually(lambda: made.status.reconnects == 1)
    assert noting.lost[0] == ""
    assert set(noting.lost[1:]) == {broker.url}


async def test_the_stream_deleted_in_mid_run(broker: Broker, tmp_path: Path) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: hub.snapshots)
        await made.happen(20)
        await eventually(lambda: hub.cursor == 20)
        link = await dial(fleet)
        await link.request(f"$JS.API.STREAM.DELETE.{subjects.TRANSITIONS}", b"", 5.0)
        await link.close()
        await made.happen(20)
        await eventually(lambda: hub.cursor == 40)  # by its heartbeats
        await eventually(lambda: made.status.unacked == 0)
        assert ids(hub) == list(range(1, 41))
        assert hub.pulled
    await hub.stop()


async def test_acknowledgements_move_forward_only(broker: Broker, tmp_path: Path) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    hub.acks = False
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: hub.snapshots)
        await made.happen(10)
        await eventually(lambda: hub.cursor == 10)
        hub.acks = True
        for through, stored in ((7, 7), (3, 7), (9, 9)):
            hub.cursor = through
            await hub._acknowledge()
            await eventually(lambda left=10 - stored: made.status.unacked == left)  # type: ignore[misc] # likewise
        epoch, hub.epoch, hub.cursor = hub.epoch, hub.epoch ^ 1, 10
        await hub._acknowledge()
        hub.epoch = epoch
        assert hub.link is not None
        await hub.link.publish(subjects.ack(HOST), b"\x00nonsense")
        await eventually(lambda: made.status.bad_messages == 1)
        assert (await made.store.log.state()).acked == 9
    await hub.stop()


async def test_a_store_that_was_put_back_begins_a_new_epoch(broker: Broker, tmp_path: Path) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet) as made:
        await made.happen(10)
        await eventually(lambda: hub.cursor == 10)
        epoch, hub.cursor = hub.epoch, 12  # it knows what this store does not
        await hub._acknowledge()
        await eventually(lambda: hub.epoch != epoch)
        assert hub.snapshots[-1].through == hub.cursor == 10
        await made.happen(3)
        await eventually(lambda: made.status.unacked == 0 and hub.cursor == 13)
    await hub.stop()


# --- the name ---------------------------------------------------------------------------------


async def test_the_second_of_a_name_is_refused_until_the_first_has_gone(
    broker: Broker, tmp_path: Path
) -> None:
    """Of a cloned disk: even the epoch is the same."""
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "b", fleet) as clone:
        epoch = (await clone.store.log.state()).epoch
    async with agent(tmp_path / "a", fleet) as first:
        await eventually(lambda: first.status.connected)
        (tmp_path / "c").mkdir()
        (tmp_path / "c/state.db").write_bytes((tmp_path / "b/state.db").read_bytes())
        hub.beats.clear()
        async with agent(tmp_path / "c", fleet) as second:
            await eventually(lambda: second.status.refused)
            assert not second.status.connected
            assert f"another agent in this fleet is called {HOST}" in second.status.problem
            assert (await second.store.log.state()).epoch == epoch
            await second.happen(3)
            await first.happen(2)
            await eventually(lambda: first.status.unacked == 0)
            assert first.status.connected
            assert {beat.epoch for beat in hub.beats} <= {(await first.store.log.state()).epoch}
            await first.stop()
            await eventually(lambda: second.status.connected, limit=60)
            assert not second.status.problem
    await hub.stop()


async def test_three_who_begin_at_the_same_time(broker: Broker, tmp_path: Path) -> None:
    """Each hears one answer only: what that leaves open, their heartbeats end."""
    fleet = fleet_of(broker.url)
    async with AsyncExitStack() as stack:
        all_ = [
            await stack.enter_async_context(agent(tmp_path / name, fleet))
            for name in ("a", "b", "c")
        ]

        def settled() -> bool:
            standings = [each.status for each in all_]
            refused = [each for each in standings if each.refused]
            return len(refused) == 2 and any(each.connected for each in standings)

        await eventually(settled, limit=60)
        (first,) = [each for each in all_ if each.status.connected]
        heard: list[str] = []
        ear = await dial(fleet)
        await ear.subscribe(
            subjects.beat(HOST),
            lambda message: heard.append(unpack(Heartbeat, message.body, "").instance),
        )
        await eventually(lambda: len(heard) >= 2, limit=60)
        await ear.close()
        assert len(set(heard)) == 1
        assert first.status.connected


async def test_two_that_both_hold_the_name_hear_each_other(broker: Broker, tmp_path: Path) -> None:
    """As after a broker that was split: each has it, by all that it could hear."""
    fleet = fleet_of(broker.url)
    deaf = await dial(fleet)
    async with agent(tmp_path / "a", fleet) as made:
        await eventually(lambda: made.status.connected)
        for instance, stays in (("zzzz", True), ("", False)):
            beat = f'{{"host":"{HOST}","epoch":1,"instance":"{instance}","last":0}}'
            await deaf.publish(subjects.beat(HOST), beat.encode())
            if not stays:
                await eventually(lambda: made.status.refused)
        await eventually(lambda: made.status.connected, limit=60)
        assert made.status.reconnects == 1
    await deaf.close()


async def test_the_permissions_that_come_along_do_for_all_of_it(tmp_path: Path) -> None:
    text = configuration(BUNDLED).replace("rack-1", HOST)
    server = await Broker(tmp_path / "broker", config=text).start()
    fleet = joined(server.port, user=HOST)
    try:
        hub = await Hub(joined(server.port, user="hub", host="hub-1", role="hub")).start()
        with capture_logs() as logs:
            async with agent(tmp_path / "a", fleet) as made, agent(tmp_path / "b", fleet) as other:
                await eventually(lambda: made.status.refused or other.status.refused)
                first = other if made.status.refused else made
                await eventually(lambda: first.status.connected and hub.snapshots)
                await first.happen(3)
                await eventually(lambda: first.status.unacked == 0 and hub.cursor == 3)
                await hub.snapshot()
                answer = await hub.command("phone.explode")
                assert answer.code == "bad_request"
                assert first.status.snapshot_bytes
        events = {entry["event"] for entry in logs}
        assert events <= {"fleet.connected", "fleet.not_connected"}, logs
        await hub.stop()
    finally:
        server.close()


# --- the configuration ------------------------------------------------------------------------


async def test_a_reload_turns_it_off_on_and_names_it_anew(broker: Broker, tmp_path: Path) -> None:
    fleet = fleet_of(broker.url)
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet_of()) as made:
        assert made.uplink.status is None
        await made.happen(3)
        assert (await made.store.log.state()).acked is None
        made.uplink.reconfigure(fleet)
        await eventually(lambda: hub.snapshots)
        assert (hub.snapshots[0].through, ids(hub)) == (3, [])  # what was before is in there
        await made.happen(2)
        await eventually(lambda: ids(hub) == [4, 5])
        heard = len(hub.beats)
        made.uplink.reconfigure(fleet.model_copy(update={"host_grace": 1.0}))  # the hub's business
        made.uplink.reconfigure(fleet.model_copy(update={"host": "rack-4"}))
        await eventually(lambda: any(beat.host == "rack-4" for beat in hub.beats[heard:]))
        made.uplink.reconfigure(fleet_of())
        await eventually(lambda: made.uplink.status is None)
        async with asyncio.timeout(LIMIT):
            while (await made.store.log.state()).acked is not None:
                pass
        made.uplink.reconfigure(fleet.model_copy(update={"role": "hub"}))
        await made.happen(1)
        assert made.uplink.status is None
    await hub.stop()


async def test_nothing_listens_there(tmp_path: Path) -> None:
    async with agent(tmp_path / "a", fleet_of("nats://127.0.0.1:1")) as made:
        await eventually(lambda: "nothing listens there" in made.status.error)
        await made.happen(2)
        await eventually(lambda: made.status.unacked == 2)
        assert not made.status.connected

"""What waits for the hub is bounded and fair, and what its store refuses is asked for again."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.fleet import subjects
from agent.fleet.complaints import Complaints
from agent.fleet.hub.hosts import Need
from agent.fleet.hub.inbox import BYTES, ROWS, Asked, Inbox
from agent.fleet.hub.stored import clean, read
from agent.fleet.hub.taking import TURN, Taking
from agent.fleet.link import Incoming
from agent.fleet.words import DeviceTold, SilenceTold, Word, pack
from agent.model import Platform
from agent.service.devices import device_row
from tests.fleet.world import OFFLINE, ONLINE, UNPLUGGED, UTILIZING, World
from tests.kit.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from agent.fleet.complaints import Complaints as Heard
    from tests.fleet.world import MemoryStore


def message(subject: str, word: Word | bytes, number: int = 0) -> Incoming:
    return Incoming(subject, word if isinstance(word, bytes) else pack(word), number)


class Taker:
    """A world whose words come through an inbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.inbox = Inbox(4)
        self.complaints: Heard = Complaints(world.clock)
        self.lives: list[str] = []
        self.served: list[str] = []
        self.taking = Taking(
            world.hub, self.inbox, self.complaints, self.lives.append, self.served.append
        )

    async def all(self) -> None:
        while await self.taking.slice():
            pass
        await self.world.hub.commits.drain()

    def flow(self, name: str, first: int = 0) -> None:
        for told in self.world.hosts[name].log[first:]:
            self.inbox.row(name, message(subjects.t(name), told, told.id))


@pytest.fixture
async def taker() -> Taker:
    world = World()
    await world.begin()
    return Taker(world)


async def test_a_flood_is_bounded_and_what_was_dropped_is_asked_for(taker: Taker) -> None:
    host = taker.world.hosts["A"]
    for _ in range(ROWS):
        host.move("p", ONLINE)
        host.move("p", OFFLINE)
    taker.flow("A")
    box = taker.inbox.boxes["A"]
    assert (len(box.rows), box.size <= BYTES, taker.inbox.dropped >= ROWS) == (ROWS, True, True)
    await taker.all()
    known = taker.world.hub.core.hosts["A"]
    assert (known.cursor, known.need, box.size) == (ROWS, Need.LOG, 0)
    await taker.world.serve("A")
    assert known.cursor == 2 * ROWS


async def test_large_rows_are_bounded_by_their_bytes(taker: Taker) -> None:
    for number in range(40):
        taker.inbox.row("A", message(subjects.t("A"), bytes(100_000), number))
    assert taker.inbox.boxes["A"].size <= BYTES
    await taker.all()
    assert taker.complaints.count == len(range(BYTES // 100_000))


async def test_rows_are_taken_in_the_order_of_the_stream(taker: Taker) -> None:
    """Over all hosts: a phone was carried there and back."""
    world = taker.world
    world.hosts["A"].move("p", ONLINE)
    taker.flow("A")
    for before, after in ("AB", "BA") * 3:
        for name, state in ((before, UNPLUGGED), (after, UTILIZING if after == "B" else ONLINE)):
            world.hosts[name].move("p", state)
            taker.flow(name, len(world.hosts[name].log) - 1)
    await taker.all()
    assert world.story("p") == [ONLINE, *[UTILIZING, ONLINE] * 3]


async def test_what_a_host_answers_or_beats_has_its_turn_with_rows(taker: Taker) -> None:
    world = taker.world
    for _ in range(500):
        world.hosts["A"].move("p", ONLINE)
        world.hosts["A"].move("p", OFFLINE)
    world.hosts["B"].move("q", ONLINE)
    taker.flow("A")
    taker.inbox.asked("B", Asked(rows=tuple(world.hosts["B"].log)))
    step = partial(taker.taking._step, float("inf"))
    while world.hub.core.hosts["B"].cursor == 0:
        assert step()
    assert world.hub.core.hosts["A"].cursor <= 2 * TURN


async def test_too_many_hosts_are_left_out(taker: Taker) -> None:
    for number in range(10):
        taker.inbox.beat(f"h{number}", message("x", b"{}"))
    assert (len(taker.inbox.boxes), taker.inbox.dropped) == (4, 6)


async def test_what_ripens_waits_for_what_had_come(taker: Taker) -> None:
    """A move lies in the inbox when the hold is over."""
    world = taker.world
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    world.hosts["B"].move("p", ONLINE)
    world.clock.advance(0)
    taker.flow("B")
    for _ in range(8):
        world.clock.advance(2.0)
        world.hub.seen.heard(world.clock.now, world.clock.now)
    taker.taking.heard()
    await taker.all()
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "B")


async def test_a_disk_that_hung_makes_nobody_lost(taker: Taker) -> None:
    """Nothing was taken for long, heartbeats neither; the hub heard itself all the time."""
    world = taker.world
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    for _ in range(300):
        world.clock.advance(2.0)
        world.hub.seen.heard(world.clock.now, world.clock.now)
        taker.taking.heard()
        for name, host in world.hosts.items():
            taker.inbox.beat(name, message(subjects.beat(name), host.beat))
    await taker.all()
    assert world.story("p") == [ONLINE]


async def test_a_snapshot_that_is_half_taken_is_not_gone_by(taker: Taker) -> None:
    """What is not told anew yet is old; and where the hub ends there, it is taken again."""
    world = taker.world
    host = world.hosts["A"]
    for udid in "pq":
        host.move(udid, ONLINE)
    await world.flow()
    host.cut = True
    await world.wait(120)
    assert (world.state("p"), world.state("q")) == (OFFLINE, OFFLINE)
    host.move("p", UTILIZING)
    host.move("q", OFFLINE)
    host.begin_anew(empty=False)
    world.hub.core.beat(host.beat)
    steps = world.hub.core.whole(host.snapshot)
    next(steps)
    world.hub.core.beat(host.beat)
    await world.done()
    assert (world.story("p"), world.story("q")) == ([ONLINE, OFFLINE, UTILIZING], [ONLINE, OFFLINE])
    assert world.hub.durable["A"].epoch != host.epoch
    await world.restart()
    host.cut = False
    world.hear_itself()
    await world.beat()
    assert (world.story("p"), world.story("q")) == ([ONLINE, OFFLINE, UTILIZING], [ONLINE, OFFLINE])
    assert world.hub.durable["A"].epoch == host.epoch


async def test_the_stream_counts_as_read_to_before_the_first_that_waits(taker: Taker) -> None:
    host = taker.world.hosts["A"]
    for state in (ONLINE, OFFLINE, UTILIZING):
        host.move("p", state)
    taker.flow("A", 1)
    assert (taker.inbox.oldest(9), taker.inbox.oldest(1)) == (1, 1)
    await taker.all()
    assert taker.inbox.oldest(9) == 9


async def test_a_word_of_another_host_or_none_is_counted(taker: Taker) -> None:
    host = taker.world.hosts["A"]
    host.move("p", ONLINE)
    for put, body in (
        (taker.inbox.row, pack(host.log[0])),
        (taker.inbox.beat, pack(host.beat)),
        (taker.inbox.glimpse, pack(host.snapshot)),
        (taker.inbox.row, b"{"),
        (taker.inbox.beat, b"\x00\xff"),
        (taker.inbox.glimpse, b"null"),
    ):
        put("B", Incoming("da.v1.x.B", body))
        await taker.all()
    assert (taker.complaints.count, taker.world.story("p"), taker.lives) == (6, [], [])


async def test_an_answer_is_taken_before_what_comes_behind_it(taker: Taker) -> None:
    host = taker.world.hosts["A"]
    for state in (ONLINE, OFFLINE, UTILIZING):
        host.move("p", state)
    taker.flow("A", 2)
    taker.inbox.asked("A", Asked(rows=tuple(host.log[:2])))
    await taker.all()
    assert (taker.world.story("p"), taker.served) == ([ONLINE, OFFLINE, UTILIZING], ["A"])


async def test_what_the_store_refuses_is_asked_for_anew(taker: Taker) -> None:
    world = taker.world
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.move("p", OFFLINE)
    world.store.refuses = True
    await world.flow()
    world.store.refuses = False
    assert world.hub.commits.counts.lost == 1
    assert world.hub.durable["A"].cursor == 1
    assert world.hub.core.hosts["A"].need is Need.SNAPSHOT
    await world.serve("A")
    assert world.hub.durable["A"].cursor == 2
    assert world.state("p") is OFFLINE
    (told,) = read(world.store.rows.values()).told
    assert told.device.event == 2


async def test_a_store_that_was_made_anew_is_given_all(taker: Taker) -> None:
    world = taker.world
    world.hosts["A"].move("p", ONLINE)
    world.hosts["B"].move("q", OFFLINE)
    await world.flow()
    before: Any = world.store.rows, world.store.devices
    world.store.rows, world.store.devices = {}, {}
    world.hub.store_again()
    await world.hub.commits.drain()
    assert (world.store.rows, world.store.devices) == before


async def test_a_hub_that_stops_decides_nothing_more(taker: Taker) -> None:
    world = taker.world
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    await world.hub.close()
    assert world.hub.stopped
    assert world.state("p") is ONLINE


@pytest.mark.parametrize(
    ("reason", "code", "kept"),
    [
        ("accept it", "unauthorized", "unauthorized"),
        ("of a newer agent", "melted_2", "melted_2"),
        ("no code", "Not a code", ""),
        ("too long", "x" * 65, ""),
        ("", "unauthorized", ""),
    ],
)
def test_a_hosts_code_is_kept_where_it_is_one(reason: str, code: str, kept: str) -> None:
    told = DeviceTold(
        udid="p", platform=Platform.ANDROID, state=OFFLINE, since_ms=1, reason=reason, code=code
    )
    assert clean(told).code == kept


async def test_what_is_odd_is_kept_in_bounds(tmp_path: Path) -> None:
    """Nothing that a host can say is refused by the store, nor breaks a row."""
    world = World()
    store = open_store(tmp_path)
    world.store = cast("MemoryStore", store)
    world.hub = world.make_hub([], [])
    await world.begin()
    host = world.hosts["A"]
    half, nul = "\ud800", "\x00\x1b[31m"
    for number, (since_ms, left) in enumerate([(2**70, 1e300), (-(2**70), 0.0), (0, 1e9)]):
        host.move(f"{number}{nul}", ONLINE)
        udid, device = host.devices.popitem()
        told = SilenceTold(id=half * 9_999, reason=nul * 9_999, left=left)
        odd = dict.fromkeys(
            ("reason", "holder", "name", "model", "port", "code", "cause"), (half + nul) * 9999
        )
        host.devices[udid] = device.model_copy(
            update={**odd, "since_ms": since_ms, "silence": told, "tags": (half,) * 9_999}
        )
        host.log[-1] = host.log[-1].model_copy(update={"device": host.devices[udid]})
    await world.flow()
    assert world.hub.durable["A"].cursor == 3
    rows = [device_row(view, "hub") for view in world.hub.views.all()]
    assert len(json.dumps(rows)) < 100_000
    assert {row["reason_code"] for row in rows} == {""}
    assert len(await store.devices.all()) == 3
    kept = read(await store.fleet.all())
    assert [len(each.device.name) for each in kept.told] == [1_000] * 3
    await store.close()

"""Which host a phone belongs to and what counts: the table of `board`, row by row."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.errors import BlindError, HostAliveError, StoreError, UnknownHostError
from agent.fleet.hub.board import SOME
from agent.fleet.hub.message_ids import host_cause
from tests.fleet.world import (
    CONFIG,
    GONE_AFTER,
    LOST_AFTER,
    MOVE_HOLD,
    OFFLINE,
    ONLINE,
    TWINS_AFTER,
    UNPLUGGED,
    UTILIZING,
    World,
)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.begin()
    return made


async def test_what_the_owner_tells_counts_at_once(world: World) -> None:
    host = world.hosts["A"]
    for state in (ONLINE, UTILIZING, ONLINE, OFFLINE):
        host.move("p", state)
    await world.flow()
    assert world.story("p") == [ONLINE, UTILIZING, ONLINE, OFFLINE]
    assert list(world.told("p")) == [ONLINE, UTILIZING, OFFLINE]  # a session's end calls nobody
    assert world.owner("p") == "A"


async def test_the_owners_code_cause_and_port_go_with_its_word(world: World) -> None:
    host = world.hosts["A"]
    for state in (ONLINE, OFFLINE, UNPLUGGED):
        host.move("p", state)
    await world.flow()
    view = world.hub.views.one("p")
    assert view is not None
    assert (view.code, view.cause) == ("unauthorized", "A-2"), "its unplugged waits"
    await world.wait(MOVE_HOLD + 4)
    moves = [move.transition for move in world.store.moves if move.transition is not None]
    assert [(each.code, each.cause, each.port) for each in moves] == [
        ("", "", "1-1"),
        ("unauthorized", "A-2", "1-2"),
        ("", "A-3", "1-3"),
    ]
    stored = world.store.devices["p"]
    assert (stored.code, stored.cause, stored.port) == ("", "A-3", "1-3")
    await world.restart()
    view = world.hub.views.one("p")
    assert view is not None
    assert (view.code, view.cause) == ("", "A-3")


async def test_unplugged_counts_after_the_hold(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    await world.wait(MOVE_HOLD - 2)
    view = world.hub.views.one("p")
    assert view is not None
    assert (view.state, "may turn up" in view.reason) == (ONLINE, True)
    assert (view.code, view.cause) == ("moving", "")
    await world.wait(4)
    assert world.story("p") == [ONLINE, UNPLUGGED]


async def test_it_does_not_while_a_host_that_may_have_it_is_not_heard(world: World) -> None:
    """As after an outage of the broker, which one host is over sooner than the next."""
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["B"].cut = True
    await world.wait(2)
    world.hosts["A"].move("p", UNPLUGGED)
    world.hosts["B"].move("p", ONLINE)
    await world.wait(3 * MOVE_HOLD)
    assert world.story("p") == [ONLINE]
    world.hosts["B"].cut = False
    await world.wait(6)
    assert world.story("p") == [ONLINE]
    assert world.owner("p") == "B"


async def test_nor_after_a_restart_before_each_host_was_heard() -> None:
    """However short the hold is: nobody has had the time to say anything yet."""
    world = World(text=CONFIG.replace(f'move_hold = "{MOVE_HOLD:.0f}s"', 'move_hold = "3s"'))
    await world.begin()
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    await world.restart()
    world.hosts["B"].cut = True
    world.hosts["A"].move("p", UNPLUGGED)
    world.hosts["B"].move("p", ONLINE)
    await world.wait(7)
    assert world.story("p") == [ONLINE]
    world.hosts["B"].cut = False
    await world.wait(6)
    assert world.story("p") == [ONLINE]
    assert world.owner("p") == "B"


async def test_a_host_that_is_gone_is_not_waited_for(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["B"].cut = True
    await world.wait(2)
    world.hosts["A"].move("p", UNPLUGGED)
    await world.wait(GONE_AFTER - 4)
    assert world.story("p") == [ONLINE]
    await world.wait(10)
    assert world.story("p") == [ONLINE, UNPLUGGED]


async def test_nor_while_what_a_host_has_is_not_taken(world: World) -> None:
    """It is heard to live, and its log does not come."""
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    world.hosts["B"].move("p", ONLINE)
    for _ in range(10):
        world.clock.advance(2)
        for host in world.hosts.values():
            world.hub.core.beat(host.beat)
        world.hear_itself()
        await world.done()
    assert world.story("p") == [ONLINE]
    await world.flow()
    assert world.story("p") == [ONLINE]
    assert world.owner("p") == "B"


async def test_without_a_hold_it_counts_at_once() -> None:
    world = World(text=CONFIG.replace('"10s"', '"0s"'))
    await world.begin()
    world.hosts["A"].move("p", ONLINE)
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    assert world.story("p") == [ONLINE, UNPLUGGED]


async def test_back_at_the_same_host_it_was_unplugged(world: World) -> None:
    for state in (ONLINE, UNPLUGGED, ONLINE):
        world.hosts["A"].move("p", state)
    await world.flow()
    assert world.story("p") == [ONLINE]  # B may have had it meanwhile
    await world.wait(6)
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]


@pytest.mark.parametrize("first", ["A", "B"])
async def test_a_moved_phone_calls_nobody(world: World, first: str) -> None:
    """Whichever of the two is heard first."""
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["A"].move("p", UNPLUGGED)
    world.hosts["B"].move("p", ONLINE)
    for name in (first, "B" if first == "A" else "A"):
        known = world.hub.core.hosts[name]
        await world.deliver(name, known.cursor + 1, 9)
    await world.wait(100)
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "B")
    assert world.hub.commits.moves == 1


async def test_a_moved_phone_in_another_state_calls_with_that(world: World) -> None:
    world.hosts["A"].move("p", UTILIZING)
    await world.flow()
    world.hosts["A"].move("p", UNPLUGGED)
    world.hosts["B"].move("p", OFFLINE)
    await world.flow()
    assert world.story("p") == [UTILIZING, OFFLINE]


async def test_what_the_old_host_says_is_history(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["B"].move("p", ONLINE)
    await world.flow()
    world.hosts["A"].move("p", OFFLINE)
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    await world.wait(60)
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "B")


async def test_a_network_phone_stays_with_its_first_owner(world: World) -> None:
    world.hosts["A"].move("p", ONLINE, usb=False)
    world.hosts["B"].move("p", OFFLINE, usb=False)
    await world.flow()
    await world.wait(60)
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "A")
    world.hosts["A"].move("p", UNPLUGGED)
    await world.flow()
    assert (world.story("p"), world.owner("p")) == ([ONLINE, OFFLINE], "B")


async def test_usb_goes_before_the_network(world: World) -> None:
    world.hosts["A"].move("p", ONLINE, usb=False)
    await world.flow()
    world.hosts["B"].move("p", ONLINE)
    await world.flow()
    assert world.owner("p") == "B"


async def test_two_hosts_that_hold_it_on_usb_are_two_phones(world: World) -> None:
    for name in "AB":
        world.hosts[name].move("p", ONLINE)
    await world.flow()
    await world.wait(TWINS_AFTER - 4)
    assert set(world.store.devices) == {"p"}
    await world.wait(8)
    assert set(world.store.devices) == {"p", "p@A"}
    assert (world.owner("p"), world.owner("p@A")) == ("B", "A")
    assert (world.story("p"), world.story("p@A")) == ([ONLINE], [ONLINE])
    assert world.hub.roster.named("P@A") == ("p@A",)
    world.hosts["A"].move("p", OFFLINE)
    world.hosts["B"].move("p", UNPLUGGED)
    await world.flow()
    await world.restart()
    await world.wait(60)
    assert world.story("p") == [ONLINE, UNPLUGGED]
    assert world.story("p@A") == [ONLINE, OFFLINE]


async def test_a_third_phone_of_a_serial_is_one_of_its_own() -> None:
    world = World("ABC")
    await world.begin()
    for name in "AB":
        world.hosts[name].move("p", ONLINE)
    await world.flow()
    await world.wait(TWINS_AFTER + 8)
    world.hosts["C"].move("p", ONLINE)
    await world.flow()
    assert (world.owner("p"), set(world.store.devices)) == ("B", {"p", "p@A", "p@C"})


async def test_a_lost_host_keeps_its_states_then_its_phones_are_offline(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    host.move("q", ONLINE)
    host.move("q", UNPLUGGED)
    await world.flow()
    await world.wait(20)
    host.cut = True
    await world.wait(LOST_AFTER + 8)
    view = world.hub.views.one("p")
    assert view is not None
    assert (view.state, "is silent" in view.reason) == (ONLINE, True)
    assert view.code == "host_silent"
    assert [each.problem != "" for each in world.hub.hosts()] == [True, False]
    await world.wait(GONE_AFTER - LOST_AFTER)
    assert world.story("p") == [ONLINE, OFFLINE]
    assert "host A is lost" in world.store.devices["p"].reason
    lost = world.store.moves[-1].transition
    assert lost is not None
    cause = host_cause("A", host.epoch, world.hub.core.hosts["A"].cursor)
    assert (lost.code, lost.cause, lost.port) == ("host_lost", cause, "1-1")
    assert world.store.devices["p"].code == "host_lost"
    assert world.store.devices["p"].cause == cause
    assert world.story("q") == [ONLINE, UNPLUGGED]
    await world.wait(10_000)
    assert world.story("p") == [ONLINE, OFFLINE]
    host.cut = False
    await world.beat("A")
    assert world.story("p") == [ONLINE, OFFLINE, ONLINE]
    assert len(world.store.callbacks) == 5


async def test_a_host_that_is_back_goes_through_its_log_first(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    host.move("q", ONLINE)
    await world.flow()
    host.cut = True
    await world.wait(GONE_AFTER + 8)
    host.move("p", UTILIZING)
    host.move("p", OFFLINE)
    host.cut = False
    await world.beat("A")
    assert world.story("p") == [ONLINE, OFFLINE, UTILIZING, OFFLINE]
    assert world.story("q") == [ONLINE, OFFLINE, ONLINE]


async def test_each_loss_has_its_own_message_ids(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    for _ in range(3):
        host.cut = True
        await world.wait(GONE_AFTER + 8)
        host.cut = False
        await world.beat()
        await world.restart()
        await world.begin()
    assert list(world.told("p")) == [ONLINE, *[OFFLINE, ONLINE] * 3]


async def test_a_phone_of_a_gone_host_goes_to_who_holds_it(world: World) -> None:
    for name in "AB":
        world.hosts[name].move("p", ONLINE, usb=False)
    await world.flow()
    world.hosts["A"].cut = True
    await world.wait(GONE_AFTER + 20)
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "B")


async def test_a_blind_hub_decides_nothing(world: World) -> None:
    for state in (ONLINE, UNPLUGGED):
        world.hosts["A"].move("p", state)
    world.hosts["B"].move("q", ONLINE)
    await world.flow()
    await world.wait(100_000, blind=True)
    assert (world.hub.blind, world.hub.derives) == (True, False)
    assert "blind" in world.hub.problems[0]
    assert (world.story("p"), world.story("q")) == ([ONLINE], [ONLINE])
    await world.wait(4)
    assert world.story("p") == [ONLINE]
    await world.wait(10)
    assert (world.story("p"), world.story("q")) == ([ONLINE, UNPLUGGED], [ONLINE])


async def test_an_unseen_unplugged_phone_is_a_row_and_no_transition(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    host.move("p", UNPLUGGED)
    host.begin_anew(empty=False)
    await world.beat()
    assert (world.story("p"), world.state("p")) == ([], UNPLUGGED)


async def test_a_store_made_anew_knows_a_phone_no_more(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.begin_anew(empty=True)
    await world.beat()
    assert world.story("p") == [ONLINE]
    await world.wait(MOVE_HOLD + 4)
    assert world.story("p") == [ONLINE, UNPLUGGED]
    assert "new store" in world.store.devices["p"].reason
    assert world.store.devices["p"].code == "host_began_anew"


async def test_a_hidden_phone_makes_no_transition(world: World) -> None:
    """Its agent was told to ignore it."""
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    assert world.hub.views.by_host() == {("A", ONLINE): 1}
    hidden = host.devices.pop("p")
    world.hub.core.glimpse(host.snapshot)
    await world.wait(60)
    assert (world.story("p"), world.hub.views.all()) == ([ONLINE], [])
    assert world.hub.views.census().states == {}
    host.devices["p"] = hidden
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    assert world.story("p") == [ONLINE]
    assert [view.udid for view in world.hub.views.all()] == ["p"]


async def test_a_snapshot_says_more_of_a_device_at_its_moment_of_the_log_alone(
    world: World,
) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    host.devices["p"] = host.devices["p"].model_copy(update={"name": "Pixel", "tags": ("t",)})
    ahead = host.snapshot
    world.hub.core.glimpse(ahead)
    await world.done()
    assert world.store.devices == {}
    await world.flow()
    await world.done()
    view = world.hub.views.one("p")
    assert view is not None
    assert (view.name, view.tags, view.host) == ("Pixel", ("t",), "A")
    host.move("p", OFFLINE)
    await world.flow()
    world.hub.core.glimpse(ahead)
    await world.done()
    assert world.story("p") == [ONLINE, OFFLINE]


async def test_a_silence_keeps_back_and_owes(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.silence("p", 300.0)
    host.move("p", OFFLINE)
    host.move("p", UTILIZING)
    await world.flow()
    view = world.hub.views.one("p")
    assert view is not None
    assert view.silence is not None
    assert (view.silence.id, view.told) == ("0000000a", ONLINE)
    assert list(world.told("p")) == [ONLINE]
    await world.restart()
    await world.begin()
    await world.wait(280)
    assert list(world.told("p")) == [ONLINE]
    await world.wait(30)
    assert list(world.told("p")) == [ONLINE, UTILIZING]
    assert world.story("p") == [ONLINE, OFFLINE, UTILIZING]


async def test_a_silence_that_is_ended_early_is_paid_at_once(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.silence("p", 3000.0)
    host.move("p", OFFLINE)
    await world.flow()
    host.silence("p", None)
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    assert list(world.told("p")) == [ONLINE, OFFLINE]


async def test_what_led_back_is_not_told(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.silence("p", 30.0)
    host.move("p", OFFLINE)
    host.move("p", ONLINE)
    await world.flow()
    await world.wait(60)
    assert list(world.told("p")) == [ONLINE]


async def test_the_hubs_file_goes_first() -> None:
    world = World(
        text=CONFIG + '[[devices]]\nudid = "p"\nname = "ours"\nvisibility = "public"\n'
        '[[devices]]\nudid = "q"\ntags = ["x"]\n[[devices]]\nudid = "r"\nvisibility = "ignore"\n'
    )
    await world.begin()
    for udid in "pqr":
        world.hosts["A"].move(udid, ONLINE)
    await world.flow()
    p, q = world.hub.views.all()
    assert (p.name, p.visibility, q.name, q.tags) == ("ours", "public", "q", ("x",))
    assert [each.udid for each in world.store.callbacks] == ["q"]
    assert world.hub.views.census().states == {("android", ONLINE): 2}


async def test_who_is_back_is_no_heir_before_its_log_is_taken(world: World) -> None:
    """What it told last is old."""
    for name in "AB":
        world.hosts[name].move("p", ONLINE, usb=False)
    await world.flow()
    assert world.owner("p") == "A"
    world.hosts["B"].cut = True
    await world.wait(LOST_AFTER + 8)
    world.hosts["B"].move("p", UNPLUGGED)
    world.hub.core.beat(world.hosts["B"].beat)
    await world.done()
    world.hosts["A"].move("p", UNPLUGGED)
    await world.deliver("A", 2, 1)
    assert world.owner("p") == "A"


async def test_after_a_restart_a_hold_begins_anew(world: World) -> None:
    for state in (ONLINE, UNPLUGGED):
        world.hosts["A"].move("p", state)
    await world.flow()
    await world.wait(MOVE_HOLD - 2)
    await world.restart()
    world.hosts["A"].cut = True  # it need not be there for what it saw
    world.hear_itself()
    await world.wait(MOVE_HOLD - 2)
    assert world.story("p") == [ONLINE]
    await world.wait(4)
    assert world.story("p") == [ONLINE, UNPLUGGED]


async def test_webhooks_are_told_from_the_state_that_they_know(world: World) -> None:
    """A session that began in a silence, and ends after it: a plain `online` is no news."""
    host = world.hosts["A"]
    host.move("p", OFFLINE)
    await world.flow()
    host.silence("p", 30.0)
    host.move("p", UTILIZING)
    await world.flow()
    host.silence("p", None)
    host.move("p", ONLINE)
    await world.flow()
    assert list(world.told("p")) == [OFFLINE, ONLINE]


async def test_an_old_snapshot_ends_where_the_log_goes_on(world: World) -> None:
    host = world.hosts["A"]
    for udid in "pq":
        host.move(udid, ONLINE)
    await world.flow()
    host.devices = {
        udid: device.model_copy(update={"name": "new"}) for udid, device in host.devices.items()
    }
    world.hub.core.glimpse(host.snapshot)
    assert world.hub.core.do()  # p
    host.devices["q"] = host.devices["q"].model_copy(update={"name": "newer"})
    for state in (OFFLINE, ONLINE):
        host.move("q", state)
    for told in host.log[2:]:
        world.hub.core.row(told)
    await world.done()
    word = world.hub.core.board.word("A", "q")
    assert word is not None
    assert word.device.event == 4


async def test_hubs_mean_the_same_loss_whatever_each_slept_through() -> None:
    one, two = World(), World()
    two.hosts = one.hosts
    host = one.hosts["A"]

    async def heard() -> None:
        beat = host.beat
        for each in (one, two):
            each.hub.core.beat(beat)
            await each.done()
            await each.serve("A")

    async def silence(*hubs: World) -> None:
        for each in hubs:
            for _ in range(60):
                each.clock.advance(2.0)
                each.hear_itself()
                await each.done()

    for each in (one, two):
        each.hear_itself()
    await heard()
    host.move("p", ONLINE)
    for each in (one, two):
        await each.flow()
    await silence(one)
    await heard()
    await silence(one, two)
    await heard()
    assert list(one.told("p")) == [ONLINE, OFFLINE, ONLINE, OFFLINE, ONLINE]
    assert list(two.told("p")) == [ONLINE, OFFLINE, ONLINE]
    ids = [each.message_id for each in one.store.callbacks]
    assert len(set(ids)) == 5
    assert [each.message_id for each in two.store.callbacks] == [ids[0], *ids[3:]]


async def test_an_old_snapshot_that_waits_takes_nothing_back(world: World) -> None:
    """It was of that moment when it came; by its turn the log has gone on."""
    host = world.hosts["A"]
    host.move("p", ONLINE)
    old = host.snapshot
    host.move("q", OFFLINE)
    world.hub.core.glimpse(old)
    for told in host.log:
        world.hub.core.row(told)
    await world.done()
    assert [view.udid for view in world.hub.views.all()] == ["p", "q"]


async def test_what_is_told_again_after_it_was_hidden_has_another_id(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    hidden = host.devices.pop("p")
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    host.cut = True
    await world.wait(GONE_AFTER + 8)
    host.devices["p"] = hidden
    world.hub.core.glimpse(host.snapshot)
    await world.wait(8)
    host.cut = False
    await world.beat()
    assert list(world.told("p")) == [ONLINE, OFFLINE, ONLINE]


async def test_what_a_gone_host_told_before_it_is_heard_is_told_once(world: World) -> None:
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    host.cut = True
    await world.wait(GONE_AFTER + 8)
    for state in (UTILIZING, OFFLINE, ONLINE):
        host.move("p", state)
    await world.flow()  # of the stream; its heartbeat is behind
    host.cut = False
    await world.beat()
    await world.wait(20)
    assert world.story("p") == [ONLINE, OFFLINE, UTILIZING, OFFLINE, ONLINE]
    host.cut = True
    await world.wait(GONE_AFTER + 8)
    host.move("p", UTILIZING)
    await world.flow()
    await world.wait(4)  # it is still gone
    assert world.story("p")[5:] == [OFFLINE, UTILIZING, OFFLINE]


async def test_of_a_long_snapshot_all_that_is_new_is_taken(world: World) -> None:
    """What is not new is passed over, in steps."""
    host, phones = world.hosts["A"], [f"p{number:03}" for number in range(3 * SOME)]
    for udid in phones:
        host.move(udid, ONLINE)
    await world.flow()
    story, other = world.story(phones[0]), [phones[0], phones[SOME - 1], phones[-1]]
    world.changed.clear()
    for udid in other:
        host.devices[udid] = host.devices[udid].model_copy(update={"name": f"{udid}'s"})
    host.silence(phones[SOME], 60.0)
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    assert world.changed == {*other, phones[SOME]}
    assert [view.name for udid in other if (view := world.hub.views.one(udid))] == [
        f"{udid}'s" for udid in other
    ]
    host.silence(phones[SOME], None)
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    view = world.hub.views.one(phones[SOME])
    assert view is not None
    assert view.silence is None
    assert world.story(phones[0]) == story


async def test_a_reload_tells_of_phones_where_it_says_something_of_them(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.changed.clear()
    world.hub.reconfigure(parse(world.text.replace('"10s"', '"11s"'), "test.toml"))
    assert world.changed == set()
    world.hub.reconfigure(
        parse(world.text + '[[devices]]\nudid = "p"\nname = "Bench"\n', "test.toml")
    )
    assert world.changed == {"p"}
    view = world.hub.views.one("p")
    assert view is not None
    assert view.name == "Bench"


async def lose(world: World, name: str) -> None:
    world.hosts[name].cut = True
    await world.wait(LOST_AFTER + 4)


async def test_who_is_there_or_may_be_is_not_forgotten(world: World) -> None:
    with pytest.raises(UnknownHostError, match="no host 'C'; it has: A, B"):
        await world.forget("C")
    with pytest.raises(HostAliveError, match="A is alive: it was heard 0 s ago"):
        await world.forget("A")
    world.hosts["A"].cut = True
    await world.wait(LOST_AFTER - 4)
    with pytest.raises(HostAliveError, match="after 1 min of silence"):
        await world.forget("A")
    world.hub.seen.lost()
    with pytest.raises(BlindError, match="the hub is blind"):
        await world.forget("A")
    await world.restart()
    world.hear_itself()
    with pytest.raises(HostAliveError, match="the hub began 0 s ago, and A may still be heard"):
        await world.forget("A")
    await world.wait(LOST_AFTER + 4)
    await world.forget("A")
    assert [status.host for status in world.hub.hosts()] == ["B"]


async def test_a_forgotten_host_takes_its_phones_along_and_calls_nobody(world: World) -> None:
    world.hosts["A"].move("p", UTILIZING)
    world.hosts["A"].move("q", ONLINE)
    world.hosts["B"].move("r", ONLINE)
    await world.flow()
    await lose(world, "A")
    before = len(world.store.callbacks)
    await world.forget("A")
    assert [view.udid for view in world.hub.views.all()] == ["r"]
    assert world.hub.problems == []
    await world.wait(GONE_AFTER)
    assert len(world.store.callbacks) == before
    assert (world.state("p"), world.state("q")) == (UTILIZING, ONLINE)
    await world.restart()
    assert [view.udid for view in world.hub.views.all()] == ["r"]
    assert [mark.host for mark in world.hub.core.marks()] == ["B"]
    # One of its phones turns up elsewhere: it goes on from its last state.
    world.hosts["B"].move("p", ONLINE)
    world.hosts["B"].move("q", ONLINE)
    await world.flow()
    assert (world.story("p"), world.owner("p")) == ([UTILIZING, ONLINE], "B")
    assert (world.story("q"), world.owner("q")) == ([ONLINE], "B")


async def test_a_forgotten_hosts_phone_that_another_one_holds_goes_there(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    world.hosts["B"].move("p", OFFLINE, usb=False)
    await world.flow()
    await lose(world, "A")
    await world.forget("A")
    assert (world.story("p"), world.owner("p")) == ([ONLINE, OFFLINE], "B")


async def test_no_unplugged_waits_for_a_forgotten_host(world: World) -> None:
    world.hosts["B"].move("p", ONLINE)
    await world.flow()
    await lose(world, "A")
    world.hosts["B"].move("p", UNPLUGGED)
    await world.wait(MOVE_HOLD + 4)
    assert world.state("p") is ONLINE
    await world.forget("A")
    await world.wait(4)
    assert world.state("p") is UNPLUGGED


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_forgotten_host_that_is_back_is_a_new_one(world: World, restarted: bool) -> None:
    """Each return has its own message ids, though nothing has happened to the phone there."""
    host = world.hosts["A"]
    host.move("p", ONLINE)
    await world.flow()
    for _ in range(3):
        host.cut = True
        await world.wait(GONE_AFTER + 4)
        await world.forget("A")
        if restarted:
            await world.restart()
        host.cut = False
        await world.wait(4)
        assert [view.udid for view in world.hub.views.all()] == ["p"]
    assert world.story("p") == [ONLINE] + 3 * [OFFLINE, ONLINE]
    assert list(world.told("p")) == world.story("p")


async def test_what_a_full_disk_refused_of_it_is_said_and_stored_later(world: World) -> None:
    world.hosts["A"].move("p", ONLINE)
    await world.flow()
    await lose(world, "A")
    world.store.refuses = True
    with pytest.raises(StoreError, match="A is forgotten, and the store has not taken that"):
        await world.forget("A")
    world.store.refuses = False
    await world.done()
    assert not any(host == "A" and udid for host, udid in world.store.rows)
    await world.restart()
    assert [status.host for status in world.hub.hosts()] == ["B"]


@pytest.mark.parametrize("name", ["A", "B"])
async def test_twins_of_a_forgotten_host(world: World, name: str) -> None:
    """A's is the twin; B's bears the serial."""
    for each in "AB":
        world.hosts[each].move("p", ONLINE)
        await world.flow()
    await world.wait(TWINS_AFTER + 10)
    assert {view.udid for view in world.hub.views.all()} == {"p", "p@A"}
    await lose(world, name)
    await world.forget(name)
    assert {view.host for view in world.hub.views.all()} == {"A", "B"} - {name}
    world.hosts[name].cut = False
    await world.wait(TWINS_AFTER + 10)
    assert {view.host for view in world.hub.views.all()} == {"A", "B"}
    assert len(world.hub.views.all()) == 2

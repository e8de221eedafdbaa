"""Webhooks with `after`, over a real store: each is told what it would be told alone."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.model import (
    Bridge,
    DeviceState,
    Down,
    Gone,
    SilenceKind,
    Snapshot,
    Usage,
    UsageReading,
)
from agent.track.pace import BEAT
from agent.track.waits import owed_of
from tests.kit.alone import EachAlone
from tests.kit.clock import StubClock
from tests.kit.configs import AT_ONCE
from tests.kit.examples import worlds
from tests.kit.seed import seed
from tests.kit.tracking import ADB, ONLY_ANDROID, UDEV, House, adb, house, reconfigure, usb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Config, Webhook
    from agent.model import DeviceRecord, Sighting, Silence
    from tests.kit.alone import Told

ONLINE, OFFLINE, UTILIZING, UNPLUGGED = DeviceState
LABELS = {str(state).capitalize(): state for state in DeviceState}


def text(hooks: Mapping[int, float], more: str = "", **keys: str) -> str:
    """A file with these webhooks, by id; `keys`: of each."""
    tables = "".join(
        f'[[webhooks]]\nid = {id_}\nname = "hook {id_}"\nurl = "http://127.0.0.1:1/"\n'
        f'events = ["online", "offline", "utilizing", "unplugged"]\npayload = "extended"\n'
        f'after = "{round(after * 1000)}ms"\n'
        + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for id_, after in hooks.items()
    )
    return ONLY_ANDROID + AT_ONCE + tables + more


def by_id(config: Config) -> dict[int, Webhook]:
    return {hook.id or 0: hook for hook in config.webhooks}


def reload(h: House, file: str) -> None:
    config = parse(file, "t")
    reconfigure(h.pipeline, config, by_id(config))


def show(h: House, before: DeviceState | None, state: DeviceState, udid: str = "ce09") -> None:
    """The phone goes to that state."""
    port = "1-1"
    if state is UNPLUGGED:
        h.pipeline.observe(Gone(UDEV, f"/devices/{port}"))
        h.pipeline.observe(Gone(ADB, udid))
        h.pipeline.use(udid, UsageReading())
        return
    use = UsageReading(Usage.IN_USE, "alice") if state is UTILIZING else UsageReading()
    if before in {ONLINE, UTILIZING} and state is OFFLINE:
        h.see(adb(udid, port, Bridge.NOT_READY))
        h.pipeline.use(udid, use)
        return
    h.pipeline.use(udid, use)
    bridge = Bridge.NOT_READY if state is OFFLINE else Bridge.READY
    if before in {None, UNPLUGGED}:
        h.see(usb(udid, port))
    h.see(adb(udid, port, bridge))


def sees(state: DeviceState | None) -> tuple[tuple[Sighting, ...], tuple[Sighting, ...]]:
    if state in {None, UNPLUGGED}:
        return (), ()
    bridge = Bridge.NOT_READY if state is OFFLINE else Bridge.READY
    return (usb("ce09"),), (adb("ce09", bridge=bridge),)


async def begin(h: House, state: DeviceState | None) -> None:
    """The sources have spoken: it is in that state."""
    if state is UTILIZING:
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
    by_udev, by_adb = sees(state)
    h.pipeline.observe(Snapshot(UDEV, by_udev))
    h.pipeline.observe(Snapshot(ADB, by_adb))
    await h.heard()


async def told(h: House, before: dict[int, list[Told]] | None = None) -> dict[int, list[Told]]:
    """What each webhook was told, and what it is told of the state before."""
    await h.came()
    found = defaultdict(list, before or {})
    for callback in h.sent:
        body = json.loads(callback.body)
        previous = body["previousState"]
        move = None if previous is None else DeviceState(previous)
        found[callback.webhook_id].append((move, LABELS[body["eventDescription"]]))
        assert callback.state is LABELS[body["eventDescription"]]
    h.sent.clear()
    return found


async def row(h: House) -> DeviceRecord:
    await h.came()
    (record,) = await h.store.devices.all()
    return record


async def test_a_phone_that_is_back_in_time_costs_not_one_byte(tmp_path: Path) -> None:
    async with house(tmp_path, text({1: 600})) as h:
        show(h, None, ONLINE)
        assert await told(h) == {}
        h.wait(599.9)
        assert await told(h) == {}
        h.wait(0.1)
        assert await told(h) == {1: [(None, ONLINE)]}
        assert h.pipeline.wait_count == 0
        assert (await row(h)).waits == ""
        assert h.clock.armed == [], "nothing ticks when nobody waits"
        show(h, ONLINE, OFFLINE)
        (wait,) = h.pipeline.waits("ce09")
        assert (wait.webhook, wait.previous) == (1, ONLINE)
        assert wait.until_ms == h.clock.wall_ms() + 600_000
        assert h.pipeline.wait_count == 1
        assert (await row(h)).waits != ""
        h.wait(599)
        show(h, OFFLINE, ONLINE)
        assert (await row(h)).waits == "", "in the transaction of the transition"
        h.wait(5000)
        assert await told(h) == {}
        assert h.clock.armed == []


async def test_one_that_waits_hears_later_and_others_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, text({1: 0, 2: 5})) as h:
        show(h, None, ONLINE)
        assert await told(h) == {1: [(None, ONLINE)]}
        h.wait(10)
        assert await told(h) == {2: [(None, ONLINE)]}
        began = h.clock.wall_ms()
        show(h, ONLINE, UNPLUGGED)
        assert await told(h) == {1: [(ONLINE, UNPLUGGED)]}
        h.wait(5)
        await h.came()
        assert [callback.created_ms for callback in h.sent] == [began + 5_000]
        assert await told(h) == {2: [(ONLINE, UNPLUGGED)]}


async def test_a_stay_that_ends_the_very_moment_it_has_lasted_counts(tmp_path: Path) -> None:
    """Its timer comes late: the transition that ends it stores both, in their order."""
    async with house(tmp_path, text({1: 5})) as h:
        show(h, None, ONLINE)
        h.wait(4.9)
        h.clock.now += 0.1  # a loop that is busy: no timer has fired
        show(h, ONLINE, OFFLINE)
        record = await row(h)
        assert await told(h) == {1: [(None, ONLINE)]}
        assert owed_of(record)[0].by == {1: ONLINE}
        h.wait(4.999)
        assert await told(h) == {}
        show(h, OFFLINE, ONLINE)
        h.wait(60)
        assert await told(h) == {}


async def test_what_is_told_is_the_stay_with_its_reason(tmp_path: Path) -> None:
    async with house(tmp_path, text({1: 5})) as h:
        show(h, None, UTILIZING)
        h.wait(4.9)
        h.clock.now += 0.1
        show(h, UTILIZING, OFFLINE)
        await h.came()
        (body,) = [json.loads(callback.body) for callback in h.sent]
        assert (body["eventDescription"], body["reason"]) == ("Utilizing", "in use by alice")
        assert body["creationTime"] == "2023-11-14T22:13:25.000Z"


@pytest.mark.parametrize(
    "keys", [{"enabled": "false"}, {"events": '["online"]'}, {"tags": '["rack-1"]'}]
)
async def test_one_that_does_not_want_it_goes_by_it_all_the_same(
    tmp_path: Path, keys: dict[str, str]
) -> None:
    """As one that does not wait: what it did not want is not made up for later."""
    file = text({1: 5})
    wanting = file.replace('events = ["online", "offline", "utilizing", "unplugged"]\n', "")
    if "events" not in keys:
        wanting = file
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    unwanted = wanting.replace('payload = "extended"\n', f'payload = "extended"\n{more}')
    async with house(tmp_path, file) as h:
        show(h, None, ONLINE)
        h.wait(5)
        reload(h, unwanted)
        show(h, ONLINE, OFFLINE)
        h.wait(5)
        assert (await row(h)).waits == ""
        reload(h, file)
        h.wait(50)
        assert await told(h) == {1: [(None, ONLINE)]}
        show(h, OFFLINE, UNPLUGGED)
        h.wait(5)
        assert await told(h) == {1: [(OFFLINE, UNPLUGGED)]}


async def test_a_reload_counts_from_when_the_stay_began(tmp_path: Path) -> None:
    async with house(tmp_path, text({1: 100, 2: 100, 3: 100, 4: 0})) as h:
        show(h, None, ONLINE)
        assert await told(h) == {4: [(None, ONLINE)]}
        h.wait(50)
        reload(h, text({1: 60, 2: 20, 3: 0, 4: 10, 5: 10}))
        assert await told(h) == {2: [(None, ONLINE)], 3: [(None, ONLINE)]}, "and no more to 4, 5"
        h.wait(9.9)
        assert await told(h) == {}
        h.wait(0.1)
        assert await told(h) == {1: [(None, ONLINE)]}
        assert (await row(h)).waits == ""


async def test_one_that_is_deleted_leaves_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, text({1: 100, 2: 100})) as h:
        show(h, None, ONLINE)
        reload(h, text({2: 100}))
        assert owed_of(await row(h))[0].by == {2: None}
        reload(h, text({1: 100, 2: 100}))
        h.wait(100)
        assert await told(h) == {2: [(None, ONLINE)]}, "1 is new: it goes by what is"


async def test_frozen_time_does_not_count(tmp_path: Path) -> None:
    """A process that was stopped has not seen that the phone stayed."""
    async with house(tmp_path, text({1: 100})) as h:
        show(h, None, ONLINE)
        h.wait(50)
        h.clock.now += 500
        h.wait(1)
        assert await told(h) == {}
        (wait,) = h.pipeline.waits("ce09")
        assert abs(wait.until_ms - h.clock.wall_ms() - 49_000) < 1000 * BEAT, "and says so"
        h.wait(50)
        assert await told(h) == {1: [(None, ONLINE)]}


@pytest.mark.parametrize("jump", [-86_400, -1_800, 1_800, 86_400])
async def test_a_clock_that_is_set_neither_ends_a_wait_nor_puts_it_off(
    tmp_path: Path, jump: int
) -> None:
    """Neither while it runs, nor for whoever is killed after that and begins again."""
    clock = StubClock()
    async with house(tmp_path, text({1: 600, 2: 900}), clock=clock) as h:
        show(h, None, ONLINE)
        h.wait(100)
        clock.set_wall(jump)
        h.wait(499)
        assert await told(h) == {}
        h.wait(1)
        assert await told(h) == {1: [(None, ONLINE)]}
    async with house(tmp_path, text({1: 600, 2: 900}), derives=False, clock=clock) as h:
        await begin(h, ONLINE)
        h.wait(299)
        assert await told(h) == {}
        h.wait(1)
        assert await told(h) == {2: [(None, ONLINE)]}


@pytest.mark.parametrize("shown", [OFFLINE, ONLINE, UNPLUGGED])
async def test_after_a_restart_a_stay_counts_that_is_seen_to_last(
    tmp_path: Path, shown: DeviceState
) -> None:
    clock, file = StubClock(), text({1: 100})
    async with house(tmp_path, file, clock=clock) as h:
        show(h, None, ONLINE)
        h.wait(100)
        show(h, ONLINE, OFFLINE)
        h.wait(10)
        assert await told(h) == {1: [(None, ONLINE)]}
    clock.advance(500)
    async with house(tmp_path, file, derives=False, clock=clock) as h:
        h.wait(30)
        assert await told(h) == {}, "nothing before the sources have spoken"
        h.pipeline.observe(Snapshot(UDEV, sees(shown)[0]))
        h.pipeline.observe(Down(ADB, "it begins"))
        h.wait(1)
        if shown is not UNPLUGGED:
            assert await told(h) == {}, "nobody knows whether it is as it was"
        h.pipeline.observe(Snapshot(ADB, sees(shown)[1]))
        expected = {OFFLINE: {1: [(ONLINE, OFFLINE)]}}.get(shown, {})
        assert await told(h) == expected
        h.wait(100)
        assert await told(h) == ({1: [(ONLINE, UNPLUGGED)]} if shown is UNPLUGGED else {})


async def test_one_that_is_ignored_meanwhile_waits_until_it_is_shown(tmp_path: Path) -> None:
    file = text({1: 100})
    ignored = file + '[[devices]]\nudid = "ce09"\nvisibility = "ignore"\n'
    async with house(tmp_path, file) as h:
        show(h, None, ONLINE)
        reload(h, ignored)
        h.wait(200)
        assert await told(h) == {}
        assert h.clock.armed == []
        reload(h, file)
        assert await told(h) == {1: [(None, ONLINE)]}


async def test_a_whole_rack_is_due_at_once(tmp_path: Path) -> None:
    """More than are derived in one turn; and what was put off leaves nothing behind."""
    phones = [(f"phone{n:03}", f"1-{n}") for n in range(1, 121)]
    async with house(tmp_path, text({1: 100, 2: 100, 3: 0})) as h:
        for serial, port in phones:
            h.see(usb(serial, port), adb(serial, port))
        assert h.pipeline.wait_count == 240
        h.wait(100)
        for _ in range(100):
            await h.heard()
        found = await told(h)
        assert found == dict.fromkeys((1, 2, 3), [(None, ONLINE)] * 120)
        assert h.clock.armed == []


class Walk:
    """A phone, a pipeline that is begun again and again, and each webhook alone."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng = path, rng
        self.clock = StubClock()
        self.hooks = self.some_hooks()
        self.expected = EachAlone(self.hooks)
        self.state: DeviceState | None = None
        self.silence: Silence | None = None
        self.told: dict[int, list[Told]] = {}
        self.stack = AsyncExitStack()

    def some_hooks(self) -> dict[int, float]:
        ids = self.rng.sample(range(1, 6), self.rng.randrange(1, 5))
        return {each: self.rng.choice([0, 0, 1, 3, 10, 30]) for each in sorted(ids)}

    async def begin(self) -> None:
        context = house(self.path, text(self.hooks), derives=False, clock=self.clock)
        self.house = await self.stack.enter_async_context(context)
        await begin(self.house, self.state)

    async def step(self) -> None:
        rng, h = self.rng, self.house
        match rng.choice(
            ["enter", "enter", "enter", "wait", "wait", "silence", "reload", "set", "restart"]
        ):
            case "enter":
                state = rng.choice(list(DeviceState))
                if state is not self.state and (self.state or state is not UNPLUGGED):
                    show(h, self.state, state)
                    self.expected.enter(state)
                    self.state = state
            case "wait":
                self.wait(rng.choice([0, 1, 2, 3, 9, 10, 40]))
            case "silence":
                await self.toggle()
            case "reload":
                self.hooks = self.some_hooks()
                reload(h, text(self.hooks))
                self.expected.reload(self.hooks)
            case "set":
                self.clock.set_wall(rng.randrange(-3600, 3600))
                self.wait(11)
            case "restart":
                await self.restart()
        await self.check()

    def wait(self, seconds: int) -> None:
        self.house.wait(seconds)
        self.expected.wait(seconds)

    async def toggle(self) -> None:
        h = self.house
        if self.silence is None:
            ends_ms = h.clock.wall_ms() + 86_400_000
            self.silence = await h.silences.add(SilenceKind.ALL, "", "why", ends_ms, "alice")
        else:
            await h.silences.end(self.silence.id, "bob")
            self.silence = None
        await h.heard()
        self.expected.silence(on=self.silence is not None)

    async def restart(self) -> None:
        await self.check()
        await self.stack.aclose()
        down = self.rng.choice([0, 1, 5, 60])
        self.clock.advance(down)
        self.hooks = self.rng.choice([self.hooks, self.some_hooks()])
        if self.state is not None:
            self.state = self.rng.choice([self.state, *DeviceState])
        silenced = self.silence is not None
        self.expected.restart(down, self.hooks, self.state, silenced=silenced)
        self.told = {each: told for each, told in self.told.items() if each in self.hooks}
        await self.begin()

    async def check(self) -> None:
        found = await told(self.house, self.told)
        self.told = {each: found[each] for each in self.hooks}
        assert self.told == self.expected.told
        if self.state is not None:
            assert self.house.state("ce09")[0] is self.state


@pytest.mark.parametrize("number", worlds(20))
async def test_each_webhook_is_told_what_it_would_be_told_alone(
    tmp_path: Path, number: int
) -> None:
    walk = Walk(tmp_path, random.Random(seed(number)))
    await walk.begin()
    async with walk.stack:
        for _ in range(60):
            await walk.step()

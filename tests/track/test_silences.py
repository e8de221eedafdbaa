"""Silences over a real store: the receiver is told exactly the net changes, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import parse
from agent.errors import BusyError, SilenceError, StoreError, UnknownSilenceError
from agent.model import Bridge, DeviceState, Gone, SilenceKind, Snapshot, Usage, UsageReading
from agent.track import silences as module
from agent.track.derive import CALLS_BACK
from agent.track.silences import LOOK, Silences
from tests.kit.clock import StubClock
from tests.kit.configs import AT_ONCE
from tests.kit.tracking import (
    ADB,
    HOOK,
    ONLY_ANDROID,
    UDEV,
    House,
    adb,
    house,
    nobody_hears,
    reconfigure,
    usb,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.model import Silence

ALL = SilenceKind.ALL
TEXT = ONLY_ANDROID + AT_ONCE + HOOK


async def silence(
    h: House, kind: SilenceKind = ALL, value: str = "", seconds: float = 100, by: str = "alice"
) -> Silence:
    made = await h.silences.add(
        kind, value, "cables are changed", h.clock.wall_ms() + round(seconds * 1000), by
    )
    await h.heard()
    return made


def unplug(h: House, serial: str, port: str = "1-1") -> None:
    h.pipeline.observe(Gone(UDEV, f"/devices/{port}"))
    h.pipeline.observe(Gone(ADB, serial))


async def ended(h: House, seconds: float = 100) -> None:
    h.wait(seconds)
    await h.heard()


async def test_the_net_change_is_told_once_at_the_end(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"), usb("stays", "1-2"), adb("stays", "1-2"))
        assert len(await h.came()) == 2
        await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY), adb("stays", "1-2", bridge=Bridge.NOT_READY))
        h.see(adb("stays", "1-2"))
        unplug(h, "ce09")
        assert h.state("ce09")[0] is DeviceState.UNPLUGGED, "followed as ever"
        assert len(await h.came()) == 2
        assert len(await h.store.transitions.of("ce09", 9)) == 3, "stored as ever"
        await ended(h)
        assert (await h.came())[2:] == [("ce09", "Unplugged")], "and the other is as it was"
        assert json.loads(h.sent[-1].body)["creationTime"] == "2023-11-14T22:15:00.000Z"
        assert len(await h.store.transitions.of("ce09", 9)) == 3, "no state of its own changed"
        assert await h.store.silences.all() == []
        assert h.clock.armed == [], "nothing ticks when nothing happens"
        h.see(usb("ce09"), adb("ce09"))
        assert (await h.came())[3:] == [("ce09", "Online")], "at once, as before"


async def test_the_previous_state_is_the_one_before_the_silence(tmp_path: Path) -> None:
    text = TEXT.replace('name = "all"', 'name = "all"\npayload = "extended"')
    async with house(tmp_path, text) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        unplug(h, "ce09")
        await ended(h)
        await h.came()
        assert json.loads(h.sent[-1].body)["previousState"] == "online"


async def test_a_phone_first_seen_in_a_silence(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        await silence(h)
        h.see(usb("new"), adb("new"), usb("visits", "1-2"), adb("visits", "1-2"))
        unplug(h, "visits", "1-2")
        view = h.pipeline.views.one("new")
        assert view is not None
        assert view.told is None
        await ended(h)
        assert await h.came() == [("new", "Online")], "one that came and went was never there"


async def test_a_session_that_ends_in_a_silence_tells_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        await silence(h)
        h.pipeline.use("ce09", UsageReading(Usage.IDLE))
        await ended(h)
        assert [event for _, event in await h.came()] == ["Online", "Utilizing"]
        await silence(h)
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "bob"))
        await ended(h)
        assert [event for _, event in await h.came()][2:] == ["Utilizing"]


async def test_a_hub_covers_what_is_plugged_in_there_meanwhile(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("there", "1-4.2.1"), adb("there", "1-4.2.1"))
        assert await h.came() == [("there", "Online")]
        await silence(h, SilenceKind.HUB, "1-4.2")
        unplug(h, "there", "1-4.2.1")
        h.see(usb("new", "1-4.2.3"), adb("new", "1-4.2.3"))
        h.see(usb("beside", "1-4.21"), adb("beside", "1-4.21"))
        assert (await h.came())[1:] == [("beside", "Online")]
        await ended(h)
        assert sorted((await h.came())[2:]) == [("new", "Online"), ("there", "Unplugged")]


async def test_a_phone_that_is_moved_out_of_the_silenced_hub_is_told_of_at_once(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09", "1-4.2"), adb("ce09", "1-4.2"))
        await silence(h, SilenceKind.HUB, "1-4")
        unplug(h, "ce09", "1-4.2")
        h.see(usb("ce09", "1-5"), adb("ce09", "1-5", bridge=Bridge.NOT_READY))
        h.wait(1)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]
        await ended(h)
        assert len(await h.came()) == 2


async def test_the_last_of_several_ends_it(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h, seconds=10)
        long = await silence(h, SilenceKind.DEVICE, "ce09", seconds=30)
        unplug(h, "ce09")
        await ended(h, 10)
        view = h.pipeline.views.one("ce09")
        assert view is not None
        assert view.silence == long
        assert len(await h.came()) == 1
        await ended(h, 20)
        assert (await h.came())[1:] == [("ce09", "Unplugged")]


async def test_one_that_is_ended_early_tells_now(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        made = await silence(h)
        unplug(h, "ce09")
        await h.silences.end(made.id, "bob")
        await h.heard()
        assert (await h.came())[1:] == [("ce09", "Unplugged")]
        with pytest.raises(UnknownSilenceError, match="bob ended it"):
            await h.silences.end(made.id, "bob")
        await ended(h)
        assert len(await h.came()) == 2


@pytest.mark.parametrize("meanwhile", ["as it was", "it came back", "it left"])
async def test_one_that_ends_while_no_agent_runs_ends_at_the_start_once(
    tmp_path: Path, meanwhile: str
) -> None:
    """What is told is where the phone has come to rest by then, not where it was last seen."""
    text = TEXT.replace('unplugged = "0s"', 'unplugged = "3s"')
    async with house(tmp_path, text) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        assert len(await h.came()) == 1
    clock = StubClock()
    clock.advance(200)
    after = [("ce09", {"as it was": "Offline", "it left": "Unplugged"}.get(meanwhile, ""))]
    for expected in ([pair for pair in after if pair[1]], []):
        async with house(tmp_path, text, derives=False, clock=clock) as h:
            assert await h.came() == [], "nothing before the sources have spoken"
            here = () if meanwhile == "it left" else (usb("ce09"),)
            bridge = Bridge.READY if meanwhile == "it came back" else Bridge.NOT_READY
            listed = (adb("ce09", bridge=bridge),) if here else ()
            h.pipeline.observe(Snapshot(UDEV, here))
            h.pipeline.observe(Snapshot(ADB, listed))
            h.wait(10)
            await h.heard()
            assert await h.came() == expected
            assert await h.store.silences.all() == []


async def test_a_restart_in_a_silence_knows_what_is_owed(tmp_path: Path) -> None:
    clock = StubClock()
    async with house(tmp_path, TEXT, clock=clock) as h:
        h.see(usb("ce09"), adb("ce09"))
        made = await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        assert len(await h.came()) == 1
    async with house(tmp_path, TEXT, derives=False, clock=clock) as h:
        assert h.silences.all() == [made]
        h.pipeline.observe(Snapshot(UDEV, ()))
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(1)
        view = h.pipeline.views.one("ce09")
        assert view is not None
        assert (view.state, view.told) == (DeviceState.UNPLUGGED, DeviceState.ONLINE)
        assert await h.came() == []
        await ended(h)
        assert await h.came() == [("ce09", "Unplugged")]


async def test_what_was_kept_back_of_an_ignored_device_waits_until_it_is_shown(
    tmp_path: Path,
) -> None:
    ignored = TEXT + '[[devices]]\nudid = "ce09"\nvisibility = "ignore"\n'
    async with house(tmp_path, TEXT) as h:
        hooks = {129: parse(TEXT, "t").webhooks[0]}
        h.see(usb("ce09"), adb("ce09"))
        await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        reconfigure(h.pipeline, parse(ignored, "t"), hooks)
        await ended(h)
        assert len(await h.came()) == 1
        reconfigure(h.pipeline, parse(TEXT, "t"), hooks)
        assert (await h.came())[1:] == [("ce09", "Offline")]


async def test_the_webhooks_of_the_end_are_told(tmp_path: Path) -> None:
    """One that was made meanwhile is, one that was turned off or scoped otherwise is not."""
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        config = parse(
            TEXT.replace('name = "all"', 'name = "all"\nenabled = false')
            + HOOK.replace("129", "130").replace('"all"', '"new"')
            + HOOK.replace("129", "131").replace('"all"', '"scoped"\ntags = ["no"]'),
            "t",
        )
        reconfigure(h.pipeline, config, {hook.id or 0: hook for hook in config.webhooks})
        await ended(h)
        assert [callback.webhook_id for callback in h.sent if callback.state == "offline"] == []
        await h.came()
        assert [callback.webhook_id for callback in h.sent] == [129, 130]


async def test_a_tag_that_a_reload_takes_away_ends_it_for_that_device(tmp_path: Path) -> None:
    entry = '[[devices]]\nudid = "ce09"\ntags = ["rack-1"]\n'
    async with house(tmp_path, TEXT + entry) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h, SilenceKind.TAG, "rack-1")
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        assert len(await h.came()) == 1
        reconfigure(h.pipeline, parse(TEXT, "t"), {129: parse(TEXT, "t").webhooks[0]})
        assert (await h.came())[1:] == [("ce09", "Offline")]


async def test_a_clock_that_is_set_ends_it_by_what_it_says(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h, seconds=1000)
        unplug(h, "ce09")
        h.clock.set_wall(-500)
        await ended(h, 1000)
        assert len(await h.came()) == 1, "its end was a moment of the clock, which is to come"
        h.clock.set_wall(500)
        await ended(h, LOOK)
        assert (await h.came())[1:] == [("ce09", "Unplugged")]


async def test_a_transition_behind_the_end_is_told_though_no_timer_came(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT) as h:
        h.see(usb("ce09"), adb("ce09"))
        await silence(h, seconds=1000)
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        h.clock.set_wall(1000)
        unplug(h, "ce09")
        assert (await h.came())[1:] == [("ce09", "Unplugged")]
        await ended(h, LOOK)
        assert len(await h.came()) == 2


async def test_a_rack_is_silenced_and_told_of(tmp_path: Path) -> None:
    """More than are derived in one turn."""
    phones = [(f"phone{n:03}", f"1-{n}") for n in range(1, 121)]
    async with house(tmp_path, TEXT) as h:
        for serial, port in phones:
            h.see(usb(serial, port), adb(serial, port))
        await silence(h)
        assert len(h.pipeline.views.all()) == h.pipeline.views.census().silenced == 120
        for serial, port in phones:
            unplug(h, serial, port)
        assert len(await h.came()) == 120
        await ended(h)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sorted((await h.came())[120:]) == [(serial, "Unplugged") for serial, _ in phones]


async def test_who_follows_hears_of_every_device_that_is_silenced_or_no_longer(
    tmp_path: Path,
) -> None:
    """Also of those that came meanwhile, or were silenced by an agent before."""
    clock, heard = StubClock(), set[str]()
    async with house(tmp_path, TEXT, clock=clock, changed=heard.add) as h:
        h.see(usb("ce09"), adb("ce09"), usb("beside", "2-1"), adb("beside", "2-1"))
        heard.clear()
        await silence(h, SilenceKind.HUB, "1-1")
        assert heard == {"ce09"}
    async with house(tmp_path, TEXT, derives=False, clock=clock, changed=heard.add) as h:
        h.pipeline.observe(Snapshot(UDEV, (usb("ce09"), usb("beside", "2-1"))))
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"), adb("beside", "2-1"))))
        h.see(usb("new", "1-1.1"), adb("new", "1-1.1"))
        heard.clear()
        await ended(h)
        assert heard == {"ce09", "new"}
        assert await h.came() == [("new", "Online")]


async def test_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    async with house(tmp_path, TEXT) as h:
        await silence(h)
        await silence(h)
        with pytest.raises(BusyError, match="2 silences already"):
            await silence(h)
        with pytest.raises(SilenceError, match="passed"):
            await silence(h, seconds=0)


class _Refuses:
    async def put(self, silence: Silence) -> None:
        raise StoreError(f"no room for {silence}")

    async def delete(self, silence_id: str) -> None:
        raise StoreError(f"no room for {silence_id}")


async def test_one_that_the_store_refuses_does_not_count() -> None:
    clock = StubClock()
    silences = Silences((), _Refuses(), clock, nobody_hears)
    with pytest.raises(StoreError, match="no room"):
        await silences.add(ALL, "", "why", clock.wall_ms() + 1000, "alice")
    assert silences.count == 0
    assert clock.armed == []


# --- any order of transitions, silences and restarts ---------------------------------------

_PHONES = ("a", "b")
_PORTS = {"a": "1-4.2", "b": "1-4.21"}
_SHOWN = ("ready", "busy", "not ready", "gone")
_STATE = {
    "ready": DeviceState.ONLINE,
    "busy": DeviceState.UTILIZING,
    "not ready": DeviceState.OFFLINE,
    "gone": DeviceState.UNPLUGGED,
}
_KINDS = ("show",) * 4 + ("silence", "silence", "end", "wait", "wait", "restart")


def _steps(dice: random.Random) -> Iterator[tuple[Any, ...]]:
    for _ in range(30):
        seconds, phone, how = (
            dice.choice((1, 2, 5, 10, 40)),
            dice.choice(_PHONES),
            dice.choice(_SHOWN),
        )
        match dice.choice(_KINDS):
            case "show":
                yield "show", phone, how
            case "silence":
                yield "silence", dice.choice(list(_COVERS)), seconds
            case "end":
                yield "end", dice.randrange(9)
            case "wait":
                yield "wait", seconds
            case "restart":
                yield "restart", seconds, {phone: how}


class _Model:
    """The contract: what the receiver is to be told, of silences as lists of who and until when."""

    def __init__(self) -> None:
        self.now = 0
        self.silences: list[tuple[frozenset[str], int]] = []
        self.told: dict[str, DeviceState | None] = dict.fromkeys(_PHONES)
        self.state: dict[str, DeviceState | None] = dict.fromkeys(_PHONES)
        self.came: list[tuple[str, str]] = []

    def tell(self) -> None:
        for phone in _PHONES:
            if any(phone in who and ends > self.now for who, ends in self.silences):
                continue
            before, state = self.told[phone], self.state[phone]
            self.told[phone] = state
            if state is not None and (before, state) in CALLS_BACK:
                self.came.append((phone, state.capitalize()))

    def see(self, shown: dict[str, str]) -> None:
        for phone, how in shown.items():
            if how != "gone" or self.state[phone] is not None:
                self.state[phone] = _STATE[how]
        self.tell()

    def until(self, moment: int) -> None:
        for ends in sorted({ends for _, ends in self.silences if self.now < ends <= moment}):
            self.now = ends
            self.tell()
        self.now = moment


_COVERS = {
    (ALL, ""): frozenset(_PHONES),
    (SilenceKind.DEVICE, "a"): frozenset("a"),
    (SilenceKind.HUB, "1-4.2"): frozenset("a"),
    (SilenceKind.HUB, "1-4"): frozenset(_PHONES),
}


def _bridge(how: str) -> Bridge:
    return Bridge.NOT_READY if how == "not ready" else Bridge.READY


def _show(h: House, phone: str, how: str) -> None:
    if how == "gone":
        unplug(h, phone, _PORTS[phone])
        h.pipeline.use(phone, UsageReading(Usage.IDLE))
        return
    usage = Usage.IN_USE if how == "busy" else Usage.IDLE
    if usage is Usage.IN_USE:  # so that it is not free for a moment
        h.pipeline.use(phone, UsageReading(usage, "alice"))
    h.see(usb(phone, _PORTS[phone]), adb(phone, _PORTS[phone], bridge=_bridge(how)))
    h.pipeline.use(phone, UsageReading(usage, "alice" if usage is Usage.IN_USE else ""))


class _Walk:
    """The steps against the agent's own parts, and against the model."""

    def __init__(self, directory: Path, steps: list[tuple[Any, ...]]) -> None:
        self.directory = directory
        self.todo = list(steps)
        self.model = _Model()
        self.clock = StubClock()
        self.shown = dict.fromkeys(_PHONES, "gone")
        self.came: list[tuple[str, str]] = []

    async def run(self) -> None:
        while (gap := await self.live()) is not None:
            _, seconds, meanwhile = gap
            self.clock.advance(seconds)
            self.model.now += seconds
            self.shown |= meanwhile

    async def live(self) -> tuple[Any, ...] | None:
        """One agent, from its start to its end; what happens until the next one, if there is."""
        gap = None
        async with house(self.directory, TEXT, derives=False, clock=self.clock) as h:
            self.start(h)
            await self.compare(h)
            while self.todo and gap is None:
                step = self.todo.pop(0)
                if step[0] == "restart":
                    gap = step
                else:
                    await self.do(h, step)
                    await self.compare(h)
            self.came += await h.came()
            h.pipeline.stop()
        return gap

    async def compare(self, h: House) -> None:
        """What came by now; of phones whose silences end together in any order."""
        came = self.came + await h.came()
        for phone in _PHONES:
            mine = [told for told in came if told[0] == phone]
            assert mine == [told for told in self.model.came if told[0] == phone]

    def start(self, h: House) -> None:
        here = {phone: how for phone, how in self.shown.items() if how != "gone"}
        for phone, how in here.items():
            if how == "busy":
                h.pipeline.use(phone, UsageReading(Usage.IN_USE, "alice"))
        h.pipeline.observe(Snapshot(UDEV, tuple(usb(each, _PORTS[each]) for each in here)))
        seen = (adb(phone, _PORTS[phone], bridge=_bridge(how)) for phone, how in here.items())
        h.pipeline.observe(Snapshot(ADB, tuple(seen)))
        h.wait(0)
        self.model.see(self.shown)

    async def do(self, h: House, step: tuple[Any, ...]) -> None:
        silences = h.silences.all()
        match step:
            case ("show", str(phone), str(how)) if self.shown[phone] != how:
                self.shown[phone] = how
                _show(h, phone, how)
                self.model.see(self.shown)
            case ("silence", what, int(seconds)):
                await silence(h, what[0], what[1], seconds)
                self.model.silences.append((_COVERS[what], self.model.now + seconds))
            case ("end", int(index)) if silences:
                await self.end(h, silences[index % len(silences)])
            case ("wait", int(seconds)):
                for _ in range(seconds):
                    h.wait(1)
                    await h.heard()
                self.model.until(self.model.now + seconds)

    async def end(self, h: House, one: Silence) -> None:
        await h.silences.end(one.id, "bob")
        await h.heard()
        left = (one.ends_ms - self.clock.wall_ms()) // 1000
        self.model.silences.remove((_COVERS[one.kind, one.value], self.model.now + left))
        self.model.tell()


@pytest.mark.parametrize("walks", [10, pytest.param(1000, marks=pytest.mark.long)])
async def test_the_receiver_is_told_exactly_the_net_changes(tmp_path: Path, walks: int) -> None:
    """The same walks each time; RANDOM=1 takes others."""
    first = random.randrange(10**6) if os.environ.get("RANDOM") else 0
    for seed in range(first, first + walks):
        print("seed", seed)
        await _Walk(tmp_path / str(seed), list(_steps(random.Random(seed)))).run()

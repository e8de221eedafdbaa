"""What the pipeline makes of time: gaps that nobody saw, and what is asked before a hold ends."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.model import Bridge, Changed, DeviceState, Down, Gone, Sighting, Snapshot, SourceName
from agent.track.deriver import MANY, SLICE
from tests.kit.clock import StubClock
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, UDEV, House, adb, house, usb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def turns() -> None:
    """Let everything that is ready on the loop run."""
    for _ in range(10):
        await asyncio.sleep(0)


def freeze(h: House, seconds: float) -> None:
    """The process stands still: the clock goes on, no timer fires."""
    h.clock.now += seconds


def plugged(h: House) -> None:
    h.see(usb("ce09"), adb("ce09"))


def pulled(h: House) -> None:
    h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
    h.pipeline.observe(Gone(ADB, "ce09"))


class Asked:
    """The sources as far as they can be asked: what each would tell, and when it answers."""

    def __init__(self) -> None:
        self.questions: list[SourceName] = []
        self.tell: dict[SourceName, Callable[[], None]] = {}
        self.silent = False
        self._go = asyncio.Event()

    async def recheck(self, source: SourceName) -> None:
        self.questions.append(source)
        if self.silent:
            await self._go.wait()
        if source in self.tell:
            self.tell[source]()

    def answer(self) -> None:
        self.silent = False
        self._go.set()


# --- F1: time that was not observed ---------------------------------------------------------


@pytest.mark.parametrize("seen", [0.1, 0.6, 1.7, 2.9])
@pytest.mark.parametrize("frozen", [1.0, 12.0, 3600.0])
async def test_a_phone_that_was_back_before_the_process_went_on_makes_no_callback(
    tmp_path: Path, seen: float, frozen: float
) -> None:
    async with house(tmp_path) as h:
        plugged(h)
        pulled(h)
        h.wait(seen)
        freeze(h, frozen)
        h.wait(0)  # timers may come before what waits in the sockets
        plugged(h)
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_the_first_message_after_a_gap_may_be_stale(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plugged(h)
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.wait(1)
        freeze(h, 12)
        h.pipeline.observe(Gone(ADB, "ce09"))  # of the same moment as udev's
        h.wait(0)
        await turns()
        plugged(h)
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_nothing_counts_after_a_gap_before_the_sources_have_spoken(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        pulled(h)
        h.wait(2.9)
        await turns()
        assert asked.questions == [UDEV, ADB], "shortly before it would count"
        asked.silent = True
        freeze(h, 12)
        h.wait(0.3)
        await turns()
        assert asked.questions == [UDEV, ADB] * 2, "what was asked before the gap is void"
        plugged(h)
        asked.answer()
        await turns()
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_an_answer_that_was_given_before_a_gap_is_void(tmp_path: Path) -> None:
    asked = Asked()
    asked.silent = True
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        pulled(h)
        h.wait(2.5)
        await turns()
        freeze(h, 12)
        asked.answer()
        await turns()
        h.wait(0.6)
        asked.tell[UDEV] = lambda: h.see(usb("ce09"))
        asked.tell[ADB] = lambda: h.see(adb("ce09"))
        await turns()
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_a_phone_that_is_gone_counts_after_a_gap_too(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        pulled(h)
        h.wait(1)
        freeze(h, 100)
        for _ in range(10):
            h.wait(0.25)
            await turns()
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


async def test_a_grace_counts_the_time_that_was_seen(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plugged(h)
        h.pipeline.observe(Down(ADB, "EOF"))
        h.wait(10)
        freeze(h, 300)
        h.wait(0)
        h.wait(19)
        assert h.state("ce09")[0] is DeviceState.ONLINE
        h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_a_machine_that_is_always_late_still_comes_to_an_end(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        pulled(h)
        for _ in range(30):  # every look comes a second late
            freeze(h, 1.5)
            h.wait(0)
            await turns()
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


async def test_a_beat_while_something_waits_and_none_else(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        plugged(h)
        assert h.clock.armed == []
        h.see(adb("ce09", bridge=Bridge.NOT_READY))
        assert len(h.clock.armed) == 1
        assert h.clock.armed[0] <= 0.5
        h.wait(0.2)
        assert h.pipeline.overdue() == 0.0
        freeze(h, 3)
        assert h.pipeline.overdue() == pytest.approx(2.7)
        h.wait(30)
        assert h.clock.armed == []


async def test_any_gaps_at_all_invent_nothing(tmp_path: Path) -> None:
    """Phones replugged for 0.3 s while the process stands still, at random moments."""
    chance = random.Random(12)
    async with house(tmp_path) as h:
        plugged(h)
        for _ in range(200):
            h.wait(chance.uniform(0, 20))
            pulled(h)
            h.wait(chance.uniform(0, 2.9))
            freeze(h, chance.choice([1, 12, 100]))
            if chance.random() < 0.5:
                h.wait(0)
            plugged(h)
            h.wait(40)  # no flapping
        assert await h.came() == [("ce09", "Online")]


# --- F4: the reason is asked for once more --------------------------------------------------


async def test_a_state_counts_with_the_newest_reason(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        asked.tell[ADB] = lambda: h.pipeline.observe(
            Changed(_not_ready("unauthorized: accept the prompt"))
        )
        h.see(_not_ready("offline: replug or restart it"))
        h.wait(4.4)
        await turns()
        assert asked.questions == []
        h.wait(0.1)
        await turns()
        assert asked.questions == [UDEV, ADB]
        h.wait(0.5)
        assert h.state("ce09") == (DeviceState.OFFLINE, "unauthorized: accept the prompt")
        (record,) = await h.store.devices.all()
        assert record.reason == "unauthorized: accept the prompt"


async def test_what_a_source_missed_is_found_out_before_it_counts(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        asked.tell[UDEV] = lambda: h.see(usb("ce09"))
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))  # a synthetic `remove`
        h.wait(2.9)
        await turns()
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]


async def test_a_source_that_hangs_delays_a_state_by_a_bounded_time(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        pulled(h)
        asked.silent = True
        h.wait(3)
        assert await h.came() == [("ce09", "Online")]
        h.wait(2.5)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
        asked.answer()


async def test_a_phone_that_leaves_while_its_state_waits_for_an_answer_starts_anew(
    tmp_path: Path,
) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        plugged(h)
        h.see(_not_ready("offline"))
        asked.silent = True
        h.wait(6)
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, "ce09"))
        asked.answer()
        await turns()
        h.wait(2.9)
        assert await h.came() == [("ce09", "Online")]
        await turns()
        h.wait(0.2)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


async def test_a_storm_asks_each_source_a_few_times_only(tmp_path: Path) -> None:
    asked = Asked()
    async with house(tmp_path, recheck=asked.recheck) as h:
        for n in range(80):
            h.see(usb(f"phone-{n}", f"1-{n}"), adb(f"phone-{n}", f"1-{n}"))
        for n in range(80):
            h.pipeline.observe(Gone(UDEV, f"/devices/1-{n}"))
            h.pipeline.observe(Gone(ADB, f"phone-{n}"))
        for _ in range(20):
            h.wait(0.25)
            await turns()
        assert len(await h.came()) == 160
        assert len(asked.questions) <= 6


async def test_what_needs_no_hold_asks_nobody_and_waits_for_nobody(tmp_path: Path) -> None:
    asked = Asked()
    asked.silent = True
    text = ONLY_ANDROID + '[hold]\noffline = "0s"\nunplugged = "0s"\n' + HOOK
    async with house(tmp_path, text, recheck=asked.recheck) as h:
        plugged(h)
        h.see(_not_ready("unauthorized"))
        pulled(h)
        assert [event for _, event in await h.came()] == ["Online", "Offline", "Unplugged"]
        assert asked.questions == []


def _not_ready(reason: str) -> Sighting:
    return replace(adb("ce09", bridge=Bridge.NOT_READY), reason=reason)


async def test_a_rack_that_comes_at_once_is_derived_in_slices(tmp_path: Path) -> None:
    """Between two slices the loop does something else: nobody waits for the whole rack."""
    rack = [f"phone-{number:02}" for number in range(20)]
    clock = StubClock()

    def costly(udid: str) -> None:
        del udid
        clock.now += wait  # each phone takes that long

    wait = 0.0
    async with house(tmp_path, clock=clock, changed=costly) as h:
        seen: list[int] = []

        def shown() -> int:
            return sum(view.state is DeviceState.ONLINE for view in h.pipeline.views.all())

        h.pipeline.observe(
            Snapshot(UDEV, tuple(usb(udid, f"1-{n}") for n, udid in enumerate(rack)))
        )
        wait = SLICE / 4
        h.pipeline.observe(Snapshot(ADB, tuple(adb(u, f"1-{n}") for n, u in enumerate(rack))))
        while shown() < len(rack) and len(seen) < 100:
            seen.append(shown())
            # What is said between two slices is heard at once, and its phone is derived with it.
            if len(seen) == 2:
                h.pipeline.observe(Changed(adb(rack[-1], "1-19", Bridge.NOT_READY)))
                h.pipeline.observe(Changed(adb(rack[-1], "1-19")))
            h.clock.advance(2 * SLICE)
        assert shown() == len(rack)
        assert len(seen) > 1
        assert seen == sorted(set(seen)), "each turn some of them, and none twice"
        assert sorted(await h.came()) == [(udid, "Online") for udid in rack]


async def test_deriving_a_whole_rack_begins_in_the_next_turn(tmp_path: Path) -> None:
    """To take in what is said of it fills the turn in which it comes."""
    rack = [f"phone-{number:02}" for number in range(MANY)]
    async with house(tmp_path) as h:
        h.pipeline.observe(
            Snapshot(UDEV, tuple(usb(udid, f"1-{n}") for n, udid in enumerate(rack)))
        )
        h.pipeline.observe(Snapshot(ADB, tuple(adb(u, f"1-{n}") for n, u in enumerate(rack))))
        assert DeviceState.ONLINE not in {view.state for view in h.pipeline.views.all()}
        h.clock.advance(0)
        assert sorted(await h.came()) == [(udid, "Online") for udid in rack]


async def test_a_stop_between_two_slices_decides_nothing_more(tmp_path: Path) -> None:
    clock = StubClock()

    def costly(udid: str) -> None:
        del udid
        clock.now += wait

    wait = 0.0
    async with house(tmp_path, clock=clock, changed=costly) as h:
        h.pipeline.observe(Snapshot(UDEV, (usb("a", "1-1"), usb("b", "1-2"))))
        wait = SLICE
        h.pipeline.observe(Snapshot(ADB, (adb("a", "1-1"), adb("b", "1-2"))))
        h.pipeline.stop()
        h.clock.advance(60)
        assert await h.came() == [("a", "Online")]

"""Batteries: when they are a concern, what is shown, and that they change no state."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import BatterySection, parse
from agent.model import (
    Battery,
    BatteryHealth,
    BatteryRead,
    Bridge,
    Changed,
    DeviceState,
    Down,
    Gone,
    Snapshot,
    Usage,
    UsageReading,
)
from agent.reasons import Reason, ReasonCode
from agent.subscribers import Topic
from agent.track.battery import is_tired, shown, words
from tests.kit.seed import seed
from tests.kit.settings import section
from tests.kit.tracking import ADB, HOOK, ONLY_ANDROID, adb, house, reconfigure, usb

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import SourceName
    from tests.kit.tracking import House

LIMITS = section(BatterySection)
ONLINE = DeviceState.ONLINE


def read(serial: str, battery: Battery | None, source: SourceName = ADB) -> BatteryRead:
    return BatteryRead(source, serial, battery)


# --- when it is a concern ------------------------------------------------------------------


def test_a_concern_begins_at_its_limit_and_ends_past_its_margin() -> None:
    battery: Battery | None = None
    came = []
    for level, warm in ((16, 44.9), (15, 45.0), (16, 44.0), (19, 42.1), (20, 42.0), (16, 44.9)):
        battery = shown(Battery(level, warm), battery, LIMITS)
        came.append((battery.low, battery.hot))
    no, yes = (False, False), (True, True)
    assert came == [no, yes, yes, yes, no, no]


@pytest.mark.parametrize(
    ("reading", "hot", "low"),
    [
        (Battery(), False, False),
        (Battery(None, 60.0), True, False),
        (Battery(1, None), False, True),
        (Battery(80, 30.0, BatteryHealth.OVERHEAT), True, False),
        (Battery(80, 30.0, BatteryHealth.DEAD), False, False),
    ],
)
def test_of_what_is_unknown_there_is_none(reading: Battery, hot: bool, low: bool) -> None:
    battery = shown(reading, Battery(hot=True, low=True), LIMITS)
    assert (battery.hot, battery.low) == (hot, low)


def test_0_turns_a_limit_off() -> None:
    off = section(BatterySection, low=0, hot=0.0)
    worst = Battery(0, 119.0, BatteryHealth.OVERHEAT)
    assert shown(worst, None, off) == worst


_LEVELS = st.none() | st.integers(0, 100)
_WARMTHS = st.none() | st.integers(-300, 1200).map(lambda tenths: tenths / 10)


@given(
    st.lists(st.tuples(_LEVELS, _WARMTHS), max_size=20),
    st.integers(0, 100),
    st.integers(0, 30),
    st.integers(0, 120),
    st.integers(0, 30),
)
def test_the_same_as_a_walk_over_all_that_was_read(
    readings: list[tuple[int | None, float | None]],
    low: int,
    low_margin: int,
    hot: int,
    hot_margin: int,
) -> None:
    """The model looks back: it is low iff it was at the limit, and never past the margin since."""
    limits = section(
        BatterySection,
        low=low,
        low_margin=low_margin,
        hot=float(hot),
        hot_margin=float(hot_margin),
    )
    battery: Battery | None = None
    for count, (level, warm) in enumerate(readings, start=1):
        battery = shown(Battery(level, warm), battery, limits)
        levels = [-x if x is not None else None for x, _ in readings[:count]]
        assert battery.low == (low > 0 and _lasts(levels, -low, -low - low_margin))
        warmths = [x for _, x in readings[:count]]
        assert battery.hot == (hot > 0 and _lasts(warmths, hot, hot - hot_margin))


def _lasts(values: list[int | None] | list[float | None], limit: float, clear: float) -> bool:
    """Whether behind the last value that is at or over the limit none is at `clear` or below."""
    for value in reversed(values):
        if value is None:
            return False
        if value >= limit:
            return True
        if value <= clear:
            return False
    return False


# --- what is shown -------------------------------------------------------------------------


def test_a_temperature_moves_by_a_degree_or_not_at_all() -> None:
    before = Battery(50, 31.0)
    assert shown(Battery(50, 31.9), before, LIMITS) is before
    assert shown(Battery(50, 32.0), before, LIMITS) == Battery(50, 32.0)


@pytest.mark.parametrize(
    "now",
    [
        Battery(51, 31.0),
        Battery(50, None),
        Battery(50, 31.0, charging=True),
        Battery(50, 31.0, BatteryHealth.COLD),
        Battery(None, 31.0),
    ],
)
def test_all_else_is_told_at_once(now: Battery) -> None:
    before = Battery(50, 31.0)
    assert shown(now, before, LIMITS) == now


def test_a_concern_is_told_with_the_temperature_of_that_moment() -> None:
    before = shown(Battery(50, 44.8), None, LIMITS)
    assert shown(Battery(50, 45.1), before, LIMITS) == Battery(50, 45.1, hot=True)


def test_a_steady_phone_makes_no_news_however_it_trembles() -> None:
    battery, news = Battery(50, 31.0), 0
    for tenths in (309, 314, 302, 319, 301, 318, 310) * 100:
        now = shown(Battery(50, tenths / 10), battery, LIMITS)
        news += now != battery
        battery = now
    assert news == 0


def test_the_words() -> None:
    hot, low = ReasonCode.BATTERY_HOT, ReasonCode.BATTERY_LOW
    assert words(None) == words(Battery(3, 90.0)) == Reason()
    assert words(Battery(9, 31.0, low=True)) == ("battery 9 %: low", low)
    assert words(Battery(50, 46.6, hot=True)) == ("battery 47 °C: too hot", hot)
    both = words(Battery(9, None, hot=True, low=True))
    assert both == ("battery: too hot; battery 9 %: low", hot)


def test_who_is_given_last() -> None:
    assert not is_tired(None)
    assert not is_tired(Battery())
    assert not is_tired(Battery(80, 30.0, BatteryHealth.COLD))
    for tired in (Battery(hot=True), Battery(low=True), Battery(80, 30.0, BatteryHealth.FAILURE)):
        assert is_tired(tired)


# --- in the pipeline -----------------------------------------------------------------------


async def test_a_concern_is_a_reason_stored_and_no_transition(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        assert h.state("ce09") == (ONLINE, "")
        since = h.pipeline.commits.counts.transitions.copy()
        for battery, reason, code in (
            (Battery(50, 46.0), "battery 46 °C: too hot", "battery_hot"),
            (Battery(9, 43.0), "battery 43 °C: too hot; battery 9 %: low", "battery_hot"),
            (Battery(9, 30.0), "battery 9 %: low", "battery_low"),
            (None, "", ""),
            (Battery(9, 30.0), "battery 9 %: low", "battery_low"),
            (Battery(30, 30.0), "", ""),
        ):
            h.pipeline.observe(read("ce09", battery))
            assert h.state("ce09") == (ONLINE, reason)
            await h.pipeline.commits.drain()
            (record,) = await h.store.devices.all()
            assert (record.state, record.reason, record.code) == (ONLINE, reason, code)
        assert h.pipeline.commits.counts.transitions == since
        assert await h.came() == [("ce09", "Online")]


async def test_it_stands_behind_who_uses_the_phone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.use("ce09", UsageReading(Usage.IN_USE, "alice"))
        h.pipeline.observe(read("ce09", Battery(9)))
        assert h.state("ce09") == (DeviceState.UTILIZING, "in use by alice; battery 9 %: low")
        view = h.pipeline.views.one("ce09")
        assert view is not None
        assert view.code == ReasonCode.IN_USE


async def test_it_is_known_while_the_phone_can_be_used_and_no_longer(tmp_path: Path) -> None:
    async with house(tmp_path) as h:

        def known() -> Battery | None:
            view = h.pipeline.views.one("ce09")
            assert view is not None
            assert h.pipeline.views.battery("ce09") == view.battery
            return view.battery

        full = Battery(90, 30.0)
        for gone in (
            Gone(ADB, "ce09"),
            Down(ADB, "connection refused"),
            Changed(adb("ce09", bridge=Bridge.NOT_READY)),
            Snapshot(ADB, ()),
        ):
            h.see(usb("ce09"))
            h.pipeline.observe(Snapshot(ADB, (adb("ce09"),)))
            assert known() is None
            h.pipeline.observe(read("ce09", full))
            assert known() == replace(full, at_ms=h.clock.wall_ms())
            h.pipeline.observe(gone)
            assert known() is None, gone
            h.pipeline.observe(read("ce09", full))  # late: it was asked before
            assert known() is None, gone


async def test_that_of_nobody_is_nobodys(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.pipeline.observe(read("ce09", Battery(9)))
        assert h.pipeline.roster.udids() == []


async def test_news_are_told_once_and_the_time_is_that_of_the_last_reading(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        batteries: list[str] = []
        devices: list[str] = []
        h.see(usb("ce09"), adb("ce09"))
        await h.heard()
        h.news.subscribe(Topic.BATTERY, batteries.append)
        h.news.subscribe(Topic.DEVICE, devices.append)
        for level, warm in ((50, 30.0), (50, 30.5), (50, 30.9), (51, 30.9), (51, 32.0)):
            h.wait(60)
            h.pipeline.observe(read("ce09", Battery(level, warm)))
            await h.heard()
        assert (batteries, devices) == (["ce09"] * 3, [])
        view = h.pipeline.views.one("ce09")
        assert view is not None
        assert view.battery == Battery(51, 32.0, at_ms=h.clock.wall_ms())


async def test_a_reload_judges_anew(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09"), adb("ce09"))
        h.pipeline.observe(read("ce09", Battery(30, 40.0)))
        assert h.state("ce09")[1] == ""
        text = f"{ONLY_ANDROID}[battery]\nlow = 40\nhot = 39\n{HOOK}"
        config = parse(text, "test.toml")
        reconfigure(h.pipeline, config, {})
        assert h.state("ce09")[1] == "battery 40 °C: too hot; battery 30 %: low"
        reconfigure(h.pipeline, parse(ONLY_ANDROID + HOOK, "test.toml"), {})
        assert h.state("ce09")[1] == ""


async def test_it_goes_with_a_phone_that_gets_another_name(tmp_path: Path) -> None:
    text = ONLY_ANDROID + "[android]\nnetwork_devices = true\n" + HOOK
    async with house(tmp_path, text) as h:
        h.pipeline.observe(Changed(replace(adb("10.0.0.5:5555", port=""), network=True)))
        assert h.pipeline.roster.udids() == ["10.0.0.5:5555"]
        h.pipeline.observe(read("10.0.0.5:5555", Battery(9)))
        known = replace(adb("10.0.0.5:5555", port=""), network=True, usb_serial="ce09")
        h.pipeline.observe(Changed(known))
        (udid,) = h.pipeline.roster.udids()
        assert h.pipeline.views.battery(udid) is not None


async def test_whatever_batteries_say_the_same_is_called_back(tmp_path: Path) -> None:
    """One walk twice, without and with batteries: the states, and the callbacks, are the same."""
    number = seed(16)
    came, tired = [], []
    for batteries in (False, True):
        directory = tmp_path / str(batteries)
        directory.mkdir()
        async with house(directory) as h:
            sent, states, concerns = await _walk(h, number, batteries=batteries)
            came.append((sent, states))
            tired.append(concerns)
    assert came[0] == came[1], number
    assert tired[0] == 0 < tired[1], number
    assert len(came[0][0]) > 20, number


async def _walk(
    h: House, number: int, *, batteries: bool
) -> tuple[list[tuple[str, str]], list[DeviceState], int]:
    walk, charge = random.Random(number), random.Random(number + 1)
    serials = ["ce09", "R58M", "0123"]
    states, concerns = [], 0
    for _ in range(600):
        serial = walk.choice(serials)
        port = f"1-{serials.index(serial) + 1}"
        match walk.randrange(6):
            case 0:
                h.see(usb(serial, port))
            case 1:
                h.see(adb(serial, port, walk.choice(list(Bridge)[:2])))
            case 2:
                h.pipeline.observe(Gone(usb(serial, port).source, usb(serial, port).address))
                h.pipeline.observe(Gone(ADB, serial))
            case 3:
                usage = walk.choice((UsageReading(Usage.IN_USE, "alice"), UsageReading()))
                h.pipeline.use(serial, usage)
            case _:
                h.wait(walk.choice((0.1, 1.0, 4.0, 12.0)))
        if batteries:
            level, warm = charge.choice((None, 1, 14, 50)), charge.choice((None, 20.0, 44.0, 60.0))
            h.pipeline.observe(read(charge.choice(serials), Battery(level, warm)))
        if walk.randrange(4) == 0:
            await h.heard()
        views = h.pipeline.views.all()
        states += [view.state for view in views]
        concerns += sum("battery" in view.reason for view in views)
    return await h.came(), states, concerns

"""AdbSource on what servers in the field leave out or put in: every phone is shown all the same."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.config import Android
from agent.model import Bridge, Changed, Down, Gone, Sighting, Snapshot, SourceName
from agent.sources.adb_probe import Asker
from agent.wire.adb import FAIL_LIMIT, AdbClient
from tests.fakes.fake_adb_host import FakeAdbHost, Listed, Mode
from tests.fakes.recorder import Recorder
from tests.kit.settings import section
from tests.kit.sources import adb_source
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.sources.adb import AdbSource

TOLD = "device_name=Rack 3\nmarketname=\nmodel=Pixel 8\nserialno=R58M\n"
ADDRESS = "192.168.1.7:5555"


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as host:
        yield host


@asynccontextmanager
async def running(host: FakeAdbHost, **changes: Any) -> AsyncIterator[tuple[AdbSource, Recorder]]:
    """A source whose own comparisons come later than any test waits; probes are on."""
    settings = {
        "probe_interval": 600.0,
        "probe_timeout": LIMIT,
        "compare_interval": 10 * LIMIT,
        **changes,
    }
    recorder, source = Recorder(), adb_source(host.address, **settings)
    task = asyncio.create_task(source.run(recorder))
    try:
        yield source, recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def ready(recorder: Recorder, *addresses: str) -> list[Sighting]:
    await recorder.until(
        lambda: all(
            a in recorder.visible and recorder.visible[a].bridge is Bridge.READY for a in addresses
        ),
        f"{addresses} ready",
    )
    return [recorder.visible[a] for a in addresses]


def warnings(logs: list[Any]) -> list[tuple[str, str]]:
    return [
        (entry["event"], entry.get("missing") or entry.get("row") or "")
        for entry in logs
        if entry["log_level"] == "warning"
    ]


class TestMissingDetails:
    async def test_a_usb_path_as_libusb_has_it(self, host: FakeAdbHost) -> None:
        host.set(Listed("bd9d00cc", transport_id=2, told=TOLD))
        host.say(
            "bd9d00cc\tdevice\n",
            "bd9d00cc               device 3-1 product:manet model:X transport_id:2\n",
        )
        with capture_logs() as logs:
            async with running(host) as (_, recorder):
                (phone,) = await ready(recorder, "bd9d00cc")
        assert (phone.port, phone.name) == ("3-1", "Rack 3")
        assert warnings(logs) == []

    async def test_twins_by_libusbs_paths(self, host: FakeAdbHost) -> None:
        host.set(Listed("0123", transport_id=7, told=TOLD), Listed("0123", transport_id=8))
        host.say(
            "0123\tdevice\n0123\tunauthorized\n",
            "0123                   device 3-1 product:a model:b device:c transport_id:7\n"
            "0123                   unauthorized 3-2.4 transport_id:8\n",
        )
        async with running(host) as (_, recorder):
            await ready(recorder, "0123#7")
            both = recorder.visible
        assert {a: s.port for a, s in both.items()} == {"0123#7": "3-1", "0123#8": "3-2.4"}
        assert both["0123#8"].reason.startswith("unauthorized")

    @pytest.mark.parametrize(
        ("long", "missing"),
        [
            ("device product:m model:M transport_id:2", "its USB port"),
            ("device usb:3-1 product:m model:M", "its transport id"),
            ("device", "its transport id"),
            ("", "its transport id"),
            (None, "its row in `host:devices-l`"),
        ],
        ids=["no path", "no id", "state alone", "serial alone", "no row"],
    )
    async def test_a_phone_that_answers_is_ready_whatever_is_missing(
        self, host: FakeAdbHost, long: str | None, missing: str
    ) -> None:
        row = "" if long is None else f"{'bd9d00cc':<22} {long}\n"
        host.set(Listed("bd9d00cc", transport_id=2, told=TOLD))
        host.say("bd9d00cc\tdevice\n", row)
        with capture_logs() as logs:
            async with running(host, compare_interval=0.05) as (_, recorder):
                await ready(recorder, "bd9d00cc")
                asked = host.requests["host:devices"]
                await eventually(lambda: host.requests["host:devices"] >= asked + 3)
                assert recorder.count(Gone) == recorder.count(Down) == 0
        assert warnings(logs) == [("adb.detail_missing", missing)], "said, and said once"

    async def test_details_that_come_late_are_taken(self, host: FakeAdbHost) -> None:
        host.set(Listed("bd9d00cc", transport_id=2, told=TOLD))
        host.say("bd9d00cc\tdevice\n", "")
        async with running(host, compare_interval=0.05) as (_, recorder):
            await ready(recorder, "bd9d00cc")
            host.say("bd9d00cc\tdevice\n", "bd9d00cc device 3-1 transport_id:2\n")
            await recorder.until(lambda: recorder.visible["bd9d00cc"].port == "3-1", "its port")
            await recorder.until(lambda: recorder.visible["bd9d00cc"].name == "Rack 3", "its name")

    @pytest.mark.parametrize("answer", ["nothing", "FAIL", "no ids", "one of two"])
    async def test_twins_junk_and_network_phones_are_shown_without_details(
        self, host: FakeAdbHost, answer: str
    ) -> None:
        plain = f"0123\tdevice\n0123\toffline\n????????????\tdevice\n{ADDRESS}\tdevice\n"
        host.say(plain, "")
        if answer == "FAIL":
            host.fails["host:devices-l"] = "unknown host service"
        elif answer == "no ids":
            host.raw["host:devices-l"] = plain.replace("\t", " ")
        elif answer == "one of two":
            host.raw["host:devices-l"] = "0123 device usb:1-1\n"
        async with running(host, compare_interval=0.05, network_devices=True) as (_, recorder):
            await ready(recorder, "????????????", ADDRESS)
            await recorder.until(lambda: len(recorder.visible) == 4, "all four")
            twins = [s for s in recorder.visible.values() if s.serial == "0123"]
            assert {s.bridge for s in twins} == {Bridge.READY, Bridge.NOT_READY}
            assert recorder.count(Down) == 0

    async def test_a_server_that_fails_is_said_once(self, host: FakeAdbHost) -> None:
        host.set(Listed("R58M", told=TOLD))
        host.fails["host:devices-l"] = "no\nsuch service"
        with capture_logs() as logs:
            async with running(host, compare_interval=0.02) as (_, recorder):
                await ready(recorder, "R58M")
                await eventually(lambda: host.requests["host:devices-l"] >= 5)
        assert [event for event, _ in warnings(logs)] == ["adb.details_unknown"]

    async def test_states_spelled_in_another_way_do_not_hide_the_port(
        self, host: FakeAdbHost
    ) -> None:
        host.say(
            "R58M\tno permissions (user x)\n",
            "R58M                   no permissions; see [http://x.y/z] 3-1 transport_id:2\n",
        )
        async with running(host) as (_, recorder):
            await recorder.until(
                lambda: "R58M" in recorder.visible and recorder.visible["R58M"].port == "3-1"
            )
            assert "user x" in recorder.visible["R58M"].reason


class TestOddRows:
    @pytest.mark.parametrize("odd", ["no tab at all", "", "\tdevice", "R58N\t", "\t"])
    async def test_one_odd_row_is_left_out_alone_and_said_once(
        self, host: FakeAdbHost, odd: str
    ) -> None:
        host.set(Listed("R58M", transport_id=2, told=TOLD))
        host.say(f"{odd}\nR58M\tdevice\n", f"{odd}\nR58M device 3-1 transport_id:2\n")
        with capture_logs() as logs:
            async with running(host, compare_interval=0.02) as (_, recorder):
                await ready(recorder, "R58M")
                asked = host.requests["host:devices"]
                await eventually(lambda: host.requests["host:devices"] >= asked + 3)
                assert recorder.visible.keys() == {"R58M"}
                host.say(f"R58M\tdevice\n{odd}\nNEW\toffline\n")
                await recorder.until(lambda: "NEW" in recorder.visible, "the stream goes on")
                assert recorder.count(Down) == recorder.count(Gone) == 0
        assert [event for event, _ in warnings(logs) if event != "adb.detail_missing"] == [
            "adb.row_left_out"
        ]

    @pytest.mark.parametrize("serial", ["ZUG 5S", " outer ", "a/b (c) & d", "a\tb"])
    async def test_serials_with_blanks_are_as_the_phone_says(
        self, host: FakeAdbHost, serial: str
    ) -> None:
        host.set(Listed(serial, port="3-1", told=TOLD), Listed("ZUG", port="3-2", told=TOLD))
        async with running(host) as (_, recorder):
            found = await ready(recorder, serial, "ZUG")
        assert [(s.serial, s.port) for s in found] == [(serial, "3-1"), ("ZUG", "3-2")]

    async def test_a_fail_is_told_as_it_came_and_bounded(self, host: FakeAdbHost) -> None:
        host.fails["host:track-devices"] = "no\nWATCHDOG=trigger\n" + "x" * 5000
        async with running(host) as (_, recorder):
            down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "no\nWATCHDOG=trigger" in down.reason
        assert len(down.reason) < FAIL_LIMIT + 100


class TestNetworkPhones:
    @pytest.mark.parametrize("serialno", ["", "unknown"])
    async def test_one_that_does_not_say_who_it_is(self, host: FakeAdbHost, serialno: str) -> None:
        host.set(Listed(ADDRESS, told=TOLD.replace("R58M", serialno)))
        async with running(host, network_devices=True) as (_, recorder):
            (phone,) = await ready(recorder, ADDRESS)
        assert (phone.network, phone.usb_serial, phone.name) == (True, serialno, "Rack 3")

    async def test_the_first_snapshot_waits_for_who_they_are(self, host: FakeAdbHost) -> None:
        host.set(Listed(ADDRESS, told=TOLD), Listed("R58N", port="1-1", told=TOLD))
        async with running(host, network_devices=True) as (_, recorder):
            first = await recorder.next_after(0)
        assert isinstance(first, Snapshot)
        far = next(each for each in first.sightings if each.network)
        assert (far.usb_serial, far.bridge) == ("R58M", Bridge.READY)

    @pytest.mark.parametrize("probe_interval", [0.0, 60.0])
    async def test_one_that_takes_its_time_is_unknown_meanwhile_and_never_left_out(
        self, host: FakeAdbHost, probe_interval: float
    ) -> None:
        host.set(Listed(ADDRESS, answers=False))
        async with running(
            host, network_devices=True, probe_interval=probe_interval, probe_timeout=LIMIT
        ) as (_, recorder):
            first = await recorder.next_after(0)
            host.set(Listed("192.168.1.8:5555", answers=False))
            later = await recorder.next_after(1)
        assert isinstance(first, Snapshot)
        assert isinstance(later, Changed)
        for phone in (*first.sightings, later.sighting):
            assert phone.network
            assert (phone.bridge, phone.usb_serial) == (Bridge.UNKNOWN, "")
        assert len(first.sightings) == 1

    async def test_one_that_says_nothing_but_who_it_is(self, host: FakeAdbHost) -> None:
        """The first answer never came, and the next has no name and no model."""
        phone = Listed(ADDRESS, answers=False, told="serialno=R58M\n")
        host.set(phone)
        async with running(host, network_devices=True, probe_timeout=0.2) as (_, recorder):
            await recorder.until(lambda: ADDRESS in recorder.visible, "shown all the same")
            assert recorder.visible[ADDRESS].reason.startswith("unresponsive")
            phone.answers = True
            (now,) = await ready(recorder, ADDRESS)
        assert now.usb_serial == "R58M", "it is never ready as somebody else"

    @pytest.mark.parametrize("state", ["unauthorized", "offline", "authorizing", "connecting"])
    async def test_one_that_cannot_be_asked_comes_with_its_reason(
        self, host: FakeAdbHost, state: str
    ) -> None:
        host.set(Listed(ADDRESS, state))
        async with running(host, network_devices=True) as (_, recorder):
            first = await recorder.next_after(0)
        assert isinstance(first, Snapshot)
        (phone,) = first.sightings
        assert (phone.address, phone.network, phone.usb_serial) == (ADDRESS, True, "")
        assert phone.bridge is Bridge.NOT_READY
        assert phone.reason.startswith(f"{state}:")

    async def test_two_with_one_serialno_are_two_sightings(self, host: FakeAdbHost) -> None:
        other = "192.168.1.8:5555"
        host.set(Listed(ADDRESS, told=TOLD), Listed(other, told=TOLD))
        async with running(host, network_devices=True) as (_, recorder):
            both = await ready(recorder, ADDRESS, other)
            assert [s.usb_serial for s in both] == ["R58M", "R58M"]
            host.remove(other)
            await recorder.until(lambda: recorder.visible.keys() == {ADDRESS}, "one goes")
            assert recorder.seen[-1] == Gone(SourceName.ADB, other)


class TestAdb29:
    """A server that lists changes and does not push them."""

    async def test_the_reason_is_asked_for_soon_after_a_phone_shows_up_offline(
        self, host: FakeAdbHost
    ) -> None:
        async with running(host) as (_, recorder):
            await recorder.next_after(0)
            phone = Listed("R58M", "offline", port="3-1")
            host.set(phone)
            await recorder.until(lambda: "R58M" in recorder.visible, "offline")
            host.pushing, phone.state = False, "unauthorized"
            await recorder.until(  # the comparison that comes anyway is ten limits away
                lambda: recorder.visible["R58M"].reason.startswith("unauthorized"), "the reason"
            )

    async def test_phones_that_flicker_do_not_put_the_comparison_off(
        self, host: FakeAdbHost
    ) -> None:
        flickers = Listed("FLICKERS", "offline")
        quiet = Listed("QUIET", "offline")
        host.set(flickers, quiet)
        async with running(host) as (_, recorder):
            await recorder.next_after(0)
            asked = host.requests["host:devices"]
            async with asyncio.timeout(LIMIT):
                while host.requests["host:devices"] < asked + 2:
                    flickers.state = "authorizing" if flickers.state == "offline" else "offline"
                    host.push()
                    await asyncio.sleep(0.05)


class TestRecheck:
    async def test_the_truth_is_emitted_when_it_returns(self, host: FakeAdbHost) -> None:
        phone, goes = Listed("R58M", port="3-1", told=TOLD), Listed("GOES", "offline")
        host.set(phone, goes)
        async with running(host) as (source, recorder):
            await ready(recorder, "R58M")
            host.pushing = False
            phone.state = "unauthorized"
            host.remove("GOES")
            host.set(Listed("NEW", "offline", port="3-2"))
            await source.recheck()
            assert recorder.visible.keys() == {"R58M", "NEW"}
            assert recorder.visible["R58M"].reason.startswith("unauthorized")
            assert recorder.visible["NEW"].port == "3-2"
            said = len(recorder.seen)
            await source.recheck()
            assert len(recorder.seen) == said, "nothing new, nothing said"

    async def test_pushes_that_come_meanwhile_do_not_hide_the_truth(
        self, host: FakeAdbHost
    ) -> None:
        async with running(host) as (source, recorder):
            await recorder.next_after(0)
            for number in range(30):
                host.set(Listed(f"S{number}", "offline"))
                await source.recheck()
                assert f"S{number}" in recorder.visible

    @pytest.mark.parametrize("mode", [m for m in Mode if m is not Mode.ANSWER])
    async def test_a_server_that_does_not_answer_costs_a_bounded_time(
        self, host: FakeAdbHost, mode: Mode
    ) -> None:
        host.set(Listed("R58M", told=TOLD))
        async with running(host) as (source, recorder):
            await ready(recorder, "R58M")
            said = len(recorder.seen)
            host.modes["host:devices"] = mode
            async with asyncio.timeout(LIMIT):
                await source.recheck()
            assert len(recorder.seen) == said

    async def test_down_or_not_begun_it_returns_at_once(self, host: FakeAdbHost) -> None:
        await adb_source(host.address, probe_timeout=1.0).recheck()
        async with running(host) as (source, recorder):
            await recorder.next_after(0)
            await host.kill()
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")
            await source.recheck()
            assert recorder.count(Changed) == 0


async def test_a_phone_whose_name_hangs_is_ready_if_it_answers(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", port="3-1", hangs="settings"))
    async with running(host, probe_interval=0.05, probe_timeout=0.2) as (_, recorder):
        await ready(recorder, "R58M")
        said, asked = len(recorder.seen), len(host.shells)
        await eventually(lambda: len(host.shells) > asked + 10)
        assert recorder.seen[said:] == [], "and does not flap"


class TestAFrozenAgent:
    async def test_a_limit_that_passed_while_nothing_ran_is_no_verdict(
        self, host: FakeAdbHost
    ) -> None:
        """A paused VM, a starved core: on going on the limit is over, and the answer is unread."""
        phone = Listed("R58M", told=TOLD)
        host.set(phone)
        async with running(host, probe_interval=0.05, probe_timeout=0.5) as (_, recorder):
            await ready(recorder, "R58M")
            phone.answers = False
            asked = len(host.shells)
            await eventually(lambda: len(host.shells) > asked)
            time.sleep(1.7)  # noqa: ASYNC251 - the loop is to stand still
            phone.answers = True
            asked = len(host.shells)
            await eventually(lambda: len(host.shells) > asked + 3)
            assert all(s.bridge is not Bridge.NOT_READY for s in sightings(recorder))


def sightings(recorder: Recorder) -> list[Sighting]:
    return [o.sighting for o in recorder.seen if isinstance(o, Changed)]


async def test_an_answer_before_the_name_was_asked_for_is_an_answer(host: FakeAdbHost) -> None:
    """The names of a rack of frozen phones come first; probes overtake those that wait for that."""
    phone = Listed("LATE", answers=False, told=TOLD)
    host.set(phone)
    quick = section(Android, probe_interval=0.01, probe_timeout=0.1)
    asker = Asker(AdbClient(host.address), quick)
    asker.attend(1, "LATE")
    asker._names.discard(1)  # its turn has not come yet
    task = asyncio.create_task(asker.run())
    try:
        await eventually(lambda: 1 in asker.silent)
        phone.answers = True
        await eventually(lambda: 1 in asker.told or task.done())
        assert not task.done()
        assert asker.told[1].name == "Rack 3"
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)

"""AdbSource against a scripted server: malformed answers, hangs, twins, 64 KB, silent phones."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import Bridge, Changed, Down, Gone, Sighting, Snapshot, SourceName
from agent.sources.adb_probe import ALIVE, ALIVE_AND_BATTERY
from tests.fakes.fake_adb_host import FakeAdbHost, Listed, Mode
from tests.fakes.recorder import Recorder
from tests.kit.sources import adb_source
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROBES = {ALIVE, ALIVE_AND_BATTERY}
TOLD = "device_name=Rack 3\nmarketname=\nmodel=Pixel 8\nserialno=R58M\n"


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as host:
        yield host


@asynccontextmanager
async def watching(host: FakeAdbHost, **changes: object) -> AsyncIterator[Recorder]:
    arguments: dict[str, Any] = {
        "probe_timeout": 5.0,
        "compare_interval": 60.0,
        "answer_limit": 5.0,
        **changes,
    }
    recorder = Recorder()
    source = adb_source(host.address, **arguments)
    task = asyncio.create_task(source.run(recorder))
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


def gives_reason(recorder: Recorder, words: str) -> bool:
    return words in recorder.visible["R58M"].reason


def sees(recorder: Recorder, address: str) -> bool:
    return address in recorder.visible


def was_asked(host: FakeAdbHost, times: int) -> bool:
    return host.requests["host:transport-id:1"] >= times


def edges(recorder: Recorder) -> list[Changed | Gone]:
    return [o for o in recorder.seen if isinstance(o, Changed | Gone)]


def is_named(recorder: Recorder, *addresses: str) -> bool:
    return all(a in recorder.visible and recorder.visible[a].name for a in addresses)


async def test_the_snapshot_has_ports_and_names_follow(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", port="1-4.2", model="SM_G991B", told=TOLD))
    async with watching(host) as recorder:
        first = await recorder.next_after(0)
        assert isinstance(first, Snapshot)
        (sighting,) = first.sightings
        assert (sighting.port, sighting.model) == ("1-4.2", "SM G991B")
        assert sighting.bridge is Bridge.READY
        await recorder.until(lambda: is_named(recorder, "R58M"), "the name")
        now = recorder.visible["R58M"]
        assert (now.name, now.model, now.usb_serial) == ("Rack 3", "Pixel 8", "")
        assert len(edges(recorder)) == 1


async def test_an_appearance_is_told_before_its_port_is_known(host: FakeAdbHost) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.modes["host:devices-l"] = Mode.HANG
        host.set(Listed("R58M", "unauthorized", port="1-4.2"))
        appeared = await recorder.next_after(1)
        assert isinstance(appeared, Changed)
        assert appeared.sighting.port == ""
        assert appeared.sighting.reason.startswith("unauthorized: accept")


async def test_details_that_failed_are_asked_for_again(host: FakeAdbHost) -> None:
    async with watching(host, compare_interval=0.05) as recorder:
        await recorder.next_after(0)
        host.modes["host:devices-l"] = Mode.FAIL
        host.set(Listed("R58M", port="1-4.2"))
        await recorder.until(lambda: "R58M" in recorder.visible, "the phone")
        await eventually(lambda: host.requests["host:devices-l"] >= 3)
        host.modes.clear()
        await recorder.until(lambda: recorder.visible["R58M"].port == "1-4.2", "its port")
        assert recorder.count(Down) == 0


async def test_states_become_readings(host: FakeAdbHost) -> None:
    phone = Listed("R58M", "offline")
    host.set(phone)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        for state in ("authorizing", "unauthorized", "recovery", "no permissions (x)", "newword"):
            phone.state = state
            host.push()
            await recorder.until(partial(gives_reason, recorder, state), state)
            assert recorder.visible["R58M"].bridge is Bridge.NOT_READY
        phone.state = "device"
        host.push()
        await recorder.until(lambda: recorder.visible["R58M"].bridge is Bridge.READY, "ready")
        assert recorder.visible["R58M"].reason == ""


async def test_unchanged_lists_say_nothing(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD))
    async with watching(host) as recorder:
        await recorder.until(lambda: is_named(recorder, "R58M"), "the phone")
        before = len(recorder.seen)
        for _ in range(50):
            host.push()
        host.set(Listed("LAST", told=TOLD))
        await recorder.until(lambda: is_named(recorder, "LAST"), "the one after them")
        assert {o.sighting.serial for o in recorder.seen[before:] if isinstance(o, Changed)} == {
            "LAST"
        }


async def test_a_storm_of_lists_leaves_everything_else_its_turn(host: FakeAdbHost) -> None:
    """They are all in the socket at once: reading them does not suspend by itself."""
    async with watching(host) as recorder:
        await recorder.until(lambda: bool(recorder.seen), "the snapshot")
        host.push_raw(b"000cR58M\tdevice\n0000" * 200 + b"000cLAST\tdevice\n")
        told = await recorder.told_each_turn(lambda: sees(recorder, "LAST"))
        assert len(recorder.seen) > 400
        assert max(after - before for before, after in pairwise(told)) <= 2, "a list a turn"


BROKEN = {
    "truncated frame": b"0011R58M\tdevi",
    "torn row": b"0004devi",
    "no hexadecimal length": b"zzzz",
    "signed length": b"-001",
    "a row without a state": b"0005R58M\n",
    "FAIL": b"FAIL0004oops",
    "a fifth digit": b"12345",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_stream_is_one_down_and_no_edge(host: FakeAdbHost, data: bytes) -> None:
    host.set(Listed("R58M", "unauthorized", port="1-1"))
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.push_raw_and_close(data)
        await recorder.until(lambda: recorder.count(Snapshot) == 2, "a new snapshot")
        assert [type(o) for o in recorder.seen] == [Snapshot, Down, Snapshot]
        assert recorder.seen[0] == recorder.seen[2]


@pytest.mark.parametrize(
    ("service", "mode"),
    [
        *product(["host:track-devices"], [Mode.FAIL, Mode.GARBAGE, Mode.CLOSE, Mode.HANG]),
        *product(["host:devices-l"], [Mode.GARBAGE, Mode.CLOSE, Mode.HANG]),
    ],
)
async def test_a_server_that_does_not_serve_is_one_down(
    host: FakeAdbHost, service: str, mode: Mode
) -> None:
    host.modes[service] = mode
    async with watching(host, answer_limit=0.1) as recorder:
        down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert host.address in down.reason
        tries = host.requests[service]
        await eventually(lambda: host.requests[service] >= tries + 1)
        assert recorder.seen == [down]
        host.modes.clear()
        await recorder.until(lambda: recorder.count(Snapshot) == 1, "the snapshot")


async def test_what_the_stream_does_not_say_is_found_by_comparing(host: FakeAdbHost) -> None:
    phone = Listed("R58M", "offline")
    host.set(phone, Listed("GONE", "offline"))
    async with watching(host, compare_interval=0.05) as recorder:
        await recorder.next_after(0)
        host.pushing = False
        phone.state = "unauthorized"
        host.remove("GONE")
        await recorder.until(
            lambda: (
                recorder.visible.keys() == {"R58M"}
                and recorder.visible["R58M"].reason.startswith("unauthorized")
            ),
            "what the comparison found",
        )
        assert recorder.count(Snapshot) == 1


async def test_an_answer_older_than_the_stream_is_dropped(host: FakeAdbHost) -> None:
    async with watching(host, compare_interval=0.02) as recorder:
        await recorder.next_after(0)
        # Each change comes by the stream while comparisons are under way all the time.
        for number in range(100):
            host.set(Listed(f"S{number}", "unauthorized"))
            await recorder.until(partial(sees, recorder, f"S{number}"))
        assert recorder.count(Gone) == 0


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.FAIL])
async def test_a_server_that_falls_silent_is_down(host: FakeAdbHost, mode: Mode) -> None:
    host.set(Listed("R58M", "unauthorized"))
    async with watching(host, compare_interval=0.05, answer_limit=0.1) as recorder:
        await recorder.next_after(0)
        host.mode = mode
        await recorder.until(lambda: recorder.count(Down) == 1, "Down")
        assert recorder.count(Gone) == 0
        host.mode = Mode.ANSWER
        await recorder.until(lambda: recorder.count(Snapshot) == 2, "the snapshot")
        assert recorder.count(Down) == 1


async def test_a_stream_that_speaks_outvotes_comparisons_that_fail(host: FakeAdbHost) -> None:
    phone = Listed("R58M", "offline")
    host.set(phone)
    async with watching(host, compare_interval=0.05) as recorder:
        await recorder.next_after(0)
        host.modes["host:devices"] = Mode.HANG
        host.modes["host:devices-l"] = Mode.ANSWER
        await eventually(lambda: host.requests["host:devices"] != 0)
        host.set(Listed("NEW", "offline"))
        await recorder.until(lambda: "NEW" in recorder.visible, "the stream's word")
        assert recorder.count(Down) == 0


async def test_twins_have_addresses_of_their_own(host: FakeAdbHost) -> None:
    host.set(Listed("0123", port="1-1", transport_id=7))
    async with watching(host) as recorder:
        await recorder.until(lambda: recorder.visible.keys() == {"0123"}, "the first")
        host.set(Listed("0123", "unauthorized", port="1-2", transport_id=8))
        await recorder.until(lambda: recorder.visible.keys() == {"0123#7", "0123#8"}, "both, apart")
        both = recorder.visible
        assert (both["0123#7"].port, both["0123#7"].bridge) == ("1-1", Bridge.READY)
        assert (both["0123#8"].port, both["0123#8"].bridge) == ("1-2", Bridge.NOT_READY)
        assert {s.serial for s in both.values()} == {"0123"}
        # The old address goes last: the phone is never unseen.
        assert recorder.seen[-1] == Gone(SourceName.ADB, "0123")
        del host.listed[7]
        host.push()
        await recorder.until(lambda: recorder.visible.keys() == {"0123"}, "the other alone")
        assert recorder.visible["0123"].port == "1-2"


async def test_twins_are_named_and_probed_each_by_its_own_id(host: FakeAdbHost) -> None:
    host.set(
        Listed("0123", port="1-1", told=TOLD.replace("Rack 3", "left")),
        Listed("0123", port="1-2", told=TOLD.replace("Rack 3", "right"), answers=False),
    )
    async with watching(host, probe_interval=0.05, probe_timeout=0.1) as recorder:
        await recorder.next_after(0)
        await recorder.until(
            lambda: (
                recorder.visible["0123#1"].name == "left"
                and recorder.visible["0123#2"].reason.startswith("unresponsive")
            ),
            "the left one's name, the right one's silence",
        )
        assert recorder.visible["0123#1"].bridge is Bridge.READY


@pytest.mark.parametrize("junk", ["????????????", "(no serial number)"])
async def test_junk_serials_come_with_their_ports_only(host: FakeAdbHost, junk: str) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.set(Listed(junk, port="1-1"))
        await recorder.until(lambda: junk in recorder.visible, "the first")
        host.set(Listed(junk, port="1-2"))
        await recorder.until(lambda: len(recorder.visible) == 2, "both")
        told = [o.sighting for o in recorder.seen if isinstance(o, Changed)]
        assert all(sighting.port and sighting.serial == junk for sighting in told)


async def test_a_replugged_phone_gets_its_new_port_and_is_asked_again(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", port="1-1", told=TOLD))
    async with watching(host) as recorder:
        await recorder.until(lambda: is_named(recorder, "R58M"), "the name")
        host.pushing = False
        host.remove("R58M")
        host.pushing = True
        host.set(Listed("R58M", "offline", port="2-2", told=TOLD.replace("Rack 3", "Rack 4")))
        host.set(Listed("R58M", port="2-2", told=TOLD.replace("Rack 3", "Rack 4"), transport_id=2))
        await recorder.until(
            lambda: (
                (recorder.visible["R58M"].port, recorder.visible["R58M"].name) == ("2-2", "Rack 4")
            ),
            "what it is now",
        )
        assert recorder.count(Gone) == 0


async def test_network_phones_are_left_out(host: FakeAdbHost) -> None:
    host.set(
        Listed("192.168.1.7:5555", told=TOLD),
        Listed("adb-R58M-AbCdEf._adb-tls-connect._tcp", told=TOLD),
        Listed("emulator-5554", told=TOLD),
    )
    async with watching(host) as recorder:
        await recorder.until(lambda: is_named(recorder, "emulator-5554"), "the emulator")
        assert recorder.visible.keys() == {"emulator-5554"}
        assert not recorder.visible["emulator-5554"].network
        assert {phone for phone, _ in host.shells} == {3}


async def test_network_phones_wanted_come_with_the_serial_of_their_usb_self(
    host: FakeAdbHost,
) -> None:
    async with watching(host, network_devices=True) as recorder:
        await recorder.next_after(0)
        host.set(Listed("192.168.1.7:5555", told=TOLD))
        seen = await recorder.next_after(1)
        assert isinstance(seen, Changed)
        assert seen.sighting.network
        assert (seen.sighting.usb_serial, seen.sighting.name) == ("R58M", "Rack 3")


async def test_a_network_phone_that_does_not_tell_is_shown_all_the_same(host: FakeAdbHost) -> None:
    host.set(Listed("192.168.1.7:5555", answers=False))
    async with watching(host, network_devices=True, probe_timeout=0.1) as recorder:
        await recorder.until(lambda: "192.168.1.7:5555" in recorder.visible, "the phone")
        assert recorder.visible["192.168.1.7:5555"].usb_serial == ""


async def test_a_usb_serial_that_looks_like_an_address_is_no_network_phone(
    host: FakeAdbHost,
) -> None:
    host.set(Listed("AB:1234", "unauthorized", port="1-1"))
    async with watching(host) as recorder:
        await recorder.until(lambda: "AB:1234" in recorder.visible, "the phone")
        assert not recorder.visible["AB:1234"].network


async def test_three_thousand_rows_in_one_frame(host: FakeAdbHost) -> None:
    phones = [Listed(f"E{n:07d}", "detached", port=f"1-{n}") for n in range(3000)]
    host.set(*phones)
    assert len(host.frame()) < 65536 + 4
    assert len(host.long_frame()) > 65536, "its length wraps"
    async with watching(host, compare_interval=0.1) as recorder:
        first = await recorder.next_after(0)
        assert isinstance(first, Snapshot)
        assert {s.address: s.port for s in first.sightings} == {p.serial: p.port for p in phones}
        phones[1234].state = "offline"
        host.push()
        edge = await recorder.next_after(1)
        assert isinstance(edge, Changed)
        assert edge.sighting.serial == phones[1234].serial
        asked = host.requests["host:devices"]
        await eventually(lambda: host.requests["host:devices"] >= asked + 2)
        assert len(recorder.seen) == 2


async def test_a_silent_phone_is_found_and_comes_back(host: FakeAdbHost) -> None:
    phone = Listed("R58M", told=TOLD)
    host.set(phone)
    async with watching(host, probe_interval=0.05, probe_timeout=0.1) as recorder:
        await recorder.until(lambda: is_named(recorder, "R58M"), "the phone")
        phone.answers = False
        await recorder.until(
            lambda: recorder.visible["R58M"].bridge is Bridge.NOT_READY, "its silence"
        )
        assert recorder.visible["R58M"].reason == (
            "unresponsive: adb lists it but it did not answer for 0.1 s"
        )
        assert recorder.visible["R58M"].code == "unresponsive"
        phone.answers = True
        await recorder.until(lambda: recorder.visible["R58M"].bridge is Bridge.READY, "its return")
        assert recorder.count(Gone) == recorder.count(Down) == 0


async def test_a_phone_silent_from_the_start_is_found_without_waiting_for_the_interval(
    host: FakeAdbHost,
) -> None:
    host.set(Listed("R58M", answers=False))
    async with watching(host, probe_interval=3600.0, probe_timeout=0.1) as recorder:
        await recorder.until(
            lambda: recorder.visible.get("R58M", _NONE).reason.startswith("unresponsive"),
            "its silence",
        )


_NONE = Sighting(SourceName.ADB, "", "")


async def test_silence_ends_with_the_state_that_it_was_in(host: FakeAdbHost) -> None:
    phone = Listed("R58M", answers=False)
    host.set(phone)
    async with watching(host, probe_interval=0.05, probe_timeout=0.1) as recorder:
        await recorder.until(
            lambda: recorder.visible.get("R58M", _NONE).reason.startswith("unresponsive")
        )
        phone.state = "offline"
        host.push()
        await recorder.until(lambda: recorder.visible["R58M"].reason.startswith("offline"))
        phone.state, phone.answers, phone.told = "device", True, TOLD
        host.push()
        await recorder.until(lambda: is_named(recorder, "R58M"), "a fresh start")
        # On a busy machine one answer may take longer than the probe has.
        await recorder.until(lambda: recorder.visible["R58M"].bridge is Bridge.READY, "ready")


async def test_a_server_in_trouble_is_no_verdict_on_phones(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD))
    async with watching(host, probe_interval=0.05, probe_timeout=0.5) as recorder:
        await recorder.until(lambda: is_named(recorder, "R58M"), "the phone")
        for mode in (Mode.HANG, Mode.FAIL, Mode.CLOSE, Mode.GARBAGE):
            host.modes["host:transport-id:1"] = mode
            enough = host.requests["host:transport-id:1"] + 2
            await eventually(partial(was_asked, host, enough))
        assert recorder.visible["R58M"].bridge is Bridge.READY


async def test_no_probes_when_off(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD))
    async with watching(host, compare_interval=0.02) as recorder:
        await recorder.until(lambda: is_named(recorder, "R58M"), "the phone")
        asked = host.requests["host:devices"]
        await eventually(lambda: host.requests["host:devices"] >= asked + 5)
        assert [command for _, command in host.shells if command in PROBES] == []
        assert len(host.shells) == 1, "its name, once"


async def test_a_phone_is_unknown_until_it_has_answered(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD))
    async with watching(host, probe_interval=60.0) as recorder:
        await recorder.until(
            lambda: recorder.visible.get("R58M", NOBODY).bridge is Bridge.READY, "its answer"
        )
        bridges = [s.bridge for s in _sightings(recorder)]
        assert bridges[0] is Bridge.UNKNOWN
        assert bridges[-1] is Bridge.READY
        assert recorder.visible["R58M"].name == "Rack 3", "with its first readiness comes its name"
        assert next(s.name for s in _sightings(recorder) if s.bridge is Bridge.READY) == "Rack 3"


async def test_a_server_that_gives_no_details_has_its_word_taken(host: FakeAdbHost) -> None:
    """Nobody can be asked without a transport id: `device` is ready, as where probes are off."""
    host.modes["host:devices-l"] = Mode.FAIL
    host.set(Listed("R58M", told=TOLD))
    async with watching(host, probe_interval=60.0) as recorder:
        await recorder.until(
            lambda: recorder.visible.get("R58M", NOBODY).bridge is Bridge.READY, "readiness"
        )
        host.set(Listed("LATER", told=TOLD))
        await recorder.until(
            lambda: recorder.visible.get("LATER", NOBODY).bridge is Bridge.READY, "another's"
        )
        assert recorder.count(Down) == 0
        host.modes.clear()
        await recorder.until(lambda: recorder.visible["R58M"].name == "Rack 3", "its name")


async def test_a_phone_that_never_answered_is_unresponsive_never_ready(host: FakeAdbHost) -> None:
    phone = Listed("R58M", answers=False, told=TOLD)
    host.set(phone)
    async with watching(host, probe_interval=60.0, probe_timeout=0.2) as recorder:
        await recorder.until(
            lambda: recorder.visible.get("R58M", NOBODY).bridge is Bridge.NOT_READY, "silence"
        )
        assert all(s.bridge is not Bridge.READY for s in _sightings(recorder))
        phone.answers = True
        await recorder.until(
            lambda: recorder.visible["R58M"].name == "Rack 3", "its return and its name"
        )
        assert recorder.visible["R58M"].bridge is Bridge.READY


def _sightings(recorder: Recorder) -> list[Sighting]:
    """Every sighting emitted, in order."""
    found: list[Sighting] = []
    for observation in recorder.seen:
        if isinstance(observation, Snapshot):
            found += observation.sightings
        elif isinstance(observation, Changed):
            found.append(observation.sighting)
    return found


NOBODY = Sighting(SourceName.ADB, "", "")


async def test_forty_silent_phones_hold_up_nobody(host: FakeAdbHost) -> None:
    host.set(*(Listed(f"DEAD{n}", answers=False) for n in range(40)))
    async with watching(host, probe_interval=0.5, probe_timeout=10.0) as recorder:
        await recorder.next_after(0)
        await eventually(lambda: host.requests["host:transport-id:1"] != 0)
        host.set(Listed("ALIVE", told=TOLD))
        await recorder.until(
            lambda: (
                "ALIVE" in recorder.visible and recorder.visible["ALIVE"].bridge is Bridge.READY
            ),
            "the phone that works",
        )


async def test_probes_are_spread_over_the_interval(host: FakeAdbHost) -> None:
    host.set(*(Listed(f"S{n}", told=TOLD) for n in range(50)))
    loop = asyncio.get_running_loop()
    async with watching(host, probe_interval=2.0) as recorder:
        await recorder.next_after(0)
        await eventually(lambda: len(host.shells) >= 50)
        start, names = loop.time(), len(host.shells)
        await eventually(lambda: len(host.shells) - names >= 10)
        # Ten of fifty take a fifth of the interval; all at once would take none of it. Only the
        # lower bound is tested: a busy machine is late, never early.
        assert loop.time() - start > 0.1
        assert len(host.shells) - names < 30


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with FakeAdbHost(str(tmp_path / "adb.sock")) as host:
        host.set(Listed("R58M", "offline"))
        async with watching(host) as recorder:
            first = await recorder.next_after(0)
            assert isinstance(first, Snapshot)
            assert first.sightings[0].serial == "R58M"
            await host.kill()
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")


async def test_cancelling_in_the_middle_closes_everything(host: FakeAdbHost) -> None:
    host.set(*(Listed(f"DEAD{n}", answers=False) for n in range(20)))
    async with watching(host, probe_interval=0.05, probe_timeout=5.0) as recorder:
        await recorder.next_after(0)
        await eventually(lambda: host.connected >= 9)
    await eventually(lambda: not host.connected)

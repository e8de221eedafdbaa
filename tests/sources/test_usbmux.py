"""UsbmuxSource against a usbmuxd and lockdownds that speak the real wire."""

from __future__ import annotations

import asyncio
import errno
import os
import plistlib
import socket
import struct
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from operator import contains
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.model import Bridge, Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName
from tests.fakes.recorder import Recorder
from tests.fakes.usbmuxd import FakeUsbmuxd, Lockdown, Phone, attached, frame, pairing_record
from tests.kit.sources import usbmux_source
from tests.kit.waiting import LIMIT
from tests.sources.conformance import Lab, SourceConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from agent.sources.usbmux import UsbmuxSource

SERIAL = "00008110-000A1234A1B2C3D4"
BAD_PLIST = struct.pack("<IIII", 25, 1, 8, 0) + b"no plist!"
CHECKING = "checking whether it trusts this host"


def source_for(address: str, records: Path, **how: Any) -> UsbmuxSource:
    return usbmux_source(address, records, **{"probe_timeout": LIMIT, **how})


@asynccontextmanager
async def watching(mux: FakeUsbmuxd, records: Path, **how: Any) -> AsyncIterator[Recorder]:
    """A running source; when it is stopped no connection to the fake is left."""
    recorder = Recorder()
    task = asyncio.create_task(source_for(mux.address, records, **how).run(recorder))
    before = asyncio.all_tasks()
    try:
        yield recorder
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "a cancelled source must end"
        assert task.cancelled(), task.exception()
        left = {t for t in asyncio.all_tasks() - before if "agent" in repr(t.get_coro())}
        assert not left


def only(recorder: Recorder) -> Sighting | None:
    """The one phone that is visible."""
    sightings = list(recorder.visible.values())
    return sightings[0] if len(sightings) == 1 else None


def seen(recorder: Recorder, serial: str) -> Sighting | None:
    found = [s for s in recorder.visible.values() if s.serial == serial]
    return found[0] if found else None


def is_ready(recorder: Recorder, serial: str = SERIAL) -> bool:
    sighting = seen(recorder, serial)
    return sighting is not None and sighting.bridge is Bridge.READY


def says(recorder: Recorder, text: str, serial: str = SERIAL) -> bool:
    sighting = seen(recorder, serial)
    return sighting is not None and text in sighting.reason


def checked_more_than(phones: Sequence[Phone], times: int) -> bool:
    return sum(phone.checks for phone in phones) > times


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what no observation tells, such as the fake's counters; looks at every turn."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - the counters tell nobody
            await asyncio.sleep(0)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def reasons(recorder: Recorder) -> list[str]:
    """Of all outages, in order."""
    return [o.reason for o in recorder.seen if isinstance(o, Down)]


@pytest.fixture(params=["unix", "tcp"])
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeUsbmuxd]:
    """A fake reached by either kind of address."""
    async with FakeUsbmuxd(tmp_path / "mux" if request.param == "unix" else "127.0.0.1:0") as mux:
        yield mux


@pytest.fixture
async def mux(tmp_path: Path) -> AsyncIterator[FakeUsbmuxd]:
    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        yield mux


class UsbmuxLab(Lab):
    def __init__(self, mux: FakeUsbmuxd, records: Path) -> None:
        self.mux = mux
        self.records = records
        self.phones: dict[int, Phone] = {}

    def source(self) -> UsbmuxSource:
        return source_for(self.mux.address, self.records, answer_limit=2.0)

    async def start(self) -> None:
        await self.mux.start()

    async def add(self, number: int) -> str:
        serial = f"00008110-{number:016X}"
        self.phones[number] = self.mux.attach(serial)
        return serial

    async def remove(self, number: int) -> None:
        self.mux.detach(self.phones.pop(number))

    async def kill(self) -> None:
        await self.mux.kill(leave_socket=True)

    async def garble(self) -> None:
        self.mux.garble(BAD_PLIST)

    async def hang(self) -> None:
        self.mux.hang()


class TestUsbmuxConformance(SourceConformance):
    @pytest.fixture
    async def lab(self, tmp_path: Path) -> AsyncIterator[UsbmuxLab]:
        lab = UsbmuxLab(FakeUsbmuxd(tmp_path / "mux"), tmp_path / "records")
        yield lab
        await lab.mux.kill()


class TestTrust:
    async def test_a_trusted_phone_is_ready_and_tells_its_name(
        self, anywhere: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = anywhere.attach(SERIAL, name="Rack 1, left")
        async with watching(anywhere, tmp_path) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            unknown = Sighting(
                SourceName.USBMUX,
                address="1",
                serial=SERIAL,
                platform=Platform.IOS,
                bridge=Bridge.UNKNOWN,
                reason=CHECKING,
                code="checking",
            )
            ready = Sighting(
                SourceName.USBMUX,
                address="1",
                serial=SERIAL,
                platform=Platform.IOS,
                bridge=Bridge.READY,
                name="Rack 1, left",
                model="iPhone 13",
            )
            assert recorder.seen == [Snapshot(SourceName.USBMUX, (unknown,)), Changed(ready)]
            assert phone.sessions == 1, "ready without a TLS session proves nothing"

    async def test_nothing_is_written_and_pairing_is_never_asked_for(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        mux.attach(SERIAL, trusted=False)
        records = tmp_path / "records"
        async with watching(mux, records) as recorder:
            await recorder.until(lambda: says(recorder, "tap Trust"), "not trusted")
        assert not records.exists()
        assert set(mux.requests) == {"Listen", "ListDevices", "Connect", "ReadPairRecord"}

    async def test_trust_by_a_new_attachment(self, mux: FakeUsbmuxd, tmp_path: Path) -> None:
        phone = mux.attach(SERIAL, trusted=False, name="Mine")
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: says(recorder, "not trusted: unlock"), "not trusted")
            untrusted = only(recorder)
            assert untrusted is not None
            assert untrusted.name == "Mine", "a phone tells its name to anybody"
            phone.trusted = phone.record = True
            mux.reattach(phone)
            await recorder.until(lambda: is_ready(recorder), "ready")
            assert Gone(SourceName.USBMUX, "1") in recorder.seen
            assert [*recorder.visible] == ["2"]

    async def test_a_storm_of_announcements_leaves_everything_else_its_turn(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        """They are all in the socket at once: reading them does not suspend by itself."""
        phone = mux.attach(SERIAL, trusted=False)
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: says(recorder, "not trusted"), "not trusted")
            for _ in range(200):
                mux.reattach(phone)
            told = await recorder.told_each_turn(lambda: str(phone.device_id) in recorder.visible)
            assert len(recorder.seen) > 400
            assert max(after - before for before, after in pairwise(told)) <= 4, "one a turn"

    async def test_trust_without_a_new_attachment(self, mux: FakeUsbmuxd, tmp_path: Path) -> None:
        phone = mux.attach(SERIAL, trusted=False)
        async with watching(mux, tmp_path, retry=0.05) as recorder:
            await recorder.until(lambda: says(recorder, "not trusted"), "not trusted")
            phone.trusted = phone.record = True
            await recorder.until(lambda: is_ready(recorder), "ready")
            assert recorder.count(Gone) == 0

    async def test_a_paired_message_is_acted_on_at_once(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL, trusted=False)
        async with watching(mux, tmp_path, retry=10 * LIMIT) as recorder:
            await recorder.until(lambda: says(recorder, "not trusted"), "not trusted")
            mux.pair(phone)
            await recorder.until(lambda: is_ready(recorder), "ready")

    @pytest.mark.parametrize(
        ("how", "reason", "code"),
        [
            (
                {"record": False, "trusted": True},
                "not trusted: unlock the phone and tap Trust",
                "not_trusted",
            ),
            (
                {"record": True, "trusted": False},
                "refuses this host's pairing record",
                "not_trusted",
            ),
            ({"lockdown": Lockdown.DROPS_TLS}, "not trusted", "not_trusted"),
            ({"refusal": "PasswordProtected"}, "locked: enter the passcode on the phone", "locked"),
            (
                {"refusal": "PairingDialogResponsePending"},
                "not trusted: unlock the phone",
                "not_trusted",
            ),
            ({"refusal": "UserDeniedPairing"}, "Don't Trust", "not_trusted"),
            ({"refusal": "SomethingNew"}, "StartSession: SomethingNew", "refused"),
            (
                {"lockdown": Lockdown.REFUSES},
                "unresponsive: its lockdownd refuses connections",
                "unresponsive",
            ),
            (
                {"lockdown": Lockdown.HANGS_UP},
                "unresponsive: its lockdownd closed the connection",
                "unresponsive",
            ),
            (
                {"lockdown": Lockdown.BABBLES},
                "unresponsive: the check failed: ProtocolError",
                "unresponsive",
            ),
        ],
    )
    async def test_why_a_phone_is_not_ready(
        self, mux: FakeUsbmuxd, tmp_path: Path, how: dict[str, Any], reason: str, code: str
    ) -> None:
        mux.attach(SERIAL, **how)
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: says(recorder, reason), reason)
            sighting = seen(recorder, SERIAL)
            assert sighting is not None
            assert sighting.code == code
            assert not is_ready(recorder)

    @pytest.mark.parametrize("lockdown", [Lockdown.SILENT, Lockdown.STALLS, Lockdown.STALLS_TLS])
    async def test_a_phone_that_never_answers(
        self, mux: FakeUsbmuxd, tmp_path: Path, lockdown: Lockdown
    ) -> None:
        mux.attach(SERIAL, lockdown=lockdown)
        async with watching(mux, tmp_path, probe_timeout=0.5) as recorder:
            await recorder.until(lambda: says(recorder, "unresponsive: "), "unresponsive")
            assert says(recorder, "did not answer within 0.5 s")


class TestManyPhones:
    async def test_silent_phones_do_not_delay_another(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        # More than are checked at once, and a limit that no test waits for.
        for number in range(20):
            mux.attach(f"silent {number}", lockdown=Lockdown.SILENT)
        mux.attach(SERIAL)
        async with watching(mux, tmp_path, probe_timeout=10 * LIMIT) as recorder:
            await recorder.until(lambda: is_ready(recorder), "the phone that answers")
            assert sum(s.reason == CHECKING for s in recorder.visible.values()) == 20

    async def test_twenty_at_once(self, mux: FakeUsbmuxd, tmp_path: Path) -> None:
        async with watching(mux, tmp_path) as recorder:
            await recorder.next_after(0)
            names = {f"00008110-{n:016X}": f"Phone {n}" for n in range(20)}
            for serial, name in names.items():
                mux.attach(serial, name=name)
            await recorder.until(
                lambda: (
                    len(recorder.visible) == 20
                    and all(s.bridge is Bridge.READY for s in recorder.visible.values())
                ),
                "twenty ready phones",
            )
            assert {s.serial: s.name for s in recorder.visible.values()} == names

    async def test_a_full_queue_of_connections_is_waited_for(self, tmp_path: Path) -> None:
        """Old usbmuxd (up to 1.1.1) queues five connections; one more is no outage."""
        mux = FakeUsbmuxd(tmp_path / "mux", backlog=1)
        mux.listen()
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(10)]
        for client in crowd:
            client.setblocking(False)
        try:
            assert errno.EAGAIN in [client.connect_ex(mux.address) for client in crowd]
            mux.attach(SERIAL)
            async with watching(mux, tmp_path) as recorder:
                for _ in range(5):  # the source comes to the full queue
                    await asyncio.sleep(0)
                await mux.start()
                await recorder.until(lambda: is_ready(recorder), "ready")
                assert recorder.count(Down) == 0
        finally:
            for client in crowd:
                client.close()
            await mux.kill()


class TestWhatIsReported:
    async def test_a_dashless_serial_is_passed_on_raw_and_finds_its_record(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        raw = SERIAL.replace("-", "")
        mux.attach(raw, record_name=SERIAL)
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: is_ready(recorder, raw), "ready")

    async def test_a_record_in_the_folder_serves_where_usbmuxd_has_none(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        (tmp_path / f"{SERIAL}.plist").write_bytes(plistlib.dumps(pairing_record()))
        mux.attach(SERIAL, record=False)
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")

    async def test_network_entries_are_left_out(self, mux: FakeUsbmuxd, tmp_path: Path) -> None:
        mux.attach(SERIAL)
        mux.attach(SERIAL, connection="Network")
        mux.attach("only over Wi-Fi", connection="Network")
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            late = mux.attach("later over Wi-Fi", connection="Network")
            mux.detach(late)
            mux.attach("last")
            await recorder.until(lambda: seen(recorder, "last") is not None, "the last")
            assert {s.serial for s in recorder.visible.values()} == {SERIAL, "last"}
            assert recorder.count(Gone) == 0

    async def test_one_phone_over_usb_and_network_is_two_sightings(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        usb = mux.attach(SERIAL)
        wifi = mux.attach(SERIAL, connection="Network", lockdown=Lockdown.REFUSES)
        async with watching(mux, tmp_path, network_devices=True) as recorder:

            def sighting(phone: Phone) -> Sighting:
                return recorder.visible[str(phone.device_id)]

            await recorder.until(
                lambda: (
                    len(recorder.visible) == 2
                    and sighting(usb).bridge is Bridge.READY
                    and "refuses" in sighting(wifi).reason
                ),
                "each with its own word",
            )
            assert (sighting(usb).network, sighting(wifi).network) == (False, True)
            mux.detach(wifi)
            await recorder.until(lambda: len(recorder.visible) == 1, "one left")
            assert sighting(usb).bridge is Bridge.READY

    async def test_an_announcement_that_was_lost_is_found_in_the_list(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        stays = mux.attach(SERIAL)
        goes = mux.attach("goes")
        async with watching(mux, tmp_path, list_interval=0.05) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            mux.attach("came", announce=False)
            mux.detach(goes, announce=False)
            await recorder.until(
                lambda: {s.serial for s in recorder.visible.values()} == {SERIAL, "came"},
                "what the list says",
            )
            assert is_ready(recorder)
            assert stays.checks == 1, "a phone that stayed is not checked anew"


class TestProbing:
    async def test_a_ready_phone_is_probed_and_two_misses_make_it_unresponsive(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL)
        how = {"probe_interval": 0.1, "probe_timeout": 0.5, "retry": 0.1}
        async with watching(mux, tmp_path, **how) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            phone.lockdown = Lockdown.SILENT
            checks = phone.checks
            await recorder.until(lambda: says(recorder, "unresponsive"), "unresponsive")
            assert phone.checks >= checks + 2
            phone.lockdown = Lockdown.ANSWERS
            await recorder.until(lambda: is_ready(recorder), "ready again")

    async def test_trust_that_was_taken_back_is_seen_by_the_next_probe(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL)
        async with watching(mux, tmp_path, probe_interval=0.1) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            phone.trusted = False
            await recorder.until(lambda: says(recorder, "not trusted"), "not trusted")

    async def test_one_word_per_state_however_often_it_is_probed(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL)
        async with watching(mux, tmp_path, probe_interval=0.01) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            await eventually(lambda: phone.checks >= 5)
            assert len(recorder.seen) == 2


class TestOutages:
    async def test_another_usbmuxd_with_other_phones_under_the_same_numbers(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        first, second = mux.attach("first", name="1"), mux.attach("second", name="2")
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(
                lambda: is_ready(recorder, "first") and is_ready(recorder, "second"), "both"
            )
            assert [*recorder.visible] == ["1", "2"]
            await mux.kill()
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")
            assert not recorder.visible
            mux.detach(first)
            mux.detach(second)
            mux.attach("third", name="3")
            mux.attach("first", name="1")
            await mux.start()
            await recorder.until(
                lambda: is_ready(recorder, "first") and is_ready(recorder, "third"), "both"
            )
            now = {s.address: (s.serial, s.name) for s in recorder.visible.values()}
            assert now == {"1": ("third", "3"), "2": ("first", "1")}
            assert recorder.count(Gone) == 0

    async def test_a_missing_socket_is_normal(self, tmp_path: Path) -> None:
        mux = FakeUsbmuxd(tmp_path / "mux")
        with capture_logs() as logs:
            async with watching(mux, tmp_path) as recorder:
                await recorder.next_after(0)
        assert reasons(recorder) == [
            f"usbmuxd is not running (no {mux.address}): normal while no iPhone is attached"
        ]
        assert [e["log_level"] for e in logs if e["event"] == "usbmux.down"] == ["info"]

    async def test_a_socket_left_behind_is_normal_too(self, tmp_path: Path) -> None:
        mux = FakeUsbmuxd(tmp_path / "mux")
        await mux.start()
        await mux.kill(leave_socket=True)
        async with watching(mux, tmp_path) as recorder:
            await recorder.next_after(0)
        assert "normal while no iPhone is attached" in reasons(recorder)[0]

    async def test_usbmuxd_that_ends_with_the_last_phone_is_normal(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL)
        with capture_logs() as logs:
            async with watching(mux, tmp_path) as recorder:
                await recorder.until(lambda: is_ready(recorder), "ready")
                mux.detach(phone)
                await recorder.until(lambda: not recorder.visible, "gone")
                await mux.kill()
                await recorder.until(lambda: recorder.count(Down) == 1, "Down")
        assert "normal while no iPhone is attached" in reasons(recorder)[0]
        assert not [e for e in logs if e["log_level"] == "warning"]

    async def test_usbmuxd_that_dies_with_phones_attached_is_a_warning(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        mux.attach(SERIAL)
        with capture_logs() as logs:
            async with watching(mux, tmp_path) as recorder:
                await recorder.until(lambda: is_ready(recorder), "ready")
                await mux.kill()
                await recorder.until(lambda: recorder.count(Down) == 1, "Down")
        assert mux.address in reasons(recorder)[0]
        assert "systemctl status usbmuxd" in reasons(recorder)[0]
        warnings = [e["event"] for e in logs if e["log_level"] == "warning"]
        assert warnings == ["usbmux.down"]

    async def test_nothing_on_a_tcp_address(self, tmp_path: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            async with watching(FakeUsbmuxd(address), tmp_path) as recorder:
                await recorder.next_after(0)
        assert f"nothing listens on {address}" in reasons(recorder)[0]
        assert "normal" not in reasons(recorder)[0]

    async def test_an_outage_is_told_once_however_often_it_is_tried(self, tmp_path: Path) -> None:
        tries: list[int] = []

        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tries.append(1)
            writer.close()

        address = str(tmp_path / "mux")
        server = await asyncio.start_unix_server(hang_up, address)
        with capture_logs() as logs:
            async with watching(FakeUsbmuxd(address), tmp_path) as recorder:
                await eventually(lambda: len(tries) >= 4)
        server.close()
        await server.wait_closed()
        assert [type(o) for o in recorder.seen] == [Down]
        assert "normal" not in reasons(recorder)[0], "something listens, and does not work"
        assert [e["log_level"] for e in logs if e["event"] == "usbmux.down"] == ["warning"]

    async def test_an_outage_that_was_called_normal_and_is_not_is_told_again(
        self, tmp_path: Path
    ) -> None:
        mux = FakeUsbmuxd(tmp_path / "mux")
        async with watching(mux, tmp_path, answer_limit=0.2) as recorder:
            await recorder.next_after(0)
            await mux.start()
            mux.hang()
            await recorder.next_after(1)
            await mux.kill()
        normal, hangs = reasons(recorder)
        assert "normal while no iPhone is attached" in normal
        assert "hangs: no answer within 0.2 s" in hangs

    async def test_a_number_that_is_announced_for_another_phone(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach("before", lockdown=Lockdown.SILENT)
        async with watching(mux, tmp_path) as recorder:
            await recorder.until(lambda: seen(recorder, "before") is not None, "the one before")
            phone.serial, phone.lockdown = SERIAL, Lockdown.ANSWERS
            mux.garble(frame(attached(phone)))
            await recorder.until(lambda: is_ready(recorder), "the new one")
            assert [*recorder.visible] == ["1"]
            await eventually(lambda: mux.connections == 1)  # the old one's check was ended

    async def test_a_name_with_several_addresses(self, tmp_path: Path) -> None:
        async with FakeUsbmuxd("127.0.0.1:0") as mux:
            mux.address = mux.address.replace("127.0.0.1", "localhost")
            async with watching(mux, tmp_path) as recorder:
                assert isinstance(await recorder.next_after(0), Snapshot)

    async def test_usbmuxd_that_hangs_while_it_is_watched(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        mux.attach(SERIAL)
        async with watching(mux, tmp_path, list_interval=0.05, answer_limit=2.0) as recorder:
            await recorder.until(lambda: is_ready(recorder), "ready")
            mux.hang()
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")
            assert "hangs" in reasons(recorder)[0]
            await mux.kill()
            await mux.start()
            await recorder.until(lambda: is_ready(recorder), "ready again")
            assert recorder.count(Down) == 1

    @pytest.mark.parametrize(
        ("data", "nature"),
        [
            (BAD_PLIST, "25 bytes read, beginning 19 00 00 00 01 00 00 00 08 00 00 00"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "16 bytes read, beginning 48 54 54 50 2f"),
            (struct.pack("<I", 3) + bytes(12), "a message cannot be 3 bytes long"),
            (frame({"MessageType": "Nonsense"}), "Unexpected device-state message"),
            (frame({"No": "type"}), "KeyError: 'MessageType'"),
            (frame({"MessageType": "Detached", "DeviceID": []}), "[] is gone, it says"),
            (frame({"MessageType": "Detached"}), "KeyError: 'DeviceID'"),
        ],
        ids=["no plist", "http", "too short", "unknown", "untyped", "bad id", "no id"],
    )
    async def test_malformed_messages(
        self, mux: FakeUsbmuxd, tmp_path: Path, data: bytes, nature: str
    ) -> None:
        mux.attach(SERIAL)
        with capture_logs() as logs:
            async with watching(mux, tmp_path) as recorder:
                await recorder.until(lambda: is_ready(recorder), "ready")
                before = len(recorder.seen)
                mux.garble(data)
                await recorder.until(lambda: recorder.count(Down) == 1, "Down")
                await recorder.until(lambda: is_ready(recorder), "ready again")
        after = recorder.seen[before:]
        assert [type(o) for o in after] == [Down, Snapshot, Changed]
        assert nature in reasons(recorder)[0]
        warnings = [e for e in logs if e["log_level"] == "warning"]
        assert [w["reason"] for w in warnings] == reasons(recorder)

    async def test_a_message_that_stops_in_its_middle_is_not_waited_for_for_ever(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        async with watching(mux, tmp_path, answer_limit=2.0) as recorder:
            await recorder.next_after(0)
            mux.garble(struct.pack("<IIII", 500, 1, 8, 0) + b"<?xml")
            await recorder.until(lambda: recorder.count(Down) == 1, "Down")
            await recorder.until(lambda: recorder.count(Snapshot) == 2, "a new snapshot")


class TestStopping:
    async def test_a_phone_that_leaves_takes_its_check_along(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL, lockdown=Lockdown.SILENT)
        async with watching(mux, tmp_path, probe_timeout=10 * LIMIT) as recorder:
            await eventually(lambda: phone.checks == 1)
            mux.detach(phone)
            await recorder.until(lambda: not recorder.visible, "its going")
            await eventually(lambda: mux.connections == 1)

    @pytest.mark.parametrize(
        "lockdown", [Lockdown.ANSWERS, Lockdown.SILENT, Lockdown.STALLS, Lockdown.STALLS_TLS]
    )
    async def test_stopping_in_the_middle_of_checks_leaves_nothing(
        self, mux: FakeUsbmuxd, tmp_path: Path, lockdown: Lockdown
    ) -> None:
        phones = [mux.attach(f"phone {n}", lockdown=lockdown) for n in range(4)]
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with watching(mux, tmp_path) as recorder:
            await recorder.next_after(0)
        before = descriptors()
        for turns in range(0, 60, 3):
            reached = sum(phone.checks for phone in phones)
            async with watching(mux, tmp_path) as recorder:
                await recorder.next_after(0)
                await eventually(partial(checked_more_than, phones, reached))
                for _ in range(turns):  # another point of the check every time
                    await asyncio.sleep(0)
        await eventually(lambda: not mux.listeners and descriptors() <= before)
        assert not complaints

    async def test_a_phone_that_leaves_in_the_middle_of_its_check_is_never_heard_of_again(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        async with watching(mux, tmp_path) as recorder:
            await recorder.next_after(0)
            for turns in range(0, 60, 3):
                phone = mux.attach(f"phone {turns}")
                await eventually(partial(checked_more_than, [phone], 0))
                for _ in range(turns):
                    await asyncio.sleep(0)
                mux.detach(phone)
                gone = Gone(SourceName.USBMUX, str(phone.device_id))
                await recorder.until(partial(contains, recorder.seen, gone), "its going")
            mux.attach(SERIAL)
            await recorder.until(lambda: is_ready(recorder), "ready")
            for index, observation in enumerate(recorder.seen):
                if isinstance(observation, Gone):
                    assert not any(
                        isinstance(later, Changed) and later.sighting.address == observation.address
                        for later in recorder.seen[index:]
                    )


def run_isolated(program: str, tmp_path: Path) -> Iterator[str]:
    """Lines printed by a Python program of its own, which sees the agent and the tests."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=4 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return iter(done.stdout.splitlines())


class TestTheLibraryIsOptionalAndLate:
    def test_not_installed(self, tmp_path: Path) -> None:
        """One Down that tells what to do, even where usbmuxd runs; then nothing."""
        lines = run_isolated(
            """
            import asyncio, sys
            from pathlib import Path

            class NotInstalled:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] == "pymobiledevice3":
                        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

            sys.meta_path.insert(0, NotInstalled())

            from tests.kit.sources import usbmux_source
            from tests.fakes.recorder import Recorder
            from tests.fakes.usbmuxd import FakeUsbmuxd

            async def main():
                async with FakeUsbmuxd(Path(sys.argv[1]) / "mux") as mux:
                    recorder = Recorder()
                    source = usbmux_source(mux.address, Path(sys.argv[1]), probe_timeout=1)
                    task = asyncio.create_task(source.run(recorder))
                    await recorder.next_after(0)
                    await asyncio.wait({task}, timeout=1)
                    print(len(recorder.seen), task.done(), mux.requests)
                    print(recorder.seen[0].reason)
                    print(recorder.seen[0].code)
                    task.cancel()
                    await asyncio.wait({task})

            asyncio.run(main())
            """,
            tmp_path,
        )
        *_, counts, reason, code = lines
        assert counts == "1 False []"
        assert code == "ios_support_missing"
        assert reason == "iOS support is not installed: pip install 'device-agent[ios]'"

    def test_loaded_when_needed(self, tmp_path: Path) -> None:
        """Nothing of its 17 MB before the first iPhone."""
        lines = run_isolated(
            """
            import asyncio, sys
            from pathlib import Path
            from tests.kit.sources import usbmux_source
            from agent.model import Bridge
            from tests.fakes.recorder import Recorder
            from tests.fakes.usbmuxd import FakeUsbmuxd

            def loaded():
                return [name for name in ("usbmux", "lockdown")
                        if f"pymobiledevice3.{name}" in sys.modules]

            async def main():
                mux = FakeUsbmuxd(Path(sys.argv[1]) / "mux")
                recorder = Recorder()
                source = usbmux_source(mux.address, Path(sys.argv[1]), probe_timeout=10)
                task = asyncio.create_task(source.run(recorder))
                await recorder.next_after(0)
                print("absent", loaded())
                await mux.start()
                await recorder.next_after(1)
                print("empty", loaded())
                mux.attach("phone")
                await recorder.until(lambda: any(
                    s.bridge is Bridge.READY for s in recorder.visible.values()))
                print("phone", loaded())
                task.cancel()
                await asyncio.wait({task})
                await mux.kill()

            asyncio.run(main())
            """,
            tmp_path,
        )
        printed = [line for line in lines if line.split()[0] in {"absent", "empty", "phone"}]
        assert printed == ["absent []", "empty []", "phone ['usbmux', 'lockdown']"]

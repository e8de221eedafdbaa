"""UsbmuxSource on what daemons and phones in the field say: one odd word costs nobody else."""

from __future__ import annotations

import asyncio
import plistlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.model import Bridge, Changed, Down, Gone, Sighting, Snapshot
from agent.sources.lockdown_words import _PASSING, _STANDING, reason_of
from agent.wire.lockdown import Refusal
from tests.fakes.recorder import Recorder
from tests.fakes.usbmuxd import FakeUsbmuxd, Lockdown, Phone, attached, pairing_record
from tests.kit.sources import usbmux_source
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.sources.usbmux import UsbmuxSource

SERIAL = "00008110-000A1234A1B2C3D4"


@pytest.fixture
async def mux(tmp_path: Path) -> AsyncIterator[FakeUsbmuxd]:
    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        yield mux


@asynccontextmanager
async def running(
    mux: FakeUsbmuxd, tmp_path: Path, **changes: Any
) -> AsyncIterator[tuple[UsbmuxSource, Recorder]]:
    settings = {
        "probe_timeout": LIMIT,
        "list_interval": 10 * LIMIT,
        "sysfs": tmp_path / "sysfs",
        **changes,
    }
    source = usbmux_source(mux.address, tmp_path / "records", **settings)
    recorder = Recorder()
    task = asyncio.create_task(source.run(recorder))
    try:
        yield source, recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


def phone_of(recorder: Recorder, serial: str = SERIAL) -> Sighting:
    return next(
        (s for s in recorder.visible.values() if s.serial == serial),
        Sighting(next(iter(recorder.seen)).source, "", ""),
    )


async def ready(recorder: Recorder, serial: str = SERIAL) -> Sighting:
    await recorder.until(
        lambda: bool(recorder.seen) and phone_of(recorder, serial).bridge is Bridge.READY, "ready"
    )
    return phone_of(recorder, serial)


def row(**changes: Any) -> dict[str, Any]:
    """A row of another phone; what is given as None is left out."""
    made = attached(Phone("ODD", device_id=99))
    for key, value in changes.items():
        at = made if key in {"MessageType", "DeviceID", "Properties"} else made["Properties"]
        if value is None:
            del at[key]
        else:
            at[key] = value
    return made


def without_ids() -> dict[str, Any]:
    made = row(DeviceID=None)
    del made["Properties"]["DeviceID"]
    return made


ODD = {
    "no ConnectionType": row(ConnectionType=None),
    "no SerialNumber": row(SerialNumber=None),
    "no DeviceID": without_ids(),
    "no Properties": row(Properties=None),
    "ConnectionType a number": row(ConnectionType=1),
    "ConnectionType empty": row(ConnectionType=""),
    "SerialNumber bytes": row(SerialNumber=b"ODD"),
    "SerialNumber empty": row(SerialNumber=""),
    "SerialNumber a list": row(SerialNumber=["ODD"]),
    "DeviceID text": row(DeviceID="99"),
    "DeviceID a truth": row(DeviceID=True),
    "DeviceID too great": row(DeviceID=1 << 32),
    "DeviceID below zero": row(DeviceID=-1),
    "DeviceID a list": row(DeviceID=[99]),
    "Properties a list": row(Properties=[]),
    "Properties text": row(Properties="ODD"),
}
ODD_IN_A_LIST = {
    **ODD,
    "text": "ODD",
    "a number": 7,
    "a list": [],
    "nothing": {},
}


class TestOddRows:
    @pytest.mark.parametrize("odd", ODD_IN_A_LIST.values(), ids=ODD_IN_A_LIST.keys())
    async def test_in_the_list(self, mux: FakeUsbmuxd, tmp_path: Path, odd: Any) -> None:
        mux.attach(SERIAL)
        if isinstance(odd, dict) and "MessageType" in odd:
            mux.rows.append(odd)  # from the start; the others are no announcements
        with capture_logs() as logs:
            async with running(mux, tmp_path, list_interval=0.02) as (_, recorder):
                await ready(recorder)
                if not mux.rows:
                    mux.rows.append(odd)
                asked = mux.requests.count("ListDevices")
                await eventually(lambda: mux.requests.count("ListDevices") > asked + 3)
                assert [s.serial for s in recorder.visible.values()] == [SERIAL]
                assert recorder.count(Down) == recorder.count(Gone) == 0
        assert [e["event"] for e in logs if e["log_level"] == "warning"] == ["usbmux.row_left_out"]

    @pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
    async def test_in_an_announcement(self, mux: FakeUsbmuxd, tmp_path: Path, odd: Any) -> None:
        mux.attach(SERIAL)
        with capture_logs() as logs:
            async with running(mux, tmp_path) as (_, recorder):
                await ready(recorder)
                for _ in range(3):
                    mux.announce(odd)
                mux.attach("LATER")
                await ready(recorder, "LATER")
                assert {s.serial for s in recorder.visible.values()} == {SERIAL, "LATER"}
                assert recorder.count(Down) == 0
        assert [e["event"] for e in logs if e["log_level"] == "warning"] == ["usbmux.row_left_out"]

    @pytest.mark.parametrize(
        "odd",
        [row(MessageType=None), row(DeviceID=None), row(LocationID=None), row(ProductID="x")],
        ids=["no MessageType", "its DeviceID among the properties", "no LocationID", "ProductID"],
    )
    async def test_what_is_not_needed_may_be_missing(
        self, mux: FakeUsbmuxd, tmp_path: Path, odd: Any
    ) -> None:
        mux.behind.append(Phone("ODD", device_id=99))
        mux.attach(SERIAL)
        async with running(mux, tmp_path, list_interval=0.02) as (_, recorder):
            await ready(recorder)
            mux.rows.append(odd)
            assert (await ready(recorder, "ODD")).address == "99"

    @pytest.mark.parametrize("odd", [row(MessageType=None), {"DeviceID": 9}, {"Properties": {}}])
    async def test_an_announcement_without_its_type_ends_nothing(
        self, mux: FakeUsbmuxd, tmp_path: Path, odd: Any
    ) -> None:
        mux.behind.append(Phone("ODD", device_id=99))
        mux.rows.append(odd)  # listed, and announced to whoever begins to listen
        mux.attach(SERIAL)
        async with running(mux, tmp_path) as (_, recorder):
            await ready(recorder)
            mux.announce(odd)
            mux.attach("LATER")
            await ready(recorder, "LATER")
            if odd.get("Properties"):
                assert (await ready(recorder, "ODD")).address == "99"
            assert recorder.count(Down) == 0

    async def test_a_connection_that_is_no_cable_is_a_networks(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        mux.rows.append(row(ConnectionType="Ether"))
        mux.attach(SERIAL)
        async with running(mux, tmp_path) as (_, recorder):
            await ready(recorder)
            assert [s.serial for s in recorder.visible.values()] == [SERIAL]
        async with running(mux, tmp_path, network_devices=True) as (_, recorder):
            await ready(recorder)
            assert phone_of(recorder, "ODD").network

    @pytest.mark.parametrize("kind", [dict, str, int])
    async def test_a_list_that_is_none_is_an_outage(
        self, mux: FakeUsbmuxd, tmp_path: Path, kind: Callable[[], Any]
    ) -> None:
        mux.list_is = kind()
        async with running(mux, tmp_path) as (_, recorder):
            down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "malformed" in down.reason


WORDS = {
    "PasswordProtected": ("locked: ", "passcode"),
    "PasscodeRequired": ("locked: ", "passcode"),
    "DeviceLocked": ("locked: ", "passcode"),
    "EscrowLocked": ("locked: ", "passcode"),
    "FMiPProtected": ("locked: ", "Find My"),
    "UserDeniedPairing": ("not trusted: ", "Don't Trust"),
    "PairingDialogResponsePending": ("not trusted: ", "tap Trust"),
    "PairingProhibitedOverThisConnection": ("not trusted: ", "cable"),
    "InvalidHostID": ("not trusted: ", "pairing record"),
    "MissingHostID": ("not trusted: ", "pairing record"),
    "InvalidPairRecord": ("not trusted: ", "pairing record"),
    "MCProtected": ("managed: ", "MDM"),
    "PairingProhibitedByMCProfile": ("managed: ", "MDM"),
    "MCChallengeRequired": ("managed: ", "supervis"),
    "MissingActivationRecord": ("not activated: ", "set-up"),
    "SessionActive": ("busy: ", "restart"),
    "ServiceLimit": ("busy: ", "restart"),
    "SessionInactive": ("refused: ", "StartSession: SessionInactive"),
    "InvalidService": ("refused: ", "StartSession: InvalidService"),
    "GetProhibited": ("refused: ", "StartSession: GetProhibited"),
    "SomethingNew": ("refused: ", "StartSession: SomethingNew"),
    "": ("refused: ", "StartSession: "),
    "Some thing\nelse": ("refused: ", "StartSession: Some thing\nelse"),
}


class TestWhatAPhoneRefuses:
    @pytest.mark.parametrize("code", WORDS)
    async def test_each_error_has_its_words_and_its_remedy(
        self, mux: FakeUsbmuxd, tmp_path: Path, code: str
    ) -> None:
        mux.attach(SERIAL, name="Mine", refusals={"StartSession": code})
        begins, names = WORDS[code]
        async with running(mux, tmp_path) as (_, recorder):
            await recorder.until(
                lambda: bool(recorder.seen) and phone_of(recorder).bridge is Bridge.NOT_READY
            )
            told = phone_of(recorder)
        assert told.reason.startswith(begins)
        assert names in told.reason
        assert told.name == "Mine", "it tells its name to anybody"

    @pytest.mark.parametrize("code", [{"a": 1}, 17, ["EscrowLocked"]])
    async def test_an_error_that_is_no_text(
        self, mux: FakeUsbmuxd, tmp_path: Path, code: Any
    ) -> None:
        mux.attach(SERIAL, refusals={"StartSession": code})
        async with running(mux, tmp_path) as (_, recorder):
            await recorder.until(
                lambda: bool(recorder.seen) and phone_of(recorder).bridge is Bridge.NOT_READY
            )
            assert phone_of(recorder).reason.startswith(
                f"refused: it answered StartSession: {code}"
            )

    @pytest.mark.parametrize("request_", ["QueryType", "GetValue"])
    @pytest.mark.parametrize("code", ["MCProtected", "EscrowLocked", "SomethingNew"])
    async def test_a_refusal_of_another_request(
        self, mux: FakeUsbmuxd, tmp_path: Path, request_: str, code: str
    ) -> None:
        mux.attach(SERIAL, refusals={request_: code})
        async with running(mux, tmp_path) as (_, recorder):
            await recorder.until(
                lambda: bool(recorder.seen) and phone_of(recorder).bridge is Bridge.NOT_READY
            )
            phone = phone_of(recorder)
            assert (phone.reason, phone.code) == reason_of(Refusal(request_, code))

    @pytest.mark.parametrize(
        ("kept", "says"),
        [
            (b"no property list", "is damaged"),
            (b"", "is damaged"),
            ("text", "is damaged"),
            ([], "is damaged"),
            (plistlib.dumps([]), "is damaged"),
            (plistlib.dumps({"HostID": "x"}), "is damaged"),
            (
                plistlib.dumps({"HostID": "x", "HostCertificate": "text", "HostPrivateKey": b""}),
                "is damaged",
            ),
            (plistlib.dumps(pairing_record() | {"HostPrivateKey": b"-"}), "do not fit"),
        ],
    )
    async def test_a_pairing_record_that_is_none(
        self, mux: FakeUsbmuxd, tmp_path: Path, kept: Any, says: str
    ) -> None:
        mux.attach(SERIAL, record_data=kept)
        async with running(mux, tmp_path) as (_, recorder):
            await recorder.until(
                lambda: bool(recorder.seen) and phone_of(recorder).bridge is Bridge.NOT_READY
            )
            assert phone_of(recorder).reason.startswith("not trusted: ")
            assert says in phone_of(recorder).reason
            assert "tap Trust" in phone_of(recorder).reason

    def test_no_words_are_those_of_another(self) -> None:
        assert not _STANDING.keys() & _PASSING.keys()
        for code in (*_STANDING, *_PASSING, "New" * 200):
            reason = reason_of(Refusal("GetValue", code))
            assert len(reason.text) < 400
            says = reason.text.partition(": ")[0]
            assert says in {
                "locked", "not trusted", "managed", "not activated", "busy", "refused"
            }  # fmt: skip
            lost = "Find My" in reason.text
            assert reason.code == ("find_my" if lost else says.replace(" ", "_"))

    async def test_a_passing_refusal_of_a_ready_phone_proves_nothing_once(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        phone = mux.attach(SERIAL)
        async with running(mux, tmp_path, probe_interval=0.05, retry=0.01) as (_, recorder):
            await ready(recorder)
            phone.refusals = {"StartSession": "ServiceLimit"}
            checks = phone.checks
            await eventually(lambda: phone.checks > checks)
            phone.refusals = {}
            checks = phone.checks
            await eventually(lambda: phone.checks > checks + 1)
            changes = [o.sighting for o in recorder.seen if isinstance(o, Changed)]
            assert [s.bridge for s in changes] == [Bridge.READY]


VALUES = {
    "a version that is none": {"ProductVersion": "17.5 (beta) next"},
    "a version that is a number": {"ProductVersion": 17},
    "an empty version": {"ProductVersion": ""},
    "a version in other digits": {"ProductVersion": "\u0661\u0667"},
    "no version": {"ProductVersion": None},
    "no name": {"DeviceName": None},
    "a name that is none": {"DeviceName": ["Rack", 1]},
    "no product": {"ProductType": None},
    "a product that is none": {"ProductType": {"iPhone": 14}},
    "a product that nobody knows": {"ProductType": "iPhone99,9"},
    "a class that is none": {"DeviceClass": []},
    "no class": {"DeviceClass": None},
    "a UDID that is none": {"UniqueDeviceID": 7},
    "nothing at all": dict.fromkeys(
        (
            "DeviceClass", "DeviceName", "ProductType", "ProductVersion", "BuildVersion",
            "UniqueDeviceID", "SerialNumber", "PasswordProtected",
        )
    ),
}  # fmt: skip


class TestWhatAPhoneTells:
    @pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
    async def test_a_trusted_phone_is_ready_whatever_it_tells(
        self, mux: FakeUsbmuxd, tmp_path: Path, values: dict[str, Any]
    ) -> None:
        phone = mux.attach(SERIAL, values=values)
        async with running(mux, tmp_path) as (_, recorder):
            told = await ready(recorder)
        assert phone.sessions == 1
        assert told.name == ("" if "DeviceName" in values else "iPhone")
        assert told.model == (
            "iPhone99,9"
            if values.get("ProductType") == "iPhone99,9"
            else ("" if "ProductType" in values else "iPhone 13")
        )

    @pytest.mark.parametrize("error", ["MissingValue", "GetProhibited"])
    async def test_one_that_tells_nothing_is_ready(
        self, mux: FakeUsbmuxd, tmp_path: Path, error: str
    ) -> None:
        phone = mux.attach(SERIAL, refusals={"GetValue": error})
        async with running(mux, tmp_path) as (_, recorder):
            await ready(recorder)
        assert phone.sessions == 1

    @pytest.mark.parametrize("whole", [[], "text", 7, {}])
    async def test_values_that_are_no_dictionary(
        self, mux: FakeUsbmuxd, tmp_path: Path, whole: Any
    ) -> None:
        phone = mux.attach(SERIAL, all_values=whole)
        async with running(mux, tmp_path) as (_, recorder):
            await ready(recorder)
        assert phone.sessions == 1

    async def test_a_name_without_end(self, mux: FakeUsbmuxd, tmp_path: Path) -> None:
        mux.attach(SERIAL, name="x" * 5000)
        async with running(mux, tmp_path) as (_, recorder):
            assert (await ready(recorder)).name == "x" * 255


def plug_in(sysfs: Path, port: str, vendor: str = "05ac", product: str = "12a8") -> None:
    device = sysfs / port
    device.mkdir(parents=True)
    (device / "idVendor").write_text(f"{vendor}\n")
    (device / "idProduct").write_text(f"{product}\n")


class TestUsbmuxdThatDoesNotRun:
    @pytest.mark.parametrize("left", [True, False], ids=["a dead socket", "no socket"])
    async def test_with_an_iphone_attached_it_is_an_outage(
        self, tmp_path: Path, left: bool
    ) -> None:
        mux = FakeUsbmuxd(tmp_path / "mux")
        if left:
            await mux.start()
            await mux.kill(leave_socket=True)
        plug_in(tmp_path / "sysfs", "1-1")
        plug_in(tmp_path / "sysfs", "1-2", product="1281")  # in recovery: not usbmuxd's
        plug_in(tmp_path / "sysfs", "1-3", vendor="18d1")
        (tmp_path / "sysfs" / "1-1:1.0").mkdir()
        (tmp_path / "sysfs" / "usb1").mkdir()
        with capture_logs() as logs:
            async with running(mux, tmp_path) as (_, recorder):
                down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "usbmuxd is not running" in down.reason
        assert "1 iPhone is attached over USB" in down.reason
        assert "systemctl start usbmuxd" in down.reason
        assert [e["log_level"] for e in logs if e["event"] == "usbmux.down"] == ["warning"]

    async def test_an_iphone_is_known_by_its_event_where_its_attributes_are_masked(
        self, tmp_path: Path
    ) -> None:
        for port, ids in (("1-1", "5ac/12a8/1401"), ("1-2", "5ac/1281/1"), ("1-3", "18d1/4ee7/1")):
            (tmp_path / "sysfs" / port).mkdir(parents=True)
            event = f"DEVTYPE=usb_device\nPRODUCT={ids}\nTYPE=0/0/0\n"
            (tmp_path / "sysfs" / port / "uevent").write_text(event)
        mux = FakeUsbmuxd(tmp_path / "mux")
        async with running(mux, tmp_path) as (_, recorder):
            down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "1 iPhone is attached over USB" in down.reason

    async def test_one_that_is_plugged_in_later_and_goes_again(self, tmp_path: Path) -> None:
        mux = FakeUsbmuxd(tmp_path / "mux")
        async with running(mux, tmp_path) as (_, recorder):
            first = await recorder.next_after(0)
            plug_in(tmp_path / "sysfs", "1-1")
            second = await recorder.next_after(1)
            (tmp_path / "sysfs" / "1-1" / "idVendor").unlink()
            third = await recorder.next_after(2)
        assert isinstance(first, Down)
        assert isinstance(second, Down)
        assert "normal while no iPhone is attached" in first.reason
        assert "1 iPhone is attached" in second.reason
        assert third == first

    async def test_nothing_of_this_host_is_taken_for_another_hosts(self, tmp_path: Path) -> None:
        plug_in(tmp_path / "sysfs", "1-1")
        async with FakeUsbmuxd("127.0.0.1:0") as mux:
            address = mux.address
        async with running(FakeUsbmuxd(address), tmp_path) as (_, recorder):
            down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "attached" not in down.reason

    async def test_a_phone_at_another_hosts_usbmuxd_is_no_network_phone(
        self, tmp_path: Path
    ) -> None:
        async with FakeUsbmuxd("127.0.0.1:0") as mux:
            mux.attach(SERIAL)
            async with running(mux, tmp_path) as (_, recorder):
                assert not (await ready(recorder)).network


class TestRecheck:
    async def test_the_truth_is_emitted_when_it_returns(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        refuses = mux.attach(SERIAL, refusal="PasswordProtected")
        goes = mux.attach("GOES")
        async with running(mux, tmp_path, retry=10 * LIMIT) as (source, recorder):
            await ready(recorder, "GOES")
            await recorder.until(lambda: phone_of(recorder).reason.startswith("locked"))
            mux.detach(goes, announce=False)
            mux.attach("CAME", announce=False)
            refuses.refusal = ""
            await source.recheck()
            assert {s.serial for s in recorder.visible.values()} == {SERIAL, "CAME"}
            assert phone_of(recorder).bridge is Bridge.READY
            await ready(recorder, "CAME")
            said = len(recorder.seen)
            await source.recheck()
            assert len(recorder.seen) == said

    @pytest.mark.parametrize("how", ["hangs", "is killed", "silent phone"])
    async def test_it_is_bounded_and_raises_nothing(
        self, mux: FakeUsbmuxd, tmp_path: Path, how: str
    ) -> None:
        phone = mux.attach(SERIAL, refusal="PasswordProtected")
        async with running(mux, tmp_path, retry=10 * LIMIT) as (source, recorder):
            await recorder.until(
                lambda: bool(recorder.seen) and phone_of(recorder).reason.startswith("locked")
            )
            if how == "hangs":
                mux.hang()
            elif how == "is killed":
                await mux.kill()
            else:
                phone.lockdown = Lockdown.SILENT
            async with asyncio.timeout(LIMIT):
                await source.recheck()
            assert recorder.count(Snapshot) == 1

    async def test_down_or_not_begun_it_returns_at_once(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        await mux.kill()
        async with running(mux, tmp_path) as (source, recorder):
            await source.recheck()
            await recorder.next_after(0)
            await source.recheck()
            assert recorder.count(Changed) == 0

    async def test_one_that_was_ended_says_nothing_more(
        self, mux: FakeUsbmuxd, tmp_path: Path
    ) -> None:
        async with running(mux, tmp_path) as (source, recorder):
            await recorder.next_after(0)
        mux.attach(SERIAL)
        await source.recheck()
        assert len(recorder.seen) == 1


async def test_a_limit_that_passed_while_nothing_ran_is_no_verdict(
    mux: FakeUsbmuxd, tmp_path: Path
) -> None:
    """A paused VM, a starved core: on going on the limit is over, and the answer is unread."""
    phone = mux.attach(SERIAL, lockdown=Lockdown.SILENT)
    async with running(mux, tmp_path, probe_timeout=0.5, retry=10 * LIMIT) as (_, recorder):
        await eventually(lambda: phone.checks == 1)
        phone.lockdown = Lockdown.ANSWERS
        time.sleep(1.7)  # noqa: ASYNC251 - the loop is to stand still
        await ready(recorder)
        changes = [o.sighting for o in recorder.seen if isinstance(o, Changed)]
        assert [s.bridge for s in changes] == [Bridge.READY]

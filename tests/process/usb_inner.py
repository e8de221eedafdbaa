"""`device-agent run` between libudev's netlink, an adb server and a usbmuxd, all on the real wire.

Runs only inside a namespace of its own; test_usb.py brings it there and shows each result.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import signal
import socket
import struct
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver
from tests.fakes.udev_namespace import lab
from tests.fakes.udev_net import UdevNet
from tests.fakes.udev_sysfs import ADB, FASTBOOT, KEYBOARD, MTP, FakeSysfs
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

UDID = "00008110-000A1234A1B2C3D4"
WIPED = {"ID_SERIAL_SHORT": None, "ID_USB_INTERFACES": None, "ID_MODEL": None}
"""What `unbind` leaves of udev's database."""
APPLE = 0x05AC
IPHONE, RECOVERY = 0x12A8, 0x1281
CONFIG = """
[hold]
offline = "200ms"
unplugged = "200ms"
[android]
adb_server = "{adb}"
start_server = false
probe_interval = "0s"
[ios]
usbmuxd = "{mux}"
[[webhooks]]
id = 1
name = "all"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""


class Host:
    """A server with USB ports: what the kernel, adb and usbmuxd of it would say."""

    def __init__(self, place: Path) -> None:
        self.sysfs = FakeSysfs(lab())
        self.net = UdevNet()
        self.adb = FakeAdbHost()
        self.mux = FakeUsbmuxd(place / "m")
        self.receiver = Receiver()

    def plug(self, port: str, serial: str, **how: Any) -> None:
        """A cable goes in."""
        self.net.send("add", self.sysfs.add_phone(port, serial, **how))

    def unplug(self, port: str) -> None:
        """As the kernel and udevd do it: unbind, which wipes the database, then remove."""
        device = self.sysfs.remove(port)
        self.net.send("unbind", device, **WIPED)
        self.net.send("remove", device, **WIPED)

    def told(self) -> list[tuple[str, str, str]]:
        """(udid, name, event) of every callback, in order."""
        bodies = [json.loads(request.body) for request in self.receiver.requests]
        return [(b["deviceUdid"], b["deviceName"], b["eventDescription"]) for b in bodies]

    async def came(self, *expected: tuple[str, str, str]) -> None:
        """Wait for these, since the last call; nothing else may have come."""
        await self.receiver.until(
            lambda: len(self.receiver.requests) >= len(expected), str(expected)
        )
        assert self.told() == list(expected)
        self.receiver.requests.clear()


House = tuple[Host, AgentProcess]


@pytest.fixture(autouse=True)
def loopback() -> None:
    """A new network namespace has its loopback down (ioctl SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))


@asynccontextmanager
async def at_work(config: str) -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        place = Path(name)
        host = Host(place)
        host.sysfs.start_udevd()
        await host.receiver.start()
        async with host.adb, host.mux:
            text = config.format(adb=host.adb.address, mux=place / "m", url=host.receiver.url())
            async with AgentProcess(place, text) as agent:
                await agent.start()
                yield host, agent
                assert await agent.stop() == 0
        await host.receiver.close()
        host.net.close()
        host.sysfs.clear()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with at_work(CONFIG) as made:
        yield made


@pytest.fixture
async def slow_house() -> AsyncIterator[House]:
    """With holds that are long enough to stand still in."""
    async with at_work(CONFIG.replace('"200ms"', '"1s"')) as made:
        yield made


async def test_an_android_phone_from_plug_to_unplug(house: House) -> None:
    host, agent = house
    host.plug("1-4", "ce09", interfaces=(MTP,), mtp=True, model="Galaxy_Note_8")
    await host.came(("ce09", "Galaxy Note 8", "Offline"))
    assert "USB debugging is off" in (await agent.devices())["ce09"]["reason"]
    host.unplug("1-4")
    host.plug("1-4", "ce09", pid=0x4EE7, interfaces=(ADB, MTP), model="Galaxy_Note_8")
    host.adb.set(Listed("ce09", "unauthorized", port="1-4"))
    await agent.until_device("ce09", "reason", "unauthorized")
    host.adb.set(Listed("ce09", "device", port="1-4", transport_id=1))
    await host.came(("ce09", "Galaxy Note 8", "Online"))
    row = (await agent.devices())["ce09"]
    assert (row["platform"], row["port"], row["state"]) == ("android", "1-4", "online")
    host.unplug("1-4")
    host.adb.remove("ce09")
    await host.came(("ce09", "Galaxy Note 8", "Unplugged"))


def rows_of(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All ports of `/v1/ports`, by name."""
    found: dict[str, dict[str, Any]] = {}
    todo = [hub for each in told["controllers"] for hub in each["hubs"]]
    while todo:
        row = todo.pop()
        found[row["port"]] = row
        todo += row["ports"]
    return found


async def until_ports(agent: AgentProcess, condition: Callable[[dict[str, Any]], bool]) -> Any:
    """Wait until the ports are so; what is told of them."""
    told: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIMIT):
            while True:
                status, told = await agent.api("GET", "/v1/ports")
                assert status == 200, told
                if condition(rows_of(told)):
                    return told
                await asyncio.sleep(0.05)
    raise AssertionError(f"waited {LIMIT} s for other ports than {told}")


async def test_the_ports_as_they_hang(house: House) -> None:
    host, agent = house
    host.net.send("add", host.sysfs.add_hub("1-4", port_count=7))
    host.plug("1-4.2", "ce09", speed="5000", model="Galaxy <b>Note</b>")
    host.plug("1-4.3", "", vid=0x046D, pid=0xC31C, interfaces=(KEYBOARD,), model="Keyboard")
    host.adb.set(Listed("ce09", "device", port="1-4.2", transport_id=1))
    await host.came(("ce09", "Galaxy <b>Note</b>", "Online"))
    told = await until_ports(
        agent, lambda rows: rows["1-4"]["port_count"] == 7 and rows["1-4.3"]["speed"] is not None
    )
    assert [each["controller"] for each in told["controllers"]] == ["0000:00:14.0"]
    assert (told["reason"], told["unplaced"]) == ("", [])
    rows = rows_of(told)
    assert rows.keys() == {"usb1", "1-4", "1-4.2", "1-4.3"}
    assert (rows["1-4"]["kind"], rows["1-4"]["number"]) == ("hub", 4)
    phone, other = rows["1-4.2"], rows["1-4.3"]
    assert (phone["kind"], phone["speed"], phone["product"]) == (
        *("phone", 5000.0, "Galaxy <b>Note</b>"),
    )
    assert (phone["device"]["udid"], phone["device"]["state"]) == ("ce09", "online")
    assert (other["kind"], other["product"], other["vendor_id"]) == ("other", "Keyboard", "046d")
    host.unplug("1-4.2")
    host.adb.remove("ce09")
    await host.came(("ce09", "Galaxy <b>Note</b>", "Unplugged"))
    told = await until_ports(agent, lambda rows: rows["1-4.2"]["left"] != [])
    row = rows_of(told)["1-4.2"]
    assert (row["kind"], row["left_count"]) == ("empty", 1)
    (left,) = row["left"]
    assert (left["udid"], left["state"]) == ("ce09", "unplugged")
    assert left["at"] == (await agent.devices())["ce09"]["since"]
    host.unplug("1-4.3")
    host.unplug("1-4")
    rows = rows_of(await until_ports(agent, lambda rows: rows["1-4"]["kind"] == "empty"))
    assert [each["udid"] for each in rows["1-4.2"]["left"]] == ["ce09"], "its place is still told"
    assert "1-4.3" not in rows
    host.sysfs.stop_udevd()
    told = await until_ports(agent, bool)
    async with asyncio.timeout(LIMIT):
        while "udevd is not running" not in told["reason"]:
            told = (await agent.api("GET", "/v1/ports"))[1]
    assert [each["udid"] for each in rows_of(told)["1-4.2"]["left"]] == ["ce09"]


async def test_gone_from_usb_is_unplugged_whatever_adb_still_lists(house: House) -> None:
    host, _ = house
    host.plug("1-4", "ce09")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.receiver.until(lambda: len(host.receiver.requests) == 1, "online")
    host.receiver.requests.clear()
    host.unplug("1-4")
    await host.receiver.until(lambda: len(host.receiver.requests) == 1, "unplugged")
    assert [event for _, _, event in host.told()] == ["Unplugged"]


async def test_fastboot_is_offline_with_its_reason(house: House) -> None:
    host, agent = house
    host.plug("1-4", "ce09", model="Pixel")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.came(("ce09", "Pixel", "Online"))
    host.adb.remove("ce09")
    host.unplug("1-4")
    host.plug("1-4", "ce09", pid=0x4EE0, interfaces=(FASTBOOT,))
    await host.came(("ce09", "Pixel", "Offline"))
    assert "fastboot" in (await agent.devices())["ce09"]["reason"]


async def test_two_phones_of_one_serial(house: House) -> None:
    host, agent = house
    host.plug("1-1", "0123", model="Clone")
    host.adb.set(Listed("0123", port="1-1"))
    await host.came(("0123", "Clone", "Online"))
    host.plug("1-2", "0123", model="Clone")
    host.adb.set(Listed("0123", port="1-2"))
    second = "0123@pci-0000:00:14.0-usb-0:2"
    await host.came((second, "Clone", "Online"))
    assert set(await agent.devices()) == {"0123", second}
    host.unplug("1-1")
    await host.came(("0123", "Clone", "Unplugged"))  # it ends under the name it began with


async def test_an_iphone_from_plug_over_trust_and_recovery_to_unplug(house: House) -> None:
    host, agent = house
    serial = UDID.replace("-", "")
    host.plug("2-1", serial, vid=APPLE, pid=IPHONE, interfaces=((255, 254, 2),), model="iPhone")
    phone = host.mux.attach(UDID, name="Rack iPhone", trusted=False)
    # An iPhone tells its name before it trusts anybody.
    await host.came((UDID, "Rack iPhone", "Offline"))
    await agent.until_device(UDID, "reason", "not trusted")
    phone.trusted = True
    host.mux.pair(phone)
    await host.came((UDID, "Rack iPhone", "Online"))
    host.mux.detach(phone)
    host.unplug("2-1")
    host.plug("2-1", "CPID:8101 ECID:0001", vid=APPLE, pid=RECOVERY, interfaces=((254, 1, 0),))
    await host.came((UDID, "Rack iPhone", "Offline"))
    assert "recovery" in (await agent.devices())[UDID]["reason"]
    host.unplug("2-1")
    await host.came((UDID, "Rack iPhone", "Unplugged"))


async def until_presence(agent: AgentProcess, udid: str, presence: str) -> None:
    """Wait until that is what udev says of the device, whether it counts or not."""
    async with asyncio.timeout(LIMIT):
        while True:
            status, row = await agent.api("GET", f"/v1/devices/{udid}")
            assert status == 200
            if row["readings"]["presence"] == presence:
                return
            await asyncio.sleep(0.01)


async def stand_still(agent: AgentProcess, seconds: float) -> None:
    """Stop the process for so long: that is the input here, not a wait for something."""
    agent.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("seen", [0.0, 0.8])
async def test_a_process_that_stands_still_in_the_middle_of_a_replug_invents_nothing(
    slow_house: House, seen: float
) -> None:
    host, agent = slow_house
    host.plug("1-4", "ce09", model="Pixel")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.came(("ce09", "Pixel", "Online"))
    for _ in range(2):
        host.unplug("1-4")
        host.adb.remove("ce09")
        await until_presence(agent, "ce09", "absent")
        await asyncio.sleep(seen)
        await stand_still(agent, 1.5)
        host.plug("1-4", "ce09", model="Pixel")
        host.adb.set(Listed("ce09", port="1-4"))
        agent.signal(signal.SIGCONT)
        await until_presence(agent, "ce09", "present")
    host.plug("1-5", "marker", model="Pixel")
    host.adb.set(Listed("marker", port="1-5"))
    await host.came(("marker", "Pixel", "Online"))


async def test_a_phone_that_went_while_the_process_stood_still_is_unplugged(
    slow_house: House,
) -> None:
    host, agent = slow_house
    host.plug("1-4", "ce09", model="Pixel")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.came(("ce09", "Pixel", "Online"))
    await stand_still(agent, 0.5)
    host.unplug("1-4")
    host.adb.remove("ce09")
    agent.signal(signal.SIGCONT)
    await host.came(("ce09", "Pixel", "Unplugged"))


async def test_a_phone_that_re_enumerates_over_and_over_is_not_given_out(
    slow_house: House,
) -> None:
    host, agent = slow_house
    host.plug("1-4", "ce09", model="Pixel")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.came(("ce09", "Pixel", "Online"))
    for _ in range(8):
        host.unplug("1-4")
        host.plug("1-4", "ce09", model="Pixel")
    async with asyncio.timeout(LIMIT):
        while True:
            (row,) = (await agent.api("GET", "/v1/devices"))[1]["devices"]
            if row["flapping"]:
                break
            await asyncio.sleep(0.05)
    wish = {"any": {}, "holder": "alice", "ttl": 30}
    assert (await agent.api("POST", "/v1/leases", wish))[0] == 409
    assert host.told() == []


async def test_phones_that_adb_lists_late_are_arriving_and_told_of_once(house: House) -> None:
    host, agent = house
    serials = [f"phone-{n:02}" for n in range(20)]
    for number, serial in enumerate(serials):
        host.plug(f"3-1.{number + 1}", serial, model="Rack")
    for serial in serials:
        await agent.until_device(serial, "reason", "arriving: not yet seen by adb")
    await asyncio.sleep(1)  # five times the hold
    host.adb.set(*(Listed(s, port=f"3-1.{n + 1}") for n, s in enumerate(serials)))
    await host.receiver.until(lambda: len(host.receiver.requests) >= 20, "all online")
    assert {event for _, _, event in host.told()} == {"Online"}


async def test_udevd_restarted_and_a_storm_of_cables(house: House) -> None:
    host, agent = house
    serials = [f"phone-{n:02}" for n in range(30)]
    for number, serial in enumerate(serials):
        host.plug(f"3-1.{number + 1}", serial, model="Rack")
    host.adb.set(*(Listed(s, port=f"3-1.{n + 1}") for n, s in enumerate(serials)))
    await host.receiver.until(lambda: len(host.receiver.requests) == 30, "all online")
    host.receiver.requests.clear()
    host.sysfs.stop_udevd()
    await agent.until(lambda: any("udev.down" in line for line in agent.log), "udev.down")
    host.sysfs.start_udevd()
    await agent.until(
        lambda: sum("udev.snapshot" in line for line in agent.log) >= 2, "the next snapshot"
    )
    for number in range(30):
        host.unplug(f"3-1.{number + 1}")
    await host.receiver.until(lambda: len(host.receiver.requests) == 30, "all unplugged")
    assert {(udid, event) for udid, _, event in host.told()} == {
        (serial, "Unplugged") for serial in serials
    }


async def test_usb_turned_off_takes_what_only_udev_sees(house: House) -> None:
    """Nobody is called back for it, and on again all is as it was."""
    host, agent = house
    host.plug("1-4", "ce09")
    host.adb.set(Listed("ce09", port="1-4"))
    host.plug("1-5", "mute", interfaces=(MTP,), mtp=True)
    await agent.until_device("ce09", "state", "online")
    await agent.until_device("mute", "state", "offline")
    await host.receiver.until(lambda: len(host.receiver.requests) == 2, "both counted")
    host.receiver.requests.clear()
    text = agent.path.read_text()
    agent.path.write_text(text + "[usb]\nenabled = false\n")
    assert (await agent.cli("reload"))[0] == 0
    assert {udid: row["state"] for udid, row in (await agent.devices()).items()} == {
        "ce09": "online"
    }
    # Longer than every hold: another phone has come and gone meanwhile.
    host.adb.set(Listed("later", port="1-6"))
    await agent.until_device("later", "state", "online")
    host.adb.remove("later")
    await agent.until_device("later", "state", "unplugged")
    await agent.until_delivered()
    assert {udid for udid, _, _ in host.told()} == {"later"}
    host.receiver.requests.clear()
    agent.path.write_text(text)
    assert (await agent.cli("reload"))[0] == 0
    await agent.until_device("mute", "state", "offline")
    await agent.until_device("ce09", "state", "online")
    assert host.told() == []


async def test_a_cable_pulled_while_udevd_was_deaf(house: House) -> None:
    """Killed, its control socket is left, and nobody tells of anything."""
    host, agent = house
    host.plug("1-4", "ce09", model="Pixel")
    host.adb.set(Listed("ce09", port="1-4"))
    await host.came(("ce09", "Pixel", "Online"))
    host.sysfs.remove("1-4")
    await host.came(("ce09", "Pixel", "Unplugged"))
    host.sysfs.add_phone("1-4", "ce09", model="Pixel")
    await host.came(("ce09", "Pixel", "Online"))
    assert any("udev.unheard" in line for line in agent.log)


async def test_a_made_up_remove_ends_well(house: House) -> None:
    host, agent = house
    host.plug("1-4", "ce09", interfaces=(MTP,), mtp=True, model="Pixel")
    await host.came(("ce09", "Pixel", "Offline"))
    host.net.send("remove", host.sysfs.plugged["1-4"])
    await agent.until(
        lambda: any("udev.unheard" in line and "is_there=True" in line for line in agent.log),
        "its being found again",
    )
    await agent.until_device("ce09", "state", "offline")


async def test_a_modem_and_a_disk_with_a_phones_serial_are_nobody(house: House) -> None:
    host, agent = house
    serial = "0123456789ABCDEF"
    host.plug("1-1", serial, vid=0x0E8D, pid=0x2008, interfaces=(MTP, ADB), model="MT65xx")
    host.adb.set(Listed(serial, port="1-1"))
    await host.came((serial, "MT65xx", "Online"))
    host.plug("1-2", serial, vid=0x12D1, pid=0x15B6, interfaces=((255, 2, 18),), model="HUAWEI")
    host.plug("1-3", serial, vid=0x13FE, pid=0x4200, interfaces=((8, 6, 80),), model="DISK")
    host.plug("1-4", "last", model="Pixel")
    await agent.until_device("last", "port", "1-4")
    assert set(await agent.devices()) == {serial, "last"}
    host.unplug("1-2")
    host.unplug("1-3")
    host.unplug("1-1")
    host.adb.remove(serial)
    await host.receiver.until(
        lambda: (serial, "MT65xx", "Unplugged") in host.told(), "the phone's going"
    )
    assert {udid for udid, _, _ in host.told()} <= {serial, "last"}


async def test_what_is_no_phone_is_not_shown(house: House) -> None:
    """Debugging off: a phone of a maker nobody has heard of is shown, a watch is not."""
    host, agent = house
    host.plug("1-1", "watch", vid=0x091E, pid=0x4F43, interfaces=(MTP,), mtp=True)
    host.plug("1-2", "kindle", vid=0x1949, pid=0x9981, interfaces=(MTP,), mtp=True)
    host.plug("1-3", "camera", vid=0x04A9, pid=0x31C0, interfaces=(MTP,))
    host.plug("1-4", "honor", vid=0x339B, pid=0x107D, interfaces=(MTP,), mtp=True, model="X8")
    host.plug("1-5", "new", vid=0x3FFF, pid=0x0001, interfaces=(MTP,), mtp=True, model="New")
    await host.receiver.until(lambda: len(host.receiver.requests) >= 2, "both phones")
    assert set(await agent.devices()) == {"honor", "new"}
    assert sorted(host.told()) == [("honor", "X8", "Offline"), ("new", "New", "Offline")]

"""The verbs of the control socket, over a kernel that only counts its ports; and sysfs as it is."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.guest.usb.control import ask, listen
from tests.lab.guest.usb.phones import Phones, RefusedError
from tests.lab.guest.usb.vhci import NoPortError, Port, Vhci
from tests.lab_phones.usb_host import LIMIT, Host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HEADING = "hub port sta spd dev      sockfd local_busid\n"
HUBS, PORTS = 8, 15


class Kernel(Vhci):
    """`vhci-hcd` without a kernel: it has hosts where that has drivers."""

    def __init__(self, hubs: int = HUBS) -> None:
        super().__init__()
        self.hosts: dict[Port, socket.socket] = {}
        self.refuses = False
        self._all = [
            Port(hub * 2 * PORTS + index - 1, hub, index)
            for hub in range(hubs)
            for index in range(1, PORTS + 1)
        ]

    def ports(self) -> dict[Port, bool]:
        for port, connection in list(self.hosts.items()):
            connection.setblocking(False)
            try:
                gone = connection.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                gone = False
            if gone:
                self.hosts.pop(port).close()
        return {port: port not in self.hosts for port in self._all}

    def attach(self, port: Port, descriptor: int) -> None:
        if self.refuses:
            raise OSError(22, "Invalid argument")
        assert port not in self.hosts
        self.hosts[port] = socket.socket(fileno=os.dup(descriptor))

    def path(self, port: Port) -> str:
        return f"{port.hub * 2 + 1}-{port.index}"

    async def host(self, port: Port) -> Host:
        """A host at that port's socket."""
        return Host(*await asyncio.open_unix_connection(sock=self.hosts[port].dup()))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
async def phones(kernel: Kernel, tmp_path: Path) -> AsyncIterator[Phones]:
    made = Phones(kernel, tmp_path)
    yield made
    await made.close()
    assert all(kernel.ports().values())


async def android(phones: Phones, serial: str, **settings: Any) -> dict[str, Any]:
    return await phones.do({"verb": "plug", "kind": "android", "serial": serial, **settings})


async def listed(phones: Phones) -> dict[str, dict[str, Any]]:
    rows = (await phones.do({"verb": "list"}))["phones"]
    return {row["serial"]: row for row in rows}


async def test_plug_and_unplug(phones: Phones, kernel: Kernel) -> None:
    row = await android(phones, "A1", hub=2, device_name="Rack 1")
    assert (row["hub"], row["port"], row["path"]) == (2, 60, "5-1")
    assert (row["plugged"], row["device_name"], row["mode"]) == (True, "Rack 1", "adb")
    host = await kernel.host(Port(60, 2, 1))
    await host.configure(1)
    await host.close()
    times = (await listed(phones))["A1"]["times"]
    assert times["plugged"] <= times["addressed"] <= times["configured"]
    assert times["answered"] is None
    at = (await phones.do({"verb": "unplug", "serial": "A1"}))["at"]
    assert at >= times["configured"]
    assert not (await listed(phones))["A1"]["plugged"]
    assert (await android(phones, "A1"))["device_name"] == "Rack 1"  # remembered


async def test_it_comes_back_where_it_was(phones: Phones) -> None:
    for serial in ("A1", "A2"):
        await android(phones, serial)
    await phones.do({"verb": "unplug", "serial": "A1"})
    assert (await android(phones, "A3"))["path"] == "1-1"
    await phones.do({"verb": "unplug", "serial": "A3"})
    assert (await android(phones, "A1"))["path"] == "1-1"
    await phones.do({"verb": "unplug", "serial": "A1"})
    await android(phones, "A3")
    assert (await android(phones, "A1"))["path"] == "1-3"  # taken by another
    await phones.do({"verb": "unplug", "serial": "A1"})
    assert (await android(phones, "A1", hub=1))["path"] == "3-1"  # as told


async def test_a_mode_is_other_descriptors_at_the_same_port(phones: Phones, kernel: Kernel) -> None:
    port = Port((await android(phones, "A1"))["port"], 0, 1)
    first = kernel.hosts[port]
    row = await phones.do({"verb": "mode", "serial": "A1", "mode": "fastboot", "delay": 0})
    assert kernel.hosts[port] is not first
    assert row["at"] >= row["off_at"]
    assert (row["mode"], row["port"]) == ("fastboot", port.number)
    host = await kernel.host(port)
    assert (await host.descriptor(1))[10:12] == b"\xe0\x4e"
    assert await host.string(3) == "A1"
    await host.close()


async def test_a_storm(phones: Phones, kernel: Kernel) -> None:
    answer = await phones.do(
        {"verb": "plug_many", "kind": "android", "count": 60, "prefix": "S", "authorised": False}
    )
    rows = await listed(phones)
    assert [row["serial"] for row in answer["phones"]] == list(rows)
    assert len(rows) == len({row["port"] for row in rows.values()}) == 60
    assert not any(row["authorised"] for row in rows.values())
    gone = await phones.do({"verb": "unplug_many", "serials": ["S001", "S060"], "interval": 0.001})
    assert gone["serials"] == ["S001", "S060"]
    assert len((await phones.do({"verb": "unplug_many", "all": True}))["serials"]) == 58
    assert all(kernel.ports().values())


async def test_a_hub_lost_and_found(phones: Phones) -> None:
    await android(phones, "ELSE", hub=0)
    await phones.do({"verb": "plug_many", "kind": "android", "count": 10, "prefix": "H", "hub": 1})
    await phones.do({"verb": "unplug", "serial": "H003"})
    lost = await phones.do({"verb": "hub_off", "hub": 1})
    assert len(lost["serials"]) == 9
    assert [s for s, row in (await listed(phones)).items() if row["plugged"]] == ["ELSE"]
    back = await phones.do({"verb": "hub_on", "hub": 1})
    assert back["serials"] == lost["serials"]
    with pytest.raises(RefusedError, match="no phone was lost with hub 1"):
        await phones.do({"verb": "hub_on", "hub": 1})
    with pytest.raises(RefusedError, match="no phone is plugged into hub 3"):
        await phones.do({"verb": "hub_off", "hub": 3})


async def test_a_flickering_cable(phones: Phones, kernel: Kernel) -> None:
    row = await android(phones, "A1")
    before = kernel.hosts[Port(row["port"], 0, 1)]
    row = await phones.do({"verb": "replug", "serial": "A1", "delay": 0, "times": 3})
    assert row["plugged"]
    assert kernel.hosts[Port(row["port"], 0, 1)] is not before


async def test_settings(phones: Phones) -> None:
    await android(phones, "A1", answers={"uptime": "3 days\n"}, model="Pixel 8", vendor=0x04E8)
    row = await phones.do({"verb": "set", "serial": "A1", "authorised": False, "wedged": True})
    assert (row["authorised"], row["wedged"], row["vendor"]) == (False, True, 0x04E8)
    assert (row["model"], row["answers"]) == ("Pixel 8", {"uptime": "3 days\n"})
    with pytest.raises(RefusedError, match="has no 'colour'"):
        await phones.do({"verb": "set", "serial": "A1", "authorised": True, "colour": "red"})
    assert not (await listed(phones))["A1"]["authorised"], "all of it or nothing"


async def test_twins_of_one_serial(phones: Phones, kernel: Kernel) -> None:
    for name in ("LEFT", "RIGHT"):
        row = await android(phones, name, usb_serial="0123456789ABCDEF")
        host = await kernel.host(Port(row["port"], 0, row["port"] + 1))
        assert await host.string(3) == "0123456789ABCDEF"
        await host.close()
    assert list(await listed(phones)) == ["LEFT", "RIGHT"]


async def test_an_iphone(phones: Phones, tmp_path: Path) -> None:
    serial = "00008110000A1234A1B2C3D4"
    row = await phones.do(
        {"verb": "plug", "kind": "iphone", "serial": serial, "lockdown": "silent"}
    )
    assert (row["udid"], row["lockdown"]) == ("00008110-000A1234A1B2C3D4", "silent")
    assert (tmp_path / f"{row['udid']}.plist").exists()
    row = await phones.do({"verb": "set", "serial": serial, "trusted": False, "version": "18.0"})
    assert (row["trusted"], row["hosts"], row["version"]) == (False, [], "18.0")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "a request is a JSON object"),
        ({}, "no verb None; there are plug, unplug"),
        ({"verb": "dance"}, "no verb 'dance'"),
        ({"verb": "plug", "serial": "A2"}, "kind is missing"),
        ({"verb": "plug", "kind": "android", "serial": 3}, "serial is 3, which is no str"),
        ({"verb": "plug", "kind": "palm", "serial": "A2"}, "no kind 'palm'"),
        ({"verb": "plug", "kind": "android", "serial": "A1"}, "'A1' is plugged in already"),
        ({"verb": "plug", "kind": "iphone", "serial": "A2"}, "'A2' is no iPhone's serial"),
        ({"verb": "plug", "kind": "android", "serial": "A2", "hub": True}, "hub is True"),
        ({"verb": "plug", "kind": "android", "serial": "A2", "hub": 9}, "no free port on hub 9"),
        ({"verb": "plug", "kind": "android", "serial": "A2", "mode": "x"}, "mode: 'x' is not"),
        ({"verb": "plug", "kind": "android", "serial": "A2", "wedged": 1}, "wedged is 1"),
        ({"verb": "unplug", "serial": "A9"}, "no phone 'A9' was ever plugged in"),
        ({"verb": "unplug", "serial": "A1", "why": "x"}, "not understood: why"),
        (
            {"verb": "mode", "serial": "A1", "mode": "dfu"},
            "'dfu' is not a valid Mode; there are adb",
        ),
        ({"verb": "set", "serial": "A1", "mode": "mtp"}, "mode cannot change while"),
        ({"verb": "set", "serial": "A1", "model": 4}, "model is 4, which is no str"),
    ],
)
async def test_requests_that_are_refused(phones: Phones, request_: Any, words: str) -> None:
    await android(phones, "A1")
    with pytest.raises(RefusedError, match=words):
        await phones.do(request_)
    assert [serial for serial, row in (await listed(phones)).items() if row["plugged"]] == ["A1"]


async def test_a_kernel_that_refuses(phones: Phones, kernel: Kernel) -> None:
    kernel.refuses = True
    with pytest.raises(RefusedError, match=r"plug: .*Invalid argument"):
        await android(phones, "A1")
    kernel.refuses = False
    assert (await android(phones, "A1"))["plugged"]


async def test_no_port_is_left(tmp_path: Path) -> None:
    kernel = Kernel(hubs=1)
    phones = Phones(kernel, tmp_path)
    await phones.do({"verb": "plug_many", "kind": "android", "count": 15, "prefix": "S"})
    with pytest.raises(RefusedError, match="no free port on all hubs"):
        await android(phones, "S016")
    await phones.close()
    assert all(kernel.ports().values())


async def test_a_host_that_drops_the_phone(phones: Phones, kernel: Kernel) -> None:
    port = Port((await android(phones, "A1"))["port"], 0, 1)
    host = await kernel.host(port)
    host.writer.write(b"\xff" * 48)
    async with asyncio.timeout(LIMIT):
        await host.hung_up.wait()
    await host.close()
    assert not (await listed(phones))["A1"]["plugged"]


async def test_the_socket(phones: Phones, place: Path) -> None:
    server = await listen(phones, place / "sock")
    reader, writer = await asyncio.open_unix_connection(place / "sock")
    for request in (
        b'{"verb": "plug", "kind": "android", "serial": "A1"}\n',
        b'{"verb": "unplug", "serial": "A1"}\n{"verb":\n',
    ):
        writer.write(request)
    answers = [json.loads(await reader.readline()) for _ in range(3)]
    assert [answer["ok"] for answer in answers] == [True, True, False]
    assert "Expecting value" in answers[2]["error"]
    found: list[dict[str, Any]] = []
    client = threading.Thread(
        target=lambda: found.append(ask(place / "sock", '{"verb":\n"list"}', LIMIT))
    )
    client.start()
    await asyncio.to_thread(client.join)
    assert found[0]["phones"][0]["serial"] == "A1"
    writer.close()
    server.close()


def test_the_kernels_ports(tmp_path: Path) -> None:
    control = tmp_path / "vhci_hcd.0"
    control.mkdir()
    (control / "status").write_text(
        HEADING
        + "hs  0000 004 000 00000000 000000 0-0\n"
        + "hs  0001 006 003 00010002 000009 1-1\n"
        + "ss  0002 004 000 00000000 000000 0-0\n"
    )
    (control / "status.1").write_text(HEADING + "hs  0004 005 003 00010002 000009 0-0\n")
    vhci = Vhci(tmp_path)
    assert vhci.ports() == {Port(0, 0, 1): True, Port(1, 0, 2): False, Port(4, 1, 1): False}
    (control / "attach").touch()
    vhci.attach(Port(1, 0, 2), 9)
    assert (control / "attach").read_text() == "1 9 2 3"
    assert vhci.path(Port(0, 0, 1)) == ""
    for bus, speed in (("usb7", "480"), ("usb8", "5000")):
        (control / bus).mkdir()
        (control / bus / "speed").write_text(speed + "\n")
        (control / bus / "busnum").write_text(bus[3:] + "\n")
    assert vhci.path(Port(1, 0, 2)) == "7-2"
    (control / "usb7" / "7-2").mkdir()
    (control / "usb7" / "7-12").mkdir()
    assert vhci.lingers(Port(1, 0, 2))
    assert not vhci.lingers(Port(0, 0, 1))
    assert not vhci.lingers(Port(4, 1, 1))


def test_no_such_kernel(tmp_path: Path) -> None:
    with pytest.raises(NoPortError, match="modprobe vhci-hcd"):
        Vhci(tmp_path).ports()


ROOT = Path(__file__).parents[2]


async def run(*words: str, python: Sequence[str] = (sys.executable,)) -> tuple[int | None, str]:
    """A Python command in the repository: its end, and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *python,
        *words,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_command_line(phones: Phones, place: Path) -> None:
    server = await listen(phones, place / "sock")
    asking = ("-m", "tests.lab.guest.usb", "--socket", str(place / "sock"), "ask")
    assert await run(*asking, '{"verb": "list"}') == (0, '{"ok": true, "phones": []}\n')
    code, answer = await run(*asking, '{"verb": "dance"}')
    assert (code, json.loads(answer)["ok"]) == (1, False)
    server.close()


@pytest.mark.skipif(Path("/sys/devices/platform/vhci_hcd.0").exists(), reason="there is one here")
async def test_serving_where_the_kernel_has_no_such_host(place: Path) -> None:
    code, said = await run("-m", "tests.lab.guest.usb", "--socket", str(place / "sock"), "serve")
    assert code == 1
    assert "run `modprobe vhci-hcd`" in said


async def test_it_needs_the_standard_library_only() -> None:
    code, said = await run(
        "-c", "import tests.lab.guest.usb.__main__", python=(sys.executable, "-S")
    )
    assert (code, said) == (0, "")

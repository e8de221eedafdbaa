"""The Android phone on USB: what the agent takes each mode for, and ADB over its bulk endpoints."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from agent.model import UsbKind
from agent.sources.usb_kind import classify
from tests.fakes.phone import (
    AUTH,
    AUTH_PUBLIC_KEY,
    AUTH_SIGNATURE,
    AUTH_TOKEN,
    CLSE,
    CNXN,
    HEADER,
    MAX_DATA,
    OKAY,
    OPEN,
    VERSION,
    WRTE,
    pack,
)
from tests.lab.guest.usb.android import AndroidPhone, Mode
from tests.lab.guest.usb.usbip import IN
from tests.lab_phones.usb_host import plugged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab_phones.usb_host import Plugged

ADB = 1
KINDS = {
    Mode.ADB: UsbKind.ADB,
    Mode.MTP: UsbKind.MTP,
    Mode.MTP_ADB: UsbKind.ADB,
    Mode.PTP: UsbKind.MTP,
    Mode.PTP_ADB: UsbKind.ADB,
    Mode.TETHERING: UsbKind.OTHER,
    Mode.TETHERING_ADB: UsbKind.ADB,
    Mode.CHARGING: UsbKind.OTHER,
    Mode.FASTBOOT: UsbKind.FASTBOOT,
    Mode.RECOVERY: UsbKind.ADB,
    Mode.SIDELOAD: UsbKind.ADB,
    Mode.EDL: UsbKind.EMERGENCY,
}


@pytest.fixture
def phone() -> AndroidPhone:
    return AndroidPhone(usb_serial="A1")


@pytest.fixture
async def host(phone: AndroidPhone) -> AsyncIterator[Plugged]:
    async with plugged(phone.device()) as made:
        await made.configure(1)
        yield made


async def send(host: Plugged, command: int, arg0: int, arg1: int, payload: bytes = b"") -> None:
    """As an adb server sends a message: two transfers, a zero-length packet where it takes one."""
    message = pack(command, arg0, arg1, payload)
    await host.write(ADB, message[: HEADER.size])
    if payload:
        await host.write(ADB, payload)
        if len(payload) % 512 == 0:
            await host.write(ADB, b"")


async def receive(host: Plugged) -> tuple[int, int, int, bytes]:
    head = await host.read(ADB, 512)
    assert len(head) == HEADER.size, "a header is a transfer of its own"
    command, arg0, arg1, length, checksum, magic = HEADER.unpack(head)
    payload = await host.read(ADB, -(-length // 512) * 512) if length else b""
    assert (len(payload), sum(payload), command ^ magic) == (length, checksum, 0xFFFFFFFF)
    return command, arg0, arg1, payload


async def greet(host: Plugged) -> tuple[int, int, int, bytes]:
    await send(host, CNXN, VERSION, MAX_DATA, b"host::\0")
    return await receive(host)


async def shell(host: Plugged, command: str, stream: int = 7) -> bytes:
    await send(host, OPEN, stream, 0, f"shell:{command}\0".encode())
    output = b""
    while True:
        word, theirs, ours, payload = await receive(host)
        assert ours == stream
        if word == CLSE:
            return output
        if word == WRTE:
            output += payload
            await send(host, OKAY, stream, theirs)


@pytest.mark.parametrize("mode", Mode)
async def test_every_mode_is_what_the_agent_takes_it_for(phone: AndroidPhone, mode: Mode) -> None:
    phone.mode = mode
    async with plugged(phone.device()) as host:
        device, configuration = await host.descriptor(1), await host.descriptor(2)
        vendor, product = struct.unpack_from("<HH", device, 8)
        if mode is not Mode.EDL:  # a boot ROM knows no serial
            assert await host.string(device[16]) == "A1"
    triples = []
    while configuration:
        if configuration[1] == 4:
            triples.append((configuration[5], configuration[6], configuration[7]))
        configuration = configuration[configuration[0] :]
    assert classify(vendor, product, device[4], triples, is_mtp=False) is KINDS[mode]


async def test_no_serial_is_no_string(phone: AndroidPhone) -> None:
    phone.set("usb_serial", "")
    async with plugged(phone.device()) as host:
        assert (await host.descriptor(1))[16] == 0


async def test_an_authorised_phone_says_who_it_is(host: Plugged, phone: AndroidPhone) -> None:
    phone.set("model", "Pixel 8")
    command, version, size, banner = await greet(host)
    assert (command, version, size) == (CNXN, VERSION, MAX_DATA)
    assert banner.startswith(b"device::")
    assert b"ro.product.model=Pixel 8;" in banner
    assert phone.answered_at is not None


async def test_recovery_says_so(phone: AndroidPhone) -> None:
    phone.mode = Mode.RECOVERY
    async with plugged(phone.device()) as host:
        await host.configure(1)
        assert (await greet(host))[3].startswith(b"recovery::")


async def test_the_prompt(host: Plugged, phone: AndroidPhone) -> None:
    phone.set("authorised", False)
    assert (await greet(host))[:2] == (AUTH, AUTH_TOKEN)
    await send(host, AUTH, AUTH_SIGNATURE, 0, bytes(256))
    assert (await receive(host))[:2] == (AUTH, AUTH_TOKEN)
    await send(host, AUTH, AUTH_PUBLIC_KEY, 0, b"QAAAA== me@host\0")
    waiting = host.submit(ADB, IN, 512)
    await host.descriptor(1)
    assert not host.answered(waiting)
    phone.set("authorised", True)
    assert HEADER.unpack(await host.answer(waiting))[0] == CNXN


async def test_shell_commands(host: Plugged, phone: AndroidPhone) -> None:
    phone.set("device_name", "Rack 3")
    phone.set("answers", {"uptime": "up 3 days\n", "cat big": "x" * 1024})
    await greet(host)
    assert await shell(host, "settings get global device_name") == b"Rack 3\n"
    assert await shell(host, "getprop ro.serialno") == b"A1\n"
    assert await shell(host, "uptime") == b"up 3 days\n"
    assert await shell(host, "cat big") == b"x" * 1024  # payloads of whole packets
    assert len(await shell(host, f"echo {'y' * 506}")) == 507  # and from the host
    assert phone.settings()["commands"][2] == "uptime"


async def test_a_wedged_phone_answers_nothing_until_it_is_well(
    host: Plugged, phone: AndroidPhone
) -> None:
    await greet(host)
    phone.set("wedged", True)
    await send(host, OPEN, 1, 0, b"shell:echo hi\0")
    waiting = host.submit(ADB, IN, 512)
    await host.descriptor(1)
    assert not host.answered(waiting)
    phone.set("wedged", False)
    assert HEADER.unpack(await host.answer(waiting))[:3] == (OKAY, 1, 1)


async def test_a_new_adb_server_begins_anew_in_the_middle_of_anything(
    host: Plugged, phone: AndroidPhone
) -> None:
    phone.set("answers", {"dump": "left unread"})
    await greet(host)
    await send(host, OPEN, 1, 0, b"shell:dump\0")
    await host.write(ADB, pack(OPEN, 2, 0, b"shell:echo\0")[: HEADER.size])  # killed here
    assert (await greet(host))[0] == CNXN
    assert await shell(host, "echo fresh") == b"fresh\n"
    assert phone.connected


@pytest.mark.parametrize(("state", "sessions"), [("idle", []), ("5E55", ["5E55"])])
async def test_uiautomator2_behind_a_forward(
    host: Plugged, phone: AndroidPhone, state: str, sessions: list[str]
) -> None:
    await greet(host)
    await send(host, OPEN, 3, 0, b"tcp:6790\0")
    assert (await receive(host))[0] == CLSE  # refused
    phone.set("uiautomator2", state)
    await send(host, OPEN, 4, 0, b"tcp:6790\0")
    assert (await receive(host))[:3] == (OKAY, 4, 4)
    await send(host, WRTE, 4, 4, b"GET /sessions HTTP/1.1\r\n\r\n")
    assert (await receive(host))[0] == OKAY
    command, _, _, answer = await receive(host)
    assert command == WRTE
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert [session["id"] for session in body["value"]] == sessions


def connected(phone: AndroidPhone) -> bool:
    return phone.connected


async def test_an_unplugged_phone_is_not_connected(phone: AndroidPhone) -> None:
    async with plugged(phone.device()) as host:
        await host.configure(1)
        await greet(host)
        assert connected(phone)
    assert not connected(phone)
    phone.set("authorised", False)  # and nothing listens to that

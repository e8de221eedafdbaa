"""The iPhone on USB: usbmux's packets, lockdownd behind them, pairing and sessions."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import plistlib
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from agent.model import UsbKind
from agent.sources.usb_kind import classify
from tests.lab.guest.usb.apps import WDA_PORT
from tests.lab.guest.usb.iphone import MUX_ENDPOINT, IPhone, Mode
from tests.lab.guest.usb.lockdown import PORT, PROXY, PROXY_PORT, REQUEST_PAIR, Manner
from tests.lab.guest.usb.mux import ACK, LONG, MAGIC, RST, SEGMENT, SYN, TCP
from tests.lab.guest.usb.usbip import IN
from tests.lab_phones.usb_host import LIMIT, plugged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.lab_phones.usb_host import Plugged

SERIAL = "00008110000A1234A1B2C3D4"
UDID = "00008110-000A1234A1B2C3D4"
HELLO = struct.pack(">5I", 0, 20, 2, 0, 0)


class Muxd:
    """usbmuxd's end of the multiplexer, for one connection at a time."""

    def __init__(self, host: Plugged) -> None:
        self.host = host
        self.window = 131072
        """What it grants the phone."""
        self._port = 0
        self._inbox = bytearray()

    async def greet(self) -> None:
        await self.host.write(MUX_ENDPOINT, HELLO)
        assert await self.host.read(MUX_ENDPOINT, 16384) == HELLO
        await self._send(2, b"\x07")

    async def connect(self, port: int) -> int:
        """The flags of the phone's answer; SYN | ACK is a connection."""
        self._port, self._there = self._port + 1, port
        self._sent = self._received = self._acknowledged = 0
        self._inbox.clear()
        await self.segment(SYN)
        flags, _ = await self.next_segment()
        if flags == SYN | ACK:
            self._sent, self._received = 1, 1
            await self.segment(ACK)
        return flags

    async def segment(self, flags: int, data: bytes = b"") -> None:
        ports = self._port, self._there
        head = SEGMENT.pack(
            *ports, self._sent, self._received, 5 << 4, flags, self.window >> 8, 0, 0
        )
        await self._send(TCP, head + data)
        self._sent += len(data)

    async def next_segment(self) -> tuple[int, bytes]:
        """Flags and data; checks what a host relies on."""
        packet = await self.host.read(MUX_ENDPOINT, 16384)
        protocol, length, magic, *_ = LONG.unpack_from(packet)
        assert (protocol, length, magic) == (TCP, len(packet), MAGIC)
        port, here, seq, self._acknowledged, _, flags, *_ = SEGMENT.unpack_from(packet, LONG.size)
        assert (port, here) == (self._there, self._port)
        data = packet[LONG.size + SEGMENT.size :]
        if not flags & (SYN | RST):
            assert (flags, seq) == (ACK, self._received)
            assert self._acknowledged <= self._sent
        self._received += len(data)
        return flags, data

    async def write(self, data: bytes) -> None:
        """Send it and wait until the phone has acknowledged it."""
        await self.segment(ACK, data)
        while self._acknowledged != self._sent:
            await self._collect()

    async def read(self) -> bytes:
        """The next data, acknowledged."""
        while not self._inbox:
            await self._collect()
        data = bytes(self._inbox)
        self._inbox.clear()
        return data

    async def _collect(self) -> None:
        flags, data = await self.next_segment()
        if flags & RST:
            raise ConnectionResetError
        self._inbox += data
        if data:
            await self.segment(ACK)

    async def _send(self, protocol: int, body: bytes) -> None:
        packet = LONG.pack(protocol, LONG.size + len(body), MAGIC, 0, 0) + body
        await self.host.write(MUX_ENDPOINT, packet)
        if len(packet) % 512 == 0:
            await self.host.write(MUX_ENDPOINT, b"")


class Client:
    """A client of lockdownd (or another service that speaks property lists)."""

    def __init__(self, muxd: Muxd) -> None:
        self._muxd = muxd
        self._received = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def ask(self, **request: Any) -> dict[str, Any]:
        await self.tell(**request)
        return await self.hear()

    async def tell(self, **request: Any) -> None:
        payload = plistlib.dumps(request)
        await self._write(struct.pack(">I", len(payload)) + payload)

    async def hear(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", await self._read(4))
        message: dict[str, Any] = plistlib.loads(await self._read(length))
        return message

    async def start_tls(self, certificate: bytes, key: bytes, place: Path, **limits: Any) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        for name, value in limits.items():
            setattr(context, name, value)
        (place / "shown").write_bytes(certificate + key)
        context.load_cert_chain(place / "shown")
        tls = context.wrap_bio(self._incoming, self._outgoing)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._muxd.write(self._outgoing.read())
                self._incoming.write(await self._muxd.read())
            else:
                self._tls = tls
                if rest := self._outgoing.read():
                    await self._muxd.write(rest)
                return

    async def stop_tls(self) -> None:
        """Say goodbye as libimobiledevice does, and go on in the clear."""
        assert self._tls is not None
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._tls = None
        await self._muxd.write(self._outgoing.read())

    async def _write(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await self._muxd.write(data)

    async def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            if self._tls is None:
                self._received += await self._muxd.read()
                continue
            try:
                self._received += self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._muxd.read())
        piece = bytes(self._received[:size])
        del self._received[:size]
        return piece


@pytest.fixture
async def phone(tmp_path: Path) -> IPhone:
    made = IPhone(SERIAL, tmp_path)
    await made.prepare()
    return made


@pytest.fixture
async def host(phone: IPhone) -> AsyncIterator[Plugged]:
    async with plugged(phone.device()) as made:
        await made.configure(4)
        yield made


@pytest.fixture
async def muxd(host: Plugged) -> Muxd:
    made = Muxd(host)
    await made.greet()
    return made


@pytest.fixture
async def client(muxd: Muxd) -> Client:
    assert await muxd.connect(PORT) == SYN | ACK
    return Client(muxd)


def record(path: Path) -> dict[str, Any]:
    """The pairing record that was made for the phone."""
    found: dict[str, Any] = plistlib.loads((path / f"{UDID}.plist").read_bytes())
    return found


async def test_what_it_is_on_the_bus(phone: IPhone) -> None:
    async with plugged(phone.device()) as host:
        device = await host.descriptor(1)
        assert struct.unpack_from("<HH", device, 8) == (0x05AC, 0x12A8)
        assert (device[17], await host.string(device[16])) == (4, SERIAL)
        assert classify(0x05AC, 0x12A8, 0, [], is_mtp=False) is UsbKind.APPLE
        # usbmuxd takes the fourth configuration, and the interface ff/fe/02 with two endpoints.
        configuration = await host.descriptor(2, 3)
        assert bytes([4, 1, 0, 2, 0xFF, 0xFE, 0x02]) in configuration
    assert phone.udid == UDID


@pytest.mark.parametrize("mode", [Mode.RECOVERY, Mode.DFU])
async def test_recovery_and_dfu_are_other_devices(phone: IPhone, mode: Mode) -> None:
    phone.set("mode", mode)
    async with plugged(phone.device()) as host:
        device = await host.descriptor(1)
        vendor, product = struct.unpack_from("<HH", device, 8)
        assert classify(vendor, product, 0, [], is_mtp=False) is UsbKind.APPLE_RECOVERY
        assert "ECID:000A1234A1B2C3D4" in await host.string(device[16])
        await host.configure(1)
    assert phone.answered_at is None
    phone.set("mode", Mode.NORMAL)
    async with plugged(phone.device()) as host:
        await host.configure(4)
        await Muxd(host).greet()


@pytest.mark.parametrize("serial", ["", "00008110-000A1234A1B2C3D4", "g" * 24, "A" * 40, "a" * 24])
def test_what_is_no_iphones_serial(serial: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no iPhone's serial"):
        IPhone(serial, tmp_path)


async def test_values_that_anybody_is_told(client: Client, phone: IPhone) -> None:
    phone.set("device_name", "Rack 1")
    assert (await client.ask(Request="QueryType"))["Type"] == "com.apple.mobile.lockdown"
    answer = await client.ask(Request="GetValue", Key="DeviceName", Label="me")
    assert answer == {"Request": "GetValue", "Key": "DeviceName", "Value": "Rack 1"}
    values = (await client.ask(Request="GetValue"))["Value"]
    assert (values["UniqueDeviceID"], values["ProductVersion"]) == (UDID, "17.5.1")
    assert "SerialNumber" not in values
    assert (await client.ask(Request="GetValue", Key="Nothing"))["Error"] == "MissingValue"
    assert (await client.ask(Request="Dance"))["Error"] == "InvalidRequest"


async def test_a_session_proves_trust(client: Client, phone: IPhone, tmp_path: Path) -> None:
    mine = record(tmp_path)
    answer = await client.ask(Request="StartSession", HostID=mine["HostID"], SystemBUID="B")
    assert answer["EnableSessionSSL"] is True
    await client.start_tls(mine["HostCertificate"], mine["HostPrivateKey"], tmp_path)
    assert (await client.ask(Request="GetValue", Key="SerialNumber"))["Value"] == "F2LXXXXXXXXX"
    assert phone.settings()["sessions"] == 1


async def test_a_session_as_usbmuxd_makes_it(client: Client, tmp_path: Path) -> None:
    """TLS 1.0 with the root's certificate; and in the clear again after StopSession."""
    mine = record(tmp_path)
    answer = await client.ask(Request="StartSession", HostID=mine["HostID"])
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        await client.start_tls(
            mine["RootCertificate"],
            mine["RootPrivateKey"],
            tmp_path,
            minimum_version=ssl.TLSVersion.TLSv1,
            maximum_version=ssl.TLSVersion.TLSv1,
        )
    stopped = await client.ask(Request="StopSession", SessionID=answer["SessionID"])
    assert stopped == {"Request": "StopSession"}
    await client.stop_tls()
    assert (await client.ask(Request="QueryType"))["Type"] == "com.apple.mobile.lockdown"


async def test_no_session_with_anothers_certificate(client: Client, tmp_path: Path) -> None:
    await client.ask(Request="StartSession", HostID=record(tmp_path)["HostID"])
    certificate, key = nameless()

    async def session() -> None:
        await client.start_tls(certificate, key, tmp_path)
        await client.ask(Request="QueryType")  # TLS 1.3 tells a client only now

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await session()


async def test_a_host_that_it_does_not_know(client: Client) -> None:
    answer = await client.ask(Request="StartSession", HostID="ELSE")
    assert answer == {"Request": "StartSession", "Error": "InvalidHostID"}
    answer = await client.ask(Request="StartService", Service="com.apple.afc")
    assert answer["Error"] == "NoRunningSession"


async def test_trust(client: Client, phone: IPhone, muxd: Muxd, tmp_path: Path) -> None:
    """From the refusal over the tap to a session, with certificates as libimobiledevice makes."""
    phone.set("trusted", False)
    public = await client.ask(Request="GetValue", Key="DevicePublicKey")
    load_pem_public_key(public["Value"])
    root, (mine, key) = nameless()[0], nameless()
    pairing = {"HostID": "ME", "SystemBUID": "B", "RootCertificate": root, "HostCertificate": mine}
    pairing["DeviceCertificate"] = root
    pair: dict[str, Any] = {"Request": "Pair", "PairRecord": pairing}
    assert (await client.ask(**pair))["Error"] == "PairingDialogResponsePending"
    service = await client.ask(Request="StartService", Service=PROXY)
    assert await muxd.connect(service["Port"]) == SYN | ACK
    proxy = Client(muxd)
    await proxy.tell(Command="ObserveNotification", Name=REQUEST_PAIR)
    phone.set("trusted", True)
    assert await proxy.hear() == {"Command": "RelayNotification", "Name": REQUEST_PAIR}
    await muxd.connect(PORT)
    client = Client(muxd)
    assert (await client.ask(**pair))["EscrowBag"]
    assert "Error" not in await client.ask(Request="ValidatePair", PairRecord=pairing)
    assert (await client.ask(Request="StartSession", HostID="ME"))["EnableSessionSSL"]
    await client.start_tls(mine, key, tmp_path)
    assert "Error" not in await client.ask(Request="GetValue", Key="SerialNumber")
    phone.set("trusted", False)
    assert phone.settings()["hosts"] == []


async def test_a_locked_phone(client: Client, phone: IPhone, tmp_path: Path) -> None:
    phone.set("locked", True)
    mine = record(tmp_path)
    for request in (
        {"Request": "StartSession", "HostID": mine["HostID"]},
        {"Request": "Pair", "PairRecord": mine},
    ):
        assert (await client.ask(**request))["Error"] == "PasswordProtected"


async def test_a_record_that_is_there_is_kept(phone: IPhone, tmp_path: Path) -> None:
    kept = record(tmp_path)
    again = IPhone(SERIAL, tmp_path)
    await again.prepare()
    assert record(tmp_path) == kept
    assert again.settings()["hosts"] == [kept["HostID"]]


async def test_a_phone_that_was_never_trusted_has_no_record(tmp_path: Path) -> None:
    phone = IPhone("0" * 24, tmp_path)
    phone.set("trusted", False)
    await phone.prepare()
    assert list(tmp_path.iterdir()) == []
    phone.set("trusted", True)  # a tap; whoever pairs writes the record
    await phone.prepare()
    assert (phone.settings()["hosts"], list(tmp_path.iterdir())) == ([], [])


async def test_ways_of_lockdownd(muxd: Muxd, phone: IPhone) -> None:
    phone.set("lockdown", Manner.SILENT)
    await muxd.connect(PORT)
    await Client(muxd).tell(Request="QueryType")
    waiting = muxd.host.submit(MUX_ENDPOINT, IN, 16384)
    await muxd.host.descriptor(1)
    assert not muxd.host.answered(waiting)
    await muxd.host.unlink(waiting)
    await muxd.segment(RST)
    phone.set("lockdown", Manner.REFUSES)
    assert await muxd.connect(PORT) & RST
    phone.set("lockdown", Manner.BABBLES)
    await muxd.connect(PORT)
    await Client(muxd).tell(Request="QueryType")
    assert (await muxd.read())[4:] == b"no property list"
    phone.set("lockdown", Manner.HANGS_UP)
    await muxd.connect(PORT)
    assert (await muxd.next_segment())[0] == RST


@pytest.mark.parametrize(
    "message",
    [b"\xff\xff\xff\xff", b"\0\0\0\4what", b"\0\0\0\0", struct.pack(">I", 300) + b"<" * 300],
)
async def test_what_is_no_message_ends_the_connection(muxd: Muxd, message: bytes) -> None:
    await muxd.connect(PORT)
    await muxd.write(message)
    assert (await muxd.next_segment())[0] == RST
    assert await muxd.connect(PORT) == SYN | ACK


async def test_ports_where_nothing_listens(muxd: Muxd) -> None:
    assert await muxd.connect(22) & RST
    assert await muxd.connect(PROXY_PORT) == SYN | ACK


@pytest.mark.parametrize(("state", "session"), [("idle", None), ("5E55", "5E55")])
async def test_webdriveragent(muxd: Muxd, phone: IPhone, state: str, session: str | None) -> None:
    assert await muxd.connect(WDA_PORT) & RST
    phone.set("wda", state)
    assert await muxd.connect(WDA_PORT) == SYN | ACK
    await muxd.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = (await muxd.read()).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["sessionId"] == session


async def test_a_segment_of_no_connection_is_reset(muxd: Muxd) -> None:
    await muxd.connect(22)
    await muxd.segment(ACK, b"lost")
    assert (await muxd.next_segment())[0] == RST


async def test_it_waits_for_the_hosts_window(muxd: Muxd, phone: IPhone) -> None:
    phone.lockdown.values["Long"] = "x" * 10000
    muxd.window = 256
    await muxd.connect(PORT)
    await Client(muxd).tell(Request="GetValue", Key="Long")
    received = 0
    while received < 10000:
        piece = await muxd.next_segment()
        assert 0 < len(piece[1]) <= 256
        received += len(piece[1])
        waiting = muxd.host.submit(MUX_ENDPOINT, IN, 16384)
        await muxd.host.descriptor(1)
        assert not muxd.host.answered(waiting), "more than was granted"
        await muxd.host.unlink(waiting)
        await muxd.segment(ACK)


async def test_a_new_usbmuxd_begins_anew_in_the_middle_of_anything(
    muxd: Muxd, host: Plugged
) -> None:
    await muxd.connect(PORT)
    await host.write(MUX_ENDPOINT, LONG.pack(TCP, 400, MAGIC, 0, 0))  # killed here
    another = Muxd(host)
    await another.greet()
    assert await another.connect(PORT) == SYN | ACK
    assert (await Client(another).ask(Request="QueryType"))["Type"]


async def test_rubbish_is_survived(host: Plugged) -> None:
    for rubbish in (b"\xff" * 20, struct.pack(">II", 6, 3), struct.pack(">II", 0, 9) + b"x"):
        await host.write(MUX_ENDPOINT, rubbish)
    await Muxd(host).greet()


async def test_a_phone_that_does_not_answer_the_handshake(tmp_path: Path) -> None:
    phone = IPhone(SERIAL, tmp_path)
    phone.set("muxed", False)
    await phone.prepare()
    async with plugged(phone.device()) as host:
        await host.configure(4)
        await host.write(MUX_ENDPOINT, HELLO)
        waiting = host.submit(MUX_ENDPOINT, IN, 16384)
        await host.descriptor(1)
        assert not host.answered(waiting)
        assert phone.answered_at is None
        await host.unlink(waiting)
        phone.set("muxed", True)
        await Muxd(host).greet()
        assert phone.answered_at is not None


async def test_an_unplug_ends_its_connections(phone: IPhone) -> None:
    async with plugged(phone.device()) as host:
        await host.configure(4)
        muxd = Muxd(host)
        await muxd.greet()
        await muxd.connect(PORT)
        await Client(muxd).ask(Request="QueryType")
        tasks = [t for t in asyncio.all_tasks() if "_run" in repr(t.get_coro())]
        assert tasks
    async with asyncio.timeout(LIMIT):
        await asyncio.wait(tasks)


def nameless() -> tuple[bytes, bytes]:
    """A certificate without a name, signed by one without, as libimobiledevice's; and its key."""
    key = rsa.generate_private_key(65537, 2048)
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )

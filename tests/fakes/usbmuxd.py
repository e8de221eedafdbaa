"""A usbmuxd with iPhones behind it, on a unix socket or TCP, speaking the real wire.

usbmuxd's side follows libimobiledevice/usbmuxd `src/client.c` (property lists only), lockdownd's
the requests that a host makes before and in a session; sessions are mutual TLS with certificates of
a real pairing: one root, which this host made, signs the host's and the phones'.

    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        phone = mux.attach("00008110-000A1234A1B2C3D4", name="Rack 1", trusted=False)
        phone.trusted = True   # as lockdownd sees it from now on
        mux.detach(phone)

What a usbmuxd or a lockdownd in the field said is replayed as it was:

        mux.rows.append({"DeviceID": 9, "Properties": {"SerialNumber": "X"}})   # in its list
        mux.announce({"MessageType": "Attached", "DeviceID": 9})    # told to whoever listens
        mux.replay(json.loads(usbmuxd_json))    # of a bundle of `device-agent doctor`
        mux.attach("…", refusal="MCProtected")   # lockdownd's error to StartSession
        mux.attach("…", values={"ProductVersion": "next", "DeviceName": None})  # None: not said
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import plistlib
import socket
import ssl
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.fakes.ports import free_port
from tests.fakes.unix import KEEP_SOCKET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    App = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOCKDOWN_PORT = 62078
HOST_ID = "8E2C4E0A-7C39-4E5B-8B0B-3F3C9A9A2D11"
BUID = "30142955-444094379208051516"
BATTERY_DOMAIN = "com.apple.mobile.battery"
BATTERY = {
    "BatteryCurrentCapacity": 87,
    "BatteryIsCharging": True,
    "ExternalChargeCapable": True,
    "ExternalConnected": True,
    "FullyCharged": False,
    "GasGaugeCapability": True,
    "HasBattery": True,
}
"""What an iPhone on a cable has in it."""
OK, BAD_COMMAND, BAD_DEVICE, REFUSED = 0, 1, 2, 3
NO_RECORD = 2  # ENOENT, as usbmuxd answers ReadPairRecord


class Lockdown(StrEnum):
    """How a phone's lockdownd behaves."""

    ANSWERS = "answers"
    SILENT = "silent"  # takes the connection, says nothing
    STALLS = "stalls"  # the connection is never made: usbmuxd does not answer Connect
    REFUSES = "refuses"  # no listener on its port
    HANGS_UP = "hangs up"  # takes the connection and closes it
    DROPS_TLS = "drops TLS"  # starts a session, then closes: the record was removed on the phone
    STALLS_TLS = "stalls TLS"  # starts a session, then never answers the handshake
    BABBLES = "babbles"  # answers with what is no property list


@dataclass
class Phone:
    """An attached iPhone; change its fields while it is attached to change how it behaves."""

    serial: str
    trusted: bool = True
    """lockdownd accepts this host's record."""
    record: bool = True
    """usbmuxd has a record for this phone."""
    name: str = "iPhone"
    product: str = "iPhone14,5"
    connection: str = "USB"
    lockdown: Lockdown = Lockdown.ANSWERS
    refusal: str = ""
    """The error with which StartSession is answered, e.g. `PasswordProtected`."""
    refusals: dict[str, Any] = field(default_factory=dict)
    """Request → the error with which lockdownd answers it: `{"GetValue": "MCProtected"}`."""
    values: dict[str, Any] = field(default_factory=dict)
    """What lockdownd tells instead of, or beside, the usual; None: it does not say that."""
    record_data: Any = None
    """What usbmuxd keeps for the record instead of one."""
    all_values: Any = None
    """What GetValue without a key is answered with instead of those."""
    battery: Any = field(default_factory=lambda: dict(BATTERY))
    """What lockdownd has in that domain; None: it lacks it; `...`: it never answers that."""
    battery_asked: int = 0
    record_name: str = ""
    """Under which id usbmuxd keeps the record; the serial by default."""
    apps: dict[int, App] = field(default_factory=dict)
    """What listens at other ports of the phone."""
    device_id: int = 0
    """Given by usbmuxd at every attach."""
    checks: int = 0
    """Connections that reached lockdownd."""
    sessions: int = 0
    """Sessions whose TLS handshake was done and that were then used."""


class FakeUsbmuxd:
    """The daemon. `address` is what a client is given; for TCP ask `HOST:0` and read it once up."""

    def __init__(self, address: str | Path, *, backlog: int = 256) -> None:
        self.address = str(address)
        self.backlog = backlog
        """How many connections wait to be accepted; usbmuxd up to 1.1.1 has 5."""
        self.phones: list[Phone] = []
        self.requests: list[str] = []
        """The MessageType of every request, in order."""
        self.rows: list[Any] = []
        """Listed beside the phones, and announced to who begins to listen: anything."""
        self.list_is: Any = None
        """What it answers for a list instead of one."""
        self.behind: list[Phone] = []
        """Who answers behind the rows, by DeviceID."""
        self._next_id = 1
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._listeners: list[asyncio.StreamWriter] = []
        self._hung = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def up(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Listen; DeviceIDs are counted from 1 again, as a new usbmuxd does."""
        assert not self.up
        self._hung.clear()
        self._next_id = 1
        for phone in self.phones:
            self._number(phone)
        if "/" in self.address:
            self.listen()
            self._server = await asyncio.start_unix_server(
                self._serve, sock=self._socket, backlog=self.backlog, **KEEP_SOCKET
            )
            self._socket = None
        else:
            host, _, port = self.address.rpartition(":")
            chosen = int(port) or free_port()
            self._server = await asyncio.start_server(self._serve, host, chosen)
            self.address = f"{host}:{chosen}"

    def listen(self) -> None:
        """Let connections queue up (unix sockets only), as before a slow daemon's `accept`."""
        if self._socket is None:
            Path(self.address).unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(self.address)
            self._socket.listen(self.backlog)

    async def kill(self, *, leave_socket: bool = False) -> None:
        """Die: every connection is cut at once. The phones stay attached to the host."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for task in self._clients.values() if task]
        for writer in list(self._clients):
            writer.transport.abort()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=5)
            assert not late, "a fake's connection outlived it"
        async with asyncio.timeout(5):
            await self._server.wait_closed()
        self._server = None
        self._listeners.clear()
        if not leave_socket and "/" in self.address:
            Path(self.address).unlink(missing_ok=True)

    def attach(self, serial: str, *, announce: bool = True, **how: Any) -> Phone:
        """Plug a phone in; `how` are `Phone`'s fields. Not announced: only ListDevices has it."""
        phone = Phone(serial, **{"record": how.get("trusted", True), **how})
        self._plug(phone, announce=announce)
        return phone

    def detach(self, phone: Phone, *, announce: bool = True) -> None:
        """Unplug it."""
        self.phones.remove(phone)
        if announce:
            self._announce({"MessageType": "Detached", "DeviceID": phone.device_id})

    def reattach(self, phone: Phone) -> None:
        """What trusting a host does to a phone: away and back, with a new DeviceID."""
        self.detach(phone)
        self._plug(phone, announce=True)

    def pair(self, phone: Phone) -> None:
        """Somebody taps Trust: the phone and usbmuxd know the record, listeners are told."""
        phone.trusted = phone.record = True
        self._announce({"MessageType": "Paired", "DeviceID": phone.device_id})

    def announce(self, message: Any) -> None:
        """Tell all that listen this very message."""
        self._announce(message)

    def replay(self, rows: list[Any]) -> None:
        """List what a usbmuxd in the field listed: `usbmuxd.json` of a bundle.

        Behind each row that names a phone there is one, trusted, in `behind`.
        """
        self.rows += rows
        for row in rows:
            with suppress(KeyError, TypeError):
                serial, device_id = row["Properties"]["SerialNumber"], row["DeviceID"]
                self.behind.append(Phone(serial, device_id=device_id))

    def garble(self, data: bytes) -> None:
        """Send these bytes to all that listen."""
        for writer in self._listeners:
            writer.write(data)

    def hang(self) -> None:
        """Accept, and answer nothing any more, on old connections neither; until `kill`."""
        self._hung.set()

    @property
    def connections(self) -> int:
        """How many connections are open now, listening ones among them."""
        return len(self._clients)

    @property
    def listeners(self) -> int:
        """How many connections listen now."""
        return len(self._listeners)

    def _plug(self, phone: Phone, *, announce: bool) -> None:
        self._number(phone)
        self.phones.append(phone)
        if announce:
            self._announce(attached(phone))

    def _number(self, phone: Phone) -> None:
        phone.device_id = self._next_id
        self._next_id += 1

    def _announce(self, message: dict[str, Any]) -> None:
        if not self._hung.is_set():
            for writer in self._listeners:
                writer.write(frame(message))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = asyncio.current_task()
        try:
            # Clients that hang up in the middle of anything, and this daemon's own death.
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._requests(reader, writer)
        finally:
            del self._clients[writer]
            if writer in self._listeners:
                self._listeners.remove(writer)
            writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            if self._hung.is_set():
                await reader.read()
                return
            length, version, kind, tag = struct.unpack("<IIII", await reader.readexactly(16))
            assert (version, kind) == (1, 8), "only property lists are spoken here"
            request = plistlib.loads(await reader.readexactly(length - 16))
            if self._hung.is_set():
                continue
            self.requests.append(request["MessageType"])
            if request["MessageType"] == "Connect":
                if await self._connect(request, tag, reader, writer):
                    return
                continue
            writer.write(frame(self._answer(request), tag))
            if request["MessageType"] == "Listen":
                for message in (*self.rows, *map(attached, self.phones)):
                    writer.write(frame(message))
                self._listeners.append(writer)
            await writer.drain()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["MessageType"]:
            case "Listen":
                return result(OK)
            case "ListDevices":
                if self.list_is is not None:
                    return {"DeviceList": self.list_is}
                return {"DeviceList": [*self.rows, *map(attached, self.phones)]}
            case "ReadBUID":
                return {"BUID": BUID}
            case "ReadPairRecord":
                return self._record(request["PairRecordID"])
        return result(BAD_COMMAND)

    def _record(self, name: str) -> dict[str, Any]:
        for phone in (*self.phones, *self.behind):
            if phone.record and name == (phone.record_name or phone.serial):
                kept = phone.record_data
                return {
                    "PairRecordData": plistlib.dumps(pairing_record()) if kept is None else kept
                }
        return result(NO_RECORD)

    async def _connect(
        self,
        request: dict[str, Any],
        tag: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Hand the connection over to a phone; False: refused, and it takes further requests."""
        found = [p for p in (*self.phones, *self.behind) if p.device_id == request["DeviceID"]]
        if not found:
            writer.write(frame(result(BAD_DEVICE), tag))
            return False
        phone = found[0]
        app = phone.apps.get(socket.ntohs(request["PortNumber"]))
        if app is not None:
            writer.write(frame(result(OK), tag))
            await app(reader, writer)
            return True
        if socket.ntohs(request["PortNumber"]) != LOCKDOWN_PORT or (
            phone.lockdown is Lockdown.REFUSES
        ):
            writer.write(frame(result(REFUSED), tag))
            return False
        phone.checks += 1
        if phone.lockdown is Lockdown.STALLS:
            await reader.read()
            return True
        writer.write(frame(result(OK), tag))
        await _lockdownd(phone, reader, writer)
        return True


async def _lockdownd(
    phone: Phone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """The phone's end of one connection, until the host hangs up or the phone does."""
    session = used = False
    while phone.lockdown is not Lockdown.HANGS_UP:
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        request = plistlib.loads(await reader.readexactly(length))
        if session and not used:
            used = True
            phone.sessions += 1
        asked = request.get("Domain") == BATTERY_DOMAIN
        phone.battery_asked += asked
        if phone.lockdown is Lockdown.SILENT or (asked and phone.battery is ...):
            await reader.read()
            return
        answer = {"Request": request["Request"], **_lockdown_answer(phone, request, session)}
        payload = plistlib.dumps(answer)
        if phone.lockdown is Lockdown.BABBLES:
            payload = b"no property list"
        writer.write(struct.pack(">I", len(payload)) + payload)
        if answer.get("EnableSessionSSL"):
            if phone.lockdown is Lockdown.DROPS_TLS:
                return
            if phone.lockdown is Lockdown.STALLS_TLS:
                await reader.read()
                return
            await writer.start_tls(_phone_tls())
            session = True


def _lockdown_answer(phone: Phone, request: dict[str, Any], session: bool) -> dict[str, Any]:
    values = _values(phone, session=session)
    if request["Request"] in phone.refusals:
        return {"Error": phone.refusals[request["Request"]]}
    answer: dict[str, Any] = {"Error": "InvalidRequest"}
    match request["Request"]:
        case "QueryType":
            answer = {"Type": "com.apple.mobile.lockdown"}
        case "GetValue" if request.get("Domain") == BATTERY_DOMAIN:
            assert session, "a host is told that in a session alone"
            none = phone.battery is None
            answer = {"Error": "MissingValue"} if none else {"Value": phone.battery}
        case "GetValue" if "Key" not in request:
            answer = {"Value": values if phone.all_values is None else phone.all_values}
        case "GetValue" if request["Key"] in values:
            answer = {"Value": values[request["Key"]]}
        case "GetValue":
            answer = {"Error": "MissingValue"}
        case "StartSession":
            accepted = phone.trusted and (request["HostID"], request["SystemBUID"]) == (
                HOST_ID,
                BUID,
            )
            if phone.refusal or not accepted:
                answer = {"Error": phone.refusal or "InvalidHostID"}
            else:
                answer = {"SessionID": "6F1A5C0E", "EnableSessionSSL": True}
    return answer


def _values(phone: Phone, *, session: bool) -> dict[str, Any]:
    """What a phone tells anybody, and what it tells a host that it trusts."""
    values: dict[str, Any] = {
        "DeviceClass": "iPhone",
        "DeviceName": phone.name,
        "ProductType": phone.product,
        "ProductVersion": "17.5.1",
        "BuildVersion": "21F90",
        "UniqueDeviceID": phone.serial,
    }
    if session:
        values |= {"SerialNumber": "F2LXXXXXXXXX", "PasswordProtected": False}
    values |= phone.values
    return {key: value for key, value in values.items() if value is not None}


def frame(message: Any, tag: int = 0) -> bytes:
    """A usbmuxd message on the wire."""
    payload = plistlib.dumps(message)
    return struct.pack("<IIII", 16 + len(payload), 1, 8, tag) + payload


def result(number: int) -> dict[str, Any]:
    return {"MessageType": "Result", "Number": number}


def attached(phone: Phone) -> dict[str, Any]:
    """The announcement of a phone; ListDevices holds the same."""
    properties: dict[str, Any] = {
        "ConnectionType": phone.connection,
        "DeviceID": phone.device_id,
        "SerialNumber": phone.serial,
    }
    if phone.connection == "USB":
        properties |= {"ConnectionSpeed": 480000000, "LocationID": 65537, "ProductID": 0x12A8}
    else:
        properties |= {"NetworkAddress": bytes(16), "InterfaceIndex": 2}
    return {"MessageType": "Attached", "DeviceID": phone.device_id, "Properties": properties}


@functools.cache
def _pems() -> dict[str, bytes]:
    """Root, host and phone certificates with keys, RSA as in real pairings; made once."""
    root_key = rsa.generate_private_key(65537, 2048)
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    now = dt.datetime.now(dt.UTC)

    def certificate(name: str, key: rsa.RSAPrivateKey, *, ca: bool) -> bytes:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(root_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(root_key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    pems = {"root": certificate("root", root_key, ca=True)}
    for name in ("host", "phone"):
        key = rsa.generate_private_key(65537, 2048)
        pems[name] = certificate(name, key, ca=False)
        pems[f"{name} key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pems


def pairing_record() -> dict[str, Any]:
    """What usbmuxd stores of a pairing, as far as a session needs it."""
    pems = _pems()
    return {
        "HostID": HOST_ID,
        "SystemBUID": BUID,
        "RootCertificate": pems["root"],
        "HostCertificate": pems["host"],
        "HostPrivateKey": pems["host key"],
        "DeviceCertificate": pems["phone"],
    }


@functools.cache
def _phone_tls() -> ssl.SSLContext:
    """A phone's side of the session: it demands the host's certificate."""
    pems = _pems()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(pems["phone"] + pems["phone key"])
        chain.flush()
        context.load_cert_chain(chain.name)
    context.load_verify_locations(cadata=pems["root"].decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context

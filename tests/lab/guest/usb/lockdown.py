"""lockdownd, the iPhone's doorkeeper: values, pairing, sessions; and the notification proxy.

Messages are property lists behind 4 bytes of length, big-endian (libimobiledevice, src/lockdown.c
and src/notification_proxy.c). Of a phone's services only the one that tells usbmuxd that somebody
tapped Trust is here.
"""

from __future__ import annotations

import logging
import plistlib
import ssl
import struct
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from . import pairing

if TYPE_CHECKING:
    from .mux import Stream

log = logging.getLogger(__name__)

PORT = 62078
PROXY_PORT = 49152
"""Of the insecure notification proxy, which answers hosts that are not trusted."""
PROXY = "com.apple.mobile.insecure_notification_proxy"
REQUEST_PAIR = "com.apple.mobile.lockdown.request_pair"
TYPE = "com.apple.mobile.lockdown"
LARGEST = 1024 * 1024


class Manner(StrEnum):
    """How lockdownd behaves."""

    ANSWERS = "answers"
    SILENT = "silent"
    REFUSES = "refuses"
    HANGS_UP = "hangs up"
    BABBLES = "babbles"


class Lockdown:
    """What the lockdownd of one phone knows; it outlives connections and unplugging."""

    def __init__(self) -> None:
        self.manner = Manner.ANSWERS
        self.locked = False
        """The passcode has not been entered: no pairing, no session."""
        self.will_pair = False
        """Somebody tapped Trust."""
        self.hosts: dict[str, tuple[bytes, bytes]] = {}
        """HostID → root's and host's certificate of those it trusts."""
        self.values: dict[str, Any] = {}
        """What anybody is told."""
        self.private: dict[str, Any] = {}
        """What a trusted host is told besides."""
        self.sessions = 0
        self._observers: list[tuple[str, Stream]] = []

    def tap_trust(self) -> None:
        """Accept the next host that wants to pair, and tell those that wait for that."""
        self.will_pair = True
        for name, stream in self._observers:
            if name == REQUEST_PAIR:
                _write(stream, {"Command": "RelayNotification", "Name": name})

    async def serve(self, stream: Stream) -> None:
        """One connection to lockdownd."""
        session = ""
        while self.manner is not Manner.HANGS_UP:
            request = await _read(stream)
            if self.manner is Manner.SILENT:
                await stream.until_closed()
                return
            if self.manner is Manner.BABBLES:
                stream.write(struct.pack(">I", 16) + b"no property list")
                continue
            answer = self._answer(request, session)
            _write(stream, {"Request": request.get("Request", ""), **answer})
            if answer.get("EnableSessionSSL"):
                session = answer["SessionID"]
                try:
                    await stream.start_tls(pairing.phone_tls(self.hosts[request["HostID"]]))
                except (ssl.SSLError, EOFError) as error:
                    log.info("lockdownd: no session for host %s: %r", request["HostID"], error)
                    raise
                self.sessions += 1
            elif session and request.get("Request") == "StopSession":
                session = ""
                await stream.stop_tls()

    async def serve_proxy(self, stream: Stream) -> None:
        """One connection to the notification proxy."""
        mine: list[tuple[str, Stream]] = []
        try:
            while True:
                request = await _read(stream)
                match request.get("Command"):
                    case "ObserveNotification":
                        mine.append((str(request.get("Name")), stream))
                        self._observers.append(mine[-1])
                    case "Shutdown":
                        _write(stream, {"Command": "ProxyDeath"})
                        return
        finally:
            for observer in mine:
                self._observers.remove(observer)

    def _answer(self, request: dict[str, Any], session: str) -> dict[str, Any]:
        answer: dict[str, Any] = {"Error": "InvalidRequest"}
        match request:
            case {"Request": "QueryType"}:
                answer = {"Type": TYPE}
            case {"Request": "GetValue"}:
                values = self.values | (self.private if session else {})
                answer = _value({} if "Domain" in request else values, request.get("Key"))
            case {"Request": "SetValue", "Key": key, "Value": value}:
                answer = {"Key": key, "Value": value}
            case {"Request": "Pair" | "ValidatePair" | "Unpair", "PairRecord": dict(record)}:
                answer = self._pair(request["Request"], record)
            case {"Request": "StartSession", "HostID": str(host)}:
                answer = self._start_session(host)
            case {"Request": "StopSession" | "Goodbye"}:
                answer = {}
            case {"Request": "StartService", "Service": service} if service == PROXY:
                answer = {"Service": service, "Port": PROXY_PORT}
            case {"Request": "StartService"}:
                answer = {"Error": "InvalidService" if session else "NoRunningSession"}
        return answer

    def _start_session(self, host: str) -> dict[str, Any]:
        if self.locked or host not in self.hosts:
            return {"Error": "PasswordProtected" if self.locked else "InvalidHostID"}
        return {"SessionID": str(uuid.uuid4()).upper(), "EnableSessionSSL": True}

    def _pair(self, verb: str, record: dict[str, Any]) -> dict[str, Any]:
        host, certificates = record.get("HostID"), pairing.host_certificates(record)
        if not isinstance(host, str) or certificates is None:
            return {"Error": "InvalidPairRecord"}
        if verb == "Unpair":
            return {} if self.hosts.pop(host, None) else {"Error": "InvalidHostID"}
        error = ""
        if self.locked:
            error = "PasswordProtected"
        elif verb == "ValidatePair":
            error = "" if host in self.hosts else "InvalidHostID"
        elif not self.will_pair:
            error = "PairingDialogResponsePending"
        else:
            self.hosts[host] = certificates
        return {"Error": error} if error else {"EscrowBag": bytes(32)}


def _value(values: dict[str, Any], key: object) -> dict[str, Any]:
    if key is None:
        return {"Value": values}
    if key not in values:
        return {"Error": "MissingValue"}
    return {"Key": key, "Value": values[key]}


async def _read(stream: Stream) -> dict[str, Any]:
    """A property list; the connection is over (`EOFError`) where it is none."""
    (length,) = struct.unpack(">I", await stream.readexactly(4))
    if length > LARGEST:
        raise EOFError
    payload = await stream.readexactly(length)
    try:
        message: dict[str, Any] = plistlib.loads(payload, dict_type=dict)
        message.get("Request")
    except Exception as error:  # plistlib lets anything out, an AttributeError among it
        raise EOFError from error
    return message


def _write(stream: Stream, message: dict[str, Any]) -> None:
    payload = plistlib.dumps(message)
    stream.write(struct.pack(">I", len(payload)) + payload)

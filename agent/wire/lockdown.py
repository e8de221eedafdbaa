"""An iPhone's lockdownd: is this host trusted, and what does the phone tell of itself?

It answers on port 62078 of the phone, reached through usbmuxd; a session over TLS with this host's
pairing record proves trust.

The only file that imports pymobiledevice3, and late, with the first iPhone: see `load`. The
library has no time limits and reads as many bytes as a frame's length claims (an HTTP answer claims
1.3 GB), so connections are opened, limited and closed here.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import plistlib
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.parsers.expat import ExpatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.wire.usbmux import Attached, UsbmuxClient

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of an answer."""
MODERN = "17.0"
"""The version that stands for one that the phone does not say, or says as none: it is compared with
iOS 5 and 7 only."""
PORT = 62078
BATTERY = "com.apple.mobile.battery"
"""A domain: how full it is, and whether it is charged; lockdownd has no temperature."""
BATTERY_LIMIT = 2.0
"""Seconds for it, once the phone has shown that it trusts this host."""
NORMAL = "com.apple.mobile.lockdown"
"""What answers there on a phone in normal mode."""
NOT_USED = ("questionary", "requests")
"""What the library imports for parts that are not used here: 13 of 24 MB, prompt_toolkit and
charset_normalizer among it (pymobiledevice3 11.45; `python -m benchmarks memory`)."""
DAMAGED = "DamagedPairRecord"
"""No word of lockdownd's: what is kept for a pairing record is none."""


class Refusal(NamedTuple):
    """An error that lockdownd answered."""

    request: str
    code: str
    """As it said it."""


class RefusedError(Exception):
    """lockdownd answered nothing but an error."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(f"{refusal.request}: {refusal.code}")


class ClosedError(ConnectionError):
    """lockdownd closed the connection."""


class Answer(NamedTuple):
    """What a phone's lockdownd said."""

    kind: str
    """Which daemon it is; nothing more was asked where that is not NORMAL."""
    trusts: bool = False
    """A session was begun."""
    refusal: Refusal | None = None
    """Why not, where it said so."""
    name: str = ""
    model: str = ""
    battery: Mapping[str, Any] | None = None
    """What is in the domain BATTERY; None: it was not asked for, or not told."""


def installed() -> bool:
    """Is the library there? Loads nothing."""
    try:
        return importlib.util.find_spec("pymobiledevice3") is not None
    except ImportError:
        return False


def load() -> None:
    """Load the library; blocks for some 0.1 s, once. Raises ImportError.

    Half of what it costs is modules that its `utils` imports for asking people and for downloads.
    It is loaded without those, unless something else has them already.
    """
    absent = {name: _Absent(name) for name in NOT_USED if name not in sys.modules}
    sys.modules.update(absent)
    try:
        _client_class()
    finally:
        for name, module in absent.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _Absent(ModuleType):
    """Stands for a module while others are imported that name it, and its types, only."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


async def ask(
    mux: UsbmuxClient,
    phone: Attached,
    record_names: Sequence[str],
    records: Path,
    limit: float,
    *,
    battery: bool,
) -> Answer:
    """Whether the phone trusts this host, and its names; then, if it does, its battery.

    That is one question more in the session that is there: no other answer has it. Whatever comes
    of it changes nothing about the others.

    Args:
        mux: where usbmuxd is.
        phone: as it is attached.
        record_names: what its pairing record may be called.
        records: a folder that is searched for records (`NAME.plist`) that usbmuxd does not have.
        limit: seconds for all but the battery, which has `BATTERY_LIMIT` of its own.
        battery: whether it is asked for.

    Raises:
        TimeoutError: it did not answer in time.
        RefusedError: it answers an error to everything.
        ClosedError, PortClosedError, PhoneGoneError, OSError: it cannot be reached.
        ssl.SSLError: phone and pairing record do not fit.
        Exception: the library lets anything out.
    """
    from pymobiledevice3 import exceptions  # noqa: PLC0415 - loaded late

    client = None
    try:
        async with asyncio.timeout(limit):
            client = await _client_class().dial(mux, phone, record_names, records)
            answer = await _talk(client)
        if not (battery and answer.trusts):
            return answer
        return answer._replace(battery=await _battery(client))
    except TimeoutError:
        raise
    except Exception as error:
        if client is not None and client.refused is not None:
            raise RefusedError(client.refused) from None
        if isinstance(error, exceptions.ConnectionTerminatedError):
            raise ClosedError("lockdownd closed the connection") from None
        raise
    finally:
        if client is not None:
            # At once, where a TLS close would wait for the phone's answer. The client may have
            # replaced the connection that it was given.
            client.service.writer.transport.abort()


async def _talk(client: Any) -> Answer:
    if (kind := await client.query_type()) != NORMAL:
        return Answer(text(kind))
    # Of a phone that does not trust this host too: the few values that it tells anybody.
    values = await client.public_values()
    trusts = False
    try:
        trusts = await client.validate_pairing()
    except Exception:
        if client.refused is None:
            raise
    values |= client.all_values
    client.product_type = text(values.get("ProductType"))
    return Answer(
        NORMAL,
        trusts,
        None if trusts else client.refused,
        name=text(values.get("DeviceName")),
        model=text(client.display_name) or client.product_type,
    )


async def _battery(client: Any) -> Mapping[str, Any] | None:
    try:
        async with asyncio.timeout(BATTERY_LIMIT):
            said = await client.get_value(BATTERY)
    except Exception:  # noqa: BLE001 - the library lets anything out; the phone lives all the same
        return None
    return said if isinstance(said, dict) else None


def text(value: object) -> str:
    """A phone's word for something, as far as it is text."""
    return value.strip()[:255] if isinstance(value, str) else ""


def _is_record(record: Any) -> bool:
    """Whether that is a pairing record, as far as a session needs it."""
    return isinstance(record, dict) and all(
        isinstance(record.get(key), kind)
        for key, kind in (("HostID", str), ("HostCertificate", bytes), ("HostPrivateKey", bytes))
    )


@functools.cache
def _client_class() -> Any:  # noqa: C901 - a class whose base is loaded late, not one function
    """The library's lockdown client, reaching its phone by DeviceID over our own connections."""
    from pymobiledevice3 import exceptions  # noqa: PLC0415 - loaded late
    from pymobiledevice3.lockdown import LockdownClient  # noqa: PLC0415 - loaded late
    from pymobiledevice3.pair_records import get_local_pairing_record  # noqa: PLC0415 - loaded late
    from pymobiledevice3.service_connection import ServiceConnection  # noqa: PLC0415 - loaded late

    async def connect(mux: UsbmuxClient, phone: Attached, port: int, **tls: Any) -> Any:
        sock = await mux.connect(phone.device_id, port)
        try:
            service = await ServiceConnection.from_socket(sock, **tls)
        except BaseException:
            sock.close()
            raise
        service.max_frame_size = MAX_FRAME
        return service

    class Client(LockdownClient):  # type: ignore[misc]  # the library is skipped by mypy
        def __init__(
            self,
            service: Any,
            mux: UsbmuxClient,
            phone: Attached,
            record_names: Sequence[str],
            records: Path,
        ) -> None:
            super().__init__(service, host_id="", identifier=phone.serial)
            self.refused: Refusal | None = None
            """The last error that the phone answered."""
            self._mux = mux
            self._phone = phone
            self._record_names = record_names
            self._records = records

        @classmethod
        async def dial(
            cls, mux: UsbmuxClient, phone: Attached, record_names: Sequence[str], records: Path
        ) -> Any:
            return cls(await connect(mux, phone, PORT), mux, phone, record_names, records)

        @property
        def product_version(self) -> str:
            said = self.all_values.get("ProductVersion")
            good = isinstance(said, str) and re.fullmatch(r"\d+(\.\d+)*", said, re.ASCII)
            return said if good else MODERN

        async def public_values(self) -> dict[str, Any]:
            """What the phone tells anybody; nothing where it refuses that."""
            try:
                values = await self.get_value()
            except (exceptions.LockdownError, exceptions.PairingError):
                values = {}
            self.refused = None
            return dict(values)

        async def get_value(self, domain: str | None = None, key: str | None = None) -> Any:
            """As the library's; of all values always a dictionary, whatever the phone says."""
            try:
                value = await super().get_value(domain, key)
            except (exceptions.MissingValueError, exceptions.GetProhibitedError):
                if domain or key:
                    raise
                value = {}
            return value if domain or key or isinstance(value, dict) else {}

        def _verify_request_response(
            self, request: str, response: Any, *, verify_request: bool = True
        ) -> Any:
            error = response.get("Error")
            if error is not None:
                self.refused = Refusal(request, str(error))
                # The library takes a challenge for an answer, and knows codes that are text only.
                if error == "MCChallengeRequired" or not isinstance(error, str):
                    raise exceptions.LockdownError(
                        f"{request}: {error}", self.identifier, self.product_version, str(error)
                    )
            return super()._verify_request_response(
                request, response, verify_request=verify_request
            )

        async def create_service_connection(
            self, port: int, ssl_context: Any = None, strip_ssl: Any = False
        ) -> Any:
            tls = {"ssl_context": ssl_context, "strip_ssl": strip_ssl}
            return await connect(self._mux, self._phone, port, **tls)

        async def fetch_pair_record(self) -> None:
            try:
                record = await self._find_record()
            except (ValueError, TypeError, AttributeError, ExpatError):
                record = ()
            if record is not None and not _is_record(record):
                self.refused = Refusal("ReadPairRecord", DAMAGED)
                raise exceptions.NotPairedError(str(self.refused))
            self.pair_record = record

        async def _find_record(self) -> Any:
            kept = await self._mux.pair_record(*self._record_names)
            if kept is not None:
                return plistlib.loads(kept)
            for name in self._record_names:
                record = get_local_pairing_record(name, self._records)
                if record is not None:
                    return record
            return None

    return Client

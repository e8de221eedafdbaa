"""Keys, certificates and pairing records, as a host and an iPhone that trust each other have them.

A host makes a root and a host certificate for every pairing, the phone keeps the root. Made here by
`openssl`: RSA, because libimobiledevice reads nothing else.
"""

from __future__ import annotations

import os
import plistlib
import pwd
import ssl
import subprocess
import tempfile
import uuid
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DAYS = "3650"
_CONFIG = """\
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
"""


@dataclass(frozen=True)
class Material:
    """PEMs. All phones of one program share them, and one key is everybody's: nothing compares."""

    root: bytes
    host: bytes
    phone: bytes
    key: bytes
    public_key: bytes
    """PKCS #1, as lockdownd gives it out."""


@cache
def material() -> Material:
    """Made once; takes seconds on a slow machine."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "config").write_text(_CONFIG)

        def openssl(*words: str) -> None:
            done = subprocess.run(
                ["openssl", *words], cwd=directory, check=False, capture_output=True
            )
            if done.returncode:
                raise OSError(f"openssl {words[0]}: {done.stderr.decode(errors='replace')}")

        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key")
        request = ("req", "-config", "config", "-key", "key")
        openssl(
            *(*request, "-x509", "-extensions", "root", "-subj", "/CN=root", "-days", DAYS),
            *("-out", "root"),
        )
        for name in ("host", "phone"):
            openssl(*request, "-new", "-subj", f"/CN={name}", "-out", "request")
            openssl(
                *("x509", "-req", "-in", "request", "-CA", "root", "-CAkey", "key"),
                *("-CAcreateserial", "-days", DAYS, "-out", name),
            )
        openssl("rsa", "-in", "key", "-RSAPublicKey_out", "-out", "public")
        names = ("root", "host", "phone", "key", "public")
        return Material(*((directory / name).read_bytes() for name in names))


def trusted_record(directory: Path, udid: str) -> dict[str, Any]:
    """The pairing record usbmuxd has of that phone; made and put there if there is none."""
    path = directory / f"{udid}.plist"
    with suppress(FileNotFoundError):
        record: dict[str, Any] = plistlib.loads(path.read_bytes())
        return record
    made = material()
    record = {
        "HostID": str(uuid.uuid4()).upper(),
        "SystemBUID": _system_buid(directory),
        "RootCertificate": made.root,
        "RootPrivateKey": made.key,
        "HostCertificate": made.host,
        "HostPrivateKey": made.key,
        "DeviceCertificate": made.phone,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plistlib.dumps(record))
    with suppress(KeyError, PermissionError):
        usbmux = pwd.getpwnam("usbmux")
        os.chown(directory, usbmux.pw_uid, usbmux.pw_gid)
        os.chown(path, usbmux.pw_uid, usbmux.pw_gid)
    return record


def host_certificates(record: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Those of a pairing record by which a phone knows the host; None where they are missing."""
    found = record.get("RootCertificate"), record.get("HostCertificate")
    return found if all(isinstance(pem, bytes) for pem in found) else None  # type: ignore[return-value]  # just looked


def phone_tls(certificates: tuple[bytes, bytes]) -> ssl.SSLContext:
    """The phone's end of a session: the host must show one of these certificates.

    Those very ones, and no chain: libimobiledevice shows its root, pymobiledevice3 the host's, and
    libimobiledevice gives both the same empty name, which makes no chain. As old and as weak as
    asked for: usbmuxd 1.1.1 speaks TLS 1.0 with every phone before it knows its version, and signs
    with SHA-1.
    """
    made = material()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(made.phone + made.key)
        chain.flush()
        context.load_cert_chain(chain.name)
    context.load_verify_locations(cadata="\n".join(pem.decode() for pem in certificates))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _system_buid(directory: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        configuration = plistlib.loads((directory / "SystemConfiguration.plist").read_bytes())
        return str(configuration["SystemBUID"])
    return "30142955-444094379208051516"

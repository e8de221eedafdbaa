"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def make_pki(here: Path) -> Path:
    """`ca`, `server` (127.0.0.1), `client`, and another authority, `stranger`: .pem and .key.

    `locked.key` is the client's with a passphrase. Skips without openssl; fails in CI.
    """
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have the openssl command")
        pytest.skip("the openssl command is not installed")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=here, check=True, capture_output=True, timeout=60)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("ca", "stranger"):
        openssl(
            *[*new, "-x509", "-days", "2", "-subj", f"/CN={name}"],
            *["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
            *["-keyout", f"{name}.key", "-out", f"{name}.pem"],
        )
    for name, use in (
        ("server", "serverAuth\nsubjectAltName=IP:127.0.0.1"),
        ("client", "clientAuth"),
    ):
        (here / "ext").write_text(
            f"authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nextendedKeyUsage={use}\n"
        )
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "csr")
        openssl(
            *["x509", "-req", "-in", "csr", "-days", "2", "-extfile", "ext"],
            *["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem"],
        )
        (here / f"{name}.key").chmod(0o600)
    locked = ["-aes128", "-passout", "pass:hunter22", "-out", "locked.key"]
    openssl("ec", "-in", "client.key", *locked)
    return here


def server_tls(pki: Path, *, mutual: bool = False) -> ssl.SSLContext:
    """The server's side; with `mutual`, clients must show a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pki / "ca.pem")
    return context

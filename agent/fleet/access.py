"""What lets us in at the broker: credentials and TLS, read anew at each dial. Blocking."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from agent.deliver.explain import os_words
from agent.errors import SecretError
from agent.fleet.credentials import Credentials, CredentialsError
from agent.fleet.link import LinkError

if TYPE_CHECKING:
    from agent.config.model import FleetTls
    from agent.config.secret import Secret


def read_credentials(secret: Secret | None) -> Credentials | None:
    """None: there are none. Raises LinkError, which shows nothing of them."""
    if secret is None:
        return None
    try:
        found = Credentials.parse(secret.read())
        found.sign("")
    except SecretError as error:
        raise LinkError(f"[fleet] credentials: {error}") from None
    except CredentialsError as error:
        raise LinkError(f"[fleet] credentials: {secret} {error}") from None
    except ImportError:
        raise LinkError(
            "[fleet] credentials need the package cryptography, which is not installed: pip "
            "install 'device-agent[fleet]'"
        ) from None
    return found


def read_tls(tls: FleetTls, *, wanted: bool) -> ssl.SSLContext:
    """Our side of it. Raises LinkError naming the file that cannot be used.

    Args:
        tls: the operator's files.
        wanted: whether it is sure to be used: otherwise the system's authorities, which take a
            while, are left out, and are to be read when it is.
    """
    if not wanted:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise LinkError(
            f"[fleet] tls.ca {tls.ca}: {os_words(error)}; it must be a PEM file"
        ) from None
    if tls.cert is not None:
        try:
            # A passphrase would be asked for on the terminal, which a daemon has not.
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = f"tls.cert {tls.cert}" + (f", tls.key {tls.key}" if tls.key else "")
            raise LinkError(f"[fleet] {files}: {os_words(error)}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give the agent a key without one")

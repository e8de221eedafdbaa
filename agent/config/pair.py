"""`[api] cert` and `key`: whether they are a pair that a server can show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.mistakes import Mistake, placed
from agent.errors import ConfigError, StartError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from agent.config.derived import Config
    from agent.config.documents import Documents
    from agent.config.model import Api


def check_pair(config: Config, documents: Documents, *, as_agent: bool) -> None:
    """Try them.

    Blocking. Raises ConfigError, with the key that names the bad file.

    Args:
        config: what is to be in force.
        documents: which it is of.
        as_agent: what may not be read is a mistake, too; else somebody asks who need not read it.
    """
    if mistakes := list(_mistakes(config.api, as_agent=as_agent)):
        raise ConfigError(placed(mistakes, documents))


def server_context(api: Api) -> ssl.SSLContext:
    """With the pair of these settings, which name one. Blocking. Raises StartError."""
    for mistake in _mistakes(api, as_agent=True):
        raise StartError(f"[api] {mistake.path[-1]}: {mistake.message}")
    try:
        return _loaded(api)
    except (OSError, ValueError) as error:  # changed since
        raise StartError(f"[api] cert {api.cert}: {_why(error)}") from None


def _mistakes(api: Api, *, as_agent: bool) -> Iterator[Mistake]:
    """The first that is found: of a file that is not there there is no more to say."""
    if api.cert is None:
        return
    for key, name in (("cert", api.cert), ("key", api.key)):
        if name is None:
            continue
        try:
            with open(name, "rb", opener=_non_blocking) as file:
                file.read(1)
        except PermissionError as error:
            if as_agent:
                yield Mistake(
                    ("api", key),
                    f"{name} cannot be read ({error.strerror}): make it readable to the user the "
                    "agent runs as, or have systemd hand it over (LoadCredential=)",
                )
            return
        except FileNotFoundError:
            yield Mistake(("api", key), f"{name} does not exist: create it or correct the path")
            return
        except OSError as error:
            yield Mistake(("api", key), f"{name} cannot be read ({error.strerror})")
            return
        if not Path(name).is_file():
            yield Mistake(("api", key), f"{name} is not a regular file")
            return
    try:
        _loaded(api)
    except (OSError, ValueError) as error:
        # Of a pair OpenSSL does not say which file it is: the certificates are tried alone first.
        key = "cert" if api.key is None or not _is_certificate(api.cert) else "key"
        yield Mistake(("api", key), f"{getattr(api, key)}: {_why(error)}")


def _loaded(api: Api) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - few configurations need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert api.cert is not None
    # A passphrase would be asked for on the terminal, which a daemon has not.
    context.load_cert_chain(api.cert, api.key, password=_no_passphrase)
    return context


def _is_certificate(name: str) -> bool:
    import ssl  # noqa: PLC0415 - as above

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(name)
    except (OSError, ValueError):
        return False
    return True


def _why(error: Exception) -> str:
    import ssl  # noqa: PLC0415 - as above

    if not isinstance(error, ssl.SSLError):
        return str(error)
    reason = str(error.reason or "PEM lib")  # OpenSSL's `reason` may be missing
    if reason == "KEY_VALUES_MISMATCH":
        return "is not the key of the certificate: give the two that were made together"
    words = reason.lower().replace("_", " ")
    return (
        f"cannot be used ({words}): it must be a PEM file with the certificate and those above it, "
        "or with the private key, which may be in the certificate's file"
    )


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase: give the agent a key without one")


def _non_blocking(path: str, flags: int) -> int:
    """So that a FIFO without a writer does not hang anybody."""
    return os.open(path, flags | os.O_NONBLOCK)

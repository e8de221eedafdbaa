"""HOST:PORT as people write it: how it is read, checked and put together. Pure."""

from __future__ import annotations

import re
from typing import Final

_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_DIGITS_AND_DOTS: Final = re.compile(r"[0-9.]+")


def split_host_port(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPv6]:PORT` → host (without brackets) and port 0..65535; else ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_ip(host, 6):
            raise ValueError("not an IPv6 address in brackets, such as [::1]:9178")
    elif ":" in host:
        raise ValueError("put an IPv6 address in brackets, such as [::1]:9178")
    elif colon and not _HOST.fullmatch(host):
        raise ValueError("not a host name or address before the port, such as 127.0.0.1:9178")
    if not (colon and port.isascii() and port.isdigit()):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:9178")
    if len(port) > 5 or int(port) > 65535:  # noqa: PLR2004 -- 16 bits
        raise ValueError("a port is at most 65535")
    return host, int(port)


def tcp_of(endpoint: str) -> tuple[str, int] | None:
    """Host and port of a server's socket; None: a unix socket's absolute path. Else ValueError."""
    return None if endpoint.startswith("/") else split_host_port(endpoint)


def host_port(host: str, port: int | str | None) -> str:
    """The two as one text; an IPv6 address gets its brackets."""
    return f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """A host as it stands in a URL, or before a port."""
    return f"[{host}]" if ":" in host else host


def is_host(text: str) -> bool:
    """Whether it is a name that can be looked up, or an IPv4 address."""
    named = _HOST.fullmatch(text) is not None
    # Digits and dots are an address or a mistake, never a name.
    return (named and not _DIGITS_AND_DOTS.fullmatch(text)) or is_ip(text, 4)


def is_ip(text: str, version: int | None = None) -> bool:
    """Whether it is an address (of that version); one with a zone is none."""
    from ipaddress import ip_address  # noqa: PLC0415 -- few configurations need it

    try:
        return version in {None, ip_address(text).version} and "%" not in text
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether that name or address is this host itself, by its form alone."""
    from ipaddress import ip_address  # noqa: PLC0415 -- as above

    try:
        return ip_address(host).is_loopback
    except ValueError:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith(".localhost")

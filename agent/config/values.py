"""Durations, URLs and the other rules of single values; each ValueError is for operators."""

from __future__ import annotations

import re
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from agent.address import is_host, is_ip, split_host_port, tcp_of
from agent.config.secret import Kind, PrivateUrl, Secret

_T = TypeVar("_T")
_Url = TypeVar("_Url", bound=str)

MAX_ID = 2**53 - 1
"""Of organisations and webhooks: the largest integer every JSON reader keeps exactly (RFC 8259)."""

MAX_DURATION = 100 * 365 * 86400.0
MAX_AFTER = 365 * 86400.0
"""Seconds."""
DURATION = re.compile(r"([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?")  # and not empty
_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION_FORMS = '"250ms", "5s", "2m", "1h30m" or "3d"'


def parse_duration(value: object) -> float:
    """Seconds of `"250ms"`, `"5s"`, `"2m"`, `"1h30m"`, `"3d"`; ValueError otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
            f"a duration needs quotes and a unit: write {_DURATION_FORMS}"
        )
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
            f"expected a duration such as {_DURATION_FORMS}, got {toml_type(value)}"
        )
    text = value.strip()
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative: write {_DURATION_FORMS}")
    if text.isascii() and text.isdigit():
        raise ValueError(f"a duration needs a unit: write {_DURATION_FORMS}")
    match = DURATION.fullmatch(value)
    if not match or not value:
        raise ValueError(
            f"not a duration: write whole numbers and units (d, h, m, s, ms; the largest first), "
            f"such as {_DURATION_FORMS}"
        )
    seconds = MAX_DURATION + 1
    if len(value) < 80:  # noqa: PLR2004 -- longer ones are absurd, and int() refuses huge ones
        counts = zip(match.groups("0"), _DURATION_UNITS.values(), strict=True)
        seconds = sum(int(count.rstrip("dhms")) * unit for count, unit in counts) / 1000
    if seconds > MAX_DURATION:
        raise ValueError("a duration cannot be longer than 100 years")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as so many seconds, to the millisecond."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _DURATION_UNITS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](:[0-9]*)?")  # an IPv6 address and a port


def check_positive(seconds: float) -> float:
    """A duration that takes time."""
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def check_after(seconds: float) -> float:
    """How long a webhook waits: longer ones are slips."""
    if seconds > MAX_AFTER:
        raise ValueError("365d is the longest that a webhook can wait")
    return seconds


def check_text(text: str) -> str:
    """More than blanks."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text


MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path: `sun_path` is 108 with its NUL (unix(7))."""


def check_socket_path(path: str) -> str:
    """As long as the kernel takes."""
    if len(path.encode()) > MAX_SOCKET_PATH or "\0" in path:
        raise ValueError(f"the path of a unix socket is at most {MAX_SOCKET_PATH} bytes long")
    return path


def check_endpoint(text: str) -> str:
    """A server's socket: an absolute path, or HOST:PORT."""
    try:
        tcp = tcp_of(text)
    except ValueError as error:
        raise ValueError(f"{error}, or the absolute path of a unix socket") from None
    if tcp is None:
        return check_socket_path(text)
    if tcp[1] == 0:
        raise ValueError("a server's port is at least 1")
    return text


def check_listen(text: str) -> str:
    """An address of this host and a port, of which 0 is any that is free; or nothing."""
    if text.rfind(":") == 0:
        raise ValueError(
            f"say which address to listen on: 127.0.0.1{text[:6]}, or 0.0.0.0{text[:6]} for all"
        )
    if text:
        split_host_port(text)
    return text


_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Host names as a Host header has them, in lower case, without port; all that are asked by."""
    result = []
    for name in names:
        text = name.lower().removesuffix(".")
        if not all(_LABEL.fullmatch(label) for label in text.split(".")):
            raise ValueError(
                "each is a host name alone, without scheme, port, path or *: "
                "'agent.lab.example', or 'rack-1'"
            )
        result.append(text)
    return check_no_repeats(tuple(result))


def _split_url(url: str) -> tuple[SplitResult, str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        if "[" in url or "]" in url:  # which of them urlsplit refuses differs between Pythons
            raise ValueError("the URL's host name is not valid") from None
        raise ValueError("not a valid URL: its host or port cannot be read") from None
    return parts, host, port


def check_url(url: _Url) -> _Url:
    """Absolute, http or https, with a host that can be looked up. No message shows the URL."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("a URL holds no blanks, line breaks or control characters")
    parts, host, port = _split_url(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError('must be absolute and start with "http://" or "https://"')
    if not host:
        raise ValueError("the URL names no host")
    if port == 0:
        raise ValueError("a URL's port is at least 1")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise ValueError("the URL's host name is not valid") from None
    if "[" in parts.netloc or "]" in parts.netloc:
        # urlsplit finds a host in "][::" too; what sends the callback does not.
        address = parts.netloc.rpartition("@")[2]
        good = _BRACKETED.fullmatch(address) is not None and is_ip(host, 6)
    else:
        good = is_host(host)
    if "\\" in parts.netloc or not good:
        raise ValueError("the URL's host name is not valid")
    return url


TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a header's name: RFC 9110, 5.6.2
_OWN_HEADERS = {"content-type", "content-length", "content-encoding", "host", "user-agent"}
_OWN_HEADER_PREFIXES = ("webhook-", "ce-")  # Standard Webhooks; CloudEvents in binary mode
_HOP_BY_HOP = {  # RFC 9110, 7.6.1
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "expect",
}  # fmt: skip


def check_header_name(name: str) -> str:
    """Does not show a name that is none: it could be a whole pasted header line."""
    if not TOKEN.fullmatch(name):
        raise ValueError("a header's name holds letters, digits and dashes only")
    lower = name.lower()
    if lower in _OWN_HEADERS or lower.startswith(_OWN_HEADER_PREFIXES):
        raise ValueError(f"the agent itself sets the header {name}: take it out")
    if lower in _HOP_BY_HOP:
        raise ValueError(
            f"the header {name} concerns the connection and cannot be set: take it out"
        )
    return name


def check_header_value(secret: Secret) -> Secret:
    """Of inline values; others are read when they are used."""
    value = secret.read() if secret.kind is Kind.INLINE else ""
    if any(not character.isprintable() and character != "\t" for character in value):
        raise ValueError("a header's value holds no control characters")
    if value != value.strip():
        raise ValueError("a header's value neither begins nor ends with a blank")
    return secret


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?=*")


def check_signing_secret(secret: Secret) -> Secret:
    """Of inline values: what claims to be a Standard Webhooks secret must be one."""
    value = secret.read() if secret.kind is Kind.INLINE else ""
    prefix, _, encoded = value.partition("_")
    if prefix == "whsec" and not _BASE64.fullmatch(encoded):
        raise ValueError(
            'starts with "whsec_" and is no base64 behind it: copy all of it, or drop the prefix'
        )
    return secret


def check_username(name: str) -> str:
    """Of basic authentication, which sends `NAME:PASSWORD`."""
    if ":" in name or not name.isprintable():  # RFC 7617, 2
        raise ValueError("a user name for basic authentication holds no colon or control character")
    return name


def check_some(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """Not empty."""
    if not values:
        raise ValueError("must hold at least one")
    return values


def check_no_repeats(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """Each once. The message shows what stands twice, unless it may be secret."""
    for index, value in enumerate(values):
        if value in values[:index]:
            secret = isinstance(value, Secret | PrivateUrl)
            raise ValueError("one of them stands twice" if secret else f"'{value}' stands twice")
    return values


def check_proxy(url: _Url) -> _Url:
    """A proxy's URL, or nothing for none. No message shows it."""
    if not url:
        return url
    parts = urlsplit(check_url(url))
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("a proxy's URL ends with its port")
    return url


_FLEET_HOST = re.compile("[A-Za-z0-9_-]{1,63}")


def check_fleet_host(name: str) -> str:
    """One token of a NATS subject; or nothing."""
    if name and not _FLEET_HOST.fullmatch(name):
        raise ValueError("a host's name has up to 63 letters, digits, - and _ only: rack-3")
    return name


def check_broker(url: _Url) -> _Url:
    """A NATS server's URL. No message shows it, for it can hold a password."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("a URL holds no blanks, line breaks or control characters")
    parts, host, port = _split_url(url)
    if parts.scheme not in {"nats", "tls"}:
        raise ValueError('must start with "nats://" or "tls://"')
    if not host or not (is_host(host) or is_ip(host, 6)) or "\\" in parts.netloc:
        raise ValueError("the URL names no host that can be looked up")
    if port == 0:
        raise ValueError("a URL's port is at least 1")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("a NATS server's URL ends with its port: nats://10.0.0.7:4222")
    return url


def check_plugin_name(name: str) -> str:
    """As entry points are named: it is shown as a source's name."""
    if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name):
        raise ValueError("a source's name has small letters, digits, - and _ only")
    return name


def check_servers(servers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each `url` once."""
    check_no_repeats_unseen(tuple(server.url for server in servers))
    return servers


def check_no_repeats_unseen(urls: tuple[_T, ...]) -> tuple[_T, ...]:
    """Each once; none is shown, for one can hold a password."""
    if len(set(urls)) < len(urls):
        raise ValueError("one URL stands twice")
    return urls


def toml_type(value: object) -> str:
    """In TOML's words, with an article."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a float",
        str: "a string",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")

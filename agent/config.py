"""TOML → frozen `Config`: every key, its default, its rule; all mistakes at once, with places."""

from __future__ import annotations

import re
import stat
from fnmatch import fnmatchcase
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar, get_args
from urllib.parse import urlsplit

import tomli
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import core_schema

from agent import toml_places
from agent.errors import ConfigError, Problem
from agent.model import DeviceState, Platform, Visibility
from agent.secrets import Kind, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic import GetCoreSchemaHandler
    from pydantic_core import ErrorDetails

    from agent.toml_places import KeyPath, Place

MAX_ID = 2**53 - 1
"""Of organisations and webhooks: the largest integer every JSON reader keeps exactly (RFC 8259)."""
MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path: `sun_path` is 108 with its NUL (unix(7))."""
MAX_DURATION = 100 * 365 * 86400.0

_DURATION = re.compile(r"([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?")  # and not empty
_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION_FORMS = '"250ms", "5s", "2m", "1h30m" or "3d"'
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](:[0-9]*)?")  # an IPv6 address and a port
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")  # an IPv4 address or a mistake, never a name
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a header's name: RFC 9110, 5.6.2
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?=*")
_IOS_UDID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{16}|[0-9a-f]{40}", re.IGNORECASE)

_OWN_HEADERS = {"content-type", "content-length", "content-encoding", "host", "user-agent"}
_OWN_HEADER_PREFIXES = ("webhook-", "ce-")  # Standard Webhooks; CloudEvents in binary mode
_HOP_BY_HOP = {  # RFC 9110, 7.6.1
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "expect",
}  # fmt: skip


_T = TypeVar("_T")


def parse_duration(value: object) -> float:
    """Seconds of `"250ms"`, `"5s"`, `"2m"`, `"1h30m"`, `"3d"`; ValueError otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
            f"a duration needs quotes and a unit: write {_DURATION_FORMS}"
        )
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
            f"expected a duration such as {_DURATION_FORMS}, got {_toml_type(value)}"
        )
    text = value.strip()
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative: write {_DURATION_FORMS}")
    if text.isascii() and text.isdigit():
        raise ValueError(f"a duration needs a unit: write {_DURATION_FORMS}")
    match = _DURATION.fullmatch(value)
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


def split_host_port(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPv6]:PORT` → host (without brackets) and port 0..65535; else ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ip(host, 6):
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


def udid_key(udid: str) -> str:
    """The same for all spellings of one device: iOS UDIDs come with or without dash, in any case.

    Other ids stay what they are.
    """
    return udid.replace("-", "").lower() if _IOS_UDID.fullmatch(udid) else udid


def _is_ip(text: str, version: int | None = None) -> bool:
    from ipaddress import ip_address  # noqa: PLC0415 -- few configurations need it

    try:
        return version in {None, ip_address(text).version} and "%" not in text  # no zones
    except ValueError:
        return False


def _check_positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _check_socket_path(path: str) -> str:
    if len(path.encode()) > MAX_SOCKET_PATH or "\0" in path:
        raise ValueError(f"the path of a unix socket is at most {MAX_SOCKET_PATH} bytes long")
    return path


def _check_endpoint(text: str) -> str:
    """A server's socket: an absolute path, or HOST:PORT."""
    if text.startswith("/"):
        return _check_socket_path(text)
    try:
        _, port = split_host_port(text)
    except ValueError as error:
        raise ValueError(f"{error}, or the absolute path of a unix socket") from None
    if port == 0:
        raise ValueError("a server's port is at least 1")
    return text


def _check_listen(text: str) -> str:
    if text.rfind(":") == 0:
        raise ValueError(
            f"say which address to listen on: 127.0.0.1{text[:6]}, or 0.0.0.0{text[:6]} for all"
        )
    if text:
        split_host_port(text)
    return text


def _check_url(url: str) -> str:
    """Absolute, http or https, with a host that can be looked up. No message shows the URL."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("a URL holds no blanks, line breaks or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("not a valid URL: its host or port cannot be read") from None
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
        good = _BRACKETED.fullmatch(address) and _is_ip(host, 6)
    else:
        named = _HOST.fullmatch(host) and not _DIGITS_AND_DOTS.fullmatch(host)
        good = named or _is_ip(host, 4)
    if "\\" in parts.netloc or not good:
        raise ValueError("the URL's host name is not valid")
    return url


def _check_header_name(name: str) -> str:
    """Does not show a name that is none: it could be a whole pasted header line."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header's name holds letters, digits and dashes only")
    lower = name.lower()
    if lower in _OWN_HEADERS or lower.startswith(_OWN_HEADER_PREFIXES):
        raise ValueError(f"the agent itself sets the header {name}: take it out")
    if lower in _HOP_BY_HOP:
        raise ValueError(
            f"the header {name} concerns the connection and cannot be set: take it out"
        )
    return name


def _check_header_value(secret: Secret) -> Secret:
    """Of inline values; others are read when they are used."""
    value = secret.read() if secret.kind is Kind.INLINE else ""
    if any(not character.isprintable() and character != "\t" for character in value):
        raise ValueError("a header's value holds no control characters")
    if value != value.strip():
        raise ValueError("a header's value neither begins nor ends with a blank")
    return secret


def _check_signing_secret(secret: Secret) -> Secret:
    """Of inline values: what claims to be a Standard Webhooks secret must be one."""
    value = secret.read() if secret.kind is Kind.INLINE else ""
    prefix, _, encoded = value.partition("_")
    if prefix == "whsec" and not _BASE64.fullmatch(encoded):
        raise ValueError(
            'starts with "whsec_" and is no base64 behind it: copy all of it, or drop the prefix'
        )
    return secret


def _check_username(name: str) -> str:
    if ":" in name or not name.isprintable():  # RFC 7617, 2
        raise ValueError("a user name for basic authentication holds no colon or control character")
    return name


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_many(value: object) -> object:
    return _to_tuple(value) if isinstance(value, list | tuple) else (value,)


def _check_some(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError("must hold at least one")
    return values


def _check_no_repeats(values: tuple[_T, ...]) -> tuple[_T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"'{value}' stands twice")
    return values


def _check_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(urls)) < len(urls):
        raise ValueError("one URL stands twice")  # not shown, for it can hold a password
    return urls


def _from_file_directory(path: str, info: ValidationInfo) -> str:
    """A relative path is relative to the configuration's directory, wherever the agent starts."""
    if not path or "\0" in path:
        raise ValueError("must be a path")
    base: Path | None = (info.context or {}).get("base")
    return path if base is None else str(base / path)


def _command_or_path(path: str, info: ValidationInfo) -> str:
    return _from_file_directory(path, info) if "/" in path else path


def _to_secret(value: object, info: ValidationInfo) -> Secret:
    return Secret.parse(value, (info.context or {}).get("base"))


class _HeaderTable:
    """A table of name → secret in the file, pairs in the `Config` (dicts are not frozen)."""

    def __get_pydantic_core_schema__(
        self, _source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._pairs,
            handler.generate_schema(dict[_HeaderName, _HeaderValue]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda pairs: {name: str(secret) for name, secret in pairs}
            ),
        )

    @staticmethod
    def _pairs(table: dict[str, Secret]) -> tuple[tuple[str, Secret], ...]:
        _check_no_repeats(tuple(name.lower() for name in table))
        return tuple(table.items())


_SECRET_SCHEMA: dict[str, Any] = {
    "description": "The secret itself, or where it is: a file (read at each use), an environment "
    "variable, or a systemd credential.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        *(
            {
                "type": "object",
                "properties": {kind.value: {"type": "string", "minLength": 1}},
                "required": [kind.value],
                "additionalProperties": False,
            }
            for kind in Kind
            if kind is not Kind.INLINE
        ),
    ],
}
_SECRETS_SCHEMA = {
    "anyOf": [*_SECRET_SCHEMA["anyOf"], {"type": "array", "items": _SECRET_SCHEMA, "minItems": 1}]
}
_DURATION_SCHEMA = {"type": "string", "minLength": 2, "pattern": f"^{_DURATION.pattern}$"}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Text in the file, seconds in the `Config`."""
PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]

_SecretValue = Annotated[
    Secret,
    PlainValidator(_to_secret),
    PlainSerializer(str, return_type=str),  # the place, never the value
    WithJsonSchema(_SECRET_SCHEMA),
]
_HeaderName = Annotated[str, AfterValidator(_check_header_name)]
_HeaderValue = Annotated[_SecretValue, AfterValidator(_check_header_value)]
_Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
_Texts = Annotated[tuple[_Text, ...], BeforeValidator(_to_tuple)]
_Id = Annotated[int, Field(ge=1, le=MAX_ID)]
_Path = Annotated[str, Field(min_length=1), AfterValidator(_from_file_directory)]
_Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
_Url = Annotated[
    str,
    Field(max_length=512, json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]"}),
    AfterValidator(_check_url),
]
_Urls = Annotated[
    tuple[_Url, ...],
    BeforeValidator(_to_tuple),
    AfterValidator(_check_urls),
    Field(json_schema_extra={"uniqueItems": True}),
]
# Strict validation takes no plain text for an enum; its members are checked all the same.
_State = Annotated[DeviceState, Field(strict=False)]
_Platform = Annotated[Platform, Field(strict=False)]
_Visibility = Annotated[Visibility, Field(strict=False)]


class Section(BaseModel):
    """A table of the file: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True
    )


class Agent(Section):
    """The agent itself: its organisation, its files, its log."""

    org_id: _Id = Field(default=1, description="Organisation of devices and webhooks.")
    state_dir: _Path | None = Field(
        default=None,
        description="Directory of the store. Default: $STATE_DIRECTORY (systemd), else ./state.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["auto", "text", "journal", "json"] = Field(
        default="auto",
        description="auto: journal under systemd, else text, with colours on a terminal.",
    )
    start_limit: PositiveDuration = Field(
        default=6.0,
        description="Longest wait at start for the first word of every source.",
    )


class Hold(Section):
    """How long a new state must last without a break before it counts."""

    online: Duration = Field(default=0.0, description="Before a phone counts as online.")
    offline: Duration = Field(default=5.0, description="Before a phone counts as offline.")
    utilizing: Duration = Field(default=0.0, description="Before a phone counts as in use.")
    unplugged: Duration = Field(default=3.0, description="Before a phone counts as unplugged.")
    source_grace: Duration = Field(
        default=30.0,
        description="How long a plugged phone keeps its state while adb or usbmuxd is down.",
    )
    usage_grace: Duration = Field(
        default=60.0,
        description="How long the last usage counts while its source fails.",
    )


class Usb(Section):
    """Phones on this host's USB ports, as udev sees them."""

    enabled: bool = Field(default=True, description="Watch USB through udev.")


class Android(Section):
    """Android phones, through the adb server."""

    enabled: bool = Field(default=True, description="Watch the adb server.")
    adb_server: _Endpoint = Field(
        default="127.0.0.1:5037", description="HOST:PORT, or the path of a unix socket."
    )
    start_server: bool = Field(
        default=True, description="Start an adb server where none answers on this host."
    )
    adb_path: Annotated[str, AfterValidator(_command_or_path)] = Field(
        default="",
        description="Command or path of the adb that starts the server. Empty: the bundled one.",
    )
    network_devices: bool = Field(
        default=False, description="Also phones that adb reaches over the network."
    )
    probe_interval: Duration = Field(
        default=60.0, description="How often an idle phone is asked whether it lives. 0s: never."
    )
    probe_timeout: PositiveDuration = Field(
        default=5.0, description="Longest wait for its answer; after that it is offline."
    )


class Ios(Section):
    """iPhones and iPads, through usbmuxd."""

    enabled: bool = Field(default=True, description="Watch usbmuxd.")
    usbmuxd: _Endpoint = Field(
        default="/var/run/usbmuxd", description="Path of its unix socket, or HOST:PORT."
    )
    network_devices: bool = Field(
        default=False, description="Also phones that usbmuxd reaches over Wi-Fi."
    )
    probe_interval: Duration = Field(
        default=60.0, description="How often an idle phone is asked whether it lives. 0s: never."
    )
    probe_timeout: PositiveDuration = Field(
        default=10.0, description="Longest wait for its answer; after that it is offline."
    )


class Flap(Section):
    """Damping: past so many transitions in the window the holds grow until the phone is quiet."""

    transitions: int = Field(default=6, ge=1, description="Transitions in the window still calm.")
    window: PositiveDuration = Field(default=60.0, description="Over which they are counted.")
    hold: Duration = Field(default=30.0, description="What every hold grows to at least.")


class UsageSection(Section):
    """Where the agent learns that a session is using a phone; leases need no setting."""

    interval: PositiveDuration = Field(
        default=5.0, description="Between two readings of the sources that are polled."
    )
    appium: _Urls = Field(
        default=(), repr=False, description="Appium 2 and 3 servers, by their base URLs."
    )
    grid: _Urls = Field(
        default=(), repr=False, description="Selenium Grid 4 hubs, by their base URLs."
    )
    wda: bool = Field(default=True, description="Ask WebDriverAgent on attached iPhones.")
    uiautomator2: bool = Field(
        default=True, description="Ask the UiAutomator2 server behind an adb forward."
    )


class Api(Section):
    """The agent's own API: all of it on the unix socket, reading on TCP."""

    socket: Annotated[_Path, AfterValidator(_check_socket_path)] | None = Field(
        default=None,
        description="Path of the unix socket. Default: control.sock in $RUNTIME_DIRECTORY, else in "
        "the state directory.",
    )
    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        default="127.0.0.1:9178", description="HOST:PORT for reading and metrics. Empty: no TCP."
    )


class Delivery(Section):
    """How callbacks are sent, and how long they are kept."""

    timeout: PositiveDuration = Field(
        default=10.0, description="Longest time one attempt may take, connecting included."
    )
    concurrency: int = Field(
        default=8, ge=1, description="Attempts under way at once, per webhook."
    )
    max_age: PositiveDuration = Field(
        default=72 * 3600.0, description="After this a callback is dead: kept, no longer retried."
    )
    retention: PositiveDuration = Field(
        default=30 * 86400.0, description="How long finished callbacks and transitions are kept."
    )


class Discovery(Section):
    """Phones that are plugged in and not listed under [[devices]]."""

    visibility: _Visibility = Field(
        default=Visibility.PRIVATE,
        description="private, local: call back. public: only shown. ignore: left out.",
    )


class DeviceEntry(Section):
    """What the operator says of one phone."""

    udid: _Text = Field(description="Android: the serial. iOS: the UDID, with or without its dash.")
    name: str = Field(default="", description="Shown and sent. Empty: the phone's own name.")
    visibility: _Visibility | None = Field(
        default=None, description="As in [discovery]. Default: what stands there."
    )
    tags: _Texts = Field(default=(), description="Words by which webhooks can choose phones.")


class BasicAuth(Section):
    """HTTP basic authentication (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[_Text, AfterValidator(_check_username)] = Field(description="The user.")
    password: _SecretValue = Field(description="The password.")


class BearerAuth(Section):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"]
    token: _SecretValue = Field(description="The token.")


class Tls(Section):
    """TLS of one webhook; files are PEM."""

    ca: _Path | None = Field(default=None, description="Trust these authorities only.")
    cert: _Path | None = Field(default=None, description="Client certificate, for mutual TLS.")
    key: _Path | None = Field(
        default=None, description="Its private key, where that is not in the same file."
    )
    verify: bool = Field(default=True, description="false: any certificate will do. Dangerous.")


class Webhook(Section):
    """Who is called back, about which states of which phones."""

    id: _Id | None = Field(
        default=None, description="Sent as webhookId. Default: given once and kept for the name."
    )
    org_id: _Id | None = Field(
        default=None, description="Sent as orgId. Default: the one of [agent]."
    )
    name: Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_check_text)] = Field(
        description="Sent as webhookName; unique in its organisation, upper and lower case differ."
    )
    url: _Url = Field(repr=False, description="Absolute http or https URL that is called.")
    description: Annotated[str, Field(max_length=512)] = Field(
        default="", description="For people only."
    )
    events: Annotated[
        tuple[_State, ...],
        Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
        BeforeValidator(_to_tuple),
        AfterValidator(_check_some),
        AfterValidator(_check_no_repeats),
    ] = Field(description="The states that call back.")
    enabled: bool = Field(default=True, description="false: makes no callbacks for the while.")
    payload: Literal["standard", "extended", "cloudevents"] = Field(
        default="standard",
        description="standard: nine keys. extended: more behind them. cloudevents: 1.0, binary.",
    )
    backlog: Literal["all", "latest"] = Field(
        default="all",
        description="After an outage send all, or only the newest state of each phone.",
    )
    secret: Annotated[
        tuple[Annotated[_SecretValue, AfterValidator(_check_signing_secret)], ...],
        BeforeValidator(_one_or_many),
        AfterValidator(_check_some),
        WithJsonSchema(_SECRETS_SCHEMA),
    ] = Field(
        default=(),
        description="Signs callbacks (Standard Webhooks); a list of them while it rotates.",
    )
    auth: Annotated[BasicAuth | BearerAuth, Field(discriminator="type")] | None = Field(
        default=None, description="How the agent shows who it is."
    )
    headers: Annotated[tuple[tuple[str, Secret], ...], _HeaderTable()] = Field(
        default=(), description="Further headers of every attempt; each value can be a secret."
    )
    tls: Tls = Field(default_factory=Tls, description="Own authorities, mutual TLS.")
    timeout: PositiveDuration | None = Field(
        default=None, description="Of one attempt. Default: the one of [delivery]."
    )
    devices: _Texts = Field(
        default=(), description="Only phones whose UDID fits one of these patterns (*, ?, [...])."
    )
    tags: _Texts = Field(default=(), description="Only phones that bear one of these tags.")
    platforms: Annotated[
        tuple[_Platform, ...],
        Field(json_schema_extra={"uniqueItems": True}),
        BeforeValidator(_to_tuple),
        AfterValidator(_check_no_repeats),
    ] = Field(default=(), description="Only phones of these platforms.")


class Config(Section):
    """Everything the file says, and the defaults of what it does not. See `load` and `check`."""

    agent: Agent = Field(default_factory=Agent)
    hold: Hold = Field(default_factory=Hold)
    usb: Usb = Field(default_factory=Usb)
    android: Android = Field(default_factory=Android)
    ios: Ios = Field(default_factory=Ios)
    flap: Flap = Field(default_factory=Flap)
    usage: UsageSection = Field(default_factory=UsageSection)
    api: Api = Field(default_factory=Api)
    delivery: Delivery = Field(default_factory=Delivery)
    discovery: Discovery = Field(default_factory=Discovery)
    devices: Annotated[tuple[DeviceEntry, ...], BeforeValidator(_to_tuple)] = ()
    webhooks: Annotated[tuple[Webhook, ...], BeforeValidator(_to_tuple)] = ()

    _by_udid: dict[str, DeviceEntry] = PrivateAttr(default_factory=dict)

    def model_post_init(self, _context: object, /) -> None:
        """Index the devices."""
        self._by_udid = {udid_key(entry.udid): entry for entry in self.devices}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Config:
        """As pydantic's, and the copy's devices are indexed anew."""
        copy = super().model_copy(update=update, deep=deep)
        copy.model_post_init(None)
        return copy

    def org_of(self, webhook: Webhook) -> int:
        """The organisation of a webhook: its own, else the agent's."""
        return self.agent.org_id if webhook.org_id is None else webhook.org_id

    def device(self, udid: str) -> DeviceEntry | None:
        """What the file says of that phone; an iOS UDID in any spelling. Constant time."""
        return self._by_udid.get(udid_key(udid))

    def state_dir(self, environ: Mapping[str, str]) -> Path:
        """The store's directory: as configured, else $STATE_DIRECTORY, else ./state."""
        if self.agent.state_dir is not None:
            return Path(self.agent.state_dir)
        # systemd joins several with colons; the first one is ours (systemd.exec(5)).
        return Path(environ.get("STATE_DIRECTORY", "").split(":")[0] or "state")

    def socket_path(self, environ: Mapping[str, str]) -> Path:
        """The API's unix socket: as configured, else in $RUNTIME_DIRECTORY, else with the state."""
        if self.api.socket is not None:
            return Path(self.api.socket)
        runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        return (Path(runtime) if runtime else self.state_dir(environ)) / "control.sock"


def load(path: Path) -> Config:
    """Read and check a file. Raises ConfigError, with every mistake in it."""
    return parse(_read(path), str(path))


def parse(text: str, file: str) -> Config:
    """Check a document; `file` stands in messages, and relative paths start from its directory.

    Pure. Raises ConfigError: a mistake of syntax alone, else every other one, in the file's order.
    """
    document = _document(text, file)
    places = toml_places.scan(text)
    config = None
    mistakes = list(_cross_mistakes(document))
    try:
        config = Config.model_validate(document, context={"base": Path(file).parent})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        mistakes += [_mistake(document, each) for each in found]
    if mistakes or config is None:
        raise ConfigError(_placed(mistakes, document, places, file))
    return config


def check(path: Path) -> tuple[Config | None, tuple[Problem, ...], tuple[Problem, ...]]:
    """The config (None where it cannot be used), its mistakes, and warnings where it has none.

    Never raises for what is in the file or missing. Looks at the permissions of the files named.
    """
    try:
        text = _read(path)
        config = parse(text, str(path))
    except ConfigError as error:
        return None, error.problems, ()
    return config, (), warnings(config, text, str(path))


def warnings(config: Config, text: str, file: str) -> tuple[Problem, ...]:
    """What a valid file may come to regret, in its order. `text` is what `config` came from."""
    found = [
        *_exposed_urls(config),
        *_exposed_files(config, Path(file)),
        *_idle_webhooks(config),
        *_repeated_urls(config),
    ]
    return _placed(found, _document(text, file), toml_places.scan(text), file)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        reason = (
            "no such file: create it (agent.example.toml shows every key), or give another path"
        )
    except IsADirectoryError:
        reason = "is a directory: give the path of the file in it"
    except OSError as error:
        reason = (
            f"cannot be read ({error.strerror}): make it readable to the user the agent runs as"
        )
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"is not UTF-8 text (the first wrong byte is in line {line}): save it as UTF-8"
    raise ConfigError([Problem(str(path), 1, 1, reason)]) from None


def _document(text: str, file: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = f"not valid TOML: {error.msg[:1].lower()}{error.msg[1:]}"
        for start, hint in _SYNTAX_HINTS.items():
            if error.msg.startswith(start):
                message += f" ({hint})"
        problem = Problem(file, error.lineno, error.colno, message)
    except (RecursionError, ValueError):
        message = "not usable TOML: a value is nested too deeply, or a number has too many digits"
        problem = Problem(file, 1, 1, message)
    raise ConfigError([problem]) from None


_SYNTAX_HINTS = {
    "Invalid value": 'text stands in quotes, "…"; true and false in lower case; an array in [ ]',
    "Cannot overwrite a value": "a key stands twice in one table",
    "Cannot declare": "a table stands twice; several webhooks or devices are [[webhooks]], "
    "[[devices]]",
    "Expected newline": 'text stands in quotes, a quote inside of it as \\", one key on a line',
    "Illegal character '\\n'": "text ends on its line: its closing quote is missing",
    "Expected '='": "a line is KEY = VALUE or [TABLE]",
}


class _Mistake(NamedTuple):
    """What is wrong with the value at `path`, which may be missing."""

    path: KeyPath
    message: str
    about: KeyPath | None = None
    """What the message names, where that is not the path."""


def _placed(
    mistakes: Iterable[_Mistake],
    document: dict[str, Any],
    places: dict[KeyPath, Place],
    file: str,
) -> tuple[Problem, ...]:
    """As problems, each naming what it is about, in the file's order and none twice."""
    problems = {
        Problem(
            file,
            *toml_places.nearest(places, path),
            _subject(document, path if about is None else about) + message,
        )
        for path, message, about in mistakes
    }
    return tuple(sorted(problems, key=lambda each: (each.line, each.column, each.message)))


def _subject(document: dict[str, Any], path: KeyPath) -> str:
    """`hold.offline: `, `webhook 'Board' url: `, `device 'ce09…' tags: `."""
    parts = [part for part in path if isinstance(part, str)]
    shown = ".".join(parts)
    if len(path) > 1 and isinstance(path[1], int):
        kind, key = {"webhooks": ("webhook", "name"), "devices": ("device", "udid")}[parts[0]]
        entry = _value(document, path[:2])
        name = entry.get(key) if isinstance(entry, dict) else None
        who = f"'{_shown(name)}'" if isinstance(name, str) and name else path[1] + 1
        shown = f"{kind} {who} {'.'.join(parts[1:])}".rstrip()
    return f"{shown}: " if shown else ""


def _shown(text: str) -> str:
    """Short, and without control characters: it goes to a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:60])


def _value(document: object, path: KeyPath) -> object:
    """What stands at the path, or at the deepest part of it that there is."""
    for part in path:
        try:
            document = document[part]  # type: ignore[index]  # that it may not be one is the point
        except (KeyError, IndexError, TypeError):
            break
    return document


def _toml_type(value: object) -> str:
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


_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "bool_type": "a boolean (true or false)",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


_BROKEN_RULES = {
    "value_error": "{error}",
    "missing": "this key is missing",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def _mistake(document: dict[str, Any], error: ErrorDetails) -> _Mistake:
    """One of pydantic's errors in an operator's words; never with a value that may be secret."""
    kind, context = error["type"], error.get("ctx", {})
    path, about = _paths(error["loc"])
    if kind == "extra_forbidden":
        return _Mistake(path, _unknown_key(error["loc"]), path[:-1])
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _Mistake((*path, "type"), 'must be "basic" or "bearer"')
    value = _value(document, path)
    if kind in {"enum", "literal_error"}:
        message = _not_one_of(value, re.findall("'([^']*)'", context["expected"]))
    elif kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, got {_toml_type(value)}"
        if path in {("webhooks",), ("devices",)}:
            message = f"expected an array of tables, got {_toml_type(value)}: write [[{path[0]}]]"
    else:
        message = _BROKEN_RULES[kind].format(**context)
    return _Mistake(path, message, about)


def _paths(loc: tuple[int | str, ...]) -> tuple[KeyPath, KeyPath]:
    """The document's path of what pydantic calls it, and as much of it as a message may name."""
    path = tuple(part for part in loc if part != "[key]")
    if path[2:3] == ("auth",):
        path = (*path[:3], *path[4:])  # the type that was chosen stands between
    if path[2:3] == ("headers",) and not all(_TOKEN.fullmatch(str(name)) for name in path[3:]):
        return path, path[:3]  # a header that was pasted whole
    return path, path


def _not_one_of(value: object, options: list[str]) -> str:
    names = ", ".join(f'"{option}"' for option in options)
    if not isinstance(value, str):
        return f"expected one of {names}, got {_toml_type(value)}"
    return f"'{_shown(value)}' is not one of {names}" + _did_you_mean(value, options)


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    shape = tuple(part for part in loc[:-1] if isinstance(part, str))
    key = str(loc[-1])
    sections = _sections()
    message = f"unknown key '{_shown(key)}'"
    if meant := _did_you_mean(key, sections[shape].model_fields):
        return message + meant
    homes = [at for at, section in sections.items() if len(at) == 1 and key in section.model_fields]
    if homes and len(shape) <= 1:
        names = [f"[[{at}]]" if at in {"webhooks", "devices"} else f"[{at}]" for (at,) in homes]
        return f"{message} (it belongs in {' or '.join(names)})"
    return message


def _did_you_mean(text: str, options: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 -- only mistakes need it

    close = get_close_matches(text.lower().replace("-", "_"), options, 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


@cache
def _sections() -> dict[tuple[str, ...], type[Section]]:
    """Every table of the file: its path as pydantic gives it, without array indexes."""

    def walk(
        at: tuple[str, ...], section: type[Section]
    ) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
        yield at, section
        for name, field in section.model_fields.items():
            inside = [part for part in _parts(field.annotation) if issubclass(part, Section)]
            for part in inside:
                tag = get_args(part.model_fields["type"].annotation) if len(inside) > 1 else ()
                yield from walk((*at, name, *tag), part)

    return dict(walk((), Config))


def _parts(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _tables(document: dict[str, Any], name: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The elements of an array of tables, those that are tables at all."""
    entries = document.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield (name, index), entry


def _cross_mistakes(document: dict[str, Any]) -> Iterator[_Mistake]:
    """Rules over several keys. On the raw document, so that they too tell all mistakes at once."""
    udids: dict[str, KeyPath] = {}
    for path, device in _tables(document, "devices"):
        udid = device.get("udid")
        if isinstance(udid, str) and udids.setdefault(udid_key(udid), path) != path:
            yield _Mistake((*path, "udid"), "this device is listed twice: join the two entries")
    agent = document.get("agent")
    default_org = agent.get("org_id", 1) if isinstance(agent, dict) else 1
    names: set[tuple[str, str]] = set()
    ids: dict[int, str] = {}
    for path, webhook in _tables(document, "webhooks"):
        name, number = webhook.get("name"), webhook.get("id")
        org = webhook.get("org_id", default_org)
        if isinstance(name, str):
            if (repr(org), name) in names:
                yield _Mistake(
                    (*path, "name"),
                    f"another webhook of organisation {org} has this name: names are unique in one",
                )
            names.add((repr(org), name))
        if type(number) is int:
            if number in ids:
                yield _Mistake(
                    (*path, "id"), f"webhook '{_shown(ids[number])}' has the id {number} already"
                )
            ids.setdefault(number, str(name))
        yield from _webhook_mistakes(path, webhook)


def _webhook_mistakes(path: KeyPath, webhook: dict[str, Any]) -> Iterator[_Mistake]:
    tls, url, headers = webhook.get("tls"), webhook.get("url"), webhook.get("headers")
    if isinstance(tls, dict) and "key" in tls and "cert" not in tls:
        yield _Mistake((*path, "tls", "key"), "a key needs its certificate: set cert too")
    authorities = []
    if "auth" in webhook:
        authorities.append((*path, "auth"))
    if isinstance(headers, dict):
        authorities += [
            (*path, "headers", key) for key in headers if key.lower() == "authorization"
        ]
    if isinstance(url, str) and "@" in re.split("[/?#]", url.partition("://")[2])[0]:
        authorities.insert(0, (*path, "url"))
    for extra in authorities[1:]:
        yield _Mistake(
            extra,
            f"the request is authorised already, by {'.'.join(map(str, authorities[0][2:]))}: "
            f"keep one of them",
        )


def _exposed_urls(config: Config) -> Iterator[_Mistake]:
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        if not webhook.tls.verify:
            yield _Mistake(
                (*path, "tls", "verify"),
                "certificates are not checked, so anyone in between can read and alter callbacks: "
                "name the server's authority with ca instead",
            )
        parts = urlsplit(webhook.url)
        if parts.scheme == "http" and not _is_near(parts.hostname or ""):
            yield _Mistake(
                (*path, "url"),
                f"callbacks travel unencrypted to {parts.hostname}: use https",
            )
        if parts.scheme == "http" and webhook.tls != Tls():
            yield _Mistake((*path, "tls"), "has no effect, for the URL is plain http")


def _is_near(host: str) -> bool:
    """Loopback, a private address, or a name that only a local network can resolve."""
    from ipaddress import ip_address  # noqa: PLC0415 -- few configurations need it

    try:
        return not ip_address(host).is_global
    except ValueError:
        name = host.rstrip(".")
        return "." not in name or name.endswith(_LOCAL_NAMES)


_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".test")
"""Never in the public DNS: RFC 6761, RFC 6762, RFC 8375, ICANN's choice of 2024, and custom."""


def _secrets(config: Config) -> Iterator[tuple[KeyPath, Secret]]:
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        for number, secret in enumerate(webhook.secret):
            yield (*path, "secret", number), secret
        if isinstance(webhook.auth, BasicAuth):
            yield (*path, "auth", "password"), webhook.auth.password
        if isinstance(webhook.auth, BearerAuth):
            yield (*path, "auth", "token"), webhook.auth.token


def _exposed_files(config: Config, file: Path) -> Iterator[_Mistake]:
    inline = False
    for path, secret in _secrets(config):
        inline |= secret.kind is Kind.INLINE
        if secret.kind is Kind.FILE:
            yield from _file_warnings(path, Path(secret.where), secret=True)
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        inline |= "@" in urlsplit(webhook.url).netloc
        for name, secret in webhook.headers:
            if secret.kind is Kind.FILE:
                yield from _file_warnings((*path, "headers", name), Path(secret.where), secret=True)
        for key in ("ca", "cert", "key"):
            if (named := getattr(webhook.tls, key)) is not None:
                yield from _file_warnings((*path, "tls", key), Path(named), secret=key == "key")
    if inline and (mode := _open_mode(file)):
        yield _Mistake(
            (),
            f"holds secrets and others can read it (mode {mode:04o}): chmod 0600 {file}, "
            f"or move the secrets into files of their own",
        )


def _file_warnings(path: KeyPath, file: Path, *, secret: bool) -> Iterator[_Mistake]:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield _Mistake(path, f"{file} does not exist: create it or correct the path")
    except OSError:
        return  # the agent's user may see what this one may not
    else:
        if secret and (mode := _open_mode(file)):
            yield _Mistake(path, f"others can read {file} (mode {mode:04o}): chmod 0600 {file}")


def _open_mode(file: Path) -> int:
    """The permissions of a file that group or others can read; else 0."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return 0
    return mode if mode & (stat.S_IRGRP | stat.S_IROTH) else 0


def _idle_webhooks(config: Config) -> Iterator[_Mistake]:
    """Webhooks that certainly no phone can match, whatever is plugged in."""
    calling = {Visibility.PRIVATE, Visibility.LOCAL}
    default = config.discovery.visibility
    listed = [each for each in config.devices if (each.visibility or default) in calling]
    for index, webhook in enumerate(config.webhooks):
        if default in calling and not webhook.tags:
            continue  # a phone that is not listed may match; tags come from the list alone
        if not any(_may_match(webhook, device) for device in listed):
            yield _Mistake(
                ("webhooks", index),
                "no device that is listed and calls back is in its scope, so it is never called: "
                "see its devices and tags, and visibility under [[devices]] and [discovery]",
            )


def _may_match(webhook: Webhook, device: DeviceEntry) -> bool:
    """Generous: a UDID's spelling and the `@PORT` of twins are only known when it is plugged in."""
    tagged = not webhook.tags or not set(webhook.tags).isdisjoint(device.tags)
    patterns = [pattern.replace("-", "").lower() for pattern in webhook.devices]
    udid = device.udid.replace("-", "").lower()
    fits = not patterns or any("@" in each or fnmatchcase(udid, each) for each in patterns)
    return tagged and fits


def _repeated_urls(config: Config) -> Iterator[_Mistake]:
    first: dict[str, str] = {}
    for index, webhook in enumerate(config.webhooks):
        if webhook.url in first:
            yield _Mistake(
                ("webhooks", index, "url"),
                f"webhook '{_shown(first[webhook.url])}' has the same URL: it is called twice",
            )
        first.setdefault(webhook.url, webhook.name)


def format_problems(
    problems: Sequence[Problem], text_of: Callable[[str], str] | None = None
) -> str:
    """One `file:line:column: message` per line; given a reader of files, each with its place shown.

    Of the lines shown, whatever may be a secret is covered.
    """
    texts: dict[str, list[str]] = {}
    blocks = []
    for problem in problems:
        block = str(problem)
        if text_of is not None:
            if problem.file not in texts:
                texts[problem.file] = _shown_lines(_text(text_of, problem.file))
            lines = texts[problem.file]
            if problem.line <= len(lines) and lines[problem.line - 1].strip():
                line = lines[problem.line - 1]
                caret = " " * (problem.column - 1) + "^"
                block += f"\n    {line}\n    {caret}"
        blocks.append(block)
    return "\n".join(blocks)


def _text(text_of: Callable[[str], str], file: str) -> str:
    try:
        return text_of(file)
    except (OSError, UnicodeDecodeError):
        return ""  # the problem itself says so


def _shown_lines(text: str) -> list[str]:
    """The document's lines, what may be secret covered; every character keeps its column."""
    lines = text.replace("\r\n", "\n").split("\n")
    try:
        tomli.loads(text)
    except (ValueError, RecursionError):
        # A broken file may hold anything anywhere; only what looks right up to its value is shown.
        known = {name for section in _sections().values() for name in section.model_fields}
        shown = [_covered(line, known) for line in lines]
    else:
        shown = _covered_lines(text, lines)
    return ["".join(each if each.isprintable() else " " for each in line[:200]) for line in shown]


def _covered(line: str, known: Collection[str] | None) -> str:
    """Only a header, or a key and its `=`, stay; of keys the known ones (None: any)."""
    match = re.match(r"\s*\[[\[\]A-Za-z0-9_ .-]*$|[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*", line)
    kept = match[0] if match and (not match[1] or known is None or match[1] in known) else ""
    return kept + re.sub(r"\S", "•", line[len(kept) :])


_SENSITIVE = {"secret", "auth", "headers", "url", "appium", "grid"}


def _covered_lines(text: str, lines: list[str]) -> list[str]:
    """Whole are the lines on which only known keys stand whose values are no secrets."""
    by_place = itemgetter(1)
    whole: dict[int, bool] = {}
    starts: set[int] = set()
    last = True
    for path, (line, column) in sorted(toml_places.scan(text).items(), key=by_place):
        if not lines[line - 1][: column - 1].strip(" \t["):
            starts.add(line)
        last, before = _is_open(path), last
        # Before the first key of a line may stand the rest of a value from further up.
        whole[line] = whole.get(line, line in starts or before) and last
    return [
        line if whole.get(number, False) else _covered(line, None if number in starts else ())
        for number, line in enumerate(lines, start=1)
    ]


def _is_open(path: KeyPath) -> bool:
    """No part of it is unknown (a misspelt `secret` is) or holds secrets."""
    names = tuple(part for part in path if isinstance(part, str))
    sections = _sections()
    return all(
        names[:depth] in sections
        and name in sections[names[:depth]].model_fields
        and name not in _SENSITIVE
        for depth, name in enumerate(names)
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors; the rules that it cannot express are left out."""
    schema = _for_toml(Config.model_json_schema())
    return {**schema, "title": "device-agent configuration"}


def _for_toml(node: Any) -> Any:
    """No null, which TOML has not, and defaults as they are written."""
    if isinstance(node, list):
        return [_for_toml(each) for each in node]
    if not isinstance(node, dict):
        return node
    result = {key: _for_toml(value) for key, value in node.items() if key != "default"}
    choices = result.get("anyOf", [])
    if {"type": "null"} in choices:
        (only,) = (choice for choice in choices if choice != {"type": "null"})
        result = {**{key: value for key, value in result.items() if key != "anyOf"}, **only}
    if (default := node.get("default")) is not None:
        # `default` as a property's own name does not occur among the keys.
        result["default"] = format_duration(default) if isinstance(default, float) else default
    return result

"""The sections of the file: every key, its default and what it is for."""

# Annotations are values here, for pydantic reads them: without the future import it need not
# compile each of them again.

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from agent.config.fields import (
    SECRETS_SCHEMA,
    SERVERS_SCHEMA,
    After,
    BodyValue,
    BrokerUrl,
    Duration,
    Endpoint,
    FilePath,
    HeaderTable,
    Id,
    PlatformName,
    PluginTable,
    PositiveDuration,
    ProxyUrl,
    SecretText,
    SecretValue,
    StateName,
    Text,
    Texts,
    Url,
    VisibilityName,
    command_or_path,
    one_or_many,
    to_tuple,
    url_or_table,
)
from agent.config.places import KeyPath
from agent.config.secret import PrivateUrl, Secret, private_in
from agent.config.values import (
    check_fleet_host,
    check_hosts,
    check_listen,
    check_no_repeats,
    check_no_repeats_unseen,
    check_servers,
    check_signing_secret,
    check_socket_path,
    check_some,
    check_text,
    check_username,
)
from agent.model import Visibility

PayloadFormat = Literal["standard", "extended", "cloudevents", "custom"]
"""What a callback carries: a row each in `deliver.payload.FORMATS`."""


class Section(BaseModel):
    """A table of the file: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True
    )

    def secrets(self) -> Iterator[tuple[KeyPath, Secret | PrivateUrl]]:
        """All in it that may be secret, with its key path: by type, so that none is forgotten."""
        return private_in(self)


class Agent(Section):
    """The agent itself: its organisation, its files, its log."""

    org_id: Id = Field(default=1, description="Organisation of devices and webhooks.")
    state_dir: FilePath | None = Field(
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
    watch_config: bool = Field(default=True, description="Reload by itself when this file changes.")


class Hold(Section):
    """How long a new state must last without a break before it counts."""

    online: Duration = Field(default=0.0, description="Before a phone counts as online.")
    offline: Duration = Field(default=5.0, description="Before a phone counts as offline.")
    utilizing: Duration = Field(default=0.0, description="Before a phone counts as in use.")
    unplugged: Duration = Field(default=3.0, description="Before a phone counts as unplugged.")
    arrival: Duration = Field(
        default=10.0,
        description="How long adb or usbmuxd may take to see a phone that was just plugged in.",
    )
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
    adb_server: Endpoint = Field(
        default="127.0.0.1:5037", description="HOST:PORT, or the path of a unix socket."
    )
    start_server: bool = Field(
        default=True, description="Start an adb server where none answers on this host."
    )
    adb_path: Annotated[str, AfterValidator(command_or_path)] = Field(
        default="",
        description="Command or path of the adb that starts the server. "
        "Empty: the newer of the one on PATH and the bundled one.",
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
    battery: bool = Field(default=True, description="Read its battery with each of these probes.")


class Ios(Section):
    """iPhones and iPads, through usbmuxd."""

    enabled: bool = Field(default=True, description="Watch usbmuxd.")
    usbmuxd: Endpoint = Field(
        default="/var/run/usbmuxd",
        description="Path of its unix socket, or HOST:PORT: then its list is the presence.",
    )
    network_devices: bool = Field(
        default=False, description="Also phones that usbmuxd reaches over Wi-Fi."
    )
    probe_interval: Duration = Field(
        default=60.0, description="How often an idle phone is asked whether it lives. 0s: never."
    )
    probe_timeout: PositiveDuration = Field(
        default=10.0, description="Longest wait for its answer; two misses make it offline."
    )
    battery: bool = Field(default=True, description="Read its battery with each of these probes.")


class BatterySection(Section):
    """When a phone's battery is a reason for concern; it changes no state and calls nobody back."""

    low: int = Field(default=15, ge=0, le=100, description="Percent at which it is low. 0: never.")
    low_margin: int = Field(
        default=5, ge=0, le=100, description="Percent more with which it no longer is."
    )
    hot: float = Field(
        default=45.0,
        ge=0,
        le=120,
        allow_inf_nan=False,
        description="Degrees Celsius at which it is hot. 0: never.",
    )
    hot_margin: float = Field(
        default=3.0,
        ge=0,
        le=120,
        allow_inf_nan=False,
        description="Degrees less with which it no longer is.",
    )
    per_device_metrics: bool = Field(
        default=False,
        description="Also metrics of each phone's battery, with its UDID as a label.",
    )


class Flap(Section):
    """Damping: past so many changes in the window the holds grow until the phone is quiet."""

    transitions: int = Field(
        default=6,
        ge=1,
        description="Transitions, re-enumerations and short losses by its bridge in the window "
        "that are still calm.",
    )
    window: PositiveDuration = Field(default=60.0, description="Over which they are counted.")
    hold: Duration = Field(default=30.0, description="What every hold grows to at least.")


class BasicAuth(Section):
    """HTTP basic authentication (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[Text, AfterValidator(check_username)] = Field(description="The user.")
    password: SecretValue = Field(description="The password.")


class BearerAuth(Section):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"]
    token: SecretValue = Field(description="The token.")


Auth = Annotated[BasicAuth | BearerAuth, Field(discriminator="type")]


class UsageServer(Section):
    """A server whose sessions are asked for; its URL alone will do instead of the table."""

    url: Url = Field(description="Its base URL; a user in it is basic auth.")
    auth: Auth | None = Field(default=None, description="How the agent shows who it is.")


UsageServers = Annotated[
    tuple[Annotated[UsageServer, BeforeValidator(url_or_table)], ...],
    BeforeValidator(to_tuple),
    AfterValidator(check_servers),
    WithJsonSchema(SERVERS_SCHEMA),
]


class UsageSection(Section):
    """Where the agent learns that a session is using a phone."""

    leases: bool = Field(
        default=True, description="Give leases: `device-agent use`, `device-agent lease`, the API."
    )
    interval: PositiveDuration = Field(
        default=5.0, description="Between two readings of the sources that are polled."
    )
    appium: UsageServers = Field(
        default=(), description="Appium 2 and 3 servers, by their base URLs."
    )
    grid: UsageServers = Field(default=(), description="Selenium Grid 4 hubs, by their base URLs.")
    wda: bool = Field(default=True, description="Ask WebDriverAgent on attached iPhones.")
    wda_ports: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65535)], ...],
        Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
        BeforeValidator(to_tuple),
        AfterValidator(check_some),
        AfterValidator(check_no_repeats),
    ] = Field(default=(8100,), description="Ports at which it listens on the iPhones.")
    uiautomator2: bool = Field(
        default=True, description="Ask the UiAutomator2 server behind an adb forward."
    )
    plugins: Annotated[tuple[tuple[str, Mapping[str, Any]], ...], PluginTable()] = Field(
        default=(), repr=False, description="Sources of other packages, each with its own options."
    )


class Api(Section):
    """The agent's own API: all on the unix socket; on TCP reading, changes by token or session."""

    socket: Annotated[FilePath, AfterValidator(check_socket_path)] | None = Field(
        default=None,
        description="Path of the unix socket. Default: control.sock in $RUNTIME_DIRECTORY, else in "
        "the state directory.",
    )
    listen: Annotated[str, AfterValidator(check_listen)] = Field(
        default="127.0.0.1:9178", description="HOST:PORT for reading and metrics. Empty: no TCP."
    )
    hosts: Annotated[Texts, AfterValidator(check_hosts)] = Field(
        default=(),
        description="Names under which it may be asked besides literal addresses and localhost.",
    )
    token: SecretValue | None = Field(
        default=None,
        description="Lets changes be asked for over TCP with `Authorization: Bearer`.",
    )
    read: Literal["open", "token"] = Field(
        default="open",
        description="Who may read over TCP. open: whoever reaches it. token: with the token or a "
        "session alone; /-/healthy aside.",
    )
    cert: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate (and those above it) with which TCP speaks TLS. "
        "Default: no TLS.",
    )
    key: FilePath | None = Field(
        default=None, description="Its private key, where that is not in the same file."
    )


class Delivery(Section):
    """How callbacks are sent, and how long they are kept."""

    timeout: PositiveDuration = Field(
        default=10.0, description="Longest time one attempt may take, connecting included."
    )
    concurrency: int = Field(
        default=8, ge=1, description="Attempts under way at once, per webhook."
    )
    drain_rate: float = Field(
        default=200.0,
        gt=0,
        allow_inf_nan=False,
        description="Callbacks per second and webhook at most, while a backlog drains after a "
        "failure.",
    )
    max_age: PositiveDuration = Field(
        default=72 * 3600.0, description="After this a callback is dead: kept, no longer retried."
    )
    retention: PositiveDuration = Field(
        default=30 * 86400.0, description="How long finished callbacks and transitions are kept."
    )


class Discovery(Section):
    """Phones that are plugged in and not listed under [[devices]]."""

    visibility: VisibilityName = Field(
        default=Visibility.PRIVATE,
        description="private, local: call back. public: only shown. ignore: left out.",
    )


class DeviceEntry(Section):
    """What the operator says of one phone."""

    udid: Text = Field(description="Android: the serial. iOS: the UDID, with or without its dash.")
    name: str = Field(default="", description="Shown and sent. Empty: the phone's own name.")
    visibility: VisibilityName | None = Field(
        default=None, description="As in [discovery]. Default: what stands there."
    )
    tags: Texts = Field(default=(), description="Words by which webhooks can choose phones.")


class Tls(Section):
    """TLS of one webhook; files are PEM."""

    ca: FilePath | None = Field(default=None, description="Trust these authorities only.")
    cert: FilePath | None = Field(default=None, description="Client certificate, for mutual TLS.")
    key: FilePath | None = Field(
        default=None, description="Its private key, where that is not in the same file."
    )
    verify: bool = Field(default=True, description="false: any certificate will do. Dangerous.")


class Webhook(Section):
    """Who is called back, about which states of which phones."""

    id: Id | None = Field(
        default=None, description="Sent as webhookId. Default: given once and kept for the name."
    )
    org_id: Id | None = Field(
        default=None, description="Sent as orgId. Default: the one of [agent]."
    )
    name: Annotated[str, Field(min_length=1, max_length=50), AfterValidator(check_text)] = Field(
        description="Sent as webhookName; unique in its organisation, upper and lower case differ."
    )
    url: Url = Field(description="Absolute http or https URL that is called.")
    description: Annotated[str, Field(max_length=512)] = Field(
        default="", description="For people only."
    )
    events: Annotated[
        tuple[StateName, ...],
        Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
        BeforeValidator(to_tuple),
        AfterValidator(check_some),
        AfterValidator(check_no_repeats),
    ] = Field(description="The states that call back.")
    enabled: bool = Field(default=True, description="false: makes no callbacks for the while.")
    after: After = Field(
        default=0.0,
        description="A state counts for it only once it has lasted so long. 0s: at once.",
    )
    payload: PayloadFormat = Field(
        default="standard",
        description="standard: nine keys. extended: more behind them. cloudevents: 1.0, binary. "
        "custom: `body`.",
    )
    body: BodyValue | None = Field(
        default=None,
        description="Of payload custom: any JSON value; {deviceName} and the like in its texts is "
        "replaced.",
    )
    backlog: Literal["all", "latest"] = Field(
        default="all",
        description="After an outage send all, or only the newest state of each phone.",
    )
    secret: Annotated[
        tuple[Annotated[SecretValue, AfterValidator(check_signing_secret)], ...],
        BeforeValidator(one_or_many),
        AfterValidator(check_some),
        WithJsonSchema(SECRETS_SCHEMA),
    ] = Field(
        default=(),
        description="Signs callbacks (Standard Webhooks); a list of them while it rotates.",
    )
    auth: Auth | None = Field(default=None, description="How the agent shows who it is.")
    headers: Annotated[tuple[tuple[str, Secret], ...], HeaderTable()] = Field(
        default=(), description="Further headers of every attempt; each value can be a secret."
    )
    tls: Tls = Field(default_factory=Tls, description="Own authorities, mutual TLS.")
    proxy: ProxyUrl | None = Field(
        default=None,
        description="URL of an HTTP proxy. Empty: none. Default: the environment's.",
    )
    proxy_auth: BasicAuth | None = Field(
        default=None, description="How the agent shows the proxy who it is."
    )
    allow_link_local: bool = Field(
        default=False,
        description="Lets callbacks go to link-local addresses (cloud metadata lives there).",
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="Of one attempt. Default: the one of [delivery]."
    )
    devices: Texts = Field(
        default=(), description="Only phones whose UDID fits one of these patterns (*, ?, [...])."
    )
    tags: Texts = Field(default=(), description="Only phones that bear one of these tags.")
    platforms: Annotated[
        tuple[PlatformName, ...],
        Field(json_schema_extra={"uniqueItems": True}),
        BeforeValidator(to_tuple),
        AfterValidator(check_no_repeats),
    ] = Field(default=(), description="Only phones of these platforms.")


class FleetTls(Section):
    """TLS towards the fleet's broker; files are PEM."""

    ca: FilePath | None = Field(default=None, description="Trust these authorities only.")
    cert: FilePath | None = Field(default=None, description="Client certificate, for mutual TLS.")
    key: FilePath | None = Field(
        default=None, description="Its private key, where that is not in the same file."
    )


class Fleet(Section):
    """Many hosts on one NATS JetStream, with one hub that has them all."""

    servers: Annotated[
        tuple[BrokerUrl, ...],
        Field(json_schema_extra={"uniqueItems": True}),
        BeforeValidator(to_tuple),
        AfterValidator(check_no_repeats_unseen),
    ] = Field(
        default=(), description="NATS servers, such as nats://10.0.0.7:4222. Empty: no fleet."
    )
    host: Annotated[str, AfterValidator(check_fleet_host)] = Field(
        default="",
        description="This host's name in the fleet. Empty: the host's own, up to its first dot.",
    )
    credentials: SecretText | None = Field(
        default=None,
        description="What a NATS credentials file (.creds) holds. Default: user and password of "
        "the URL, if any.",
    )
    tls: FleetTls = Field(default_factory=FleetTls, description="Own authorities, mutual TLS.")
    role: Literal["agent", "hub"] = Field(
        default="agent", description="agent: has phones. hub: has the agents, and no phones."
    )
    host_grace: PositiveDuration = Field(
        default=60.0, description="Hub: silence after which a host is lost."
    )
    move_hold: Duration = Field(
        default=10.0,
        description="Hub: how long an unplugged phone may turn up at another host.",
    )


class Tables(Section):
    """The tables of the file."""

    agent: Agent = Field(default_factory=Agent)
    hold: Hold = Field(default_factory=Hold)
    usb: Usb = Field(default_factory=Usb)
    android: Android = Field(default_factory=Android)
    ios: Ios = Field(default_factory=Ios)
    flap: Flap = Field(default_factory=Flap)
    battery: BatterySection = Field(default_factory=BatterySection)
    usage: UsageSection = Field(default_factory=UsageSection)
    api: Api = Field(default_factory=Api)
    delivery: Delivery = Field(default_factory=Delivery)
    discovery: Discovery = Field(default_factory=Discovery)
    fleet: Fleet = Field(default_factory=Fleet)
    devices: Annotated[tuple[DeviceEntry, ...], BeforeValidator(to_tuple)] = ()
    webhooks: Annotated[tuple[Webhook, ...], BeforeValidator(to_tuple)] = ()

"""What was found out, as plain records; nothing here judges. Empty is "could not be told"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.errors import Problem
    from agent.model import UsbKind
    from agent.service.causes import CauseRow, SuspectRow
    from agent.service.deliveries import DeliveryRow
    from agent.service.devices import DeviceRow
    from agent.service.health import StatusRow
    from agent.service.webhooks import WebhookRow


@dataclass(frozen=True, slots=True)
class User:
    """Who runs something, and what that lets it use."""

    name: str
    uid: int
    gids: frozenset[int]

    def may_use(self, mode: int, owner: int, group: int) -> bool:
        """Whether the mode bits let it read and write."""
        if self.uid == 0:
            return True
        shift = 6 if owner == self.uid else 3 if group in self.gids else 0
        return mode >> shift & 0o6 == 0o6  # noqa: PLR2004 - read and write


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What the running agent says over its socket."""

    socket: Path
    error: str = ""
    """Why it cannot be asked; "": it answers."""
    there: bool = False
    """Whether the socket's file is."""
    denied: bool = False
    """It may not be used by this user."""
    pid: int = 0
    user: User | None = None
    status: StatusRow = field(default_factory=lambda: cast("StatusRow", {}))
    """Nothing where it does not answer."""
    devices: list[DeviceRow] = field(default_factory=list)
    webhooks: list[WebhookRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    causes: list[CauseRow] = field(default_factory=list)
    """The newest first."""
    suspects: list[SuspectRow] = field(default_factory=list)
    metrics: str = ""
    page: str | None = None
    """URL of what it serves over TCP; None: nothing."""
    exposed: bool = False
    """That is reached from beyond this host, without TLS."""

    @property
    def runs(self) -> bool:
        """Whether it answered."""
        return not self.error

    def problem_of(self, part: str) -> str:
        """What the agent says is wrong with `udev`, `adb`, `usbmux`, `store` …; "" if nothing."""
        return "; ".join(
            text.partition(": ")[2]
            for text in self.status.get("problems", ())
            if text.startswith(f"{part}: ")
        )


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What systemd says of the unit: properties by name; none without systemd."""

    booted: bool
    """Whether systemd runs this machine."""
    properties: dict[str, str] = field(default_factory=dict)
    error: str = ""
    name: str = "device-agent"
    """For systemctl and journalctl."""


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """The configuration file with the agent's own beside it, as `check` sees them."""

    path: Path
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    summary: str = ""
    webhooks: int = 0
    changed_at: float = 0.0
    """The later of the two, in seconds since the epoch; 0: they are not there."""
    hub: bool = False
    """A fleet's hub: it has the agents, and no phones of its own."""


@dataclass(frozen=True, slots=True)
class Node:
    """A USB device's file below /dev/bus/usb."""

    path: str
    mode: int
    owner: int
    group: int
    group_name: str


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One USB device as sysfs shows it."""

    port: str
    """As the kernel names it: `1-4.2`; `usb1` is a root hub."""
    controller: str
    """The PCI (or platform) device of its host controller."""
    bus: int
    kind: UsbKind | None
    """None for hubs."""
    is_phone: bool
    serial: str
    product: str
    speed: float
    """Mb/s; 0: not told."""
    endpoints: int = 0
    node: Node | None = None
    blocked: bool = False
    """By USB authorization."""
    mode: str = ""
    """Of an emergency mode: which, and what to do."""
    dump: str = ""
    """What the kernel and udev say of it, as `udevadm info --export-db` writes it."""

    @property
    def hubs(self) -> int:
        """Hubs between it and the root hub."""
        return self.port.count(".")


@dataclass(frozen=True, slots=True)
class UsbFacts:
    """All of USB."""

    enabled: bool
    udevd: bool
    """Whether udevd's control file is there."""
    netlink: str
    """Why no netlink socket can be had; "" if it can."""
    devices: tuple[UsbDevice, ...] | None
    """None: sysfs did not answer in time, or `error` says why."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens, or an adb server wherever it listens."""

    address: str
    """HOST:PORT or a path; "" where that cannot be told."""
    port: int
    pid: int
    """0: not ours to see."""
    user: str
    program: str

    def __str__(self) -> str:
        who = f"pid {self.pid}, user {self.user}" if self.pid else f"user {self.user}"
        return f"{who}, {self.program}" if self.program else who


@dataclass(frozen=True, slots=True)
class AdbFacts:
    """The adb server, and others of its kind."""

    enabled: bool
    server: str
    local: bool = True
    starts: bool = True
    """Whether the agent may start one."""
    error: str = ""
    """Why the server cannot be asked."""
    version: int = 0
    """Of its protocol: 41."""
    rows: tuple[tuple[str, str], ...] = ()
    """Serial and adb's state word."""
    raw: Mapping[str, list[str] | dict[str, str]] = field(default_factory=dict)
    """Request → the rows that the server answered, as they came; `{"FAIL": message}`."""
    client: str = ""
    """Path of the adb that the agent would start."""
    client_version: int = 0
    client_release: str = ""
    client_error: str = ""
    owner: Listener | None = None
    """Who listens at the configured address."""
    owner_user: User | None = None
    others: tuple[Listener, ...] = ()
    """Further adb servers on this host."""
    key: str = ""
    """Path of the key that phones know the server by; "": not ours to see."""
    key_mode: int = 0
    """0: there is none."""


@dataclass(frozen=True, slots=True)
class UsbmuxFacts:
    """usbmuxd and its phones."""

    enabled: bool
    address: str
    there: bool = False
    """Whether its socket is; of an address, that it is one."""
    error: str = ""
    listed: tuple[str, ...] = ()
    """UDIDs that it lists over USB."""
    records: tuple[tuple[str, str], ...] = ()
    """UDID of each listed one → where its pairing record is; "" without one."""
    raw: tuple[Any, ...] = ()
    """The rows of its list, as they came."""
    supported: bool = True
    """Whether the agent's iPhone support is installed."""
    local: bool = True
    """Whether it runs on this host, so that it lists what is plugged in here."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The state directory, from outside."""

    directory: Path
    sqlite: str
    """Version of the library."""
    exists: bool = False
    state: str = ""
    """`ok`, `absent`, `busy`, `corrupt`, `newer`, `unreadable`, `slow`; "": the agent was asked."""
    detail: str = ""
    free: int = 0
    total: int = 0
    """Bytes of the file system; 0: it cannot be told."""
    inodes_free: int = 0
    inodes: int = 0
    read_only: bool = False
    usable: bool = True
    """Whether the agent's user may write there."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host and its clock."""

    name: str
    now: float
    """Seconds since the epoch."""
    synchronised: bool | None = None
    """What the kernel says; None: it does not."""
    max_error: float = 0.0
    """Seconds that the clock may be off, by the kernel's estimate."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one came towards a webhook's endpoint, without asking it anything."""

    name: str
    where: str
    """host:port; of the proxy where there is one."""
    error: str = ""
    proxy: bool = False
    tls: bool = False
    expires: float = 0.0
    """Of the certificate, seconds since the epoch; 0: unknown."""
    took: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """The fleet's broker, as far as one comes with the agent's own name and password."""

    role: str
    host: str
    """What this host is called there, by the file."""
    servers: str
    error: str = ""
    """Why nobody could sign in."""
    taken: bool = False
    """No agent runs here, and some other one has the name."""
    took: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything, of one moment."""

    agent: AgentFacts
    unit: UnitFacts
    config: ConfigFacts
    usb: UsbFacts
    adb: AdbFacts
    usbmux: UsbmuxFacts
    store: StoreFacts
    host: HostFacts
    reach: tuple[Reach, ...]
    fleet: FleetFacts | None
    """None: no fleet is configured."""
    user: User
    """The agent's; where none runs, the one it would run as."""

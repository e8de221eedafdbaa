"""Facts in which all is well; tests change one thing and look at the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agent import __version__
from agent.doctor.facts import (
    AdbFacts,
    AgentFacts,
    ConfigFacts,
    Facts,
    FleetFacts,
    HostFacts,
    Listener,
    Node,
    Reach,
    StoreFacts,
    UnitFacts,
    UsbDevice,
    UsbFacts,
    UsbmuxFacts,
    User,
)
from agent.model import UsbKind

if TYPE_CHECKING:
    from agent.service.health import StatusRow
    from agent.service.webhooks import WebhookRow

NOW = 1_800_000_000.0
USER = User("device-agent", 990, frozenset({990, 46}))
ROOT = User("root", 0, frozenset({0}))
UDID = "00008120-000A2D3C0E91801E"
NODE = Node("/dev/bus/usb/001/007", 0o660, 0, 46, "plugdev")

STATUS = cast(
    "StatusRow",
    {
        "ready": True,
        "version": __version__,
        "since": "2027-01-15T07:00:00.000Z",
        "problems": [],
        "reload": {"ok": True, "at": None, "error": ""},
        "usage": [],
        "fleet": None,
        "store": {
            "directory": "/var/lib/device-agent",
            "sqlite": "3.40.1",
            "ok": True,
            "error": "",
            "waiting": 0,
            "lost": 0,
            "recovered_from": "",
            "size": 81920,
            "free": 10**10,
        },
    },
)
METRICS = """\
# HELP process_open_fds Number of open file descriptors.
process_open_fds 21.0
process_max_fds 65536.0
device_agent_callbacks_pending{webhook="Board",webhook_id="1"} 0.0
device_agent_callbacks_oldest_pending_age_seconds{webhook="Board",webhook_id="1"} 0.0
"""
AGENT = AgentFacts(
    Path("/run/device-agent/control.sock"),
    there=True,
    pid=71,
    user=USER,
    status=STATUS,
    metrics=METRICS,
    page="http://127.0.0.1:9178/",
    webhooks=[
        cast(
            "WebhookRow",
            {"name": "Board", "enabled": True, "status": "good", "paused": False},
        )
    ],
)
NO_AGENT = AgentFacts(Path("/run/device-agent/control.sock"), "no socket")
UNIT = UnitFacts(
    booted=True,
    properties={
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "ExecMainStatus": "0",
        "MainPID": "71",
        "NRestarts": "0",
        "WatchdogUSec": "30s",
        "User": "device-agent",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
    },
)
CONFIG = ConfigFacts(Path("/etc/device-agent/agent.toml"), (), (), "1 webhooks, 0 devices", 1)
ADB_SERVER = Listener("127.0.0.1:5037", 5037, 80, "device-agent", "/opt/adb")
ADB = AdbFacts(
    enabled=True,
    server="127.0.0.1:5037",
    version=41,
    rows=(("R58M1", "device"),),
    client="/opt/adb",
    client_version=41,
    client_release="36.0.0",
    owner=ADB_SERVER,
    owner_user=USER,
    key="/var/lib/device-agent/.android/adbkey",
    key_mode=0o600,
)
USBMUX = UsbmuxFacts(
    enabled=True,
    address="/var/run/usbmuxd",
    there=True,
    listed=(UDID,),
    records=((UDID, "usbmuxd"),),
)
STORE = StoreFacts(
    Path("/var/lib/device-agent"),
    "3.51.3",
    exists=True,
    state="ok",
    free=10**11,
    total=2 * 10**11,
    inodes_free=10**6,
    inodes=2 * 10**6,
)
HOST = HostFacts("rack1", NOW, synchronised=True, max_error=0.012)
REACH = Reach("Board", "board.example:443", tls=True, expires=NOW + 90 * 86400, took=0.02)


FLEET = FleetFacts("agent", "rack-3", "nats://10.0.0.7:4222", took=0.012)
FLEET_ROW: dict[str, Any] = {
    "host": "rack-3",
    "state": "connected",
    "since": "2027-01-15T07:00:00.000Z",
    "error": "",
    "unacked": 0,
    "acked": "2027-01-15T07:30:00.000Z",
    "snapshot_bytes": 2048,
    "reconnects": 0,
    "bad_messages": 0,
}


def device(port: str, kind: UsbKind | None = UsbKind.ADB, **more: Any) -> UsbDevice:
    """A phone unless another kind is given."""
    given: dict[str, Any] = {
        "controller": "0000:00:14.0",
        "bus": int(port.removeprefix("usb").partition("-")[0]),
        "is_phone": kind not in {None, UsbKind.OTHER},
        "serial": "R58M1",
        "product": "Galaxy",
        "speed": 480.0,
        "node": NODE,
    }
    return UsbDevice(port=port, kind=kind, **{**given, **more})


IPHONE = device("1-2", UsbKind.APPLE, serial=UDID.replace("-", ""))
USB = UsbFacts(enabled=True, udevd=True, netlink="", devices=(device("1-1"), IPHONE))


def facts(**changed: Any) -> Facts:
    """Everything, with these parts instead."""
    good = Facts(AGENT, UNIT, CONFIG, USB, ADB, USBMUX, STORE, HOST, (REACH,), None, USER)
    return replace(good, **changed)


def status(**changed: Any) -> AgentFacts:
    """The agent, with these keys of its status instead."""
    return replace(AGENT, status=cast("StatusRow", {**STATUS, **changed}))


def store_status(**changed: Any) -> AgentFacts:
    """The agent, with these keys of its store instead."""
    return status(store={**STATUS["store"], **changed})

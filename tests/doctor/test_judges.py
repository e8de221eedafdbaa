"""Every verdict: facts in which one thing is wrong, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent import __version__
from agent.doctor.facts import Facts, FleetFacts, Listener, Node, Reach, UnitFacts, UsbFacts, User
from agent.doctor.finding import EXIT_CODES, Finding, Verdict, worst
from agent.doctor.judge import judge
from agent.doctor.judges.phones import REMEDIES, remedy_of
from agent.doctor.judges.usb import PHONES_PER_CONTROLLER, topology
from agent.doctor.metrics import number
from agent.errors import Problem
from agent.model import UsbKind
from tests.doctor.samples import (
    ADB,
    ADB_SERVER,
    AGENT,
    CONFIG,
    FLEET,
    FLEET_ROW,
    HOST,
    NO_AGENT,
    NODE,
    NOW,
    REACH,
    ROOT,
    STORE,
    UDID,
    UNIT,
    USB,
    USBMUX,
    USER,
    device,
    facts,
    status,
    store_status,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.service.causes import CauseRow, SuspectRow
    from agent.service.devices import DeviceRow
    from agent.service.webhooks import WebhookRow

OK, WARN, FAIL = Verdict


def unit(**changed: str) -> UnitFacts:
    return replace(UNIT, properties={**UNIT.properties, **changed})


def usb(*devices: Any, **changed: Any) -> UsbFacts:
    return replace(USB, devices=devices, **changed)


def waiting(count: int, age: float, name: str = "Board") -> str:
    labels = f'{{webhook="{name}",webhook_id="1"}}'
    return (
        f"device_agent_callbacks_pending{labels} {count}\n"
        f"device_agent_callbacks_oldest_pending_age_seconds{labels} {age}\n"
    )


def row(**changed: Any) -> DeviceRow:
    made: dict[str, Any] = {
        "udid": "R58M1",
        "name": "Galaxy",
        "state": "online",
        "reason": "",
        "port": "1-1",
        "flapping": False,
        "silence": None,
        "told": "online",
        "battery": None,
        **changed,
    }
    return cast("DeviceRow", made)


def battery(level: int | None, temperature: float | None, **changed: Any) -> dict[str, Any]:
    return {
        "level": level,
        "temperature": temperature,
        "health": None,
        "charging": None,
        "hot": False,
        "low": False,
        "at": "2027-01-15T07:00:00.000Z",
        **changed,
    }


def hook(**changed: Any) -> WebhookRow:
    return cast("WebhookRow", {**AGENT.webhooks[0], **changed})


def problem(message: str, line: int = 3) -> Problem:
    return Problem("agent.toml", line, 1, message)


def target(**changed: Any) -> dict[str, Any]:
    return {"target": "10.0.0.1:4723", "state": "good", "reason": "", "sessions": 1, **changed}


HUB_FLEET = replace(FLEET, role="hub")


def in_fleet(*problems: str, fleet: FleetFacts = FLEET, **changed: Any) -> Facts:
    agent = status(fleet={**FLEET_ROW, **changed}, problems=list(problems))
    return facts(agent=agent, fleet=fleet)


def cause(kind: str = "hub", place: str = "1-4", age: float = 600, **more: Any) -> CauseRow:
    made: dict[str, Any] = {
        "id": "cause-1",
        "kind": kind,
        "place": place,
        "host": "rack1",
        "at": datetime.fromtimestamp(NOW - age, UTC).isoformat(),
        "devices": [f"R{n}" for n in range(8)],
        "over": False,
        **more,
    }
    return cast("CauseRow", made)


def suspect(**more: Any) -> SuspectRow:
    made: dict[str, Any] = {
        "kind": "port",
        "host": "rack1",
        "udid": "",
        "name": "",
        "port": "1-4.2",
        "who": "port 1-4.2",
        "evidence": "12 interruptions on 9 days",
        "advice": "change the cable",
        **more,
    }
    return cast("SuspectRow", made)


def lost(*causes: CauseRow, suspects: Sequence[SuspectRow] = ()) -> Facts:
    return facts(agent=replace(AGENT, causes=[*causes], suspects=[*suspects]))


CASES: list[tuple[str, Facts, str, Verdict, str, str]] = [
    # name, facts, check, verdict, words of what was found, words of the remedy
    ("ready", facts(), "agent", OK,
     f"ready: {__version__}, pid 71, user device-agent, for 1 h", ""),
    ("no agent", facts(agent=NO_AGENT), "agent", FAIL, "seen from outside", "systemctl start"),
    ("agent hangs", facts(agent=replace(NO_AGENT, there=True)), "agent", FAIL, "seen from outside",
     "systemctl restart"),
    ("not allowed", facts(agent=replace(NO_AGENT, there=True, denied=True)), "agent", FAIL,
     "may not be used by this user", "usermod"),
    ("waits", facts(agent=status(ready=False)), "agent", WARN, "waits for its sources",
     "start_limit"),
    ("cannot store", facts(agent=replace(store_status(ok=False, error="full"),
     status={**store_status(ok=False, error="full").status, "ready": False})), "agent", FAIL,
     "not ready", "store below"),
    ("other problem", facts(agent=status(problems=["odd: it"])), "agent", WARN, "odd: it", "log"),
    ("api", facts(), "api", OK, "served at http://127.0.0.1:9178/", ""),
    ("api on its socket", facts(agent=replace(AGENT, page=None)), "api", OK, "socket alone", ""),
    ("api beyond this host", facts(agent=replace(AGENT, page="http://10.1.2.3:9178/",
     exposed=True)), "api", WARN, "http://10.1.2.3:9178/ without TLS", "[api] cert and key"),
    ("descriptors", facts(), "descriptors", OK, "21 of 65536 in use", ""),
    ("few descriptors", facts(agent=replace(AGENT, metrics="process_open_fds 900\n"
     "process_max_fds 1024\n")), "descriptors", FAIL, "900 of 1024", "LimitNOFILE"),

    ("unit", facts(), "unit", OK, "active (running), no restarts, watchdog", ""),
    ("no watchdog", facts(unit=unit(WatchdogUSec="0")), "unit", OK, "no watchdog", ""),
    ("no systemd", facts(unit=UnitFacts(booted=False)), "unit", OK, "nothing restarts", ""),
    ("systemctl hangs", facts(unit=UnitFacts(booted=True, error="no answer")), "unit", WARN,
     "no answer", "systemctl status"),
    ("no unit", facts(unit=unit(LoadState="not-found")), "unit", OK, "is not installed", ""),
    ("failed", facts(agent=NO_AGENT, unit=unit(ActiveState="failed", Result="exit-code",
     ExecMainStatus="1")), "unit", FAIL, "exit-code, exit status 1", "journalctl"),
    ("bad config", facts(agent=NO_AGENT, unit=unit(ActiveState="failed", Result="exit-code",
     ExecMainStatus="2")), "unit", FAIL, "exit status 2", "device-agent check"),
    ("stopped", facts(agent=NO_AGENT, unit=unit(ActiveState="inactive", SubState="dead",
     MainPID="0")), "unit", FAIL, "inactive (dead)", "systemctl start"),
    ("other pid", facts(unit=unit(MainPID="99")), "unit", WARN, "but pid 71 answers", "--config"),
    ("restarts", facts(unit=unit(NRestarts="3")), "unit", WARN, "restarted 3 times",
     "reset-failed"),
    ("watchdog", facts(unit=unit(NRestarts="1", Result="watchdog")), "unit", WARN,
     "the watchdog ended it", "journalctl"),
    ("changed unit", facts(unit=unit(NeedDaemonReload="yes")), "unit", WARN, "changed since",
     "daemon-reload"),
    ("not at boot", facts(unit=unit(UnitFileState="disabled")), "unit", WARN,
     "not started at boot", "systemctl enable"),

    ("a hub's unit", facts(agent=NO_AGENT, config=replace(CONFIG, hub=True),
     unit=replace(unit(ActiveState="inactive", SubState="dead"), name="device-agent-hub")),
     "unit", FAIL, "inactive (dead)", "sudo systemctl start device-agent-hub"),
    ("a hub alone", facts(config=replace(CONFIG, hub=True)), "broker", FAIL, "hears of no host",
     "[fleet]"),

    ("good file", facts(), "file", OK, "agent.toml: 1 webhooks", ""),
    ("mistake", facts(config=replace(CONFIG, problems=(problem("bad"),))), "file", FAIL,
     "agent.toml:3:1: bad", "device-agent check"),
    ("mistakes", facts(config=replace(CONFIG, problems=(problem("bad"),) * 9)), "file", FAIL,
     "4 more mistakes", "lists them"),
    ("warning", facts(config=replace(CONFIG, warnings=(problem("hm"),))), "file", WARN,
     "agent.toml:3:1: hm", "device-agent check"),
    ("warnings", facts(config=replace(CONFIG, warnings=(problem("hm"),) * 9)), "file", WARN,
     "4 more warnings", "lists them"),
    ("never reloaded", facts(), "last reload", OK, "none since start", ""),
    ("reloaded in parts", facts(agent=status(reload={"ok": False, "at": "2027-01-15T07:30:00.000Z",
     "by": "file", "error": "the new configuration is in force since then, but not in usage: hm"})),
     "last reload", FAIL, "the new configuration is in force since then, but not in usage: hm",
     "systemctl restart device-agent"),
    ("reloaded", facts(agent=status(reload={"ok": True, "at": "2027-01-15T07:30:00.000Z",
     "error": ""})), "last reload", OK, "good, at 2027-01-15T07:30", ""),
    ("refused", facts(agent=status(reload={"ok": False, "at": "2027-01-15T07:30:00.000Z",
     "error": "a:1:1: one\na:2:1: two\na:3:1: three"})), "last reload", FAIL,
     "a:1:1: one (and 2 more)", "device-agent reload"),
    ("changed file", facts(config=replace(CONFIG, changed_at=NOW)), "last reload", WARN,
     "changed after it", "device-agent reload"),

    ("broker", in_fleet(), "broker", OK, "signed in at nats://10.0.0.7:4222 in 12 ms", ""),
    ("no broker", in_fleet(fleet=replace(FLEET, error="it refuses connections")), "broker", FAIL,
     "it refuses connections", "nats-server"),
    ("no nats-py", in_fleet(fleet=replace(FLEET, error="needs the package nats-py")), "broker",
     FAIL, "nats-py", "install it"),
    ("broker is odd", in_fleet(fleet=replace(FLEET, error="odd")), "broker", FAIL, "odd", "log"),
    ("hub hears", in_fleet(fleet=HUB_FLEET), "hosts", OK, "every host", ""),
    ("hub is blind", in_fleet("fleet: the hub is blind, and decides nothing: refused",
     fleet=HUB_FLEET), "hub", FAIL, "blind, and decides nothing: refused", "see broker"),
    ("host lost", in_fleet("fleet: host rack-3 is lost: x", "fleet: host rack-4 is lost: y",
     fleet=HUB_FLEET), "hosts", WARN, "host rack-3 is lost: x; host rack-4 is", "agent hosts"),
    ("blind hub", facts(agent=status(ready=False), config=replace(CONFIG, hub=True)), "agent", WARN,
     "does not hear itself", "Fleet"),
    ("fleet name", in_fleet(), "name", OK, "rack-3", ""),
    ("name refused", in_fleet("fleet: taken", state="refused", error="taken"), "name", FAIL,
     "taken", "another name"),
    ("name taken", facts(agent=NO_AGENT, fleet=replace(FLEET, taken=True)), "name", FAIL,
     "another one is called rack-3", "another name"),
    ("name changed", in_fleet(host="rack-4"), "name", WARN, "rack-4, and rack-3 by the file",
     "reload"),
    ("hub", in_fleet(), "hub", OK, "at 2027-01-15T07:30:00.000Z; nothing waits", ""),
    ("new hub", in_fleet(acked=None, unacked=3), "hub", OK, "3 transitions wait for it", ""),
    ("silent hub", in_fleet("fleet: no hub has acknowledged anything for 9 min"), "hub", WARN,
     "for 9 min", "nothing is lost"),
    ("fleet lost", in_fleet("fleet: not connected for 9 min", state="lost"), "agent", FAIL,
     "not connected for 9 min", "broker above"),

    ("udevd", facts(), "udevd", OK, "runs and can be heard", ""),
    ("usb off", facts(usb=replace(USB, enabled=False)), "udevd", OK, "not watched", ""),
    ("no udevd", facts(usb=replace(USB, udevd=False)), "udevd", WARN, "not running",
     "start systemd-udevd"),
    ("no netlink", facts(usb=replace(USB, netlink="Permission denied")), "udevd", WARN,
     "Permission denied", "AF_NETLINK"),
    ("udev source", facts(agent=status(problems=["udev: no libudev"])), "udevd", FAIL,
     "no libudev", "restart"),
    ("hung bus", facts(usb=replace(USB, devices=None)), "topology", FAIL, "hangs in the kernel",
     "dmesg"),
    ("broken check", facts(usb=replace(USB, devices=None, error="this check itself failed")),
     "topology", FAIL, "itself failed", "report it"),
    ("no phones", facts(usb=usb(device("1-9", UsbKind.OTHER))), "topology", OK,
     "1 USB devices, no phone", ""),
    ("controller", facts(), "controller", OK, "0000:00:14.0: 2 phones, 2 at 480 Mb/s", ""),
    ("endpoints", facts(usb=usb(device("1-1", endpoints=7), device("1-2", endpoints=5))),
     "controller", OK, "480 Mb/s, 12 endpoints", ""),
    ("shared hub", facts(usb=usb(device("1-4.1"), device("1-4.2"), device("2-1", speed=5000.0))),
     "controller", OK, "2 at 480 Mb/s, 1 at 5000 Mb/s; 2 share the cable to hub 1-4",
     ""),
    ("32 phones", facts(usb=usb(*(device(f"1-{n}") for n in range(PHONES_PER_CONTROLLER)))),
     "controller", OK, "32 phones", ""),
    ("33 phones", facts(usb=usb(*(device(f"{n % 2 + 1}-{n}") for n in range(33)))),
     "controller", WARN, "33 phones", "another controller"),
    ("two controllers", facts(usb=usb(*(device(f"1-{n}") for n in range(20)),
     *(device(f"3-{n}", controller="0000:05:00.0") for n in range(20)))),
     "controller", OK, "0000:05:00.0: 20 phones", ""),
    ("full bus", facts(usb=usb(device("1-1"), *(device(f"1-{n}", UsbKind.OTHER) for n in
     range(120)))), "bus", WARN, "1: 121 devices of the 127", "another root port"),
    ("deep", facts(usb=usb(device("1-1.1.1.1.1.1"))), "hubs in a row", WARN, "1-1.1.1.1.1.1",
     "into the host"),
    ("blocked", facts(usb=usb(device("1-1", blocked=True))), "authorization", WARN,
     "blocked on this host by USB authorization: 1-1", "usbguard allow-device"),
    ("emergency", facts(usb=usb(device("1-1", UsbKind.EMERGENCY, mode="in EDL: restart it"))),
     "emergency mode", WARN, "the phone at 1-1 is in EDL", "restart it"),
    ("slow", facts(usb=usb(device("1-1", speed=12.0))), "link speed", WARN, "1-1 (12)", "cable"),

    ("adb", facts(), "adb server", OK, "127.0.0.1:5037 (pid 80, user device-agent, /opt/adb)", ""),
    ("adb off", facts(adb=replace(ADB, enabled=False)), "adb server", OK, "not watched", ""),
    ("adb source", facts(agent=status(problems=["adb: odd"])), "adb server", FAIL, "says: odd",
     "log"),
    ("no adb", facts(adb=replace(ADB, error="nothing listens there", owner=None)), "adb server",
     FAIL, "nothing listens there; the agent says: nothing", "/opt/adb start-server"),
    ("no adb, no agent", facts(agent=NO_AGENT, adb=replace(ADB, error="nothing listens there")),
     "adb server", WARN, "nothing listens there", "the agent starts one"),
    ("no adb, not ours", facts(adb=replace(ADB, error="nothing listens there", starts=False)),
     "adb server", FAIL, "nothing listens there", "start_server = true"),
    ("no adb elsewhere", facts(adb=replace(ADB, error="no route", local=False)), "adb server",
     FAIL, "no route", "on that host"),
    ("adb hangs", facts(adb=replace(ADB, error="no answer within 4 s")), "adb server", FAIL,
     "(pid 80, user device-agent", "the agent starts another"),
    ("not adb", facts(adb=replace(ADB, error="what answers is no adb server (x)", owner=Listener(
     "127.0.0.1:5037", 5037, 5, "bob", "/usr/bin/nc"))), "adb server", FAIL,
     "It is pid 5, user bob, /usr/bin/nc", "adb_server"),
    ("versions", facts(), "adb versions", OK, "speak 41; 36.0.0 (/opt/adb)", ""),
    ("other version", facts(adb=replace(ADB, client_version=39)), "adb versions", FAIL,
     "speaks version 41, /opt/adb 39: each use of that client kills the server", "one adb"),
    ("no client", facts(adb=replace(ADB, client_error="no adb found")), "adb client", WARN,
     "no adb found", "apt install adb"),
    ("no client nor server", facts(adb=replace(ADB, client_error="no adb found", error="nothing "
     "listens")), "adb client", FAIL, "no adb found", "apt install adb"),
    ("no other servers", facts(), "other servers", OK, "none", ""),
    ("stray", facts(adb=replace(ADB, others=(Listener("127.0.0.1:5038", 5038, 9, "bob", "adb"),))),
     "other servers", WARN, "another adb server: at 127.0.0.1:5038 (pid 9, user bob, adb)",
     "sudo kill 9"),
    ("strays", facts(adb=replace(ADB, others=(replace(ADB_SERVER, address="", pid=8),
     replace(ADB_SERVER, pid=9)))), "other servers", WARN, "2 other adb servers: at an unknown",
     "sudo kill 8 9"),
    ("permissions", facts(), "permissions", OK, "may use all 1 phones", ""),
    ("shut node", facts(usb=usb(device("1-1", node=replace(NODE, mode=0o664, group=7,
     group_name="usb")))), "permissions", FAIL,
     "1 of 1 phones: 1-1; /dev/bus/usb/001/007 is of group usb, mode 0664", "udevadm"),
    ("shut node, root", facts(usb=usb(device("1-1", node=replace(NODE, mode=0o664, group=7))),
     adb=replace(ADB, owner_user=ROOT)), "permissions", OK, "user root may use all", ""),
    ("unseen", facts(usb=usb(device("1-3", serial="Q9"))), "hotplug", FAIL, "Q9 at 1-3", "replug"),
    ("udev's spelling", facts(usb=usb(device("1-3", serial="ZUG_5S"), device("1-4", serial="Q9")),
     adb=replace(ADB, rows=(("ZUG 5S", "device"),))), "hotplug", FAIL, "server: Q9 at", "replug"),
    ("key", facts(), "adb key", OK, "adbkey", ""),
    ("no key", facts(adb=replace(ADB, key_mode=0)), "adb key", WARN, "is not there", "copy adbkey"),
    ("loose key", facts(adb=replace(ADB, key_mode=0o644)), "adb key", WARN, "mode 0644",
     "chmod 0600"),
    ("adb phones", facts(agent=NO_AGENT), "phones", OK, "adb lists 1, all ready", ""),
    ("bad phone", facts(agent=NO_AGENT, adb=replace(ADB, rows=(("a", "device"),
     ("b", "unauthorized")))), "phones", WARN, "b: unauthorized", "accept"),

    ("usbmuxd", facts(), "usbmuxd", OK, "lists 1 iPhones", ""),
    ("ios off", facts(usbmux=replace(USBMUX, enabled=False)), "usbmuxd", OK, "not watched", ""),
    ("no usbmuxd, no iPhone", facts(usbmux=replace(USBMUX, there=False), usb=usb()), "usbmuxd", OK,
     "no iPhone is here", ""),
    ("no usbmuxd", facts(usbmux=replace(USBMUX, there=False)), "usbmuxd", FAIL,
     "1 iPhones are plugged in", "install usbmuxd"),
    ("dead usbmuxd", facts(usbmux=replace(USBMUX, error="its socket is there, and nobody answers "
     "at it")), "usbmuxd", FAIL, "does not run", "systemctl start usbmuxd"),
    ("usbmuxd hangs", facts(usbmux=replace(USBMUX, error="no answer within 3 s")), "usbmuxd", FAIL,
     "no answer within 3 s", "restart usbmuxd"),
    ("usbmuxd elsewhere hangs", facts(usbmux=replace(USBMUX, local=False, error="no answer")),
     "usbmuxd", FAIL, "no answer", "reaches it"),
    ("usbmux source", facts(agent=status(problems=["usbmux: odd"])), "usbmuxd", FAIL, "says: odd",
     "log"),
    ("not listed", facts(usbmux=replace(USBMUX, listed=(), records=())), "listed", FAIL,
     f"{UDID} at 1-2", "restart usbmuxd"),
    ("paired", facts(), "pairing records", OK, "for all 1", ""),
    ("not paired", facts(usbmux=replace(USBMUX, records=((UDID, ""),))), "pairing records", WARN,
     "not trusted yet", "tap Trust"),
    ("own record", facts(usbmux=replace(USBMUX, records=((UDID, "/state/pairing/x.plist"),))),
     "pairing records", OK, "for all 1", ""),
    ("unread record", facts(usbmux=replace(USBMUX, records=((UDID, f"/var/lib/lockdown/{UDID}.plist"
     ),))), "pairing records", WARN, "does not hand out", "chown usbmux"),
    ("no support", facts(usbmux=replace(USBMUX, supported=False)), "support", FAIL, "without",
     "device-agent[ios]"),

    ("no phone ever", facts(), "states", OK, "no phone was ever seen", ""),
    ("phones", facts(agent=replace(AGENT, devices=[row(), row(state="utilizing")])), "states", OK,
     "1 online, 1 utilizing", ""),
    ("offline", facts(agent=replace(AGENT, devices=[row(state="offline", reason="unauthorized: x"
     )])), "Galaxy", WARN, "offline (R58M1 at 1-1): unauthorized: x", "accept"),
    ("offline by its code", facts(agent=replace(AGENT, devices=[row(state="offline",
     reason="let go", reason_code="detached")])), "Galaxy", WARN, "let go", "adb attach"),
    ("flapping", facts(agent=replace(AGENT, devices=[row(flapping=True)])), "Galaxy", WARN,
     "online, flapping", "cable"),
    ("many offline", facts(agent=replace(AGENT, devices=[row(state="offline")] * 25)), "states",
     OK, "25 offline; 5 more with problems", ""),
    ("silenced", facts(agent=replace(AGENT, devices=[row(), row(silence={"id": "1"})])), "states",
     OK, "2 online; 1 silenced, so they call nobody back: device-agent silence list", ""),
    ("batteries", facts(agent=replace(AGENT, devices=[row(battery=battery(9, 31.2)), row(),
     row(battery=battery(60, None))])), "batteries", OK,
     "2 known, the emptiest at 9 %, the warmest at 31 °C", ""),
    ("hot", facts(agent=replace(AGENT, devices=[row(battery=battery(60, 46.6, hot=True))])),
     "Galaxy", WARN, "its battery is too hot (R58M1 at 1-1): 47 °C", "swells"),
    ("hot, it says", facts(agent=replace(AGENT, devices=[row(battery=battery(60, None, hot=True))
     ])), "Galaxy", WARN, "its battery is too hot (R58M1 at 1-1): by its own word", "swells"),
    ("low", facts(agent=replace(AGENT, devices=[row(battery=battery(9, None, low=True))])),
     "Galaxy", WARN, "its battery is low (R58M1 at 1-1): 9 %", "another cable"),
    ("low, charging", facts(agent=replace(AGENT, devices=[row(battery=battery(9, None, low=True,
     charging=True))])), "Galaxy", WARN, "9 %, and is charged", "leave it alone"),
    ("low, not charging", facts(agent=replace(AGENT, devices=[row(battery=battery(9, None,
     low=True, charging=False))])), "Galaxy", WARN, "9 %, and is not charged", "another cable"),
    ("bad battery", facts(agent=replace(AGENT, devices=[row(battery=battery(60, None,
     health="dead"))])), "Galaxy", WARN, "its battery is bad (R58M1 at 1-1): dead", "replaced"),
    ("many hot", facts(agent=replace(AGENT, devices=[row(battery=battery(60, 50.0, hot=True))] * 25
     )), "batteries", OK, "25 known, the emptiest at 60 %, the warmest at 50 °C; 5 more concerns",
     ""),
    ("usage", facts(agent=status(usage=[{"source": "appium", "reason": "", "targets": [target()]
     }])), "appium", OK, "asks 1, sees 1 in use", ""),
    ("usage unknown", facts(agent=status(usage=[{"source": "appium", "reason": "", "targets": [
     target(state="unknown", reason="session discovery is off")]}])), "appium", WARN,
     "10.0.0.1:4723: session discovery is off", "docs/usage"),
    ("usage blind", facts(agent=status(usage=[{"source": "wda", "reason": "no usbmuxd",
     "targets": []}])), "wda", WARN, "no usbmuxd", "docs/usage"),

    ("webhook", facts(), "Board", OK,
     "board.example:443 reached in 20 ms, certificate until 2027-04", ""),
    ("plain webhook", facts(reach=(replace(REACH, tls=False, expires=0.0),)), "Board", OK,
     "reached in 20 ms", ""),
    ("unverified webhook", facts(reach=(replace(REACH, expires=0.0),)), "Board", OK, "ms, TLS", ""),
    ("proxied", facts(reach=(replace(REACH, proxy=True, expires=0.0, tls=False),)), "Board", OK,
     "a proxy: what is behind it was not tried", ""),
    ("expires soon", facts(reach=(replace(REACH, expires=NOW + 86400),)), "Board", WARN,
     "expires on 2027-01-16", "renew it"),
    ("unresolved", facts(reach=(replace(REACH, error="cannot resolve the host of x"),)), "Board",
     FAIL, "cannot resolve", "DNS"),
    ("refuses", facts(reach=(replace(REACH, error="x refuses connections"),)), "Board", FAIL,
     "refuses", "port"),
    ("slow webhook", facts(reach=(replace(REACH, error="no connection to x within 3 s"),)), "Board",
     FAIL, "within 3 s", "firewalls"),
    ("bad certificate", facts(reach=(replace(REACH, error="TLS with x failed: certificate has "
     "expired"),)), "Board", FAIL, "expired", "certificate"),
    ("metadata", facts(reach=(replace(REACH, error="x is a link-local address"),)), "Board", FAIL,
     "link-local", "allow_link_local"),
    ("paused", facts(agent=replace(AGENT, webhooks=[hook(paused=True, status="paused: HTTP 410")],
     metrics=waiting(7, 4000))), "Board", FAIL,
     "paused: HTTP 410; 7 callbacks wait, the oldest for 1 h", "gone"),
    ("failing", facts(agent=replace(AGENT, webhooks=[hook(failing_since="2027-01-15T07:00:00Z",
     last_error="HTTP 500")])), "Board", FAIL, "HTTP 500", "webhooks test Board"),
    ("backlog", facts(agent=replace(AGENT, metrics=waiting(7, 601))), "Board", WARN,
     "7 callbacks wait, the oldest for 10 min", "--state pending"),
    ("young backlog", facts(agent=replace(AGENT, metrics=waiting(7, 30))), "Board", OK,
     "7 callbacks wait, the oldest for 30 s", ""),
    ("disabled", facts(agent=replace(AGENT, webhooks=[hook(enabled=False)]), reach=()), "disabled",
     OK, "Board", ""),
    ("no webhooks", facts(agent=replace(AGENT, webhooks=[]), reach=(),
     config=replace(CONFIG, webhooks=0)), "webhooks", WARN, "nobody is called", "[[webhooks]]"),

    ("store", facts(), "store", OK, "/var/lib/device-agent, 80.0 KiB", ""),
    ("failing store", facts(agent=store_status(ok=False, error="cannot write", waiting=4)), "store",
     FAIL, "cannot write (4 changes wait", "make room"),
    ("lossy store", facts(agent=store_status(lost=4)), "store", FAIL, "4 changes were lost",
     "net change"),
    ("recovered", facts(agent=store_status(recovered_from="/x.corrupt")), "store", WARN,
     "/x.corrupt", "smartctl"),
    *((f"resting {state}", facts(agent=NO_AGENT, store=replace(STORE, state=state, detail="why")),
       "store", verdict, found, remedy) for state, verdict, found, remedy in (
        ("ok", OK, "whole", ""), ("absent", OK, "none yet", ""), ("slow", OK, "too large", ""),
        ("busy", WARN, "not asked", "--config"), ("corrupt", FAIL, "corrupt: why", "backup"),
        ("newer", FAIL, "newer agent: why", "that version"), ("unreadable", WARN, "why", "sudo"))),
    ("sqlite", facts(), "SQLite", OK, "3.51.3", ""),
    ("old sqlite", facts(store=replace(STORE, sqlite="3.40.1")), "SQLite", OK,
     "before 3.51.3 do not open", ""),
    ("disk", facts(), "disk", OK, "93.1 GiB of 186.3 GiB free below /var/lib/device-agent", ""),
    ("disk unknown", facts(store=replace(STORE, total=0, detail="hm")), "disk", WARN, "hm", "sudo"),
    ("read-only", facts(store=replace(STORE, read_only=True)), "disk", FAIL, "read-only", "dmesg"),
    ("not writable", facts(store=replace(STORE, usable=False)), "disk", FAIL,
     "user device-agent may not write", "install -d"),
    ("not ours to know", facts(agent=replace(NO_AGENT, there=True, denied=True),
     store=replace(STORE, usable=False)), "disk", OK, "free below", ""),
    ("full", facts(store=replace(STORE, free=10**6)), "disk", FAIL, "976.6 KiB of", "make room"),
    ("little", facts(store=replace(STORE, free=10**9)), "disk", WARN, "953.7 MiB of", "retention"),
    ("small and empty", facts(store=replace(STORE, total=40_000_000, free=36_000_000)), "disk", OK,
     "34.3 MiB of 38.1 MiB free", ""),
    ("small and full", facts(store=replace(STORE, total=40_000_000, free=1_900_000)), "disk", FAIL,
     "1.8 MiB of 38.1 MiB free", "make room"),
    ("small, a little", facts(store=replace(STORE, total=40_000_000, free=3_900_000)), "disk", WARN,
     "3.7 MiB of 38.1 MiB free", "retention"),
    ("few inodes", facts(store=replace(STORE, inodes_free=10)), "disk", WARN, "10 of 2000000",
     "df -i"),
    ("no inodes counted", facts(store=replace(STORE, inodes=0, inodes_free=0)), "disk", OK, "", ""),
    ("clock", facts(), "clock", OK, "synchronised, to 12 ms", ""),
    ("clock unknown", facts(host=replace(HOST, synchronised=None)), "clock", OK, "does not say",
     ""),
    ("clock free", facts(host=replace(HOST, synchronised=False)), "clock", WARN, "not synchronised",
     "set-ntp"),
    ("clock old", facts(host=replace(HOST, now=3600.0)), "clock", FAIL, "1970-01-01", "set-ntp"),

    ("no causes", facts(), "causes", OK, "no phones left at once in 24 h; no phone", ""),
    ("a lost hub", lost(cause()), "hub 1-4", WARN, "8 phones of rack1 lost",
     "power supply"),
    ("a lost controller", lost(cause("controller", "0000:00:14.0")), "controller 0000:00:14.0",
     WARN, "8 phones", "xhci"),
    ("a lost source", lost(cause("source", "adb")), "adb", WARN, "8 phones", "adb server"),
    ("a lost host", lost(cause("host", "rack9")), "host rack9", WARN, "8 phones", "its network"),
    ("one that is over", lost(cause(over=True)), "hub 1-4", OK, "; over", ""),
    ("one of long ago", lost(cause(age=90_000)), "causes", OK, "no phones left at once", ""),
    ("many causes", lost(*[cause()] * 12), "more", OK, "2 causes, 0 suspects", ""),
    ("a bad port", lost(suspects=[suspect()]), "port 1-4.2", WARN, "rack1: 12 interruptions",
     "change the cable"),
    ("a bad phone",
     lost(suspects=[suspect(kind="phone", udid="R1", name="Pixel", port="", who="Pixel")]),
     "Pixel", WARN, "12 interruptions", "change"),
    ("either",
     lost(suspects=[suspect(kind="phone_or_port", udid="R1", name="Pixel", who="Pixel at 1-4.2")]),
     "Pixel at 1-4.2", WARN, "12 interruptions", "change"),
]  # fmt: skip


def of(check: str, findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.check == check]


@pytest.mark.parametrize(
    ("these", "check", "verdict", "found", "remedy"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_a_verdict(these: Facts, check: str, verdict: Verdict, found: str, remedy: str) -> None:
    findings = judge(these)
    fitting = [each for each in of(check, findings) if found in each.found]
    assert [each.verdict for each in fitting] == [verdict], of(check, findings)
    assert remedy in fitting[0].remedy
    assert bool(fitting[0].remedy) == (verdict is not OK)


def test_where_all_is_well_all_is_ok() -> None:
    findings = judge(facts())
    assert [each for each in findings if each.verdict is not OK] == []
    assert worst(findings) is OK
    sections = list(dict.fromkeys(each.section for each in findings))
    assert sections == [
        "Agent", "Configuration", "USB", "Android", "iPhones", "Phones", "Causes", "Webhooks",
        "Store and host",
    ]  # fmt: skip


def test_every_verdict_has_its_exit_code_and_the_worst_counts() -> None:
    assert EXIT_CODES == {OK: 0, WARN: 1, FAIL: 2}
    some = [Finding("a", "b", verdict, "c") for verdict in (WARN, FAIL, OK)]
    assert worst(some) is FAIL
    assert worst(some[::2]) is WARN
    assert worst([]) is OK


def test_a_hub_is_not_asked_for_phones_of_its_own_nor_an_agent_for_a_fleet() -> None:
    checks = {each.check for each in judge(facts(config=replace(CONFIG, hub=True)))}
    assert "broker" in checks
    assert not checks & {"udevd", "adb server", "usbmuxd", "controller"}
    assert "broker" not in {each.check for each in judge(facts())}


@pytest.mark.parametrize("reason", [reason for reason, _ in REMEDIES])
def test_every_reason_has_a_remedy_of_its_own(reason: str) -> None:
    assert remedy_of(f"{reason}: and so on") == dict(REMEDIES)[reason]


def test_a_reason_nobody_thought_of_has_one_too() -> None:
    assert remedy_of("a goat ate it") == "replug it; else restart it"
    assert remedy_of("a goat ate it", "eaten") == "replug it; else restart it"
    assert remedy_of("adb was told to let go", "detached") == "`adb attach` takes it back"


@pytest.mark.parametrize(
    ("user", "mode", "owner", "group", "may"),
    [
        (USER, 0o660, 0, 46, True),
        (USER, 0o660, 0, 47, False),
        (USER, 0o640, 0, 46, False),
        (USER, 0o666, 0, 0, True),
        (USER, 0o066, 990, 46, False),  # the owner's own bits count, and no others
        (USER, 0o600, 990, 0, True),
        (ROOT, 0o000, 1, 1, True),
        (User("x", 5, frozenset()), 0o600, 6, 5, False),
    ],
)
def test_who_may_use_a_file(user: User, mode: int, owner: int, group: int, may: bool) -> None:
    assert user.may_use(mode, owner, group) is may


def test_numbers_of_metrics() -> None:
    text = '# TYPE a gauge\na 1.5\nab 2\nb{x="1",y="q\\"\\\\"} 3\nb{x="2"} NaN\nb{x="3"} 1e3 17\n'
    assert number(text, "a") == 1.5
    assert number(text, "b") == 3.0
    assert number(text, "b", y='q"\\') == 3.0
    assert number(text, "b", x="3") == 1000.0
    assert number(text, "b", x="4") is None
    assert number(text, "c") is None


def test_the_topology_is_a_tree() -> None:
    hub = device("1-4", None, serial="", product="Hub", endpoints=2)
    assert topology([device("usb1", None, serial="", product="xHCI"), hub, device("1-4.2")]) == (
        "controller 0000:00:14.0\n"
        "  usb1  hub  480 Mb/s  0 endpoints  xHCI\n"
        "    1-4  hub  480 Mb/s  2 endpoints  Hub\n"
        "      1-4.2  adb  480 Mb/s  0 endpoints  Galaxy  R58M1\n"
    )


def test_two_webhooks_are_told_apart_by_their_names() -> None:
    other = Reach("Other", "o:80", took=0.0)
    metrics = waiting(7, 601, "Other")
    findings = judge(facts(reach=(REACH, other), agent=replace(AGENT, metrics=metrics)))
    assert [each.verdict for each in of("Board", findings) + of("Other", findings)] == [OK, WARN]


def test_a_shut_node_is_told_with_the_path() -> None:
    node = Node("/dev/bus/usb/003/001", 0o600, 0, 0, "root")
    (found,) = of("permissions", judge(facts(usb=usb(device("3-1", node=node)))))
    assert "/dev/bus/usb/003/001" in found.found


def test_what_is_plugged_in_here_is_not_missed_at_another_hosts_usbmuxd() -> None:
    elsewhere = replace(USBMUX, address="rack-2:27015", local=False, listed=(), records=())
    assert not [each for each in judge(facts(usbmux=elsewhere)) if each.check == "listed"]

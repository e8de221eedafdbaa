"""From the plug to the callback: how long each layer takes."""

from __future__ import annotations

import re
import statistics
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.lab.lab import ONLINE, UNPLUGGED
from tests.lab.vm import BUILT

if TYPE_CHECKING:
    from tests.lab.lab import Lab

PHONES = 20
LAYERS = (
    ("kernel", "the first uevent: enumerated as far as the first descriptors"),
    ("udev", "udevd's rules have run, its listeners are told"),
    ("phone", "adb has opened it and shaken hands"),
    ("adb", "the adb server lists it as `device`"),
    ("derived", "the agent has made the transition"),
    ("committed", "it is on the disk: the first attempt begins"),
    ("received", "the receiver has read it"),
)
_EVENT = re.compile(
    r"^(KERNEL|UDEV) *\[([\d.]+)\] +add +(\S+) \(usb\)\n((?:\w+=.*\n)*)", re.MULTILINE
)


def test_times(lab: Lab) -> None:
    """What each layer took becomes a table, which `make lab` prints."""
    lab.fresh(unplugged="0s")
    run = "systemd-run --quiet --collect -p StandardOutput=file:/run/lab"
    lab.vm.sh(f"""
        {run}/udev --unit lab-udev udevadm monitor --kernel --udev --property \
            --subsystem-match=usb/usb_device
        {run}/adb --unit lab-adb python3 /opt/lab/tests/lab/guest/adb_watch.py
    """)
    lab.vm.until("grep -q 'KERNEL - ' /run/lab/udev")
    serials = [f"TIMES{number:03}" for number in range(1, PHONES + 1)]
    plugged: dict[str, dict[str, Any]] = {}
    for serial in serials:
        lab.plug("android", serial)
        lab.until_state(serial, "online")
        (plugged[serial],) = [
            row for row in lab.phones("list")["phones"] if row["serial"] == serial
        ]
        lab.unplug(serial)
        lab.until_state(serial, "unplugged")
    lab.expect({serial: [ONLINE, UNPLUGGED] for serial in serials})
    lab.vm.run("systemctl", "stop", "lab-udev", "lab-adb")

    udev, adb = lab.vm.text("/run/lab/udev"), lab.vm.text("/run/lab/adb")
    calls = {
        call["body"]["deviceUdid"]: call
        for call in lab.callbacks()
        if call["body"]["eventDescription"] == ONLINE
    }
    rows = [_times(lab, plugged[serial], calls[serial], udev, adb) for serial in serials]
    for row in rows:
        # Of clocks in whole milliseconds.
        assert 0 < row["kernel"] < row["udev"] < row["derived"] + 1, row
        assert row["adb"] < row["derived"] + 1 <= row["committed"] + 1 < row["received"] + 2, row
    table = _table(rows)
    (BUILT / "times.md").write_text(table)


def _times(
    lab: Lab, phone: dict[str, Any], call: dict[str, Any], udev: str, adb: str
) -> dict[str, float]:
    """Milliseconds from the plug to each layer, of one phone."""
    serial = phone["serial"]
    wall = call["wall"] - call["monotonic"]
    seen: dict[str, float] = {}
    events = _EVENT.findall(udev)
    (path,) = [
        path
        for who, _, path, properties in events
        if who == "UDEV" and f"ID_SERIAL_SHORT={serial}\n" in properties
    ]
    plugged = phone["times"]["plugged"] - wall
    for who, at, where, _ in events:
        # The port is used again and again: the first event after this plug.
        if where == path and float(at) > plugged:
            seen.setdefault(who.lower(), float(at))
    seen["phone"] = phone["times"]["answered"] - wall
    (seen["adb"],) = [
        float(line.split()[0]) for line in adb.splitlines() if line.endswith(f"{serial}\tdevice")
    ]
    seen["derived"] = _seconds(call["body"]["creationTime"]) - wall
    _, stored = lab.api("GET", f"/v1/deliveries/{call['headers']['webhook-id']}")
    seen["committed"] = _seconds(stored["delivery"]["tries"][0]["at"]) - wall
    seen["received"] = call["monotonic"]
    return {layer: (seen[layer] - plugged) * 1000 for layer, _ in LAYERS}


def _table(rows: list[dict[str, float]]) -> str:
    lines = [
        "| layer | ms since the layer before | ms since the plug | |",
        "|---|---:|---:|---|",
    ]
    before = dict.fromkeys(range(len(rows)), 0.0)
    for layer, what in LAYERS:
        step = statistics.median(row[layer] - before[index] for index, row in enumerate(rows))
        total = statistics.median(row[layer] for row in rows)
        lines.append(f"| {layer} | {step:.1f} | {total:.1f} | {what} |")
        before = {index: row[layer] for index, row in enumerate(rows)}
    return "\n".join(lines) + "\n"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

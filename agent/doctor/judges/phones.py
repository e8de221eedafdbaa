"""The phones, and the sources that say whether they are in use, as the agent has them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.model import DeviceState
from agent.reasons import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import Facts
    from agent.service.devices import DeviceRow

_PHONES = Section("Phones")
_USAGE = Section("Usage")
SHOWN = 20
"""Phones with a line of their own; `device-agent devices` shows all."""
REMEDIES = (
    ("lost with hub", "see the hub under Causes: its power supply, then its cable"),
    ("lost with controller", "see the controller under Causes, and dmesg"),
    ("lost with adb", "see adb server under Android"),
    ("lost with usbmuxd", "see usbmuxd under iPhones"),
    ("is lost", "its host is not heard: its power, its network, its agent (device-agent hosts)"),
    ("USB authorization", "usbguard list-devices --blocked, then usbguard allow-device"),
    ("comes back so", "restart it by its buttons; if it stays so, its firmware must be flashed"),
    ("ramdump", "restart it by its buttons"),
    ("download mode", "restart it by its buttons"),
    ("flash mode", "restart it by its buttons"),
    ("unauthorized", "unlock it and accept the USB debugging prompt (Always allow)"),
    ("authorizing", "unlock it and accept the USB debugging prompt (Always allow)"),
    ("USB debugging is off", "developer options: USB debugging on; or the cable only charges"),
    ("no permission", "see permissions under Android; then replug"),
    ("not seen by adb", "see adb server, permissions and other servers under Android; replug"),
    ("not seen by usbmuxd", "unlock it and replug; many at once: sudo systemctl restart usbmuxd"),
    ("attached over USB all the same", "sudo systemctl start usbmuxd; or install it"),
    ("not trusted", "unlock it and tap Trust"),
    ("managed", "allow pairing with computers in its MDM; then replug it and tap Trust"),
    ("not activated", "finish its set-up, with a network; then replug it"),
    ("Find My", "its owner unlocks it by the Apple account"),
    ("locked", "enter its passcode once"),
    ("lockdownd", "unlock it, replug; else restart it"),
    ("busy", "end what else uses it from a computer; else restart it"),
    ("unresponsive", "replug it; else restart it"),
    ("bootloader", "restart it: fastboot reboot, or by its buttons"),
    ("fastboot", "restart it: fastboot reboot, or by its buttons"),
    ("recovery", "restart it into its system: adb reboot, or by its buttons"),
    ("sideload", "end the update, then restart it"),
    ("DFU", "restore it with Finder or iTunes, or hold its buttons to restart it"),
    ("arriving", "wait: it was plugged in a moment ago"),
    ("udev does not see it", "see udevd under USB; is the server forwarded from another host?"),
    ("comes and goes", "change the cable, then the port, then the hub; see dmesg"),
    ("nothing tells the two apart", "give one of them another serial, or another adb server"),
    ("unreachable", "see adb server or usbmuxd above"),
    ("when last known", "its source is down: see the lines above"),
    ("refused", "unlock it, replug; else restart it"),
    ("offline", "replug it; another cable or port; else restart it"),
)
"""A word of the reason → what to do; the first that fits. Else the code of the reason says it."""


def judge_phones(facts: Facts) -> Iterator[Finding]:
    """Each phone that is plugged in and cannot be used, with its reason."""
    if not facts.agent.runs:
        return
    rows = facts.agent.devices
    bad = [row for row in rows if row["state"] == DeviceState.OFFLINE or row["flapping"]]
    counts = Counter(row["state"] for row in rows)
    told = ", ".join(f"{counts[state]} {state}" for state in DeviceState if counts[state])
    silenced = sum(row["silence"] is not None for row in rows)
    if silenced:
        told += f"; {silenced} silenced, so they call nobody back: device-agent silence list"
    if not bad:
        yield _PHONES.ok("states", told or "no phone was ever seen here")
        return
    for row in bad[:SHOWN]:
        yield _phone(row)
    more = f"; {len(bad) - SHOWN} more with problems" if len(bad) > SHOWN else ""
    yield _PHONES.ok("states", f"{told}{more}")


def _phone(row: DeviceRow) -> Finding:
    where = f" at {row['port']}" if row["port"] else ""
    name = row["name"] if row["name"] != row["udid"] else row["udid"]
    udid = f" ({row['udid']}{where})" if name != row["udid"] else where
    if row["flapping"]:
        return _PHONES.warn(
            name,
            f"{row['state']}, flapping{udid}: it comes and goes",
            "change the cable, then the port, then the hub; see dmesg",
        )
    reason = row["reason"] or "no reason known"
    remedy = remedy_of(reason, row.get("reason_code", ""))  # an older agent may run
    return _PHONES.warn(name, f"offline{udid}: {reason}", remedy)


def remedy_of(reason: str, code: str = "") -> str:
    """What to do about a phone that is offline for that reason."""
    for word, remedy in REMEDIES:
        if word.lower() in reason.lower():
            return remedy
    known = next((each.remedy for each in ReasonCode if each == code), "")
    return known.removesuffix(".") or "replug it; else restart it"


def judge_usage(facts: Facts) -> Iterator[Finding]:
    """Each source of usage that cannot say."""
    if not facts.agent.runs:
        return
    for source in facts.agent.status["usage"]:
        name, targets = source["source"], source["targets"]
        silent = [each for each in targets if each["state"] == "unknown"]
        if source["reason"]:
            yield _USAGE.warn(name, source["reason"], f"see docs/usage ({name})")
        for target in silent[:SHOWN]:
            yield _USAGE.warn(
                name,
                f"{target['target']}: {target['reason']}",
                f"until then its sessions are not seen; see docs/usage ({name})",
            )
        if not source["reason"] and not silent:
            used = sum(each["sessions"] for each in targets)
            yield _USAGE.ok(name, f"asks {len(targets)}, sees {used} in use")

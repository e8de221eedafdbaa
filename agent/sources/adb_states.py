"""What adb's words for a phone's state mean here, and what to say of each. Pure."""

from __future__ import annotations

from agent.model import Bridge
from agent.wire.adb_lists import AdbState, known_state

READINGS: dict[AdbState, tuple[Bridge, str]] = {
    AdbState.DEVICE: (Bridge.READY, ""),
    AdbState.OFFLINE: (
        Bridge.NOT_READY,
        "offline: attached, but it does not answer adb; if it stays so, replug or restart it",
    ),
    AdbState.UNAUTHORIZED: (
        Bridge.NOT_READY,
        "unauthorized: accept the USB debugging prompt on the phone",
    ),
    AdbState.AUTHORIZING: (
        Bridge.NOT_READY,
        "authorizing: adb offers its key; if it stays so, unlock the phone and accept the prompt",
    ),
    AdbState.CONNECTING: (Bridge.NOT_READY, "connecting: adb has just found it"),
    AdbState.RECOVERY: (Bridge.NOT_READY, "recovery: it is in recovery mode; reboot it"),
    AdbState.SIDELOAD: (
        Bridge.NOT_READY,
        "sideload: it waits for an update package; send one or reboot it",
    ),
    AdbState.RESCUE: (Bridge.NOT_READY, "rescue: it is in rescue mode; reboot it"),
    AdbState.BOOTLOADER: (
        Bridge.NOT_READY,
        "bootloader: it is in its boot loader; `fastboot reboot` starts it",
    ),
    AdbState.DETACHED: (
        Bridge.NOT_READY,
        "detached: adb was told to let go of it; `adb attach` takes it back",
    ),
    AdbState.HOST: (Bridge.NOT_READY, "host: an adb server answers there, not a phone"),
    AdbState.NO_PERMISSIONS: (
        Bridge.NOT_READY,
        "no permissions: the adb server's user may not open the USB device; add a udev rule",
    ),
}


def reading(state: str) -> tuple[Bridge, str]:
    """What adb's state word means here, and the operator's reason when it is not `device`."""
    known = known_state(state)
    if known is None:
        return Bridge.NOT_READY, f"adb calls its state {state[:100]!r}, which is not `device`"
    bridge, reason = READINGS[known]
    if state == known or bridge is Bridge.READY:
        return bridge, reason
    # adb's explanation says more: of permissions, the user and the group that is missing.
    return bridge, f"{reason} (adb: {state[:200]!r})"


def is_junk(serial: str) -> bool:
    """Does the serial say nothing, so that only the USB path tells such phones apart?"""
    return serial == "(no serial number)" or not serial.strip("?")

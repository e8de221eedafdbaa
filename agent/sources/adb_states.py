"""What adb's words for a phone's state mean here, and what to say of each. Pure."""

from __future__ import annotations

from agent.model import Bridge
from agent.reasons import Reason, ReasonCode
from agent.wire.adb_lists import AdbState, known_state


def _not_ready(text: str, code: ReasonCode) -> tuple[Bridge, Reason]:
    return Bridge.NOT_READY, Reason(text, code)


READINGS: dict[AdbState, tuple[Bridge, Reason]] = {
    AdbState.DEVICE: (Bridge.READY, Reason()),
    AdbState.OFFLINE: _not_ready(
        "offline: attached, but it does not answer adb; if it stays so, replug or restart it",
        ReasonCode.UNRESPONSIVE,
    ),
    AdbState.UNAUTHORIZED: _not_ready(
        "unauthorized: accept the USB debugging prompt on the phone", ReasonCode.UNAUTHORIZED
    ),
    AdbState.AUTHORIZING: _not_ready(
        "authorizing: adb offers its key; if it stays so, unlock the phone and accept the prompt",
        ReasonCode.AUTHORIZING,
    ),
    AdbState.CONNECTING: _not_ready("connecting: adb has just found it", ReasonCode.CONNECTING),
    AdbState.RECOVERY: _not_ready(
        "recovery: it is in recovery mode; reboot it", ReasonCode.RECOVERY
    ),
    AdbState.SIDELOAD: _not_ready(
        "sideload: it waits for an update package; send one or reboot it", ReasonCode.SIDELOAD
    ),
    AdbState.RESCUE: _not_ready("rescue: it is in rescue mode; reboot it", ReasonCode.RESCUE),
    AdbState.BOOTLOADER: _not_ready(
        "bootloader: it is in its boot loader; `fastboot reboot` starts it", ReasonCode.BOOTLOADER
    ),
    AdbState.DETACHED: _not_ready(
        "detached: adb was told to let go of it; `adb attach` takes it back", ReasonCode.DETACHED
    ),
    AdbState.HOST: _not_ready(
        "host: an adb server answers there, not a phone", ReasonCode.NOT_A_PHONE
    ),
    AdbState.NO_PERMISSIONS: _not_ready(
        "no permissions: the adb server's user may not open the USB device; add a udev rule",
        ReasonCode.NO_PERMISSIONS,
    ),
}


def reading(state: str) -> tuple[Bridge, Reason]:
    """What adb's state word means here, and the operator's reason when it is not `device`."""
    known = known_state(state)
    if known is None:
        unknown = f"adb calls its state {state[:100]!r}, which is not `device`"
        return _not_ready(unknown, ReasonCode.NOT_READY)
    bridge, reason = READINGS[known]
    if state == known or bridge is Bridge.READY:
        return bridge, reason
    # adb's explanation says more: of permissions, the user and the group that is missing.
    return bridge, Reason(f"{reason.text} (adb: {state[:200]!r})", reason.code)


def is_junk(serial: str) -> bool:
    """Does the serial say nothing, so that only the USB path tells such phones apart?"""
    return serial == "(no serial number)" or not serial.strip("?")

"""Why a device is in its state: a text for people, and a code for programs. Pure.

The text is free to change, in its words and in what it tells of one phone; the code never changes
its meaning. Of a text that says several things it is the code of the first. Programs are to take
any code that they do not know: a newer agent has more of them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple, Self

LONGEST: Final = 64
"""Characters of a code."""
_CODE: Final = re.compile(rf"[a-z0-9_]{{1,{LONGEST}}}")


class ReasonCode(StrEnum):
    """What each says, and what to do. The table of docs/reasons.md is made of this list."""

    meaning: str
    """One sentence or two, for operators."""

    def __new__(cls, code: str, meaning: str) -> Self:
        """A code, with its meaning."""
        made = str.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    @property
    def remedy(self) -> str:
        """What to do, as far as that is told."""
        return self.meaning.partition(": ")[2]

    # --- what the phone waits for ---------------------------------------------------------------
    UNAUTHORIZED = (
        "unauthorized",
        "The phone has not allowed this host's adb key: accept the USB debugging prompt on it.",
    )
    AUTHORIZING = (
        "authorizing",
        (
            "adb offers its key at this moment: if it stays so, unlock the phone and accept the "
            "prompt."
        ),
    )
    DEBUGGING_OFF = (
        "debugging_off",
        "USB debugging is off: turn it on in the phone's developer options.",
    )
    NOT_TRUSTED = (
        "not_trusted",
        (
            "The iPhone does not trust this host, or no longer: unlock it, plug it in anew and "
            "tap Trust."
        ),
    )
    LOCKED = ("locked", "The iPhone is locked since its start: enter its passcode once.")
    FIND_MY = (
        "find_my",
        (
            "Find My protects the iPhone (lost mode, activation lock): its owner unlocks it by "
            "the Apple account."
        ),
    )
    MANAGED = (
        "managed",
        "The iPhone's management keeps this host out: allow pairing with computers in its MDM.",
    )
    NOT_ACTIVATED = (
        "not_activated",
        "The iPhone's set-up is not finished: finish it, with a network.",
    )

    # --- the mode it is in ----------------------------------------------------------------------
    RECOVERY = ("recovery", "It is in recovery (or DFU) mode: restart it into its system.")
    SIDELOAD = ("sideload", "It waits for an update package: send one, or restart it.")
    RESCUE = ("rescue", "It is in rescue mode: restart it.")
    BOOTLOADER = ("bootloader", "It is in its boot loader (fastboot): `fastboot reboot` starts it.")
    EMERGENCY_MODE = (
        "emergency_mode",
        (
            "It is in an emergency mode of its maker or chip (EDL, preloader, download mode): "
            "restart it by its buttons; if it comes back so, flash its firmware."
        ),
    )

    # --- what this host does with it ------------------------------------------------------------
    NO_PERMISSIONS = (
        "no_permissions",
        "The adb server's user may not open the USB device: add a udev rule.",
    )
    BLOCKED = (
        "blocked",
        "USB authorization (USBGuard) keeps the phone out: allow it on this host.",
    )
    DETACHED = ("detached", "adb was told to let go of it: `adb attach` takes it back.")
    NOT_A_PHONE = ("not_a_phone", "An adb server answers at that address, no phone.")
    SOURCE_OFF = ("source_off", "adb or iPhones are turned off in the configuration.")
    IOS_SUPPORT_MISSING = (
        "ios_support_missing",
        "The agent was installed without iOS support, or that cannot be loaded: install it.",
    )

    # --- whether it answers ---------------------------------------------------------------------
    UNRESPONSIVE = (
        "unresponsive",
        "It is attached and does not answer as it should: replug it, else restart it.",
    )
    CHECKING = ("checking", "It has just appeared and has not answered yet: wait.")
    CONNECTING = ("connecting", "adb has just found it: wait.")
    BUSY = (
        "busy",
        (
            "The iPhone has too many services or sessions open: end what else uses it from a "
            "computer, or restart it."
        ),
    )
    REFUSED = (
        "refused",
        (
            "The iPhone's lockdownd refused what it was asked: unlock the phone and replug it, "
            "else restart it."
        ),
    )
    NOT_READY = (
        "not_ready",
        (
            "Its bridge lists it as not ready, in words of which this agent knows no more: see "
            "the reason."
        ),
    )

    # --- who sees it ----------------------------------------------------------------------------
    NOT_SEEN_BY_ADB = (
        "not_seen_by_adb",
        (
            "It is on USB and adb does not list it: check the device node's permissions, look for "
            "another adb server, replug it."
        ),
    )
    NOT_SEEN_BY_USBMUXD = (
        "not_seen_by_usbmuxd",
        (
            "It is on USB and usbmuxd does not list it: unlock and replug it; many at once: "
            "restart usbmuxd."
        ),
    )
    NOT_ON_USB = (
        "not_on_usb",
        (
            "Its bridge lists it and this host's udev does not see it: is the server forwarded "
            "from another host?"
        ),
    )
    LEFT_USB = (
        "left_usb",
        "It left this host's USB and its bridge lists it still: adb or usbmuxd is stalled.",
    )
    SOURCE_DOWN = (
        "source_down",
        "What would tell of it (adb, usbmuxd or udev) cannot be asked: see `device-agent doctor`.",
    )
    NEVER_SEEN = ("never_seen", "It is listed in the configuration and was never seen.")
    NAMELESS = (
        "nameless",
        (
            "Another phone has its serial, and adb names no USB port, so that nothing tells the "
            "two apart: give one of them another serial, or another adb server."
        ),
    )
    SHARED_SERIAL = (
        "shared_serial",
        "Another phone has its serial, too: each is called by its port.",
    )
    NO_SERIAL = ("no_serial", "It told no serial yet: it is shown by its address.")

    # --- what happens to it ---------------------------------------------------------------------
    ARRIVING = ("arriving", "It was plugged in, or its bridge came back, a moment ago: wait.")
    FLAPPING = ("flapping", "It comes and goes: change the cable, then the port, then the hub.")
    IN_USE = ("in_use", "A session or a lease uses it.")
    USAGE_UNKNOWN = (
        "usage_unknown",
        (
            "What would tell whether a session uses it cannot be asked; a use that was known goes "
            "on for a while."
        ),
    )

    # --- its battery ----------------------------------------------------------------------------
    BATTERY_HOT = (
        "battery_hot",
        (
            "Its battery is hot (`[battery] hot`): give it air or a smaller load; if its back "
            "swells, take it out of the rack at once."
        ),
    )
    BATTERY_LOW = (
        "battery_low",
        (
            "Its battery is low (`[battery] low`): see whether it is charged; else another cable, "
            "port or hub."
        ),
    )

    # --- what took several phones at once -------------------------------------------------------
    HUB_LOST = ("hub_lost", "The phones of one USB hub left at once: look at the hub's power.")
    CONTROLLER_LOST = (
        "controller_lost",
        "The phones of one USB controller left at once: see the kernel's log.",
    )
    SOURCE_LOST = (
        "source_lost",
        "The phones of adb or of usbmuxd left at once: look at that server.",
    )
    HOST_LOST = (
        "host_lost",
        (
            "At the hub: its host is not heard any more, so that nobody knows what it does: look "
            "at the host's power, network and agent."
        ),
    )
    HOST_SILENT = (
        "host_silent",
        "At the hub: its host is silent for a moment; this is what it told last.",
    )
    HOST_BEGAN_ANEW = (
        "host_began_anew",
        "At the hub: its host's agent began a new store, and knows the phone no more.",
    )
    MOVING = (
        "moving",
        "At the hub: it was unplugged from its host, and may turn up at another one.",
    )

    # --- no phone's -----------------------------------------------------------------------------
    SAMPLE = ("sample", "No phone's: it was sent by `device-agent webhooks test`.")


class Reason(NamedTuple):
    """Both; neither where there is none."""

    text: str = ""
    code: str = ""

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.text)

    def and_(self, more: Reason) -> Reason:
        """Both of them, where there are both; the code is the first one's."""
        if not self:
            return more
        return Reason(f"{self.text}; {more.text}", self.code) if more else self


def code_of(told: str) -> str:
    """A code that somebody else told; "" where it is none."""
    return told if _CODE.fullmatch(told) else ""

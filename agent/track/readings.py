"""What the sightings of one device come to: its presence and its bridge, and why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import BRIDGE_OF, Bridge, Platform, Presence, Readings, SourceName, UsbKind
from agent.reasons import Reason, ReasonCode
from agent.track.joining import MUTE_MODES
from agent.track.sightings import is_away

if TYPE_CHECKING:
    from agent.model import Sighting
    from agent.track.devices import Identity
    from agent.track.source_states import SourceStates


def readings_of(device: Identity, sources: SourceStates) -> Readings:
    """Presence and bridge as the sources stand now; its usage is not known here."""
    presence, presence_reason = _presence(device, sources)
    bridge, bridge_reason = _bridge(device, sources)
    return Readings(
        presence=presence,
        bridge=bridge,
        presence_reason=presence_reason.text,
        bridge_reason=bridge_reason.text,
        bridge_is_presence=_bridge_is_presence(device, sources),
        bridge_ruled_out=_ruled_out(device),
        bridge_name=_bridge_name(device),
        bridge_code=bridge_reason.code,
        presence_code=presence_reason.code,
    )


def is_hidden(device: Identity, sources: SourceStates) -> bool:
    """Whether only what is turned off knows of it, so that nothing can be said."""
    ways = device.facts.ways.split()
    return bool(ways) and sources.ways.isdisjoint(ways)


def _presence(device: Identity, sources: SourceStates) -> tuple[Presence, Reason]:
    if device.by_udev is not None:
        return Presence.PRESENT, _NONE
    if SourceName.UDEV not in sources.enabled or _expected_elsewhere(device, sources):
        return Presence.UNKNOWN, _NONE
    if SourceName.UDEV in sources.down:
        return Presence.UNKNOWN, sources.down[SourceName.UDEV]
    seen = device.by_bridge
    if _beyond_udev(device):
        return Presence.UNKNOWN, _unseen(device) if seen else _NONE
    if any(s.bridge is Bridge.UNKNOWN for s in seen) and not device.left_usb:
        return Presence.UNKNOWN, _NONE  # it is being asked: its answer will be proof
    return Presence.ABSENT, _unseen(device) if seen else _NONE


def _bridge_is_presence(device: Identity, sources: SourceStates) -> bool:
    """Whether what its bridge's list leaves out is unplugged, where udev cannot tell."""
    return (
        SourceName.UDEV not in sources.enabled
        or sources.udev_missing
        or _beyond_udev(device)
        or _expected_elsewhere(device, sources)
    )


def _expected_elsewhere(device: Identity, sources: SourceStates) -> bool:
    """Whether udev of this host cannot be expected to see the device."""
    platform = device.facts.platform
    far = device.off_usb or any(is_away(sighting) for sighting in device.ready)
    return far or (platform is not None and BRIDGE_OF[platform] in sources.remote)


def _beyond_udev(device: Identity) -> bool:
    """Whether udev's absence says nothing of it. Of twins an answer may have been the other's."""
    return device.beyond_udev and (not device.facts.shared_serial or bool(device.ready))


def _bridge(device: Identity, sources: SourceStates) -> tuple[Bridge, Reason]:
    platform = device.facts.platform
    if platform is None:
        return Bridge.ABSENT, Reason("never seen", ReasonCode.NEVER_SEEN)
    source = BRIDGE_OF[platform]
    if source not in sources.enabled:
        off = f"{source} is turned off in the configuration"
        return Bridge.UNKNOWN, Reason(off, ReasonCode.SOURCE_OFF)
    if source in sources.down:
        return Bridge.UNKNOWN, sources.down[source]
    # A mode that does not say who it is speaks to no bridge: what still lists it is an old list.
    seen = [] if _is_mute(device) else [s for s in device.by_bridge if s.source is source]
    stale = _is_stale(device, sources)
    if stale or any(s.bridge is Bridge.READY for s in seen):
        return (Bridge.UNKNOWN, _unseen(device)) if stale else (Bridge.READY, _NONE)
    if seen:
        # The cable's word before the network's: that is where the operator can help.
        worst = min(seen, key=lambda s: (s.network, s.address))
        return worst.bridge or Bridge.UNKNOWN, _told(worst)
    return Bridge.ABSENT, _not_seen(platform, device)


def _is_stale(device: Identity, sources: SourceStates) -> bool:
    """Whether all that lists it is an old list: it left USB, and udev is not there to say so."""
    if not device.left_usb or SourceName.UDEV not in sources.down:
        return False
    seen = device.by_bridge
    return bool(seen) and not any(is_away(s) or s.source in sources.remote for s in seen)


def _bridge_name(device: Identity) -> str:
    """As operators call it."""
    source = BRIDGE_OF[device.facts.platform or Platform.ANDROID]
    return _DAEMONS.get(source, source.value)


def _is_mute(device: Identity) -> bool:
    """Whether udev sees it in a mode that does not say who it is."""
    sighting = device.by_udev
    return sighting is not None and sighting.usb in MUTE_MODES


def _ruled_out(device: Identity) -> bool:
    """Whether udev says why no bridge can see the phone as it is now."""
    sighting = device.by_udev
    if sighting is None:
        return False
    return bool(sighting.reason) or sighting.usb not in {UsbKind.ADB, UsbKind.APPLE}


def _told(sighting: Sighting) -> Reason:
    """What a source says of it; a reason always has a code."""
    if not sighting.reason:
        return _NONE
    return Reason(sighting.reason, sighting.code or ReasonCode.NOT_READY)


def _unseen(device: Identity) -> Reason:
    """What to say of a phone that its bridge lists and udev does not see."""
    name, seen = _bridge_name(device), device.by_bridge
    if any(sighting.bridge is Bridge.READY for sighting in seen):
        if device.left_usb:
            return Reason(
                f"{name} still lists it, but it left this host's USB: is {name} stalled?",
                ReasonCode.LEFT_USB,
            )
        return Reason(
            f"it answers {name}, but this host's udev does not see it: is the {name} server "
            "forwarded from another host?",
            ReasonCode.NOT_ON_USB,
        )
    reason = next((s.reason for s in seen if s.reason), "not ready")
    return Reason(
        f"this host's udev does not see it, and {name} says: {reason}", ReasonCode.NOT_ON_USB
    )


def _not_seen(platform: Platform, device: Identity) -> Reason:
    """Why its bridge does not list the device."""
    sighting = device.by_udev
    usb = sighting.usb if sighting is not None else None
    if sighting is not None and sighting.reason:
        return _told(sighting)  # udev knows: blocked on this host, or in which emergency mode
    return (
        _NOT_SEEN.get((platform, usb))
        or _NOT_SEEN.get((platform, None))
        or Reason(f"not seen by {_bridge_name(device)}", ReasonCode.NOT_SEEN_BY_ADB)
    )


_DAEMONS = {SourceName.USBMUX: "usbmuxd"}
"""What operators call bridges that they do not know by the source's name."""
_NONE = Reason()
_DEBUGGING_OFF = Reason(
    "USB debugging is off: turn it on in the phone's developer options", ReasonCode.DEBUGGING_OFF
)
_NOT_SEEN: dict[tuple[Platform, UsbKind | None], Reason] = {
    (Platform.ANDROID, UsbKind.FASTBOOT): Reason(
        "in the bootloader (fastboot)", ReasonCode.BOOTLOADER
    ),
    (Platform.ANDROID, UsbKind.EMERGENCY): Reason(
        "in an emergency mode of its chip: restart the phone", ReasonCode.EMERGENCY_MODE
    ),
    (Platform.ANDROID, UsbKind.ADB): Reason(
        "not seen by adb although USB debugging is on: check the device node's permissions "
        "(udev rules), another adb server, or replug the phone",
        ReasonCode.NOT_SEEN_BY_ADB,
    ),
    (Platform.ANDROID, UsbKind.MTP): _DEBUGGING_OFF,
    (Platform.ANDROID, UsbKind.OTHER): _DEBUGGING_OFF,
    (Platform.IOS, UsbKind.APPLE_RECOVERY): Reason("in recovery or DFU mode", ReasonCode.RECOVERY),
    (Platform.IOS, None): Reason(
        "not seen by usbmuxd: unlock the phone and tap Trust; if it stays, unplug and replug it, "
        "or restart usbmuxd",
        ReasonCode.NOT_SEEN_BY_USBMUXD,
    ),
}
"""Why a platform's bridge does not list a phone, by what udev sees; None: whatever it sees."""

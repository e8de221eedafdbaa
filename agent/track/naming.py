"""Which device a group of sightings is, known or new, and under which UDID. Pure.

`joining` groups sightings by what they say alone; here is looked at who was there before, by
serial, by place and by address:

- A phone that is there keeps the one it has. A better spelling, or the serial that a phone tells
  late, changes it only as long as no transition of it counted (`Devices.take_renames`).
- A phone that comes gets its serial (`udid` says how serials compare); the one that it had before,
  where the store knows that serial.
- Once two phones of one serial were there at the same time, that serial is not trusted again,
  restarts included. The first keeps the plain serial, the second is `serial@path`; from then on
  each is known by the port that it hangs at (`places`), and a further port is a further phone. On
  the network the address stands for the port, and is the key.
- Without a serial it is `no-serial@path`, or its address.
- A mode whose serial is no UDID (Apple's recovery, EDL, download mode) is whoever was at that port
  last, unless that one is elsewhere, or had left before the agent started; else nobody.
- A USB device that is no phone by its descriptors makes no clash and takes no serial from a phone;
  it is a phone only in that phone's place, or, once that phone was seen, if nothing else can be
  meant.
- adb goes on listing phones that left. Such an old row is named last, and is nobody new. Two ports
  in its list are no two phones while udev knows that serial on this host's USB: udev says where
  they hang.

Bus numbers change at a reboot, so ports are remembered by their lasting path where udev tells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from agent.model import SourceName, UsbKind
from agent.track.devices import lasting_place
from agent.track.joining import MUTE_MODES, is_far
from agent.track.sightings import tells_serial
from agent.udid import canonical, digits, is_placeholder, may_be, serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.model import Sighting
    from agent.track.devices import Devices
    from agent.track.joining import Group, Key
    from agent.track.sightings import Sightings
    from agent.track.source_states import SourceStates

Rank: TypeAlias = "tuple[bool, bool, bool, bool, bool, Key]"


class Naming:
    """Names groups, one after the other; a name may make a serial shared, or a spelling better.

    Args:
        devices: who is known.
        sightings: what is seen; which port is which lasting path.
        sources: whether udev sees this host's ports.
    """

    def __init__(self, devices: Devices, sightings: Sightings, sources: SourceStates) -> None:
        self._devices = devices
        self._sightings = sightings
        self._sources = sources
        self._beside: set[str] = set()
        """Serials that a thing had beside a phone: elsewhere they say nothing of a thing."""
        self._newly_shared: set[str] = set()

    def take_shared(self) -> set[str]:
        """The devices whose serial turned out to be shared since the last call."""
        shared, self._newly_shared = self._newly_shared, set()
        return shared

    def rank(self, group: Group) -> Rank:
        """Who is named before whom: it takes the UDID that both might have."""
        known = self._devices.of_serial(group.serial) if group.serial else ()
        address = group.seen[0].sighting.address
        at_home = any(self._is_at(udid, group) for udid in known) or (
            group.far and any(self._devices[udid].facts.address == address for udid in known)
        )
        return (
            group.left,
            not group.serial,
            not group.phone,
            group.owner is None,
            not at_home,
            min(each.key for each in group.seen),
        )

    def rank_new(self, group: Group) -> Rank:
        """The same of a phone with a serial that nobody knows, on a cable, seen by nobody yet."""
        return False, False, False, True, True, min(each.key for each in group.seen)

    def name_new(self, group: Group) -> str:
        """The UDID of such a one."""
        return self._devices.unused(_spelled(group))

    def name(self, group: Group, taken: Collection[str], component: Collection[Key]) -> str | None:
        """The UDID of the phone that a group is; None: no phone, or nobody we can name.

        Args:
            group: what is seen of it.
            taken: the UDIDs of the groups that were named before it.
            component: all sightings that are decided on now; a device that others have is theirs.
        """

        def free(udid: str) -> bool:
            device = self._devices.get(udid)
            return (
                device is not None
                and udid not in taken
                and all(key in component for key in device.members)
                and not (group.left and device.by_udev is not None)
            )

        owners = dict.fromkeys(self._devices.owner.get(each.key, "") for each in group.seen)
        keeps = [udid for udid in owners if free(udid) and self._keeps(udid, group)]
        if keeps:
            return self._respell(max(keeps, key=lambda udid: self._devices[udid].told), group)
        if group.serial and not group.phone:
            return self._thing(group, free)
        if not group.serial:
            return self._without_serial(group, free)
        newcomer = self._newcomer(group, free)
        return None if newcomer is None else self._respell(newcomer, group)

    def _keeps(self, udid: str, group: Group) -> bool:
        """Whether a group that was that device until now is it still."""
        facts = self._devices[udid].facts
        sightings = [each.sighting for each in group.seen]
        if facts.platform and any(s.platform not in {None, facts.platform} for s in sightings):
            return False
        if not group.serial:
            alike = not (facts.serial and any(tells_serial(s) for s in sightings))
        elif facts.serial and not group.fits(facts.serial):
            alike = False  # another phone hangs there by now
        elif group.port and not facts.serial and self._devices.of_serial(group.serial):
            alike = False  # one that we know
        elif not facts.serial and self._devices[udid].left_usb:
            alike = False  # it left, and is in adb's list for a moment more
        else:
            makeshift = self._devices[udid].makeshift
            alike = not makeshift and (group.phone or self._is_at(udid, group))
        return alike and self._may_hang_at(udid, group)

    def _may_hang_at(self, udid: str, group: Group) -> bool:
        """Whether one that is known by its place is known by that one."""
        facts, path = self._devices[udid].facts, self._sightings.path(group.port)
        if not group.port or (facts.serial and not facts.shared_serial):
            return True
        if not path:
            return facts.port in {"", group.port}
        if not facts.path and not self._devices[udid].counted:
            return not udid.endswith(f"@{group.port}")  # named by a bus number, for want of better
        return facts.path in {"", path}

    def _newcomer(self, group: Group, free: Callable[[str], bool]) -> str | None:
        """Of a phone with a serial that was not there."""
        serial, address = group.serial, group.seen[0].sighting.address
        known = self._devices.of_serial(serial)
        here = [udid for udid in known if free(udid)]
        if group.far and address in here:
            return address
        if serial not in self._devices.shared:
            # One that was told by its address before it told its serial is that address's alone.
            plain = [udid for udid in known if self._devices[udid].facts.address != udid]
            if all(udid in here or not (group.far or udid in plain) for udid in known):
                mine = [udid for udid in here if udid in plain]
                if not mine:
                    return self._devices.unused(_spelled(group))
                return min(mine, key=lambda udid: not self._is_at(udid, group))
            if self._is_udevs(group):
                return None
            self._newly_shared.update(self._devices.share(serial))
        return self._twin(group, here)

    def _twin(self, group: Group, here: list[str]) -> str | None:
        """Which of several phones of one serial came: the one of that place, or a new one."""
        address = group.seen[0].sighting.address
        if group.far:
            mine = [udid for udid in here if self._devices[udid].facts.address == address]
            return mine[0] if mine else self._devices.unused(address)
        if group.port:
            return self._by_port_alone(group, here, _spelled(group))
        if here and not group.seen[0].numbered:
            # One of them, and which will be told with its port; where udev is not there, perhaps.
            return None if self._sources.watched else here[0]
        if group.displaced or self._is_udevs(group):
            return None  # what hangs where it is said to hang is no twin of it
        return self._devices.unused(address)

    def _thing(self, group: Group, free: Callable[[str], bool]) -> str | None:
        """Of a USB device that is no phone by its descriptors: a known one in an odd mode?"""
        known = self._devices.of_serial(group.serial)
        here = [udid for udid in known if free(udid)]
        if at := self._of_place(group, here, exact=True):
            return at
        if here != known:
            self._beside.add(group.serial)
        of_serial = self._sightings.with_serial(group.serial)
        alike = [key for key in of_serial if key[0] is SourceName.UDEV]
        if len(here) != 1 or here != known or group.serial in self._beside or len(alike) > 1:
            return None
        moved = bool(self._devices.ports.of(here[0]))
        sure = self._devices[here[0]].met and not is_placeholder(group.serial)
        return None if moved and not sure else here[0]

    def _without_serial(self, group: Group, free: Callable[[str], bool]) -> str | None:
        sighting = group.seen[0].sighting
        if sighting.usb in MUTE_MODES:
            return self._holder(group, sighting, free)
        if sighting.usb is UsbKind.OTHER:
            return None
        if group.port:
            nameless = [udid for udid in self._devices.of_serial("") if free(udid)]
            return self._by_port_alone(group, nameless, "no-serial")
        address = sighting.address
        before = self._devices.addresses.at(address) if group.far else []
        if before and free(before[0]):
            return before[0]
        if address in self._devices and free(address):
            return address
        return None if group.left else self._devices.unused(address)

    def _holder(self, group: Group, sighting: Sighting, free: Callable[[str], bool]) -> str | None:
        """Who was at that port last, if it may be that phone in a mode that does not say."""
        path = self._sightings.path(group.port)
        udid = self._devices.ports.last(lasting_place(path, group.port))
        if udid is None or not free(udid):
            return None
        platform = self._devices[udid].facts.platform
        if platform is None or sighting.platform not in {None, platform}:
            return None
        return udid if may_be(sighting.serial, udid) else None

    def _by_port_alone(self, group: Group, here: list[str], head: str) -> str | None:
        """Who hung at that port of these, or a new one; None: udev, which is late, will tell."""
        path = self._sightings.path(group.port)
        late = self._sources.watched and not path
        if late and any(self._devices[udid].facts.path for udid in here):
            return None
        if at := self._of_place(group, here):
            return at
        if self._is_udevs(group):
            return None
        return self._devices.unused(f"{head}@{path or group.port}")

    def _is_udevs(self, group: Group) -> bool:
        """Whether it is udev's to say if another phone of that serial hangs there.

        A phone that moves stays in adb's list where it hung, now and then for as long as adb runs:
        two ports there are no two phones while udev sees where phones of that serial are.
        """
        if group.left:
            return True
        placed = bool(group.serial) and (group.port or group.displaced)
        if not self._sources.watched or not placed or not group.lacks(SourceName.UDEV):
            return False
        known = (self._devices[udid] for udid in self._devices.of_serial(group.serial))
        return any(each.on_usb or each.left_usb for each in known)

    def _is_at(self, udid: str, group: Group) -> bool:
        return self._of_place(group, [udid], exact=True) is not None

    def _of_place(self, group: Group, udids: list[str], *, exact: bool = False) -> str | None:
        """Which of these devices was last where the group hangs; the newest of several."""
        if not group.port or not udids:
            return None
        path = self._sightings.path(group.port)
        for place in filter(None, (path, f"port {group.port}")):
            for udid in self._devices.ports.at(place):
                if udid in udids and (place == path or self._devices[udid].counted):
                    return udid
        # Where udev does not tell, or a store is from before it was asked, the kernel's name of the
        # port is all there is; but for its bus number, that one lasts. A name whose place udev has
        # shown under another one is from before a reboot.
        old = [
            facts
            for facts in (self._devices[udid].facts for udid in udids)
            if not (path and facts.path)
            and self._sightings.port_at(facts.path, group.port) == group.port
        ]
        same = [facts.udid for facts in old if facts.port == group.port]
        if same or exact:
            # Of two that had it one had it before a reboot: if one has left, it is that one.
            return max(same, key=lambda udid: self._devices[udid].told, default=None)
        alike = digits(group.port)
        same = [facts.udid for facts in old if not facts.path and digits(facts.port) == alike]
        return same[0] if len(same) == 1 else None

    def _respell(self, udid: str, group: Group) -> str:
        """As adb spells it, as long as nobody was told of another spelling."""
        device = self._devices.get(udid)
        if device is None or device.counted:
            return udid
        known = group.serial and serial_key(udid, None) == group.serial
        if not known or group.lacks(SourceName.ADB):
            return udid
        spelled = _spelled(group)
        if spelled == udid or spelled in self._devices:
            return udid
        self._devices.rename(udid, spelled)
        return spelled


def _spelled(group: Group) -> str:
    """The UDID that the serial of a group gives: adb's spelling before any other."""
    named = [each for each in group.seen if each.serial]
    best = min(named, key=lambda each: each.sighting.source is not SourceName.ADB)
    sighting = best.sighting
    if sighting.usb is UsbKind.APPLE_RECOVERY:
        return best.serial
    serial = sighting.usb_serial if is_far(sighting) else sighting.usb_serial or sighting.serial
    return canonical(serial, sighting.platform)

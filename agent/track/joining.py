"""Which sightings are of one phone, by what they say alone: port, serial, address. Pure.

`join` takes sightings that have a serial or a port in common and groups them. Who the phone of a
group is (its UDID, what was there before) is `identity`'s matter.

- What hangs at one port is one phone: udev's sighting, and adb's that names the same port with a
  serial that may be the same one.
- A sighting without a port joins the one phone of its serial. Where there are several it stays
  with the one it was joined to, or is the one that is missing; else nobody can say whose it is.
- A network phone joins the phone on USB with its `ro.serialno` only where no other has it.
- A USB device that is no phone by its descriptors is a group of its own, unless adb speaks for it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agent.model import Bridge, SourceName, UsbKind
from agent.udid import skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.model import Sighting

Key = tuple[SourceName, str]
"""Whose sighting it is, and the address that the source has it under."""

MUTE_MODES = frozenset({UsbKind.APPLE_RECOVERY, UsbKind.EMERGENCY})
"""What such a mode reports as its serial is no UDID."""


def is_far(sighting: Sighting) -> bool:
    """Whether adb reaches it over the network."""
    return sighting.network and sighting.source is SourceName.ADB


class Seen(NamedTuple):
    """A sighting, and what it is joined by."""

    key: Key
    sighting: Sighting
    serial: str
    """As `udid.serial_key` has it; "" where it does not say who the phone is."""
    port: str
    """On this host's USB; "" where it is not told, or is another host's."""
    owner: str | None
    """Whose it is by now, where that is decided."""
    left: bool = False
    """udev saw its phone leave, or leave that port: if it is still listed, that is an old list."""
    holds: bool = False
    """Its phone is the one that hung last at its port."""
    displaced: bool = False
    """udev sees somebody else where its source says that it hangs."""

    @property
    def far(self) -> bool:
        """Whether adb reaches it over the network."""
        return is_far(self.sighting)

    @property
    def numbered(self) -> bool:
        """Whether adb lists others of its serial, so that it goes by its transport id."""
        return self.sighting.address != self.sighting.serial

    @property
    def transport(self) -> int:
        """Its number in adb's list, where others have its serial; the newest has the highest."""
        if not self.numbered:
            return 0
        number = self.sighting.address.removeprefix(f"{self.sighting.serial}#")
        return int(number) if number.isdecimal() else 0

    @property
    def way(self) -> str:
        """How a network phone is reached: one phone may be listed once for each."""
        return self.sighting.serial.rpartition("._adb")[2] if "._adb" in self.key[1] else ""


@dataclass(slots=True)
class Group:
    """One phone, or one thing that may be one."""

    seen: list[Seen] = field(default_factory=list)
    port: str = ""
    """Where it hangs; "" where that is not sure."""

    @property
    def serial(self) -> str:
        """The first that is good, udev's before the others'."""
        for each in self.seen:
            if each.serial:
                return each.serial
        return ""

    @property
    def owner(self) -> str | None:
        """Whose it is by now, where that is decided."""
        for each in self.seen:
            if each.owner is not None:
                return each.owner
        return None

    @property
    def phone(self) -> bool:
        """Whether anything in it says that it is a phone, and which one."""
        return any(s.sighting.usb not in {UsbKind.OTHER, UsbKind.EMERGENCY} for s in self.seen)

    @property
    def far(self) -> bool:
        """Whether it is reached over the network alone."""
        return all(each.far for each in self.seen)

    @property
    def displaced(self) -> bool:
        """Whether somebody else hangs where it is said to hang."""
        return any(each.displaced for each in self.seen)

    @property
    def mute(self) -> bool:
        """Whether udev sees it in a mode that does not say who it is."""
        return any(each.sighting.usb in MUTE_MODES for each in self.seen)

    @property
    def left(self) -> bool:
        """Whether all there is of it are old lists of where it hung."""
        return all(each.left for each in self.seen) and self.lacks(SourceName.UDEV)

    def lacks(self, source: SourceName) -> bool:
        """Whether that source says nothing of it."""
        return all(each.sighting.source is not source for each in self.seen)

    def takes(self, row: Seen) -> bool:
        """Whether that row of adb may be of what udev sees at its port."""
        others = [each for each in self.seen if each.sighting.source is SourceName.ADB]
        if any(not each.serial or not row.serial for each in others):
            return False  # of two rows, one of them without a serial, one is old
        if len({each.sighting.platform for each in [*self.seen, row]} - {None}) > 1:
            return False  # adb lists no iPhone
        if not row.left:
            return self.fits(row.serial)
        # Its phone left: it has come back in a mode that tells no serial, or it is another one.
        if self.mute:
            return bool(row.serial) and row.holds and self.fits(row.serial)
        return bool(self.serial) == bool(row.serial) and self.fits(row.serial)

    def fits(self, serial: str) -> bool:
        """Whether what hangs at its port may have that serial."""
        mine = self.serial
        if not mine or not serial or mine == serial:
            return True
        bones = skeleton(mine), skeleton(serial)
        return not all(bones) or bones[0] == bones[1]


def join(
    sightings: Iterable[Seen],
    *,
    watched: bool,
    twins: Callable[[str], bool],
    shared: Callable[[str], bool],
) -> list[Group]:
    """Group them; a sighting of which nobody can say whose it is stands in no group.

    Args:
        sightings: in a lasting order, so that nothing hangs on which came first.
        watched: udev sees this host's ports, so a port that it does not name is doubtful.
        twins: whether two phones of that serial were there at the same time.
        shared: whether more than one device is known to have it.
    """
    groups, loose = _by_port(_newest(sightings), watched=watched, twins=twins)
    of_serial: defaultdict[str, list[Seen]] = defaultdict(list)
    for each in loose:
        of_serial[each.serial].append(each)
    groups += _nameless(of_serial.pop("", ()))
    there: defaultdict[str, list[Group]] = defaultdict(list)  # once, for a rack comes as a whole
    for group in groups:
        there[group.serial].append(group)
    for serial, mine in of_serial.items():
        phones = [g for g in there[serial] if g.phone]
        things = [g for g in there[serial] if not g.phone]
        before = len(phones)
        cable = [each for each in mine if not each.far]
        unseen = [each for each in cable if each.port or each.displaced]
        _join_unseen(unseen, phones, shared=twins(serial))
        plain = [each for each in cable if not each.port and not each.displaced]
        _join_plain(plain, phones, things)
        _join_far([each for each in mine if each.far], phones, shared=shared(serial))
        groups += phones[before:]
    return groups


def _newest(sightings: Iterable[Seen]) -> Iterator[Seen]:
    """Without adb's rows of phones that hang there again by now: at a port the newest speaks."""
    rows: dict[tuple[str, str], Seen] = {}
    for each in sightings:
        if each.sighting.source is not SourceName.ADB or not each.port:
            yield each
            continue
        place = each.port, each.serial
        known = rows.get(place)
        if known is None or each.transport > known.transport:
            rows[place] = each
    yield from rows.values()


def _by_port(
    sightings: Iterable[Seen], *, watched: bool, twins: Callable[[str], bool]
) -> tuple[list[Group], list[Seen]]:
    """What hangs at one port; and the sightings whose place that does not tell."""
    at: dict[str, Group] = {}
    rest: list[Seen] = []
    for each in sightings:
        if each.sighting.source is SourceName.UDEV and each.port:
            at.setdefault(each.port, Group(port=each.port)).seen.append(each)
        else:
            rest.append(each)
    loose: list[Seen] = []
    told = {each.serial for group in at.values() for each in group.seen}

    def is_told(serial: str) -> bool:
        """Whether udev tells of the one phone of that serial, and so of no mute one."""
        return bool(serial) and serial in told and not twins(serial)

    def doubt(each: Seen) -> tuple[bool, bool, bool]:
        """Who of several rows at a port is it: the one that is ready before one that is not."""
        return each.left, each.sighting.bridge is not Bridge.READY, not each.serial

    for each in sorted(rest, key=doubt):
        group = at.get(each.port) if each.port else None
        if each.port and group is None and not watched:
            at[each.port] = Group([each], each.port)
        elif group is None:
            loose.append(each)
        elif group.takes(each) and not (group.mute and is_told(each.serial)):
            group.seen.append(each)
        else:
            loose.append(each._replace(port="", displaced=True))
    return list(at.values()), loose


def _nameless(sightings: Iterable[Seen]) -> Iterator[Group]:
    """Without a serial each is for itself."""
    for each in sightings:
        yield Group([each], each.port)


def _join_unseen(rows: list[Seen], phones: list[Group], *, shared: bool) -> None:
    """Rows of adb at ports at which udev does not see it: adb was faster than udev, or is late."""
    if len(phones) == 1 and not shared:
        return  # where it hung before, or a second phone of that serial: udev will say which
    new: dict[str, Group] = {}
    for row in rows:
        new.setdefault(row.sighting.port, Group(port=row.port)).seen.append(row)
    phones += new.values()


def _join_plain(rows: list[Seen], phones: list[Group], things: list[Group]) -> None:
    """Sightings on a cable that do not say on which."""
    if not rows:
        return
    if not phones and len(things) == 1:
        things[0].seen.extend(rows)  # no phone by its descriptors, but its bridge lists it
        return
    if len(phones) == 1:
        phones[0].seen.extend(rows)
    elif not phones:
        phones.extend(_apart(rows))
    else:
        _share_out(rows, phones)


def _apart(rows: list[Seen]) -> list[Group]:
    """Rows of one serial that hang nowhere: adb's are a phone each, usbmux's are all one."""
    if any(row.sighting.source is not SourceName.ADB for row in rows):
        return [Group(rows)]
    numbered = [Group([row]) for row in rows if row.numbered]
    bare = [row for row in rows if not row.numbered]
    if not numbered:
        return [Group(bare)]
    # adb's source is about to give the bare row a number: it is one of the others.
    numbered[0].seen.extend(bare)
    return numbered


def _share_out(rows: list[Seen], phones: list[Group]) -> None:
    """Each to the phone it was joined to; the others to those that are missing, if it is clear."""
    left: list[Seen] = []
    for row in rows:
        home = next((g for g in phones if row.owner is not None and g.owner == row.owner), None)
        (left if home is None else home.seen).append(row)
    if not left:
        return
    lacking = [group for group in phones if group.lacks(left[0].sighting.source)]
    alike = len({(row.sighting.bridge, row.sighting.reason) for row in left}) == 1
    if len(left) == len(lacking) and (alike or len(left) == 1):
        for row, group in zip(left, lacking, strict=True):
            group.seen.append(row)


def _join_far(rows: list[Seen], phones: list[Group], *, shared: bool) -> None:
    """Phones on the network that have told their serial."""
    ways = [row.way for row in rows]
    several = shared or len(phones) > 1 or len(set(ways)) < len(ways)
    homes = list(phones)
    for row in rows:
        home = next((g for g in phones if row.owner is not None and g.owner == row.owner), None)
        if home is None and not several and homes:
            strangers = {row.owner, homes[0].owner} - {None}
            home = homes[0] if len(strangers) < 2 else None  # noqa: PLR2004 - two owners
        if home is None:
            home = Group()
            phones.append(home)
            homes.append(home)
        home.seen.append(row)

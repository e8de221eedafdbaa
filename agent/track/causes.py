"""What took several phones at once: a hub, a controller, a source. Pure: no clock, no I/O.

Theory of operation. A phone *leaves* when its readings begin to say that it is lost:

    it was                  and now                         it left       counted at
    on USB                  it is not                       its port      hubs, controller
    listed by its bridge    it is not, or does not answer   its bridge    these, and the source
    listed by its bridge    the bridge cannot be asked      its source    the source

A phone that says itself why it cannot be used (unauthorized, in recovery, its debugging turned off)
has not left: it speaks. Of a phone that hangs at no port of this host that is known (on the
network, at another host's server) only the source is known. Each place keeps who is there, and who
left within the last `WINDOW` seconds. Once those are at least `LEAST`, and at least `SHARE` of all
who were there, they are a *group*; whoever leaves while that is so joins it. All that holds for
windows that overlap is one group.

A group is only told of when a phone of it comes to count, which its hold decides, and nothing here
waits for. Of the groups that the phone is in the one explains it that has the most members beyond
those that stayed; of two that are alike the smallest place, but the source for phones that are
still on USB: what USB still sees is not lost with its hub. Then the group has its id, which all who
come to count later get, too; one that grows beyond its place (the controller after the first of its
hubs) keeps it. With holds shorter than `WINDOW` some may have counted before the group was one:
they go without.

Only what is dated is grouped. Who was lost while nobody looked (its source down, the process
stopped) for longer than `WINDOW` has left at an unknown time, and so in no group.

All is bounded by the phones and ports there are: a leaving that nobody waits for is forgotten with
its window. Each leaving takes the same time, however many there are.

A long file, for the numbers that make it so are kept by every step of the book.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model import Bridge, Presence
from agent.reasons import ReasonCode
from agent.track.cause import Cause, CauseKind
from agent.udid import hubs_above, root_hub

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model import Readings

WINDOW: Final = 2.0
"""Seconds within which phones leave at once."""
LEAST: Final = 3
"""Phones that have a cause together."""
SHARE: Final = (3, 5)
"""Of the phones below a place that must have left: 60 %. A fraction, so that it is exact."""
SETTLE: Final = 2.5
"""Seconds after a gap in which nobody looked; what is told then may have happened in the gap."""
MOST_PLACES: Final = 1_000
"""Above that, those at which nobody is are forgotten."""


class Stand(NamedTuple):
    """How a phone stands, as far as leaving goes."""

    there: bool | None
    """Whether it is there; None: nobody can tell now."""
    listed: bool
    """Its bridge has it, and it answers or says why it does not."""
    down: bool
    """Its bridge cannot be asked."""
    on_usb: bool
    """udev sees it."""


_UNANSWERED: Final = frozenset({Bridge.ABSENT, Bridge.UNKNOWN})
_SILENT: Final = frozenset({ReasonCode.UNRESPONSIVE, ReasonCode.LEFT_USB})
"""Its bridge lists it, and it does not answer."""


def stand_of(readings: Readings) -> Stand:
    """What these readings say of it."""
    presence, bridge = readings.presence, readings.bridge
    there: bool | None = presence is Presence.PRESENT
    if presence is Presence.UNKNOWN:
        known = readings.bridge_is_presence and bridge is not Bridge.UNKNOWN
        there = bridge is not Bridge.ABSENT if known else None
    return Stand(
        there,
        listed=readings.bridge_ruled_out
        or (bridge not in _UNANSWERED and readings.bridge_code not in _SILENT),
        down=bridge is Bridge.UNKNOWN,
        on_usb=presence is Presence.PRESENT,
    )


class Spot(NamedTuple):
    """Where a phone is."""

    port: str = ""
    """As the kernel names it; "": at none of this host that is known."""
    controller: str = ""
    """"": not told; its bus stands for it."""
    bridge: str = ""
    """What operators call the source that bridges to it."""


NOWHERE: Final = Spot()


def controller_at(spot: Spot) -> str:
    """The controller that it hangs on; "": at no port that is known."""
    return spot.controller or (root_hub(spot.port) if spot.port else "")


@dataclass(slots=True, eq=False)
class _Group:
    """Phones that left a place at once."""

    place: _Place
    members: dict[str, _Leaving] = field(default_factory=dict)
    """By UDID, each as it left last."""
    stayed: int = 0
    """Of those that were there."""
    told: str = ""
    """The cause's id; "": nobody was told of it yet."""

    @property
    def explains(self) -> int:
        """How well: those who left, less those who would have had to."""
        return len(self.members) - self.stayed


@dataclass(slots=True, eq=False)
class _Leaving:
    """One phone's."""

    udid: str
    at: float
    from_usb: bool
    on_usb: bool
    """Its bridge lost it, and USB saw it still."""
    groups: list[_Group] = field(default_factory=list)
    """One of each place at most."""
    told: str = ""
    """The id of the cause that the phone was told of."""

    def rename(self, new: str) -> None:
        """Its phone goes by another name."""
        for group in self.groups:
            if group.members.get(self.udid) is self:
                del group.members[self.udid]
                group.members[new] = self
        self.udid = new


@dataclass(slots=True, eq=False)
class _Place:
    """Who is there, and who left it just now."""

    kind: CauseKind
    name: str
    depth: int
    """Of the deepest hub the greatest."""
    now: set[str] = field(default_factory=set)
    window: deque[_Leaving] = field(default_factory=deque)
    gone: dict[str, int] = field(default_factory=dict)
    """How often each left, in the window."""
    outside: int = 0
    """Of those, how many are not back."""
    alone: list[_Leaving] = field(default_factory=list)
    """In the window, and in no group of this place."""
    group: _Group | None = None
    """The one that whoever is in the window is in, or was the last to be."""

    def come(self, udid: str) -> None:
        """It is there."""
        if udid not in self.now:
            self.now.add(udid)
            self.outside -= udid in self.gone

    def go(self, udid: str) -> None:
        """It is there no more."""
        if udid in self.now:
            self.now.remove(udid)
            self.outside += udid in self.gone

    def leave(self, leaving: _Leaving) -> None:
        """It left just now, and that may make a group."""
        self.forget(leaving.at)
        udid = leaving.udid
        self.window.append(leaving)
        self.alone.append(leaving)
        self.outside += udid not in self.gone and udid not in self.now
        self.gone[udid] = self.gone.get(udid, 0) + 1
        went, there = len(self.gone), len(self.now) + self.outside
        if went < LEAST or went * SHARE[1] < there * SHARE[0]:
            return
        # A group goes on while somebody in this window is in it already.
        if self.group is None or len(self.alone) == len(self.window):
            self.group = _Group(self)
        group = self.group
        group.stayed = there - went
        for each in self.alone:
            each.groups.append(group)
            group.members[each.udid] = each
        self.alone = []

    def forget(self, now: float) -> None:
        """Who left longer ago than the window."""
        while self.window and now - self.window[0].at > WINDOW:
            udid = self.window.popleft().udid
            self.gone[udid] -= 1
            if not self.gone[udid]:
                del self.gone[udid]
                self.outside -= udid not in self.now
        if self.alone and now - self.alone[0].at > WINDOW:
            self.alone = [each for each in self.alone if now - each.at <= WINDOW]
        if not self.window:
            self.group = None

    def rename(self, old: str, new: str) -> None:
        """A phone goes by another name."""
        for leaving in self.window:
            if leaving.udid == old:
                leaving.rename(new)
        if times := self.gone.pop(old, 0):
            self.outside -= old not in self.now
            self.outside += new not in self.gone and new not in self.now
            self.gone[new] = self.gone.get(new, 0) + times
        if old in self.now:
            self.go(old)
            self.come(new)


@dataclass(slots=True)
class _Phone:
    """One that is followed."""

    stand: Stand
    port: str
    """What the caller knew it by; only compared."""
    spot: Spot = NOWHERE
    """Where it is, or was when it was last there."""
    was_there: bool = False
    """When that was last known."""
    unsure_since: float | None = None
    """Since when nobody can tell whether it is there."""
    left: list[_Leaving] = field(default_factory=list)
    """Since it was last whole, and not come to count: at most one of each kind."""
    told: tuple[float, str] = (0.0, "")
    """When it left that was told of a cause last, and the cause's id."""

    def leave(self, udid: str, now: float, *, from_usb: bool) -> _Leaving:
        """It leaves. What its bridge lost, and was told of, USB may lose just after: one cause."""
        at, told = self.told
        told = told if now - at <= WINDOW else ""
        leaving = _Leaving(udid, now, from_usb, self.stand.on_usb, told=told)
        self.left = [each for each in self.left if each.from_usb is not from_usb]
        self.left.append(leaving)
        return leaving


class Causes:
    """The book. Told of each phone's readings as they change, in the order of time.

    Args:
        make_id: a new id, that nothing else has.
    """

    def __init__(self, make_id: Callable[[], str]) -> None:
        self._make_id = make_id
        self._phones: dict[str, _Phone] = {}
        self._places: dict[tuple[CauseKind, str], _Place] = {}
        self._most = MOST_PLACES
        self._dated_from = float("-inf")

    def look(
        self, udid: str, stand: Stand, port: str, now: float, spot: Callable[[], Spot]
    ) -> None:
        """How it stands now.

        Args:
            udid: the phone's.
            stand: by its readings.
            port: tells whether it may hang elsewhere than before.
            now: monotonic seconds that do not run backwards.
            spot: says where it is; asked only where something has changed.
        """
        phone = self._phones.get(udid)
        if phone is not None and phone.stand == stand and phone.port == port:
            return
        if len(self._places) > self._most:
            self._tidy(now)
        if phone is None:
            phone = self._phones[udid] = _Phone(Stand(None, False, False, False), port)
        before, phone.stand, phone.port = phone.stand, stand, port
        self._settle(udid, phone, before, now, spot)

    def gap(self, now: float) -> None:
        """Nobody looked for longer than the window, until now."""
        self._dated_from = now + SETTLE

    def cause_of(self, udid: str) -> Cause | None:
        """It is to count: what took it, and others with it; None where it is not lost, too."""
        phone = self._phones.get(udid)
        for leaving in reversed(phone.left) if phone is not None else ():
            assert phone is not None
            if (group := _best(leaving, phone)) is not None:
                return self._tell(leaving, group)
        return None

    def counted(self, udid: str) -> None:
        """It counts as lost: what took it is told, and explains nothing that it does next."""
        if (phone := self._phones.get(udid)) is not None:
            for leaving in phone.left:
                phone.told = leaving.at, leaving.told
            phone.left.clear()

    def rename(self, old: str, new: str) -> None:
        """A phone goes by another name."""
        if new in self._phones:
            self.forget(old)
        if (phone := self._phones.pop(old, None)) is not None:
            self._phones[new] = phone
            for leaving in phone.left:
                leaving.rename(new)
        for place in self._places.values():
            place.rename(old, new)

    def forget(self, udid: str) -> None:
        """It is followed no more. That it left, if it did just now, stays so."""
        phone = self._phones.pop(udid, None)
        if phone is not None:
            for place in self._all_of(phone.spot):
                place.go(udid)

    # --- inside -----------------------------------------------------------------------------

    def _settle(
        self, udid: str, phone: _Phone, before: Stand, now: float, spot: Callable[[], Spot]
    ) -> None:
        stand, was_there = phone.stand, phone.was_there
        dated = now >= self._dated_from
        if stand.there is None:
            if phone.unsure_since is None:
                phone.unsure_since = now
        else:
            if phone.unsure_since is not None and now - phone.unsure_since > WINDOW:
                dated = dated and stand.there  # whoever is gone went at some time or other
            phone.unsure_since, phone.was_there = None, stand.there
        if stand.there:
            self._hang(udid, phone, spot())
        if stand.there is not False and stand.listed:
            phone.left.clear()
        here = phone.was_there
        if was_there and not here:
            self._lose(udid, phone, now, dated=dated)
        elif here and before.listed and not stand.listed:
            self._drop(udid, phone, now, dated=dated)
        self._note(udid, phone)

    def _lose(self, udid: str, phone: _Phone, now: float, *, dated: bool) -> None:
        """It is not there any more."""
        self._note(udid, phone)
        if not dated:
            # What was its bridge's may have been told at its time, and holds for its hub all the
            # same; that a source was down says nothing of who went away meanwhile.
            phone.left = [each for each in phone.left if not each.from_usb and phone.spot.port]
            return
        leaving = phone.leave(udid, now, from_usb=True)
        for place in self._hubs(phone.spot) or self._source(phone.spot):
            place.leave(leaving)

    def _drop(self, udid: str, phone: _Phone, now: float, *, dated: bool) -> None:
        """Its bridge has it no more."""
        self._note(udid, phone)
        if not dated:
            return
        leaving = phone.leave(udid, now, from_usb=False)
        hubs = [] if phone.stand.down else self._hubs(phone.spot)
        for place in hubs + self._source(phone.spot):
            place.leave(leaving)

    def _hang(self, udid: str, phone: _Phone, spot: Spot) -> None:
        """It is there."""
        if spot != phone.spot:
            for place in self._all_of(phone.spot):
                place.go(udid)
            phone.spot = spot

    def _note(self, udid: str, phone: _Phone) -> None:
        """Who is where."""
        for place in self._hubs(phone.spot):
            (place.come if phone.was_there else place.go)(udid)
        for place in self._source(phone.spot):
            (place.come if phone.was_there and phone.stand.listed else place.go)(udid)

    def _hubs(self, spot: Spot) -> list[_Place]:
        """The places on USB, the deepest first."""
        if not spot.port:
            return []
        hubs = [
            self._place(CauseKind.HUB, hub, 1 + hub.count(".")) for hub in hubs_above(spot.port)
        ]
        return [*hubs, self._place(CauseKind.CONTROLLER, controller_at(spot), 0)]

    def _source(self, spot: Spot) -> list[_Place]:
        return [self._place(CauseKind.SOURCE, spot.bridge, -1)] if spot.bridge else []

    def _all_of(self, spot: Spot) -> list[_Place]:
        return self._hubs(spot) + self._source(spot)

    def _place(self, kind: CauseKind, name: str, depth: int) -> _Place:
        place = self._places.get((kind, name))
        if place is None:
            place = self._places[kind, name] = _Place(kind, name, depth)
        return place

    def _tidy(self, now: float) -> None:
        """Forget the places where nobody is, nor was just now."""
        for place in self._places.values():
            place.forget(now)
        self._places = {key: each for key, each in self._places.items() if each.now or each.window}
        self._most = max(MOST_PLACES, 2 * len(self._places))

    def _tell(self, leaving: _Leaving, group: _Group) -> Cause:
        if not group.told:
            # Some member may have been told of a smaller place, before this was a group.
            known = (each.told for each in group.members.values() if each.told)
            group.told = next(known, "") or self._make_id()
        leaving.told = group.told
        place = group.place
        return Cause(group.told, place.kind, place.name, len(group.members))


def _best(leaving: _Leaving, phone: _Phone) -> _Group | None:
    """The group that explains it."""

    def rank(group: _Group) -> tuple[int, bool, int]:
        is_source = group.place.kind is CauseKind.SOURCE
        return group.explains, is_source == leaving.on_usb, group.place.depth

    best = max(leaving.groups, key=rank, default=None)
    if best is not None and best.place.kind is CauseKind.SOURCE:
        # Who left its port since was not taken by adb or usbmuxd.
        left_port = phone.stand.there is False and phone.spot.port
        return None if left_port else best
    return best

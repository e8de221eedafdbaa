"""The devices as operators, the API and the usage sources see them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from agent.model import DeviceState, Platform, Readings, Usage, Visibility
from agent.reasons import Reason, ReasonCode
from agent.track.battery import words
from agent.track.derive import Track, is_here
from agent.track.roster import Tracked
from agent.track.silence_book import covered, last_told
from agent.usage.base import Phone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Battery, Sighting, Silence, SourceName
    from agent.track.hanging import Where
    from agent.track.identity import Identities
    from agent.track.roster import Roster
    from agent.track.silences import Silences

_NOTHING = Tracked()
NAMELESS = (
    "adb lists another phone of this serial and names no USB port: nothing tells the two apart, so "
    "its states are not told; give one of them another serial, or another adb server"
)
"""Why a phone is shown and its states are not derived."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device as operators see it."""

    udid: str
    name: str
    platform: Platform | None
    state: DeviceState
    reason: str
    since_ms: int
    holder: str
    port: str
    tags: tuple[str, ...]
    visibility: Visibility
    flapping: bool
    model: str
    silence: Silence | None
    """What keeps back its callbacks now."""
    told: DeviceState | None
    """The state that webhooks go by: the one before, where a silence kept something back."""
    host: str = ""
    """Of the agent that follows it; "": this host."""
    code: str = ""
    """The reason's; see `agent.reasons`."""
    cause: str = ""
    """What its last transition had in common with others'."""
    battery: Battery | None = None
    """None: it told none since it can be used."""


class Grounds(NamedTuple):
    """What a device's state stands on."""

    readings: Readings
    presence_ms: int
    """Since when it is read so, as far as this agent has watched; 0: not read yet."""
    bridge_ms: int
    usage_ms: int
    aliases: tuple[str, ...]
    """What else it is called."""
    sightings: tuple[Sighting, ...]
    """What each source sees of it now."""


class Census(NamedTuple):
    """The devices that are shown, now."""

    states: dict[tuple[Platform | None, DeviceState], int]
    flapping: int
    silenced: int

    @property
    def shown(self) -> int:
        """How many there are."""
        return sum(self.states.values())


class Views:
    """Looks at what is tracked; changes nothing.

    Args:
        roster: who is listed, shown and named.
        identities: who each device is, and what the sources say of it.
        silences: whose callbacks are kept back.
    """

    def __init__(self, roster: Roster, identities: Identities, silences: Silences) -> None:
        self._roster = roster
        self._silences = silences
        self._identities = identities
        self._devices = identities.devices

    def all(self) -> list[DeviceView]:
        """Every device that is shown: known to the sources or listed, and not ignored."""
        return [self._view(udid) for udid in self.udids()]

    def census(self) -> Census:
        """How many devices are shown in which state."""
        states: Counter[tuple[Platform | None, DeviceState]] = Counter()
        flapping = silenced = 0
        any_silence = self._silences.count
        for udid in self._devices.udids:
            if self._roster.shown(udid):
                tracked = self._roster.known(udid)
                track = tracked.track if tracked else _NOTHING.track
                state = self._shown_state(udid, track)
                states[self._devices[udid].facts.platform, state] += 1
                flapping += track.flapping
                if any_silence:
                    silenced += self._silences.of(self._roster.device(udid)) is not None
        return Census(states, flapping, silenced)

    def covered(self, silences: Sequence[Silence]) -> dict[str, int]:
        """How many devices that are shown each silence names, by its id."""
        shown = filter(self._roster.shown, self._devices.udids) if silences else ()
        return covered(silences, map(self._roster.device, shown))

    def one(self, udid: str) -> DeviceView | None:
        """One device by its exact UDID."""
        if udid not in self._devices or not self._roster.shown(udid):
            return None
        return self._view(udid)

    def called(self, name: str) -> list[str]:
        """The UDIDs of devices that are shown and have that name, whatever the case; sorted."""
        device, name = self._roster.device, name.casefold()
        return [udid for udid in self.udids() if device(udid).name.casefold() == name]

    def battery(self, udid: str) -> Battery | None:
        """Of a device that is shown; None: not known."""
        tracked = self._roster.known(udid)
        if tracked is None or tracked.battery is None or udid not in self._devices:
            return None
        return _read_at(tracked) if self._roster.shown(udid) else None

    def phones(self) -> tuple[Phone, ...]:
        """The devices that are not unplugged, as the usage sources ask for them."""
        found = []
        for udid in self._devices.udids:
            platform = self._devices[udid].facts.platform
            here = is_here(self._identities.readings(udid))
            if platform is not None and here and self._roster.derives(udid):
                found.append(Phone(udid, platform, self._devices[udid].reached))
        return tuple(found)

    def readings(self, udid: str) -> Readings:
        """What all sources together say now of one device that is known."""
        tracked = self._roster.known(udid) or _NOTHING
        readings = self._identities.readings(udid).used(tracked.usage)
        concern = words(tracked.battery)
        if not concern:
            return readings
        return replace(readings, battery=concern.text, battery_code=concern.code)

    def grounds(self, udid: str) -> Grounds:
        """What the state of a device that is known stands on."""
        tracked = self._roster.known(udid) or _NOTHING
        members = self._devices[udid].members.values()
        return Grounds(
            self.readings(udid),
            tracked.presence_ms,
            tracked.bridge_ms,
            tracked.usage.since_ms,
            self._devices.aliases(udid),
            tuple(sorted(members, key=lambda each: (each.source, each.address))),
        )

    def seen(self, udid: str) -> tuple[Sighting, ...]:
        """What each source sees now of one device that is known."""
        return tuple(self._devices[udid].members.values())

    def udids(self) -> list[str]:
        """Of every device that is shown, sorted."""
        return [udid for udid in sorted(self._devices.udids) if self._roster.shown(udid)]

    def where(self, udid: str) -> Where:
        """At which USB port of this host a device hangs, or hung last."""
        return self._identities.where(udid)

    def owner(self, source: SourceName, address: str) -> str:
        """Whose that sighting is; "": nobody's who is shown."""
        udid = self._devices.owner.get((source, address), "")
        return udid if udid and self._roster.shown(udid) else ""

    def _view(self, udid: str) -> DeviceView:
        facts = self._devices[udid].facts
        device = self._roster.device(udid)
        tracked = self._roster.known(udid) or _NOTHING
        track = tracked.track
        reason, holder = Reason(track.reason, track.code), track.holder
        if track.state is None:
            reason = reason or Reason("just appeared: not counted yet", ReasonCode.ARRIVING)
            if facts.platform is None:
                reason = Reason("never seen", ReasonCode.NEVER_SEEN)
            elif self._devices[udid].nameless:
                reason = Reason(f"{NAMELESS} (serial {facts.serial})", ReasonCode.NAMELESS)
        if track.state is not DeviceState.UTILIZING and tracked.usage.usage is Usage.IN_USE:
            # Not a state of its own, but whoever asks for the phone is refused with that name.
            holder = tracked.usage.holder
            reason = reason.and_(Reason(f"held by {holder}", ReasonCode.IN_USE))
        if facts.shared_serial:
            reason = reason.and_(
                Reason("its serial is shared by another phone", ReasonCode.SHARED_SERIAL)
            )
        if facts.address == udid and not facts.serial:
            unnamed = "shown by its address: it told no serial yet"
            reason = reason.and_(Reason(unnamed, ReasonCode.NO_SERIAL))
        return DeviceView(
            udid,
            device.name,
            facts.platform,
            self._shown_state(udid, track),
            reason.text,
            tracked.since_ms,
            holder,
            facts.port,
            device.tags,
            device.visibility,
            track.flapping,
            facts.model,
            self._silences.of(device),
            last_told(tracked.owed.debt, track.state),
            code=reason.code,
            cause=tracked.cause,
            battery=_read_at(tracked),
        )

    def _shown_state(self, udid: str, track: Track) -> DeviceState:
        there = track.there or self._devices[udid].nameless
        unseen = DeviceState.OFFLINE if there else DeviceState.UNPLUGGED
        return track.state or track.candidate or unseen


def _read_at(tracked: Tracked) -> Battery | None:
    battery = tracked.battery
    return None if battery is None else replace(battery, at_ms=tracked.battery_ms)

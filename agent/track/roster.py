"""Which devices there are: who is listed, shown and followed, and what each is called."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import (
    Device,
    DeviceRecord,
    DeviceState,
    Platform,
    UsageReading,
    Visibility,
)
from agent.track.derive import Track
from agent.track.waits import NOTHING, Owed
from agent.udid import alike

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.clock import Clock
    from agent.config import Config, DeviceEntry
    from agent.model import Battery, Bridge, Presence, Readings
    from agent.track.identity import Identities


_AWAY = frozenset({DeviceState.OFFLINE, DeviceState.UNPLUGGED})


@dataclass(slots=True)
class Tracked:
    """What is remembered of one device between two looks."""

    track: Track = field(default_factory=Track)
    usage: UsageReading = field(default_factory=UsageReading)
    since_ms: int = 0
    stored: DeviceRecord | None = None
    ask_at: float | None = None
    """From when on the sources must have been asked before its candidate counts."""
    due_since: float | None = None
    """Since when its candidate would count, and waits for their answers."""
    owed: Owed = NOTHING
    """What webhooks are still to be told of it: after a silence, or after they have waited."""
    presence: tuple[Presence, str] | None = None
    """As it was last read, with its reason; None: not since the start."""
    presence_ms: int = 0
    """Since when it is read so."""
    bridge: tuple[Bridge, str] | None = None
    """Likewise."""
    bridge_ms: int = 0
    battery: Battery | None = None
    """As it is shown; None: it told none since it can be used."""
    battery_ms: int = 0
    """When it was read last: the time alone makes no other battery of it."""

    @property
    def cause(self) -> str:
        """What its last transition had in common with others'; "": it was alone."""
        return "" if self.track.cause is None else self.track.cause.id

    def read(self, readings: Readings, clock: Clock) -> None:
        """Note since when it is read as it is: shown to people, decides nothing."""
        presence = readings.presence, readings.presence_reason
        if presence != self.presence:
            self.presence, self.presence_ms = presence, clock.wall_ms()
        bridge = readings.bridge, readings.bridge_reason
        if bridge != self.bridge:
            self.bridge, self.bridge_ms = bridge, clock.wall_ms()


class Roster:
    """The devices by what the file and the sources say of them.

    Args:
        config: the one in force.
        platforms: those that are on.
        identities: who each device is.
    """

    def __init__(
        self, config: Config, platforms: frozenset[Platform], identities: Identities
    ) -> None:
        self._config = config
        self._platforms = platforms
        self._identities = identities
        self._devices = identities.devices
        self._tracked: dict[str, Tracked] = {}
        self._names: Names | None = None

    # --- what is remembered ----------------------------------------------------------------

    def tracked(self, udid: str) -> Tracked:
        """What is remembered of the device, from now on."""
        tracked = self._tracked.get(udid)
        if tracked is None:
            tracked = self._tracked[udid] = Tracked()
        return tracked

    def known(self, udid: str) -> Tracked | None:
        """The same, where anything is."""
        return self._tracked.get(udid)

    def is_away(self, udid: str) -> bool:
        """Whether it counts as unplugged or offline."""
        tracked = self._tracked.get(udid)
        return tracked is not None and tracked.track.state in _AWAY

    def put(self, udid: str, tracked: Tracked) -> None:
        """Remember that."""
        self._tracked[udid] = tracked

    def forget(self, udid: str) -> Tracked | None:
        """Remember nothing of it any more; what was."""
        return self._tracked.pop(udid, None)

    def all_tracked(self) -> Iterable[Tracked]:
        """Of every device of which anything is remembered."""
        return self._tracked.values()

    def shift_stays(self, ms: int) -> list[str]:
        """The wall clock was set: those whose stay is stored for webhooks that wait."""
        found = []
        for udid, tracked in self._tracked.items():
            if tracked.owed.by or tracked.owed.debt:
                tracked.owed = tracked.owed._replace(since_ms=tracked.owed.since_ms + ms)
                found.append(udid)
        return found

    # --- who is on it ----------------------------------------------------------------------

    def reconfigure(self, config: Config, platforms: frozenset[Platform]) -> None:
        """Take a new configuration."""
        self._config = config
        self._platforms = platforms
        self.renamed()

    def know_listed(self) -> set[str]:
        """Know the devices that the file lists, too; those that are no more known."""
        ended = self._devices.know_listed(entry.udid for entry in self._config.devices)
        for udid in ended:
            tracked = self._tracked.pop(udid, None)
            if tracked is not None and tracked.usage != UsageReading():
                self._tracked[udid] = Tracked(usage=tracked.usage)  # told once, and it may yet come
        self.renamed()
        return ended

    def renamed(self) -> None:
        """What devices are called may have changed."""
        self._names = None

    def udids(self) -> list[str]:
        """Of every device that is known, whether it is shown or not."""
        return sorted(self._devices.udids)

    def find(self, name: str) -> str | None:
        """The UDID of the device that some tool calls so: its UDID, or its address.

        Letter case and dashes do not matter. None: no device of ours, or more than one.
        """
        found = self.named(name)
        if len(found) > 1:  # of twins the one that is there: adb, too, takes it for the one meant
            found = tuple(udid for udid in found if self._devices[udid].seen)
        return found[0] if len(found) == 1 else None

    def named(self, name: str) -> tuple[str, ...]:
        """The UDIDs of the devices that a name means: its very spelling, else whatever the case.

        The serial of twins means both.
        """
        if self._names is None:
            self._names = Names(
                (udid, {udid, *self._devices.aliases(udid), self._devices[udid].reached})
                for udid in self._devices.udids
            )
        return self._names.find(name)

    def derives(self, udid: str) -> bool:
        """Whether states are derived for that device: seen, named, enabled, and not ignored."""
        if udid not in self._devices or self._devices[udid].nameless:
            return False
        facts = self._devices[udid].facts
        return facts.platform in self._platforms and self.shown(udid)

    def shown(self, udid: str) -> bool:
        """Whether anybody is to see it: not ignored, and what could tell of it is on."""
        return not self._is_off(udid) and self.visibility(udid) is not Visibility.IGNORE

    def _is_off(self, udid: str) -> bool:
        """Whether what could tell of it is turned off: its state is kept, and nobody's business."""
        platform = self._devices[udid].facts.platform
        if platform is not None and platform not in self._platforms:
            return True
        tracked = self._tracked.get(udid)
        state = tracked.track.state if tracked is not None else None
        return state not in {None, DeviceState.UNPLUGGED} and self._identities.is_hidden(udid)

    def entry(self, udid: str) -> DeviceEntry | None:
        """What the file says of the device: of its UDID, else of its address or serial."""
        return self._said_of(udid, self._devices.aliases(udid)) if self._config.devices else None

    def _said_of(self, udid: str, aliases: Iterable[str]) -> DeviceEntry | None:
        if not self._config.devices:
            return None
        names = (udid, *aliases)
        return next((entry for name in names if (entry := self._config.device(name))), None)

    def visibility(self, udid: str) -> Visibility:
        """Who learns of it, by the file."""
        return self._visibility_by(self.entry(udid))

    def _visibility_by(self, entry: DeviceEntry | None) -> Visibility:
        if entry is not None:
            # Listing a phone is a wish to see it, even where unlisted ones are left out.
            if entry.visibility is not None:
                return entry.visibility
            if self._config.discovery.visibility is Visibility.IGNORE:
                return Visibility.PRIVATE
        return self._config.discovery.visibility

    def device(self, udid: str) -> Device:
        """The device as callbacks tell of it, with what the file says of it."""
        facts, aliases = self._devices[udid].facts, self._devices.aliases(udid)
        entry = self._said_of(udid, aliases)
        own = facts.name or facts.model
        return Device(
            udid,
            facts.platform or Platform.ANDROID,
            name=(entry.name if entry else "") or own or udid,
            model=facts.model,
            port=facts.port,
            tags=entry.tags if entry else (),
            visibility=self._visibility_by(entry),
            aliases=aliases,
        )


class Names:
    """Which devices a name means."""

    def __init__(self, devices: Iterable[tuple[str, set[str]]]) -> None:
        self._exact: defaultdict[str, list[str]] = defaultdict(list)
        for udid, names in devices:
            for name in names - {""}:
                self._exact[name].append(udid)
        self._folded: dict[str, set[str]] | None = None

    def find(self, name: str) -> tuple[str, ...]:
        """The very spelling goes before a likeness."""
        exact = self._exact.get(name.strip())
        return tuple(exact) if exact else tuple(sorted(self._alike.get(alike(name), ())))

    @property
    def _alike(self) -> dict[str, set[str]]:
        """Made only when it is asked for: it takes its time."""
        if self._folded is None:
            self._folded = {}
            for name, udids in self._exact.items():
                self._folded.setdefault(alike(name), set()).update(udids)
        return self._folded

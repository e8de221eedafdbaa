"""The fleet's phones as operators and the API see them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from agent.fleet.hub.hosts import Presence
from agent.model import (
    Battery,
    BatteryHealth,
    DeviceState,
    Readings,
    Silence,
    SilenceKind,
    Usage,
    Visibility,
)
from agent.reasons import Reason, ReasonCode
from agent.track.hanging import Where
from agent.track.silence_book import covered, last_told
from agent.track.views import Census, DeviceView, Grounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.fleet.hub.board import Board
    from agent.fleet.hub.commits import FleetCommits
    from agent.fleet.hub.roster import FleetRoster
    from agent.fleet.hub.stored import Told
    from agent.model import Platform, SourceName
    from agent.usage.base import Phone


_HEALTHS = frozenset(BatteryHealth)


class _Kind(NamedTuple):
    """What devices are counted by."""

    host: str
    platform: Platform
    state: DeviceState
    flapping: bool


class FleetViews:
    """Looks at the board and what is stored; changes nothing. See `track.tracker.TrackedViews`."""

    def __init__(self, board: Board, commits: FleetCommits, roster: FleetRoster) -> None:
        self._board = board
        self._commits = commits
        self._entries = commits.entries
        self._roster = roster
        self._counted: dict[str, _Kind] = {}
        """As what each device that is shown is in `_counts`: 10,000 of them take long to count."""
        self._counts: Counter[_Kind] = Counter()
        self._called: dict[str, str] = {}
        """The name of each of them, for who asks by it, whatever the case."""
        self._quiet: set[str] = set()
        """Of them, those that are silenced, or were."""
        self._uncounted = set(self._entries)

    def all(self) -> list[DeviceView]:
        """Every device that is shown; by UDID."""
        return [view for udid in self._roster.udids() if (view := self.one(udid)) is not None]

    def changed(self, udid: str) -> None:
        """It is to be counted anew."""
        self._uncounted.add(udid)

    def census(self) -> Census:
        """How many devices are shown in which state."""
        self._count()
        states: Counter[tuple[Platform | None, DeviceState]] = Counter()
        flapping = 0
        for each, count in self._counts.items():
            states[each.platform, each.state] += count
            flapping += count if each.flapping else 0
        words = map(self._board.of, self._quiet)
        silenced = sum(word is not None and self._commits.is_silenced(word) for word in words)
        return Census({key: count for key, count in states.items() if count}, flapping, silenced)

    def by_host(self) -> dict[tuple[str, DeviceState], int]:
        """How many devices each host has in which state, of those that are shown."""
        self._count()
        found: Counter[tuple[str, DeviceState]] = Counter()
        for each, count in self._counts.items():
            found[each.host, each.state] += count
        return dict(found)

    def covered(self, silences: Sequence[Silence]) -> dict[str, int]:
        """How many devices that are shown each silence names, by its id."""
        shown = filter(self._roster.shown, self._entries) if silences else ()
        return covered(silences, map(self._roster.device, shown))

    def one(self, udid: str) -> DeviceView | None:
        """One device by its exact UDID; None: none that is shown."""
        entry, word = self._entries.get(udid), self._board.of(udid)
        if entry is None or word is None:
            return None
        device = self._roster.device(udid)
        if device.visibility is Visibility.IGNORE:
            return None
        record = entry.record
        reason = self._reason(Reason(record.reason, record.code), record.host, udid)
        return DeviceView(
            udid,
            device.name,
            record.platform,
            record.state,
            reason.text,
            record.since_ms,
            record.holder,
            record.port,
            device.tags,
            device.visibility,
            entry.flapping,
            record.model,
            self._silence(udid, word),
            last_told(entry.owed.debt, record.state),
            record.host,
            reason.code,
            record.cause,
            battery=self._battery(record.host, word),
        )

    def called(self, name: str) -> list[str]:
        """The UDIDs of devices that are shown and have that name, whatever the case; sorted."""
        self._count()
        name = name.casefold()
        return sorted(udid for udid, called in self._called.items() if called == name)

    def battery(self, udid: str) -> Battery | None:
        """Of a device that is shown; None: not known."""
        entry, word = self._entries.get(udid), self._board.of(udid)
        if entry is None or word is None or not self._roster.shown(udid):
            return None
        return self._battery(entry.record.host, word)

    def phones(self) -> tuple[Phone, ...]:
        """None: who uses a phone, its host asks."""
        return ()

    def readings(self, udid: str) -> Readings:
        """None of the hub's own: it goes by the host's word."""
        record = self._entries[udid].record
        told = f"told by the agent of {record.host}"
        used = record.state is DeviceState.UTILIZING
        return Readings(
            usage=Usage.IN_USE if used else Usage.UNKNOWN,
            bridge_reason=told,
            presence_reason=told,
            usage_reason="" if used else told,
            holder=record.holder,
        )

    def grounds(self, udid: str) -> Grounds:
        """What the state of a device that is known stands on."""
        aliases = self._roster.device(udid).aliases
        return Grounds(self.readings(udid), 0, 0, 0, aliases, ())

    def udids(self) -> list[str]:
        """Of every device that is shown, sorted."""
        return [udid for udid in self._roster.udids() if self._roster.shown(udid)]

    def where(self, _udid: str) -> Where:
        """At no port of this host."""
        return Where()

    def owner(self, _source: SourceName, _address: str) -> str:
        """Nobody's: the hub sees nothing itself."""
        return ""

    def _count(self) -> None:
        while self._uncounted:
            udid = self._uncounted.pop()
            before = self._counted.pop(udid, None)
            if before is not None:
                self._counts[before] -= 1
            self._quiet.discard(udid)
            self._called.pop(udid, None)
            if not self._roster.shown(udid):
                continue
            entry, word = self._entries[udid], self._board.of(udid)
            record = entry.record
            kind = _Kind(record.host, record.platform, record.state, entry.flapping)
            self._counted[udid] = kind
            self._called[udid] = self._roster.device(udid).name.casefold()
            self._counts[kind] += 1
            if word is not None and word.silence is not None:
                self._quiet.add(udid)

    def _reason(self, reason: Reason, host: str, udid: str) -> Reason:
        """With what is under way."""
        more = Reason()
        known = self._board.hosts.get(host)
        if known is not None and known.presence is Presence.LOST:
            silent = f"host {host} is silent: this is what it told last"
            more = Reason(silent, ReasonCode.HOST_SILENT)
        elif self._board.phones[udid].pending is not None:
            moving = f"unplugged at {host}: it may turn up at another host"
            more = Reason(moving, ReasonCode.MOVING)
        return reason.and_(more)

    def _battery(self, host: str, word: Told) -> Battery | None:
        """As its host told last; of one that is silent it is not known."""
        told, known = word.device.battery, self._board.hosts.get(host)
        if told is None or known is None or known.presence in {Presence.LOST, Presence.GONE}:
            return None
        health = BatteryHealth(told.health) if told.health in _HEALTHS else None
        return Battery(
            told.level, told.temperature, health, told.charging, told.hot, told.low, told.at_ms
        )

    def _silence(self, udid: str, word: Told | None) -> Silence | None:
        if word is None or word.silence is None or not self._commits.is_silenced(word):
            return None
        quiet = word.silence
        return Silence(quiet.id, SilenceKind.DEVICE, udid, quiet.reason, "", 0, quiet.ends_ms)

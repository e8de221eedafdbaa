"""Which sources are turned on, which have spoken, which cannot see. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Down, Snapshot, SourceName
from agent.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.model import Observation, Sighting

_NOT_YET = Reason("not connected yet", ReasonCode.SOURCE_DOWN)
_SILENT = Reason("it has said nothing since the start", ReasonCode.SOURCE_DOWN)


class SourceStates:
    """What each source's word is worth now.

    Args:
        enabled: the sources that are on; the others stay unknown for ever.
        remote: the bridges whose servers run on other hosts, so that udev cannot see their phones.
        network: the sources whose phones on the network count; of the others' nothing is taken.
    """

    def __init__(
        self,
        enabled: Iterable[SourceName],
        remote: Iterable[SourceName],
        network: Collection[SourceName],
    ) -> None:
        self.enabled = frozenset(enabled)
        self.remote = frozenset(remote)
        """Assigned anew where a server moved."""
        self.waiting = self.enabled
        """Those that have not spoken yet."""
        self.down: dict[SourceName, Reason] = dict.fromkeys(self.enabled, _NOT_YET)
        """Those that cannot see, each with its reason."""
        self.udev_missing = False
        """This host has no udevd, nor had any since the agent's start."""
        self._network = frozenset(network)
        self._udev_spoke = False
        self.ways = self._ways_on()
        """How phones can be seen, as far as it is turned on; see `way_of`."""

    @property
    def all_spoke(self) -> bool:
        """Whether every enabled source has given its first word."""
        return not self.waiting

    @property
    def watched(self) -> bool:
        """Whether udev sees this host's ports now."""
        return SourceName.UDEV in self.enabled and SourceName.UDEV not in self.down

    def unlooked(self, ways: str) -> set[str]:
        """Those of these ways that nobody can look at now: who was seen so may be there yet."""
        return {way for way in ways.split() if way.partition("-")[0] in self.down}

    def hear(self, observation: Observation) -> None:
        """Note what a source's word says of the source itself."""
        source = observation.source
        match observation:
            case Snapshot():
                self.down.pop(source, None)
                self._udev_spoke |= source is SourceName.UDEV
            case Down(reason=reason, missing=missing, code=code):
                self.down[source] = Reason(reason, code)
                if source is SourceName.UDEV:
                    self.udev_missing = missing and not self._udev_spoke
            case _:
                return
        self.waiting -= {source}

    def give_up_waiting(self) -> frozenset[SourceName]:
        """Who has not spoken yet is down from now on; returns who that is."""
        silent, self.waiting = self.waiting, frozenset()
        for source in silent:
            self.down[source] = _SILENT
        return silent

    def turn_on(
        self, enabled: Iterable[SourceName], network: Collection[SourceName]
    ) -> frozenset[SourceName]:
        """Have these on, and no others; one that is added is down (not waited for) until it speaks.

        Returns those whose phones on the network count from now on, and did not.
        """
        wanted, far = frozenset(enabled), frozenset(network)
        for source in self.enabled - wanted:
            self.down.pop(source, None)
        for source in wanted - self.enabled:
            self.down[source] = _NOT_YET
        added = (far - self._network) & self.enabled & wanted
        self.waiting &= wanted
        self.enabled, self._network = wanted, far
        self.ways = self._ways_on()
        return added

    def _ways_on(self) -> frozenset[str]:
        far = {f"{source}-network" for source in self.enabled & self._network}
        return frozenset({str(source) for source in self.enabled} | far)


def way_of(sighting: Sighting) -> str:
    """How a phone is seen: by which source, over USB or the network."""
    return f"{sighting.source}-network" if sighting.network else str(sighting.source)

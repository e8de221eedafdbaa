"""Each webhook of one phone by itself: what it would be told if there were no other, and no store.

The brute-force model of `agent.track.waits` and of all that is built upon it: nothing is shared,
nothing is left out that is as it was, and no time is computed: it is looked at every second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import DeviceState
from agent.track.derive import CALLS_BACK

if TYPE_CHECKING:
    from collections.abc import Mapping

Told = tuple[DeviceState | None, DeviceState]
_ALL = 0
"""One more, which never waits: what those that are new go by."""


@dataclass
class Alone:
    """One webhook."""

    goes_by: DeviceState | None
    told: list[Told] = field(default_factory=list)

    def look(self, state: DeviceState) -> None:
        """It may be told now, that the phone is in that state."""
        if (self.goes_by, state) in CALLS_BACK:
            self.told.append((self.goes_by, state))
        self.goes_by = state


class EachAlone:
    """All of them; `hooks` says how many seconds each waits, by id."""

    def __init__(self, hooks: Mapping[int, float]) -> None:
        self.hooks = {_ALL: 0.0, **hooks}
        self.alone = {each: Alone(None) for each in self.hooks}
        self.state: DeviceState | None = None
        self.silenced = False
        self._lasted = 0

    @property
    def told(self) -> dict[int, list[Told]]:
        """What each was told so far, but for those that are no more."""
        return {each: alone.told for each, alone in self.alone.items() if each != _ALL}

    def enter(self, state: DeviceState) -> None:
        """A transition."""
        # Those that do not wait have heard of the stay that ends, unless a silence ends just now:
        # then they are told what is behind it.
        self._look(waiting_only=True)
        self.state, self._lasted = state, 0
        self._look()

    def wait(self, seconds: int) -> None:
        """Time passes, and somebody looks."""
        for _ in range(seconds):
            self._lasted += 1
            self._look()

    def silence(self, *, on: bool) -> None:
        """One begins, or ends."""
        self.silenced = on
        self._look()

    def reload(self, hooks: Mapping[int, float]) -> None:
        """These webhooks are in force."""
        self._know(hooks)
        self._look()

    def restart(
        self, down: int, hooks: Mapping[int, float], state: DeviceState | None, *, silenced: bool
    ) -> None:
        """It was killed; so much later it begins with these webhooks, and finds that state."""
        self._know(hooks)
        self.silenced = silenced
        if self.state is None and state is None:
            return
        if state is self.state:
            self._lasted += down
            self._look()
        elif state is not None:
            self.state, self._lasted = state, 0  # nobody saw how long the one before lasted
            self._look()

    def _know(self, hooks: Mapping[int, float]) -> None:
        self.hooks = {_ALL: 0.0, **hooks}
        new = self.alone[_ALL].goes_by
        self.alone = {each: self.alone.get(each) or Alone(new) for each in self.hooks}

    def _look(self, *, waiting_only: bool = False) -> None:
        if self.state is None or self.silenced:
            return
        for each, after in self.hooks.items():
            if self._lasted >= after and not (waiting_only and not after):
                self.alone[each].look(self.state)

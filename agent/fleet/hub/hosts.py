"""Each host's log as the hub has it, and whether the host is there. Pure.

A host's log is taken by its ids, without a gap: what comes is

    epoch        id              it is
    ours         cursor + 1      taken
    ours         up to cursor    a repetition: left alone
    ours         beyond          ahead: what lies between is to be asked for
    another                      of a log that ended, or of one that is not known yet: left alone

A row that is next by its id, and is not behind the one that was taken last, is of a host whose disk
was cloned, or a backup put back, and that does not know it yet: the hub asks for its log, naming
the row that it has, and the agent begins another epoch.

Which epoch is the host's, its heartbeats say alone, for only who lives sends one. Another epoch
than ours, a host that was never heard of, or a log that has lost what comes next: then its snapshot
is taken, and the log goes on behind it.

A host is *alive* from a heartbeat on, *lost* once none came for `host_grace`, and its phones are
*gone with it* after another `source_grace`; until the first heartbeat after the hub's start it is
*unheard*, and nothing is taken back that was decided before. Times are the hub's seen time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.model import SourceName
from agent.text import elapsed, shortened, whole

if TYPE_CHECKING:
    from agent.fleet.words import Heartbeat

SHORT: Final = 40
"""Characters of what a host calls its version or its process."""


class Verdict(StrEnum):
    """What becomes of a row of a host's log."""

    TAKE = "take"
    REPEAT = "repeat"
    AHEAD = "ahead"
    STRANGE = "strange"


class Need(StrEnum):
    """What the hub has to ask a host for."""

    NOTHING = ""
    LOG = "log"
    SNAPSHOT = "snapshot"


class Presence(StrEnum):
    """Whether a host is there."""

    UNHEARD = "unheard"
    ALIVE = "alive"
    LOST = "lost"
    GONE = "gone"
    """Lost for so long that nothing is known of its phones."""


@dataclass(slots=True)
class Host:
    """One host."""

    name: str
    epoch: int | None = None
    """None: nothing was taken of it yet."""
    cursor: int = 0
    """Id of the last row that was taken."""
    check: int = 0
    """Of that row; 0: not known."""
    last: int = 0
    """Id of the newest row that it was heard to have."""
    instance: str = ""
    version: str = ""
    need: Need = Need.NOTHING
    heard: float = 0.0
    """Seen time of its last heartbeat; before the first: of the hub's start."""
    presence: Presence = Presence.UNHEARD
    lost_at: float = -math.inf
    """Seen time at which it was lost last."""
    caught_up: bool = False
    """It is alive, and all that it had by its heartbeat is taken."""
    down: frozenset[SourceName] = frozenset()
    """Its sources that could not see by its last heartbeat."""
    beats: int = 0
    """Since the hub's start."""
    last_beat: str = ""
    """Names the last one: every hub that heard it calls it so; "": none can be named."""
    first_beat: str = ""
    """Likewise the one by which it came to life."""
    _cursor_then: int = 0
    """At the heartbeat before."""
    _last_then: int = 0
    """What that told of."""
    _unsure: bool = False
    """How far its log goes is to be asked: rows of it were dropped here, or it went back."""
    ends: int = 0
    """Its `last` at the first heartbeat since it was not alive; caught up once that is taken."""

    @property
    def lag(self) -> int:
        """Rows that it has, and the hub has not."""
        return max(0, self.last - self.cursor)

    def has_said_all(self, since: float) -> bool:
        """Whether it was heard after that time, and all that it had by then is taken.

        Of one that is gone nothing more is waited for.
        """
        if self.presence is Presence.GONE:
            return True
        return self.heard > since and self.need is Need.NOTHING and not self.lag

    def judge(self, epoch: int, id_: int, before: int = 0) -> Verdict:
        """What becomes of that row; `before`: the check of the one before it."""
        if self.epoch is None or epoch != self.epoch:
            return Verdict.STRANGE
        self.last = max(self.last, id_)
        if id_ <= self.cursor:
            return Verdict.REPEAT
        if id_ > self.cursor + 1:
            self._ask(Need.LOG)
            return Verdict.AHEAD
        if not self.is_behind(before):
            self._ask(Need.LOG)
            return Verdict.STRANGE
        return Verdict.TAKE

    def is_behind(self, before: int) -> bool:
        """Whether a row that is next by its id goes on with what was taken; also: nobody knows."""
        return not (before and self.check) or before == self.check

    def took(self, id_: int, check: int = 0) -> None:
        """That row is taken."""
        self.cursor, self.check = id_, check
        self._look()

    def beat(self, beat: Heartbeat, seen: float) -> None:
        """It lives."""
        first = self.presence is not Presence.ALIVE
        self.presence, self.heard, self.version = (
            Presence.ALIVE,
            seen,
            fit(beat.version),
        )
        self.beats += 1
        self.down = frozenset(each for each in SourceName if each in beat.down)
        self.last_beat = f"{fit(beat.instance)}.{beat.number}" if beat.number else ""
        if first:
            self.first_beat = self.last_beat
        restarted = beat.instance != self.instance
        self.instance = beat.instance
        if beat.epoch != self.epoch:
            self._ask(Need.SNAPSHOT)
            self.last = self.ends = beat.last
            self.caught_up = False
            return
        # It had taken that much to disk when it sent the heartbeat before this one.
        went_back = beat.last < self._cursor_then and not first
        if went_back or (first and beat.last < self.cursor):
            self.behind()  # by what the hub asks the agent finds that out, and begins another epoch
        elif self.cursor < beat.last and (restarted or first or self.cursor < self._last_then):
            self._ask(Need.LOG)
        self.last = max(beat.last, self.cursor)
        self._cursor_then, self._last_then = self.cursor, beat.last
        if first:
            self.caught_up, self.ends = False, beat.last
        self._look()

    def opened(self, epoch: int) -> None:
        """Its snapshot is begun with: it is of that log, of which nothing counts as taken yet."""
        if epoch != self.epoch:
            self.epoch, self.last = epoch, 0
        self.caught_up, self.need = False, Need.SNAPSHOT

    def begin(self, through: int, check: int = 0) -> None:
        """Its snapshot is taken: the log goes on behind that."""
        self.cursor, self.check = through, check
        self.last = max(self.last, through)
        self._cursor_then = self._last_then = 0
        self._unsure = False
        self.need = Need.NOTHING
        self._look()

    def told(self, last: int) -> None:
        """It has a row of that id."""
        self.last = max(self.last, last)

    def told_last(self, last: int) -> None:
        """Its newest row has that id, whatever was believed."""
        self.last = max(last, self.cursor)
        self._unsure = False

    def forget(self) -> None:
        """What was taken of it was not stored: all of it is to be asked for anew."""
        self.epoch, self.cursor, self.check, self.caught_up = None, 0, 0, False
        self._ask(Need.SNAPSHOT)

    def hole(self) -> None:
        """Its log has lost what comes next, or has begun anew."""
        self._ask(Need.SNAPSHOT)

    def behind(self) -> None:
        """Something that it sent was dropped here, or how far its log goes is in doubt."""
        self._unsure = True
        self._ask(Need.LOG)

    def served(self) -> None:
        """What it was asked for came."""
        self._look()

    def age(self, seen: float, host_grace: float, source_grace: float) -> bool:
        """What its silence means by then; whether that is something else."""
        silent = seen - self.heard
        before = self.presence
        if silent > host_grace + source_grace:
            self.presence = Presence.GONE
        elif silent > host_grace:
            self.presence = Presence.LOST
        if self.presence in {Presence.LOST, Presence.GONE}:
            self.caught_up = False
            if before not in {Presence.LOST, Presence.GONE}:
                self.lost_at = seen
        return self.presence is not before

    def why_keep(self, seen: float, host_grace: float) -> str:
        """Why it is not to be forgotten; "": it is silent for long enough."""
        silent = seen - self.heard
        if self.presence in {Presence.LOST, Presence.GONE}:
            return ""
        wait = elapsed(max(1.0, host_grace - silent))
        if self.presence is Presence.UNHEARD:
            return (
                f"the hub began {elapsed(silent)} ago, and {self.name} may still be heard: try "
                f"again in {wait}"
            )
        return (
            f"{self.name} is alive: it was heard {elapsed(silent)} ago. Stop its agent first (on "
            "the host: systemctl disable --now device-agent), and forget it once it is lost, after "
            f"{elapsed(host_grace)} of silence"
        )

    def _ask(self, need: Need) -> None:
        if self.need is not Need.SNAPSHOT:
            self.need = need

    def _look(self) -> None:
        known = self.epoch is not None and self.need is not Need.SNAPSHOT
        alive = self.presence is Presence.ALIVE
        self.caught_up = alive and known and self.cursor >= self.ends
        if self.need is Need.LOG and self.cursor >= self.last and not self._unsure:
            self.need = Need.NOTHING


def fit(text: str) -> str:
    """A word of somebody else's, to be kept."""
    return shortened(whole(text), SHORT)

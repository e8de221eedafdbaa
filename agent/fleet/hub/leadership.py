"""Which of several hubs may send. Pure: no await, no clock, no I/O.

One key of the broker says who leads; it is changed by `swap` alone, which names the revision that
it replaces. The leader renews it every `renew` seconds, and may send for `valid` seconds from when
it *sent* a renewal that the broker took. A hub that sees one and the same value at that one
revision for `take` seconds takes it over. So, whatever is lost, late, stopped or repeated:

    Never may two hubs send at once.

That one value stood there for so long says that nobody else was taken meanwhile, for none is set
twice. That there was nothing does not: a broker may have forgotten, between two looks, what
somebody set. So who finds nothing for `empty` seconds writes a *claim*, which lets nobody send, and
takes that over once it has stood for `again` seconds. Nor may others take a claim at once, be it of
one that is surely gone: whoever led before the broker forgot may lead still.

What it stands on, all of it:

- `swap` is what it says: of those that name one revision, one is taken. (One server; or several,
  which agree by Raft.)
- The clocks of two hosts differ in rate by less than a tenth: `valid` of the one has passed before
  `take` of the other. What they show is never compared.
- A broker that forgets (its store was removed, its power failed) may do so at any time, but counts
  its revisions from 1 then. So two may send for up to `valid` where a swap was on its way for
  seconds, the broker forgot meanwhile, and what was set since has come to just the revision that
  the swap names; or where who led found nothing there, set it again, and that came only `again`
  seconds later, when the broker had forgotten once more.

And a takeover always comes: a hub that can look at the key every few seconds counts on, and one
whose try may or may not have been taken sees its own value there, or the old one still.

Time counts for a takeover only while the key is looked at, `step` seconds at most from one look to
the next. After a broker was away for all of them the hub that leads is the first to renew.
A former leader that finds its own value waits longer than `valid` all the same: somebody else may
have led meanwhile, and the broker forgotten that.

What is under way when its time is over ends as it may: see `Shared.may_send`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.fleet.words import Leading

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast; seconds."""

    renew: float = 5.0
    valid: float = 10.0
    take: float = 15.0
    again: float = 11.0
    """Like `take`, for what bears the own name."""
    empty: float = 4.0
    """Like it, for nothing at all: who leads has had two looks to say so again."""
    look: float = 2.0
    """From one look at the key to the next."""
    step: float = 3.0
    retry: float = 1.0
    """From one try to the next, at least."""


@dataclass(frozen=True, slots=True)
class Found:
    """The key, as it was found."""

    revision: int
    raw: bytes
    value: Leading | None
    """None: it is none of ours."""


@dataclass(frozen=True, slots=True)
class Try:
    """To be swapped in, in place of that revision."""

    value: Leading
    revision: int


class Leadership:
    """What one hub knows of it; `now` is its own clock, which counts while it is stopped.

    Args:
        hub: its name.
        instance: random, of the process.
        place: of its store, on the running kernel: two processes that name the same one have had
            its lock one after the other, so that the former is dead. "": not known.
        pace: see there.
    """

    def __init__(self, hub: str, instance: str, place: str, pace: Pace) -> None:
        self._hub = hub
        self._instance = instance
        self._place = place
        self._pace = pace
        self._found: Found | None = None
        self._looked_at: float | None = None
        self._still = 0.0
        """Seconds for which that has been there."""
        self._until = NEVER
        self._beat = 0
        self._term = 0
        self._sent: dict[int, float] = {}
        """When tries were sent that count yet, by their beats."""
        self._tried_at = NEVER
        self._spell = 0
        self._open = 0

    @property
    def spell(self) -> int:
        """Counts the times that it began to lead."""
        return self._spell

    @property
    def term(self) -> int:
        """Counts leaders, as far as the broker remembers."""
        return self._term

    @property
    def until(self) -> float:
        """It leads until then."""
        return self._until

    @property
    def leader(self) -> Leading | None:
        """Who leads, as it was last seen; None: nobody, or not known."""
        found = self._found
        return None if found is None or found.value is None else found.value

    def leads(self, now: float) -> bool:
        """Nobody else does."""
        return now < self._until

    def may_send(self, now: float) -> bool:
        """It leads, and knows what others have sent; to be asked when something is to be begun."""
        return now < self._until and self._open == self._spell

    def open(self, spell: int) -> None:
        """What others had sent until that spell began is known."""
        self._open = spell

    def seen(self, now: float, found: Found | None) -> None:
        """The key was looked at; `now`: when the answer was there."""
        if self._looked_at is not None and found == self._found:
            self._still += min(max(0.0, now - self._looked_at), self._pace.step)
        else:
            self._still = 0.0
        self._looked_at, self._found = now, found
        if found is None:
            return  # the broker forgot: nobody else leads while we do
        if found.value is None or found.value.instance != self._instance:
            self._until = NEVER
            return
        sent = self._sent.get(found.value.beat)
        if sent is not None:
            self._confirm(now, sent)

    def wants(self, now: float) -> Try | None:
        """What is to be tried now: begin no two at once. Right behind a look, it is as of it."""
        if self._looked_at is None or now - self._tried_at < self._pace.retry or not self._due(now):
            return None
        found, leads = self._found, self.leads(now)
        known = found.value if found is not None else None
        claim = found is None and not leads
        if not leads and not claim:
            self._term = max(self._term, known.term if known else 0) + 1
        self._beat += 1
        self._tried_at = now
        self._sent = dict(self._young(now))
        if not claim:
            self._sent[self._beat] = now
        return Try(self._value(claim=claim), found.revision if found else 0)

    def swapped(self, now: float, tried: Try, found: Found) -> None:
        """The broker took it. Where it did not, or nobody knows, the next look tells."""
        self._looked_at, self._found, self._still = now, found, 0.0
        sent = self._sent.get(tried.value.beat)
        if sent is not None:
            self._confirm(now, sent)

    def leave(self) -> Try | None:
        """Lead no more, from now on; what tells the others that they need not wait."""
        found, self._until = self._found, NEVER
        if found is None or found.value is None or found.value.instance != self._instance:
            return None
        if found.value.claim:
            return None  # by which nobody led
        self._beat += 1
        return Try(self._value(released=True), found.revision)

    # --- inside ----------------------------------------------------------------------------

    def _due(self, now: float) -> bool:
        pace, found, leads = self._pace, self._found, self.leads(now)
        if found is None:
            return leads or self._still >= pace.empty
        if found.value is None:
            return leads or self._still >= pace.take
        known = found.value
        if known.instance == self._instance:
            newest = max(self._sent.values(), default=NEVER)
            return now - newest >= pace.renew if leads else self._still >= pace.again
        gone = known.released or (self._place and known.place == self._place)
        return (gone and not known.claim) or self._still >= pace.take

    def _confirm(self, now: float, sent: float) -> None:
        until = sent + self._pace.valid
        if until <= now or until <= self._until:
            return
        if self._until <= now:
            self._spell += 1
        self._until = until

    def _young(self, now: float) -> Iterator[tuple[int, float]]:
        return (each for each in self._sent.items() if each[1] + self._pace.valid > now)

    def _value(self, *, released: bool = False, claim: bool = False) -> Leading:
        return Leading(
            hub=self._hub,
            instance=self._instance,
            term=self._term,
            beat=self._beat,
            place=self._place,
            released=released,
            claim=claim,
        )

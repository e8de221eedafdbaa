"""Which sessions use which phone, by all that the usage sources said. Pure: no clock, no I/O.

A *voice* is one (source, target), such as Appium's server at some URL. Each says of a device that
it is in use, or leaves it out, or cannot say. The rules, and there are no others:

1. A good reading that lists a device: that voice has it in use, at once.
2. A good reading without it: the first only counts; the second in a row ends it. An unknown reading
   in between neither counts nor starts the count anew.
3. A voice that becomes unknown keeps what it said: what it had in use is unknown, with its holder
   (`derive` keeps the last usage for `usage_grace`); what it did not have is idle, and the reason
   is shown. So a lease that ends while some server cannot be reached ends at once. When the voice
   is good again, what it had in use stays unknown until a reading lists it or it has ended: a use
   that the grace already ended is not begun anew by a reading that leaves it out.
4. A voice that is dropped (its server is not configured any more, its phone was unplugged) says
   nothing.
5. A device that was in use when the agent stopped is unknown, with its holder, until all that can
   speak of it have: every source has said whom to ask while the device could be reached, and every
   voice that may speak of it has given two good readings meanwhile. Until its bridge can reach it
   nobody can: its ports cannot be asked, and a server's name for it may mean nothing yet.
6. A reading may be incomplete: what it lists is in use, of what it leaves out rule 3 holds.
7. A device that was unplugged or offline is no longer in use by what is unknown: not by a voice
   that cannot say, nor since before the start. A lease that it had meanwhile does not keep that.

`reading` makes one of them, by the first row that fits:

| what was said, last | the device is | holder and reason |
|---|---|---|
| a lease | in use | the lease's |
| a voice that was good ever since has it in use | in use | of the strongest source |
| a voice that was unknown since then has it in use | unknown | that holder, and why |
| it was in use before the start, not confirmed yet | unknown | that holder |
| some voice that may speak of it is unknown | idle | "usage unknown: …" |
| anything else | idle | |
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model import Usage, UsageReading

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ENOUGH = 2
"""Good readings without a device that end its use (DESIGN, section 5)."""

Voice = tuple[str, str]
"""(source, target)."""


@dataclass(slots=True)
class _Held:
    """One device that one voice has in use."""

    holder: str
    since_ms: int
    missed: int = 0
    """Good readings in a row that left it out."""
    doubt: str = ""
    """Why its voice was unknown since it last listed the device; "": it was not."""


@dataclass(slots=True)
class _Before:
    """A device that was in use when the agent stopped."""

    holder: str
    listed: set[str] = field(default_factory=set)
    """Sources that said whom to ask while it could be reached."""
    heard: Counter[Voice] = field(default_factory=Counter)
    """Good readings while it could be reached; counted up to ENOUGH."""


@dataclass(slots=True)
class _Said:
    """What one voice said last."""

    udid: str
    """The only device it can speak of; "": of any."""
    reason: str = ""
    """Why it is unknown; "": it is not."""
    held: dict[str, _Held] = field(default_factory=dict)


class Fusion:
    """Takes readings, gives the one reading of a device.

    The methods that take something return the devices whose reading may have changed; None: all.

    Args:
        strength: the agent's own sources, strongest first: how exactly each knows who uses a phone.
            Others come behind, by name.
    """

    def __init__(self, strength: Sequence[str]) -> None:
        self._strength = tuple(strength)
        self._said: dict[Voice, _Said] = {}
        self._of_device: dict[str, set[Voice]] = {}
        """Key "": the voices that may speak of any device."""
        self._leases: dict[str, UsageReading] = {}
        self._before: dict[str, _Before] = {}
        self._sources: set[str] = set()

    def lease(self, udid: str, reading: UsageReading) -> set[str]:
        """A lease on the device began (in use) or ended (idle)."""
        if reading.usage is Usage.IN_USE:
            before = self._before.get(udid)
            if udid not in self._leases and before is not None and not before.holder:
                del self._before[udid]  # below another lease; this one was given after it
            self._leases[udid] = reading
        else:
            self._leases.pop(udid, None)
        return {udid}

    def is_leased(self, udid: str) -> bool:
        """Whether a lease on the device is in force."""
        return udid in self._leases

    def assume(self, udid: str, holder: str) -> None:
        """It was in use when the agent stopped."""
        self._before[udid] = _Before(holder)

    def away(self, udid: str) -> set[str]:
        """It is unplugged or offline."""
        self._before.pop(udid, None)
        for voice in self._of_device.get("", set()) | self._of_device.get(udid, set()):
            held = self._said[voice].held
            if udid in held and held[udid].doubt:
                del held[udid]
        return {udid}

    @property
    def assuming(self) -> bool:
        """Whether there are devices of which it is not known yet who uses them since the start."""
        return bool(self._before)

    def assumed(self, source: str, holder: str) -> str | None:
        """The device that this one had in use when the agent stopped, if it is one.

        Only of our own sources: their holders are sessions, none like another.
        """
        if source not in self._strength:
            return None
        found = [udid for udid, before in self._before.items() if before.holder == holder]
        return found[0] if len(found) == 1 else None

    def source(self, name: str, *, runs: bool = True) -> set[str] | None:
        """A source runs that may have voices, or does no more."""
        (self._sources.add if runs else self._sources.discard)(name)
        return set(self._before)

    def listed(self, source: str, reached: Collection[str]) -> set[str] | None:
        """A source has made known all its voices for these devices, which can be reached."""
        touched = {
            udid
            for udid, before in self._before.items()
            if udid in reached and source not in before.listed
        }
        for udid in touched:
            self._before[udid].listed.add(source)
        return touched

    def know(self, voice: Voice, udid: str = "") -> set[str] | None:
        """A voice that may speak, of that device or ("") of any, but has not yet."""
        if voice in self._said:
            return set()
        self._said[voice] = _Said(udid)
        self._of_device.setdefault(udid, set()).add(voice)
        return self._concerned(udid) if self._before else set()

    def good(
        self,
        voice: Voice,
        in_use: Mapping[str, str],
        now_ms: int,
        *,
        reached: Collection[str] | None = None,
        doubt: str = "",
    ) -> set[str] | None:
        """A known voice was read.

        Args:
            voice: which.
            in_use: device → holder, of those that it has in use.
            now_ms: the wall clock.
            reached: the devices that their bridges can reach; None: all.
            doubt: why it cannot say that what it leaves out is idle; "": it can.
        """
        said = self._said[voice]
        # Of what it leaves out it has said nothing, where it is in doubt.
        news = self._hear(voice, in_use if doubt else reached)
        changed = self._concerned(said.udid) if said.reason or news else set()
        said.reason = ""
        touched = set()
        for udid, holder in in_use.items():
            held = said.held.get(udid)
            if held is None or held.holder != holder:
                said.held[udid] = _Held(holder, now_ms)
                touched.add(udid)
            else:
                if held.doubt:
                    touched.add(udid)
                held.missed, held.doubt = 0, ""
        for udid in [udid for udid in said.held if udid not in in_use]:
            held = said.held[udid]
            if doubt:
                held.doubt = doubt
                touched.add(udid)
                continue
            held.missed += 1
            if held.missed >= ENOUGH:
                del said.held[udid]
                touched.add(udid)
        return None if changed is None else changed | touched

    def unknown(self, voice: Voice, reason: str) -> set[str] | None:
        """A known voice could not be read; the reason is the operator's."""
        said = self._said[voice]
        if said.reason == reason:
            return set()
        said.reason = reason
        for held in said.held.values():
            held.doubt = reason
        return self._concerned(said.udid)

    def drop(self, voice: Voice) -> set[str] | None:
        """The voice is no more."""
        said = self._said.pop(voice, None)
        if said is None:
            return set()
        self._of_device[said.udid].discard(voice)
        if said.reason or self._before:
            return self._concerned(said.udid)
        return set(said.held)

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; what was said of it was said of that one."""
        for said in self._said.values():
            if old in said.held:
                said.held[new] = said.held.pop(old)
        voices = self._of_device.pop(old, set())
        for voice in voices:
            self._said[voice].udid = new
        self._of_device.setdefault(new, set()).update(voices)
        if old in self._leases:
            self._leases[new] = self._leases.pop(old)
        if old in self._before:
            self._before[new] = self._before.pop(old)

    def ending(self, voice: Voice) -> bool:
        """Whether one more good reading may end a use that the voice has."""
        said = self._said.get(voice)
        return said is not None and any(held.missed for held in said.held.values())

    def sessions(self, voice: Voice) -> int:
        """How many devices the voice has in use."""
        said = self._said.get(voice)
        return 0 if said is None else len(said.held)

    def reading(self, udid: str) -> UsageReading:
        """The one reading of that device; once confirmed, its use before the start is forgotten."""
        lease = self._leases.get(udid)
        if lease is not None:
            return lease
        voices = self._of_device.get("", set()) | self._of_device.get(udid, set())
        mine = [self._said[voice] for voice in sorted(voices, key=self._rank)]
        having = [said.held[udid] for said in mine if udid in said.held]
        if having:
            held = min(having, key=lambda held: bool(held.doubt))  # the strongest sure one
            usage = Usage.UNKNOWN if held.doubt else Usage.IN_USE
            return UsageReading(usage, held.holder, held.doubt, held.since_ms)
        reason = next((said.reason for said in mine if said.reason), "")
        before = self._before.get(udid)
        if before is not None:
            heard = all(before.heard[voice] >= ENOUGH for voice in voices)
            if not heard or self._sources - before.listed:
                return UsageReading(
                    Usage.UNKNOWN, before.holder, reason or "not confirmed since the start"
                )
            del self._before[udid]
        return UsageReading(reason=f"usage unknown: {reason}" if reason else "")

    def _hear(self, voice: Voice, devices: Collection[str] | None) -> bool:
        """The voice has spoken of these devices, or of all; whether that was news of any."""
        news = False
        for udid, before in self._before.items():
            if (devices is None or udid in devices) and before.heard[voice] < ENOUGH:
                before.heard[voice] += 1
                news = True
        return news

    def _concerned(self, udid: str) -> set[str] | None:
        return {udid} if udid else None

    def _rank(self, voice: Voice) -> tuple[int, str, str]:
        source, target = voice
        own = source in self._strength
        return self._strength.index(source) if own else len(self._strength), source, target

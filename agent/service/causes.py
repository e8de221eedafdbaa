"""What took several phones at once, and what is suspected to do so again: for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypedDict

from agent.history.days import DAY_MS
from agent.history.evidence import Evidence
from agent.history.suspects import SuspectKind, judged
from agent.service.rows import Also, CauseId, Time, iso
from agent.service.slices import Slices
from agent.track.cause import CauseKind
from agent.track.cause_list import hub_of_cause

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.history.suspects import Suspect
    from agent.store import Store
    from agent.track.cause_list import ToldCause
    from agent.track.tracker import Tracker

RANGE_MS: Final = 30 * DAY_MS
"""How far back suspects are looked for, where nobody says."""
AMONG: Final = 20_000
"""Of the last so many stored transitions the causes are told that were before the start."""
MOST: Final = 5_000
"""Of those, with a cause."""
JUDGED: Final = 100_000
"""The last so many transitions say who is suspect; reading more takes longer than a second."""
_PAGE: Final = 1_000
_AT_ONCE: Final = 100
"""Of them without a look at the clock: a tenth of a millisecond."""


class CauseRow(TypedDict):
    """What took several phones at once."""

    id: CauseId
    kind: CauseKind
    """`hub` and `controller`: of USB. `source`: adb or usbmuxd. `host`: at a fleet's hub."""
    place: str
    """A hub's port path, a controller's PCI address or bus, `adb` or `usbmuxd`, a host's name."""
    host: str
    """Of its phones."""
    at: Time | None
    """When the first of them counted."""
    devices: list[str]
    """UDIDs, in the order in which they counted."""
    over: bool
    """None of them is in the state any more into which it was taken."""


class CauseRows(TypedDict):
    """The last 64."""

    causes: list[CauseRow]
    """The newest first."""


class SuspectRow(TypedDict):
    """One that is to be changed, by the evidence."""

    kind: SuspectKind
    """`phone_or_port`: nothing tells the phone from its port and cable; swapping them does."""
    host: str
    udid: str
    """Empty: a port or a hub."""
    name: str
    """Of the phone."""
    port: str
    """Of a port, a hub, or where the phone always hung. Empty: it hung at several."""
    times: Annotated[int, Also(minimum=0)]
    """Interruptions: it left, and was back at the same port within 15 minutes. Of a hub that was
    lost as a whole: how often that was."""
    days: Annotated[int, Also(minimum=0)]
    """On how many days."""
    expected: Annotated[float, Also(minimum=0)]
    """How many the rest of the host's rack would have had in that time."""
    hours: Annotated[float, Also(minimum=0)]
    """In which phones were there."""
    others: Annotated[int, Also(minimum=0)]
    """Of a phone: at how many ports it hung; else how many phones hung there."""
    who: str
    """For people, like the two behind it."""
    evidence: str
    advice: str


class SuspectRows(TypedDict):
    """What the last 30 days say is to be changed; none below the evidence."""

    suspects: list[SuspectRow]
    """By host, the strongest first."""


class Causes:
    """Reads what is told and stored; changes nothing.

    Args:
        pipeline: knows the devices and what counted since the start.
        store: what was before.
        clock: of the process.
        host: this host's name.
    """

    def __init__(self, pipeline: Tracker, store: Store, clock: Clock, host: str) -> None:
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._host = host

    async def rows(self) -> CauseRows:
        """The last causes.

        Raises:
            StoreError: the store cannot be read.
        """
        stored = await self._store.transitions.caused(AMONG, MOST)
        told = self._pipeline.commits.causes.all([each.transition for each in stored])
        slices = Slices()
        lasting = set()
        for udid in self._pipeline.views.udids():
            if (view := self._pipeline.views.one(udid)) is not None:
                lasting.add(view.cause)
            await slices.let_go()
        return {"causes": [self._row(each, over=each.id not in lasting) for each in told]}

    async def suspects(self, asked: tuple[int, int] | None = None) -> SuspectRows:
        """What is to be changed, by that time; if it is not said, by the last 30 days.

        What is stored no more, or is too much, has not been good: nobody knows.

        Raises:
            StoreError: the store cannot be read.
        """
        now = self._clock.wall_ms()
        since, until = asked or (now - RANGE_MS, now)
        since = max(since, self._store.kept_since_ms)
        newest = await self._store.transitions.newest()
        last = max(0, newest.id - JUDGED) if newest is not None else 0
        evidence: Evidence | None = None
        slices = Slices()
        while page := await self._store.transitions.moves_after(last, _PAGE):
            if evidence is None:
                first = page[0].at_ms if last else 0
                evidence = Evidence(max(since, first), until)
            for start in range(0, len(page), _AT_ONCE):
                for each in page[start : start + _AT_ONCE]:
                    evidence.take(each, hub_of_cause(each) if each.cause else "")
                await slices.let_go()
            last = page[-1].id
        if evidence is None:
            return {"suspects": []}
        followed = set(self._pipeline.views.udids())
        evidence.close(followed)
        await slices.let_go()
        rows = []
        for suspect in judged(evidence):
            if suspect is not None and (not suspect.udid or suspect.udid in followed):
                rows.append(self._suspect(suspect))
            await slices.let_go()
        return {"suspects": rows}

    def _row(self, told: ToldCause, *, over: bool) -> CauseRow:
        return {
            "id": told.id,
            "kind": told.kind,
            "place": told.place,
            "host": told.host or self._host,
            "at": iso(told.at_ms),
            "devices": list(told.devices),
            "over": over,
        }

    def _suspect(self, suspect: Suspect) -> SuspectRow:
        view = self._pipeline.views.one(suspect.udid) if suspect.udid else None
        name = suspect.udid if view is None else view.name
        who = name if suspect.udid else suspect.kind
        if suspect.port:
            who += f" at {suspect.port}" if suspect.udid else f" {suspect.port}"
        return {
            "kind": suspect.kind,
            "host": suspect.host or self._host,
            "udid": suspect.udid,
            "name": name,
            "port": suspect.port,
            "times": suspect.times,
            "days": suspect.days,
            "expected": round(suspect.expected, 2),
            "hours": round(suspect.hours, 1),
            "others": suspect.others,
            "who": who,
            "evidence": suspect.evidence,
            "advice": suspect.advice,
        }

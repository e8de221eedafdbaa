"""How available, used and broken devices were in a time, by what somebody wants to compare."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypedDict

from agent.clock import timestamp
from agent.history.days import DAY_MS
from agent.history.report import grouped, hub_of, ranked
from agent.model import Platform
from agent.service.causes import SuspectRow
from agent.service.ranges import RangeFilters, range_of
from agent.service.reckon import reckon
from agent.service.rows import Also, Time
from agent.service.slices import Slices
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from agent.history.replay import Figures, Place
    from agent.history.report import Group
    from agent.service.causes import Causes
    from agent.store import Store
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView
    from agent.track.watching import Watching


class By(StrEnum):
    """What a report's rows are of."""

    DEVICE = "device"
    HUB = "hub"
    TAG = "tag"
    MODEL = "model"
    PLATFORM = "platform"


class ReasonRow(TypedDict):
    """Why devices were offline or unplugged."""

    code: str
    """Empty: no reason was told."""
    count: Annotated[int, Also(minimum=0)]
    """Transitions with it."""
    ms: Annotated[int, Also(minimum=0)]
    """Seen time with it."""


class FiguresRow(TypedDict):
    """Figures of some devices. Times in milliseconds."""

    key: str
    """A UDID, a hub's port (`host/1-4` at a fleet's hub), a tag, a model, a platform; empty: what
    has none."""
    name: str
    devices: Annotated[int, Also(minimum=0)]
    """How many."""
    seen_ms: Annotated[int, Also(minimum=0)]
    """Time in which somebody could see them: the sum of the four states."""
    unseen_ms: Annotated[int, Also(minimum=0)]
    """Time since their first sighting in which nobody could; in no other figure."""
    online_ms: Annotated[int, Also(minimum=0)]
    utilizing_ms: Annotated[int, Also(minimum=0)]
    offline_ms: Annotated[int, Also(minimum=0)]
    unplugged_ms: Annotated[int, Also(minimum=0)]
    availability: Annotated[float, Also(minimum=0, maximum=1)] | None
    """(online + utilizing) / seen; null: not seen."""
    utilization: Annotated[float, Also(minimum=0, maximum=1)] | None
    """utilizing / (online + utilizing); null: neither."""
    offline_count: Annotated[int, Also(minimum=0)]
    """Transitions to `offline`."""
    unplugged_count: Annotated[int, Also(minimum=0)]
    flaps: Annotated[int, Also(minimum=0)]
    """Outages shorter than a minute."""
    repair_ms_mean: Annotated[int, Also(minimum=0)] | None
    """How long outages took that ended, as far as they were seen; null: none ended."""
    reasons: list[ReasonRow]
    """What took the most time first."""


class Report(TypedDict):
    """Figures of a time."""

    since: Time
    until: Time
    whole_days: bool
    """The range that was asked for cuts a day of which only the whole is left: it was widened."""
    by: By
    rows: list[FiguresRow]
    """By key."""
    total: FiguresRow
    suspects: list[SuspectRow]
    """What is to be changed, by that time; none below the evidence."""


class ReportFilters(RangeFilters, total=False):
    """Which time, and by what."""

    by: By


class Reports:
    """Reckons up what is stored.

    Args:
        pipeline: knows the devices.
        store: what they went through.
        watching: knows what was watched until now.
        causes: knows who is suspect.
    """

    def __init__(self, pipeline: Tracker, store: Store, watching: Watching, causes: Causes) -> None:
        self._pipeline = pipeline
        self._store = store
        self._watching = watching
        self._causes = causes

    async def report(self, query: Mapping[str, str]) -> Report:
        """Of a time; `query` has keys of `ReportFilters`.

        Raises:
            ValueError: a filter makes no sense.
            StoreError: the store cannot be read.
        """
        if unknown := query.keys() - ReportFilters.__annotations__.keys():
            raise ValueError(f"unknown filter {min(unknown)!r}")
        now, unsaved = self._watching.known()
        asked = range_of(query, 30 * DAY_MS, now)
        try:
            by = By(query.get("by", By.DEVICE))
        except ValueError:
            raise ValueError(f"'by' is one of {', '.join(By)}, not {query['by']!r}") from None
        slices = Slices()
        views: dict[str, DeviceView] = {}
        for udid in self._pipeline.views.udids():
            if (view := self._pipeline.views.one(udid)) is not None:
                views[udid] = view
            await slices.let_go()
        platforms = {udid: each.platform or Platform.ANDROID for udid, each in views.items()}
        reckoned = await reckon(self._store, platforms, unsaved, *asked)
        keys: dict[By, Callable[[Place], Iterable[str]]] = {
            By.DEVICE: lambda place: (place.udid,),
            By.HUB: lambda place: (hub_of(place.host, place.port),),
            By.TAG: lambda place: views[place.udid].tags or ("",),
            By.MODEL: lambda place: (views[place.udid].model,),
            By.PLATFORM: lambda place: (platforms[place.udid],),
        }
        shown = await in_thread(partial(_of, reckoned.figures, views), "report")
        groups, total = await in_thread(partial(grouped, shown, keys[by]), "report")
        rows = list[FiguresRow]()
        for key, group in groups.items():
            rows.append(_row(key, views[key].name if by is By.DEVICE else key, group))
            await slices.let_go()
        return {
            "since": timestamp(reckoned.since),
            "until": timestamp(reckoned.until),
            "whole_days": (reckoned.since, reckoned.until) != asked,
            "by": by,
            "rows": rows,
            "total": _row("", "", total),
            "suspects": (await self._causes.suspects(asked))["suspects"],
        }


def _of(figures: Mapping[Place, Figures], udids: Container[str]) -> dict[Place, Figures]:
    return {place: each for place, each in figures.items() if place.udid in udids}


def _row(key: str, name: str, group: Group) -> FiguresRow:
    return {
        "key": key,
        "name": name,
        "devices": len(group.udids),
        "seen_ms": group.seen_ms,
        "unseen_ms": group.figures.unseen,
        "online_ms": group.online_ms,
        "utilizing_ms": group.utilizing_ms,
        "offline_ms": group.offline_ms,
        "unplugged_ms": group.unplugged_ms,
        "availability": group.availability,
        "utilization": group.utilization,
        "offline_count": group.offline_count,
        "unplugged_count": group.unplugged_count,
        "flaps": group.figures.flaps,
        "repair_ms_mean": group.repair_ms_mean,
        "reasons": [
            {"code": code, "count": count, "ms": ms}
            for code, count, ms in ranked(group.figures.reasons)
        ],
    }

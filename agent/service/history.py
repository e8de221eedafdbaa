"""What devices went through: stays in their states, and the times in which nobody saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from agent.clock import timestamp
from agent.history.days import DAY_MS
from agent.history.seen import Watch
from agent.history.spans import coarse, spans_of
from agent.model import DeviceState, Platform
from agent.service.ranges import RangeFilters, range_of
from agent.service.rows import CauseId, ReasonCodeText, Time
from agent.service.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.history.seen import Gap
    from agent.history.spans import Span
    from agent.model import Transition
    from agent.service.devices import Devices
    from agent.store import Store
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView
    from agent.track.watching import Watching

MOST: Final = 5_000
"""Stays of one device in an answer."""
_PARTS: Final = 2_000
"""Of a range, in the picture of many devices: what is shorter than one may be drawn together."""
_GAPS: Final = 1_000
"""Times in which nobody saw a device: an adb server that dies every few seconds makes more."""
_DRAWN_GAPS: Final = 50
"""Of each of many: a thousand phones at such a server have millions."""
_PHONES: Final = 100
"""That the store is asked for at once."""

# `from` is no name that a class can give its key.
_FromTo = TypedDict("_FromTo", {"from": Time, "to": Time})


class SpanRow(_FromTo):
    """A stay in one state."""

    state: DeviceState
    seen: bool
    """Whether anybody could see the device in any of it."""
    began: Time
    """When the stay began, which may be before the range."""
    reason: str
    reason_code: ReasonCodeText
    cause_id: CauseId
    holder: str
    port: str
    """Where it hung then, or before it left."""
    host: str


class UnseenRow(_FromTo):
    """A time in which nobody could see the device."""

    why: str
    """In operators' words."""


class DeviceHistory(TypedDict):
    """What one device went through."""

    udid: str
    name: str
    since: Time
    until: Time
    spans: list[SpanRow]
    """One after the other, oldest first; they begin with the first sighting."""
    unseen: list[UnseenRow]
    """The times in which the state above was nobody's to see: in no figure of any report. Of more
    than 1,000 those with the least between them are one."""
    truncated: bool
    """What came before the first stay is stored no more, or was too much for one answer."""


class PictureSpanRow(_FromTo):
    """A stay, as far as it is drawn."""

    state: DeviceState


class PictureDeviceRow(TypedDict):
    """One device's line in the picture."""

    udid: str
    name: str
    port: str
    """Where it hangs now, or hung last."""
    host: str
    spans: list[PictureSpanRow]
    unseen: list[UnseenRow]
    """Of more than 50 those with the least between them are one."""


class Picture(TypedDict):
    """What many devices went through, to be drawn."""

    since: Time
    until: Time
    merged: int
    """How many stays are left out: of several short ones in a row the worst is shown for all."""
    merged_below_ms: int
    """What is short."""
    devices: list[PictureDeviceRow]


class PictureFilters(RangeFilters, total=False):
    """Which devices, and which time."""

    udid: list[str]
    """Only these devices; repeatable."""


class History:
    """Reads what is stored.

    Args:
        pipeline: knows the devices.
        store: what they went through.
        devices: which one is meant.
        watching: knows what was watched until now.
    """

    def __init__(
        self, pipeline: Tracker, store: Store, devices: Devices, watching: Watching
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._devices = devices
        self._watching = watching

    async def of(self, text: str, query: Mapping[str, str]) -> DeviceHistory:
        """One device's; `query` has keys of `RangeFilters`.

        Raises:
            ValueError: a filter makes no sense.
            UnknownDeviceError: none is meant; the message names the nearest.
            StoreError: the store cannot be read.
        """
        if unknown := query.keys() - RangeFilters.__annotations__.keys():
            raise ValueError(f"unknown filter {min(unknown)!r}")
        now, unsaved = self._watching.known()
        since, until = range_of(query, 7 * DAY_MS, now)
        udid = self._devices.udid(text)
        view = self._pipeline.views.one(udid)
        stored = await self._store.transitions.within(udid, since, until, MOST)
        watch = Watch([*await self._store.watching.within(since, until), *unsaved], _GAPS)
        platform = _platform(view)
        transitions = [each.transition for each in stored]
        spans = spans_of(transitions, since, until)
        slices = Slices()
        rows: list[SpanRow] = []
        for span in spans:
            rows.append(self._span(span, watch, platform))
            await slices.let_go()
        begins = spans[0].start_ms if spans else until
        return {
            "udid": udid,
            "name": view.name if view else udid,
            "since": timestamp(since),
            "until": timestamp(until),
            "spans": rows,
            "unseen": self._unseen(spans, watch, platform, begins, until),
            "truncated": bool(
                transitions and transitions[0].previous is not None and begins > since
            ),
        }

    async def picture(self, query: Mapping[str, str], udids: Sequence[str]) -> Picture:
        """Many devices'; those that are named, else all that are shown.

        Raises: as `of`.
        """
        if unknown := query.keys() - PictureFilters.__annotations__.keys() - {"since", "until"}:
            raise ValueError(f"unknown filter {min(unknown)!r}")
        now, unsaved = self._watching.known()
        since, until = range_of(query, DAY_MS, now)
        wanted = [self._devices.udid(each) for each in udids] or self._pipeline.views.udids()
        watched = await self._store.watching.within(since, until)
        watch = Watch([*watched, *unsaved], _DRAWN_GAPS)
        below = (until - since) // _PARTS
        rows: list[PictureDeviceRow] = []
        merged = 0
        slices = Slices()
        for start in range(0, len(wanted), _PHONES):
            some = wanted[start : start + _PHONES]
            stored = await self._store.transitions.within_of_many(some, since, until, MOST)
            for udid in some:
                view = self._pipeline.views.one(udid)
                spans = spans_of([each.transition for each in stored[udid]], since, until)
                if view is None or not spans:
                    continue
                shown, left_out = coarse(spans, below)
                merged += left_out
                rows.append(self._line(view, shown, watch, until))
                await slices.let_go()
        return {
            "since": timestamp(since),
            "until": timestamp(until),
            "merged": merged,
            "merged_below_ms": below,
            "devices": rows,
        }

    def _line(
        self, view: DeviceView, spans: Sequence[Span], watch: Watch, until: int
    ) -> PictureDeviceRow:
        return {
            "udid": view.udid,
            "name": view.name,
            "port": view.port,
            "host": view.host or self._devices.host,
            "spans": [
                {
                    "from": timestamp(each.start_ms),
                    "to": timestamp(each.end_ms),
                    "state": each.state,
                }
                for each in spans
            ],
            "unseen": self._unseen(spans, watch, _platform(view), spans[0].start_ms, until),
        }

    def _span(self, span: Span, watch: Watch, platform: Platform) -> SpanRow:
        made_by: Transition = span.made_by
        seen = watch.seen(platform, made_by.host).within(span.start_ms, span.end_ms)
        return {
            "from": timestamp(span.start_ms),
            "to": timestamp(span.end_ms),
            "state": span.state,
            "seen": seen > 0,
            "began": timestamp(span.began_ms),
            "reason": made_by.reason,
            "reason_code": made_by.code,
            "cause_id": made_by.cause,
            "holder": made_by.holder,
            "port": made_by.port,
            "host": made_by.host or self._devices.host,
        }

    def _unseen(
        self, spans: Sequence[Span], watch: Watch, platform: Platform, begins: int, until: int
    ) -> list[UnseenRow]:
        """By the hosts at which the device was: they are asked for the time that it was there."""
        rows: list[UnseenRow] = []
        host, start = "", begins
        stays = [(span.made_by.host, span.start_ms) for span in spans]
        for next_host, at in [*stays, ("", until)]:
            if next_host != host or at == until:
                if start < at:
                    rows += [_gap(each) for each in watch.gaps(platform, host, start, at)]
                host, start = next_host, at
        return rows


def _platform(view: DeviceView | None) -> Platform:
    return Platform.ANDROID if view is None or view.platform is None else view.platform


def _gap(gap: Gap) -> UnseenRow:
    who = " and ".join(sorted(gap.blind))
    return {
        "from": timestamp(gap.start_ms),
        "to": timestamp(gap.end_ms),
        "why": f"{who} could not see" if who else "the agent was not running, or stood still",
    }

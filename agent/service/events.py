"""What happens, as it happens: transitions out of the store, and devices' rows as they change.

A reader is a place in the stored transitions and a version of the devices' rows, nothing else:
nothing is queued for it, so one that is slow costs nothing. What was just stored is read once for
all of them; who comes back, or is far behind, is served page by page from the store. There is no
handover between the two: both are the same rows, by the same ids.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from agent.errors import BusyError
from agent.service.devices import DeviceRow, device_row, transition_row
from agent.service.rows import Place
from agent.service.silences import SilenceRow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from agent.store import Store, StoredTransition
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView

MAX_READERS = 1000
HEARTBEAT = 15.0
"""Seconds after which a reader without news is told that the agent is there."""
PAGE = 100
"""Transitions of one question to the store: a millisecond of the writer's time."""
RECENT = 500
"""Transitions kept in memory while somebody reads."""


def place_of(text: str) -> Place:
    """The place that a message's id names; `0`: before the first. ValueError: it is none."""
    number, dash, at = text.partition("-")
    if not (text.isascii() and number.isdecimal() and (not dash or at.isdecimal())):
        raise ValueError(
            f"no message of ours has the id {text!r}: they look like 1234-1767675156963"
        )
    if max(len(number), len(at)) > 18:  # noqa: PLR2004 - what SQLite's integers hold
        raise ValueError("no message has an id that long")
    return Place(int(number), int(at) if dash and int(at) else None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which devices somebody wants to hear of: those that fit one of each kind that is named."""

    udids: frozenset[str] = frozenset()
    platforms: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    """As their views name them: "", this one."""

    def fits(self, udid: str, view: DeviceView | None) -> bool:
        """Whether that device is meant; one that is no longer known only by its UDID."""
        if self.udids and udid not in self.udids:
            return False
        if view is None:
            return not (self.platforms or self.tags or self.hosts)
        return (
            (not self.platforms or view.platform in self.platforms)
            and (not self.tags or not self.tags.isdisjoint(view.tags))
            and (not self.hosts or view.host in self.hosts)
        )


class RemovedRow(TypedDict):
    """A device that is no longer shown."""

    udid: str


class SilencesRow(TypedDict):
    """The silences in force."""

    silences: list[SilenceRow]


class ResetRow(TypedDict):
    """Transitions were missed that are stored no more; a snapshot follows."""

    reason: str


class Message(NamedTuple):
    """What a reader is told, by its kind; "": nothing.

    `snapshot`: every device's row; what was known before is void. `transition`: one that was
    stored. `device`: a row that changed. `removed`: a device that is no longer shown. `silences`:
    all that are in force, whenever one began or ended, and behind a snapshot where there are any.
    `reset`: transitions were missed that are stored no more.
    """

    kind: str
    data: Iterable[bytes] = ()
    """Lines of JSON, made as they are sent: a snapshot is long, and its rows are shared."""
    id: str = ""
    """Where to go on from; "": where the last one said."""


class _Entry(NamedTuple):
    """A transition that is shown to several readers."""

    stored: StoredTransition
    view: DeviceView | None
    data: bytes

    @property
    def place(self) -> Place:
        return Place(self.stored.id, self.stored.transition.at_ms)


class _Silences(NamedTuple):
    """All silences, which hundreds of readers are told at once."""

    at: tuple[int, int, int]
    """As they were at these versions."""
    some: bool
    """There are any."""
    data: bytes


@dataclass(eq=False, slots=True)
class Reader:
    """One connection. Made by `Events.open`, used up by `Events.follow`."""

    selection: Selection
    place: Place
    missed: str = ""
    """Why transitions cannot be told that came before."""
    told: Place | None = None
    version: int = -1
    epoch: int = -1
    silences: int = 0
    """The version of them that it was told."""
    generation: int = 0
    ended: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """Let `follow` end."""
        self.ended = True
        self.news.set()


class Events:
    """Reads the pipeline's views and the store's transitions, while there are readers."""

    def __init__(
        self,
        pipeline: Tracker,
        store: Store,
        host: str,
        silences: Callable[[], list[SilenceRow]],
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._host = host
        self._silence_rows = silences
        self._silences = 0
        """Counts their changes."""
        self._heartbeat = heartbeat
        self._readers: set[Reader] = set()
        self._reading = asyncio.Lock()
        """One question at a time: commits go between two, whatever hundreds of readers ask."""
        self._tail: Place | None = None
        """Behind the last one in `_recent`; None: nobody reads."""
        self._recent: deque[_Entry] = deque(maxlen=RECENT)
        self._behind = False
        self._generation = 0
        """Counts the stores: one that was made anew begins with other ids."""
        self._epoch = 0
        """Counts what changes all rows."""
        self._version = 0
        self._changes: dict[str, int] = {}
        """udid → version, the latest change last."""
        self._rows: dict[str, tuple[DeviceView | None, bytes]] = {}
        self._silences_told: _Silences | None = None

    @property
    def readers(self) -> int:
        """How many follow."""
        return len(self._readers)

    def refresh(self) -> None:
        """Every row may have changed: the configuration did."""
        self._epoch += 1
        self._rows.clear()
        self._wake()

    async def open(self, selection: Selection, after: Place | None) -> Reader:
        """A reader of what comes after that place; None: from now on.

        Raises:
            BusyError: there are too many readers.
            StoreError: the store cannot be read.
        """
        if len(self._readers) >= MAX_READERS:
            raise BusyError(f"{MAX_READERS} readers follow the agent's events already")
        reader = Reader(selection, Place(0))
        self._readers.add(reader)
        try:
            tail = await self._start()
            missed = "" if after is None else await self._strange(after, tail)
        except BaseException:
            self.close(reader)
            raise
        reader.missed = missed
        reader.place = tail if after is None or missed else after
        reader.generation = self._generation
        reader.silences = self._silences
        return reader

    def close(self, reader: Reader) -> None:
        """Forget the reader, and with the last one what is kept for them."""
        self._readers.discard(reader)
        if not self._readers:
            self._tail = None
            self._recent.clear()
            self._changes.clear()
            self._rows.clear()
            self._silences_told = None

    async def follow(self, reader: Reader) -> AsyncGenerator[Message]:
        """What that reader is to be told, until it is ended.

        First what it missed, then a snapshot, then what happens. Raises StoreError.
        """
        while not reader.ended:
            reader.news.clear()
            entries = await self._after(reader)
            if reader.missed:
                yield _reset(reader.missed, str(reader.place))
                reader.missed, reader.epoch = "", -1
            for entry in entries:
                if lost := entry.stored.id - reader.place.id - 1:
                    reader.epoch = -1
                    yield _reset(_expired(lost))
                reader.place = entry.place
                if reader.selection.fits(entry.stored.transition.udid, entry.view):
                    reader.told = entry.place
                    yield Message("transition", (entry.data,), str(entry.place))
            if entries:
                continue
            for message in self._row_messages(reader):
                yield message
            if not reader.ended and not await self._news(reader):
                yield self._heart(reader)

    def changed(self, udid: str) -> None:
        """A device's view may be another one: `Topic.DEVICE`."""
        if self._readers:
            self._version += 1
            self._rows.pop(udid, None)
            self._changes.pop(udid, None)
            self._changes[udid] = self._version
            self._wake()

    def silences_changed(self) -> None:
        """There are others: `Topic.SILENCE`."""
        self._silences += 1
        self._wake()

    def stored(self) -> None:
        """Transitions are stored that were not: `Topic.TRANSITION`."""
        if self._readers:
            self._behind = True
            self._wake()

    # --- inside ----------------------------------------------------------------------------

    async def _news(self, reader: Reader) -> bool:
        try:
            async with asyncio.timeout(self._heartbeat):
                await reader.news.wait()
        except TimeoutError:
            return False
        return True

    def _heart(self, reader: Reader) -> Message:
        """Carries the place, where transitions that did not fit moved it on."""
        if reader.told == reader.place:
            return Message("")
        reader.told = reader.place
        return Message("", (), str(reader.place))

    def _wake(self) -> None:
        for reader in self._readers:
            reader.news.set()

    async def _start(self) -> Place:
        async with self._reading:
            if self._tail is None:
                self._behind = False
                last = await self._store.transitions.newest()
                tail = Place(0, 0) if last is None else Place(last.id, last.transition.at_ms)
                if self._readers:  # else the only one went away meanwhile
                    self._tail = tail
                return tail
            return self._tail

    async def _strange(self, place: Place, tail: Place) -> str:
        """Why that place cannot be one in this store; "": it can."""
        if place.id > tail.id:
            return f"the store has no transition {place.id}: it was restored, or made anew"
        if place.at_ms is not None:
            stored = await self._store.transitions.get(place.id)
            if stored is not None and stored.transition.at_ms != place.at_ms:
                return f"transition {place.id} is another one now: the store was made anew"
        return ""

    async def _after(self, reader: Reader) -> list[_Entry]:
        """Transitions behind the reader's place; nothing: there are none yet."""
        async with self._reading:
            try:
                while self._behind:
                    self._behind = False
                    await self._catch_up()
            except BaseException:  # whoever asks next is to ask again
                self._behind = True
                raise
            tail = self._tail
            assert tail is not None
            if reader.generation != self._generation:
                reader.generation, reader.place = self._generation, Place(0)
                reader.missed = "the store was corrupt, and made anew"
            known = tail.id - len(self._recent)
            """The id before the first that is in memory."""
            if reader.place.id >= known:
                return list(islice(self._recent, reader.place.id - known, None))
            rows = await self._store.transitions.after(reader.place.id, PAGE)
        return [self._entry(row) for row in rows]

    async def _catch_up(self) -> None:
        """Read what was stored since the tail, the tail itself again included."""
        tail = self._tail
        assert tail is not None
        rows = await self._store.transitions.after(tail.id - 1, PAGE)
        if tail.id and (not rows or (rows[0].id, rows[0].transition.at_ms) != tail):
            # It keeps no history of the old one: all that it has came since.
            self._generation += 1
            self._recent.clear()
            self._tail, self._behind = Place(0), True
            return
        self._behind = self._behind or len(rows) == PAGE
        for row in rows[1:] if tail.id else rows:
            if row.id != tail.id + 1:
                self._recent.clear()  # those in memory follow one another without a gap
            self._recent.append(self._entry(row))
            self._tail = tail = self._recent[-1].place

    def _entry(self, stored: StoredTransition) -> _Entry:
        view = self._pipeline.views.one(stored.transition.udid)
        return _Entry(stored, view, json.dumps(transition_row(stored, view, self._host)).encode())

    def _row_messages(self, reader: Reader) -> list[Message]:
        if reader.epoch != self._epoch:
            reader.epoch, reader.version = self._epoch, self._version
            reader.told = reader.place
            silences = self._silence_messages(reader, anew=True)
            return [
                Message("snapshot", self._snapshot(reader.selection), str(reader.place)),
                *silences,
            ]
        changed = []
        for udid, version in reversed(self._changes.items()):
            if version <= reader.version:
                break
            changed.append(udid)
        reader.version = self._version
        messages = self._silence_messages(reader, anew=False)
        for udid in reversed(changed):
            view, data = self._row(udid)
            if reader.selection.fits(udid, view):
                messages.append(Message("removed" if view is None else "device", (data,)))
        return messages

    def _silence_messages(self, reader: Reader, *, anew: bool) -> list[Message]:
        if reader.silences == self._silences and not anew:
            return []
        reader.silences = self._silences
        told = self._silences_told
        at = self._silences, self._version, self._epoch  # how many devices each covers may change
        if told is None or told.at != at:
            row: SilencesRow = {"silences": self._silence_rows()}
            told = _Silences(at, bool(row["silences"]), json.dumps(row).encode())
            self._silences_told = told
        return [Message("silences", (told.data,))] if told.some or not anew else []

    def _row(self, udid: str) -> tuple[DeviceView | None, bytes]:
        found = self._rows.get(udid)
        if found is None:
            view = self._pipeline.views.one(udid)
            row: DeviceRow | RemovedRow = (
                {"udid": udid} if view is None else device_row(view, self._host)
            )
            found = self._rows[udid] = view, json.dumps(row).encode()
        return found

    def _snapshot(self, selection: Selection) -> Iterator[bytes]:
        yield b'{"devices": ['
        comma = b""
        for udid in self._pipeline.roster.udids():
            view, data = self._row(udid)
            if view is not None and selection.fits(udid, view):
                yield comma + data
                comma = b", "
        yield b"]}"


def _reset(reason: str, id_: str = "") -> Message:
    row: ResetRow = {"reason": reason}
    return Message("reset", (json.dumps(row).encode(),), id_)


def _expired(lost: int) -> str:
    return f"{lost} transitions are older than delivery.retention, and were deleted"

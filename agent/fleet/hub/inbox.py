"""What came from the hosts and was not taken yet: bounded, and fair between them. No I/O.

Messages come in on the loop's thread faster than they can be taken. Of heartbeats and snapshots a
host's last one counts, so one is kept; rows of logs are kept in order, up to a bound, beyond which
they are dropped and the host's log is asked for instead. Rows are taken in the order of the
stream, over all hosts: where a phone went from one to another and back is told by that alone. All
else is taken host by host, in turns, and in turn with the rows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.fleet.link import Incoming
    from agent.fleet.words import HostSnapshot, TransitionTold

ROWS: Final = 2_000
"""Of one host."""
BYTES: Final = 2 * 1024 * 1024
"""Of them."""


@dataclass(slots=True)
class Asked:
    """What a host answered."""

    rows: tuple[TransitionTold, ...] = ()
    snapshot: HostSnapshot | None = None


@dataclass(slots=True)
class Box:
    """One host's."""

    rows: deque[Incoming] = field(default_factory=deque)
    size: int = 0
    beat: Incoming | None = None
    glimpse: Incoming | None = None
    asked: deque[tuple[int, Asked]] = field(default_factory=deque)
    """With how many rows had come by then: they are taken before it."""
    working: Iterator[None] | None = None
    """An answer that is half taken: nothing else of the host is, until it is whole."""
    came: int = 0
    """Rows that came in, since the start."""
    went: int = 0
    """Of those, taken or dropped."""
    dropped: bool = False
    """Some were: the log is to be asked for."""

    @property
    def answered(self) -> bool:
        """Whether an answer is the next to be taken."""
        return bool(self.asked) and self.went >= self.asked[0][0]

    @property
    def ready(self) -> bool:
        """Whether there is something besides rows to be taken now."""
        if self.beat or self.working or self.answered:
            return True
        return not self.rows and bool(self.dropped or self.glimpse)


class Inbox:
    """All hosts'."""

    def __init__(self, most: int) -> None:
        self.boxes: dict[str, Box] = {}
        self.dropped = 0
        """Messages, since the start."""
        self._most = most
        self._turns: deque[str] = deque()
        """Hosts of which something waits, besides rows."""
        self._order: deque[str] = deque()
        """Of each row that waits, its host."""
        self._row_is_next = False

    def box(self, host: str) -> Box | None:
        """That host's; None: there are too many hosts."""
        box = self.boxes.get(host)
        if box is None:
            if len(self.boxes) >= self._most:
                self.dropped += 1
                return None
            box = self.boxes[host] = Box()
        return box

    def row(self, host: str, message: Incoming) -> None:
        """A row of its log came."""
        box = self.box(host)
        if box is None:
            return
        box.came += 1
        if len(box.rows) >= ROWS or box.size + len(message.body) > BYTES:
            box.went += 1
            box.dropped = True
            self.dropped += 1
        else:
            box.rows.append(message)
            box.size += len(message.body)
            self._order.append(host)
        if box.ready:
            self.turn(host)

    def take(self, host: str) -> Incoming | None:
        """The next row, if it is of that host."""
        if not self._order or self._order[0] != host:
            return None
        self._order.popleft()
        box = self.boxes[host]
        message = box.rows.popleft()
        box.size -= len(message.body)
        box.went += 1
        return message

    def beat(self, host: str, message: Incoming) -> None:
        """A heartbeat came."""
        box = self.box(host)
        if box is not None:
            box.beat = message
            self.turn(host)

    def glimpse(self, host: str, message: Incoming) -> None:
        """A snapshot was published."""
        box = self.box(host)
        if box is not None:
            box.glimpse = message
            self.turn(host)

    def asked(self, host: str, answer: Asked) -> None:
        """It answered."""
        box = self.box(host)
        if box is not None:
            box.asked.append((box.came, answer))
            self.turn(host)

    def turn(self, host: str) -> None:
        """It has something that waits."""
        if host not in self._turns:
            self._turns.append(host)

    def next(self) -> tuple[str, Box] | None:
        """Whose turn it is; None: nothing waits. Whoever has more is put last again by `turn`."""
        self._row_is_next = not self._row_is_next
        while self._turns and not (self._row_is_next and self._order):
            host = self._turns.popleft()
            box = self.boxes[host]
            if box.ready:
                return host, box
        return (self._order[0], self.boxes[self._order[0]]) if self._order else None

    def clear(self) -> None:
        """The connection is lost: the rows come again, or are asked for."""
        for box in self.boxes.values():
            box.went = box.came
            box.rows.clear()
            box.size = 0
            box.beat = box.glimpse = None
            box.asked.clear()
        self._order.clear()

    def forget(self, host: str) -> None:
        """What waits of that host is not taken any more."""
        self.boxes.pop(host, None)
        if host in self._turns:
            self._turns.remove(host)
        self._order = deque(each for each in self._order if each != host)

    def oldest(self, newest: int) -> int:
        """The stream's number up to which everything was taken, where it was read to `newest`."""
        if not self._order:
            return newest
        return min(newest, self.boxes[self._order[0]].rows[0].sequence - 1)

    def beats(self) -> Iterator[tuple[str, Incoming]]:
        """Take all heartbeats that wait."""
        for host, box in self.boxes.items():
            if (beat := box.beat) is not None:
                box.beat = None
                yield host, beat

    def watermarks(self) -> dict[str, int]:
        """How many rows of each host have come, of those that some wait."""
        return {host: box.came for host, box in self.boxes.items() if box.rows}

    def passed(self, marks: dict[str, int]) -> bool:
        """Whether all that had come by then is taken."""
        boxes = self.boxes
        return all(boxes[host].went >= count for host, count in marks.items() if host in boxes)

"""What came from the hosts and was not taken yet: bounded, and fair between them. No I/O.

Messages come in on the loop's thread faster than they can be taken. Of heartbeats and snapshots a
host's last one counts, so one is kept; rows of logs are kept in order, up to a bound, beyond which
they are dropped and the host's log is asked for instead. Each host has its turn.
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
    asked: deque[Asked] = field(default_factory=deque)
    working: Iterator[None] | None = None
    """An answer that is half taken: nothing else of the host is, until it is whole."""
    came: int = 0
    """Rows that came in, since the start."""
    went: int = 0
    """Of those, taken or dropped."""
    dropped: bool = False
    """Some were: the log is to be asked for."""

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not (
            self.rows or self.beat or self.glimpse or self.asked or self.working or self.dropped
        )

    def take(self) -> Incoming:
        """The row whose turn it is."""
        message = self.rows.popleft()
        self.size -= len(message.body)
        self.went += 1
        return message


class Inbox:
    """All hosts'."""

    def __init__(self, most: int) -> None:
        self.boxes: dict[str, Box] = {}
        self.dropped = 0
        """Messages, since the start."""
        self._most = most
        self._turns: deque[str] = deque()
        """Hosts of which something waits."""

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
        self.turn(host)

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
            box.asked.append(answer)
            self.turn(host)

    def turn(self, host: str) -> None:
        """It has something that waits."""
        if host not in self._turns:
            self._turns.append(host)

    def next(self) -> tuple[str, Box] | None:
        """Whose turn it is; None: nothing waits. Whoever has more is put last again by `turn`."""
        while self._turns:
            host = self._turns.popleft()
            box = self.boxes[host]
            if not box.empty:
                return host, box
        return None

    def clear(self) -> None:
        """The connection is lost: the rows come again, or are asked for."""
        for box in self.boxes.values():
            box.went = box.came
            box.rows.clear()
            box.size = 0
            box.beat = box.glimpse = None
            box.asked.clear()

    def forget(self, host: str) -> None:
        """What waits of that host is not taken any more."""
        self.boxes.pop(host, None)
        if host in self._turns:
            self._turns.remove(host)

    def oldest(self, newest: int) -> int:
        """The stream's number up to which everything was taken, where it was read to `newest`."""
        waiting = [box.rows[0].sequence for box in self.boxes.values() if box.rows]
        return min([newest, *(number - 1 for number in waiting)])

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

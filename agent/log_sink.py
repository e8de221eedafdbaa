"""Where log lines go: a descriptor that may be full, blocked or dead.

Nothing here raises, and nothing waits: a line that cannot be written at once is kept, up to a
limit, and a thread writes it as soon as somebody reads; what is dropped is counted, and the count
is the first thing that is written when writing works again.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import stat
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 1024 * 1024
"""Bytes of lines that wait for a reader at most; later ones are dropped."""
AT_EXIT = 1.0
"""Seconds that the end of the process waits for a reader that is slow."""
_PIECE = select.PIPE_BUF
"""Bytes that a pipe which poll(2) calls writable takes without blocking (pipe(7))."""
_LOOK = 1.0
"""Seconds after which the thread looks again whether there is a reader."""
_PAUSE = 0.05
"""Seconds between tries where poll(2) and write(2) disagree."""


class _Item(NamedTuple):
    data: bytes
    lines: int
    """That are lost with it; of a notice those that it tells of."""
    is_notice: bool = False


class Sink:
    """Writes lines to the stream's descriptor; to the stream itself where it has none.

    Args:
        stream: as given to the process; None: it was closed.
        notice: the line that tells of dropped ones: how many, and why.
    """

    def __init__(self, stream: TextIO | None, notice: Callable[[int, str], str]) -> None:
        self.dropped = 0
        """Lines, since the start."""
        self._stream = stream
        self._notice = notice
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        # A finalizer of garbage may log while a line is written, in the same thread.
        self._lock = threading.RLock()
        self._writing = False
        self._queue: deque[_Item] = deque()
        self._size = 0
        self._untold = 0
        self._why = ""
        self._inside_line = self._torn = False
        self._thread: threading.Thread | None = None
        self._fd = _own(stream)
        self._socket: socket.socket | None = None
        if self._fd is not None:
            if stat.S_ISSOCK(os.fstat(self._fd).st_mode):
                self._socket = socket.socket(fileno=self._fd)
                weakref.finalize(self, self._socket.close).atexit = False
            else:
                weakref.finalize(self, os.close, self._fd).atexit = False
            atexit.register(_at_exit, weakref.ref(self))

    def write(self, line: str) -> None:
        """One line (or several, of one message)."""
        with self._lock:
            if self._fd is None:
                self._to_stream(line)
                return
            data = self._bytes(line)
            if self._size + len(data) > KEPT:
                self._lose(1, "nobody reads it")
                self.dropped += 1
                return
            self._tell()
            self._append(_Item(data, 1))
            if not self._writing and self._thread is None:
                self._drain()

    def flush(self, limit: float) -> None:
        """Wait until all is written, or for `limit` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(limit)

    def _bytes(self, line: str) -> bytes:
        return (line + "\n").encode(self._encoding, "backslashreplace")

    def _to_stream(self, line: str) -> None:
        if self._stream is None:
            self.dropped += 1
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except Exception as error:  # noqa: BLE001 - a stream of somebody's own: logging never raises
            self._lose(1, type(error).__name__)
            self.dropped += 1

    def _append(self, item: _Item) -> None:
        self._queue.append(item)
        self._size += len(item.data)

    def _lose(self, lines: int, why: str) -> None:
        self._untold += lines
        self._why = why

    def _tell(self) -> None:
        """Where lines were dropped, say so."""
        if self._untold:
            notice = self._bytes(self._notice(self._untold, self._why))
            self._append(_Item(notice, self._untold, is_notice=True))
            self._untold = 0

    def _drain(self) -> None:
        """Write while that does not block; a thread goes on where it would."""
        while self._queue:
            if not self._writable(0) or not self._write_piece():
                self._start()
                return

    def _write_piece(self) -> bool:
        """A piece of the first item; False: it would block."""
        self._writing = True
        item = self._queue.popleft()
        self._size -= len(item.data)
        # Behind a line that was cut off, the next one begins anew.
        start = b"\n" if self._torn else b""
        try:
            count = self._send(start + item.data[: _PIECE - 1]) - len(start)
        except BlockingIOError:
            self._put_back(item)
            return False
        except OSError as error:
            # What waits behind it would fail alike.
            self._lose_all(item, os.strerror(error.errno) if error.errno else type(error).__name__)
            return True
        finally:
            self._writing = False
        self._torn = False
        self._inside_line = count < len(item.data)
        if self._inside_line:
            self._put_back(item._replace(data=item.data[count:]))
        return True

    def _put_back(self, item: _Item) -> None:
        self._queue.appendleft(item)
        self._size += len(item.data)

    def _lose_all(self, first: _Item, why: str) -> None:
        for item in (first, *self._queue):
            self._lose(item.lines, why)
            self.dropped += not item.is_notice
        self._queue.clear()
        self._size = 0
        self._torn = self._torn or self._inside_line
        self._inside_line = False

    def _send(self, data: bytes) -> int:
        assert self._fd is not None
        if self._socket is None:
            return os.write(self._fd, data)
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _writable(self, seconds: float) -> bool:
        """Whether a piece can be written, or fails, at once."""
        assert self._fd is not None
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def _start(self) -> None:
        thread = threading.Thread(target=self._go_on, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be made: the next line tries again
            return
        self._thread = thread

    def _go_on(self) -> None:
        while True:
            self._writable(_LOOK)
            with self._lock:
                blocked = not self._writable(0) or not self._write_piece()
                if not self._queue:
                    self._tell()
                if not self._queue:
                    self._thread = None
                    return
            if blocked:
                time.sleep(_PAUSE)  # it is called writable, and takes nothing


def _own(stream: TextIO | None) -> int | None:
    """A descriptor of our own: the stream may be closed, and its number given to another file."""
    if stream is None:
        return None
    try:
        stream.flush()
        return os.dup(stream.fileno())
    except (OSError, ValueError):
        return None


def _at_exit(reference: weakref.ref[Sink]) -> None:
    sink = reference()
    if sink is not None:
        sink.flush(AT_EXIT)

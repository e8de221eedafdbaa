"""How an answer's head is read: the status counts as soon as it is there, whatever follows it.

aiohttp takes an answer as a whole: a head that breaks a rule (a blank in a name, two lengths, 9 KB
in one header) is an error, and its status is lost. For a callback that is the wrong way round: an
endpoint that said 2xx has it, and sending it again for three days makes it worse. So the head is
read here, to the end and no stricter than it must be, and aiohttp gets a head that says what
matters, spelt as it should be. Where the framing is in doubt the connection is not used again:
what is left on it must never be taken for the answer to a later request.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of a head that are kept; one that is longer ends there."""
# A status counts when it cannot become another one: three digits, and what ends them.
_STATUS: Final = re.compile(
    rb"HTTP/[0-3](?:\.[0-9]{1,2})?[ \t]+([1-9][0-9]{2})[ \t\r\n]", re.IGNORECASE
)
_BEGIN: Final = b"http/"
_MARK: Final = b"\xef\xbb\xbf"
_BEFORE: Final = re.compile(rb"(?:[\r\n\t ]|\xef\xbb\xbf)+")
"""What scripts print before their answer: blanks, line breaks, byte order marks."""
_NEXT: Final = re.compile(rb"\n\r?\n|\n(?=HTTP/[0-3])")
"""The end of an informational head; some leave the empty line out."""
_KEPT: Final = 8
"""Bytes in which that end may begin."""
_LONGEST_BEGIN: Final = 64
"""Bytes in which a status has to come: blanks before it may be many, but not endless."""
_END: Final = re.compile(rb"\n\r?\n")
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Of a header's name."""
_WORTH_KEEPING: Final = 2048
_LONGEST_LENGTH: Final = 15
"""Digits of a Content-Length: nobody sends a petabyte."""
_LOOKED_AT: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"retry-after", b"location"}
)
_BODILESS: Final = frozenset({204, 304})


class Head(NamedTuple):
    """What is taken from an answer's head."""

    status: int
    retry_after: str = ""
    location: str = ""
    clean: bytes = b""
    """The head as aiohttp gets it."""


class HeadReader:
    """Reads the heads of one exchange, informational ones and the final one. Pure."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self.status = 0
        """Of the final answer, as soon as it is there; 0 before."""
        self.alien = False
        """It does not begin as HTTP does: what came is not ours to read."""

    def feed(self, data: bytes) -> Head | None:
        """Take bytes in; the final head, once it is whole or longer than HEAD_LIMIT."""
        buffer = self._buffer
        buffer += data
        while not self.status:
            if self._skipping:
                end = _NEXT.search(buffer)
                if end is None:
                    del buffer[:-_KEPT]  # the end may begin there
                    return None
                del buffer[: end.end()]
                self._skipping = False
            if not self._begin():
                return None
        # The status is in the buffer's first bytes, and never searched again.
        end = _END.search(buffer)
        if end is not None and end.end() <= HEAD_LIMIT:
            return self._take(end.end())
        if len(buffer) <= HEAD_LIMIT:
            return None
        head = self.so_far()
        buffer.clear()
        return head

    def _begin(self) -> bool:
        """Look for a status at the buffer's start; False: more bytes are needed, or it is alien."""
        buffer = self._buffer
        if before := _BEFORE.match(buffer):
            del buffer[: before.end()]
        found = _STATUS.match(buffer)
        if found is None:
            self.alien = not _is_begin(buffer) or len(buffer) > _LONGEST_BEGIN or b"\n" in buffer
            return False
        status = int(found[1])
        if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.status = status
        else:
            self._skipping = True
        return True

    def so_far(self) -> Head:
        """The final head as far as it came; its status must be there."""
        return parse(bytes(self._buffer[:HEAD_LIMIT]), self.status, whole=False)

    def rest(self) -> bytes:
        """What came behind the head, or all of what is alien."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _take(self, size: int) -> Head:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        # A busy endpoint says the same many times a second.
        read = _parse_again if size <= _WORTH_KEEPING else parse
        return read(data, self.status, whole=True)


def _is_begin(data: bytes | bytearray) -> bool:
    """Whether a status may come of it."""
    return _BEGIN.startswith(data[: len(_BEGIN)].lower()) or _MARK.startswith(data)


def parse(data: bytes, status: int, *, whole: bool) -> Head:
    """What a head says. Lines that make no sense are left out, and cost the connection."""
    lines = data.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    keep = whole and b"\x00" not in data and data.startswith((b"HTTP/1.1 ", b"HTTP/1.1\t"))
    fields: dict[bytes, list[bytes]] = {}
    last: list[bytes] | None = None
    for line in lines[1:]:
        if line.startswith((b" ", b"\t")):  # a folded line, as they once were
            keep = False
            if last is not None:
                last[-1] += b" " + line.strip()
            continue
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN) or b"\r" in value:
            keep = False
        name = name.strip().lower()
        last = None
        if colon and name in _LOOKED_AT:
            last = fields.setdefault(name, [])
            last.append(value.strip())
    if not whole:
        framing, certain = b"Content-Length: 0\r\n", False
    else:
        framing, certain = _framing(status, fields)
    if keep and b"connection" in fields:
        options = b",".join(fields[b"connection"]).lower()
        keep = b"close" not in options and b"upgrade" not in options
    close = b"" if keep and certain else b"Connection: close\r\n"
    return Head(
        status,
        _text(fields, b"retry-after"),
        _text(fields, b"location"),
        b"HTTP/1.1 %d X\r\n%b%b\r\n" % (status, framing, close),
    )


_parse_again = lru_cache(maxsize=64)(parse)


def _framing(status: int, fields: dict[bytes, list[bytes]]) -> tuple[bytes, bool]:
    """The line that says where the body ends, and whether that is certain."""
    stated = fields.get(b"content-length", [])
    lengths = {each.strip() for each in b",".join(stated).split(b",")} - {b""}
    coding = b",".join(fields.get(b"transfer-encoding", ())).lower()
    if status in _BODILESS:
        return b"", not coding and len(stated) <= 1 and lengths <= {b"0"}
    if status < HTTPStatus.OK:
        return b"Content-Length: 0\r\n", False
    if coding:
        return b"Transfer-Encoding: chunked\r\n", coding == b"chunked" and not stated
    if len(lengths) == 1:
        (length,) = lengths
        if length.isdigit() and len(length) <= _LONGEST_LENGTH:
            return b"Content-Length: %b\r\n" % length, stated == [length]
    return b"", False  # to the connection's end


def _text(fields: dict[bytes, list[bytes]], name: bytes) -> str:
    values = fields.get(name)
    return values[0].strip().decode("utf-8", "replace") if values else ""


class Connection(ResponseHandler):
    """aiohttp's connection, which reads heads by `HeadReader`.

    Once the status is there, the rest of the head is waited for `patience` seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        super().__init__(loop)
        self._patience = patience
        self._heads: HeadReader | None = None
        self._enough: asyncio.TimerHandle | None = None
        self._answered: Head | None = None
        self.heard = False
        """Whether any byte of an answer came."""

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        if self._buffer or self._tail:
            # Sent by the endpoint unasked, before this request: no answer to it.
            self._buffer.clear()
            self._tail = b""
            self._hang_up()
        self._heads = HeadReader()
        self._answered = None
        self.heard = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Bytes of the endpoint."""
        if not data or self._parser is None or self._upgraded:
            super().data_received(data)
            return
        heads = self._heads
        if heads is not None:
            self.heard = True
            head = heads.feed(data)
            if head is not None:
                self._pass(head)
            elif heads.alien:
                self._heads = None
            else:
                if heads.status and self._enough is None:
                    self._enough = self._loop.call_later(self._patience, self._conclude)
                return
            data = heads.rest()
        if not data:
            return
        if self._answered is not None and (self._payload is None or self._payload.is_eof()):
            # More than the answer: it must never be taken for that to the next request.
            self._hang_up()
            return
        super().data_received(data)

    @property
    def answered(self) -> Head | None:
        """The answer's head, as far as it came; None: no status came."""
        if self._answered is None and self._heads is not None and self._heads.status:
            return self._heads.so_far()
        return self._answered

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Whatever ends the exchange: a status that came before it counts."""
        self._conclude()
        if exc_cause is None:
            super().set_exception(exc)
        else:
            super().set_exception(exc, exc_cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end, in order or not."""
        self._conclude()
        super().connection_lost(exc)

    def _conclude(self) -> None:
        heads = self._heads
        if heads is not None and heads.status and self._parser is not None:
            self._pass(heads.so_far())
            self._hang_up()

    def _pass(self, head: Head) -> None:
        self._heads = None
        if self._enough is not None:
            self._enough.cancel()
            self._enough = None
        self._answered = head
        super().data_received(head.clean)

    def _hang_up(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class Connector(aiohttp.TCPConnector):
    """aiohttp's, whose connections are those above."""

    def __init__(self, patience: float, **more: Any) -> None:
        super().__init__(**more)
        self._factory: Callable[[], Connection] = partial(Connection, self._loop, patience)  # type: ignore[assignment] # aiohttp calls it without arguments

"""The link over NATS: the one file that knows nats-py.

Of nats-py the connection alone is used, once and never mended: its own reconnecting sends what was
given up long ago, and its flush can be overtaken by what it is to wait for. Streams and buckets are
JSON over requests (`jetstream`). Whatever of it waits runs in a task that is never cancelled half
way: it has `asyncio.wait_for` inside, which on Python 3.11 can swallow a cancellation.

Over 400 lines, because nothing else may import nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import structlog

from agent.deliver.explain import os_words
from agent.fleet.access import read_credentials, read_tls
from agent.fleet.broker_link import BrokerLink
from agent.fleet.host import host_of
from agent.fleet.link import Link, LinkError, NoAnswerError, NobodyError
from agent.fleet.why import CONNECTING, PlainError, closed_early, why_not
from agent.fleet.wire import Raw
from agent.tasks import kind_of
from agent.text import printable
from agent.threads import in_thread
from agent.wire.dial import dial_tcp

try:
    import nats.errors
    from nats.aio.client import Client
    from nats.aio.transport import TcpTransport
except ImportError as _missing:
    raise LinkError(
        "[fleet] needs the package nats-py, which is not installed: pip install "
        "'device-agent[fleet]'"
    ) from _missing

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping
    from urllib.parse import ParseResult

    from nats.aio.msg import Msg

    from agent.config.model import Fleet
    from agent.config.secret import PrivateUrl
    from agent.fleet.credentials import Credentials

T = TypeVar("T")
log = structlog.get_logger(__name__)

READING: Final = 5.0
"""Seconds for files: credentials and certificates."""
ROUND_TRIP: Final = 5.0
"""Seconds in which a server that lives has answered a ping."""
PING_EVERY: Final = 3.0
"""Seconds; two unanswered ones, and the connection is lost."""
CLOSING: Final = 1.0
"""Seconds for what was published to go out."""
ROOM: Final = 16 * 1024 * 1024
"""Bytes that wait to be sent, at most: the broker does not take them."""
OLDEST: Final = (2, 9)
_NO_RESPONDERS: Final = "503"
_REFUSED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
_MOST_TOLD: Final = 20
"""Faults of one connection that are logged; more of them are repetitions."""

# Its own words come with a traceback; all that it has to say is said here.
logging.getLogger("nats").setLevel(logging.CRITICAL + 1)


async def dial(fleet: Fleet, last: str = "") -> Link:
    """Connect to one of the servers, tried in any order but for `last`: see `Dial`."""
    credentials = await _read(partial(read_credentials, fleet.credentials), "credentials")
    problems: list[str] = []
    servers = random.sample(fleet.servers, len(fleet.servers))
    for url in sorted(servers, key=lambda each: each.bare == last):
        encrypted = url.startswith("tls:") or bool(fleet.tls.ca or fleet.tls.cert)
        context = await _read(partial(read_tls, fleet.tls, wanted=encrypted), "tls")
        try:
            return await _connect(fleet, url, credentials, context, encrypted=encrypted)
        except LinkError as error:
            problems.append(str(error))
    raise LinkError("; ".join(problems) or "[fleet] servers is empty: there is nobody to dial")


async def _read(work: Callable[[], T], what: str) -> T:
    try:
        async with asyncio.timeout(READING):
            return await in_thread(work, f"read fleet's {what}")
    except TimeoutError:
        raise LinkError(
            f"[fleet] {what}: not read within {READING:g} s; does the file system hang?"
        ) from None


class _Socket(TcpTransport):
    """nats-py's, with a limit to each wait, and no word before TLS where that is wanted."""

    def __init__(self, *, encrypted: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py's types are partial
        self._encrypted = encrypted
        self._secure = False
        self.failure: Exception | None = None
        """Why there is no connection."""
        self.tls_began = False

    def __bool__(self) -> bool:
        return True  # nats-py would make its own otherwise

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:  # noqa: ARG002 - the caller of all this limits the time
        """Connect; nats-py tries again, and need not."""
        if self.failure is not None:
            raise self.failure
        try:
            sock = await dial_tcp(uri.hostname or "", uri.port or 4222)
        except Exception as error:
            self.failure = error
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer_size)
        self._io_reader = self._bare_io_reader = reader
        self._io_writer = self._bare_io_writer = writer

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Begin TLS, though it was not asked for; by the system's authorities then."""
        if not self._encrypted:
            await in_thread(ssl_context.load_default_certs, "read authorities")
        self.tls_began = True
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._secure = True

    def write(self, payload: bytes) -> None:
        """Hand it to the kernel, or keep it until that takes it."""
        if self._encrypted and not self._secure:
            raise PlainError
        super().write(payload)  # type: ignore[no-untyped-call] # likewise

    def writelines(self, payload: list[bytes]) -> None:
        """Likewise; nats-py also asks for nothing to be written."""
        if payload:
            self.write(b"".join(payload))

    async def drain(self) -> None:
        """Wait for nothing: nats-py would, for ever, while the broker is silent. See ROOM."""

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken."""
        writer = self._io_writer
        return 0 if writer is None else writer.transport.get_write_buffer_size()

    async def wait_closed(self) -> None:
        """For what waits to go out, and no longer than it may take."""
        try:
            async with asyncio.timeout(CLOSING):
                await super().wait_closed()  # type: ignore[no-untyped-call] # likewise
        except (TimeoutError, OSError):
            self.abort()

    def abort(self) -> None:
        """End it now."""
        for writer in (self._io_writer, self._bare_io_writer):
            if writer is not None:
                writer.transport.abort()


class _Client(Client):
    """nats-py's, which writes each command at once: so nothing overtakes, and nothing piles up."""

    def __init__(self, transport: _Socket, credentials: Credentials | None) -> None:
        super().__init__()
        self._transport = transport
        if credentials is not None and not credentials.jwt:
            self._public_nkey = credentials.public

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:  # noqa: ARG002
        assert self._transport is not None
        self._transport.write(cmd)

    async def ping(self) -> asyncio.Future[Any]:
        """Is done once the server has had all that was sent before; must not be cancelled."""
        pong: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        return pong


async def _connect(
    fleet: Fleet,
    url: PrivateUrl,
    credentials: Credentials | None,
    context: ssl.SSLContext,
    *,
    encrypted: bool,
) -> Link:
    where = url.bare
    transport = _Socket(encrypted=encrypted)
    client = _Client(transport, credentials)
    host = host_of(fleet)
    wire = NatsWire(client, transport, where, f"_INBOX.{fleet.role}.{host}")
    connecting = asyncio.ensure_future(
        client.connect(
            servers=[where],
            name=f"device-agent {fleet.role} {host}",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECTING),
            ping_interval=int(PING_EVERY),
            max_outstanding_pings=2,
            pending_size=0,
            flusher_queue_size=0,
            tls=context,
            error_cb=wire.on_error,
            closed_cb=wire.on_closed,
            **_who(url, credentials),
        )
    )
    try:
        await asyncio.wait({connecting}, timeout=CONNECTING)
        error = connecting.exception() if connecting.done() else TimeoutError()
        if error is not None:
            raise LinkError(_failed(where, transport, error, credentials))  # noqa: TRY301 - one clean-up for all
        if not client.is_connected:
            raise LinkError(closed_early(where, tls=transport.tls_began))  # noqa: TRY301 - likewise
        _check_version(client, where)
        await wire.open()
    except BaseException:
        connecting.add_done_callback(partial(_discard, transport))
        connecting.cancel()
        wire.discard()
        raise
    return BrokerLink(wire)


def _failed(
    where: str, transport: _Socket, error: BaseException, credentials: Credentials | None
) -> str:
    error = transport.failure or error
    said = str(error).removeprefix("nats: ") if isinstance(error, nats.errors.Error) else ""
    return why_not(where, error, said, credentials=credentials is not None, tls=transport.tls_began)


def _who(url: PrivateUrl, credentials: Credentials | None) -> dict[str, Any]:
    """How nats-py is told who we are; from the URL it would take it percent-encoded."""
    if credentials is not None:
        who: dict[str, Any] = {"signature_cb": credentials.sign}
        if credentials.jwt:
            who["user_jwt_cb"] = credentials.jwt.encode
        return who
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.password is None:
        return {"token": user} if user else {}
    return {"user": user, "password": password}


def _discard(transport: _Socket, connecting: asyncio.Future[None]) -> None:
    if not connecting.cancelled():
        connecting.exception()
    transport.abort()


def _check_version(client: Client, where: str) -> None:
    version = client.connected_server_version
    try:
        found = (version.major, version.minor)
    except ValueError:
        return  # a build of somebody's own
    if found < OLDEST:
        raise LinkError(
            f"{where} is nats-server {found[0]}.{found[1]}: the fleet needs "
            f"{OLDEST[0]}.{OLDEST[1]} or newer"
        )


class NatsWire:
    """One connection to one server: see `Wire`, whose methods these are."""

    def __init__(self, client: _Client, transport: _Socket, where: str, inbox: str) -> None:
        self._client = client
        self._transport = transport
        self.where = where
        """The server, without a password."""
        self._inbox = f"{inbox}.{secrets.token_hex(12)}"
        self._asked: dict[str, tuple[str, asyncio.Future[Raw]]] = {}
        self._refused: dict[str, None] = {}
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._told = 0

    def __repr__(self) -> str:
        return f"<connection to {self.where}>"

    async def open(self) -> None:
        """Hear answers."""
        await self.hear(f"{self._inbox}.a.*", self._on_answer)

    async def on_error(self, error: Exception) -> None:
        """Of nats-py: whatever it has to complain of."""
        if isinstance(error, nats.errors.SlowConsumerError):
            self._tell("fleet.too_slow", f"messages on {printable(error.subject, 200)} are lost")
        match = _REFUSED.search(str(error).lower())
        if match is None:
            return  # it ends the connection, and is told then
        kind, subject = match.groups()
        if kind == "subscription":
            self._refused[subject] = None
            return
        # nats-py made small letters of it.
        asking = [each for each in self._asked.values() if each[0].lower() == subject]
        for full, future in asking:
            if not future.done():
                future.set_exception(LinkError(self._not_allowed(kind, full)))
        if not asking:
            self._tell("fleet.not_allowed", self._not_allowed(kind, subject))

    def _not_allowed(self, kind: str, subject: str) -> str:
        verb = "publish to" if kind == "publish" else "subscribe to"
        return (
            f"{self.where} does not allow this user to {verb} {printable(subject, 200)}: see "
            "'permissions' in its configuration (config/nats.conf has what agents and hubs need)"
        )

    async def on_closed(self) -> None:
        """Of nats-py: it is over."""
        error = self._client.last_error
        match error:
            case None | nats.errors.UnexpectedEOF():
                why = "was closed by the broker: did it stop? Its log says why"
            case nats.errors.StaleConnectionError():
                why = "is dead: a ping was not answered"
            case nats.errors.Error():
                why = (
                    f"was ended by the broker: {printable(str(error).removeprefix('nats: '), 200)}"
                )
            case _:
                why = f"is lost: {os_words(error)}"
        self._lose(f"the connection to {self.where} {why}")

    def _lose(self, reason: str) -> None:
        if self._lost.done():
            return
        self._lost.set_result(reason)
        for _, future in self._asked.values():
            if not future.done():
                future.set_exception(LinkError(reason))
        for task in self._tasks:
            task.cancel()

    def _tell(self, event: str, reason: str) -> None:
        self._told += 1
        if self._told <= _MOST_TOLD:
            log.warning(event, reason=reason)

    def _check(self) -> None:
        if self._lost.done():
            raise LinkError(self._lost.result())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it while there is the connection."""
        if self._lost.done():
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, LinkError):
            log.error("fleet.task_failed", reason=kind_of(error), exc_info=error)
            self._lose(f"internal error ({kind_of(error)})")
            self._transport.abort()

    def new_inbox(self) -> str:
        """A subject below our own, which the broker need not let others hear."""
        return f"{self._inbox}.{secrets.token_hex(8)}"

    async def send(
        self, subject: str, body: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand it to the socket: nothing here waits, so calls keep their order."""
        self._check()
        if self._transport.waiting > ROOM:
            raise LinkError(f"{self.where} takes nothing: {ROOM >> 20} MiB wait to be sent")
        try:
            await self._client.publish(subject, body, reply, dict(headers) if headers else None)
        except nats.errors.MaxPayloadError:
            raise LinkError(
                f"a message on {subject} has {len(body)} bytes, and {self.where} takes "
                f"{self._client.max_payload}: raise max_payload in its configuration"
            ) from None
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None

    async def ask(
        self, subject: str, body: bytes, limit: float, headers: Mapping[str, str] | None = None
    ) -> Raw:
        """Send it, and wait for the first answer."""
        # Who was asked one thing knows of no other: agents may publish to inboxes of hubs.
        token = secrets.token_hex(8)
        future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._asked[token] = subject, future
        try:
            async with asyncio.timeout(limit):
                await self.send(subject, body, f"{self._inbox}.a.{token}", headers)
                answer = await future
        except TimeoutError:
            raise NoAnswerError(f"no answer on {subject} within {limit:g} s") from None
        finally:
            del self._asked[token]
            if not future.cancel() and not future.cancelled():
                future.exception()  # heard, though who asked was cancelled at that very moment
        if answer.status == _NO_RESPONDERS and not answer.body:
            raise NobodyError(f"nobody listens on {subject}")
        return answer

    def _on_answer(self, raw: Raw) -> None:
        _, future = self._asked.get(raw.subject.rpartition(".")[2], ("", None))
        if future is not None and not future.done():
            future.set_result(raw)

    async def hear(self, subject: str, handler: Callable[[Raw], None]) -> Callable[[], None]:
        """Have what is published there; returns once the broker knows."""
        self._check()

        async def on_message(message: Msg) -> None:
            raw = Raw(message.subject, message.reply, message.data, message.headers or {})
            try:
                handler(raw)
            except Exception as error:
                log.exception("fleet.handler_failed", subject=subject, reason=kind_of(error))

        self._refused.pop(subject.lower(), None)
        try:
            heard = await self._client.subscribe(subject, cb=on_message)
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None

        def end() -> None:
            self.spawn(self._unsubscribe(heard))

        try:
            await self._barrier()
        except BaseException:
            end()
            raise
        if subject.lower() in self._refused:
            end()
            raise LinkError(self._not_allowed("subscription", subject))
        return end

    async def _unsubscribe(self, heard: Any) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await heard.unsubscribe()

    async def _barrier(self) -> None:
        """Until the broker has had all that was sent before."""
        try:
            pong = await self._client.ping()
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None
        done, _ = await asyncio.wait(
            {pong, self._lost}, timeout=ROUND_TRIP, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            self._lose(f"{self.where} does not answer within {ROUND_TRIP:g} s")
            self._transport.abort()
        self._check()

    def _failed(self, error: Exception) -> LinkError:
        """What nats-py raised, once it has nothing to send to any more."""
        if self._lost.done():
            return LinkError(self._lost.result())
        if isinstance(error, nats.errors.BadSubjectError | nats.errors.BadHeaderError):
            return LinkError("that cannot be sent: a subject or header of it is malformed")
        return LinkError(f"the connection to {self.where} is lost")

    def discard(self) -> None:
        """End it at once: it never was of use."""
        self._lose(f"the connection to {self.where} was given up")
        self._transport.abort()

    async def lost(self) -> str:
        """Return once it is."""
        return await asyncio.shield(self._lost)

    async def close(self) -> None:
        """Flush, and end it."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if not self._lost.done() and self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                pong = await self._client.ping()
                await asyncio.wait(
                    {pong, self._lost}, timeout=CLOSING, return_when=asyncio.FIRST_COMPLETED
                )
        self._lose(f"the connection to {self.where} was closed by us")
        # Its own close flushes, and waits for no more than `_Socket.wait_closed`.
        ending = asyncio.ensure_future(self._client.close())
        await asyncio.wait({ending}, timeout=2 * CLOSING)
        self._transport.abort()
        ending.add_done_callback(partial(_discard, self._transport))

"""The link over NATS: the one file that knows nats-py.

Of nats-py the connection alone is used, once and never mended: its own reconnecting sends what was
given up long ago, and its flush can be overtaken by what it is to wait for. Streams and buckets are
JSON over requests (`jetstream`). Whatever of it waits runs in a task that is never cancelled half
way: it has `asyncio.wait_for` inside, which on Python 3.11 can swallow a cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.address import host_port
from agent.deliver.explain import os_words
from agent.errors import SecretError
from agent.fleet.credentials import Credentials, CredentialsError
from agent.fleet.follower import Follower
from agent.fleet.host import host_of
from agent.fleet.jetstream import JetStream, bucket_config, kv, stream_config
from agent.fleet.link import (
    Entry,
    Handler,
    Incoming,
    Link,
    LinkError,
    NoAnswerError,
    NobodyError,
    Stream,
)
from agent.fleet.wire import Raw
from agent.tasks import kind_of
from agent.text import printable
from agent.threads import in_thread

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
    from collections.abc import Callable, Coroutine, Mapping
    from urllib.parse import ParseResult

    from nats.aio.msg import Msg

    from agent.config.model import Fleet, FleetTls
    from agent.config.secret import PrivateUrl

log = structlog.get_logger(__name__)

CONNECTING: Final = 5.0
"""Seconds for one server, from the look-up of its name to its answer."""
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


async def dial(fleet: Fleet) -> Link:
    """Connect to one of the servers, tried in any order."""
    credentials = (
        await _read(partial(_credentials, fleet), "credentials") if fleet.credentials else None
    )
    problems: list[str] = []
    for url in random.sample(fleet.servers, len(fleet.servers)):
        wanted = url.startswith("tls:") or fleet.tls.ca is not None or fleet.tls.cert is not None
        context = await _read(partial(_tls, fleet.tls, full=wanted), "[fleet] tls")
        try:
            return await _connect(fleet, url, credentials, context, encrypted=wanted)
        except LinkError as error:
            problems.append(str(error))
    raise LinkError("; ".join(problems) or "[fleet] servers is empty: there is nobody to dial")


async def _read(work: Callable[[], Any], what: str) -> Any:
    try:
        async with asyncio.timeout(READING):
            return await in_thread(work, f"read {what}")
    except TimeoutError:
        raise LinkError(
            f"{what} not read within {READING:g} s: does the file system hang?"
        ) from None


def _credentials(fleet: Fleet) -> Credentials:
    assert fleet.credentials is not None
    try:
        found = Credentials.parse(fleet.credentials.read())
        found.sign("")
    except SecretError as error:
        raise LinkError(f"[fleet] credentials: {error}") from None
    except CredentialsError as error:
        raise LinkError(f"[fleet] credentials: {fleet.credentials} {error}") from None
    except ImportError:
        raise LinkError(
            "[fleet] credentials need the package cryptography, which is not installed: pip "
            "install 'device-agent[fleet]'"
        ) from None
    return found


def _tls(tls: FleetTls, *, full: bool) -> ssl.SSLContext:
    """Our side of TLS. Blocking; the system's authorities are read where TLS is wanted only."""
    if not full:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise LinkError(
            f"[fleet] tls.ca {tls.ca}: {os_words(error)}; it must be a PEM file"
        ) from None
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = f"tls.cert {tls.cert}" + (f", tls.key {tls.key}" if tls.key else "")
            raise LinkError(f"[fleet] {files}: {os_words(error)}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give the agent a key without one")


class _PlainError(OSError):
    """TLS is wanted, and the server offers none: nothing was told to it."""


class _Socket(TcpTransport):
    """nats-py's, with a limit to each wait, and no word before TLS where that is wanted."""

    def __init__(self, *, encrypted: bool, own_authorities: bool) -> None:
        super().__init__()
        self._encrypted = encrypted
        self._own_authorities = own_authorities
        self._secure = False
        self.failure: Exception | None = None

    def __bool__(self) -> bool:
        return True  # nats-py would make its own otherwise

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect; nats-py tries again, and need not."""
        if self.failure is not None:
            raise self.failure
        try:
            await super().connect(uri, buffer_size, connect_timeout)
        except Exception as error:
            self.failure = error
            raise

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Begin TLS; by the system's authorities where the operator named none."""
        if not self._own_authorities and not ssl_context.get_ca_certs():
            await in_thread(ssl_context.load_default_certs, "read authorities")
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._secure = True

    def write(self, payload: bytes) -> None:
        """Hand it to the kernel, or keep it until that takes it."""
        if self._encrypted and not self._secure:
            raise _PlainError
        super().write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Likewise; nats-py also asks for nothing to be written."""
        if payload:
            self.write(b"".join(payload))

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken."""
        writer = self._io_writer
        return 0 if writer is None else writer.transport.get_write_buffer_size()

    async def wait_closed(self) -> None:
        """For what waits to go out, and no longer than it may take."""
        try:
            async with asyncio.timeout(CLOSING):
                await super().wait_closed()
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
    transport = _Socket(encrypted=encrypted, own_authorities=encrypted)
    client = _Client(transport, credentials)
    link = NatsLink(client, transport, where, f"_INBOX.{fleet.role}.{host_of(fleet)}")
    options: dict[str, Any] = {}
    if credentials is not None:
        options["signature_cb"] = credentials.sign
        if credentials.jwt:
            options["user_jwt_cb"] = credentials.jwt.encode
    connecting = asyncio.ensure_future(
        client.connect(
            servers=[str(url)],
            name=f"device-agent {fleet.role} {host_of(fleet)}",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECTING,  # type: ignore[arg-type] # it may be a fraction
            ping_interval=PING_EVERY,  # type: ignore[arg-type] # likewise
            max_outstanding_pings=2,
            pending_size=0,
            flusher_queue_size=0,
            tls=context,
            error_cb=link.on_error,
            closed_cb=link.on_closed,
            **options,
        )
    )
    try:
        done, _ = await asyncio.wait({connecting}, timeout=CONNECTING)
        if not done:
            raise LinkError(
                f"{where} does not answer within {CONNECTING:g} s: is the address right, does it "
                "run, does a firewall stand between, and is it a NATS server?"
            )
        if (error := connecting.exception()) is not None:
            raise LinkError(_why_not(where, transport.failure or error, credentials))
        if not client.is_connected:
            raise LinkError(f"{where} closed the connection while we signed in: see its log")
        _check_version(client, where)
        await link.open()
    except BaseException:
        connecting.add_done_callback(partial(_discard, transport))
        connecting.cancel()
        link.discard()
        raise
    return link


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


def _why_not(where: str, error: BaseException, credentials: Credentials | None) -> str:  # noqa: PLR0911 - a table
    match error:
        case _PlainError():
            return (
                f"{where} offers no TLS, which is wanted: put 'tls {{ … }}' into the broker's "
                "configuration, or take tls:// and [fleet] tls out of the agent's"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"certificate of {where} refused: {os_words(error)}; [fleet] tls.ca names the "
                "authority that signed it"
            )
        case ssl.SSLError():
            return (
                f"TLS with {where} failed: {os_words(error)}; does the broker want a client's "
                "certificate ([fleet] tls.cert), or another one?"
            )
        case TimeoutError():
            return (
                f"{where} does not answer within {CONNECTING:g} s: is the address right, does it "
                "run, does a firewall stand between, and is it a NATS server?"
            )
        case ConnectionRefusedError():
            return f"{where} refuses connections: nothing listens there"
        case OSError():
            return f"cannot connect to {where}: {os_words(error)}"
        case nats.errors.Error() if "authorization" in str(error).lower():
            what = "credentials" if credentials is not None else "user and password of the URL"
            return (
                f"{where} does not let us in: it knows the {what} not, or wants others; see "
                "'authorization' in its configuration, and [fleet] credentials or servers here"
            )
        case nats.errors.Error() if "'" in str(error):
            return (
                f"{where} does not let us in: {printable(str(error).removeprefix('nats: '), 200)}"
            )
        case _:
            return (
                f"what answers at {where} is no NATS server: is the port right? Clients of NATS "
                "commonly have 4222"
            )


class NatsLink:
    """One connection to one server; made by `dial`."""

    def __init__(self, client: _Client, transport: _Socket, where: str, inbox: str) -> None:
        self._client = client
        self._transport = transport
        self._where = where
        self._inbox = f"{inbox}.{random.randbytes(12).hex()}"
        self._inboxes = 0
        self._asked: dict[str, tuple[str, asyncio.Future[Raw]]] = {}
        self._refused: dict[str, None] = {}
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._told = 0
        self._jetstream = JetStream(self)

    def __repr__(self) -> str:
        return f"<NatsLink: {self._where}>"

    # The connection's own news.

    async def open(self) -> None:
        """Hear answers."""
        await self.hear(f"{self._inbox}.a.*", self._on_answer)

    async def on_error(self, error: Exception) -> None:
        """Of nats-py: whatever it has to complain of."""
        match = _REFUSED.search(str(error).lower())
        if match is None:
            return  # it ends the connection, and is told then
        kind, subject = match.groups()
        reason = self._not_allowed(kind, subject)
        asking = [each for of, each in self._asked.values() if of.lower() == subject]
        for each in asking:
            if not each.done():
                each.set_exception(LinkError(reason))
        if kind == "subscription":
            self._refused[subject] = None
        elif not asking:
            self._tell("fleet.not_allowed", reason)

    def _not_allowed(self, kind: str, subject: str) -> str:
        verb = "publish to" if kind == "publish" else "subscribe to"
        return (
            f"{self._where} does not allow this user to {verb} {printable(subject, 200)}: see "
            "'permissions' in its configuration (config/nats.conf has what agents and hubs need)"
        )

    async def on_closed(self) -> None:
        """Of nats-py: it is over."""
        error = self._client.last_error
        match error:
            case None | nats.errors.UnexpectedEOF():
                why = "was closed by the broker"
            case nats.errors.StaleConnectionError():
                why = "is dead: the broker does not answer"
            case nats.errors.Error():
                why = (
                    f"was ended by the broker: {printable(str(error).removeprefix('nats: '), 200)}"
                )
            case _:
                why = f"is lost: {os_words(error)}"
        self._lose(f"the connection to {self._where} {why}")

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

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, LinkError):
            log.error("fleet.task_failed", reason=kind_of(error), exc_info=error)
            self._lose(f"internal error ({kind_of(error)})")
            self._transport.abort()

    # Below streams: see `wire.Wire`.

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"{self._inbox}.{self._inboxes}"

    async def send(
        self, subject: str, body: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self._check()
        if self._transport.waiting > ROOM:
            raise LinkError(f"{self._where} takes nothing: {ROOM >> 20} MiB wait to be sent")
        try:
            await self._client.publish(subject, body, reply, dict(headers) if headers else None)
        except nats.errors.MaxPayloadError:
            raise LinkError(
                f"a message on {subject} has {len(body)} bytes, and {self._where} takes "
                f"{self._client.max_payload}: raise max_payload in its configuration"
            ) from None
        except (nats.errors.Error, OSError) as error:
            raise self._failed(error) from None

    def send_later(self, subject: str) -> None:
        if not self._lost.done():
            self._spawn(self.send(subject, b""))

    async def ask(
        self, subject: str, body: bytes, limit: float, headers: Mapping[str, str] | None = None
    ) -> Raw:
        self._inboxes += 1
        token = str(self._inboxes)
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
            future.cancel()
        if answer.status == _NO_RESPONDERS and not answer.body:
            raise NobodyError(f"nobody listens on {subject}")
        return answer

    def _on_answer(self, raw: Raw) -> None:
        _, future = self._asked.get(raw.subject.rpartition(".")[2], ("", None))
        if future is not None and not future.done():
            future.set_result(raw)

    async def hear(self, subject: str, handler: Callable[[Raw], None]) -> Callable[[], None]:
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
            if not self._lost.done():
                self._spawn(self._unsubscribe(heard))

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
            self._lose(f"{self._where} does not answer within {ROUND_TRIP:g} s")
            self._transport.abort()
        self._check()

    def _failed(self, error: Exception) -> LinkError:
        """What nats-py raised, once it has nothing to send to any more."""
        if self._lost.done():
            return LinkError(self._lost.result())
        if isinstance(error, nats.errors.BadSubjectError | nats.errors.BadHeaderError):
            return LinkError("that cannot be sent: a subject or header of it is malformed")
        return LinkError(f"the connection to {self._where} is lost")

    def discard(self) -> None:
        """End it at once: it never was of use."""
        self._lose(f"the connection to {self._where} was given up")
        self._transport.abort()

    # See `link.Link`.

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def close(self) -> None:
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
        self._lose(f"the connection to {self._where} was closed by us")
        # Its own close flushes, and waits for no more than `_Socket.wait_closed`.
        ending = asyncio.ensure_future(self._client.close())
        await asyncio.wait({ending}, timeout=2 * CLOSING)
        self._transport.abort()
        ending.add_done_callback(partial(_discard, self._transport))

    async def publish(self, subject: str, body: bytes) -> None:
        await self.send(subject, body)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        await self.hear(subject, partial(self._hand_over, handler))

    def _hand_over(self, handler: Handler, raw: Raw) -> None:
        reply = partial(self.send, raw.reply) if raw.reply else None
        handler(Incoming(raw.subject, raw.body, reply=reply))

    async def request(self, subject: str, body: bytes, limit: float) -> bytes:
        return (await self.ask(subject, body, limit)).body

    async def make_stream(self, stream: Stream) -> None:
        await self._jetstream.make(stream_config(stream))

    async def make_bucket(self, bucket: str) -> None:
        await self._jetstream.make(bucket_config(bucket))

    async def append(self, subject: str, body: bytes, message_id: str) -> int:
        return await self._jetstream.put_in(
            f"message {message_id}", subject, body, {"Nats-Msg-Id": message_id}
        )

    async def follow(self, stream: str, subject: str, after: int, handler: Handler) -> None:
        await self._begin(Follower(self, self._jetstream, stream, subject, after, handler))

    async def _begin(self, follower: Follower) -> None:
        await follower.begin()
        self._check()
        self._spawn(follower.run())

    async def last_number(self, stream: str) -> tuple[str, int]:
        info = await self._jetstream.info(stream)
        last = (info.get("state") or {}).get("last_seq")
        return str(info.get("created", "")), last if isinstance(last, int) else 0

    async def get(self, bucket: str, key: str) -> Entry | None:
        return (await self._jetstream.get(bucket, key))[0]

    async def put(self, bucket: str, key: str, value: bytes) -> int:
        return await self._jetstream.put_in(
            f"key {key} of bucket {bucket}", kv(bucket, key), value, None
        )

    async def swap(self, bucket: str, key: str, value: bytes, revision: int) -> int | None:
        return await self._jetstream.swap(bucket, key, value, revision)

    async def watch(self, bucket: str, handler: Handler) -> None:
        follower = Follower(
            self,
            self._jetstream,
            f"KV_{bucket}",
            f"$KV.{bucket}.>",
            0,
            handler,
            last=True,
            cut=f"$KV.{bucket}.",
        )
        await self._begin(follower)

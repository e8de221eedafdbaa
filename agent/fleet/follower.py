"""Hears a stream in order, over an ephemeral consumer that is made anew when something is amiss.

The consumer pushes, wants no acknowledgements, is known to one server's memory alone, and is
removed by the broker when nobody hears it. Whether it lives is told by its heartbeats, whether
something is missing by its own numbers.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.fleet.jetstream import NANO
from agent.fleet.link import Handler, Incoming, LinkError
from agent.tasks import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.fleet.jetstream import JetStream
    from agent.fleet.wire import Raw, Wire

log = structlog.get_logger(__name__)

HEARTBEAT: Final = 1.0
"""Seconds between two signs of a consumer that has nothing to say."""
MISSED: Final = 4.0
"""Seconds without one after which it is taken for gone."""
UNHEARD: Final = 30.0
"""Seconds after which the broker removes a consumer that nobody hears."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two trials to begin anew."""


class Follower:
    """One stream's messages, for one handler.

    Args:
        wire: over which.
        jetstream: of the same connection.
        stream: its name.
        subject: which of its messages.
        after: number behind which.
        last: whether only each subject's last message counts, to begin with.
        handler: is called with each.
        cut: of the subject's start, for the handler.
    """

    def __init__(
        self,
        wire: Wire,
        jetstream: JetStream,
        stream: str,
        subject: str,
        after: int,
        handler: Handler,
        *,
        last: bool = False,
        cut: str = "",
    ) -> None:
        self._wire = wire
        self._jetstream = jetstream
        self._stream = stream
        self._subject = subject
        self._after = after
        self._last = last
        self._handler = handler
        self._cut = cut
        self._made = ""
        self._life = 0
        """Counts the consumers; what an earlier one still sends is not heard."""
        self._delivered = 0
        """By this consumer."""
        self._heard = 0.0
        self._amiss = asyncio.Event()
        self._end: Callable[[], None] = _nothing

    async def begin(self) -> None:
        """Have a consumer behind the last message heard. Raises LinkError."""
        self._end()
        self._end = _nothing
        self._life += 1
        self._delivered = 0
        self._amiss.clear()
        made = str((await self._jetstream.info(self._stream)).get("created", ""))
        if self._made not in {"", made}:
            self._after = 0  # another stream of that name: its numbers begin again
        self._made = made
        inbox = self._wire.new_inbox()
        end = await self._wire.hear(inbox, partial(self._take, self._life))
        name = f"da-{secrets.token_hex(8)}"
        try:
            await self._jetstream.call(
                f"stream {self._stream} cannot be followed",
                f"CONSUMER.CREATE.{self._stream}.{name}.{self._subject}",
                {"stream_name": self._stream, "config": self._config(name, inbox)},
            )
        except BaseException:
            end()
            raise
        self._end = end
        self._heard = asyncio.get_running_loop().time()

    def _config(self, name: str, inbox: str) -> dict[str, Any]:
        if self._after:
            start: dict[str, Any] = {
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._after + 1,
            }
        else:
            start = {"deliver_policy": "last_per_subject" if self._last else "all"}
        return {
            **start,
            "name": name,
            "filter_subject": self._subject,
            "deliver_subject": inbox,
            "ack_policy": "none",
            "replay_policy": "instant",
            "idle_heartbeat": int(HEARTBEAT * NANO),
            "flow_control": True,
            "inactive_threshold": int(UNHEARD * NANO),
            "num_replicas": 1,
            "mem_storage": True,
        }

    async def run(self) -> None:
        """Begin anew whenever it is needed; ends with the connection."""
        while True:
            await self._until_amiss()
            pause = FIRST_PAUSE
            told = False
            while True:
                try:
                    await self.begin()
                except LinkError as error:
                    if not told:
                        told = True
                        log.warning("fleet.not_followed", stream=self._stream, reason=str(error))
                else:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            if told:
                log.info("fleet.followed_again", stream=self._stream)

    async def _until_amiss(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._amiss.is_set():
            left = self._heard + MISSED - loop.time()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._amiss.wait()
            except TimeoutError:
                continue

    def _take(self, life: int, raw: Raw) -> None:
        if life != self._life or self._amiss.is_set():
            return
        self._heard = asyncio.get_running_loop().time()
        if raw.status:
            self._hear_broker(raw)
            return
        numbers = _numbers(raw.reply)
        if numbers is None:
            return  # not of a consumer
        number, delivered = numbers
        if delivered != self._delivered + 1:
            self._amiss.set()
            return
        self._delivered = delivered
        self._after = number
        if "KV-Operation" in raw.headers:
            return  # a key was removed: it has no value
        subject = raw.subject.removeprefix(self._cut)
        try:
            self._handler(Incoming(subject, raw.body, number))
        except Exception as error:
            log.exception("fleet.handler_failed", subject=raw.subject, reason=kind_of(error))

    def _hear_broker(self, raw: Raw) -> None:
        if raw.status != "100":
            self._amiss.set()
            return
        # Either asks whether all before it was taken: it was, for handlers are called at once.
        asked = raw.reply or raw.headers.get("Nats-Consumer-Stalled", "")
        if asked:
            self._wire.spawn(self._wire.send(asked, b""))
        last = raw.headers.get("Nats-Last-Consumer", "")
        if last.isdecimal() and int(last) != self._delivered:
            self._amiss.set()


def _nothing() -> None:
    """There is no consumer to be ended."""


def _numbers(reply: str) -> tuple[int, int] | None:
    """Number in the stream, and how many the consumer had delivered with it."""
    tokens = reply.split(".")
    if len(tokens) < 9 or tokens[:2] != ["$JS", "ACK"]:  # noqa: PLR2004 - see below
        return None
    # $JS.ACK.<stream>.<consumer>.<times>.<number>.<delivered>.<time>.<pending>; newer ones may have
    # <domain>.<account> before the stream, and more behind it all.
    place = 5 if len(tokens) == 9 else 7  # noqa: PLR2004 - likewise
    try:
        return int(tokens[place]), int(tokens[place + 1])
    except ValueError:
        return None

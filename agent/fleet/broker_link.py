"""The link, over a connection to a broker that has JetStream."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.fleet.follower import Follower
from agent.fleet.jetstream import JetStream, bucket_config, kv, stream_config
from agent.fleet.link import Entry, Handler, Incoming, Stream

if TYPE_CHECKING:
    from agent.fleet.wire import Raw, Wire


class BrokerLink:
    """See `Link`, whose methods these are."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._jetstream = JetStream(wire)

    def __repr__(self) -> str:
        return f"<link over {self._wire!r}>"

    @property
    def where(self) -> str:
        """The server."""
        return self._wire.where

    async def lost(self) -> str:
        """Return once it is."""
        return await self._wire.lost()

    async def close(self) -> None:
        """Flush, and end it."""
        await self._wire.close()

    async def publish(self, subject: str, body: bytes) -> None:
        """Tell whoever listens."""
        await self._wire.send(subject, body)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Hear what is published."""
        await self._wire.hear(subject, partial(self._hand_over, handler))

    def _hand_over(self, handler: Handler, raw: Raw) -> None:
        reply = partial(self._wire.send, raw.reply) if raw.reply else None
        handler(Incoming(raw.subject, raw.body, reply=reply))

    async def request(self, subject: str, body: bytes, limit: float) -> bytes:
        """Ask, and wait."""
        return (await self._wire.ask(subject, body, limit)).body

    async def make_stream(self, stream: Stream) -> None:
        """Have a stream."""
        await self._jetstream.make(stream_config(stream))

    async def make_bucket(self, bucket: str) -> None:
        """Have a bucket."""
        await self._jetstream.make(bucket_config(bucket))

    async def append(self, subject: str, body: bytes, message_id: str) -> int:
        """Put a message into a stream."""
        return await self._jetstream.put_in(
            f"message {message_id}", subject, body, {"Nats-Msg-Id": message_id}
        )

    async def follow(self, stream: str, subject: str, after: int, handler: Handler) -> None:
        """Hear a stream."""
        await self._begin(Follower(self._wire, self._jetstream, stream, subject, after, handler))

    async def last_number(self, stream: str) -> tuple[str, int]:
        """When it was made, and its last number."""
        info = await self._jetstream.info(stream)
        last = (info.get("state") or {}).get("last_seq")
        return str(info.get("created", "")), last if isinstance(last, int) else 0

    async def get(self, bucket: str, key: str) -> Entry | None:
        """A key's value."""
        return (await self._jetstream.get(bucket, key))[0]

    async def put(self, bucket: str, key: str, value: bytes) -> int:
        """Set it."""
        return await self._jetstream.put_in(
            f"key {key} of bucket {bucket}", kv(bucket, key), value, None
        )

    async def swap(self, bucket: str, key: str, value: bytes, revision: int) -> int | None:
        """Set it where it has that revision."""
        return await self._jetstream.swap(bucket, key, value, revision)

    async def remove(self, bucket: str, key: str) -> bool:
        """Let it have no value."""
        return await self._jetstream.remove(bucket, key)

    async def watch(self, bucket: str, handler: Handler) -> None:
        """Hear its keys' values."""
        start = kv(bucket, "")
        follower = Follower(
            self._wire,
            self._jetstream,
            f"KV_{bucket}",
            f"{start}>",
            0,
            handler,
            last=True,
            cut=start,
        )
        await self._begin(follower)

    async def _begin(self, follower: Follower) -> None:
        await follower.begin()
        self._wire.spawn(follower.run())

"""Streams and buckets, as JetStream's API has them: JSON by request and reply.

Only what nats-server 2.9 knows is used; and of buckets only what the subjects and streams are that
they are made of.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final

from agent.fleet.link import Entry, LinkError, NoAnswerError, NobodyError
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.fleet.link import Stream
    from agent.fleet.wire import Raw, Wire

LIMIT: Final = 5.0
"""Seconds for an answer of the broker."""
REPLICAS: Final = 3
NANO: Final = 1_000_000_000
REMEMBERED: Final = 120.0
"""Seconds for which the broker remembers a message's id."""
NO_MESSAGE: Final = 10037
NO_STREAM: Final = 10059
_OTHER_REVISION: Final = 10071
_TOO_FEW_SERVERS: Final = frozenset((10005, 10074))
"""No suitable peers; replicas without a cluster."""
_HINTS: Final[Mapping[int, str]] = {
    10023: "the broker has no room: raise max_file_store, or the account's limits",
    10028: "the broker has no room: raise max_memory_store, or the account's limits",
    10039: "JetStream is not on for this account: put 'jetstream: enabled' into it",
    10047: "the broker has no room: raise max_file_store in its configuration, or free its disk",
    10076: "JetStream is not on: put 'jetstream { store_dir: … }' into the broker's configuration",
    NO_STREAM: "the hub makes it: is one running, with this broker?",
}
_NO_JETSTREAM: Final = (
    "no JetStream answers: put 'jetstream { store_dir: … }' into the broker's configuration; a "
    "cluster has it only while most of its servers run"
)


class RefusedError(LinkError):
    """JetStream answered with an error; `number` says which, by JetStream."""

    def __init__(self, what: str, code: int, description: str) -> None:
        self.number = code
        hint = _HINTS.get(code, "")
        super().__init__(f"{what}: {printable(description, 300)}" + (f"; {hint}" if hint else ""))


class JetStream:
    """Asks it, over one connection."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def call(self, what: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the API.

        Args:
            what: in operators' words, for errors: `no stream X`.
            name: of the call.
            body: of it.
        """
        try:
            answer = await self._wire.ask(
                f"$JS.API.{name}", json.dumps(body).encode() if body else b"", LIMIT
            )
        except NobodyError:
            raise LinkError(f"{what}: {_NO_JETSTREAM}") from None
        except NoAnswerError:
            raise NoAnswerError(
                f"{what}: no answer of JetStream within {LIMIT:g} s; is it busy, or without a "
                "leader?"
            ) from None
        return _read(what, answer)

    async def put_in(
        self, what: str, subject: str, body: bytes, headers: Mapping[str, str] | None
    ) -> int:
        """Have a stream take a message; its number."""
        try:
            answer = await self._wire.ask(subject, body, LIMIT, headers)
        except NobodyError:
            raise LinkError(
                f"{what}: no stream takes {subject}. The hub makes it: is one running, with this "
                "broker? Otherwise it has no leader just now, or JetStream is not on"
            ) from None
        except NoAnswerError:
            raise NoAnswerError(
                f"{what}: the broker has not said within {LIMIT:g} s that it has it"
            ) from None
        number = _read(what, answer).get("seq")
        if not isinstance(number, int):
            raise LinkError(f"{what}: what answers on {subject} is no JetStream")
        return number

    async def info(self, stream: str) -> dict[str, Any]:
        """What there is of a stream. Raises RefusedError(NO_STREAM)."""
        return await self.call(f"stream {stream}", f"STREAM.INFO.{stream}", {})

    async def make(self, config: Mapping[str, Any]) -> None:
        """Have a stream like that, on three servers where there are as many."""
        name = config["name"]
        try:
            found = (await self.info(name)).get("config") or {}
        except RefusedError as error:
            if error.number != NO_STREAM:
                raise
            await self._with_replicas("CREATE", {**config, "num_replicas": REPLICAS}, 1)
            return
        has = found.get("num_replicas", 1)
        wanted = {**found, **config, "num_replicas": max(REPLICAS, has)}
        if any(found.get(key) != value for key, value in wanted.items()):
            await self._with_replicas("UPDATE", wanted, has)

    async def _with_replicas(self, verb: str, config: Mapping[str, Any], fallback: int) -> None:
        name = config["name"]
        what = f"stream {name} cannot be made" if verb == "CREATE" else f"stream {name} not changed"
        try:
            await self.call(what, f"STREAM.{verb}.{name}", config)
        except RefusedError as error:
            if error.number not in _TOO_FEW_SERVERS or config["num_replicas"] == fallback:
                raise
            await self.call(what, f"STREAM.{verb}.{name}", {**config, "num_replicas": fallback})

    async def get(self, bucket: str, key: str) -> tuple[Entry | None, int]:
        """A key's value, and its revision even where it was deleted (0: never had one)."""
        what = f"key {key} of bucket {bucket}"
        try:
            answer = await self.call(
                what, f"STREAM.MSG.GET.KV_{bucket}", {"last_by_subj": kv(bucket, key)}
            )
        except RefusedError as error:
            if error.number == NO_MESSAGE:
                return None, 0
            raise
        try:
            message = answer["message"]
            revision = int(message["seq"])
            value = base64.b64decode(message.get("data", ""))
            gone = b"KV-Operation:" in base64.b64decode(message.get("hdrs", ""))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise LinkError(f"{what}: what answers is no JetStream") from None
        return (None if gone else Entry(value, revision)), revision

    async def swap(self, bucket: str, key: str, value: bytes, revision: int) -> int | None:
        """See `Link.swap`."""
        what = f"key {key} of bucket {bucket}"
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            return await self.put_in(what, kv(bucket, key), value, headers)
        except RefusedError as error:
            if error.number != _OTHER_REVISION:
                raise
        if revision == 0:
            # An operator may have deleted it: what then is there has a revision, and no value.
            entry, marker = await self.get(bucket, key)
            if entry is None and marker:
                return await self.swap(bucket, key, value, marker)
        return None

    async def remove(self, bucket: str, key: str) -> bool:
        """See `Link.remove`: what is there then says that it has no value."""
        entry, revision = await self.get(bucket, key)
        if entry is None:
            return True
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision), "KV-Operation": "DEL"}
        try:
            await self.put_in(f"key {key} of bucket {bucket}", kv(bucket, key), b"", headers)
        except RefusedError as error:
            if error.number != _OTHER_REVISION:
                raise
            return False
        return True


def stream_config(stream: Stream) -> dict[str, Any]:
    """As JetStream wants it."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": int(stream.max_age * NANO),
        "max_bytes": stream.max_bytes,
        "duplicate_window": int(min(REMEMBERED, stream.max_age) * NANO),
    }


def bucket_config(bucket: str) -> dict[str, Any]:
    """A stream that is a bucket, as all clients of NATS know them."""
    return {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "duplicate_window": int(REMEMBERED * NANO),
    }


def kv(bucket: str, key: str) -> str:
    """The subject of a key."""
    return f"$KV.{bucket}.{key}"


def _read(what: str, answer: Raw) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LinkError(f"{what}: what answers on {printable(answer.subject)} is no JetStream")
    if isinstance(error := found.get("error"), dict):
        code = error.get("err_code")
        raise RefusedError(
            what, code if isinstance(code, int) else 0, str(error.get("description", "an error"))
        )
    return found

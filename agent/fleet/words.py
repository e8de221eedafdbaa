"""What agents and hub say to each other: frozen records, and JSON of them. Pure.

Versions live side by side: unknown keys are left alone, new ones have defaults, and what has
another meaning gets another name (and `subjects.PREFIX` another number).
Times named `*_ms` are the sender's wall clock, and never compared with anybody else's.
"""

from __future__ import annotations

import json
import zlib
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError

from agent.errors import AgentError
from agent.model import DeviceState, Platform, Visibility
from agent.text import printable

MOST: Final = 4 * 1024 * 1024
"""Bytes of a long message, unpacked, at most: 1,000 phones of 1 KB take one. To read it takes the
loop, and one that is made for that takes the longest."""
SHORT: Final = 1024 * 1024
"""Likewise, of any other."""
PACKED: Final = 32 * 1024
"""Bytes from which on a message is packed (zlib); a broker takes 1 MB of one, by default, and may
be told to take less."""
T = TypeVar("T", bound="Word")


class BadMessageError(AgentError):
    """A message that is none of ours; the text says from which subject, and what is wrong."""


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


_State = Annotated[DeviceState, Field(strict=False)]
_Platform = Annotated[Platform, Field(strict=False)]
_Visibility = Annotated[Visibility, Field(strict=False)]
_Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")]
# Of a million mistakes the first one is told: to gather all of them takes minutes.
_Texts = Annotated[tuple[str, ...], FailFast(), BeforeValidator(_to_tuple)]
_Rows = Annotated[tuple[dict[str, Any], ...], FailFast(), BeforeValidator(_to_tuple)]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Word(BaseModel):
    """One message, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)
    most: ClassVar[int] = SHORT
    """Bytes, unpacked."""


class SilenceTold(Word):
    """What keeps back a device's callbacks."""

    id: str
    reason: str = ""
    left: float = Field(ge=0, allow_inf_nan=False)
    """Seconds until it ends, when it was sent."""


class BatteryTold(Word):
    """A phone's battery, as far as it told of it."""

    level: Annotated[int, Field(ge=0, le=100)] | None = None
    temperature: Annotated[float, Field(allow_inf_nan=False)] | None = None
    health: str = ""
    charging: bool | None = None
    hot: bool = False
    """As its agent judges, as `low` is."""
    low: bool = False
    at_ms: Annotated[int, Field(ge=0, le=253_402_300_799_999)] = 0
    """By the agent's clock, and for people alone. Until the year 9999."""


class DeviceTold(Word):
    """One device as its agent has it."""

    udid: Annotated[str, Field(min_length=1, max_length=512)]
    platform: _Platform
    state: _State
    since_ms: int
    """Of the state, by the agent's clock."""
    event: _Number = 0
    """Id of the transition that made the state; 0: none is stored any more."""
    reason: str = ""
    holder: str = ""
    name: str = ""
    """As the agent's callbacks carry it."""
    model: str = ""
    port: str = ""
    usb: bool = True
    """On that host's USB; false: reached over the network alone. Of an unplugged one: as it was."""
    tags: _Texts = ()
    visibility: _Visibility = Visibility.PRIVATE
    flapping: bool = False
    silence: SilenceTold | None = None
    code: str = ""
    """The reason's (`agent.reasons`); an agent that is newer than the hub may have others."""
    cause: str = ""
    """The id of what the transition had in common with others'."""
    battery: BatteryTold | None = None
    """None: it told none, or it is not to be used now."""


class TransitionTold(Word):
    """One row of an agent's log."""

    host: _Host
    epoch: _Number
    id: Annotated[int, Field(ge=1, le=2**63 - 1)]
    check: _Number = 0
    """Stands for what the row says; 0 here and in other words: not told, or not known any more."""
    before: _Number = 0
    """The check of the row before it: by that a hub knows whether it goes on with the same log."""
    previous: _State | None = None
    at_ms: int
    device: DeviceTold
    """With the state, reason, holder, cause and port of the transition; all else as it is now."""


class Heartbeat(Word):
    """An agent lives; `last` is the id of its newest durable transition."""

    host: _Host
    epoch: _Number
    instance: str
    """Random, of the process."""
    last: _Number
    version: str = ""
    number: _Number = 0
    """Grows from one to the next of a process: two hubs mean the same one by it. 0: not told."""
    down: _Texts = ()
    """The sources that cannot see; all of them, while it derives nothing. An older agent tells none
    of that."""


class HostSnapshot(Word):
    """All that an agent has, at one moment: what every transition up to `through` has come to."""

    most = MOST

    host: _Host
    epoch: _Number
    instance: str
    boot: str = ""
    """Of the host's kernel (/proc/sys/kernel/random/boot_id)."""
    through: _Number
    check: _Number = 0
    """Of the row `through`."""
    version: str = ""
    devices: Annotated[tuple[DeviceTold, ...], FailFast(), BeforeValidator(_to_tuple)] = ()
    leases: _Rows = ()
    """Rows of the agent's API."""
    silences: _Rows = ()
    """Likewise."""


class Ack(Word):
    """Of the hub: all up to `through` is on its disk."""

    epoch: _Number
    through: _Number
    check: _Number = 0
    """Of that row, as the hub had it."""


class Since(Word):
    """Of the hub: tell me your log anew, behind `after`."""

    epoch: _Number
    after: _Number
    check: _Number = 0
    """Of that row, as the hub had it."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class SinceAnswer(Word):
    """The log's rows behind what was asked, in order, without a hole."""

    most = MOST

    epoch: _Number
    """Another than was asked for: the store was made anew, its ids begin again."""
    last: _Number
    """Id of the newest durable transition."""
    hole: bool = False
    """The row that should be first is no longer there: take the snapshot instead."""
    transitions: Annotated[tuple[TransitionTold, ...], FailFast(), BeforeValidator(_to_tuple)] = ()


class Who(Word):
    """Who else is called like this host?"""

    instance: str


class Holder(Word):
    """I am."""

    instance: str
    holding: bool
    """It has the name; false: it asks for it at this moment, too."""


class Command(Word):
    """Of the hub, for an operator: see `agent.fleet.operations`."""

    op: str
    args: dict[str, Any] = {}
    caller: str = ""
    """For the agent's log: who wants it."""
    id: Annotated[str, Field(max_length=64)] = ""
    """Random, for a `Cancel`."""


class Cancel(Word):
    """Of the hub: whoever wanted the command of that id waits for it no longer."""

    id: Annotated[str, Field(min_length=1, max_length=64)]


class Answer(Word):
    """What came of a command: `result`, or else the error that the agent's API would tell."""

    most = MOST

    result: Any = None
    code: str = ""
    message: str = ""


class Done(Word):
    """Of the active hub: these callbacks are final, by their message ids."""

    hub: str
    delivered: _Texts = ()
    dead: _Texts = ()
    cancelled: _Texts = ()
    """A newer one of the same device and webhook went out in their place."""


class Leading(Word):
    """Of the key `subjects.LEADER`: who sends. Each value ever set is another one."""

    hub: str
    instance: str
    """Random, of the process."""
    term: _Number
    """Counts leaders."""
    beat: _Number
    """Counts what this instance has tried to set."""
    place: str = ""
    """Where its store is; see `agent.fleet.hub.leadership`."""
    released: bool = False
    """It has left: nobody needs to wait."""
    claim: bool = False
    """Nothing was there: nobody leads yet by this."""


class HubBeat(Word):
    """A hub lives; it hears this itself, or it is blind."""

    hub: str
    instance: str
    number: _Number
    active: bool = False


def pack(word: Word) -> bytes:
    """As it goes over the wire: JSON, packed where it is long."""
    text = word.model_dump_json().encode()
    return zlib.compress(text, 6) if len(text) > PACKED else text


def unpack(kind: type[T], body: bytes, subject: str) -> T:
    """Read it.

    Raises:
        BadMessageError: it is none.
    """
    try:
        if body[:1] != b"{":
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(body, kind.most)
            if unpacker.unconsumed_tail:
                raise BadMessageError(
                    f"a message on {printable(subject)} is over {kind.most} bytes, unpacked"
                )
        # Not `model_validate_json`: that one takes lone surrogates for a mistake of the whole.
        return kind.model_validate(json.loads(body))
    except (ValueError, zlib.error, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadMessageError(
            f"a message on {printable(subject)} is no {kind.__name__} of ours: {printable(why)}"
        ) from None

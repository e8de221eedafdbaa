"""What the hub keeps of its fleet between two lives: the texts of the store's rows. Pure.

Of each host: the epoch and the cursor of its log. Of each device at each host: what that host last
told of it. Of the broker: how far its stream was read. A row that makes no sense is none: whatever
it said is asked for again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from agent.fleet.words import DeviceTold
from agent.reasons import code_of
from agent.store import FleetRow
from agent.text import shortened, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 1_000
"""Characters of a text that a host tells."""
MOST_TAGS: Final = 100
_TEXTS: Final = ("udid", "reason", "holder", "name", "model", "port", "cause")


@dataclass(frozen=True, slots=True)
class Quiet:
    """A silence on a device, as its host has it."""

    id: str
    reason: str
    ends_ms: int
    """By the hub's wall clock."""


@dataclass(slots=True)
class Told:
    """What a host last told of a device."""

    host: str
    device: DeviceTold
    """Without its silence, whose seconds run."""
    silence: Quiet | None = None
    used: int = 0
    """How often its event has made a state or a callback."""
    twin: bool = False
    """Another host has a phone of that serial as well: this one is called `serial@host`."""
    visits: int = 0
    """How often it came to another host, by what was taken of those, in a time of which not all of
    this host's log was taken: so often it may have left here and come back here in between."""
    lately: int = 0
    """How many visits there were anywhere, with that to this host, in a time of which not all
    hosts' logs were taken."""
    waits: tuple[DeviceTold, ...] = ()
    """What the host told after that, in order, which counts once it is known where the phone was
    in between: it left there and came back there."""

    @property
    def key(self) -> str:
        """What the hub calls the device."""
        return f"{self.device.udid}@{self.host}" if self.twin else self.device.udid

    def says(self, device: DeviceTold) -> bool:
        """Whether that is nothing new."""
        return self.silence is None and self.device == device  # which has none, either


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the hub stands with a host's log."""

    host: str
    epoch: int
    cursor: int
    check: int = 0
    """Of the row at the cursor, as the host told it; 0: not known."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the broker's stream of transitions was read."""

    stream: str
    """Tells two streams of one name apart."""
    number: int


@dataclass(frozen=True, slots=True)
class Kept:
    """All of it."""

    told: tuple[Told, ...] = ()
    marks: tuple[Mark, ...] = ()
    position: Position | None = None


def told_row(told: Told) -> FleetRow:
    """To be stored."""
    said: dict[str, Any] = {"told": _dumped(told.device)}
    if told.silence is not None:
        quiet = told.silence
        said["silence"] = [quiet.id, quiet.reason, quiet.ends_ms]
    if told.used:
        said["used"] = told.used
    if told.twin:
        said["twin"] = True
    if told.visits:
        said["visits"] = told.visits
    if told.lately:
        said["lately"] = told.lately
    if told.waits:
        said["waits"] = [_dumped(each) for each in told.waits]
    return FleetRow(told.host, told.device.udid, json.dumps(said))


def _dumped(device: DeviceTold) -> dict[str, Any]:
    """Without its battery, which the next snapshot tells anew."""
    return device.model_dump(mode="json", exclude_defaults=True, exclude={"battery"})


def gone_row(host: str, udid: str) -> FleetRow:
    """The host tells no more of that device; "": nor is it known any more."""
    return FleetRow(host, udid, "")


def mark_row(mark: Mark) -> FleetRow:
    """To be stored."""
    said = {"epoch": mark.epoch, "cursor": mark.cursor, "check": mark.check}
    return FleetRow(mark.host, "", json.dumps(said))


def position_row(position: Position) -> FleetRow:
    """To be stored."""
    return FleetRow("", "", json.dumps({"stream": position.stream, "number": position.number}))


def read(rows: Iterable[FleetRow]) -> Kept:
    """What was stored, as far as it makes sense; a host without its mark is not known at all."""
    told: list[Told] = []
    marks: dict[str, Mark] = {}
    position = None
    for row in rows:
        try:
            said = json.loads(row.said)
            if row.udid:
                told.append(_told(row, said))
            elif row.host:
                at = int(said["epoch"]), int(said["cursor"]), int(said.get("check", 0))
                marks[row.host] = Mark(row.host, *at)
            else:
                position = Position(str(said["stream"]), int(said["number"]))
        except (ValueError, TypeError, KeyError, ValidationError):
            continue
    kept = tuple(each for each in told if each.host in marks)
    return Kept(kept, tuple(marks.values()), position)


def _told(row: FleetRow, said: Any) -> Told:
    device = DeviceTold.model_validate(said["told"])
    if device.udid != row.udid:
        raise ValueError("it is of another device")
    silence = None
    if "silence" in said:
        id_, reason, ends_ms = said["silence"]
        silence = Quiet(str(id_), str(reason), int(ends_ms))
    waits = tuple(DeviceTold.model_validate(each) for each in said.get("waits", ()))
    if any(each.udid != row.udid for each in waits):
        raise ValueError("what waits is of another device")
    used, visits = int(said.get("used", 0)), int(said.get("visits", 0))
    twin, lately = said.get("twin") is True, int(said.get("lately", 0))
    return Told(row.host, device, silence, used, twin, visits, lately, waits)


def clean(device: DeviceTold) -> DeviceTold:
    """The same in bounds, with no text in it that the store refuses; and without its silence."""
    new = {name: text for name in _TEXTS if (text := fit(told := getattr(device, name))) != told}
    if (code := code_of(device.code) if device.reason else "") != device.code:
        new["code"] = code
    tags = tuple(fit(tag) for tag in device.tags[:MOST_TAGS])
    if new or tags != device.tags or device.silence is not None:
        return device.model_copy(update={**new, "tags": tags, "silence": None})
    return device


def fit(text: str) -> str:
    """Text of somebody else's, to be kept."""
    return shortened(whole(text), LONGEST)

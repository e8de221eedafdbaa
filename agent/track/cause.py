"""A cause that several phones have, and how it stands in their reasons. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from agent.reasons import Reason, ReasonCode


class CauseKind(StrEnum):
    """What was lost."""

    HUB = "hub"
    CONTROLLER = "controller"
    SOURCE = "source"
    HOST = "host"  # only a fleet's hub says so

    @property
    def code(self) -> ReasonCode:
        """Of the reason."""
        return _CODES[self]


_CODES: Final = {
    CauseKind.HUB: ReasonCode.HUB_LOST,
    CauseKind.CONTROLLER: ReasonCode.CONTROLLER_LOST,
    CauseKind.SOURCE: ReasonCode.SOURCE_LOST,
    CauseKind.HOST: ReasonCode.HOST_LOST,
}


class Cause(NamedTuple):
    """What took several phones at once, as one of them is told of it."""

    id: str
    kind: CauseKind
    place: str
    """`1-4.2`, `0000:00:14.0`, `adb`."""
    phones: int
    """How many had left by then."""

    @property
    def words(self) -> str:
        """For operators."""
        kind = "" if self.kind is CauseKind.SOURCE else f"{self.kind} "
        return f"lost with {kind}{self.place} ({self.phones} phones)"

    def reason(self, own: Reason) -> Reason:
        """The reason of a phone that may have one of its own besides."""
        return Reason(f"{self.words}: {own.text}" if own else self.words, self.kind.code)


_WORDS: Final = re.compile(
    r"lost with (?:(hub|controller|host) )?(\S(?:.{0,200}?\S)?) \(([0-9]{1,9}) phones\)(?:$|: )",
    re.DOTALL,
)


def read(id_: str, reason: str) -> Cause | None:
    """The cause with that id, of a reason that `Cause.reason` made; None: it made none of it."""
    found = _WORDS.match(reason) if id_ else None
    if found is None:
        return None
    return Cause(id_, CauseKind(found[1] or CauseKind.SOURCE), found[2], int(found[3]))

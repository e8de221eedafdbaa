"""What a hub has an agent do for an operator: the arguments of each `Command`, read and written.

Both sides use these: the hub makes them, the agent checks every one. Other than messages, arguments
must be known to the last key: what an agent would leave out might be what matters.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.errors import BadRequestError
from agent.model import Platform, SilenceKind
from agent.text import printable

MOST: Final = 86_400.0
"""Seconds of a TTL or a wait, at most; as of the API."""
_LONG: Final = 512
_Text = Annotated[str, Field(max_length=_LONG)]
_Seconds = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
_Platform = Annotated[Platform, Field(strict=False)]
_Kind = Annotated[SilenceKind, Field(strict=False)]
_Tags = Annotated[
    tuple[_Text, ...],
    Field(max_length=100),
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class Operation(BaseModel):
    """The arguments of one. Its result is the row that the agent's API answers with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
    op: ClassVar[str]
    """How `Command` calls it."""

    @classmethod
    def read(cls, args: dict[str, Any]) -> Self:
        """Of a command.

        Raises:
            BadRequestError: an argument is missing, unknown or out of bounds; it says which.
        """
        try:
            return cls.model_validate(args)
        except ValidationError as error:
            raise BadRequestError(f"{cls.op}: {_first(error)}") from None

    def args(self) -> dict[str, Any]:
        """For a command."""
        return self.model_dump(mode="json")


Wanted = TypeVar("Wanted", bound=Operation)


def wanted(operation: type[Wanted], /, **args: Any) -> Wanted:
    """One to be asked for, of what an operator said.

    Raises:
        BadRequestError: an argument is out of bounds; it says which.
    """
    try:
        return operation(**args)
    except ValidationError as error:
        raise BadRequestError(_first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{printable('.'.join(map(str, first['loc'])))}: {printable(first['msg'])}"


class LeaseAcquire(Operation):
    """Give a lease: on the device that a name means, or else on any that fits.

    With a wait it is answered when it is given, or refused. Where the answer can reach nobody, or a
    `Cancel` comes after it, the lease ends.
    """

    op: ClassVar[str] = "lease.acquire"

    udid: Annotated[str, Field(min_length=1, max_length=_LONG)] | None = None
    platform: _Platform | None = None
    tags: _Tags = ()
    holder: Annotated[str, Field(min_length=1, max_length=_LONG)]
    purpose: Annotated[str, Field(max_length=10_000)] = ""
    ttl: _Seconds
    wait: _Seconds = 0.0
    steal: _Text = ""


class LeaseRenew(Operation):
    """Let it last another TTL from now; a tied one is renewed by the hub."""

    op: ClassVar[str] = "lease.renew"

    id: _Text


class LeaseRelease(Operation):
    """End it."""

    op: ClassVar[str] = "lease.release"

    id: _Text
    why: Annotated[str, Field(max_length=_LONG)] = "it was released"


class SilenceAdd(Operation):
    """Keep back callbacks; one that is there by that id already is answered as it is."""

    op: ClassVar[str] = "silence.add"

    id: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    """The hub's, so that it is one silence on all hosts."""
    kind: _Kind
    value: _Text = ""
    reason: Annotated[str, Field(max_length=10_000)]
    seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
    """From now: clocks of two hosts are not compared."""
    by: _Text = ""


class SilenceEnd(Operation):
    """End one before its time."""

    op: ClassVar[str] = "silence.end"

    id: _Text
    by: _Text = ""

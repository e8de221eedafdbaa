"""The agent's own errors: one tree, whose messages are what an operator reads.

Every message says what happened, to which device, webhook, file or line, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LONG: Final = 4000
"""Characters of a problem on its line."""


class AgentError(Exception):
    """Base of all errors that are meant for an operator; `str()` of it is the whole message."""

    code: str = "failed"
    """For programs: what the API and a fleet's agents answer with; of those below it, too."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake (or warning) in a configuration file, with its place; line and column from 1."""

    file: str
    line: int
    column: int
    message: str
    key: str = field(default="", compare=False)
    """Which it is about: `hold.offline`, in a webhook or a device `tls.ca`; "": no single one."""

    def __str__(self) -> str:
        """One printable line: paths and values in it are the file's."""
        return printable(f"{self.file}:{self.line}:{self.column}: {self.message}", _LONG)


class ConfigError(AgentError):
    """The configuration cannot be used; `problems` holds every mistake, not just the first."""

    code = "bad_config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        return [str(problem) for problem in self.problems]


class ChangeRefusedError(ConfigError):
    """The file could not be used after a change: nothing was written.

    `str()` names no lines, for no file has them.
    """

    def _lines(self) -> list[str]:
        return [
            printable(f"nothing was written: {problem.message}", _LONG) for problem in self.problems
        ]


class DraftRefusedError(ChangeRefusedError):
    """A webhook that was only to be looked at could not be used."""

    def _lines(self) -> list[str]:
        return [printable(problem.message, _LONG) for problem in self.problems]


class EditError(AgentError):
    """A command cannot change the configuration file like that; the message says why."""

    code = "bad_edit"


class ProvisionedError(AgentError):
    """A webhook of the operator's file, which the API never changes; the message says where."""

    code = "provisioned"


class CannotWriteError(AgentError):
    """The configuration file cannot be written by this process; `why` says it without a remedy."""

    code = "cannot_write"

    def __init__(self, message: str, why: str = "") -> None:
        self.why = why or message
        super().__init__(message)


class FileBusyError(CannotWriteError):
    """Somebody else is writing the configuration file just now."""


class SecretError(AgentError):
    """A secret could not be read at its place; the message names the place, never the secret."""


class StoreError(AgentError):
    """The store cannot be opened or used."""


class StoreLockedError(StoreError):
    """Another agent has this state directory."""


class IdTakenError(StoreError):
    """A webhook asks for the id of another one."""

    code = "id_taken"


class StoreVersionError(StoreError):
    """The store was written by a newer agent."""


class ApiError(AgentError):
    """The running agent refused a request, or could not be reached; `code` says which."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message)


class LeaseError(AgentError):
    """A lease could not be given, renewed or ended."""

    code = "bad_lease"


class UnknownDeviceError(LeaseError):
    """No device has that id; the message names the nearest ones."""

    code = "unknown_device"


class DeviceHeldError(LeaseError):
    """Somebody else holds the device; the message names the holder."""

    code = "device_held"


class LeasesOffError(LeaseError):
    """The configuration turns leases off."""

    code = "leases_off"


class QueueFullError(LeaseError):
    """Too many wait for devices already."""

    code = "queue_full"


class UnknownLeaseError(LeaseError):
    """No such lease: never given, released, taken, or its time ran out; the message says which."""

    code = "unknown_lease"


class SilenceError(AgentError):
    """Nothing can be silenced like that; the message says why."""

    code = "bad_silence"


class UnknownSilenceError(SilenceError):
    """No such silence: it ended, or never was."""

    code = "unknown_silence"


class UnknownWebhookError(AgentError):
    """No webhook has that name or id; the message names the nearest ones."""

    code = "unknown_webhook"


class UnknownSessionError(AgentError):
    """No session has that id: it has ended, or never was."""

    code = "unknown_session"


class UnknownDeliveryError(AgentError):
    """No stored callback has that id: a typing error, or its retention has passed."""

    code = "unknown_delivery"


class NoDoctorError(AgentError):
    """This agent has nobody to examine it: it runs without a configuration file."""

    code = "no_doctor"


class UnusableError(AgentError):
    """The configuration is right as a text, and cannot be put in force: a file is missing, say."""

    code = "unusable"


class BadRequestError(AgentError):
    """What is asked for makes no sense; the message says what was expected."""

    code = "bad_request"


class BusyError(AgentError):
    """Too many ask for the same at once; later there may be room."""

    code = "busy"


class HostUnreachableError(AgentError):
    """A host of the fleet was to do something and does not answer; the message names it."""

    code = "host_unreachable"


class UnknownHostError(AgentError):
    """The hub follows no host of that name; the message names those that it follows."""

    code = "unknown_host"


class HostAliveError(AgentError):
    """A host cannot be forgotten: it is there, or may be; the message says how that is known."""

    code = "host_alive"


class BlindError(AgentError):
    """The hub does not hear itself: it knows of no host whether it is there."""

    code = "hub_blind"


class StandbyError(AgentError):
    """Another hub of the fleet sends at this moment."""

    code = "standby"


class StartError(AgentError):
    """The agent cannot start: a port or socket in use, a directory not writable."""

    code = "unusable"


class InternalError(AgentError):
    """A fault of the agent itself; its log has the details."""


def rebuilt(code: str, message: str) -> AgentError:
    """The error that another agent told of, by its code; one that is not known here keeps it."""
    error = next((kind(message) for kind in _kinds(AgentError) if kind.code == code), None)
    if error is None:
        error = AgentError(message)
        error.code = code
    return error


def _kinds(base: type[AgentError]) -> Iterator[type[AgentError]]:
    """Those that have a code of their own and are made of a message, the more general first."""
    for kind in base.__subclasses__():
        if kind not in {ConfigError, ApiError}:
            if "code" in vars(kind):
                yield kind
            yield from _kinds(kind)

"""The one shape of errors: `{"error": {"code", "message"}}`; the message is for an operator."""

from __future__ import annotations

import json
from typing import Annotated, NotRequired, TypedDict

from aiohttp import web

from agent.errors import (
    AgentError,
    BadRequestError,
    BlindError,
    BusyError,
    CannotWriteError,
    ChangeRefusedError,
    ConfigError,
    DeviceHeldError,
    EditError,
    HostAliveError,
    HostUnreachableError,
    IdTakenError,
    LeaseError,
    LeasesOffError,
    NoDoctorError,
    ProvisionedError,
    QueueFullError,
    SilenceError,
    StandbyError,
    StartError,
    UnknownDeliveryError,
    UnknownDeviceError,
    UnknownHostError,
    UnknownLeaseError,
    UnknownSessionError,
    UnknownSilenceError,
    UnknownWebhookError,
    UnusableError,
)
from agent.service.rows import Also, ProblemRow, problem_rows


class ErrorShown(TypedDict):
    """What went wrong."""

    code: Annotated[str, Also(pattern="^[a-z0-9_]+$")]
    """For programs."""
    message: str
    """For people."""
    problems: NotRequired[list[ProblemRow]]


class ErrorRow(TypedDict):
    """The one shape of errors."""

    error: ErrorShown


_STATUSES: tuple[tuple[type[AgentError], int], ...] = (
    (UnknownDeviceError, 404),
    (UnknownLeaseError, 404),
    (UnknownSilenceError, 404),
    (UnknownWebhookError, 404),
    (UnknownDeliveryError, 404),
    (UnknownSessionError, 404),
    (UnknownHostError, 404),
    (DeviceHeldError, 409),
    (HostAliveError, 409),
    (LeasesOffError, 403),
    (QueueFullError, 503),
    (BusyError, 503),
    (HostUnreachableError, 503),
    (BlindError, 503),
    (StandbyError, 503),
    (NoDoctorError, 404),
    (LeaseError, 400),
    (SilenceError, 400),
    (BadRequestError, 400),
    (EditError, 400),
    (CannotWriteError, 409),
    (ProvisionedError, 409),
    (IdTakenError, 409),
    (ConfigError, 422),
    (UnusableError, 422),
    (StartError, 422),  # an address that is not free, found by a reload
    (AgentError, 500),
)
"""The first that fits; the code is the error's own."""
_HTTP_CODES = {408: "too_slow", 413: "too_large"}
"""Of aiohttp's, where its own words are no help: `request_entity_too_large`."""


def error_text(code: str, message: str, problems: list[ProblemRow] | None = None) -> str:
    """The body of an error."""
    shown: ErrorShown = {"code": code, "message": message}
    if problems is not None:
        shown["problems"] = problems
    row: ErrorRow = {"error": shown}
    return json.dumps(row)


def error_answer(
    status: int, code: str, message: str, problems: list[ProblemRow] | None = None
) -> web.Response:
    """An error."""
    return web.json_response(text=error_text(code, message, problems), status=status)


def answer_to(error: AgentError | web.HTTPException, request: web.Request) -> web.Response:
    """What is told of the agent's own errors, and of aiohttp's."""
    if isinstance(error, web.HTTPException):
        return _answer_to_http(error, request)
    if isinstance(error, ConfigError):
        problems = problem_rows(error.problems, sent=isinstance(error, ChangeRefusedError))
        return error_answer(status_of(error), error.code, str(error), problems)
    return error_answer(status_of(error), error.code, str(error))


def status_of(error: AgentError) -> int:
    """The HTTP status that an error is answered with."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def _answer_to_http(error: web.HTTPException, request: web.Request) -> web.Response:
    text = error.text or error.reason
    match error:
        case web.HTTPNotFound():
            text = f"no such path {request.path}: /v1/openapi.json lists what there is"
        case web.HTTPMethodNotAllowed():
            text = f"{request.path} takes {error.headers['Allow']}, not {request.method}"
    code = _HTTP_CODES.get(error.status) or error.reason.lower().replace(" ", "_")
    answer = error_answer(error.status, code, text)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    if error.status == web.HTTPRequestTimeout.status_code:
        answer.force_close()
    return answer

"""The one shape of errors: `{"error": {"code", "message"}}`; the message is for an operator."""

from __future__ import annotations

import json
from typing import Annotated, NotRequired, TypedDict

from aiohttp import web

from agent.api.request import BadRequestError
from agent.errors import (
    AgentError,
    BusyError,
    CannotWriteError,
    ChangeRefusedError,
    ConfigError,
    DeviceHeldError,
    EditError,
    IdTakenError,
    LeaseError,
    LeasesOffError,
    NoDoctorError,
    ProvisionedError,
    QueueFullError,
    SilenceError,
    StartError,
    UnknownDeliveryError,
    UnknownDeviceError,
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


_CODES: tuple[tuple[type[AgentError], int, str], ...] = (
    (UnknownDeviceError, 404, "unknown_device"),
    (UnknownLeaseError, 404, "unknown_lease"),
    (UnknownSilenceError, 404, "unknown_silence"),
    (UnknownWebhookError, 404, "unknown_webhook"),
    (UnknownDeliveryError, 404, "unknown_delivery"),
    (UnknownSessionError, 404, "unknown_session"),
    (DeviceHeldError, 409, "device_held"),
    (LeasesOffError, 403, "leases_off"),
    (QueueFullError, 503, "queue_full"),
    (BusyError, 503, "busy"),
    (NoDoctorError, 404, "no_doctor"),
    (LeaseError, 400, "bad_lease"),
    (SilenceError, 400, "bad_silence"),
    (BadRequestError, 400, "bad_request"),
    (EditError, 400, "bad_edit"),
    (CannotWriteError, 409, "cannot_write"),
    (ProvisionedError, 409, "provisioned"),
    (IdTakenError, 409, "id_taken"),
    (UnusableError, 422, "unusable"),
    (StartError, 422, "unusable"),  # an address that is not free, found by a reload
    (AgentError, 500, "failed"),
)
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
        return error_answer(422, "bad_config", str(error), problems)
    status, code = next((s, c) for kind, s, c in _CODES if isinstance(error, kind))
    return error_answer(status, code, str(error))


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

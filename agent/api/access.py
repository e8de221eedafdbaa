"""Who may: over the unix socket whoever may open it, over TCP who bears the token or a session.

Reading over TCP is for everybody, or likewise (`[api] read`). A token that is guessed is not even
looked at once its address was wrong too often; a session's, which nobody can guess, always is. So
somebody who guesses from behind the same proxy locks no browser out.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from agent.api.errors import error_answer
from agent.api.grant import NOBODY, SOCKET, Grant
from agent.api.guard import READING
from agent.api.request import SERVICES, SHUT, TRUSTED, allow
from agent.api.route import WHO_MAY
from agent.service.attempts import whole_seconds
from agent.service.sessions import PREFIX, digest_of

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from agent.service.services import Services
    from agent.service.sessions import Session

log = structlog.get_logger(__name__)


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who asks, and refuse who may not."""
    if request.app[TRUSTED]:
        allow(request, SOCKET)
        return await handler(request)
    services = request.app[SERVICES]
    if _is_for_everybody(request):
        # A proxy may hand on what was meant for it; nothing is refused for it here. But who
        # follows with a session follows until that ends.
        session = _session_of(services, bearer(request))
        allow(request, NOBODY if session is None else Grant("session", session))
        return await handler(request)
    grant = judge(request)
    if isinstance(grant, web.Response):
        return grant
    allow(request, grant)
    return await handler(request)


def judge(request: web.Request) -> Grant | web.Response:
    """By what the request is allowed, or why it is not."""
    services, token = request.app[SERVICES], bearer(request)
    if (session := _session_of(services, token)) is not None:
        return Grant("session", session)
    if token is None:
        return _without(request, services.takes_token)
    wanted = services.tcp_token()
    if wanted is None and not token.startswith(PREFIX):
        return _useless(request)
    return _by_token(request, token, wanted)


def _by_token(request: web.Request, token: str, wanted: str | None) -> Grant | web.Response:
    """By a token that is no session's: the right one, or one of a session that has ended."""
    ended = token.startswith(PREFIX)
    if ended and (wanted is None or not wanted.startswith(PREFIX)):
        # No guess: a restart ends the sessions of all browsers, and none of them is to slow what
        # comes from the same address with the right token.
        return _session_ended()
    if (refusal := slowed(request)) is not None:
        return refusal
    digest = digest_of(token)
    if wanted is not None and hmac.compare_digest(digest, digest_of(wanted)):
        return Grant("token", digest=digest)
    failed(request)
    return (
        _session_ended()
        if ended
        else _unauthorised("bad_token", "this is not the token of [api] token")
    )


def _session_ended() -> web.Response:
    return _unauthorised(
        "session_ended",
        "this session has ended (12 h idle, logged out, or the agent was restarted): "
        "'device-agent ui' begins another one",
    )


def _without(request: web.Request, takes_token: bool) -> web.Response:
    """The refusal where no token was shown."""
    if request.method in READING:
        return _unauthorised(
            "token_needed",
            "reading this over TCP needs 'Authorization: Bearer TOKEN' ([api] token), or a session "
            "(device-agent ui)",
        )
    if takes_token:
        return _unauthorised(
            "bad_token",
            "changes over TCP need 'Authorization: Bearer TOKEN', or a session (device-agent ui)",
        )
    return _no_token()


def _useless(request: web.Request) -> web.Response:
    """The refusal where one was shown, and there is none to be right."""
    if request.method in READING:
        return _unauthorised(
            "bad_token", "no token is right, for no [api] token is set: see 'device-agent ui'"
        )
    return _no_token()


def _no_token() -> web.Response:
    return error_answer(
        403,
        "no_token",
        "changes are taken on the unix socket, and here with a session (device-agent ui), or "
        "with [api] token set",
    )


def is_closed(request: web.Request) -> bool:
    """Whether reading is for bearers alone."""
    return request.app[SHUT].is_set() or request.app[SERVICES].is_closed()


def bearer(request: web.Request) -> str | None:
    """What `Authorization: Bearer` says; None: nothing, or of another kind."""
    given = request.headers.getall("Authorization", [])
    if len(given) != 1:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def slowed(request: web.Request) -> web.Response | None:
    """The refusal for an address that was wrong too often."""
    services = request.app[SERVICES]
    wait = services.attempts.wait(address_of(request), services.monotonic())
    if not wait:
        return None
    seconds = whole_seconds(wait)
    answer = error_answer(
        429,
        "too_many_attempts",
        f"too many wrong tokens or codes from this address: try again in {seconds} s",
    )
    answer.headers["Retry-After"] = str(seconds)
    return answer


def failed(request: web.Request) -> None:
    """Count a wrong token or code."""
    if request.app[TRUSTED]:
        return  # who may open the socket needs neither
    services, address = request.app[SERVICES], address_of(request)
    if services.attempts.failed(address, services.monotonic()):
        log.warning(
            "api.guessing",
            address=address,
            hint="wrong tokens or codes, again and again: more of them are not looked at for now",
        )


def address_of(request: web.Request) -> str:
    """The client's, without its port; "" over the unix socket, or of one that has gone."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def bad_code() -> web.Response:
    """No such code."""
    return _unauthorised(
        "bad_code",
        "this code is wrong, older than 60 s or was used: 'device-agent ui' gives another one",
    )


def _unauthorised(code: str, message: str) -> web.Response:
    answer = error_answer(401, code, message)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _is_for_everybody(request: web.Request) -> bool:
    resource, reads = request.match_info.route.resource, request.method in READING
    path = "" if resource is None else resource.canonical  # of what is not there
    who = request.app[WHO_MAY].get(("GET" if reads else request.method, path), "usual")
    if who == "readers" or (who == "usual" and reads):
        return not is_closed(request)
    return who == "everybody"


def _session_of(services: Services, token: str | None) -> Session | None:
    return None if token is None else services.sessions.find(token)

"""Sessions over HTTP: a code from the unix socket, brought over TCP, used until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from agent.api.access import address_of, bad_code, bearer, failed, is_closed, judge, slowed
from agent.api.caller import caller_of
from agent.api.errors import error_answer
from agent.api.grant import By, Grant
from agent.api.request import ADDRESS, GRANT, SERVICES, TRUSTED, allow, body_of, text_of
from agent.api.route import Route, Routes
from agent.errors import UnknownSessionError
from agent.service.sessions import CODE_SECONDS, Asker, SessionRow

if TYPE_CHECKING:
    from agent.service.page import Page

routes = Routes(
    "sessions",
    "Who may change things from a browser.",
    id="As the session's row and the audit lines say.",
)


class CodeRow(TypedDict):
    """A code for one browser."""

    code: str
    """Works once."""
    expires_in: float
    """Seconds."""
    url: str | None
    """Where the page is, with the code behind `#`; null: nothing is served over TCP."""
    exposed: bool
    """Whether that goes over a network without TLS."""


class CodeGiven(TypedDict):
    """A code for a session."""

    code: str


class NewSessionRow(TypedDict):
    """A session's beginning."""

    token: str
    """To be sent as `Authorization: Bearer`; nobody can be told it again."""
    session: SessionRow


class SessionList(TypedDict):
    """The sessions in force."""

    sessions: list[SessionRow]


class AskerRow(TypedDict):
    """Who asks."""

    by: By
    """`socket`: the unix socket, for everything. `token`: `[api] token`. `session`. `nobody`."""
    may_read: bool
    may_change: bool
    session: SessionRow | None
    page: str | None
    """Where the page is; null: it is not served over TCP."""
    exposed: bool
    """Whether the agent listens beyond this host without TLS: what is read, tokens and sessions can
    be read on the way."""


class Ended(TypedDict):
    """A session that has ended."""

    ended: str
    """Its id."""


@routes.add(
    Route(
        "POST",
        "/v1/sessions/code",
        answers=CodeRow,
        errors={403: "over TCP, where no code is to be had"},
    )
)
async def make_code(request: web.Request) -> CodeRow | web.Response:
    """A code for a browser: it works once, for 60 s, and becomes a session. Unix socket only."""
    if not request.app[TRUSTED]:
        return error_answer(
            403, "socket_only", "codes are given on the unix socket alone: device-agent ui"
        )
    services = request.app[SERVICES]
    caller = await caller_of(request)
    code = services.sessions.code(Asker(-1 if caller.uid is None else caller.uid, caller.user))
    page = _page(request)
    row: CodeRow = {
        "code": code,
        "expires_in": CODE_SECONDS,
        "url": f"{page.url}#code={code}" if page.url else None,
        "exposed": page.exposed,
    }
    return row


@routes.add(
    Route(
        "POST",
        "/v1/sessions",
        status=201,
        answers=NewSessionRow,
        takes=CodeGiven,
        errors={401: "no such code, or none any more", 429: "too many wrong ones"},
        who="everybody",
    )
)
async def begin_session(request: web.Request) -> web.Response:
    """Turn a code into a session. Of two who bring the same code only the first gets one."""
    code = text_of(await body_of(request), "code")
    sessions = request.app[SERVICES].sessions
    made = sessions.exchange(code, address_of(request))
    if made is None:
        refusal = slowed(request)
        if refusal is None:
            failed(request)
        return refusal or bad_code()
    token, session = made
    allow(request, Grant("session", session))  # for the audit line
    row: NewSessionRow = {"token": token, "session": sessions.row(session)}
    return web.json_response(row, status=201)


@routes.add(Route("GET", "/v1/sessions", who="bearers"))
async def list_sessions(request: web.Request) -> SessionList:
    """The sessions in force, without their tokens: for who may change things."""
    return {"sessions": request.app[SERVICES].sessions.rows()}


@routes.add(
    Route(
        "GET",
        "/v1/sessions/current",
        answers=AskerRow,
        errors={401: "the token is wrong, or its session has ended", 429: "too many wrong ones"},
        who="everybody",
    )
)
async def current_session(request: web.Request) -> web.Response:
    """Who asks, and what they may: the first question of a page.

    Answered to everybody who shows no token. A token that is wrong is 401 (`bad_token`), as is one
    whose session has ended (`session_ended`).
    """
    services, grant = request.app[SERVICES], request[GRANT]
    if grant.by == "nobody" and bearer(request) is not None:
        judged = judge(request)
        if isinstance(judged, web.Response):
            return judged
        grant = judged
    known, page = grant.by != "nobody", _page(request)
    row: AskerRow = {
        "by": grant.by,
        "may_read": known or not is_closed(request),
        "may_change": known,
        "session": None if grant.session is None else services.sessions.row(grant.session),
        "page": page.url or None,
        "exposed": page.exposed,
    }
    return web.json_response(row)


@routes.add(Route("DELETE", "/v1/sessions/current", errors={404: "no session asks"}))
async def end_own_session(request: web.Request) -> Ended:
    """Log out: the session that asks ends, and what it follows with it."""
    session = request[GRANT].session
    if session is None:
        raise UnknownSessionError("no session asks: this came by the token or the socket")
    request.app[SERVICES].sessions.end(session.id)
    return {"ended": session.id}


@routes.add(
    Route("DELETE", "/v1/sessions/{id:(?!(?:code|current)$)[^/]+}", errors={404: "no such session"})
)
async def end_session(request: web.Request) -> Ended:
    """End a session, whoever's it is."""
    id_ = request.match_info["id"]
    if not request.app[SERVICES].sessions.end(id_):
        raise UnknownSessionError(f"no session {id_!r}: it has ended, or never was")
    return {"ended": id_}


def _page(request: web.Request) -> Page:
    return request.app[SERVICES].page(request.app[ADDRESS]())

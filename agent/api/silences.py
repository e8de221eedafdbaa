"""Silences over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

from aiohttp import web

from agent.api.request import CALLER, SERVICES, body_of, number_of, text_of
from agent.api.route import Route, Routes
from agent.errors import BadRequestError
from agent.model import Platform, SilenceKind
from agent.service.rows import Also, Time
from agent.service.silences import SilenceRow
from agent.text import printable
from agent.track.silence_book import LONGEST, TEXT_MAX

if TYPE_CHECKING:
    from agent.api.caller import Caller

routes = Routes(
    "silences",
    "What calls nobody back for a time. States are derived, stored and shown as ever; at the end "
    "each device's net change is called back.",
    id="As the silence says.",
)


class SilenceList(TypedDict):
    """The silences in force."""

    silences: list[SilenceRow]


class _Wish(TypedDict):
    reason: Annotated[str, Also(minLength=1, maxLength=TEXT_MAX)]
    """For those who miss a callback; printable."""
    ends: NotRequired[Time]
    """When; needs a time zone. This or `seconds`."""
    seconds: NotRequired[Annotated[float, Also(exclusiveMinimum=0, maximum=LONGEST)]]
    """How long, from now."""


class DeviceWish(_Wish):
    """One device."""

    device: str
    """Its UDID, or what else names it."""


class TagWish(_Wish):
    """The devices that bear a tag."""

    tag: Annotated[str, Also(minLength=1, maxLength=TEXT_MAX)]


class PlatformWish(_Wish):
    """The devices of a platform."""

    platform: Platform


class HubWish(_Wish):
    """What hangs on a hub or a port, and what is plugged in there meanwhile."""

    hub: Annotated[
        str,
        Also(
            pattern="^([A-Za-z0-9_-]{1,63}/)?"
            "((usb)?[0-9]{1,4}|[0-9]{1,4}-[0-9]{1,3}([.][0-9]{1,3})*)$"
        ),
    ]
    """Its port path as devices show it, `1-4.2`; a bus, `usb1`. At a fleet's hub behind its host:
    `rack-3/1-4.2`."""


class AllWish(_Wish):
    """Every device."""

    all: Annotated[bool, Also(const=True)]


SilenceRequest = DeviceWish | TagWish | PlatformWish | HubWish | AllWish
_KEYS = {*_Wish.__annotations__, *SilenceKind}


@routes.add(Route("GET", "/v1/silences", everything=True))
async def list_silences(request: web.Request) -> SilenceList:
    """The silences in force, oldest first."""
    return {"silences": request.app[SERVICES].silences.rows()}


@routes.add(
    Route(
        "POST",
        "/v1/silences",
        status=201,
        takes=SilenceRequest,
        errors={404: "no such device; the message names the nearest", 503: "there are too many"},
    )
)
async def add_silence(request: web.Request) -> SilenceRow:
    """Silence devices for a time."""
    body = await body_of(request)
    if unknown := set(body) - _KEYS:
        raise BadRequestError(f"unknown key {min(unknown)!r}")
    kind, value = _what(body)
    desk = request.app[SERVICES].silences
    ends_ms = _ends_ms(body, desk.now_ms)
    return await desk.add(kind, value, text_of(body, "reason"), ends_ms, _who(request[CALLER]))


@routes.add(
    Route(
        "DELETE",
        "/v1/silences/{id}",
        errors={404: "no such silence: the message says how it ended"},
    )
)
async def end_silence(request: web.Request) -> SilenceRow:
    """End a silence now: what it kept back is told."""
    desk = request.app[SERVICES].silences
    return await desk.end(request.match_info["id"], _who(request[CALLER]))


def _what(body: dict[str, Any]) -> tuple[SilenceKind, str]:
    named = [kind for kind in SilenceKind if kind in body]
    if len(named) != 1:
        raise BadRequestError(f"name one of: {', '.join(SilenceKind)}")
    (kind,) = named
    if kind is not SilenceKind.ALL:
        return kind, text_of(body, str(kind))
    if body["all"] is not True:
        raise BadRequestError("'all' must be true")
    return kind, ""


def _ends_ms(body: dict[str, Any], now_ms: int) -> int:
    if ("ends" in body) == ("seconds" in body):
        raise BadRequestError("say either when it 'ends' or after how many 'seconds'")
    if "seconds" in body:
        seconds = number_of(body, "seconds", 0.0)
        if not seconds > 0:  # nor is what is no number
            raise BadRequestError(f"'seconds' must be more than 0, not {seconds:g}")
        return now_ms + max(1, round(min(seconds, 2 * LONGEST) * 1000))  # too long is said there
    text = text_of(body, "ends")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise BadRequestError(f"'ends' needs a time zone: {text!r} may be any")
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadRequestError(
            f"'ends' must be a time like 2026-01-31T18:00:00Z, not {text!r}"
        ) from None


def _who(caller: Caller) -> str:
    """For the row; the log has all that is known."""
    if caller.user:
        return printable(caller.user)
    return caller.address if caller.uid is None else f"uid {caller.uid}"

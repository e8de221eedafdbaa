"""What `use` and `lease acquire` share: whom for, which device, how long to wait for it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.cli.common import PLATFORM
from agent.cli.out import say
from agent.config import parse_duration
from agent.errors import ApiError
from agent.model import Platform
from agent.text import printable
from agent.users import user_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.api.leases import AnyDevice, LeaseRequest
    from agent.cli.common import AgentClient

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_Answer = TypeVar("_Answer")

AGAIN = 0.5
"""Seconds between tries to reach an agent that went away."""

LONGEST_WAIT = 86_400.0
"""Seconds of a `--wait` without a limit."""


class Seconds(click.ParamType[float]):
    """A duration as in the configuration file: `30s`, `5m`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds of it."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.option("--holder", default=None, help="Who uses it. [default: user@host]"),
    click.option("--any", "any_", is_flag=True, help="Any device that is online and fits."),
    click.option("--platform", type=PLATFORM, help="With --any."),
    click.option("--tag", "tags", multiple=True, help="With --any: all of them; repeatable."),
    click.option("--wait", "waits", is_flag=True, help="Queue until the device is free."),
    click.option("--timeout", type=Seconds(), help="Wait no longer than that. [default: 24h]"),
    click.option("--steal", metavar="REASON", help="Take it from whoever has it; recorded."),
)


def wish_options(function: _Command) -> _Command:
    """`--holder`, `--any` and what else says which device one wants."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def request_body(
    udid: str | None,
    *,
    holder: str | None,
    any_: bool,
    platform: str | None,
    tags: tuple[str, ...],
    waits: bool,
    timeout: float | None,
    steal: str | None,
) -> LeaseRequest:
    """The body of `POST /v1/leases`: for that device, or for any that fits.

    Raises:
        click.UsageError: the options contradict each other.
    """
    if (platform or tags) and not any_:
        raise click.UsageError("--platform and --tag go with --any")
    if steal is not None and any_:
        raise click.UsageError("--steal takes one device by its UDID; it does not go with --any")
    if steal is not None and not steal.strip():
        raise click.UsageError("--steal needs a reason: its holder will read it")
    who = holder or printable(f"{_user()}@{os.uname().nodename}")
    body: LeaseRequest
    if udid is None:
        fitting: AnyDevice = {"tags": list(tags)}
        if platform:
            fitting["platform"] = Platform(platform)
        body = {"holder": who, "any": fitting}
    else:
        body = {"holder": who, "udid": udid}
        if steal:
            body["steal"] = steal
    if waits or timeout is not None:
        body["wait"] = LONGEST_WAIT if timeout is None else timeout
    return body


async def patiently(
    client: AgentClient,
    body: LeaseRequest,
    ask: Callable[[LeaseRequest, float], Awaitable[_Answer]],
) -> _Answer:
    """What `ask(body, patience)` returns; who waits goes on to, behind an agent that restarts.

    Raises:
        ApiError: no agent runs, it refuses, or the wait is over.
    """
    if not body.get("wait"):
        try:
            return await ask(body, 0.0)
        except ApiError as error:
            if error.code != "device_held":
                raise
            steal = "" if "any" in body else ", --steal REASON takes it"
            raise ApiError(f"{error} (--wait queues for it{steal})", error.code) from None
    await client.ask("GET", "/-/healthy")  # where none runs at all that is said at once
    now = asyncio.get_running_loop().time
    left, said = body["wait"], False
    end = now() + left
    while True:
        try:
            body["wait"] = left
            return await ask(body, left)
        except ApiError as error:
            if error.code != "unreachable" or end - now() <= AGAIN:
                raise
            if not said:
                said = True
                say(f"waiting on, behind others now: {error}")
        await asyncio.sleep(AGAIN)
        left = max(0.0, end - now())


def _user() -> str:
    """As `getpass.getuser`, which may wait for ever for a directory."""
    named = (os.environ.get(key, "") for key in ("LOGNAME", "USER", "LNAME", "USERNAME"))
    uid = os.getuid()
    return next(filter(None, named), "") or user_name(uid) or str(uid)

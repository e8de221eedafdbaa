"""`device-agent devices --watch`: the table as it changes, or a line for each transition."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

from agent.cli.common import AgentClient, socket_of
from agent.cli.device_rows import table, tally, transition_line
from agent.cli.out import can_write, printable, say
from agent.cli.table import fitted, terminal
from agent.errors import ApiError
from agent.text import CUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.cli.filters import Filters
    from agent.service.devices import DeviceRow
    from agent.wire.control import Event

AGAIN = 0.5
"""Seconds between tries to reach an agent that went away."""
REDRAW = 0.1
"""Seconds between two drawings at least: phones that flicker must not fill a slow line."""
TICK = 1.0
"""Seconds after which a table without news is drawn again: its ages grow."""
SILENCE = 40.0
"""Seconds without a word after which the agent counts as gone; it says one every 15."""


class View(Protocol):
    """How what happens is shown."""

    def take(self, event: Event) -> None:
        """A message came."""

    def gone(self, why: str) -> None:
        """The agent went away; it is tried for."""

    def back(self) -> None:
        """It is there again."""


def watch(config_path: Path, filters: Filters, *, as_json: bool) -> int:
    """Show what happens until a signal; the exit code.

    Raises:
        ApiError: there was no agent to begin with, or it refuses.
    """
    return asyncio.run(_watch(socket_of(config_path), filters, as_json=as_json))


async def _watch(path: Path, filters: Filters, *, as_json: bool) -> int:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(number: int) -> None:
        if not ended.done():
            # Ctrl-C is how one leaves.
            ended.set_result(0 if number == signal.SIGINT else 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    with contextlib.ExitStack() as stack:
        view: View
        if as_json:
            view = JsonLines(filters)
        elif terminal() is None:
            view = Lines(filters)
        else:
            view = stack.enter_context(screen(filters))
        following = asyncio.create_task(_follow(path, filters, view))
        try:
            waited: set[asyncio.Future[Any]] = {following, ended}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            return ended.result()
        finally:
            following.cancel()
            await asyncio.wait({following})


async def _follow(path: Path, filters: Filters, view: View) -> None:
    """Hand on every message; come back where the agent went away after the first one."""
    query = [("tag", tag) for tag in filters.tags]
    if filters.platform:
        query.append(("platform", filters.platform))
    query += [("host", host) for host in filters.hosts]
    last_id = ""
    seen = away = False
    async with AgentClient(path) as client:
        while True:
            try:
                messages = client.events(query, last_id, silence=SILENCE)
                async with contextlib.aclosing(messages):
                    async for event in messages:
                        if away:
                            view.back()
                        seen, away, last_id = True, False, event.id
                        view.take(event)
            except ApiError as error:
                if error.code != "unreachable" or not seen:
                    raise
                if not away:
                    away = True
                    view.gone(str(error))
            await asyncio.sleep(AGAIN)


class JsonLines:
    """Each message as one JSON object: its kind as `event`, and its own keys."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    def take(self, event: Event) -> None:
        """Print it, where it fits."""
        data = event.data
        match event.kind:
            case "snapshot":
                data = {"devices": self._filters.rows(data["devices"])}
            case "device" if not self._filters.fit(data, data["state"]):
                return
            case "transition" if not self._filters.fit(data, data["from"], data["to"]):
                return
        _print(json.dumps({"event": event.kind, **data}))

    def gone(self, why: str) -> None:
        """Say so on stderr."""
        say(f"{why}; waiting for it")

    def back(self) -> None:
        """Say so on stderr."""
        say("the agent is back")


class Lines(JsonLines):
    """Each transition as a line."""

    def take(self, event: Event) -> None:
        """Print it, where it is a transition that fits."""
        if event.kind == "reset":
            say(event.data["reason"])
        elif event.kind == "transition" and self._filters.fit(
            event.data, event.data["from"], event.data["to"]
        ):
            _print(transition_line(event.data))


def _print(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


class Screen:
    """The table on a terminal, drawn in its alternate screen: what was there before comes back."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._rows: dict[str, DeviceRow] | None = None
        self._note = ""
        self._timer: asyncio.TimerHandle | None = None
        self._drawn = 0.0

    def take(self, event: Event) -> None:
        """Keep the rows as they are now."""
        rows = self._rows or {}
        match event.kind:
            case "snapshot":
                rows = {row["udid"]: row for row in event.data["devices"]}
            case "device":
                rows[event.data["udid"]] = event.data
            case "removed":
                rows.pop(event.data["udid"], None)
        self._rows = rows
        self.soon()

    def gone(self, why: str) -> None:
        """Say so above the table, which stays."""
        self._note = f"the agent went away: what is shown is old, waiting for it ({why})"
        self.soon()

    def back(self) -> None:
        """What is shown is true again."""
        self._note = ""

    def enter(self) -> None:
        """The alternate screen, without a cursor."""
        _write("\x1b[?1049h\x1b[?25l")
        self.draw()

    def leave(self) -> None:
        """As it was before."""
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError):
            _write("\x1b[?25h\x1b[?1049l")

    def soon(self) -> None:
        """Draw, but not too often."""
        self._in(max(0.0, self._drawn + REDRAW - time.monotonic()))

    def _in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.draw)

    def draw(self) -> None:
        """All of it, over what is there; each line to its end, and what is below goes."""
        try:
            self._draw()
        except OSError:  # the terminal is gone
            os.kill(os.getpid(), signal.SIGHUP)

    def _draw(self) -> None:
        size = terminal()
        if size is not None:
            lines = self.lines(size.columns, size.lines, time.time())
            _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        self._drawn = time.monotonic()
        self._in(TICK)

    def lines(self, wide: int, high: int, now: float) -> list[str]:
        """What is shown on a terminal of that size."""
        if self._rows is None:
            return [fitted("asking the agent", wide).rstrip()]
        rows = self._filters.rows(sorted(self._rows.values(), key=lambda row: row["udid"]))
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        head = [fitted(f"{tally(rows)}  {clock}  Ctrl-C ends", wide).rstrip()]
        if self._note:
            head.append(click.style(fitted(printable(self._note), wide), fg="black", bg="yellow"))
        body = table(rows, now, wide).split("\n") if rows else []
        space = max(2, high - len(head) - 1)
        if len(body) > space:
            hidden = len(body) - space + 1
            dots = CUT if can_write(CUT) else "..."
            more = f"{dots} and {hidden} more: --state, --tag, or a higher window"
            body = [*body[: space - 1], fitted(more, wide).rstrip()]
        return [*head, "", *body][:high]


@contextlib.contextmanager
def screen(filters: Filters) -> Iterator[Screen]:
    """While it is shown; the terminal is left as it was, however this ends, Ctrl-Z included."""
    loop = asyncio.get_running_loop()
    made = Screen(filters)

    def suspend() -> None:
        made.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        made.enter()  # `fg` brought us back

    loop.add_signal_handler(signal.SIGWINCH, made.soon)
    loop.add_signal_handler(signal.SIGTSTP, suspend)
    made.enter()
    try:
        yield made
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGTSTP)
        made.leave()


def _write(text: str) -> None:
    if "NO_COLOR" in os.environ:
        text = _uncoloured(text)
    sys.stdout.write(text)
    sys.stdout.flush()


def _uncoloured(text: str) -> str:
    """Without colours; what moves the cursor stays."""
    head, *rest = text.split("\x1b[")
    for part in rest:
        code = part.lstrip("0123456789;?")
        head += code[1:] if code.startswith("m") else f"\x1b[{part}"
    return head

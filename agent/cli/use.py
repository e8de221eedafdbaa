"""`device-agent use`: a lease for as long as a command runs.

The lease is tied to a connection of this process: when it dies, even by SIGKILL, the lease ends at
once. When the agent restarts meanwhile, this process ties itself to the stored lease again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import shlex
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import AgentClient, config_option, quoted, socket_of
from agent.cli.holding import AGAIN, Seconds, patiently, request_body, wish_options
from agent.cli.out import say
from agent.errors import ApiError
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from agent.api.leases import LeaseRequest, OneWish
    from agent.service.leases import LeaseRow

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_TYPED = (signal.SIGINT, signal.SIGQUIT)
"""A terminal's keys make these, for every process of the group that it has in the foreground."""


@click.command(options_metavar="[OPTIONS] {UDID | --any}")
@config_option
@wish_options
@click.option("--purpose", default=None, help="What for. [default: the command]")
@click.option(
    "--ttl",
    type=Seconds(),
    default="30s",
    show_default=True,
    help="How long an agent that restarts keeps the lease for us.",
)
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    config_path: Path, purpose: str | None, ttl: float, words: tuple[str, ...], **wish: Any
) -> None:
    """Hold the device UDID while COMMAND runs: its state is `utilizing` meanwhile.

    COMMAND finds the UDID in $DEVICE_AGENT_UDID, the lease's id in $DEVICE_AGENT_LEASE, its host in
    $DEVICE_AGENT_HOST and, for an Android device, $ANDROID_SERIAL set. Signals are passed on to it,
    and its exit code is this command's. When this process ends, however it does, so does the lease.
    """
    udid, run = (None, words) if wish["any_"] else (words[0], words[1:])
    if not run:
        raise click.UsageError("what is to run? device-agent use UDID -- COMMAND…")
    body = request_body(udid, **wish)
    body["purpose"] = _shown(run) if purpose is None else purpose
    body["ttl"], body["tie"] = ttl, True
    sys.exit(asyncio.run(_use(socket_of(config_path), body, run)))


def _shown(run: tuple[str, ...]) -> str:
    """The command as a lease's purpose, which is text on one line: any command may be run."""
    return printable(" ".join(shlex.join(run).split()), 200)


async def _use(path: Path, body: LeaseRequest, run: tuple[str, ...]) -> int:
    async with AgentClient(path) as client:
        lease, lines = await patiently(client, body, functools.partial(_take, client))
        async with contextlib.aclosing(lines):
            keeping = asyncio.create_task(_keep(client, lines, lease, body))
            try:
                return await _run(run, {**os.environ, **_environ(lease)})
            finally:
                keeping.cancel()
                await asyncio.wait({keeping})
                await _release(client, lease)


async def _take(
    client: AgentClient, body: LeaseRequest, patience: float
) -> tuple[LeaseRow, AsyncGenerator[Any]]:
    lines = client.lines("POST", "/v1/leases", body, patience=patience)
    return await anext(lines), lines


def _environ(lease: LeaseRow) -> dict[str, str]:
    udid = lease["udid"]
    result = {
        "DEVICE_AGENT_UDID": udid,
        "DEVICE_AGENT_LEASE": lease["id"],
        "DEVICE_AGENT_HOST": lease["host"],
    }
    if (
        lease["platform"] == "android" and "@" not in udid
    ):  # of two phones with one serial adb knows none
        result["ANDROID_SERIAL"] = udid
    return result


async def _release(client: AgentClient, lease: LeaseRow) -> None:
    if not lease["id"]:
        return  # lost with the agent, and not taken anew yet
    try:
        await client.ask("DELETE", f"/v1/leases/{quoted(lease['id'])}")
    except ApiError as error:
        if error.code != "unknown_lease":  # it was said when it ended
            say(f"the lease ends by itself: {error}")


async def _keep(
    client: AgentClient,
    lines: AsyncIterator[Any],
    lease: LeaseRow,
    body: LeaseRequest,
) -> None:
    """Stay tied for ever; where the lease was lost with the agent, take a new one in its place."""
    said = False
    while True:
        try:
            async for line in lines:
                said = False
                if "ended" in line:
                    say(f"{lease['udid']} is no longer ours: {line['ended']}")
                    return
                if "id" in line:
                    lease.update(line)
        except ApiError as error:
            if not said:
                said = True
                say(f"not tied to the lease of {lease['udid']} now, trying again: {error}")
            if error.code == "unknown_lease":
                lease["id"] = ""
        await asyncio.sleep(AGAIN)
        if lease["id"]:
            lines = client.lines("POST", f"/v1/leases/{quoted(lease['id'])}/tie")
            continue
        again: OneWish = {
            "udid": lease["udid"],
            "holder": body["holder"],
            "purpose": body["purpose"],
            "ttl": body["ttl"],
            "tie": True,
        }
        lines = client.lines("POST", "/v1/leases", again)


async def _run(run: tuple[str, ...], environ: dict[str, str]) -> int:
    """Run the command in our place: its signals, its exit code (128 + signal, as a shell says)."""
    loop = asyncio.get_running_loop()
    process: asyncio.subprocess.Process | None = None
    early: list[int] = []

    def forward(number: int) -> None:
        if process is None:
            early.append(number)
            return
        if number in _TYPED and _in_foreground():
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    # Before it runs: a signal in between would end us and leave it without its lease.
    for number in (*_FORWARDED, *_TYPED):
        loop.add_signal_handler(number, forward, number)
    try:
        process = await asyncio.create_subprocess_exec(*run, env=environ)
    except OSError as error:
        # A directory of PATH that is not ours to look into makes "permission denied" of a command
        # that is nowhere; to a shell that is "not found" as well.
        missing = isinstance(error, FileNotFoundError) or (
            "/" not in run[0] and shutil.which(run[0], os.F_OK) is None
        )
        say(f"cannot run {run[0]!r}: {os.strerror(errno.ENOENT) if missing else error.strerror}")
        return 127 if missing else 126
    for each in early:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(each)
    code = await process.wait()
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Whether a terminal's keys reach the command by themselves: it is in our process group."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # we have none
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)

"""`device-agent use`: a lease for as long as a command runs."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import AgentClient, config_option, socket_of
from agent.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

TTL = 30.0
"""Seconds a lease outlives this process, should it be killed."""
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@click.command()
@config_option
@click.option("--holder", default=None, help="Who uses it. [default: user@host of this process]")
@click.option("--purpose", default=None, help="What for. [default: the command]")
@click.argument("udid")
@click.argument("run", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    config_path: Path, holder: str | None, purpose: str | None, udid: str, run: tuple[str, ...]
) -> None:
    """Hold the device UDID while COMMAND runs: its state is `utilizing` meanwhile.

    COMMAND finds the device's UDID in $DEVICE_AGENT_UDID. Signals are passed on to it, and its exit
    code is this command's. When this process dies, the lease ends within 30 s.
    """
    holder = holder or f"{_user()}@{os.uname().nodename}"
    purpose = shlex.join(run)[:200] if purpose is None else purpose
    sys.exit(asyncio.run(_use(socket_of(config_path), udid, holder, purpose, run)))


async def _use(path: Path, udid: str, holder: str, purpose: str, run: tuple[str, ...]) -> int:
    body = {"udid": udid, "holder": holder, "purpose": purpose, "ttl": TTL}
    async with AgentClient(path) as client:
        lease = await client.ask("POST", "/v1/leases", body)
        renewing = asyncio.create_task(_renew(client, lease, body))
        try:
            return await _run(run, {**os.environ, "DEVICE_AGENT_UDID": lease["udid"]})
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            try:
                await client.ask("DELETE", f"/v1/leases/{lease['id']}")
            except ApiError as error:
                click.echo(f"device-agent: the lease ends by itself: {error}", err=True)


async def _renew(client: AgentClient, lease: dict[str, Any], body: dict[str, Any]) -> None:
    """Renew three times a TTL, for ever; where the lease was lost, take a new one in its place."""
    said = False
    while True:
        await asyncio.sleep(TTL / 3)
        try:
            await client.ask("POST", f"/v1/leases/{lease['id']}/renew")
            said = False
        except ApiError as error:
            if not said:
                said = True
                click.echo(f"device-agent: cannot renew the lease now: {error}", err=True)
            if error.code == "unknown_lease":
                with contextlib.suppress(ApiError):
                    lease.update(await client.ask("POST", "/v1/leases", body))


async def _run(run: tuple[str, ...], environ: dict[str, str]) -> int:
    """Run the command in our place: its signals, its exit code (128 + signal, as a shell says)."""
    try:
        process = await asyncio.create_subprocess_exec(*run, env=environ)
    except OSError as error:
        click.echo(f"device-agent: cannot run {run[0]!r}: {error.strerror}", err=True)
        return 127 if isinstance(error, FileNotFoundError) else 126
    loop = asyncio.get_running_loop()

    def forward(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    for number in _FORWARDED:
        loop.add_signal_handler(number, forward, number)
    # A terminal's Ctrl-C reaches the command by itself: it is in our process group.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    code = await process.wait()
    return code if code >= 0 else 128 - code


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())

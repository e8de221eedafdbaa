"""`serve`: run the simulated phones; `ask REQUEST`: send them one request. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from .control import ask, listen
from .phones import Phones
from .vhci import NoPortError, Vhci

SOCKET = Path("/run/lab-phones.sock")
LOCKDOWN = Path("/var/lib/lockdown")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="lab-phones", description=__doc__)
    parser.add_argument("--socket", type=Path, default=SOCKET)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--lockdown", type=Path, default=LOCKDOWN)
    asking = commands.add_parser("ask")
    asking.add_argument("request")
    asking.add_argument("--limit", type=float, default=120.0)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            asyncio.run(_serve(arguments.socket, arguments.lockdown))
        except NoPortError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    answer = ask(arguments.socket, arguments.request, arguments.limit)
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


async def _serve(path: Path, lockdown: Path) -> None:
    vhci = Vhci()
    vhci.ports()  # ends here, with the reason, where there is no such host
    phones = Phones(vhci, lockdown)
    server = await listen(phones, path)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    _notify("READY=1")
    try:
        await ended.wait()
    finally:
        server.close()
        path.unlink(missing_ok=True)
        await phones.close()


def _notify(state: str) -> None:
    """Tell systemd, if it is listening."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
            contextlib.suppress(OSError),
        ):
            notify.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


if __name__ == "__main__":
    sys.exit(main())

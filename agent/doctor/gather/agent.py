"""What the running agent says, over its socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiohttp

from agent import __version__
from agent.api.caller import credentials_of
from agent.doctor.facts import AgentFacts
from agent.doctor.gather import users

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 3.0
"""Seconds for all questions; a working agent answers each in milliseconds."""
DELIVERIES = 100
"""Newest callbacks that are asked for."""


async def ask_agent(path: Path) -> AgentFacts:
    """Ask it everything; raises nothing."""
    try:
        if not path.exists():
            return AgentFacts(path, f"no socket {path}")
        async with asyncio.timeout(LIMIT):
            pid, uid = await _peer(path)
            answers = await _answers(path)
    except PermissionError:
        return AgentFacts(path, "permission denied", there=True, denied=True)
    except (ConnectionRefusedError, FileNotFoundError):
        return AgentFacts(path, "nobody answers at it", there=True)
    except TimeoutError:
        return AgentFacts(path, f"no answer within {LIMIT:g} s", there=True)
    except (OSError, aiohttp.ClientError, ValueError, KeyError) as error:
        return AgentFacts(path, f"what answers is not understood: {error}", there=True)
    return AgentFacts(
        path,
        there=True,
        pid=pid,
        user=users.of_process(pid) or users.by_name(users.name_of(uid)),
        **answers,
    )


async def _peer(path: Path) -> tuple[int, int]:
    """Process and user id of who listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        await asyncio.get_running_loop().sock_connect(probe, str(path))
        return credentials_of(probe)


async def _answers(path: Path) -> dict[str, Any]:
    async with aiohttp.ClientSession(
        "http://localhost", connector=aiohttp.UnixConnector(path=str(path)), raise_for_status=True
    ) as session:

        async def json(url: str) -> Any:
            async with session.get(url) as response:
                return await response.json()

        status = await json("/v1/status")
        if "store" not in status:
            raise ValueError(
                f"version {status.get('version')} runs, and version {__version__} asks: restart it"
            )
        async with session.get("/metrics") as response:
            metrics = await response.text()
        return {
            "status": status,
            "devices": (await json("/v1/devices"))["devices"],
            "webhooks": (await json("/v1/webhooks"))["webhooks"],
            "deliveries": (await json(f"/v1/deliveries?limit={DELIVERIES}"))["deliveries"],
            "metrics": metrics,
        }

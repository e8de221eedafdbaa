"""What the running agent says, over its socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.doctor.facts import AgentFacts
from agent.doctor.gather import users
from agent.errors import ApiError
from agent.wire.control import ControlSocket
from agent.wire.peer import listener_at

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 3.0
"""Seconds for all questions; a working agent answers each in milliseconds."""
SUSPECTS_LIMIT = 3.0
"""Seconds more for what is suspected: that is reckoned from up to 100,000 transitions."""
DELIVERIES = 100
"""Newest callbacks that are asked for."""


async def ask_agent(path: Path) -> AgentFacts:
    """Ask it everything; raises nothing."""
    try:
        if not path.exists():
            return AgentFacts(path, f"no socket {path}")
        async with asyncio.timeout(LIMIT):
            pid, uid = await listener_at(path)
            answers = await _answers(path)
        answers["suspects"] = await _suspects(path)
    except PermissionError:
        return AgentFacts(path, "permission denied", there=True, denied=True)
    except (ConnectionRefusedError, FileNotFoundError):
        return AgentFacts(path, "nobody answers at it", there=True)
    except TimeoutError:
        return AgentFacts(path, f"no answer within {LIMIT:g} s", there=True)
    except (OSError, ApiError, ValueError, KeyError, TypeError) as error:
        return AgentFacts(path, f"what answers is not understood: {error}", there=True)
    return AgentFacts(
        path,
        there=True,
        pid=pid,
        user=users.of_process(pid) or users.by_name(users.name_of(uid)),
        **answers,
    )


async def _answers(path: Path) -> dict[str, Any]:
    async with ControlSocket(path, 2 * LIMIT, lambda _, error: str(error)) as agent:
        status = await agent.ask("GET", "/v1/status")
        if "store" not in status:
            raise ValueError(
                f"version {status.get('version')} runs, and version {__version__} asks: restart it"
            )
        deliveries = await agent.ask("GET", f"/v1/deliveries?limit={DELIVERIES}")
        asker = await agent.ask("GET", "/v1/sessions/current")
        return {
            "page": asker["page"],
            "exposed": asker["exposed"],
            "status": status,
            "devices": (await agent.ask("GET", "/v1/devices"))["devices"],
            "webhooks": (await agent.ask("GET", "/v1/webhooks"))["webhooks"],
            "deliveries": deliveries["deliveries"],
            "causes": (await agent.ask("GET", "/v1/causes"))["causes"],
            "metrics": await agent.text("/metrics"),
        }


async def _suspects(path: Path) -> list[Any]:
    """None where it takes too long: all else is known."""
    try:
        async with (
            asyncio.timeout(SUSPECTS_LIMIT),
            ControlSocket(path, 2 * SUSPECTS_LIMIT, lambda _, error: str(error)) as agent,
        ):
            found: list[Any] = (await agent.ask("GET", "/v1/suspects"))["suspects"]
            return found
    except (TimeoutError, ApiError):
        return []

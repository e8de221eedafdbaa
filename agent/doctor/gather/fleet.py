"""How far one comes towards the fleet's broker: signed in as the agent does, and one question."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.doctor.facts import FleetFacts
from agent.fleet.host import host_of
from agent.fleet.link import LinkError, NoAnswerError, NobodyError
from agent.fleet.uplink import dial

if TYPE_CHECKING:
    from agent.config.model import Fleet
    from agent.fleet.link import Link

LIMIT = 6.0
"""Seconds for all of it."""
WHO_LIMIT = 1.0
"""Seconds for whoever has this host's name to say so."""


async def look_at_fleet(fleet: Fleet, *, runs: bool) -> FleetFacts | None:
    """None: no fleet is configured. Raises nothing that an operator would be told of.

    Args:
        fleet: the section.
        runs: whether the agent does; it has the name then, or says why not.
    """
    if not fleet.servers:
        return None
    servers = ", ".join(url.bare for url in fleet.servers)
    started = time.monotonic()
    taken, error = False, ""
    try:
        async with asyncio.timeout(LIMIT):
            link = await dial(fleet)
            took = time.monotonic() - started
            try:
                if not runs and fleet.role == "agent":
                    taken = await _is_taken(link, fleet)
            finally:
                await link.close()
    except TimeoutError:
        error = f"{servers}: not signed in within {LIMIT:g} s"
    except LinkError as failure:
        error = str(failure)
    if error:
        took = time.monotonic() - started
    return FleetFacts(fleet.role, host_of(fleet), servers, error=error, taken=taken, took=took)


async def _is_taken(link: Link, fleet: Fleet) -> bool:
    # Pydantic's records: where there is a fleet.
    from agent.fleet import subjects  # noqa: PLC0415 - see above
    from agent.fleet.words import Who, pack  # noqa: PLC0415 - see above

    subject = subjects.who(host_of(fleet))
    try:
        await link.request(subject, pack(Who(instance="doctor")), WHO_LIMIT)
    except (NobodyError, NoAnswerError):
        return False
    return True

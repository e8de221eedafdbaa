"""A fleet on this machine, as processes: agents with simulated phones, hubs, one broker or three.

What is not told apart here is the product's own default; the holds are short, for nobody waits for
a cable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.ports import free_port
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE
from tests.kit.rack import Rack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEARTBEAT = 5.0
"""Seconds between those of an agent."""
TAKEOVER = 15.0
"""Seconds after which a hub takes over from one that is silent."""


def servers(urls: Sequence[str]) -> str:
    """As a value of TOML."""
    return "[" + ", ".join(f'"{url}"' for url in urls) + "]"


def rack(
    place: Path, host: str, urls: Sequence[str], wrapper: Sequence[str] = (), *, more: str = AT_ONCE
) -> Rack:
    """A host of the fleet that the brokers at these URLs join."""
    place.mkdir(parents=True, exist_ok=True)
    fleet = f'[fleet]\nservers = {servers(urls)}\nhost = "{host}"\n'
    return Rack(place, fleet + more, wrapper)


def hub(
    place: Path,
    urls: Sequence[str],
    webhooks: str,
    *,
    host: str = "",
    host_grace: float,
    move_hold: float,
    source_grace: float,
    page: bool = False,
    more: str = "",
) -> AgentProcess:
    """A hub of that fleet; `page`: it serves one. All times are in seconds."""
    place.mkdir(parents=True, exist_ok=True)
    config = (
        f'[fleet]\nrole = "hub"\nservers = {servers(urls)}\nhost = "{host}"\n'
        f'host_grace = "{host_grace * 1000:.0f}ms"\nmove_hold = "{move_hold * 1000:.0f}ms"\n'
        f'[hold]\nsource_grace = "{source_grace * 1000:.0f}ms"\n'
    )
    listen = f"127.0.0.1:{free_port()}" if page else ""
    return AgentProcess(place, config + more + webhooks, listen=listen)

"""Usage sources of other packages, found by entry point and run like our own.

A package names a factory in the group GROUP: `name = "package.module:make"`. It is called with the
table `[usage.plugins.NAME]` of the configuration, and returns a `base.UsageSource` of that name.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.usage.base import UsageSource

GROUP = "device_agent.usage"


def make(name: str, options: Mapping[str, Any], own: Collection[str]) -> UsageSource:
    """The source of that name.

    Args:
        name: as it is configured.
        options: its table.
        own: the names of the agent's own sources.

    Raises:
        AgentError: no installed package has it, or it cannot be made with these options.
    """
    place = f"[usage.plugins.{name}]"
    if name in own:
        raise AgentError(f"{place}: {name} is one of the agent's own sources: see [usage]")
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = f"installed are {', '.join(sorted(found))}" if found else "none is installed"
        raise AgentError(
            f"{place}: no package in the agent's environment brings this source ({known})"
        )
    try:
        source: UsageSource = found[name].load()(options)
    except Exception as error:  # whatever another package raises must not end the agent
        raise AgentError(f"{place}: {type(error).__name__}: {error}") from error
    if source.name != name:
        raise AgentError(f"{place}: its source calls itself {source.name!r}")
    return source

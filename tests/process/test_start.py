"""What an agent does not load until somebody asks for it: memory, and time of its start."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = """
import sys
from agent.cli import command
command.get_command(None, "run")
print(*sys.modules)
"""

_FROZEN = """
import gc, agent.cli
before = gc.get_freeze_count()
agent.cli.command.get_command(None, "run")
print(before, gc.get_freeze_count(), gc.isenabled())
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """All modules that `device-agent run` has before it reads its configuration."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True, timeout=60
    )
    found = set(done.stdout.split())
    assert {"agent.app.app", "agent.api.routes", "agent.fleet.uplink"} <= found
    return found


@pytest.mark.parametrize(
    ("needed_for", "names"),
    [
        ("a scrape", ["prometheus_client", "agent.service.metrics", "agent.service.exposition"]),
        (
            "an edit of a webhook",
            ["tomlkit", "agent.config.change", "agent.config.edit", "agent.config.rewrite"],
        ),
        ("the OpenAPI document", ["agent.api.openapi", "agent.api.schema"]),
        ("the doctor", ["agent.doctor", "agent.store.inspect"]),
        ("an iPhone", ["pymobiledevice3", "h11"]),
        ("USB", ["pyudev"]),
        ("a mistake", ["difflib"]),
        ("a fleet", ["cryptography", "nats"]),
    ],
)
def test_is_not_loaded_before_it_is_needed_for(
    loaded: set[str], needed_for: str, names: list[str]
) -> None:
    assert not loaded.intersection(names), needed_for


def test_without_a_fleet_nothing_of_one_is_loaded_but_what_says_so(loaded: set[str]) -> None:
    assert {name for name in loaded if name.startswith("agent.fleet")} == {
        "agent.fleet",
        "agent.fleet.own",
        "agent.fleet.uplink",
    }


def test_no_command_is_loaded_but_the_one_that_runs(loaded: set[str]) -> None:
    commands = {"demo", "devices", "doctor", "listen", "reload", "schema", "use", "webhooks"}
    assert not {f"agent.cli.{name}" for name in commands} & loaded


def test_what_was_loaded_is_left_out_of_the_search_for_garbage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FROZEN], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, collects = done.stdout.split()
    assert (before, int(after) > 50_000, collects) == ("0", True, "True")


def test_the_help_loads_nothing_of_the_agent_but_its_words() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, agent.cli; print(*sys.modules)"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = set(done.stdout.split())
    assert "agent.cli" in found
    assert not {"agent.config", "aiohttp", "asyncio", "pydantic", "structlog"} & found

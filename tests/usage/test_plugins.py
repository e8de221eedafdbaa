"""A source of another package, found by its entry point."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli

from agent.errors import AgentError
from agent.usage import plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE = Path(__file__).parents[1] / "testdata" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sample package as pip leaves it: its module, and what its project file says beside it.

    Not by pip itself: building a package needs its build system, which needs a network.
    """
    site = tmp_path_factory.mktemp("site")
    shutil.copy(SAMPLE / "device_agent_booking.py", site)
    project = tomli.loads((SAMPLE / "pyproject.toml").read_text())["project"]
    about = site / f"device_agent_booking-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    sys.path.insert(0, str(site))
    yield site
    sys.path.remove(str(site))


@pytest.mark.usefixtures("installed")
async def test_it_is_found_made_and_read(tmp_path: Path) -> None:
    file = tmp_path / "booked"
    source = plugins.make("booking", {"file": str(file)})
    (target,) = await source.targets(())
    file.write_text("R58M alice\n")
    assert await source.read(target) == {"R58M": "booking of alice"}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("other", {}, "no package .* brings this source .installed are booking."),
        ("booking", {}, "KeyError: 'file'"),
        ("appium", {}, "one of the agent's own"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_cannot_be_made_says_why(name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(AgentError, match=words):
        plugins.make(name, options)

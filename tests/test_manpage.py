"""The man page and TAB, as made from the commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEVICE_AGENT = Path(sys.executable).parent / "device-agent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man") / "device-agent.1"
    with made.open("w") as file:
        subprocess.run(
            [sys.executable, ROOT / "packaging/manpage.py", "1700000000"], stdout=file, check=True
        )
    return made


@pytest.mark.parametrize(
    "checker",
    [
        ("man", "--warnings", "--encoding=utf8", "--local-file"),
        ("mandoc", "-T", "lint", "-W", "warning"),
    ],
    ids=lambda checker: checker[0],
)
def test_it_is_well_formed(page: Path, checker: tuple[str, ...]) -> None:
    if shutil.which(checker[0]) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {checker[0]}")
        pytest.skip(f"{checker[0]} is not installed")
    done = subprocess.run(
        [*checker, page],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PAGER": ""},
    )
    assert (done.returncode, done.stderr) == (0, "")
    if checker[0] == "mandoc":  # says it on its standard output
        assert done.stdout == ""


def test_it_has_every_command_and_what_operators_look_for(page: Path) -> None:
    text = page.read_text().replace("\\-", "-")
    helped = subprocess.run([DEVICE_AGENT, "--help"], capture_output=True, text=True, check=True)
    names = re.findall(r"^  ([a-z]+)  ", helped.stdout.split("Commands:")[1], re.MULTILINE)
    assert len(names) > 9
    for name in names:
        assert f'.SS "device-agent {name}' in text
    assert '.SS "device-agent webhooks test' in text
    assert "2023-11-14" in text
    for section in ("FILES", "ENVIRONMENT", "EXIT STATUS", "SIGNALS", "EXAMPLES"):
        assert f".SH {section}\n" in text


def test_tab_lists_the_commands_without_loading_them() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", DEVICE_AGENT],
        env={
            **os.environ,
            "_DEVICE_AGENT_COMPLETE": "bash_complete",
            "COMP_WORDS": "device-agent ",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"plain,run", "plain,devices", "plain,schema"} <= set(done.stdout.split())
    assert "agent.cli.group" in done.stderr
    for heavy in ("agent.cli.run", "agent.cli.webhooks", "aiohttp"):
        assert not re.search(rf"\b{re.escape(heavy)}\n", done.stderr)

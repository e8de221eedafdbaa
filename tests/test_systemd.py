"""The unit file, as systemd itself judges it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "systemd" / "device-agent.service"


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """A copy of the unit whose command exists here; skipped where systemd's tools are not."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have systemd-analyze")
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert "/opt/device-agent/bin/device-agent" in text
    copy.write_text(text.replace("/opt/device-agent/bin/device-agent", "/bin/true"))
    return copy


def test_systemd_finds_nothing_wrong(analyze: Path) -> None:
    done = subprocess.run(
        # Without a look at the man page, which is not installed here.
        ["systemd-analyze", "verify", "--man=no", analyze],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_sandbox_is_tight(analyze: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=18", analyze],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]

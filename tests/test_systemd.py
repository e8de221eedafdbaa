"""The unit files, as systemd itself judges them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent / "systemd"
LIMITS = {"device-agent": 18, "device-agent-hub": 13}
"""How exposed each may be, in tenths: the hub needs no devices."""


@pytest.fixture(params=LIMITS)
def unit(request: pytest.FixtureRequest) -> str:
    """Each unit."""
    return str(request.param)


@pytest.fixture
def analyze(tmp_path: Path, unit: str) -> Path:
    """A copy of the unit whose command exists here; skipped where systemd's tools are not."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have systemd-analyze")
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / f"{unit}.service"
    text = (UNITS / copy.name).read_text()
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


def test_the_sandbox_is_tight(analyze: Path, unit: str) -> None:
    limit = f"--threshold={LIMITS[unit]}"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", limit, analyze],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]


def test_who_mounts_the_sockets_directory_keeps_it_over_restarts(unit: str) -> None:
    """A bind mount of it in a container would show the removed one for ever."""
    text = (UNITS / f"{unit}.service").read_text()
    said = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("Runtime"))
    assert said == {
        "RuntimeDirectory": unit,
        "RuntimeDirectoryMode": "0750",
        "RuntimeDirectoryPreserve": "yes",
    }


@pytest.mark.parametrize("theirs", ["g plugdev 46\n", "g plugdev - -\n", ""])
def test_the_user_is_made_without_a_word_against_the_distribution(
    tmp_path: Path, theirs: str
) -> None:
    """Debian's own basic.conf names plugdev as well."""
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    for name in ("etc", "usr/lib/sysusers.d"):
        (tmp_path / name).mkdir(parents=True)
    places = tmp_path / "usr/lib/sysusers.d"
    (places / "basic.conf").write_text(theirs)
    shutil.copy(UNITS / "device-agent.sysusers.conf", places / "device-agent.conf")
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("Creating ")] == []
    groups = (tmp_path / "etc/group").read_text().splitlines()
    assert next(line for line in groups if line.startswith("plugdev:")).endswith(":device-agent")
    assert "device-agent:" in (tmp_path / "etc/passwd").read_text()

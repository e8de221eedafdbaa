"""The doctor called by the agent: given the configuration in force, in a process of his own."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.doctor.examine import examine
from agent.errors import InternalError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
[agent]
state_dir = "{place}"
[usb]
enabled = false
[android]
enabled = false
[ios]
enabled = false
[api]
socket = "{place}/s"
[usage.plugins.bench]
url = "http://bench.example/"
depth = {{ key = "deep-secret", list = [1, {{ two = 2 }}] }}
[[webhooks]]
name = "board"
url = "http://127.0.0.1:1/hook?token=hidden-one"
events = ["online"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


def test_of_a_file_with_mistakes_the_configuration_in_force_is_looked_at(tmp_path: Path) -> None:
    path, text = tmp_path / "agent.toml", TEXT.format(place=tmp_path)
    path.write_text(text + "nonsense = 1\n")
    path.chmod(0o600)
    rows = examine(path, os.environ, parse(text, str(path)))
    (board,) = [row for row in rows if row["check"] == "board"]
    assert (board["section"], board["verdict"]) == ("Webhooks", "fail")
    assert any("nonsense" in row["found"] for row in rows)
    for private in ("hidden-one", "MfKQ9r8", "deep-secret"):
        assert private not in json.dumps(rows)


def test_one_that_cannot_work_is_said_without_a_secret(tmp_path: Path) -> None:
    path, text = tmp_path / "agent.toml", TEXT.format(place=tmp_path)
    path.write_text(text)
    (tmp_path / "json.py").write_text("raise SystemExit('fails with hidden-one')")
    # By this path the process finds another json than ours; else it would be found as ever.
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with pytest.raises(InternalError, match="the doctor ended with 1") as raised:
        examine(path, environ, parse(text, str(path)))
    assert "hidden-one" not in str(raised.value)

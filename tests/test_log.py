"""Log lines as a terminal, the journal and a machine get them."""

from __future__ import annotations

import io
import json
import os
import re
from typing import TYPE_CHECKING

import pytest
import structlog

from agent import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def written(style: str, level: str = "info") -> list[str]:
    stream = io.StringIO()
    log.configure(level, style, stream, {})
    logger = structlog.get_logger("test")
    logger.debug("not.shown")
    logger.warning("adb.down", server="127.0.0.1:5037", reason='it said "no"\nand hung up')
    try:
        int("boom")
    except ValueError:
        logger.exception("source.failed", source="adb")
    return stream.getvalue().splitlines()


def test_journal_lines_have_a_priority_and_no_time() -> None:
    lines = written("journal")
    assert lines[0] == (r'<4>adb.down server=127.0.0.1:5037 reason="it said \"no\"\nand hung up"')
    assert lines[1] == "<3>source.failed source=adb"
    assert lines[-1] == "<3>ValueError: invalid literal for int() with base 10: 'boom'"
    assert all(line.startswith("<3>") for line in lines[1:]), "each line is an entry"


def test_json_lines_are_json() -> None:
    first, second = map(json.loads, written("json"))
    assert (first["event"], first["level"], first["server"]) == (
        "adb.down",
        "warning",
        "127.0.0.1:5037",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["timestamp"])
    assert "ValueError: invalid" in second["exception"]


def test_text_has_no_colours_where_there_is_no_terminal() -> None:
    lines = written("text")
    assert "adb.down" in lines[0]
    assert not any("\x1b" in line for line in lines)


def test_levels_are_kept() -> None:
    assert not any("adb.down" in line for line in written("text", "error"))


def test_auto_knows_journald_by_its_device_and_inode(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        stat = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        log.configure("info", "auto", stream, environ)
        structlog.get_logger().info("agent.ready")
    assert path.read_text() == "<6>agent.ready\n"

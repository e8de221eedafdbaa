"""Log lines into what is full, blocked, dead or closed: real descriptors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.log_sink import KEPT, Sink
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


def notice(count: int, why: str) -> str:
    return f"dropped {count}: {why}"


def counted(lines: list[str]) -> tuple[list[int], int]:
    """The numbers of the lines that came, and how many are said to be missing."""
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    missing = sum(int(line.split()[1].rstrip(":")) for line in lines if line.startswith("dropped "))
    return numbers, missing


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    with contextlib.suppress(OSError):
        os.close(reader)


def test_a_reader_that_died_costs_lines_and_raises_nothing() -> None:
    with pipe() as (reader, stream):
        sink = Sink(stream, notice)
        sink.write("line 0")
        assert os.read(reader, 100) == b"line 0\n"
        os.close(reader)
        for number in range(1, 11):
            sink.write(f"line {number}")
        assert sink.dropped == 10


def test_a_fifo_that_is_read_anew_is_told_how_many_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with path.open("w") as stream:
        sink = Sink(stream, notice)
        os.close(reader)
        for number in range(10):
            sink.write(f"line {number}")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        sink.write("line 10")
        assert os.read(reader, 1000) == b"dropped 10: Broken pipe\nline 10\n"
        os.close(reader)


def test_a_full_disk_costs_lines_and_raises_nothing() -> None:
    with open("/dev/full", "w", buffering=1) as stream:  # noqa: PTH123 - a device
        sink = Sink(stream, notice)
        for number in range(10):
            sink.write(f"line {number}")
        assert sink.dropped == 10


CHILD = """
import resource, sys
from agent.log_sink import Sink
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink = Sink(sys.stderr, lambda count, why: f"dropped {count}: {why}")
for number, _ in enumerate(sys.stdin):
    sink.write(f"line {number} " + "x" * 90)
    print(sink.dropped, flush=True)
"""


def test_when_there_is_room_again_it_says_what_is_missing(tmp_path: Path) -> None:
    """A file that may not grow is as one on a full disk: the last line is cut, then none comes."""
    path = tmp_path / "log"
    with (
        path.open("a") as log,
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None

        def say() -> int:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            return int(child.stdout.readline())

        while not (dropped := say()):
            pass
        assert [say() for _ in range(5)] == [dropped + n for n in range(1, 6)]
        full = path.read_text()
        assert len(full) == 1000
        os.truncate(path, 50)
        assert say() == dropped + 5
        child.stdin.close()
    numbers, missing = counted(path.read_text().splitlines()[1:])
    assert missing == dropped + 5
    assert len(numbers) == 1, "what came next, on a line of its own"


@pytest.mark.parametrize("kind", ["pipe", "socket", "nonblocking pipe"])
def test_a_reader_that_hangs_holds_up_nobody_and_gets_all_that_was_kept(kind: str) -> None:
    if kind == "socket":
        ours, theirs = socket.socketpair()
        reader, stream = ours.detach(), os.fdopen(theirs.detach(), "w")
    else:
        reader, writer = os.pipe()
        os.set_blocking(writer, "nonblocking" not in kind)
        stream = os.fdopen(writer, "w")
    with stream:
        sink = Sink(stream, notice)
        count = 0
        while sink.dropped < 10:  # would never end if it waited for the reader
            sink.write(f"line {count} " + "x" * (count * 7 % 9000))
            count += 1
        assert count * 9000 > KEPT
        del stream
        last, data = f"line {count} the last\n".encode(), b""
        while not data.endswith(last):
            data += os.read(reader, 65536)
            if b"dropped" not in data and len(data) > KEPT // 2 and count >= 0:
                sink.write(last.decode().rstrip("\n"))
                count = -1
        sink.flush(LIMIT)
    os.close(reader)
    numbers, missing = counted(data.decode().splitlines())
    assert numbers == sorted(numbers)
    assert missing == sink.dropped == numbers[-1] + 1 - len(numbers)


def test_what_a_slow_reader_has_not_read_yet_is_written_before_the_process_ends() -> None:
    script = (
        "import sys; from agent.log_sink import Sink; s = Sink(sys.stderr, print)\n"
        "for n in range(3000): s.write(f'line {n} ' + 'x' * 100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        lines = child.stderr.read().decode().splitlines()
    assert counted(lines) == ([*range(3000)], 0)


def test_a_stream_without_a_descriptor_is_written_as_it_is() -> None:
    stream = io.StringIO()
    sink = Sink(stream, notice)
    sink.write("line 0")
    assert stream.getvalue() == "line 0\n"
    stream.close()
    sink.write("line 1")
    assert sink.dropped == 1


def test_a_stream_that_was_closed_does_not_lead_into_another_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        sink = Sink(stream, notice)
    with (tmp_path / "other").open("w"):
        sink.write("line 0")
    assert (tmp_path / "log").read_text() == "line 0\n"
    assert (tmp_path / "other").read_text() == ""


def test_what_the_encoding_does_not_have_is_escaped() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="latin-1") as stream:
        Sink(stream, notice).write("é ✓")
    assert os.read(reader, 100) == b"\xe9 \\u2713\n"
    os.close(reader)


PROCESS = """
import logging, sys, warnings
import structlog
from agent import log
log.to_stderr("info", sys.argv[1])
logger = structlog.get_logger()
class Bad:
    def __str__(self):
        raise RuntimeError("no text")
for number in range(3):
    logger.info("a.line", number=number, bad=Bad(), odd={("x",): float("inf")})
    logging.getLogger("aiohttp.server").error("it said %s", "x\\ny")
    logging.getLogger("asyncio").error("%d", "no number")
    try:
        raise ValueError("a\\nb\\x1b")
    except ValueError:
        logger.exception("failed")
        logging.getLogger("asyncio").exception("failed too")
print(log.dropped())
"""


@pytest.mark.parametrize("style", ["text", "journal", "json"])
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exec true)", "2>&1"])
def test_every_style_of_logging_survives(style: str, stderr: str) -> None:
    command = f'"$0" -c "$1" {style}'
    # Where the reader leaves, it must have left before anything is written.
    command = f"exec {stderr}; wait $!; {command}" if "true" in stderr else f"{command} {stderr}"
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, PROCESS],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    *shown, dropped = done.stdout.splitlines()
    if stderr == "2>&1":
        assert dropped == "0"
        assert len([line for line in shown if "a.line" in line]) == 3
        if style == "json":
            assert all(json.loads(line) for line in shown)
        assert not any(re.match(r"(<3>)?b", line) for line in shown)
    elif stderr != "2>&-":
        assert dropped == "15"

"""`check` and `schema` as an operator types them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import command
from agent.config import json_schema
from agent.text import is_printable
from tests.kit.warm import DEVICE_AGENT

ROOT = Path(__file__).parent.parent.parent


def test_a_good_file_says_so() -> None:
    done = CliRunner().invoke(command, ["check", str(ROOT / "config" / "agent.toml")])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("agent.toml: good: 0 webhooks, 0 devices\n")


def test_every_mistake_has_its_place_and_the_exit_code_is_2(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[hold]\noflline = "5s"\noffline = 5\n')
    done = CliRunner().invoke(command, ["check", "--config", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.rpartition(f"{path}:")[2][:4] for line in lines] == ["2:1:", "3:1:"]
    assert "did you mean 'offline'?" in lines[0]


def test_problems_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[nonsense]\n")
    done = CliRunner().invoke(command, ["check", "--json", str(path)])
    assert done.exit_code == 2
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert answer["problems"][0] | {"message": ""} == {
        "severity": "error",
        "file": str(path),
        "line": 1,
        "column": 2,
        "message": "",
    }


def test_warnings_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[[webhooks]]\nname = "a"\nurl = "http://receiver.example/"\nevents = ["online"]\n'
    )
    done = CliRunner().invoke(command, ["check", str(path)])
    assert done.exit_code == 0
    assert "(warning)" in done.stderr
    assert "good: 1 webhooks" in done.stdout
    done = CliRunner().invoke(command, ["check", "--json", str(path)])
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["problems"]) == (True, [])
    (warning,) = answer["warnings"]
    assert (warning["severity"], warning["line"], warning["column"]) == ("warning", 3, 1)


def on_a_terminal(path: Path, columns: int, **environ: str) -> list[str]:
    """The lines that `check` shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [DEVICE_AGENT, "check", path],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environ},
    ):
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # EIO: the other side is closed
                break
            shown += chunk
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize(
    ("columns", "text", "line", "caret"),
    [
        (80, "[hold]\n\toffline = 5\n", "     offline = 5", "     ^"),
        (80, "\ufeffhold = 5\n", "    hold = 5", "    ^"),
        # Each of the three characters takes two columns, the accent takes none.
        (
            80,
            'devices = [{ name = "日本語e\u0301", tags = 5, udid = "a" }]\n',
            '    devices = [{ name = "日本語e\u0301", tags = 5, udid = "a" }]',
            "                                   ^",
        ),
        # Wider than the terminal: what is around the place is shown.
        (
            40,
            f'devices = [{{ name = "{"x" * 60}", tags = 5, udid = "{"y" * 60}" }}]\n',
            '    …xxxxxxxxxxxxxxxxxxxx", tags = 5, u…',
            "                            ^",
        ),
    ],
)
def test_the_caret_stands_below_the_place_on_a_terminal(
    tmp_path: Path, columns: int, text: str, line: str, caret: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    place, shown, mark, *rest = on_a_terminal(path, columns, NO_COLOR="1")
    assert re.match(rf"{path}:\d+:\d+: ", place)
    assert (shown, mark, rest[:1]) == (line, caret, [])


def test_colours_and_warnings_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[[webhooks]]\nname = "a"\nurl = "http://receiver.example/"\nevents = ["online"]\n'
    )
    lines = on_a_terminal(path, 80)
    assert lines[0].endswith("(warning)")
    assert lines[1].startswith("    url = •")
    assert lines[2] == "    \x1b[33m\x1b[1m^\x1b[0m"


def test_the_schema_is_the_one_of_the_definitions() -> None:
    done = CliRunner().invoke(command, ["schema"])
    assert json.loads(done.stdout) == json_schema()


def test_every_command_explains_itself() -> None:
    commands = CliRunner().invoke(command, ["--help"]).stdout.partition("Commands:")[2]
    names = [
        line.split()[0]
        for line in commands.splitlines()
        if line.startswith("  ") and line[2] != " "
    ]
    assert names
    for name in names:
        done = CliRunner().invoke(command, [name, "--help"])
        assert done.exit_code == 0, name
        assert "Usage:" in done.stdout


def test_a_problem_is_one_printable_line_whatever_the_file_names(tmp_path: Path) -> None:
    odd = "\nFORGED:1:1: good\r\x1b[2J\x85FORGED\u2028FORGED\u202e"
    named = tmp_path / f"a{odd}.toml"
    named.write_text("hold = 5\n")
    path = tmp_path / "a.toml"
    path.write_text(f"[agent]\nstate_dir = 5\n[ios]\nenabled = {json.dumps(odd)}\n")
    webhook = '[[webhooks]]\nname = "a"\nurl = "http://127.0.0.1/"\nevents = ["online"]\n'
    warned = tmp_path / "b.toml"
    warned.write_text(f"{webhook}tls = {{ ca = {json.dumps('/absent' + odd)} }}\n")
    for file in (named, path, warned, tmp_path / f"absent{odd}"):
        done = CliRunner().invoke(command, ["check", str(file)])
        shown = [*done.output.split("\n"), *on_a_terminal(file, 80, NO_COLOR="1")]
        assert shown
        assert [line for line in shown if not all(map(is_printable, line))] == []
        assert not any(line.startswith("FORGED") for line in done.output.splitlines())

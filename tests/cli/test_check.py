"""`check` and `schema` as an operator types them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from agent.cli import command
from agent.config import json_schema

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

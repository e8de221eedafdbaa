"""One file per mistake, with what is said of it beside it; and no secret in any of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import (
    Api,
    Config,
    Delivery,
    DeviceEntry,
    Tls,
    Webhook,
    check,
    format_problems,
    load,
    parse,
)
from agent.errors import ConfigError, Problem
from tests.kit.examples import examples

HERE = Path(__file__).parent.parent / "testdata" / "config"
FILES = sorted(HERE.glob("*.toml"))


def read(file: Path) -> str:
    return file.read_bytes().decode()


def problems_of(text: str, name: str = "agent.toml") -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, name)
    assert not caught.value.__cause__
    return caught.value.problems


def problems_or_none(text: str) -> tuple[Problem, ...]:
    try:
        parse(text, "agent.toml")
    except ConfigError as error:
        return error.problems
    return ()


def test_the_walk_finds_its_files() -> None:
    assert len(FILES) > 70
    assert {file.stem for file in FILES} == {file.stem for file in HERE.glob("*.txt")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_mistakes(file: Path) -> None:
    problems = problems_of(read(file), file.name)
    assert "".join(f"{problem}\n" for problem in problems) == file.with_suffix(".txt").read_text()
    assert list(problems) == sorted(problems, key=lambda each: (each.line, each.column))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_secret_is_shown_with_the_line_or_without(file: Path) -> None:
    problems = problems_of(read(file), file.name)
    for shown in (format_problems(problems), format_problems(problems, lambda _: read(file))):
        assert "hunter" not in shown


SECRET = "Zq9xSecretZq9x"
MARK = "Zq9x"
PLACES = [
    "secret = {}",
    "secret = [{}, 5]",
    "secrte = {}",
    "secret = {{ file = 5, value = {} }}",
    'auth = {{ type = "basic", username = "a", password = {} }}',
    "auth = {{ type = {}, token = {} }}",
    'auth = {{ type = "bearer", tokn = {} }}',
    "auth = {}",
    "headers = {{ X-A = {}, host = {} }}",
    "headers = {{ {} = 1 }}",
    "headers = {}",
    "url = {}",
    "url = [{}]",
    "id = 1\nurl = {}",
    "tls = {{ ca = 5, kee = {} }}",
]
SPELLINGS = [
    f'"{SECRET}"', f"'{SECRET}'", f'"""\n{SECRET}"""', f"'''\n  {SECRET}\n'''", f'"{SECRET}',
    f'"https://a:{SECRET}@h:x/{SECRET}"', f'"http://{SECRET}@/?{SECRET}"', f'"ftp://h/?{SECRET}"',
    f'"http://a:{SECRET}@h/ ?{SECRET}#{SECRET}"', f'"{SECRET}\\q"', SECRET, f'"{SECRET}\\u0000"',
    f'["{SECRET}", 5]', f'{{ fil = "{SECRET}" }}', f'{{ file = "x", {SECRET} = "y" }}',
    f'"whsec_{SECRET}!"', f'[\n  "{SECRET}\\n",\n  5,\n]', f'"X-A: {SECRET}"',
]  # fmt: skip


@settings(max_examples=examples(600), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(SPELLINGS)), min_size=1, max_size=3
    ),
    st.sampled_from(["", "foo = 1\n", "events = 5\n", 'events = ["on"]\n']),
)
def test_no_secret_is_shown_wherever_it_stands(lines: list[tuple[str, str]], other: str) -> None:
    text = f"[[webhooks]]\n{other}" + "\n".join(
        line.replace("{}", spelling.replace("{", "{{").replace("}", "}}")).format()
        for line, spelling in lines
    )
    problems = problems_of(text)
    assert problems
    shown = format_problems(problems, lambda _: text)
    # A name is no secret, and the message must say it; a header that was pasted whole is none.
    shown = re.sub(rf"unknown key '{SECRET}'|headers\.\S+:|\n    {SECRET} +=", "", shown)
    assert MARK not in shown, shown


@settings(max_examples=examples(300), deadline=None)
@given(st.text(st.sampled_from("abc[]{}=.,\"'\\#\n\r\t 01é\0\x1b"), max_size=40))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    problems = problems_or_none(text)
    lines = text.split("\n")
    assert all(1 <= each.line <= len(lines) for each in problems)
    assert all(1 <= each.column <= len(lines[each.line - 1]) + 2 for each in problems)
    shown = format_problems(problems, lambda _: text)
    assert all(character.isprintable() or character == "\n" for character in shown)


SCHEMA_KEYS = sorted(
    {
        *Config.model_fields,
        *DeviceEntry.model_fields,
        *Webhook.model_fields,
        *Tls.model_fields,
        *Api.model_fields,
        *Delivery.model_fields,
        *("type", "token", "file"),
    }
)
wild_value = st.recursive(
    st.sampled_from(["1", "-1", "0.5", "nan", "true", '""', '"online"', '"5s"', "1979-05-27"]),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda parts: "[" + ", ".join(parts) + "]")
        | st.dictionaries(st.sampled_from(SCHEMA_KEYS), inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {part}" for key, part in table.items()) + "}"
        )
    ),
    max_leaves=8,
)


@settings(max_examples=examples(400), deadline=None)
@given(st.dictionaries(st.sampled_from(SCHEMA_KEYS), wild_value, max_size=4))
def test_any_value_anywhere_is_a_config_or_a_config_error(document: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in document.items())
    assert tomli.loads(text) is not None
    for problem in problems_or_none(text):
        assert problem.message


def test_text_nested_too_deeply_and_numbers_too_long() -> None:
    for value in ("[" * 9000 + "]" * 9000, "1" * 5000):
        (problem,) = problems_of(f"x = {value}")
        assert "nested too deeply, or a number has too many digits" in problem.message


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (str, "no such file: create it"),
        (lambda path: path.mkdir(), "is a directory: give the path of the file in it"),
        (lambda path: path.write_bytes(b"[agent]\n# \xfc\n"), "not UTF-8 .* line 2.*save it as"),
        (lambda path: path.write_bytes("[agent]".encode("utf-16")), "is not UTF-8"),
        (lambda path: path.symlink_to(path.name), r"cannot be read \(.*\): make it readable"),
        (lambda path: path.joinpath("x").parent.write_text("x = "), "not valid TOML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, make: object, says: str) -> None:
    path = tmp_path / "agent.toml"
    assert callable(make)
    make(path)
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(path), 1)
    assert re.search(says, problem.message)
    assert check(path) == (None, caught.value.problems, ())


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes("[agent]\norg_id = 7\n".encode("utf-8-sig"))
    assert load(path).agent.org_id == 7


def test_lines_are_shown_with_a_caret() -> None:
    text = '[hold]\n\toffline = 5\n\n[[webhooks]]\nname = "B\\u001b[31m"\nurll = "hunter2"\n'
    problems = problems_of(text)
    assert format_problems(problems[:1]) == str(problems[0])
    shown = format_problems(problems, lambda _: text)
    assert f"{problems[0]}\n     offline = 5\n     ^\n" in shown
    assert "\n    [[webhooks]]\n      ^\n" in shown
    assert "\n    urll = •••••••••\n    ^" in shown
    assert "webhook 'B?[31m' url: this key is missing" in shown


@pytest.mark.parametrize("token", ['"hunter2"', '{ file = "/etc/hunter2" }'])
def test_the_token_of_the_api_is_covered_in_a_good_line_too(token: str) -> None:
    text = f"[api]\ntoken = {token}\n"
    problem = Problem("agent.toml", 2, 1, "a warning")
    shown = format_problems([problem], lambda _: text)
    assert "\n    token = •" in shown
    assert "hunter" not in shown


def test_a_file_that_is_gone_is_shown_without_lines() -> None:
    def gone(file: str) -> str:
        raise FileNotFoundError(file)

    problem = Problem("x", 1, 1, "no such file")
    assert format_problems([problem], gone) == "x:1:1: no such file"

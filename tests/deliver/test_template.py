"""Bodies of operators' own, against a model that replaces text by text and knows no JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.config.body import MAX_DEPTH, PLACEHOLDERS, Body, mistakes
from agent.config.secret import Kind, Secret
from agent.deliver.template import MARK, fill, shown, unsealed
from agent.errors import SecretError
from agent.text import printable

NAMES = st.text(st.characters(exclude_categories=["Cs"]))
"""What a phone may call itself."""
VALUES = st.fixed_dictionaries(
    {
        **dict.fromkeys(PLACEHOLDERS, NAMES),
        "orgId": st.integers(1, 2**53 - 1),
        "webhookId": st.integers(1, 2**53 - 1),
        "previousState": st.none() | NAMES,
        "tags": st.lists(NAMES).map(tuple),
    }
)
_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"))
_HOLES = st.sampled_from(PLACEHOLDERS).flatmap(
    lambda name: st.sampled_from([f"{{{name}}}", f"{{{name}:7}}", "{{", "}}"])
)
TEXTS = st.lists(_WORDS | _HOLES, max_size=5).map("".join)
LEAVES = st.one_of(
    TEXTS,
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_WORDS, inner), max_leaves=12
)
ANYTHING = st.recursive(
    st.none() | st.floats() | st.text() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def expected(body: Any, values: dict[str, Any]) -> Any:
    """The value that is meant."""
    if isinstance(body, dict):
        return {key: expected(inner, values) for key, inner in body.items()}
    if isinstance(body, list):
        return [expected(inner, values) for inner in body]
    if not isinstance(body, str):
        return body
    if (alone := re.fullmatch(r"\{(\w+)\}", body)) is not None:
        value = values[alone[1]]
        return list(value) if isinstance(value, tuple) else value

    def one(match: re.Match[str]) -> str:
        if match[0] in {"{{", "}}"}:
            return match[0][0]
        name, _, most = match[0][1:-1].partition(":")
        value = values[name]
        text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        return printable(text, int(most)) if most else text

    return re.sub(r"\{\{|\}\}|\{[^{}]*\}", one, body)


@given(BODIES, VALUES)
def test_a_body_is_filled_as_it_is_meant(body: Any, values: dict[str, Any]) -> None:
    made = Body.parse(body)
    assert made.value == body
    text = fill(made, values)
    filled = json.loads(text)
    assert filled == expected(body, values)
    assert json.dumps(filled) == json.dumps(expected(body, values))  # types and order, too
    assert fill(Body.parse(body), values) == text
    assert MARK not in text.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), NAMES, NAMES)
def test_a_secret_is_put_in_when_it_is_sent(secret: str, name: str, other: str) -> None:
    where = "/etc/a b'ü\\\".key"
    body = Body.parse(
        {
            "key": f"{{file:{where}}}",
            "more": f"x {{env:KEY}} {{file:{where}}}",
            "of": "{deviceName} {host}",
        }
    )
    assert body.held == (Secret(Kind.FILE, where), Secret(Kind.ENV, "KEY"))
    stored = fill(body, {"deviceName": name, "host": other}).encode()
    values = {Secret(Kind.FILE, where): secret, Secret(Kind.ENV, "KEY"): '"}'}
    sent = json.loads(unsealed(stored, values, body.held))
    assert sent == {"key": secret, "more": f'x "}} {secret}', "of": f"{name} {other}"}
    for_people = json.loads(shown(stored))
    assert for_people["key"] == f"{{file:{where}}}"
    assert for_people["of"] == sent["of"]


def _env(*names: str) -> dict[Secret, str]:
    return {Secret(Kind.ENV, name): f"value of {name}" for name in names}


@pytest.mark.parametrize(
    ("held", "others"),
    [
        ([], ["NEW"]),  # of a header, say
        ([], ["OLD"]),
        (["NEW", "NEWER"], []),
        (["KEPT"], []),
    ],
)
def test_a_secret_that_the_body_names_no_more_is_no_guess(
    held: list[str], others: list[str]
) -> None:
    stored = fill(Body.parse(["{env:OLD}", "{env:KEPT}"]), {}).encode()
    with pytest.raises(SecretError, match=r"made with the environment variable (OLD|KEPT), which"):
        unsealed(stored, _env(*held, *others), _env(*held))


@pytest.mark.parametrize("held", [["NEW", "KEPT"], ["KEPT", "NEW"]])
def test_a_place_that_was_corrected_counts_for_what_waits_too(held: list[str]) -> None:
    stored = fill(Body.parse(["{env:OLD}", "{env:KEPT}", "{env:OLD}"]), {}).encode()
    sent = json.loads(unsealed(stored, _env(*held, "OF_A_HEADER"), _env(*held)))
    assert sent == ["value of NEW", "value of KEPT", "value of NEW"]


@given(ANYTHING)
def test_what_has_no_mistake_is_taken_and_nothing_else(value: Any) -> None:
    found = list(mistakes(value))
    if not found:
        json.loads(fill(Body.parse(value), dict.fromkeys(PLACEHOLDERS, "x")))
        return
    with pytest.raises(ValidationError) as caught:
        Body.parse(value)
    assert [each["loc"] for each in caught.value.errors()] == [path for path, _ in found]


def test_nesting_without_end_is_a_mistake_and_no_crash() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert [len(path) for path, _ in mistakes(deep)] == [MAX_DEPTH]

"""The search of the other tests finds what it must: each of them could fail."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "cut": lambda value: value[: len(value) // 2],
    "rest": lambda value: value[len(value) // 2 :],
    "lower": str.lower,
    "json": json.dumps,
    "json twice": lambda value: json.dumps(json.dumps(value)),
    "url": lambda value: quote(value, safe=""),
    "form": quote_plus,
    "html": html.escape,
    "repr": repr,
    "bytes": lambda value: repr(value.encode()),
    "hex": lambda value: value.encode().hex(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "basic auth": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "base64 at another place": lambda value: base64.b64encode(f"ab{value}".encode()).decode(),
    "url-safe base64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("middle", ["", '+/="\\ <ü>&'])
def test_a_leak_is_found_in_every_form(form: str, middle: str) -> None:
    vault = Vault()
    value, other = vault.make("leaked", middle), vault.make("kept")
    leak = FORMS[form](value)
    for text in (leak, f"before {leak} behind", f"x{leak}y".encode()):
        assert vault.found_in(text) == {"leaked"}
    assert vault.found_in(f"{FORMS[form](other)} {leak}") == {"leaked", "kept"}


def test_what_is_no_leak_is_not_found() -> None:
    vault = Vault()
    vault.make("one", "+/")
    vault.whsec("two")
    assert not vault.found_in(b"")
    assert not vault.found_in("whsec_ *** Basic Bearer" * 1000)
    assert not vault.found_in(Vault().make("of another"))


def test_a_key_is_found_by_any_of_its_lines() -> None:
    vault = Vault()
    body = [vault.make(f"line {n}", "x" * 30) for n in range(2)]
    other = Vault()
    other.keep("key", "\n".join(["-----BEGIN X-----", *body, "-----END X-----"]))
    assert not other.found_in("-----BEGIN X-----")
    for line in body:
        assert other.found_in(f"a {line} b") == {"key"}

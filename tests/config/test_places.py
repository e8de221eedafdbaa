"""Every key path that tomli yields has a place, and the place holds that key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.places import nearest, scan
from tests.kit.examples import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.places import KeyPath


def paths(node: object, at: KeyPath = ()) -> Iterator[KeyPath]:
    if at:
        yield at
    if isinstance(node, dict):
        for key, value in node.items():
            yield from paths(value, (*at, key))
    if isinstance(node, list):
        for index, value in enumerate(node):
            yield from paths(value, (*at, index))


def value_at(document: Any, path: KeyPath) -> object:
    for part in path:
        document = document[part]
    return document


def holds(text: str, path: KeyPath, value: object) -> bool:
    """Whether what begins there reads as the key; of an array's element, as its value."""
    line, column = scan(text)[path]
    rest = "\n".join(text.replace("\r\n", "\n").split("\n")[line - 1 :])[column - 1 :]
    for end in range(len(rest) + 1):
        try:
            if isinstance(path[-1], str):
                if tomli.loads(f"{rest[:end]} = 1") == {path[-1]: 1} and rest[end:][:1] not in set(
                    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
                ):
                    return True
            elif repr(tomli.loads(f"x = {rest[:end]}")["x"]) == repr(value):  # nan too
                return True
        except ValueError:
            continue
    return False


def check(text: str) -> None:
    document = tomli.loads(text)
    places = scan(text)
    assert set(places) == set(paths(document))
    lines = text.split("\n")
    for path, (line, _) in places.items():
        in_header = isinstance(path[-1], int) and lines[line - 1].lstrip().startswith("[[")
        if in_header and holds_name(text, places[path], str(path[-2])):
            continue  # a table's place is its name
        assert holds(text, path, value_at(document, path)), (path, places[path], text)


def holds_name(text: str, place: tuple[int, int], name: str) -> bool:
    rest = text.replace("\r\n", "\n").split("\n")[place[0] - 1][place[1] - 1 :]
    return any(tomli_or_none(f"{rest[:end]} = 1") == {name: 1} for end in range(1, len(rest) + 1))


def tomli_or_none(text: str) -> object:
    try:
        return tomli.loads(text)
    except ValueError:
        return None


# --- random documents, in all of TOML's spellings ---------------------------------------------

blank = st.sampled_from(["", " ", "\t", "  "])
newline = st.sampled_from(["\n", "\r\n"])
comment = st.sampled_from(["", "# plain", "# [not.a.table]", '# key = "x"', "# ünïcode ] } ,"])
letters = st.text("abXY_-09", min_size=1, max_size=4)
wild = st.text(st.sampled_from("a.b \"'\\#=[]{}é漢😀,\t"), max_size=4)
gap = st.lists(st.builds("{}{}{}".format, blank, comment, newline), max_size=2).map("".join)


def basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


def spelt(key: str) -> st.SearchStrategy[str]:
    ways = [st.just(basic(key))]
    if "'" not in key:
        ways.append(st.just(f"'{key}'"))
    if key and all(each.isascii() and (each.isalnum() or each in "_-") for each in key):
        ways.append(st.just(key))
    return st.one_of(ways)


key_text = st.one_of(letters, wild)
scalar = st.one_of(
    st.sampled_from(
        [
            "1", "0x0f", "1_000", "3.5e-7", "inf", "-nan", "true", "false",
            "1979-05-27", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5+01:00", "07:32:00",
            '""', "''", '""""""', "''''''", '"""a"""""', "'''a'''''", '"""\\\n   x = 1\n"""',
            "'''\n[a]\nb = ']'\n'''", '"""a \\""" b"""', '"# ] } ,"', "'\\'",
        ]
    ),
    wild.map(basic),
    st.builds('"""{}"""'.format, wild.map(lambda text: basic(text)[1:-1])),
)  # fmt: skip


@st.composite
def inline_table(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(key_text, max_size=3, unique=True))
    pairs = []
    for key in keys:
        dotted = draw(st.lists(key_text, max_size=2))
        parts = [draw(spelt(part)) for part in (key, *dotted)]
        dot = draw(blank) + "." + draw(blank)
        pairs.append(f"{dot.join(parts)}{draw(blank)}={draw(blank)}{draw(values)}")
    # Line breaks and a last comma are TOML 1.1.
    inner = ",".join(draw(gap) + draw(blank) + pair + draw(gap) for pair in pairs)
    comma = draw(st.sampled_from(["", ","])) if pairs else ""
    return "{" + inner + comma + draw(gap) + draw(blank) + "}"


@st.composite
def array(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    elements = draw(st.lists(values, max_size=3))
    inner = ",".join(draw(gap) + draw(blank) + each + draw(gap) for each in elements)
    comma = draw(st.sampled_from(["", ","])) if elements else ""
    return "[" + inner + comma + draw(gap) + draw(blank) + "]"


value = st.recursive(
    scalar, lambda inner: st.one_of(inline_table(inner), array(inner)), max_leaves=6
)


@st.composite
def document(draw: st.DrawFn) -> str:
    """Statements that may contradict each other; those that tomli refuses are left out."""
    text = draw(gap)
    for _ in range(draw(st.integers(0, 7))):
        parts = [draw(spelt(part)) for part in draw(st.lists(key_text, min_size=1, max_size=3))]
        key = (draw(blank) + "." + draw(blank)).join(parts)
        kind = draw(st.sampled_from(["pair", "pair", "table", "array", "again"]))
        if kind == "pair":
            statement = f"{key}{draw(blank)}={draw(blank)}{draw(value)}"
        elif kind == "table":
            statement = f"[{draw(blank)}{key}{draw(blank)}]"
        elif kind == "array":
            statement = f"[[{draw(blank)}{key}{draw(blank)}]]"
        else:
            headers = [line.split("#")[0] for line in text.splitlines() if line[:2] == "[["]
            statement = draw(st.sampled_from(headers)) if headers else "[[a]]"
        end = draw(blank) + draw(comment) + draw(newline) + draw(gap)
        if tomli_or_none(text + draw(blank) + statement + end) is not None:
            text += statement + end
    return text


@settings(max_examples=examples(400), deadline=None)
@given(document())
def test_every_path_has_its_place_in_any_document(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ('[[webhooks]]\nname = "a"\n[[webhooks]]\n  name = "b"\n', ("webhooks", 1, "name"), (4, 3)),
        ("[[webhooks]]\n[webhooks.tls]\nca = 1\n", ("webhooks", 0, "tls", "ca"), (3, 1)),
        ("[[a]]\n[[a.b]]\n[[a.b]]\n[[a]]\n[[a.b]]\nc = 1", ("a", 1, "b", 0, "c"), (6, 1)),
        ("[a.b]\nc = 1\n[a]\nd = 1\n", ("a",), (3, 2)),
        ("a . \"b\".'c' = 1", ("a", "b", "c"), (1, 9)),
        ("x = [\n  1, # one\n  [2, {y = 3}],\n]", ("x", 1, 1, "y"), (3, 8)),
        ('x = """\n[y]\nz = 1\n"""\ny = 1', ("y",), (5, 1)),
        ("a = 1\r\n\r\nb = 2\r\n", ("b",), (3, 1)),
        ('"ключ" = { "😀" = 1, b = 2 }', ("ключ", "b"), (1, 21)),
        ('"\\u0061" = 1', ("a",), (1, 1)),
        ('s = """a"""""\nb = 1', ("b",), (2, 1)),
    ],
)
def test_place(text: str, path: KeyPath, place: tuple[int, int]) -> None:
    tomli.loads(text)
    assert scan(text)[path] == place


def test_a_missing_key_is_missing_from_its_table() -> None:
    places = scan("x = 1\n\n[[webhooks]]\nname = 1\n")
    assert nearest(places, ("webhooks", 0, "url")) == (3, 3)
    assert nearest(places, ("webhooks", 0, "name")) == (4, 1)
    assert nearest(places, ("nowhere", "at", "all")) == (1, 1)


def test_deep_nesting_needs_no_stack() -> None:
    text = "x = " + "[" * 1000 + "]" * 1000
    assert len(scan(text)) == 1000


def test_many_tables_take_linear_time() -> None:
    text = "".join(f'[[webhooks]]\nname = "{n}"\nevents = ["online"]\n' for n in range(20_000))
    places = scan(text)
    assert places["webhooks", 19_999, "events", 0] == (60_000, 11)

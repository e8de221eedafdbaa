"""A webhook made, changed or deleted in the file's text: nothing else of it changes."""

from __future__ import annotations

import difflib
import json

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from agent.config.document import Document
from agent.config.edit import Change, webhook_of
from agent.errors import ChangeRefusedError, ConfigError, EditError, UnknownWebhookError

FILE = """\
# the lab
[agent]
org_id = 2   # ours

# first
[[webhooks]]
name = "a"   # the name
url = "http://a.example/"
events = [
  "online", # yes
  "offline",
]

  [webhooks.tls]
  verify = false

# second
[[webhooks]]
id = 9
name = 'b'
url = "http://b.example/"
events = ["online"]
headers = { X = "1" }
enabled = false # until the board is back

# phones
[[devices]]
udid = "x"
"""


def edited(change: Change, text: str) -> str:
    """The text with the change made."""
    document = Document(text, "f")
    return change.apply(document, document.table("agent").get("org_id", 1)).text


def changed(change: Change, text: str = FILE) -> list[str]:
    """The lines that went and came."""
    new = edited(change, text)
    lines = difflib.ndiff(text.splitlines(), new.splitlines())
    return [line for line in lines if line[0] in "+-" and line[2:].strip()]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (Change("a", None, {"url": "http://c/"}), [
            '- url = "http://a.example/"', '+ url = "http://c/"',
        ]),
        (Change("a", None, {"name": "A"}), [
            '- name = "a"   # the name', '+ name = "A"   # the name',
        ]),
        (Change("a", None, {"events": ["online", "offline"]}), []),
        (Change("a", None, {"enabled": False, "description": "d"}), [
            "+ enabled = false", '+ description = "d"',
        ]),
        (Change("b", None, {"enabled": True}), [
            "- enabled = false # until the board is back",
            "+ enabled = true # until the board is back",
        ]),
        (Change("9", None, {"headers": None}), ['- headers = { X = "1" }']),
        (Change("b", 2, {"headers": None}), ['- headers = { X = "1" }']),
        (Change("a", None, {"tls": {"verify": True}}), [
            "+ tls = {verify = true}", "-   [webhooks.tls]", "-   verify = false",
        ]),
        (Change("b"), [f"- {line}" for line in FILE.splitlines()[16:24]]),
        (Change("a"), [f"- {line}" for line in FILE.splitlines()[4:16] if line]),
        (Change(fields={
            "name": "n", "url": "http://n/", "events": ["online"], "secret": {"file": "s"},
        }), [
            "+ [[webhooks]]", '+ name = "n"', '+ url = "http://n/"', '+ events = ["online"]',
            '+ secret = {file = "s"}',
        ]),
    ],
)  # fmt: skip
def test_only_what_was_asked_changes(change: Change, lines: list[str]) -> None:
    assert changed(change) == lines
    windows = FILE.replace("\n", "\r\n")
    assert changed(change, windows) == lines
    assert "\n" not in edited(change, windows).replace("\r\n", "")


def test_all_of_them_can_go_and_come_again() -> None:
    text = FILE
    for name in ("b", "a"):
        text = edited(Change(name), text)
    assert "webhooks" not in tomli.loads(text)
    assert "# the lab" in text
    assert "# phones" in text
    assert edited(Change(fields={"name": "n"}), "") == '[[webhooks]]\nname = "n"\n'
    assert edited(Change(fields={"name": "n"}), "[agent]") == (
        '[agent]\n\n[[webhooks]]\nname = "n"\n'
    )


INLINE = """\
webhooks = [
  {name = "a", url = "u", events = ["online"]}, # first
  {name = "b", url = "u", events = ["online"]},
]
[agent]
"""


def test_an_inline_array_stays_one() -> None:
    assert changed(Change("a", None, {"enabled": False}), INLINE) == [
        '-   {name = "a", url = "u", events = ["online"]}, # first',
        '+   {name = "a", url = "u", events = ["online"], enabled = false}, # first',
    ]
    assert changed(Change("b"), INLINE) == ['-   {name = "b", url = "u", events = ["online"]},']
    new = {"name": "c", "url": "u", "events": ["online"]}
    assert changed(Change(fields=new), INLINE) == [
        '+   {name = "c", url = "u", events = ["online"]},'
    ]
    assert tomli.loads(edited(Change(fields=new), "webhooks = []\n"))["webhooks"] == [new]


def test_a_name_that_looks_like_an_id_is_a_name_first() -> None:
    text = '[[webhooks]]\nid = 2\nname = "1"\n[[webhooks]]\nid = 1\nname = "x"\n'
    assert webhook_of(Document(text, "f"), "1", 1)["id"] == 2
    assert webhook_of(Document(text, "f"), "2", 1)["id"] == 2


def test_of_two_with_one_name_the_organisation_says_which() -> None:
    text = '[agent]\norg_id = 5\n[[webhooks]]\nname = "x"\n[[webhooks]]\nname = "x"\norg_id = 7\n'
    with pytest.raises(UnknownWebhookError, match=r"organisation 5: .* organisation 7: "):
        webhook_of(Document(text, "f"), "x", 5)
    assert "org_id" not in webhook_of(Document(text, "f"), "x", 5, 5)
    assert webhook_of(Document(text, "f"), "x", 5, 7)["org_id"] == 7
    assert changed(Change("x", 7), text) == [
        "- [[webhooks]]", '- name = "x"', "- org_id = 7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text", "error", "words"),
    [
        (Change("aa"), FILE, UnknownWebhookError, "did you mean 'a'"),
        (Change("x"), "", UnknownWebhookError, "it has none"),
        (Change("a"), "[[webhooks]\n", ConfigError, "f:1:"),
        (Change("a"), "webhooks = 1\n", EditError, r"must be \[\[webhooks\]\]"),
        (Change("a", None, {"headers": {"X": None}}), FILE, EditError, "no null"),
        (
            Change("a", None, {"headers": {"X": [[[[[[[[[[]]]]]]]]]]}}),
            FILE,
            EditError,
            "too deeply",
        ),
        (Change("a", None, {"description": "\ud800"}), FILE, EditError, "Unicode"),
        # Its table stands behind another one: by its lines alone it cannot be taken out.
        (
            Change("a"),
            '[[webhooks]]\nname = "a"\n[hold]\n[webhooks.tls]\nverify = true\n',
            EditError,
            "edit it by hand",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    change: Change, text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        edited(change, text)


_PARTS = {
    "other": ["[hold]", "[usb]", "[agent]", '[[devices]]\nudid = "{n}"', "[usage] # u"],
    "line": ["enabled = true", "  # remark", "", "tls.verify = true", 'tags = [ "x", # y\n "z" ]'],
}
_SECTION = st.sampled_from(_PARTS["other"])
_BODY = st.lists(st.sampled_from(_PARTS["line"]), max_size=5, unique=True)
_VALUES = st.text(max_size=20) | st.booleans() | st.lists(st.text(max_size=5), max_size=3)
_FIELDS = st.dictionaries(
    st.sampled_from(["url", "description", "tags", "enabled", "own", "tls"]),
    st.none() | _VALUES,
    max_size=4,
)


@given(
    parts=st.lists(_SECTION | _BODY, max_size=6),
    pick=st.integers(0, 5),
    fields=st.none() | _FIELDS,
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_byte_of_the_others_stays(
    parts: list[str | list[str]], pick: int, fields: dict[str, object] | None, end: str
) -> None:
    """Whatever else stands in the file, in whatever order."""
    pieces: list[str] = []
    seen: set[str] = set()
    hooks: list[int] = []
    for number, part in enumerate(parts):
        if isinstance(part, list):
            hooks.append(len(pieces))
            pieces.append("\n".join(["", "[[webhooks]]", f'name = "{number}"', *part, ""]))
        elif part not in seen or "{n}" in part:
            seen.add(part)
            pieces.append(f"# of {number}\n" + part.format(n=number) + "\n")
    if not hooks:
        return
    index = hooks[pick % len(hooks)]
    text = "".join(pieces).replace("\n", end)
    before, after = (
        "".join(some).replace("\n", end) for some in (pieces[:index], pieces[index + 1 :])
    )
    webhooks = tomli.loads(text)["webhooks"]
    name = webhooks[pick % len(hooks)]["name"]
    new = edited(Change(name, None, fields), text)
    assert new.startswith(before.rstrip()), (text, new)
    assert new.rstrip().endswith(after.rstrip()), (text, new)
    found = tomli.loads(new).get("webhooks", [])
    assert [each for each in found if each["name"] != name] == [
        each for each in webhooks if each["name"] != name
    ]
    if fields is not None:
        (mine,) = [each for each in found if each["name"] == name]
        for key, value in fields.items():
            assert mine.get(key) == value


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
_BODIES = st.recursive(
    _TEXT | st.integers(-(2**53), 2**53) | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(_BODIES, min_size=1, max_size=3))
def test_a_body_is_written_as_it_is_and_replaced_whole(bodies: list[object]) -> None:
    """Types, and the order of its keys; nothing else of the file changes."""
    bodies = [each for each in bodies if "Infinity" not in json.dumps(each)]
    text = FILE
    for name in ("a", "b", "new"):
        for number, body in enumerate(bodies):
            fields = {"payload": "custom", "body": body}
            if name == "new" and number == 0:
                fields |= {"name": name, "url": "http://h/", "events": ["online"]}
                text = edited(Change(fields=fields), text)
            else:
                text = edited(Change(name, None, fields), text)
            found = {each["name"]: each for each in tomli.loads(text)["webhooks"]}
            assert json.dumps(found[name]["body"]) == json.dumps(body)
            text = edited(Change(name, None, {"enabled": bool(number)}), text)
    for name in ("a", "b"):
        text = edited(Change(name, None, {"payload": None, "body": None}), text)
    if bodies:
        text = edited(Change("new"), text)
    found = {each["name"]: each for each in tomli.loads(text)["webhooks"]}
    for each in tomli.loads(FILE)["webhooks"]:
        before = {key: value for key, value in each.items() if key != "enabled"}
        after = {key: value for key, value in found[each["name"]].items() if key != "enabled"}
        assert after == before
    assert set(found) == {"a", "b"}


def test_a_body_that_is_only_ordered_or_typed_otherwise_is_another() -> None:
    text = edited(Change("a", None, {"payload": "custom", "body": {"x": 1, "y": 1.0}}), FILE)
    for body in ({"y": 1.0, "x": 1}, {"y": 1, "x": 1}, {"y": 1, "x": True}):
        text = edited(Change("a", None, {"body": body}), text)
        (found,) = [each for each in tomli.loads(text)["webhooks"] if each["name"] == "a"]
        assert json.dumps(found["body"]) == json.dumps(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"a": [{"b": None}]}, "body: a[0].b: TOML has no null"),
        ([float("nan")], "body: [0]: JSON has no inf or nan"),
    ],
)
def test_what_toml_cannot_say_is_said_at_its_place(body: object, words: str) -> None:
    with pytest.raises(ChangeRefusedError) as caught:
        edited(Change("a", None, {"payload": "custom", "body": body}), FILE)
    assert [each.key for each in caught.value.problems] == ["body"]
    assert words in str(caught.value)

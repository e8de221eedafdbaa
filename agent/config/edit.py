"""The file's text with one webhook more, changed or gone; every other byte stays. Pure.

Only the lines of that webhook are touched: from the comments right above its header to the last of
its lines. What comes out is read again and compared with what was meant; where the file is written
so that this cannot be done, nothing is, and the operator is told.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.items import AoT, Table

from agent.config.body import MAX_DEPTH, unwritable
from agent.config.document import Document
from agent.config.places import headers
from agent.config.which import Named, which
from agent.errors import ChangeRefusedError, EditError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH = 8
"""Of tables and arrays in a value: no key but `body` has more than two."""
_WIDTH = 88
"""Of a line of a body, as far as it can be broken."""
_BARE_KEY = re.compile("[A-Za-z0-9_-]+")

Fields = dict[str, Any]
"""Keys of a [[webhooks]] table; None takes a key away."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to do with the file.

    Args:
        name: the webhook's name or its explicit id; "" makes a new one.
        org_id: which, where two organisations use one name.
        fields: keys to set; None: the webhook is deleted.
    """

    name: str = ""
    org_id: int | None = None
    fields: Fields | None = None

    def apply(self, document: Document, default_org: int) -> Document:
        """The document with it done.

        Args:
            document: the file in which the webhook is, or is to be.
            default_org: the organisation of webhooks that name none.

        Raises:
            UnknownWebhookError: it has no such webhook, or more than one.
            EditError: it is written in a way that cannot be edited, or a value cannot be written.
            ChangeRefusedError: TOML cannot say that body.
        """
        text, webhooks = document.text, _webhooks(document)
        _check_body((self.fields or {}).get("body"), document.file)
        if not self.name:
            made = {key: value for key, value in (self.fields or {}).items() if value is not None}
            new = _appended(text, made)
            expected = [*webhooks, made]
        else:
            index = _index(webhooks, self.name, self.org_id, default_org)
            expected = [dict(each) for each in webhooks]
            if self.fields is None:
                new = _without(text, index)
                del expected[index]
            else:
                new = _changed(text, index, self.fields)
                _update(expected[index], self.fields)
        return _verified(new, {**document.data, "webhooks": expected}, document.file)


def webhook_of(
    document: Document, name: str, default_org: int, org_id: int | None = None
) -> Fields:
    """What the file says of the webhook with that name or explicit id. Raises as `Change.apply`."""
    webhooks = _webhooks(document)
    return webhooks[_index(webhooks, name, org_id, default_org)]


def _webhooks(document: Document) -> list[Fields]:
    webhooks = document.data.get("webhooks", [])
    if not isinstance(webhooks, list) or not all(isinstance(each, dict) for each in webhooks):
        raise EditError(f"{document.file}: 'webhooks' must be [[webhooks]] tables; mend that first")
    return webhooks


def _index(webhooks: list[Fields], name: str, org_id: int | None, default_org: int) -> int:
    """By name; else by explicit id: a webhook's name may look like another one's id."""
    known = [
        Named(str(each.get("name", "")), each.get("id"), each.get("org_id", default_org))
        for each in webhooks
    ]
    mine = [index for index, each in enumerate(known) if org_id in {None, each.org_id}]
    mine = [index for index in mine if known[index].name == name] or mine
    return mine[which(name, [known[index] for index in mine], in_file=True)]


def _update(fields: Fields, changes: Fields) -> None:
    for key, value in changes.items():
        if value is None:
            fields.pop(key, None)
        else:
            fields[key] = value


def _appended(text: str, fields: Fields) -> str:
    document = tomlkit.parse(text)
    webhooks = document.get("webhooks")
    if webhooks is not None and not isinstance(webhooks, AoT):  # webhooks = [{…}]
        webhooks.append(_item(fields, MAX_DEPTH + 1))
        return tomlkit.dumps(document)
    table = tomlkit.table()
    inside = [key for key in fields if _is_apart(key, fields[key])]
    for key in [*(key for key in fields if key not in inside), *inside]:  # a sub-table comes last
        table.add(key, _value(key, fields[key]))
    document = tomlkit.document()
    document.add("webhooks", AoT([table]))
    end = "\r\n" if "\r\n" in text else "\n"
    block = tomlkit.dumps(document).replace("\n", end)
    kept = text if not text or text.endswith("\n") else text + end
    return kept + (end if kept.strip() else "") + block


def _check_body(body: Any, file: str) -> None:
    """Before anything is written."""
    if body is not None and (found := list(unwritable(body))):
        raise ChangeRefusedError([Problem(file, 1, 1, f"body: {each}", "body") for each in found])


def _is_apart(key: str, value: Any) -> bool:
    """Whether it gets a header of its own."""
    return key == "body" and isinstance(value, dict) and bool(value)


def _value(key: str, value: Any) -> Any:
    """On one line, but for a body: that is long."""
    if key != "body":
        return _item(value, _DEPTH)
    if _is_apart(key, value):
        text = "".join(_lines("", value))
        return tomlkit.parse(f"[body]\n{text}")["body"]
    return tomlkit.parse(f"body = {_long(value)}")["body"]


def _lines(before: str, table: dict[str, Any]) -> Iterator[str]:
    """`key = value`; of a table that is too long for a line one for each of its keys."""
    for key, value in table.items():
        name = before + _key(key)
        if isinstance(value, dict) and value and len(name) + len(_short(value)) > _WIDTH:
            yield from _lines(f"{name}.", value)
        else:
            yield f"{name} = {_long(value)}\n"


def _long(value: Any, indent: str = "") -> str:
    """An array that is too long for a line has one for each of its values."""
    text = _short(value)
    if not isinstance(value, list) or len(text) <= _WIDTH:
        return text
    more = indent + "  "
    return "".join(["[\n", *(f"{more}{_long(each, more)},\n" for each in value), f"{indent}]"])


def _short(value: Any) -> str:
    return str(_item(value, MAX_DEPTH).as_string())


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else str(tomlkit.string(key).as_string())


def _item(value: Any, depth: int) -> Any:
    """Tables on one line: a webhook reads as one block."""
    if depth < 0:
        raise EditError("a value is nested too deeply")
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for key, inner in value.items():
            table.append(key, _item(inner, depth - 1))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for inner in value:
            array.append(_item(inner, depth - 1))
        return array
    if value is None:
        raise EditError("TOML knows no null: leave that value out")
    return tomlkit.item(value)


def _block(text: str, index: int) -> tuple[list[str], int, int, int]:
    """The lines; where the webhook's comments, its header, and what follows it begin."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    found = headers(text)
    own = ("webhooks", index)
    number = next((n for n, (path, _) in enumerate(found) if path == own), None)
    if number is None:
        return lines, 0, 0, 0
    start = found[number][1] - 1
    end = len(lines)
    for path, line in found[number + 1 :]:
        if path[: len(own)] != own:
            end = _above(lines, line - 1)
            break
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    return lines, _above(lines, start), start, end


def _above(lines: list[str], header: int) -> int:
    """The first of the comment lines that stand right above a header."""
    while header > 0 and lines[header - 1].lstrip().startswith("#"):
        header -= 1
    return header


def _without(text: str, index: int) -> str:
    lines, first, start, end = _block(text, index)
    if start == end:
        document = tomlkit.parse(text)
        del document["webhooks"][index]
        return tomlkit.dumps(document)
    while end < len(lines) and not lines[end].strip():
        end += 1
    if end == len(lines):  # the blank lines before it separate it from nothing any more
        while first > 0 and not lines[first - 1].strip():
            first -= 1
    return "".join(lines[:first] + lines[end:])


def _changed(text: str, index: int, fields: Fields) -> str:
    lines, _, start, end = _block(text, index)
    if start == end:
        document = tomlkit.parse(text)
        _set(document["webhooks"][index], fields)
        return tomlkit.dumps(document)
    block = "".join(lines[start:end])
    windows = "\r\n" in block
    document = tomlkit.parse(block.replace("\r\n", "\n"))
    _set(document["webhooks"][0], fields)
    new = tomlkit.dumps(document)
    if windows:
        new = new.replace("\n", "\r\n")
    if not new.endswith("\n") and end < len(lines):
        new += "\n"
    return "".join([*lines[:start], new, *lines[end:]])


def _set(table: Any, fields: Fields) -> None:
    for key, value in fields.items():
        if value is None:
            table.pop(key, None)
            continue
        if key in table and _is_same(table[key], value):  # however it is written
            continue
        if isinstance(table.get(key), Table):
            del table[key]
        table[key] = _value(key, value)


def _is_same(item: Any, value: Any) -> bool:
    """In the order of its keys too, and 1 is not true."""
    return bool(item == value) and (
        not isinstance(value, dict | list)
        or json.dumps(item.unwrap(), default=str) == json.dumps(value, default=str)
    )


def _verified(text: str, expected: dict[str, Any], file: str) -> Document:
    """The new text read again. Raises EditError where it is not what was meant."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise EditError("a value is no valid Unicode text: write it anew") from None
    if not expected["webhooks"]:
        expected = {key: value for key, value in expected.items() if key != "webhooks"}
    document = Document(text, file)
    found = document.data
    if not found.get("webhooks", True):
        found = {key: value for key, value in found.items() if key != "webhooks"}
    if found != expected:
        raise EditError(
            f"{file} is written in a way that cannot be edited without changing more than asked: "
            "edit it by hand, then 'device-agent reload'"
        )
    return document

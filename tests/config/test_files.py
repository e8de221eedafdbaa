"""The files in config/: they load, name every key, and the schema is the models'."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli
from pydantic import WithJsonSchema

from agent.config import (
    BasicAuth,
    BearerAuth,
    Config,
    DeviceEntry,
    Tls,
    Webhook,
    check,
    format_duration,
    json_schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

CONFIG = Path(__file__).parents[2] / "config"
MISTAKES = Path(__file__).parents[1] / "testdata" / "config"
EXAMPLE = (CONFIG / "agent.example.toml").read_text()


@pytest.mark.parametrize("name", ["agent.toml", "agent.example.toml", "hub.toml"])
def test_loads_without_a_word(name: str) -> None:
    config, problems, warnings = check(CONFIG / name)
    assert config is not None
    assert (problems, warnings) == ((), ())


def test_what_make_run_uses_is_the_defaults() -> None:
    config, _, _ = check(CONFIG / "agent.toml")
    assert config == Config()


def test_the_hub_of_a_checkout_stands_beside_its_agent() -> None:
    hub, _, _ = check(CONFIG / "hub.toml")
    agent, _, _ = check(CONFIG / "agent.toml")
    assert hub is not None
    assert agent is not None
    assert hub.fleet.role == "hub"
    assert hub.fleet.servers == ("nats://127.0.0.1:4222",)
    for where in (lambda it: it.state_dir({}), lambda it: it.socket_path({}), _listen):
        assert where(hub) != where(agent)
    same = hub.model_copy(update={"agent": agent.agent, "api": agent.api, "fleet": agent.fleet})
    assert same == agent, "all else is the defaults"


def test_the_hub_that_is_installed_is_that_one_in_the_places_of_its_unit() -> None:
    hub, problems, warnings = check(CONFIG.parent / "packaging" / "hub.toml")
    assert hub is not None
    assert (problems, warnings) == ((), ())
    unit = (CONFIG.parent / "systemd" / "device-agent-hub.service").read_text()
    assert "\nStateDirectory=device-agent-hub\n" in unit
    assert "\nRuntimeDirectory=device-agent-hub\n" in unit
    assert hub.state_dir({}) == Path("/var/lib/device-agent-hub")
    assert hub.socket_path({}) == Path("/run/device-agent-hub/control.sock")
    tried, _, _ = check(CONFIG / "hub.toml")
    assert tried is not None
    assert (hub.fleet, hub.api.listen) == (tried.fleet, tried.api.listen)


def _listen(config: Config) -> str:
    return config.api.listen


@pytest.mark.parametrize("path", ["config/agent.toml", "config/hub.toml", "packaging/hub.toml"])
def test_the_webhook_shown_in_it_is_good(path: str) -> None:
    text = (CONFIG.parent / path).read_text()
    shown = "\n".join(line[2:] for line in text.splitlines() if re.match(r"# (\[\[|\w+ = )", line))
    (webhook,) = Config.model_validate(tomli.loads(shown)).webhooks
    assert webhook.url.startswith("http://127.0.0.1")


# --- the example ------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each header's name with the lines under it."""
    for block in re.split(r"^\[+(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        head, *lines = block.splitlines()
        yield head.split("]")[0], lines


def keys_shown(header: str) -> dict[str, list[tuple[bool, object]]]:
    """Key → (commented out?, value) wherever it stands under such a header."""
    found: dict[str, list[tuple[bool, object]]] = {}
    for name, lines in blocks(EXAMPLE):
        for line in lines if name == header else ():
            if match := re.fullmatch(r"(# )?(\w+) = (.*)", line):
                value = tomli.loads(f"x = {match[3]}")["x"]
                found.setdefault(match[2], []).append((match[1] is not None, value))
    return found


def in_toml(field: FieldInfo) -> object:
    default = field.default
    written = any(isinstance(each, WithJsonSchema) for each in field.metadata)
    if isinstance(default, float) and written:
        return format_duration(default)
    return list(default) if isinstance(default, tuple) else default


def missing_from(model: type[BaseModel], header: str) -> list[str]:
    shown = keys_shown(header)
    wrong = [f"{header}: {key} is no key" for key in shown if key not in model.model_fields]
    for name, field in model.model_fields.items():
        given = shown.get(name, [])
        if name == "tls":
            continue  # a table of its own
        if field.is_required():
            good = any(not commented for commented, _ in given)
        elif in_toml(field) is None or name in {"secret", "headers", "plugins"}:
            # Left out is the default, and cannot be written.
            good = any(commented for commented, _ in given)
        else:
            good = (False, in_toml(field)) in given
        if not good:
            wrong.append(f"{header}: {name} is missing or does not have its default")
    return wrong


SECTIONS = {
    name: field.default_factory
    for name, field in Config.model_fields.items()
    if field.default_factory
}


@pytest.mark.parametrize(
    ("header", "model"),
    [*SECTIONS.items(), ("devices", DeviceEntry), ("webhooks", Webhook), ("webhooks.tls", Tls)],
)
def test_the_example_shows_every_key_with_its_default(header: str, model: type[BaseModel]) -> None:
    assert missing_from(model, header) == []


def test_the_example_shows_every_table() -> None:
    assert {name for name, _ in blocks(EXAMPLE)} == {
        *Config.model_fields,
        "fleet.tls",
        "webhooks.tls",
    }
    shown = [value for _, value in keys_shown("webhooks")["auth"]]
    assert [set(value) for value in shown if isinstance(value, dict)] == [
        set(BearerAuth.model_fields),
        set(BasicAuth.model_fields),
    ]


def test_what_the_example_comments_out_is_good_too() -> None:
    lines = [re.sub(r"^# (?=\w+ = )", "", line) for line in EXAMPLE.splitlines()]
    basic = next(line for line in lines if line.startswith('auth = { type = "basic"'))
    lines.remove(basic)
    (*_, webhook) = Config.model_validate(tomli.loads("\n".join(lines))).webhooks
    assert webhook.id == 129
    assert webhook.tls.cert is not None


# --- the schema -------------------------------------------------------------------------------


def test_the_schema_file_is_the_models() -> None:
    text = (CONFIG / "agent.schema.json").read_text()
    assert text == json.dumps(json_schema(), indent=2, sort_keys=False) + "\n", (
        "run: device-agent schema > config/agent.schema.json"
    )


def test_every_key_is_described() -> None:
    for model in (*SECTIONS.values(), DeviceEntry, Webhook, Tls):
        for name, field in model.model_fields.items():  # type: ignore[union-attr]  # factories are models
            assert field.description, f"{model}.{name}"
            assert "\n" not in field.description


def fits(node: dict[str, Any], value: object, root: dict[str, Any]) -> bool:
    """JSON Schema 2020-12, as far as this schema uses it; any other keyword fails the test."""

    def inside(schema: bool | dict[str, Any], part: object) -> bool:
        return schema if isinstance(schema, bool) else fits(schema, part, root)

    def others(table: dict[str, object]) -> list[object]:
        return [table[key] for key in table.keys() - node.get("properties", {}).keys()]

    types = {
        "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
        "integer": (int,), "number": (int, float),
    }  # fmt: skip
    for_any: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda rule: inside(root["$defs"][rule.removeprefix("#/$defs/")], value),
        "type": lambda rule: type(value) in types[rule],
        "const": lambda rule: value == rule,
        "enum": lambda rule: value in rule,
        "anyOf": lambda rule: any(inside(each, value) for each in rule),
        "oneOf": lambda rule: [inside(each, value) for each in rule].count(True) == 1,
    }
    numbers: dict[str, Callable[[Any, Any], bool]] = {
        "minimum": lambda rule, number: number >= rule,
        "maximum": lambda rule, number: number <= rule,
        "exclusiveMinimum": lambda rule, number: number > rule,
    }
    by_type: dict[type, dict[str, Callable[[Any, Any], bool]]] = {
        str: {
            "minLength": lambda rule, text: len(text) >= rule,
            "maxLength": lambda rule, text: len(text) <= rule,
            "pattern": lambda rule, text: re.search(rule, text) is not None,
        },
        int: numbers,
        float: numbers,
        list: {
            "minItems": lambda rule, items: len(items) >= rule,
            "uniqueItems": lambda rule, items: (
                rule is True and all(items.count(each) == 1 for each in items)
            ),
            "items": lambda rule, items: all(inside(rule, each) for each in items),
        },
        dict: {
            "required": lambda rule, table: set(rule) <= set(table),
            "properties": lambda rule, table: all(
                inside(rule[key], table[key]) for key in rule.keys() & table.keys()
            ),
            "additionalProperties": lambda rule, table: all(
                inside(rule, each) for each in others(table)
            ),
        },
    }
    known = {"title", "description", "default", "discriminator", "$defs", *for_any}
    assert node.keys() <= known.union(*by_type.values())
    mine = by_type.get(type(value), {})
    return all(check(node[word]) for word, check in for_any.items() if word in node) and all(
        check(node[word], value) for word, check in mine.items() if word in node
    )


BEYOND_A_SCHEMA = {
    "address-listen", "address-listen-port", "address-listen-v6", "address-servers",
    "address-servers-port", "address-socket-long", "auth-twice", "auth-username", "body-bounds",
    "body-placeholders", "body-secrets", "body-values", "device-twice",
    "duration-absurd", "duration-zero", "headers-names", "headers-own", "headers-twice",
    "secret-lines", "secret-not-base64", "api-key-alone", "tls-key-alone", "webhook-id-twice",
    "webhook-name-twice", "webhook-scope-blank", "webhook-url-host-odd", "webhook-url-port",
}  # fmt: skip
"""Mistakes that only the loader finds: they concern several keys, or what a text means."""


def test_what_is_beyond_a_schema_is_there() -> None:
    assert {file.stem for file in MISTAKES.glob("*.toml")} >= BEYOND_A_SCHEMA


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(MISTAKES.glob("*.toml")) if not file.stem.startswith("syntax-")],
    ids=lambda file: file.stem,
)
def test_the_schema_refuses_what_it_can_express(file: Path) -> None:
    document = tomli.loads(file.read_bytes().decode())
    schema = json_schema()
    assert fits(schema, document, schema) == (file.stem in BEYOND_A_SCHEMA)


@pytest.mark.parametrize("name", ["agent.toml", "agent.example.toml", "hub.toml"])
def test_the_schema_accepts_what_the_loader_does(name: str) -> None:
    schema = json_schema()
    assert fits(schema, tomli.loads((CONFIG / name).read_text()), schema)


def test_the_schema_shows_defaults_as_they_are_written() -> None:
    delivery = json_schema()["$defs"]["Delivery"]["properties"]
    assert delivery["timeout"]["default"] == "10s"
    assert delivery["drain_rate"]["default"] == 200.0


def test_the_schema_describes_keys_not_only_their_kinds() -> None:
    schema = json_schema()["$defs"]
    for model in (*SECTIONS.values(), DeviceEntry, Webhook, Tls, BasicAuth, BearerAuth):
        shown = schema[model.__name__]["properties"]
        for name, field in model.model_fields.items():  # type: ignore[union-attr]  # factories are models
            if field.description:
                assert shown[name]["description"] == field.description, f"{model}.{name}"


def test_the_schema_accepts_the_secrets_forms() -> None:
    schema = json_schema()
    webhook = {"name": "x", "url": "http://x", "events": ["online"]}
    for secret, good in [
        ("x", True), (["x", {"env": "X"}], True), ({"file": "x"}, True), ([], False), ("", False),
        ({"file": "x", "env": "y"}, False), (5, False), ({}, False),
    ]:  # fmt: skip
        document = {"webhooks": [{**webhook, "secret": secret, "headers": {"X-A": "1"}}]}
        assert fits(schema, document, schema) is good

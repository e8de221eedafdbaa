"""The kinds of values, as pydantic takes them: how each is read, checked and written down."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import core_schema

from agent.config.body import Body
from agent.config.secret import MAX_URL, Kind, PrivateUrl, Secret
from agent.config.values import (
    DURATION,
    MAX_ID,
    check_after,
    check_broker,
    check_endpoint,
    check_header_name,
    check_header_value,
    check_no_repeats,
    check_plugin_name,
    check_positive,
    check_proxy,
    check_text,
    check_url,
    parse_duration,
    toml_type,
)
from agent.model import DeviceState, Platform, Visibility

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import GetCoreSchemaHandler


def to_tuple(value: object) -> object:
    """Of an array, which strict validation does not take for one."""
    return tuple(value) if isinstance(value, list) else value


def one_or_many(value: object) -> object:
    """An array, or one value that stands for an array of it."""
    return to_tuple(value) if isinstance(value, list | tuple) else (value,)


def _from_file_directory(path: str, info: ValidationInfo) -> str:
    """A relative path is relative to the configuration's directory, wherever the agent starts."""
    if not path or "\0" in path:
        raise ValueError("must be a path")
    base: Path | None = (info.context or {}).get("base")
    return path if base is None else str(base / path)


def command_or_path(path: str, info: ValidationInfo) -> str:
    """What has no slash is looked up in $PATH when it is used."""
    return _from_file_directory(path, info) if "/" in path else path


def _to_secret(value: object, info: ValidationInfo) -> Secret:
    return Secret.parse(value, (info.context or {}).get("base"))


def _to_secret_text(value: object, info: ValidationInfo) -> Secret:
    return Secret.parse(value, (info.context or {}).get("base"), lines=True)


def _to_body(value: object, info: ValidationInfo) -> Body:
    return Body.parse(value, (info.context or {}).get("base"))


class HeaderTable:
    """A table of name → secret in the file, pairs in the `Config` (dicts are not frozen)."""

    def __get_pydantic_core_schema__(
        self, _source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._pairs,
            handler.generate_schema(dict[_HeaderName, _HeaderValue]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda pairs: {name: str(secret) for name, secret in pairs}
            ),
        )

    @staticmethod
    def _pairs(table: dict[str, Secret]) -> tuple[tuple[str, Secret], ...]:
        check_no_repeats(tuple(name.lower() for name in table))
        return tuple(table.items())


_SECRET_SCHEMA: dict[str, Any] = {
    "description": "The secret itself, or where it is: a file (read at each use), an environment "
    "variable, or a systemd credential.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        *(
            {
                "type": "object",
                "properties": {kind.value: {"type": "string", "minLength": 1}},
                "required": [kind.value],
                "additionalProperties": False,
            }
            for kind in Kind
            if kind is not Kind.INLINE
        ),
    ],
}
SECRETS_SCHEMA = {
    "anyOf": [*_SECRET_SCHEMA["anyOf"], {"type": "array", "items": _SECRET_SCHEMA, "minItems": 1}]
}
"""Of one secret or a list of them."""
_DURATION_SCHEMA = {"type": "string", "minLength": 2, "pattern": f"^{DURATION.pattern}$"}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Text in the file, seconds in the `Config`."""
PositiveDuration = Annotated[Duration, AfterValidator(check_positive)]
After = Annotated[Duration, AfterValidator(check_after)]

SecretValue = Annotated[
    Secret,
    PlainValidator(_to_secret),
    PlainSerializer(str, return_type=str),  # the place, never the value
    WithJsonSchema(_SECRET_SCHEMA),
]
SecretText = Annotated[
    Secret,
    PlainValidator(_to_secret_text),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(_SECRET_SCHEMA),
]
"""Likewise, of several lines."""
BodyValue = Annotated[
    Body,
    PlainValidator(_to_body),
    PlainSerializer(lambda body: body.value),
    WithJsonSchema(
        {"anyOf": [{"type": kind} for kind in ("object", "array", "string", "number", "boolean")]}
    ),
]
"""Any JSON value that TOML can write."""
_PluginName = Annotated[str, AfterValidator(check_plugin_name)]
_HeaderName = Annotated[str, AfterValidator(check_header_name)]
_HeaderValue = Annotated[SecretValue, AfterValidator(check_header_value)]
Text = Annotated[str, Field(min_length=1), AfterValidator(check_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(to_tuple)]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_from_file_directory)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Url = Annotated[
    PrivateUrl,
    Field(json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]"}),
    AfterValidator(check_url),
]
BrokerUrl = Annotated[
    PrivateUrl,
    Field(json_schema_extra={"pattern": "^(nats|tls)://[^/?#]+/?$"}),
    AfterValidator(check_broker),
]
ProxyUrl = Annotated[
    PrivateUrl,
    Field(json_schema_extra={"pattern": "^$|^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+/?$"}),
    AfterValidator(check_proxy),
]
_URL_SCHEMA = {
    "type": "string",
    "maxLength": MAX_URL,
    "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]",
}
SERVERS_SCHEMA = {
    "type": "array",
    "uniqueItems": True,
    "items": {
        "anyOf": [
            _URL_SCHEMA,
            {
                "type": "object",
                "properties": {
                    "url": _URL_SCHEMA,
                    "auth": {
                        "type": "object",
                        "properties": {
                            "type": {"enum": ["basic", "bearer"]},
                            "username": {"type": "string", "minLength": 1},
                            "password": _SECRET_SCHEMA,
                            "token": _SECRET_SCHEMA,
                        },
                        "required": ["type"],
                        "additionalProperties": False,
                    },
                },
                "required": ["url"],
                "additionalProperties": False,
            },
        ]
    },
}
"""Of servers that are polled: URLs, or tables with one and how to be authorised."""


def url_or_table(value: object) -> object:
    """A server's URL stands for a table of it."""
    if isinstance(value, bool | int | float | list):
        raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
            f"expected a URL, or a table with one, got {toml_type(value)}"
        )
    return {"url": value} if isinstance(value, str) else value


class PluginTable:
    """A table of tables in the file, pairs of name and options in the `Config`."""

    def __get_pydantic_core_schema__(
        self, _source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._pairs,
            handler.generate_schema(dict[_PluginName, dict[str, Any]]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                # What they mean the plug-in alone knows: any of them may be secret.
                lambda pairs: {name: dict.fromkeys(options, "***") for name, options in pairs}
            ),
        )

    @staticmethod
    def _pairs(table: dict[str, dict[str, Any]]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return tuple((name, MappingProxyType(options)) for name, options in table.items())


# Strict validation takes no plain text for an enum; its members are checked all the same.
StateName = Annotated[DeviceState, Field(strict=False)]
PlatformName = Annotated[Platform, Field(strict=False)]
VisibilityName = Annotated[Visibility, Field(strict=False)]

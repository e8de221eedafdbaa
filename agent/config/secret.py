"""What of the configuration is secret, told by its type alone, so that no list can forget a key.

A `Secret` is inline, in a file, in the environment or a systemd credential: it says where its value
is and reads it at each use; printing one never shows the value. A `PrivateUrl` holds one in itself.
`private_in` finds both, wherever they are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic_core import core_schema

from agent.errors import SecretError
from agent.text import CUT, meant_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import GetCoreSchemaHandler

    from agent.config.places import KeyPath

MAX_URL = 512
"""Characters."""
MAX_BYTES = 64 * 1024
"""Of a secret's file; more than that is the wrong file."""


class Kind(StrEnum):
    """Where the value is; all but `INLINE` are keys of the table form."""

    INLINE = "inline"
    FILE = "file"
    ENV = "env"
    CREDENTIAL = "credential"


class HoldsSecrets:
    """A value that says where secrets are, and is shown itself."""

    __slots__ = ()
    held: tuple[Secret, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Where one secret is. `repr` and `str` show the place, never an inline value."""

    kind: Kind
    where: str = ""
    """Path, variable or credential name; "" for an inline one."""
    _value: str = ""
    _lines: bool = False
    """Whether it may have several."""

    @classmethod
    def parse(cls, value: object, base: Path | None = None, *, lines: bool = False) -> Secret:
        """From the configuration's string or table; a relative file is looked for under `base`.

        Raises ValueError, whose message holds nothing of the value.

        Args:
            value: the string or table.
            base: a directory.
            lines: whether it may have several.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            _checked(value, lines=lines)
            return cls(Kind.INLINE, "", value, lines)
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 -- pydantic collects ValueErrors only
                'expected a string, or a table { file = "…" }, { env = "…" } or '
                '{ credential = "…" }'
            )
        kind, where = _place(value)
        if kind is Kind.FILE and base is not None:
            where = str(base / where)  # an absolute path stays what it is
        return cls(kind, where, "", lines)

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The value, read anew from its place; one newline at its end is dropped.

        Blocking, for a file's read. Raises SecretError: what is wrong, where, and the remedy.
        """
        match self.kind:
            case Kind.INLINE:
                return self._value
            case Kind.ENV:
                if self.where not in environ:
                    raise SecretError(
                        f"{self} is not set: set it for the agent (Environment= or "
                        f"EnvironmentFile= in its unit) and restart"
                    )
                value = environ[self.where]
            case Kind.FILE:
                value = self._read_file(Path(self.where), "correct the path in the configuration")
            case Kind.CREDENTIAL:
                remedy = f"add LoadCredential={self.where}:/PATH to the agent's unit and restart"
                directory = environ.get("CREDENTIALS_DIRECTORY")
                if not directory:
                    raise SecretError(
                        f"{self} cannot be read, for $CREDENTIALS_DIRECTORY is not set: {remedy}"
                    )
                value = self._read_file(Path(directory) / self.where, remedy)
        try:
            _checked(value, lines=self._lines)
        except ValueError as error:
            raise SecretError(f"{self} {error}") from None
        return value

    def _read_file(self, path: Path, if_missing: str) -> str:
        try:
            with open(path, "rb", opener=_non_blocking) as file:
                regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                data = file.read(MAX_BYTES + 1) if regular else None
        except IsADirectoryError:
            data = None
        except FileNotFoundError:
            raise SecretError(f"{self} does not exist: {if_missing}") from None
        except OSError as error:
            raise SecretError(
                f"{self} cannot be read ({error.strerror}): make it readable to the user the agent "
                f"runs as, or {if_missing}"
            ) from None
        if data is None:
            raise SecretError(f"{self} is not a regular file: {if_missing}")
        if len(data) > MAX_BYTES:
            raise SecretError(f"{self} is larger than {MAX_BYTES} bytes: {if_missing}")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # `from None`: the original error carries the file's bytes.
            raise SecretError(f"{self} is not UTF-8 text: {if_missing}") from None
        return text.removesuffix("\n").removesuffix("\r")

    def __str__(self) -> str:
        names = {
            Kind.INLINE: "inline secret",
            Kind.FILE: f"secret file {self.where}",
            Kind.ENV: f"environment variable {self.where}",
            Kind.CREDENTIAL: f"systemd credential {self.where}",
        }
        return names[self.kind]

    def __repr__(self) -> str:
        return f"<Secret: {self}>"


def _non_blocking(path: str, flags: int) -> int:
    """So that a FIFO without a writer does not hang the agent."""
    return os.open(path, flags | os.O_NONBLOCK)


def _checked(value: str, *, lines: bool = False) -> None:
    """Raises ValueError unless it can be a key, a password or a header's value."""
    if not value:
        raise ValueError("is empty: give it a value")
    if any(mark in value for mark in ("\0" if lines else "\r\n\0")):
        raise ValueError("holds a line break or a NUL: a secret is one line")


def _place(table: dict[str, object]) -> tuple[Kind, str]:
    """Of the table form. Raises ValueError."""
    kinds = [kind for kind in Kind if kind is not Kind.INLINE]
    for key in table:
        if key not in kinds:
            raise ValueError(_unknown(key, kinds))
    if len(table) != 1:
        raise ValueError('a secret\'s table has one key: "file", "env" or "credential"')
    ((key, where),) = table.items()
    if not isinstance(where, str) or not where or "\0" in where:
        raise ValueError(f'"{key}" of a secret\'s table must be a string that is not empty')
    if key == Kind.ENV and "=" in where:
        raise ValueError('"env" of a secret\'s table is the name of an environment variable')
    if key == Kind.CREDENTIAL and ("/" in where or where in {".", ".."}):
        raise ValueError(
            '"credential" of a secret\'s table is the name of a systemd credential, no path'
        )
    return Kind(key), where


def _unknown(key: str, kinds: Sequence[Kind]) -> str:
    """The key itself is shown only where it is surely a slip: it could be a misplaced secret."""
    if close := meant_key(key, kinds):
        return f"unknown key '{key}' in a secret's table (did you mean '{close}'?)"
    return "unknown key in a secret's table, which is one of file, env or credential"


_KEYED: Final = re.compile(
    r"(?:[^.]+\.)*(?:"
    r"hooks\.slack(?:-gov)?\.com\.?/+(?:services|workflows|triggers)/|"
    r"discord(?:app)?\.com\.?/+api/+(?:v[0-9]+/+)?webhooks/|"
    r"webhook\.office\.com\.?/+webhookb2/|"
    r"outlook\.office(?:365)?\.com\.?/+webhook/|"
    r"api\.telegram\.org\.?/+bot"
    r")(?P<key>.+)"
)
"""Hosts and paths of services at which whoever knows the rest of the path may send."""


class PrivateUrl(str):
    """A URL whose userinfo, query and fragment may be secret: `repr` and JSON show none of them.

    Of some services the path is the secret: there it is not shown either.
    """

    __slots__ = ()

    @property
    def bare(self) -> str:
        """The rest of it, as it is written: fit for messages."""
        parts = urlsplit(self)
        path = parts.path.removesuffix(self.key) + CUT if self.key else parts.path
        return parts._replace(
            netloc=parts.netloc.rpartition("@")[2], path=path, query="", fragment=""
        ).geturl()

    @property
    def key(self) -> str:
        """What of the path is secret; "": nothing."""
        parts = urlsplit(self)
        match = _KEYED.fullmatch((parts.hostname or "") + parts.path)
        return match["key"] if match else ""

    @property
    def is_bare(self) -> bool:
        """Whether that is all of it."""
        parts = urlsplit(self)
        return not ("@" in parts.netloc or parts.query or parts.fragment or self.key)

    def __repr__(self) -> str:
        return f"<URL: {self.bare}>"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(max_length=MAX_URL),
            serialization=core_schema.plain_serializer_function_ser_schema(_bare),
        )


def _bare(url: PrivateUrl | None) -> str | None:
    return None if url is None else url.bare


def private_in(  # noqa: C901 - a table of kinds
    value: object, path: KeyPath = (), *, free: bool = False
) -> Iterator[tuple[KeyPath, Secret | PrivateUrl]]:
    """All in a part of the configuration that may be secret, told by its type, with its key path.

    Args:
        value: a section, or what stands in one.
        path: of it.
        free: it is in a table of which only a plug-in knows what it means: each text is a secret.
    """
    match value:
        case Secret() | PrivateUrl():
            yield path, value
        case HoldsSecrets():
            for each in value.held:
                yield path, each
        case str() if free:
            yield path, Secret(Kind.INLINE, "", value)
        case BaseModel():
            for name in type(value).model_fields:
                yield from private_in(getattr(value, name), (*path, name))
        case Mapping():
            for name, each in value.items():
                yield from private_in(each, (*path, name), free=True)
        case tuple() | list() | set() | frozenset():
            for index, each in enumerate(value):
                match each:
                    case (str(name), (Secret() | PrivateUrl() | Mapping()) as inner) if not free:
                        yield from private_in(inner, (*path, name))  # a table, frozen to pairs
                    case _:
                        yield from private_in(each, (*path, index), free=free)

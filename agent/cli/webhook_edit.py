"""`device-agent webhooks create|edit|delete|enable|disable`: they write the webhook's file.

The operator's file is changed by this process, under its user's rights, for the agent never writes
it; then the running agent loads it. The agent's own file is changed by the agent, over its API.
Without an agent the file alone is changed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import click
import tomli

from agent.cli.common import (
    ask,
    config_option,
    exit_bad_config,
    load_or_exit,
    may_ask,
    said_to_outsiders,
)
from agent.cli.out import echo_err, printable, say
from agent.cli.webhook_rows import row_of
from agent.config import Webhook
from agent.config.change import Target, change
from agent.config.documents import managed_path
from agent.config.installed import environ_of
from agent.config.mistakes import translated
from agent.config.model import PayloadFormat
from agent.config.which import Named, which
from agent.errors import ApiError, ConfigError, EditError
from agent.model import DeviceState, Platform
from agent.text import meant_key
from agent.wire.control import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.config.document import Document
    from agent.service.webhooks import KnownWebhook, WebhookRow

_Command = TypeVar("_Command", bound="Callable[..., Any]")

EVENTS = tuple(str(state) for state in DeviceState)
_REQUIRED = ("name", "url", "events")
_PLACES = ("file", "env", "credential")
_BARE = re.compile(r"[^\s\"'\[\]{}#,=]+")
"""A value of --set that needs no quotes: `--set timeout=5s`."""


def _words(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> list[str] | None:
    """`--events online,offline`, repeatable."""
    return [word.strip() for each in value for word in each.split(",") if word.strip()] or None


def _events(
    context: click.Context, option: click.Parameter, value: tuple[str, ...]
) -> list[str] | None:
    """Likewise, each once, or `all`."""
    words = [word.lower() for word in _words(context, option, value) or ()]
    return list(EVENTS) if words == ["all"] else list(dict.fromkeys(words)) or None


_OPTIONS = (
    click.option("--url", help="Absolute http or https URL, 512 characters at most."),
    click.option("--description", help="For people only, 512 characters at most."),
    click.option(
        "--events",
        "--event",
        "events",
        multiple=True,
        callback=_events,
        metavar="STATE[,STATE…]|all",
        help="States that call back: online, offline, utilizing, unplugged; repeatable.",
    ),
    click.option("--enabled/--disabled", default=None, help="Whether it makes callbacks."),
    click.option(
        "--devices",
        "--device",
        "devices",
        multiple=True,
        callback=_words,
        metavar="PATTERN",
        help="Scope: only phones whose UDID fits one, such as 'ce09*'; repeatable.",
    ),
    click.option(
        "--tags",
        "--tag",
        "tags",
        multiple=True,
        callback=_words,
        metavar="TAG",
        help="Scope: only phones that bear one of these; repeatable.",
    ),
    click.option(
        "--platforms",
        "--platform",
        "platforms",
        multiple=True,
        callback=_words,
        metavar="|".join(Platform),
        help="Scope: only phones of these platforms; repeatable.",
    ),
    click.option("--payload", metavar="|".join(get_args(PayloadFormat)), help="Its body."),
    click.option(
        "--secret", help="Sign with it. It is seen in the process list: rather one of the next."
    ),
    click.option("--secret-file", metavar="FILE", help="Sign with the secret in this file."),
    click.option(
        "--secret-env", metavar="NAME", help="Sign with the secret in the agent's variable NAME."
    ),
    click.option("--secret-credential", metavar="NAME", help="Sign with this systemd credential."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key, its value as in the file: --set timeout=5s, "
        "--set 'tls={ca=\"/etc/ca.pem\"}'; repeatable.",
    ),
)
_ORG = click.option(
    "--org", "org_id", type=click.IntRange(min=1), help="Which, of two that have one name."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the webhook as JSON.")


def _webhook_options(function: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@config_option
@click.option("--name", help="Unique in its organisation, 50 characters at most.")
@click.option("--id", "id_", type=click.IntRange(min=1), help="[default: given, and kept]")
@click.option("--org", "org_id", type=click.IntRange(min=1), help="[default: the agent's]")
@click.option("--managed", is_flag=True, help="In the agent's own file, as over the API.")
@_webhook_options
@_JSON
def create(
    config_path: Path,
    name: str | None,
    id_: int | None,
    org_id: int | None,
    *,
    managed: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a webhook: in the configuration file, and in the running agent at once.

    Whoever may not write that file has it made by the agent, which keeps those in a file of its
    own. Asks for what is needed and was not given, where there is a terminal.
    """
    where = _Where.OWN if _may_write(config_path) else _Where.AGENT
    where = _Where.MANAGED if managed else where
    fields = {"id": id_, "org_id": org_id, "name": name, **_fields(options)}
    fields = {key: value for key, value in fields.items() if value is not None}
    missing = [key for key in _REQUIRED if key not in fields]
    if missing and _interactive():
        taken = [webhook.name for webhook in load_or_exit(config_path)[1].webhooks]
        fields |= _asked({}, taken, missing if fields else None)
    elif missing:
        raise click.UsageError(f"a webhook needs {', '.join(f'--{key}' for key in missing)}")
    fields = {key: fields[key] for key in Webhook.model_fields if key in fields}  # in their order
    _apply(config_path, None, fields, "created", where=where, as_json=as_json)


@click.command()
@config_option
@click.argument("webhook", metavar="NAME|ID")
@click.option("--name", help="Its new name; it keeps its id, and what waits for it.")
@_ORG
@click.option("--unset", multiple=True, metavar="KEY", help="Back to its default; repeatable.")
@_webhook_options
@_JSON
def edit(
    config_path: Path,
    webhook: str,
    name: str | None,
    org_id: int | None,
    unset: tuple[str, ...],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Change a webhook: in the file in which it is, and in the running agent at once.

    What waits for it goes to its new URL. Asks for each parameter when there is a terminal and none
    was given.
    """
    for key in unset:
        _check_key(key, "--unset")
    fields = _fields(options) | dict.fromkeys(unset)
    if name is not None:
        fields["name"] = name
    meant = _meant(config_path, webhook, org_id)
    known = meant.fields
    if not fields and _interactive():
        fields = _asked(known, (), None)
        if not fields:
            click.echo("nothing changed", err=True)
            return
    if not fields:
        raise click.UsageError("what is to change? Give at least one option")
    if fields.get("name", known["name"]) != known["name"] and "id" not in known | fields:
        fields |= _kept_id(meant)
    _apply(config_path, meant, fields, "changed", where=meant.where, as_json=as_json)


@click.command()
@config_option
@click.argument("webhook", metavar="NAME|ID")
@_ORG
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@_JSON
def delete(
    config_path: Path, webhook: str, org_id: int | None, *, yes: bool, as_json: bool
) -> None:
    """Delete a webhook; what waits for it is cancelled. Its id is never given to another."""
    meant = _meant(config_path, webhook, org_id)
    if not yes:
        if not _interactive():
            raise click.UsageError("there is no terminal to ask at: say --yes")
        click.confirm(f"Delete webhook {meant.name!r}?", abort=True, err=True)
    _apply(config_path, meant, None, "deleted", where=meant.where, as_json=as_json)


def _switch(name: str, text: str, *, enabled: bool) -> click.Command:
    @click.command(name, help=text)
    @config_option
    @click.argument("webhook", metavar="NAME|ID")
    @_ORG
    @_JSON
    def command(config_path: Path, webhook: str, org_id: int | None, *, as_json: bool) -> None:
        meant = _meant(config_path, webhook, org_id)
        # Where it says nothing it is enabled, and the file stays as it is.
        fields = {} if enabled and "enabled" not in meant.fields else {"enabled": enabled}
        _apply(config_path, meant, fields, f"{name}d", where=meant.where, as_json=as_json)

    return command


enable = _switch(
    "enable", "Enable a webhook: it calls back about what happens from now on.", enabled=True
)
disable = _switch(
    "disable",
    "Disable a webhook: no callbacks until it is enabled; what waits for it is kept.",
    enabled=False,
)


# --- what is wanted ---------------------------------------------------------------------------


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    """Keys of the file, of the options that were given."""
    secrets = [(place, options.pop(f"secret_{place}")) for place in _PLACES]
    given = [(place, value) for place, value in secrets if value]
    if len(given) + (options["secret"] is not None) > 1:
        raise click.UsageError(
            "give one of --secret, --secret-file, --secret-env, --secret-credential"
        )
    settings = options.pop("settings")
    fields = {key: value for key, value in options.items() if value is not None}
    if given:
        fields["secret"] = dict(given)
    for setting in settings:
        key, equals, text = setting.partition("=")
        # Nothing else of it is shown: it may be a secret.
        if not equals:
            raise click.UsageError("--set takes KEY=VALUE, the value as in the file")
        key = key.strip()
        _check_key(key, "--set")
        fields[key] = _value(key, text.strip())
    return fields


def _check_key(key: str, option: str) -> None:
    """Shown only where it is surely a slip."""
    if key in Webhook.model_fields:
        return
    close = meant_key(key, Webhook.model_fields)
    hint = f"did you mean '{close}'?" if close else f"one of {', '.join(Webhook.model_fields)}"
    raise click.UsageError(f"{option}: a webhook has no such key: {hint}")


def _value(key: str, text: str) -> Any:
    try:
        found = tomli.loads(f"x = {text}")
    except tomli.TOMLDecodeError:
        found = {}
    if set(found) == {"x"}:
        return found["x"]
    if _BARE.fullmatch(text):
        return text
    raise click.UsageError(
        f"--set {key}=…: the value is not TOML: text with blanks or marks stands in quotes, "
        f"--set '{key}=\"…\"'"
    )


def _interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(
    known: dict[str, Any], taken: tuple[str, ...] | list[str], keys: list[str] | None
) -> dict[str, Any]:
    """The product's parameters (None: all; else these), asked for; those whose answers are new."""
    keys = ["name", "url", "description", "events", "enabled"] if keys is None else keys
    answers: dict[str, Any] = {}
    for key, question in (("name", "Name"), ("url", "URL"), ("description", "Description")):
        if key in keys:
            default = known.get(key, "" if key == "description" else None)
            answers[key] = _ask_text(question, key, default, taken if key == "name" else ())
    if "events" in keys:
        answers["events"] = _ask_events(known.get("events", EVENTS))
    if "enabled" in keys:
        answers["enabled"] = click.confirm("Enabled?", known.get("enabled", True), err=True)
    before = {"description": "", "enabled": True, **known}
    return {key: value for key, value in answers.items() if value != before.get(key)}


def _ask_events(defaults: list[str] | tuple[str, ...]) -> list[str]:
    while True:
        chosen = [
            event
            for event in EVENTS
            if click.confirm(f"Call back when {event}?", event in defaults, err=True)
        ]
        if chosen:
            return chosen
        click.echo("At least one of them must call back.", err=True)


def _ask_text(
    question: str, key: str, default: str | None, taken: tuple[str, ...] | list[str]
) -> str:
    """Asked again until the file would take it."""

    def good(text: str) -> str:
        text = text.strip()
        sample = {"name": "x", "url": "http://localhost", "events": ["online"], key: text}
        try:
            Webhook.model_validate(sample)
        except ValueError as error:
            first = error.errors(include_url=False, include_input=False)[0]  # type: ignore[attr-defined]  # pydantic's
            raise click.BadParameter(translated(sample, first).message) from None
        if text in taken:
            raise click.BadParameter("another webhook has this name")
        return text

    answer: str = click.prompt(question, default=default, value_proc=good, err=True)
    return answer


# --- the file, and the agent ------------------------------------------------------------------


class _Where(Enum):
    """Where a change is made."""

    OWN = "the operator's file"
    MANAGED = "the agent's own file: by the agent, or where none runs by this command"
    AGENT = "by the agent; where none runs it is the operator's file that cannot be written"


class _Meant(NamedTuple):
    """Which webhook a command is about."""

    name: str
    org_id: int
    fields: dict[str, Any]
    """What its file says of it; where that may not be read by this user, what the agent shows."""
    id: int | None
    """None: only a running agent knows it."""
    where: _Where
    row: WebhookRow | None
    """The running agent's; None: none runs, or it has not loaded it yet."""


def _meant(config_path: Path, webhook: str, org_id: int | None) -> _Meant:
    """By name or id. An id that the agent gave is in no file: the agent is asked."""
    from agent.config.edit import webhook_of  # noqa: PLC0415 - what only shows needs no tomlkit

    documents, config = load_or_exit(config_path)
    rows = {(row["org_id"], row["name"]): row for row in _rows(config_path, org_id)}
    homes: dict[tuple[int, str], tuple[int | None, Document | None]] = {}
    """Explicit id and document of each."""
    for each in config.webhooks:
        origin = config.origin_of(each)
        managed = origin is not None and origin.managed
        document = documents.managed if managed else documents.own
        homes[config.org_of(each), each.name] = each.id, document
    for key, row in rows.items():
        if row["managed"] and key not in homes:  # in a file that this user may not read
            homes[key] = row["id"], None
    known = [
        Named(name, rows[org, name]["id"] if (org, name) in rows else id_, org)
        for (org, name), (id_, _) in homes.items()
        if org_id in {None, org}
    ]
    meant = known[which(typed(webhook), known, in_file=True, by_org="say which with --org")]
    _, document = homes[meant.org_id, meant.name]
    shown = rows.get((meant.org_id, meant.name))
    if document is not None:
        fields = webhook_of(document, meant.name, config.agent.org_id, meant.org_id)
    else:
        assert shown is not None
        fields = {key: value for key, value in shown.items() if key in Webhook.model_fields}
    where = _Where.OWN if document is documents.own else _Where.MANAGED
    return _Meant(meant.name, meant.org_id, fields, meant.id, where, shown)


def _rows(config_path: Path, org_id: int | None) -> list[WebhookRow]:
    """The running agent's rows, of that organisation; none where no agent answers."""
    try:
        rows: list[WebhookRow] = ask(config_path, "GET", "/v1/webhooks")["webhooks"]
    except ApiError:
        return []
    return [row for row in rows if org_id in {None, row["org_id"]}]


def _row(config_path: Path, name: str, org_id: int | None) -> WebhookRow | None:
    """The running agent's row of the webhook with that name; None: no agent, or it has none."""
    return next((row for row in _rows(config_path, org_id) if row["name"] == name), None)


def _kept_id(meant: _Meant) -> dict[str, Any]:
    """The id of a webhook that gets a new name, to be written into the file."""
    if meant.id is None:
        raise EditError(
            f"webhook {meant.name!r} has no id in the file, so a new name would make it "
            "another webhook and cancel what waits for it: start the agent first, which knows its "
            "id, or give it one with --set id=…"
        )
    return {"id": meant.id}


def _apply(
    config_path: Path,
    meant: _Meant | None,
    fields: dict[str, Any] | None,
    verb: str,
    *,
    where: _Where,
    as_json: bool,
) -> None:
    """Change a file and what is in force, and say so. Meant: None for a new webhook."""
    fields = typed(fields, "surrogateescape")  # refused below, where it is no text
    row = None if where is _Where.OWN else _by_agent(config_path, meant, fields)
    if row is not None:
        known = row if meant is None or meant.row is None else meant.row
        _show(row, verb, known["file"], as_json=as_json)
        return
    from agent.config.edit import Change  # noqa: PLC0415 - what the agent changes needs no tomlkit

    environ = environ_of(config_path, os.environ)
    if where is _Where.MANAGED:
        own = load_or_exit(config_path)[0].own
        target = Target.managed(config_path, managed_path(own, environ))
    else:
        target = Target.own(config_path, environ)
    name = "" if meant is None else meant.name
    org_id = (fields or {}).get("org_id") if meant is None else meant.org_id
    try:
        changed = change(
            target,
            Change(name, org_id, fields),
            partial(ask, config_path, "POST", "/v1/reload"),
            stays=lambda error: isinstance(error, ApiError) and error.code == "unreachable",
            not_put_back=say,
        )
    except ConfigError as error:
        exit_bad_config(said_to_outsiders(error, config_path))
    if changed.answer is None:
        echo_err(printable(f"written, and not in force yet: {changed.why_not}"))
    else:
        for key in changed.answer["needs_restart"]:
            echo_err(printable(f"{key} takes effect at the next start"))
    if fields is None:
        known_id = meant.row["id"] if meant is not None and meant.row is not None else None
        row = {"id": known_id, "name": name}
    else:
        name, org_id = fields.get("name", name), fields.get("org_id", org_id)
        running = _row(config_path, name, org_id) if changed.answer is not None else None
        row = running or _said(changed.config, name, org_id)
    _show(row, verb, str(target.path), as_json=as_json)


def _by_agent(
    config_path: Path, meant: _Meant | None, fields: dict[str, Any] | None
) -> Mapping[str, Any] | None:
    """The running agent changes its own file; the webhook's row. None: no agent answers."""
    if meant is not None and meant.row is None:
        return None  # no agent runs, or it has not loaded its file since that was edited by hand
    place = "/v1/webhooks" if meant is None else f"/v1/webhooks/{meant.id}"
    method = "DELETE" if fields is None else "POST" if meant is None else "PATCH"
    try:
        # A date is wrong anywhere; a text that is none must not become another one.
        body = json.dumps(fields, ensure_ascii=False, default=str)
        body.encode()
    except UnicodeEncodeError:
        raise EditError("a value is no valid Unicode text: write it anew") from None
    try:
        row: Mapping[str, Any] = ask(config_path, method, place, json.loads(body))
    except ApiError as error:
        if error.code == "unreachable" and may_ask(config_path):
            return None
        raise
    return row


def _show(row: Mapping[str, Any], verb: str, file: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(row, indent=2))
    else:
        shown = f" (id {row['id']})" if row["id"] is not None else ""
        click.echo(printable(f"webhook {row['name']!r}{shown} {verb} in {file}"))


def _may_write(path: Path) -> bool:
    """It is replaced by a new one, so its directory counts, too."""
    return os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)


def _said(config: Config, name: str, org_id: int | None) -> KnownWebhook:
    """Its row, by the file alone."""
    return next(
        row_of(config, webhook)
        for webhook in config.webhooks
        if webhook.name == name and org_id in {None, config.org_of(webhook)}
    )

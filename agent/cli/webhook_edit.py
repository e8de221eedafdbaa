"""`device-agent webhooks create|edit|delete|enable|disable`: what is wanted, and asked for."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import tomli

from agent.cli.common import config_option, load_or_exit
from agent.cli.webhook_change import Where, apply, kept_id, may_write, meant_by
from agent.config import Webhook
from agent.config.body import MAX_DEPTH, too_deep
from agent.config.mistakes import translated
from agent.config.model import PayloadFormat
from agent.model import DeviceState, Platform
from agent.text import meant_key, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_Command = TypeVar("_Command", bound="Callable[..., Any]")

EVENTS = tuple(str(state) for state in DeviceState)
_REQUIRED = ("name", "url", "events")
_PLACES = ("file", "env", "credential")
_LONGEST = 1_000_000
"""Characters of a body's file: far more than a body may have."""
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
        "--after",
        metavar="TIME",
        help="A state counts for it only once it has lasted so long: 10m, 90s; 0s: at once.",
    ),
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
        "--body-file",
        metavar="FILE",
        help="The body of payload custom, as JSON; - is standard input.",
    ),
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
    where = Where.OWN if may_write(config_path) else Where.AGENT
    where = Where.MANAGED if managed else where
    fields = {"id": id_, "org_id": org_id, "name": name, **_fields(options)}
    fields = {key: value for key, value in fields.items() if value is not None}
    missing = [key for key in _REQUIRED if key not in fields]
    if missing and _interactive():
        taken = [webhook.name for webhook in load_or_exit(config_path)[1].webhooks]
        fields |= _asked({}, taken, missing if fields else None)
    elif missing:
        raise click.UsageError(f"a webhook needs {', '.join(f'--{key}' for key in missing)}")
    fields = {key: fields[key] for key in Webhook.model_fields if key in fields}  # in their order
    apply(config_path, None, fields, "created", where=where, as_json=as_json)


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
    meant = meant_by(config_path, webhook, org_id)
    known = meant.fields
    if fields.get("payload", "custom") != "custom" and "body" in known:
        fields = {"body": None, **fields}  # of the payload that it had
    if not fields and _interactive():
        fields = _asked(known, (), None)
        if not fields:
            click.echo("nothing changed", err=True)
            return
    if not fields:
        raise click.UsageError("what is to change? Give at least one option")
    if fields.get("name", known["name"]) != known["name"] and "id" not in known | fields:
        fields |= kept_id(meant)
    apply(config_path, meant, fields, "changed", where=meant.where, as_json=as_json)


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
    meant = meant_by(config_path, webhook, org_id)
    if not yes:
        if not _interactive():
            raise click.UsageError("there is no terminal to ask at: say --yes")
        click.confirm(f"Delete webhook {meant.name!r}?", abort=True, err=True)
    apply(config_path, meant, None, "deleted", where=meant.where, as_json=as_json)


def _switch(name: str, text: str, *, enabled: bool) -> click.Command:
    @click.command(name, help=text)
    @config_option
    @click.argument("webhook", metavar="NAME|ID")
    @_ORG
    @_JSON
    def command(config_path: Path, webhook: str, org_id: int | None, *, as_json: bool) -> None:
        meant = meant_by(config_path, webhook, org_id)
        # Where it says nothing it is enabled, and the file stays as it is.
        fields = {} if enabled and "enabled" not in meant.fields else {"enabled": enabled}
        apply(config_path, meant, fields, f"{name}d", where=meant.where, as_json=as_json)

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
    body_file = options.pop("body_file")
    fields = {key: value for key, value in options.items() if value is not None}
    if body_file is not None:
        fields["body"] = _body(body_file)
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


def _body(file: str) -> Any:
    """What that file says, as JSON."""
    try:
        with click.open_file(file, encoding="utf-8-sig") as source:
            text = source.read(_LONGEST + 1)
    except OSError as error:
        raise click.UsageError(f"--body-file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"--body-file {file}: is not UTF-8 text") from None
    if len(text) > _LONGEST:
        raise click.UsageError(f"--body-file {file}: is longer than {_LONGEST} characters")
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{file}:{error.lineno}:{error.colno}"
        raise click.UsageError(f"--body-file: {place}: is no JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise click.UsageError(
            f"--body-file {file}: is no usable JSON: nested too deeply, or a number is too long"
        ) from None
    # What JSON can name, and nothing behind this can go through or encode.
    if too_deep(body):
        raise click.UsageError(
            f"--body-file {file}: body: nested too deeply: at most {MAX_DEPTH} tables and arrays "
            "in each other"
        )
    if whole(text := json.dumps(body, ensure_ascii=False)) != text:
        raise click.UsageError(f"--body-file {file}: holds half a character (a lone surrogate)")
    return body


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

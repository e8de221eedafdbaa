"""A webhook that a command is about, and a change of it: in its file, or by the running agent.

The operator's file is changed by this process, under its user's rights, for the agent never writes
it; then the running agent loads it. The agent's own file is changed by the agent, over its API.
Without an agent the file alone is changed.
"""

from __future__ import annotations

import json
import os
import sys
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.common import (
    BAD_CONFIG,
    ask,
    exit_bad_config,
    load_or_exit,
    may_ask,
    said_to_outsiders,
)
from agent.cli.out import echo_err, lines, printable, say
from agent.cli.webhook_rows import row_of
from agent.config import Webhook
from agent.config.change import Target, change
from agent.config.documents import managed_path
from agent.config.installed import environ_of
from agent.config.which import Named, which
from agent.errors import ApiError, ConfigError, EditError
from agent.wire.control import typed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.config.document import Document
    from agent.service.webhooks import KnownWebhook, WebhookRow


class Where(Enum):
    """Where a change is made."""

    OWN = "the operator's file"
    MANAGED = "the agent's own file: by the agent, or where none runs by this command"
    AGENT = "by the agent; where none runs it is the operator's file that cannot be written"


class Meant(NamedTuple):
    """Which webhook a command is about."""

    name: str
    org_id: int
    fields: dict[str, Any]
    """What its file says of it; where that may not be read by this user, what the agent shows."""
    id: int | None
    """None: only a running agent knows it."""
    where: Where
    row: WebhookRow | None
    """The running agent's; None: none runs, or it has not loaded it yet."""


def meant_by(config_path: Path, webhook: str, org_id: int | None) -> Meant:
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
    where = Where.OWN if document is documents.own else Where.MANAGED
    return Meant(meant.name, meant.org_id, fields, meant.id, where, shown)


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


def kept_id(meant: Meant) -> dict[str, Any]:
    """The id of a webhook that gets a new name, to be written into the file."""
    if meant.id is None:
        raise EditError(
            f"webhook {meant.name!r} has no id in the file, so a new name would make it "
            "another webhook and cancel what waits for it: start the agent first, which knows its "
            "id, or give it one with --set id=…"
        )
    return {"id": meant.id}


def apply(
    config_path: Path,
    meant: Meant | None,
    fields: dict[str, Any] | None,
    verb: str,
    *,
    where: Where,
    as_json: bool,
) -> None:
    """Change a file and what is in force, and say so. Meant: None for a new webhook."""
    fields = typed(fields, "surrogateescape")  # refused below, where it is no text
    row = None if where is Where.OWN else _by_agent(config_path, meant, fields)
    if row is not None:
        known = row if meant is None or meant.row is None else meant.row
        _show(row, verb, known["file"], as_json=as_json)
        return
    from agent.config.edit import Change  # noqa: PLC0415 - what the agent changes needs no tomlkit

    environ = environ_of(config_path, os.environ)
    if where is Where.MANAGED:
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
    config_path: Path, meant: Meant | None, fields: dict[str, Any] | None
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
        if error.code == "bad_config":  # as it would be said of the file by this command
            echo_err(lines(str(error)))
            sys.exit(BAD_CONFIG)
        raise
    return row


def _show(row: Mapping[str, Any], verb: str, file: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(row, indent=2))
    else:
        shown = f" (id {row['id']})" if row["id"] is not None else ""
        click.echo(printable(f"webhook {row['name']!r}{shown} {verb} in {file}"))


def may_write(path: Path) -> bool:
    """It is replaced by a new one, so its directory counts, too."""
    return os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)


def _said(config: Config, name: str, org_id: int | None) -> KnownWebhook:
    """Its row, by the file alone."""
    return next(
        row_of(config, webhook)
        for webhook in config.webhooks
        if webhook.name == name and org_id in {None, config.org_of(webhook)}
    )

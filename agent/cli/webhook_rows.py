"""Rows of webhooks as the API gives them; by the file alone where no agent runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.common import ask, load_or_exit, quoted
from agent.cli.out import echo_err, printable
from agent.config.which import Named, which
from agent.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config, Webhook
    from agent.service.webhooks import KnownDetail, KnownWebhook


def rows(config_path: Path) -> list[KnownWebhook]:
    """Of the running agent; else, said on stderr, what stands in the file."""
    try:
        found: list[KnownWebhook] = ask(config_path, "GET", "/v1/webhooks")["webhooks"]
    except ApiError as error:
        config = _in_file(config_path, error)
        return [row_of(config, webhook) for webhook in config.webhooks]
    return found


def detail(config_path: Path, name: str) -> KnownDetail:
    """Likewise one of them, with all that is set of it but for its secrets."""
    try:
        found: KnownDetail = ask(config_path, "GET", f"/v1/webhooks/{quoted(name)}")
    except ApiError as error:
        config = _in_file(config_path, error)
        from agent.service.webhooks import more_of  # noqa: PLC0415 - only without an agent

        named = [Named(each.name, each.id, config.org_of(each)) for each in config.webhooks]
        webhook = config.webhooks[which(name, named)]
        return {**row_of(config, webhook), **more_of(webhook)}
    return found


def _in_file(config_path: Path, error: ApiError) -> Config:
    """What it says, where no agent runs; any other error is raised on."""
    if error.code != "unreachable":
        raise error
    echo_err(printable(f"as the file says: {error}"))
    return load_or_exit(config_path)[1]


def row_of(config: Config, webhook: Webhook) -> KnownWebhook:
    """The same keys, as far as the file knows them."""
    from agent.service.webhooks import settings_row  # noqa: PLC0415 - only without an agent

    return {
        "id": webhook.id,
        **settings_row(webhook, config),
        "status": "no agent runs" if webhook.enabled else "disabled",
    }

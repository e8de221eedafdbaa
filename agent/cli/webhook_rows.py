"""Rows of webhooks as the API gives them; by the file alone where no agent runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.common import ask, load_or_exit
from agent.cli.out import echo_err, printable
from agent.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config, Webhook
    from agent.service.webhooks import KnownWebhook


def rows(config_path: Path) -> list[KnownWebhook]:
    """Of the running agent; else, said on stderr, what stands in the file."""
    try:
        found: list[KnownWebhook] = ask(config_path, "GET", "/v1/webhooks")["webhooks"]
    except ApiError as error:
        if error.code != "unreachable":
            raise
        echo_err(printable(f"as the file says: {error}"))
        _, config = load_or_exit(config_path)
        return [row_of(config, webhook) for webhook in config.webhooks]
    return found


def row_of(config: Config, webhook: Webhook) -> KnownWebhook:
    """The same keys, as far as the file knows them."""
    from agent.service.webhooks import settings_row  # noqa: PLC0415 - only without an agent

    return {
        "id": webhook.id,
        **settings_row(webhook, config),
        "status": "no agent runs" if webhook.enabled else "disabled",
    }

"""What a reload replaces, in one place that everybody looks at anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import UnknownWebhookError
from agent.text import meant_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config, Webhook


@dataclass(slots=True)
class Live:
    """The configuration in force."""

    config: Config
    environ: Mapping[str, str]
    webhooks: Mapping[int, Webhook]
    """By id, each with its id filled in."""

    def webhook_id(self, text: str) -> int:
        """The webhook meant, by name or id.

        Raises:
            UnknownWebhookError: none is, or more than one: a name in two organisations, or one that
                is another's id. The message names them, or the nearest.
        """
        webhooks = self.webhooks
        meant = [id_ for id_ in webhooks if text in {webhooks[id_].name, str(id_)}]
        if len(meant) == 1:
            return meant[0]
        if meant:
            shown = " or ".join(self._called(id_, text) for id_ in meant)
            raise UnknownWebhookError(f"{text!r} may be {shown}")
        names = [webhook.name for webhook in webhooks.values()]
        hint = meant_names(text, names, "none is configured")
        raise UnknownWebhookError(f"no webhook {text!r}: {hint}")

    def _called(self, id_: int, text: str) -> str:
        """By what it can be asked for, where `text` says too little."""
        webhook = self.webhooks[id_]
        org = f"of organisation {self.config.org_of(webhook)}"
        by = f"say {webhook.name!r}" if text != webhook.name else f"say its id {id_}"
        return f"webhook {webhook.name!r} (id {id_}) {org}: {by}"

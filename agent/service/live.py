"""What a reload replaces, in one place that everybody looks at anew."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import UnknownWebhookError

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
        """The webhook meant, by name or id. Raises UnknownWebhookError, which names the nearest."""
        for id_, webhook in self.webhooks.items():
            if text in {webhook.name, str(id_)}:
                return id_
        names = [webhook.name for webhook in self.webhooks.values()]
        near = difflib.get_close_matches(text, names, n=2, cutoff=0.4) or names[:5]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "none is configured"
        raise UnknownWebhookError(f"no webhook {text!r}: {hint}")

"""What a reload replaces, in one place that everybody looks at anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config.which import Named, which

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
        """The webhook meant, by name or id; raises as `which`."""
        named = [
            Named(webhook.name, id_, self.config.org_of(webhook))
            for id_, webhook in self.webhooks.items()
        ]
        return list(self.webhooks)[which(text, named)]

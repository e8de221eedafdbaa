"""Which webhook somebody means, who says its name or its id. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.errors import UnknownWebhookError
from agent.text import meant_names

if TYPE_CHECKING:
    from collections.abc import Sequence


class Named(NamedTuple):
    """What a webhook can be asked for by."""

    name: str
    id: int | None
    """None: only the agent knows it."""
    org_id: int


def which(
    text: str,
    webhooks: Sequence[Named],
    *,
    in_file: bool = False,
    by_org: str = "give it an id in the file",
) -> int:
    """The index of the webhook that is meant.

    Args:
        text: its name or its id.
        webhooks: those that it may be.
        in_file: they are what the file says, not what is in force.
        by_org: how to say which, where nothing but the organisation tells two apart.

    Raises:
        UnknownWebhookError: none is meant, or more than one: a name in two organisations, or one
            that is another's id. The message names them, or the nearest.
    """
    meant = [index for index, each in enumerate(webhooks) if text in {each.name, str(each.id)}]
    if len(meant) == 1:
        return meant[0]
    if meant:
        shown = " or ".join(_called(webhooks[index], text, by_org) for index in meant)
        raise UnknownWebhookError(f"{text!r} may be {shown}")
    none = "it has none" if in_file else "none is configured"
    hint = meant_names(text, [each.name for each in webhooks], none)
    raise UnknownWebhookError(f"no webhook {text!r}{' in the file' if in_file else ''}: {hint}")


def _called(webhook: Named, text: str, by_org: str) -> str:
    """By what it can be asked for, where `text` says too little."""
    id_ = "" if webhook.id is None else f" (id {webhook.id})"
    if text != webhook.name:
        by = f"say {webhook.name!r}"
    elif webhook.id is not None:
        by = f"say its id {webhook.id}"
    else:
        by = by_org
    return f"webhook {webhook.name!r}{id_} of organisation {webhook.org_id}: {by}"

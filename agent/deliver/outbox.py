"""From a transition to its callbacks: one for each webhook that wants it. Pure, but for their ids.

Whether a transition calls back at all is not asked here: that is `track.derive`'s table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.deliver.payload import new_message_id, render
from agent.deliver.route import wants
from agent.model import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.config import Webhook
    from agent.model import Device, Transition


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one transition."""

    callbacks: tuple[Callback, ...] = ()
    failed: tuple[tuple[str, Exception], ...] = ()
    """Webhooks, by name, whose callback could not be made, and why."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The webhooks in force, and what each is sent."""

    webhooks: Mapping[int, Webhook]
    """By id."""
    org_of: Callable[[Webhook], int]
    host: str
    """This host's name, for payloads that carry it."""
    direct: Mapping[int, Webhook] = field(init=False)
    """Those that are told of a state as soon as it counts."""
    after: Mapping[int, float] = field(init=False)
    """Those that wait, and how many seconds it must have lasted."""

    def __post_init__(self) -> None:
        """Once for each reload, not for each transition."""
        direct = {id_: each for id_, each in self.webhooks.items() if not each.after}
        after = {id_: each.after for id_, each in self.webhooks.items() if each.after}
        object.__setattr__(self, "direct", direct)
        object.__setattr__(self, "after", after)

    def make(
        self,
        transition: Transition,
        device: Device,
        some: Collection[int] | None,
        message_id: Callable[[int], str] = lambda _: new_message_id(),
    ) -> Made:
        """A callback for every webhook that wants it; a mistake in one costs that one alone.

        Args:
            transition: what is told.
            device: as it is told of.
            some: only these, by id; None: all that do not wait.
            message_id: of the one for the webhook of that id.
        """
        webhooks = self.direct
        if some is not None:
            webhooks = {each: self.webhooks[each] for each in some if each in self.webhooks}
        callbacks, failed = [], []
        for webhook_id, webhook in webhooks.items():
            try:
                if wants(webhook, device, transition.state):
                    callbacks.append(
                        self._callback(
                            transition, device, webhook_id, webhook, message_id(webhook_id)
                        )
                    )
            except Exception as error:  # noqa: BLE001 - told by the caller
                failed.append((webhook.name, error))
        return Made(tuple(callbacks), tuple(failed))

    def _callback(
        self,
        transition: Transition,
        device: Device,
        webhook_id: int,
        webhook: Webhook,
        message_id: str,
    ) -> Callback:
        body, headers = render(
            transition,
            device,
            webhook,
            org_id=self.org_of(webhook),
            message_id=message_id,
            created_ms=transition.at_ms,
            host=device.host or self.host,
        )
        return Callback(
            message_id,
            webhook_id,
            device.udid,
            transition.at_ms,
            body,
            headers,
            state=transition.state,
        )

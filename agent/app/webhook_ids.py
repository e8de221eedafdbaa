"""Which id each webhook has: given once by the store, kept for its name, never used twice."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from agent.errors import StartError, StoreError

if TYPE_CHECKING:
    from agent.config import Config, Webhook
    from agent.service.live import Live
    from agent.store import Store
    from agent.tasks import Tasks

log = structlog.get_logger(__name__)

ID_LIMIT = 5.0
"""Seconds to wait for the store to give new webhooks their ids."""


class WebhookIds:
    """Asks the store for ids, and tells it which webhooks are in force.

    Args:
        store: where ids and names are kept.
        live: what is in force.
        tasks: for what the store may take its time for.
    """

    def __init__(self, store: Store, live: Live, tasks: Tasks) -> None:
        self._store = store
        self._live = live
        self._tasks = tasks

    async def identify(self, config: Config) -> dict[int, Webhook]:
        """The webhooks by id; those without one get theirs, once and for ever.

        Raises:
            StartError: the store cannot tell in time.
            AgentError: an id is another webhook's.
        """
        wanted = [(config.org_of(w), w.name, w.id) for w in config.webhooks]
        try:
            async with asyncio.timeout(ID_LIMIT):
                ids = await self._store.webhooks.ids(wanted)
        except TimeoutError:
            why = self._store.health.error or "the disk is too slow"
            self._tasks.finish("names of webhooks", self._keep)
            raise StartError(f"new webhooks need ids, which cannot be stored now: {why}") from None
        return {
            id_: webhook.model_copy(update={"id": id_})
            for id_, webhook in zip(ids, config.webhooks, strict=True)
        }

    def in_force(self) -> list[tuple[int, str, int | None]]:
        """(organisation, name, id) of the webhooks in force, as the store takes them."""
        org_of = self._live.config.org_of
        return [
            (org_of(webhook), webhook.name, id_) for id_, webhook in self._live.webhooks.items()
        ]

    def cancel_deleted(self) -> None:
        """Cancel what waits for webhooks that are gone; a failing disk may take its time.

        What is in force counts from this very call on.
        """
        cancelling = self._store.webhooks.retain(self._live.webhooks)

        async def tell() -> None:
            try:
                cancelled = await cancelling
            except StoreError as error:
                log.error("webhooks.not_cancelled", error=str(error))  # noqa: TRY400 - says it all
                return
            if cancelled:
                log.warning(
                    "webhooks.cancelled", callbacks=cancelled, hint="their webhooks are gone"
                )

        self._tasks.finish("cancelling for webhooks that are gone", tell)

    async def _keep(self) -> None:
        """Ids that were asked for in vain may still be stored, with new names: undone behind it."""
        with contextlib.suppress(StoreError):  # then neither was stored
            await self._store.webhooks.ids(self.in_force())

"""Webhooks made, changed and deleted by the API: in the agent's own file, and in force at once.

Those of the operator's file are never changed here: whoever asks is told where they stand.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypedDict

import structlog

from agent.errors import AgentError, CannotWriteError, EditError, ProvisionedError, StartError
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.config import Webhook
    from agent.config.change import Changed
    from agent.config.file import ConfigFile
    from agent.service.live import Live
    from agent.service.rows import Json

log = structlog.get_logger(__name__)


class DeletedWebhook(TypedDict):
    """Which webhook is gone."""

    id: int
    name: str


class WebhookEditor:
    """Changes the agent's own file, then reloads; where that fails, the file is as it was.

    Args:
        file: the configuration's files; None: this agent has none.
        live: what is in force.
        reload: loads the file.
    """

    def __init__(
        self, file: ConfigFile | None, live: Live, reload: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        self._file = file
        self._live = live
        self._reload = reload
        self._lock = asyncio.Lock()

    async def create(self, fields: Json) -> int:
        """A new webhook, in the agent's own file; its id. Raises as `change`, and as a reload."""
        if not isinstance(fields.get("name"), str) or not fields["name"]:
            raise EditError("a new webhook needs a name")
        await self._apply(fields=fields)
        return self._id_of(fields["name"], fields.get("org_id"))

    async def edit(self, name: str, fields: Json) -> int:
        """Set keys of a webhook (null: back to the default); its id. Raises likewise.

        ProvisionedError: it is one of the operator's file.
        One that gets a new name keeps its id, and so what waits for it.
        """
        id_ = self._live.webhook_id(name)
        old = self._mine(id_)
        if fields.get("name", old.name) != old.name or "org_id" in fields:
            fields = {"id": id_, **fields}
        await self._apply(old.name, self._live.config.org_of(old), fields)
        return self._id_of(fields.get("name", old.name), fields.get("org_id", old.org_id))

    async def delete(self, name: str) -> DeletedWebhook:
        """Delete a webhook, and cancel what waits for it; what it was. Raises likewise."""
        id_ = self._live.webhook_id(name)
        old = self._mine(id_)
        await self._apply(old.name, self._live.config.org_of(old))
        return {"id": id_, "name": old.name}

    async def _apply(
        self, name: str = "", org_id: int | None = None, fields: Json | None = None
    ) -> None:
        """One `Change`, to its end: a client that hangs up meanwhile leaves no half of it."""
        file, managed = self._file, None if self._file is None else self._file.managed
        if file is None or managed is None:
            raise CannotWriteError("this agent runs without a configuration file")
        loop = asyncio.get_running_loop()

        def load() -> None:
            try:
                asyncio.run_coroutine_threadsafe(self._reload(), loop).result()
            except CancelledError:  # no asyncio.CancelledError: this is a thread
                raise StartError("the agent stopped before it was in force") from None

        def work() -> Changed[None]:
            # Few agents are edited, and what that needs takes longer than the loop may wait.
            from agent.config.change import Target, change  # noqa: PLC0415 - see above
            from agent.config.edit import Change  # noqa: PLC0415 - see above

            emptied = file.emptied(file.look())
            if emptied is not None:  # a change of it would put that in force, too
                raise emptied
            target = Target.managed(file.path, managed)
            wanted = Change(name, org_id, fields)
            return change(target, wanted, load, stays=_never, not_put_back=_say_not_put_back)

        async with self._lock:
            changed = await in_thread(work, "change config")
            log.info(
                "config.written",
                file=str(changed.file),
                webhook=name or str((fields or {}).get("name")),
            )

    def _mine(self, id_: int) -> Webhook:
        webhook = self._live.webhooks[id_]
        origin = self._live.config.origin_of(webhook)
        if origin is not None and not origin.managed:
            raise ProvisionedError(
                f"webhook {webhook.name!r} stands in {origin}, which the API never changes: change "
                "it there, or with 'device-agent webhooks' on the agent's host"
            )
        return webhook

    def _id_of(self, name: str, org_id: int | None) -> int:
        live = self._live
        org_id = live.config.agent.org_id if org_id is None else org_id
        return next(
            id_
            for id_, webhook in live.webhooks.items()
            if (webhook.name, live.config.org_of(webhook)) == (name, org_id)
        )


def _never(_error: AgentError) -> bool:
    return False


def _say_not_put_back(error: CannotWriteError) -> None:
    log.error("config.not_put_back", error=str(error))

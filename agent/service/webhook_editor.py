"""Webhooks made, changed and deleted by the API: in the file, and in force before it answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypedDict

import structlog

from agent.config.file import FileChanger
from agent.errors import AgentError, CannotWriteError, EditError, FileBusyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.config.edit import Change
    from agent.service.live import Live
    from agent.service.rows import Json

log = structlog.get_logger(__name__)


class DeletedWebhook(TypedDict):
    """Which webhook is gone."""

    id: int
    name: str


class WebhookEditor:
    """Changes the file, then reloads; where that fails, the file is as it was.

    Args:
        path: the file; None: this agent has none.
        live: what is in force.
        reload: loads the file.
    """

    def __init__(
        self, path: Path | None, live: Live, reload: Callable[[], Awaitable[object]]
    ) -> None:
        self._path = path
        self._live = live
        self._reload = reload
        self._lock = asyncio.Lock()

    async def create(self, fields: Json) -> int:
        """A new webhook; its id. Raises as `FileChanger`, and what a reload raises."""
        from agent.config.edit import Change  # noqa: PLC0415 - tomlkit is 5 MB few agents need

        if not isinstance(fields.get("name"), str) or not fields["name"]:
            raise EditError("a new webhook needs a name")
        await self._apply(Change(fields=fields))
        return self._id_of(fields["name"], fields.get("org_id"))

    async def edit(self, name: str, fields: Json) -> int:
        """Set keys of a webhook (null: back to the default); its id. Raises likewise.

        One that gets a new name keeps its id, and so what waits for it.
        """
        from agent.config.edit import Change  # noqa: PLC0415 - as above

        id_ = self._live.webhook_id(name)
        old = self._live.webhooks[id_]
        if fields.get("name", old.name) != old.name or "org_id" in fields:
            fields = {"id": id_, **fields}
        await self._apply(Change(old.name, self._live.config.org_of(old), fields))
        return self._id_of(fields.get("name", old.name), fields.get("org_id", old.org_id))

    async def delete(self, name: str) -> DeletedWebhook:
        """Delete a webhook, and cancel what waits for it; what it was. Raises likewise."""
        from agent.config.edit import Change  # noqa: PLC0415 - as above

        id_ = self._live.webhook_id(name)
        old = self._live.webhooks[id_]
        await self._apply(Change(old.name, self._live.config.org_of(old)))
        return {"id": id_, "name": old.name}

    async def _apply(self, wanted: Change) -> None:
        if self._path is None:
            raise CannotWriteError("this agent runs without a configuration file")
        async with self._lock:
            try:
                file = await asyncio.to_thread(FileChanger.open, self._path)
                with file:
                    await asyncio.to_thread(file.change, wanted)
                    await self._load(file)
            except FileBusyError:
                raise
            except CannotWriteError as error:
                raise CannotWriteError(
                    f"the agent may not do that ({error.why}): 'device-agent webhooks', run on its "
                    "host by who may write the file, does it"
                ) from None
            log.info("config.written", file=str(file.real), webhook=_name(wanted))

    async def _load(self, file: FileChanger) -> None:
        try:
            await self._reload()
        except AgentError:
            try:
                await asyncio.to_thread(file.put_back)
            except CannotWriteError as error:
                log.error("config.not_put_back", error=str(error))  # noqa: TRY400 - says it all
            else:
                # What is in force stays so, and the file is known to say the same again.
                with contextlib.suppress(AgentError):  # said in the log
                    await self._reload()
            raise

    def _id_of(self, name: str, org_id: int | None) -> int:
        live = self._live
        org_id = live.config.agent.org_id if org_id is None else org_id
        return next(
            id_
            for id_, webhook in live.webhooks.items()
            if (webhook.name, live.config.org_of(webhook)) == (name, org_id)
        )


def _name(wanted: Change) -> str:
    return wanted.name or str((wanted.fields or {}).get("name"))

"""A host's side of the wire, as short as can be: a `SimHost` that a hub follows over a broker."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from agent.fleet import subjects
from agent.fleet.link import LinkError
from agent.fleet.words import Ack, Since, SinceAnswer, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.config.model import Fleet
    from agent.fleet.link import Dial, Incoming, Link
    from tests.fleet.world import SimHost

BEAT = 0.2


class AgentSide:
    """Says what its host does; appends each row of its log once, unless `silent`."""

    def __init__(self, host: SimHost, fleet: Fleet, dial: Dial) -> None:
        self.host = host
        self.fleet = fleet
        self.acked = 0
        self.sent = 0
        self.snapshots = 0
        """That it was asked for."""
        self.asked = 0
        """For its log."""
        self.silent = False
        """Its log does not go into the stream: the hub has to ask."""
        self.news = asyncio.Event()
        self._dial = dial
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(LinkError):
                link = await self._dial(self.fleet)
                try:
                    await self._serve(link)
                finally:
                    await link.close()
            await asyncio.sleep(0.1)

    async def _serve(self, link: Link) -> None:
        name = self.host.name
        await link.subscribe(subjects.ack(name), self._on_ack)
        await link.subscribe(subjects.since(name), partial(self._on_question, self._since))
        await link.subscribe(subjects.snapshot(name), partial(self._on_question, self._snapshot))
        self.sent = self.acked
        while True:
            await link.publish(subjects.beat(name), pack(self.host.beat))
            await link.put(subjects.HOSTS, name, pack(self.host.snapshot))
            for told in () if self.silent else self.host.log[self.sent :]:
                await link.append(
                    subjects.t(name), pack(told), f"{name}:{self.host.epoch}:{told.id}"
                )
                self.sent = told.id
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self.news.wait()

    def _on_ack(self, message: Incoming) -> None:
        ack = unpack(Ack, message.body, message.subject)
        if ack.epoch == self.host.epoch:
            self.acked = max(self.acked, ack.through)

    def _on_question(
        self, answer: Callable[[Incoming], Coroutine[None, None, None]], message: Incoming
    ) -> None:
        task = asyncio.ensure_future(answer(message))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _since(self, message: Incoming) -> None:
        self.asked += 1
        asked = unpack(Since, message.body, message.subject)
        log = self.host.log
        rows = tuple(log[asked.after :][: asked.limit]) if asked.epoch == self.host.epoch else ()
        assert message.reply is not None
        await message.reply(
            pack(SinceAnswer(epoch=self.host.epoch, last=len(log), transitions=rows))
        )

    async def _snapshot(self, message: Incoming) -> None:
        self.snapshots += 1
        assert message.reply is not None
        await message.reply(pack(self.host.snapshot))

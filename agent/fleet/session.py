"""What an agent does over one connection to the fleet's broker, from its name to its loss."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent import __version__
from agent.errors import StoreError
from agent.fleet import subjects
from agent.fleet.backoff import Backoff, sleep
from agent.fleet.claim import NameTakenError, loses_to, yields_to
from agent.fleet.commands import Commands
from agent.fleet.link import LinkError, NoAnswerError, NobodyError
from agent.fleet.telling import device_told, down_of, transition_told
from agent.fleet.window import Window
from agent.fleet.words import (
    Ack,
    BadMessageError,
    Heartbeat,
    Holder,
    HostSnapshot,
    Since,
    SinceAnswer,
    Who,
    pack,
    unpack,
)
from agent.model import Visibility
from agent.tasks import kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from agent.clock import Timer
    from agent.fleet.link import Incoming, Link
    from agent.fleet.own import Own
    from agent.fleet.standing import Standing
    from agent.fleet.words import DeviceTold, TransitionTold, Word
    from agent.store.tables.log import LogRow, LogState

log = structlog.get_logger(__name__)

BEAT_EVERY: Final = 5.0
"""Seconds."""
SNAPSHOT_EVERY: Final = 1.0
"""Seconds between two snapshots, at least."""
SNAPSHOT_SHARE: Final = 0.05
"""Of all time, for making them: where thousands of phones change on and on, they are fewer."""
SNAPSHOT_LATEST: Final = 5.0
"""Seconds between two snapshots, at most, for that."""
BATTERIES_LATER: Final = 30.0
"""Seconds until batteries that changed are told, if nothing else was: a thousand phones that charge
make news in every second, for which all of them would be told each time."""
ACK_EVERY: Final = 0.2
"""Seconds between two acknowledgements that are stored, at least: the last one stands for all."""
WHO_LIMIT: Final = 0.5
"""Seconds for another agent of our name to say so; see `claim` for one that is slower."""
ROWS: Final = 200
"""Rows of the log that are read at once."""
ASKED: Final = 50
"""Requests of hubs under way."""
ANSWER: Final = 900_000
"""Bytes of an answer: the broker takes 1 MB."""
SLICE: Final = 50
"""Devices told in one turn of the loop."""
STORE_LIMIT: Final = 1.0
"""Seconds that a heartbeat waits for the store to say where the log stands."""


class Session:
    """One connection. To be run once.

    Args:
        link: fresh.
        own: what to tell, and whom commands go to.
        standing: noted there.
        instance: random, of this process.
        boot: of the host's kernel.
    """

    def __init__(self, link: Link, own: Own, standing: Standing, instance: str, boot: str) -> None:
        self._link = link
        self._own = own
        self._standing = standing
        self._host = standing.host
        self._instance = instance
        self._boot = boot
        self._grew = asyncio.Event()
        """The log may have grown, or may be sent."""
        self._dirty = asyncio.Event()
        """The last snapshot may be out of date."""
        self._holding = False
        self._batteries: Timer | None = None
        """Until changed batteries are told."""
        self._contested: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once another agent is heard that keeps our name."""
        state = standing.log
        assert state is not None
        self._state = state
        self._window = Window(state.acked or 0)
        self._stalled = Backoff(own.clock)
        self._ack: Ack | None = None
        self._acked = asyncio.Event()
        self._told = asyncio.Event()
        """The first snapshot is out, or could not be."""
        self._commands = Commands(own, standing.bad)
        self._asked: set[asyncio.Task[Any]] = set()
        self._appends: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Take the name, then tell and answer until the connection is lost.

        Raises:
            NameTakenError: another agent is called so.
            LinkError: the connection is lost, or of no use.
        """
        await self._claim()
        host, subscribe = self._host, self._link.subscribe
        await subscribe(subjects.ack(host), self._on_ack)
        await subscribe(subjects.since(host), self._on_since)
        await subscribe(subjects.snapshot(host), self._on_snapshot)
        await subscribe(subjects.cancel(host), self._commands.cancel)
        await subscribe(subjects.command(host), self._commands.take)
        self._standing.connected()
        log.info("fleet.connected", host=host, unacked=self._state.unsent)
        self._dirty.set()
        works = [self._beat(), self._snapshots(), self._append(), self._store_acks()]
        tasks = [asyncio.ensure_future(work) for work in works]
        tasks += [asyncio.ensure_future(self._end_of_link())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            if self._batteries is not None:
                self._batteries.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)

    def log_grew(self) -> None:
        """Transitions are stored that were not."""
        self._grew.set()

    def devices_changed(self) -> None:
        """Devices, leases or silences may be others."""
        self._dirty.set()

    def batteries_changed(self) -> None:
        """Nothing but their batteries may be."""
        if self._batteries is None:
            self._batteries = self._own.clock.call_later(BATTERIES_LATER, self._tell_batteries)

    def _tell_batteries(self) -> None:
        self._batteries = None
        self._dirty.set()

    async def close(self, limit: float) -> None:
        """What is under way goes out, within that time; what waits for a device is withdrawn."""
        for task in self._asked:
            task.cancel()
        await self._commands.close(limit / 2)
        if self._appends:
            await asyncio.wait(self._appends, timeout=limit / 2)
        for task in self._appends:
            task.cancel()

    async def _end_of_link(self) -> None:
        lost = asyncio.ensure_future(self._link.lost())
        try:
            either: set[asyncio.Future[Any]] = {lost, self._contested}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not lost.done():
                raise NameTakenError(self._host)
            raise LinkError(lost.result())
        finally:
            lost.cancel()

    # --- the name --------------------------------------------------------------------------

    async def _claim(self) -> None:
        """See `agent.fleet.claim`."""
        await self._ask_who()
        await self._link.subscribe(subjects.who(self._host), self._on_who)
        try:
            await self._link.subscribe(subjects.beat(self._host), self._on_beat)
        except LinkError as error:  # permissions without it do, but for rare conflicts of names
            log.warning("fleet.not_heard", reason=str(error))
        await self._ask_who()
        if self._contested.done():
            raise NameTakenError(self._host)
        self._holding = True

    async def _ask_who(self) -> None:
        subject = subjects.who(self._host)
        try:
            body = await self._link.request(subject, pack(Who(instance=self._instance)), WHO_LIMIT)
            holder = unpack(Holder, body, subject)
        except NobodyError:
            return
        except NoAnswerError:
            return  # of a connection that the broker has not yet found dead; or only we hear it
        except BadMessageError as error:
            self._standing.bad(str(error))
            return
        if loses_to(self._instance, holder):
            raise NameTakenError(self._host)

    def _on_who(self, message: Incoming) -> None:
        try:
            who = unpack(Who, message.body, message.subject)
        except BadMessageError as error:
            self._standing.bad(str(error))
            return
        if who.instance != self._instance and message.reply is not None:
            self._answer(message.reply, Holder(instance=self._instance, holding=self._holding))

    def _on_beat(self, message: Incoming) -> None:
        try:
            heard = unpack(Heartbeat, message.body, message.subject)
        except BadMessageError as error:
            self._standing.bad(str(error))
            return
        contested = yields_to(self._instance, heard, holding=self._holding)
        if contested and not self._contested.done():
            self._contested.set_result(None)

    # --- what is told ----------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(STORE_LIMIT):
                    self._saw(await self._own.log.state())
            beat = Heartbeat(
                host=self._host,
                epoch=self._state.epoch,
                instance=self._instance,
                last=self._state.newest,
                version=__version__,
                number=round(self._own.clock.monotonic() * 1000),
                down=down_of(self._own.sights()),
            )
            await self._link.publish(subjects.beat(self._host), pack(beat))
            self._standing.look()
            await sleep(self._own.clock, BEAT_EVERY)

    async def _snapshots(self) -> None:
        pause = Backoff(self._own.clock)
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            began = self._own.clock.monotonic()
            wait = SNAPSHOT_EVERY
            try:
                snapshot = await self._snapshot()
                took = self._own.clock.monotonic() - began
                wait = min(max(wait, took / SNAPSHOT_SHARE), SNAPSHOT_LATEST)
                body = await asyncio.to_thread(pack, snapshot)
                await self._link.put(subjects.HOSTS, self._host, body)
            except (LinkError, StoreError) as error:
                self._standing.stream(str(error))
                self._dirty.set()
                wait = max(wait, pause.pause())
            else:
                pause.reset()
                self._standing.snapshot(len(body))
            self._told.set()
            await sleep(self._own.clock, wait)

    async def _snapshot(self) -> HostSnapshot:
        found = await self._own.log.snapshot()
        self._saw(found.state)
        devices: list[DeviceTold] = []
        for number, (record, event) in enumerate(found.devices, start=1):
            now_ms = self._own.clock.wall_ms()
            told = device_told(record, event, self._own.devices, now_ms)
            if told.visibility is not Visibility.IGNORE:
                devices.append(told)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return HostSnapshot(
            host=self._host,
            epoch=found.state.epoch,
            instance=self._instance,
            boot=self._boot,
            through=found.state.newest,
            check=found.check,
            version=__version__,
            devices=tuple(devices),
            leases=tuple(dict(row) for row in self._own.leases.rows()),
            silences=tuple(dict(row) for row in self._own.silences.rows()),
        )

    async def _append(self) -> None:
        """Everything behind what is acknowledged, then all that comes."""
        await self._told.wait()
        while True:
            self._grew.clear()
            window = self._window
            if window.stalled:
                await sleep(self._own.clock, self._stalled.pause())
                window.resume()
            if not window.room or not await self._append_some(window):
                await self._grew.wait()

    async def _append_some(self, window: Window) -> bool:
        """Whether there may be more to append at once."""
        try:
            found = await self._own.log.after(window.position, min(ROWS, window.room))
        except StoreError as error:
            log.debug("fleet.store", error=str(error))
            await sleep(self._own.clock, self._stalled.pause())
            return True
        self._saw(found.state)
        if window is not self._window:
            return True  # of another epoch
        if found.hole:
            window.skip(found.first - 1)
            return True
        for row in found.rows:
            if not window.begin(row.stored.id):
                continue
            task = asyncio.ensure_future(self._append_one(window, found.state.epoch, row))
            self._appends.add(task)
            task.add_done_callback(self._appends.discard)
        return bool(found.rows)

    async def _append_one(self, window: Window, epoch: int, row: LogRow) -> None:
        id_ = row.stored.id
        try:
            told = self._transition(epoch, row)
            subject = subjects.t(self._host)
            await self._link.append(subject, pack(told), f"{self._host}:{epoch}:{id_}")
        except LinkError as error:
            window.failed(id_)
            self._standing.stream(str(error))
        except Exception as error:
            log.exception("fleet.append_failed", transition=id_)
            window.failed(id_)
            self._standing.stream(f"internal error ({kind_of(error)}): see the log")
        else:
            window.done(id_)
            self._stalled.reset()
            self._standing.stream("")
        finally:
            self._grew.set()

    def _transition(self, epoch: int, row: LogRow) -> TransitionTold:
        now_ms = self._own.clock.wall_ms()
        return transition_told(self._host, epoch, row, self._own.devices, now_ms)

    def _saw(self, state: LogState) -> None:
        """The log stands so; where it was made anew, all begins anew."""
        before, self._state = self._state, state
        self._standing.saw(state)
        if state.epoch != before.epoch:
            log.warning("fleet.new_epoch", hint="the store was made anew, or an older one put back")
            self._window = Window(state.acked or 0)
            self._dirty.set()
            self._grew.set()

    # --- what is heard ---------------------------------------------------------------------

    def _on_ack(self, message: Incoming) -> None:
        try:
            ack = unpack(Ack, message.body, message.subject)
        except BadMessageError as error:
            self._standing.bad(str(error))
            return
        if ack.epoch != self._state.epoch:
            return
        self._standing.acked()
        known = self._ack
        if known is None or known.epoch != ack.epoch or ack.through > known.through:
            self._ack = ack
            self._acked.set()

    async def _store_acks(self) -> None:
        while True:
            await self._acked.wait()
            self._acked.clear()
            ack = self._ack
            assert ack is not None
            try:
                state = await self._own.log.acknowledge(ack.epoch, ack.through, ack.check)
            except StoreError as error:  # the next one comes
                log.debug("fleet.store", error=str(error))
            else:
                self._saw(state)
                self._window.acked(state.acked or 0)
            self._standing.look()
            await sleep(self._own.clock, ACK_EVERY)

    def _on_since(self, message: Incoming) -> None:
        try:
            since = unpack(Since, message.body, message.subject)
        except BadMessageError as error:
            self._standing.bad(str(error))
            return
        if message.reply is not None:
            self._ask(self._answer_since(since, message.reply))

    async def _answer_since(self, since: Since, reply: Callable[[bytes], Awaitable[None]]) -> None:
        with suppress(LinkError, StoreError):  # the hub asks again
            found = await self._own.log.after(since.after, since.limit)
            if since.after > found.state.newest or since.check not in {0, found.check}:
                # It may have what this store never told.
                self._saw(await self._own.log.compare(since.epoch, since.after, since.check))
                found = await self._own.log.after(since.after, since.limit)
            epoch = found.state.epoch
            same = since.epoch == epoch
            told: list[TransitionTold] = []
            for number, row in enumerate(found.rows if same else (), start=1):
                told.append(self._transition(epoch, row))
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            while True:
                answer = SinceAnswer(
                    epoch=epoch,
                    last=found.state.newest,
                    hole=same and found.hole,
                    transitions=tuple(told),
                )
                body = await asyncio.to_thread(pack, answer)
                if len(body) <= ANSWER or len(told) <= 1:
                    break
                del told[len(told) // 2 :]
            await reply(body)

    def _on_snapshot(self, message: Incoming) -> None:
        if message.reply is not None:
            self._ask(self._answer_snapshot(message.reply))

    async def _answer_snapshot(self, reply: Callable[[bytes], Awaitable[None]]) -> None:
        with suppress(LinkError, StoreError):  # likewise
            await reply(await asyncio.to_thread(pack, await self._snapshot()))

    def _answer(self, reply: Callable[[bytes], Awaitable[None]], word: Word) -> None:
        async def work() -> None:
            with suppress(LinkError):
                await reply(pack(word))

        self._ask(work())

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._asked) >= ASKED:
            work.close()  # they ask again
            return
        task = asyncio.get_running_loop().create_task(work, name="fleet request")
        self._asked.add(task)
        task.add_done_callback(self._asked_ended)

    def _asked_ended(self, task: asyncio.Task[Any]) -> None:
        self._asked.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fleet.request_failed", exc_info=error)

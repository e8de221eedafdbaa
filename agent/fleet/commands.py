"""What operators at the hub want of this agent's phones: done here, answered there.

The agent decides: the same desks answer as for its own API, with the same errors. A command that is
withdrawn, or whose answer can reach nobody, leaves no lease behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.errors import AgentError, BadRequestError, BusyError, UnknownLeaseError
from agent.fleet.link import LinkError
from agent.fleet.operations import (
    LeaseAcquire,
    LeaseRelease,
    LeaseRenew,
    SilenceAdd,
    SilenceEnd,
)
from agent.fleet.words import Answer, BadMessageError, Cancel, Command, pack, unpack
from agent.tasks import kind_of
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from agent.fleet.link import Incoming
    from agent.fleet.own import LeasesAsked, Own, Row

log = structlog.get_logger(__name__)

MOST: Final = 2000
"""Commands under way: more than may wait for devices."""
REMEMBERED: Final = 1000
"""Leases that were given lately, for a `Cancel` that comes after the answer."""
_STOPPING: Final = "the agent stops, or has lost its fleet: ask again"
_AWAY: Final = "its holder went away before it was told"


class Commands:
    """Those that came over one connection. All methods run on the event loop's thread.

    Args:
        own: whom they go to.
        bad: told of messages that are none.
    """

    def __init__(self, own: Own, bad: Callable[[str], None]) -> None:
        self._own = own
        self._bad = bad
        self._running: set[asyncio.Task[Any]] = set()
        self._by_id: dict[str, asyncio.Task[Any]] = {}
        self._closing = False
        self._given: dict[str, str] = {}
        """Command → lease, of those that were answered."""

    def take(self, message: Incoming) -> None:
        """A command came."""
        try:
            command = unpack(Command, message.body, message.subject)
        except BadMessageError as error:
            self._bad(str(error))
            return
        if message.reply is None:
            self._bad(f"a command on {message.subject} wants no answer")
            return
        if len(self._running) >= MOST:
            busy = BusyError(f"{MOST} commands are under way")
            self._start(_say(message.reply, _refusal(busy)), "")
        else:
            self._by_id[command.id] = self._start(self._do(command, message.reply), command.id)

    def cancel(self, message: Incoming) -> None:
        """Whoever wanted a command waits for it no longer."""
        try:
            id_ = unpack(Cancel, message.body, message.subject).id
        except BadMessageError as error:
            self._bad(str(error))
            return
        if (task := self._by_id.get(id_)) is not None:
            task.cancel()
        elif lease_id := self._given.pop(id_, ""):
            self._start(_give_back(self._own.leases, lease_id), "")

    async def close(self, limit: float) -> None:
        """The connection ends: what waits is withdrawn, and who can still be told is told."""
        self._closing = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=limit)

    # --- inside ----------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, Any], id_: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name="fleet command")
        self._running.add(task)
        task.add_done_callback(partial(self._ended, id_))
        return task

    def _ended(self, id_: str, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if self._by_id.get(id_) is task:
            del self._by_id[id_]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fleet.command_failed", exc_info=error)

    async def _do(self, command: Command, reply: Callable[[bytes], Awaitable[None]]) -> None:
        lease_id = ""
        try:
            row = await self._answer(command)
            # No await between the lease and `try`: it may be withdrawn at each.
            if command.op == LeaseAcquire.op:
                lease_id = str(row["id"])
            answer = Answer(result=dict(row))
        except asyncio.CancelledError:
            if self._closing:
                await asyncio.shield(_say(reply, _refusal(BusyError(_STOPPING))))
            raise
        except AgentError as error:
            answer = _refusal(error)
        except Exception as error:
            log.exception("fleet.command_failed", op=printable(command.op))
            answer = Answer(
                code=AgentError.code, message=f"internal error ({kind_of(error)}): see its log"
            )
        told = False
        try:
            told = await _say(reply, answer)
        finally:
            if lease_id and not told:
                await asyncio.shield(_give_back(self._own.leases, lease_id))
        if lease_id and command.id:
            self._given[command.id] = lease_id
            if len(self._given) > REMEMBERED:
                del self._given[next(iter(self._given))]

    async def _answer(self, command: Command) -> Row:
        who = f"{command.caller or 'somebody'} at the hub"
        leases, silences = self._own.leases, self._own.silences
        match command.op:
            case LeaseAcquire.op:
                return await _acquire(leases, LeaseAcquire.read(command.args), who)
            case LeaseRenew.op:
                renew = LeaseRenew.read(command.args)
                self._heard_of(renew.id)
                return await leases.renew(renew.id)
            case LeaseRelease.op:
                release = LeaseRelease.read(command.args)
                self._heard_of(release.id)
                return await leases.release(release.id, release.why, who)
            case SilenceAdd.op:
                add = SilenceAdd.read(command.args)
                ends_ms = silences.now_ms + max(1, round(add.seconds * 1000))
                return await silences.add(
                    add.kind, add.value, add.reason, ends_ms, add.by or who, add.id
                )
            case SilenceEnd.op:
                end = SilenceEnd.read(command.args)
                return await silences.end(end.id, end.by or who)
            case _:
                raise BadRequestError(
                    f"this agent cannot do {printable(command.op)!r}: the hub is newer than it is"
                )

    def _heard_of(self, lease_id: str) -> None:
        """The hub knows of that lease: its answer came."""
        for id_, given in tuple(self._given.items()):
            if given == lease_id:
                del self._given[id_]


async def _acquire(leases: LeasesAsked, wish: LeaseAcquire, who: str) -> Row:
    if wish.udid is not None and (wish.platform is not None or wish.tags):
        raise BadRequestError("udid goes with neither platform nor tags")
    if wish.udid is None and wish.steal:
        raise BadRequestError("steal goes with udid only")
    return await leases.acquire(
        wish.udid,
        wish.holder,
        wish.purpose,
        wish.ttl,
        platform=wish.platform,
        tags=wish.tags,
        wait=wish.wait,
        steal=wish.steal,
        caller=who,
    )


async def _say(reply: Callable[[bytes], Awaitable[None]], answer: Answer) -> bool:
    """Whether it went out."""
    try:
        await reply(pack(answer))
    except LinkError:
        return False  # said where the connection is
    return True


async def _give_back(leases: LeasesAsked, lease_id: str) -> None:
    with contextlib.suppress(UnknownLeaseError):  # it was taken meanwhile
        await leases.release(lease_id, _AWAY)


def _refusal(error: AgentError) -> Answer:
    return Answer(code=error.code, message=str(error))

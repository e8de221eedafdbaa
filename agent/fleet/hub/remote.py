"""Asks agents to do what operators want of their phones; what comes of it, they decide."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from agent.errors import AgentError, HostUnreachableError, rebuilt
from agent.fleet import subjects
from agent.fleet.link import LinkError, NoAnswerError, NobodyError
from agent.fleet.words import Answer, BadMessageError, Cancel, Command, pack, unpack
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.fleet.hub.directory import Directory
    from agent.fleet.link import Link
    from agent.fleet.operations import Operation

REPLY: Final = 5.0
"""Seconds in which an agent has answered what needs no waiting."""
LOOK: Final = 2.0
"""Seconds after which it is looked whether the host of a long wait is lost."""
CANCEL_LIMIT: Final = 1.0
_DO: Final = "is its agent running (systemctl status device-agent), and does it reach the broker?"


class Remote:
    """The hub's side of commands. All methods run on the event loop's thread.

    Args:
        link: the one that there is now; None: there is none.
        directory: knows which hosts are lost.
    """

    def __init__(self, link: Callable[[], Link | None], directory: Directory) -> None:
        self._link = link
        self._directory = directory
        self.under_way = 0
        """Commands."""

    async def ask(
        self, host: str, operation: Operation, caller: str, wait: float = 0.0
    ) -> Mapping[str, Any]:
        """Have it done at that host; the row that it answers.

        A cancelled call, and one whose answer never came, is withdrawn there.

        Args:
            host: which.
            operation: what.
            caller: who wants it.
            wait: seconds that the agent itself may wait.

        Raises:
            HostUnreachableError: nobody there answers; whether it was done may not be known.
            AgentError: what the agent said, of the kind that it raised.
        """
        link = self._link()
        if link is None:
            raise HostUnreachableError(
                f"{host} cannot be asked: this hub is not connected to the broker; see "
                "`device-agent doctor` at the hub"
            )
        if why := self._directory.lost(host):
            raise HostUnreachableError(why)
        id_ = secrets.token_hex(8)
        command = Command(op=operation.op, args=operation.args(), caller=caller, id=id_)
        request = link.request(subjects.command(host), pack(command), wait + REPLY)
        task = asyncio.create_task(request, name=f"ask {host}")
        self.under_way += 1
        answered = False
        try:
            body = await self._answer(host, task)
            answered = True
        except NobodyError:
            answered = True  # nobody has heard it
            raise HostUnreachableError(f"{host} is not connected: {_DO}") from None
        except NoAnswerError:
            raise HostUnreachableError(f"{host} did not answer in time: {_DO}") from None
        except LinkError as error:
            raise HostUnreachableError(
                f"{host} cannot be asked, the broker is lost: {error}"
            ) from None
        finally:
            self.under_way -= 1
            if not answered:
                task.cancel()
                await asyncio.shield(_withdraw(link, host, id_))
        return _read(host, body)

    async def _answer(self, host: str, task: asyncio.Task[bytes]) -> bytes:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK)
            if not task.done() and (why := self._directory.lost(host)):
                raise HostUnreachableError(why)
        return task.result()


def _read(host: str, body: bytes) -> Mapping[str, Any]:
    try:
        answer = unpack(Answer, body, subjects.command(host))
    except BadMessageError as error:
        raise AgentError(f"{host} answered what makes no sense: {error}") from None
    if answer.code:
        raise rebuilt(printable(answer.code), f"{host}: {printable(answer.message, 4000)}")
    if not isinstance(answer.result, dict):
        raise AgentError(f"{host} answered what makes no sense: its version is another one")
    return answer.result


async def _withdraw(link: Link, host: str, id_: str) -> None:
    with contextlib.suppress(LinkError, TimeoutError):
        async with asyncio.timeout(CANCEL_LIMIT):
            await link.publish(subjects.cancel(host), pack(Cancel(id=id_)))

"""Work that may hang in the kernel, off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Do it in a daemonic thread of its own, which is left alone when this is cancelled.

    One that hangs holds up neither the loop's shared executor (name look-ups) nor the end of the
    process. Raises what the work raises.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # None only where T is

    def body() -> None:
        try:
            outcome = partial(settle, work(), None)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            outcome = partial(settle, None, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=body, name=name, daemon=True).start()
    return await future


class SharedThread(Generic[T]):
    """Work that is the same for all who ask: those who come while it runs share what comes of it.

    However often it is asked for, a hanging file system costs one thread for each HANGS seconds,
    and no more than MOST.
    """

    HANGS: Final = 60.0
    """Seconds after which another thread is tried: what one hangs on may be gone for the next."""
    MOST: Final = 5

    def __init__(self) -> None:
        self._running: list[asyncio.Future[T]] = []
        self._began = 0.0

    @property
    def idle(self) -> bool:
        """Whether no thread is at work."""
        return all(each.done() for each in self._running)

    async def run(self, work: Callable[[], T], name: str) -> T:
        """What the work returns, or raises; who is cancelled leaves the thread to the others."""
        now = asyncio.get_running_loop().time()
        self._running = [each for each in self._running if not each.done()]
        if not self._running or (
            now - self._began >= self.HANGS and len(self._running) < self.MOST
        ):
            self._began = now
            fresh = asyncio.ensure_future(in_thread(work, name))
            fresh.add_done_callback(_heard)
            self._running.append(fresh)
        return await asyncio.shield(self._running[-1])


def _heard(future: asyncio.Future[T]) -> None:
    """An error nobody waited for is no bug to be logged."""
    if not future.cancelled():
        future.exception()

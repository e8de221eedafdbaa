"""Background work that never dies silently: it is logged, told to the operator, and begun again.

What one piece of work breaks must not end another, nor go unnoticed: an exception that no code
expects is a fault of the agent, and an agent that goes on without a part of itself says so.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Work = Callable[[], Coroutine[None, None, None]]

log = structlog.get_logger(__name__)
T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before work that failed is begun again; doubled each time."""
HEALTHY = 60.0
"""Seconds without a failure after which all is well again."""


class Tasks:
    """The background work of one agent; all of it on the event loop's thread.

    Args:
        changed: called when `problems` says something else.
        healthy: see HEALTHY.
        first: see FIRST_PAUSE.
    """

    def __init__(
        self,
        changed: Callable[[], None] = lambda: None,
        *,
        healthy: float = HEALTHY,
        first: float = FIRST_PAUSE,
    ) -> None:
        self._changed = changed
        self._healthy = healthy
        self._first = first
        self._running: set[asyncio.Task[Any]] = set()
        self._failing: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        """What fails, each in a line for operators."""
        return [f"{name}: {why}" for name, why in sorted(self._failing.items())]

    def keep(self, name: str, work: Work) -> None:
        """Run what never ends by itself; should it, it is begun again after a pause."""
        self._start(name, self._kept(name, work, for_ever=True))

    def finish(self, name: str, work: Work) -> None:
        """Run it to its end; begun again after a pause when it fails, until it does not."""
        self._start(name, self._kept(name, work, for_ever=False))

    async def whole(self, name: str, work: Coroutine[None, None, T]) -> T:
        """Do it to its end, though who waits here may be cancelled. Raises what it raises."""
        task = self._start(name, work)
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def close(self, limit: float) -> None:
        """Cancel all of it; returns when it has ended, or after `limit` seconds."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=limit)

    def _start(self, name: str, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _kept(self, name: str, work: Work, *, for_ever: bool) -> Coroutine[None, None, None]:
        return kept(
            name,
            work,
            partial(self.tell, name),
            for_ever=for_ever,
            healthy=self._healthy,
            first=self._first,
        )

    def tell(self, name: str, why: str) -> None:
        """Why that work is not done just now; "": it is. For what `kept` runs elsewhere."""
        if why == self._failing.get(name, ""):
            return
        if why:
            self._failing[name] = why
        else:
            del self._failing[name]
        try:
            self._changed()
        except Exception:
            log.exception("task.not_told", task=name)


async def kept(
    name: str,
    work: Work,
    tell: Callable[[str], None] = lambda _: None,
    *,
    for_ever: bool = True,
    healthy: float = HEALTHY,
    first: float = FIRST_PAUSE,
) -> None:
    """Do the work, again and again after a pause that grows, until it ends well (never `for_ever`).

    Args:
        name: for the log.
        work: makes it anew.
        tell: told why it is not done just now; "" once all is well.
        for_ever: whether an end is a failure as well.
        healthy: seconds without a failure after which all is well.
        first: seconds of the first pause.
    """
    me = asyncio.current_task()
    assert me is not None
    loop = asyncio.get_running_loop()
    pause = first
    while True:
        began = loop.time()
        well = loop.call_later(healthy, tell, "")
        error: BaseException | None = None
        try:
            await work()
            if not for_ever:
                tell("")
                return
        except asyncio.CancelledError as cancelled:
            if me.cancelling():
                raise
            error = cancelled  # of something that it waited for
        except Exception as failure:  # noqa: BLE001 - that is what this is for
            error = failure
        finally:
            well.cancel()
        if loop.time() - began >= healthy:
            pause = first
        why = "it ended by itself" if error is None else f"internal error ({kind_of(error)})"
        log.error("task.failed", task=name, reason=why, retry_in_s=pause, exc_info=error)
        tell(f"{why}, begun again after {pause:g} s: see the log")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


class Steps:
    """Steps of which none keeps the next from being done."""

    def __init__(self) -> None:
        self._failed: dict[str, None] = {}

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of those that raised; the log has why."""
        return tuple(self._failed)

    def do(self, name: str, work: Callable[[], object]) -> None:
        """Do it now."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - logged
            self._note(name, error)

    async def wait(self, name: str, work: Awaitable[T]) -> T | None:
        """Do it, and wait for it; None: it failed."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - logged
            self._note(name, error)
            return None

    def _note(self, name: str, error: Exception) -> None:
        log.error("step.failed", step=name, exc_info=error)
        self._failed[name] = None


def _heard(task: asyncio.Task[Any]) -> None:
    """Its error is told to who waits for it; where nobody does, asyncio need not complain."""
    if not task.cancelled():
        task.exception()


def kind_of(error: BaseException) -> str:
    """What an operator is shown of a fault of ours: its kind; its words may hold a secret."""
    return type(error).__name__

"""Work that may hang in the kernel, off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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

"""Blocking work under a limit: a thread that hangs in the kernel is left behind."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent import threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def in_thread(work: Callable[[], T], limit: float) -> T:
    """Do it in a daemonic thread of its own: one that hangs does not keep the process from ending.

    Raises TimeoutError after `limit` seconds, and what the work raises.
    """
    async with asyncio.timeout(limit):
        return await threads.in_thread(work, "doctor")


async def survived(work: Awaitable[T], otherwise: Callable[[str], T]) -> T:
    """What it gives; where it fails in a way nobody thought of, what `otherwise` makes of why.

    One broken check must not take the page away. Of the error only its kind and place are told:
    its words could hold anything.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - see above
        *_, last = traceback.extract_tb(error.__traceback__)
        place = f"{Path(last.filename).name}:{last.lineno}"
        return otherwise(f"this check itself failed ({type(error).__name__} in {place})")


async def output_of(
    *command: str, limit: float, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and output (errors too) of a command, which is killed after `limit` seconds.

    Raises OSError when it cannot be run, TimeoutError.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
    )
    try:
        async with asyncio.timeout(limit):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")

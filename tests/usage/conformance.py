"""What every usage source must do, run over each with a back-end that can be broken on demand.

A harness makes the back-end; the checks are the same for all. A back-end that is away is unknown
for a server; for a port of a phone it is nobody who listens, and proves nothing: `away` says which.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from agent.usage.base import READ_LIMIT, Phone, Target, UsageSource, UsageUnknownError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

MARGIN = 5.0
"""Seconds that a loaded machine may add to a limit."""


class Harness(Protocol):
    """One source and its back-end."""

    udid: str
    """The device on which sessions are held."""
    away_is_unknown: bool

    @property
    def source(self) -> UsageSource:
        """What is checked."""

    @property
    def phones(self) -> Sequence[Phone]:
        """Those that the source is told of."""

    @property
    def holder(self) -> str:
        """How what the source tells of sessions begins."""

    def backend(self) -> AbstractAsyncContextManager[None]:
        """Run it."""

    def hold(self) -> None:
        """Open a session on the device."""

    def end(self) -> None:
        """End it."""

    async def leave(self) -> None:
        """Nothing listens any more."""

    async def come_back(self) -> None:
        """It listens again."""

    def hang(self) -> None:
        """Take connections and answer nothing, until `behave`."""

    def babble(self) -> None:
        """Answer what is no answer, until `behave`."""

    def behave(self) -> None:
        """Answer rightly again."""


async def _target(harness: Harness) -> Target:
    (target,) = await harness.source.targets(harness.phones)
    return target


async def _unknown(harness: Harness) -> str:
    with pytest.raises(UsageUnknownError) as caught:
        async with asyncio.timeout(READ_LIMIT + MARGIN):
            await harness.source.read(await _target(harness))
    return str(caught.value)


async def check(harness: Harness) -> None:
    """The whole suite."""
    async with harness.backend():
        source = harness.source
        before = _open()
        target = await _target(harness)
        assert await _target(harness) == target, "targets are stable"

        assert await source.read(target) == {}
        harness.hold()
        (id_,) = (told := await source.read(target))
        assert id_ == harness.udid
        assert told[id_].startswith(harness.holder)
        harness.end()
        assert await source.read(target) == {}

        harness.hold()
        for breaking in (harness.hang, harness.babble):
            breaking()
            words = await _unknown(harness)
            assert target.key in words, "the reason names what was asked"
            harness.behave()
            assert await source.read(target) != {}, "and it is asked again"

        harness.hang()
        reading = asyncio.create_task(_read(source, target))
        await asyncio.sleep(0.1)  # it is under way; whatever it is at, a cancel must end it
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        harness.behave()

        await harness.leave()
        if harness.away_is_unknown:
            assert target.key in await _unknown(harness)
        else:
            assert await source.read(target) == {}
        await harness.come_back()
        assert await source.read(target) != {}
        await source.close()
    for _ in range(50):  # sockets are closed in the loop's next turns
        if _open() <= before:
            break
        await asyncio.sleep(0.02)
    assert _open() <= before, "nothing is left open"


async def _read(source: UsageSource, target: Target) -> None:
    await source.read(target)


def _open() -> int:
    return sum(
        "socket" in str(path.readlink())
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink() and path.exists()
    )

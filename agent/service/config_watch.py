"""Reloads when a file of the configuration changes: left alone since, and only what is new.

The files, the operator's and the agent's own, are read every LOOK seconds, wherever links lead and
however an editor saves: in place, by a rename, by moving the old one away first. What counts is
their text, not their time.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import TYPE_CHECKING

from agent.config.file import is_usable
from agent.errors import AgentError
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.config.file import ConfigFile

LOOK = 1.0
"""Seconds between two looks: a change is in force two to three of them later."""


class Action(Enum):
    """What one look leads to."""

    NOTHING = "nothing"
    TRY = "try"
    """Load it if it can be used; it may be half written else."""
    INSIST = "insist"
    """Load it, or say why it cannot be used."""


class Looks:
    """Decides what a look at the file leads to. Pure.

    Args:
        in_force: fingerprint of the text that is in force.
    """

    def __init__(self, in_force: str) -> None:
        self.in_force = in_force
        """Fingerprint of that text."""
        self._refused = ""
        self._failed = False
        self._last = in_force
        self._times = 0

    def look(self, now: str) -> Action:
        """The file's text has this fingerprint.

        A new text that was the same for two looks is tried, and insisted on for three. One that was
        refused is left alone until it changes, whoever asked for it; that the text in force is back
        after that is worth a reload too, for the refusal is no news any more then.
        """
        if now != self._last:
            self._last, self._times = now, 0
        self._times += 1
        if self._times == 1 or not self.wanted:
            return Action.NOTHING
        return Action.TRY if self._times == 2 else Action.INSIST  # noqa: PLR2004 - see above

    @property
    def wanted(self) -> bool:
        """Whether what was seen last is neither in force nor refused."""
        if self._last == self._refused:
            return False
        return self._failed or self._last != self.in_force

    def loaded(self, text: str, *, ok: bool) -> None:
        """Somebody had the text with this fingerprint loaded."""
        self._failed = not ok
        if ok:
            self.in_force, self._refused = text, ""
        else:
            self._refused = text


class ConfigWatch:
    """Looks at the file until it is cancelled.

    Args:
        file: both of them.
        looks: what was seen of it; told of every reload by whoever does it.
        enabled: whether it is wanted now.
        reload: loads the file, unless that is not `wanted` any more.
        refuse: says that the text with this fingerprint is not loaded, and why; tells `looks`.
    """

    def __init__(
        self,
        file: ConfigFile,
        looks: Looks,
        *,
        enabled: Callable[[], bool],
        reload: Callable[[], Awaitable[object]],
        refuse: Callable[[AgentError, str], None],
    ) -> None:
        self._file = file
        self._looks = looks
        self._enabled = enabled
        self._reload = reload
        self._refuse = refuse

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(LOOK)
            if self._enabled():
                await self._look()

    async def _look(self) -> None:
        look = await in_thread(self._file.look, "watch config")
        action = self._looks.look(look.fingerprint)
        if action is Action.NOTHING:
            return
        emptied = self._file.emptied(look)
        usable = emptied is None and await asyncio.to_thread(is_usable, look)
        if action is Action.TRY and not usable:
            return
        if emptied is not None and look.fingerprint != self._looks.in_force:
            self._refuse(emptied, look.fingerprint)
            return
        with contextlib.suppress(AgentError):  # said, with its reasons, by the reload
            await self._reload()

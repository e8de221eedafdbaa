"""Users and groups by name, from a directory that may hang: asked off the loop, and remembered.

A name may come from a server (LDAP, sssd) that takes a minute to be found away. Each question has a
thread of its own, which nobody waits for longer than `LIMIT`; its answer counts whenever it comes.
Without one a number stands in for the name, and nothing else is harmed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import grp
import os
import pwd
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LIMIT = 1.0
"""Seconds that one waits for an answer."""
_SHORT = 0.05
"""Likewise while the directory is known to be slow; the host's own files answer within that."""
_SLOW = 30.0
"""Seconds after which a directory that was slow is waited for again."""
_AGAIN = 60.0
"""Seconds after which a name that was not found is asked for again."""
_KEPT = 1000
_AT_ONCE = 8
"""Threads."""


class _Asked(NamedTuple):
    answer: concurrent.futures.Future[Any]
    at: float


class _Directory:
    def __init__(self) -> None:
        self._asked: dict[tuple[str, int | str], _Asked] = {}
        self._lock = threading.Lock()
        self._slow_until = 0.0

    def ask(self, kind: str, key: int | str, question: Callable[[], T]) -> T | None:
        """Waits. None: there is no answer, or none yet."""
        answer, limit = self._answer(kind, key, question)
        if answer is None:
            return None
        try:
            return answer.result(limit)
        except TimeoutError:
            self._is_slow()
            return None

    async def ask_off_loop(self, kind: str, key: int | str, question: Callable[[], T]) -> T | None:
        """Likewise, for others on the loop go on meanwhile."""
        answer, limit = self._answer(kind, key, question)
        if answer is None or answer.done():
            return None if answer is None else answer.result()
        try:
            async with asyncio.timeout(limit):
                # It runs, so cancelling this leaves it alone.
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            self._is_slow()
            return None

    def _is_slow(self) -> None:
        self._slow_until = time.monotonic() + _SLOW

    def _answer(
        self, kind: str, key: int | str, question: Callable[[], T]
    ) -> tuple[concurrent.futures.Future[T | None] | None, float]:
        now = time.monotonic()
        with self._lock:
            limit = _SHORT if now < self._slow_until else LIMIT
            known = self._asked.get((kind, key))
            if known is not None and not self._is_stale(known, now):
                return known.answer, limit
            if sum(not each.answer.done() for each in self._asked.values()) >= _AT_ONCE:
                return None, limit
            if len(self._asked) >= _KEPT:
                self._asked = {k: v for k, v in self._asked.items() if not v.answer.done()}
            answer: concurrent.futures.Future[T | None] = concurrent.futures.Future()
            answer.set_running_or_notify_cancel()
            try:
                threading.Thread(
                    target=_find, args=(question, answer), name="users", daemon=True
                ).start()
            except RuntimeError:  # no thread can be made now
                return None, limit
            self._asked[kind, key] = _Asked(answer, now)
            return answer, limit

    @staticmethod
    def _is_stale(known: _Asked, now: float) -> bool:
        return known.answer.done() and known.answer.result() is None and now > known.at + _AGAIN


def _find(question: Callable[[], T], answer: concurrent.futures.Future[T | None]) -> None:
    try:
        found = question()
    except (KeyError, OSError, ValueError, OverflowError):
        answer.set_result(None)
    else:
        answer.set_result(found)


_directory = _Directory()


def user_name(uid: int) -> str:
    """The user's name; "" where there is none, or it cannot be had now. Waits for `LIMIT`."""
    return _directory.ask("uid", uid, partial(_user_name, uid)) or ""


async def user_name_off_loop(uid: int) -> str:
    """Likewise; only the caller waits."""
    return await _directory.ask_off_loop("uid", uid, partial(_user_name, uid)) or ""


def group_name(gid: int) -> str:
    """The group's name; "" where there is none, or it cannot be had now. Waits for `LIMIT`."""
    return _directory.ask("gid", gid, lambda: grp.getgrgid(gid).gr_name) or ""


def entry(name: str) -> pwd.struct_passwd | None:
    """The user's entry; None likewise. Waits for `LIMIT`."""
    return _directory.ask("name", name, lambda: pwd.getpwnam(name))


def groups_of(name: str, gid: int) -> frozenset[int] | None:
    """The groups the user is in, that one among them; None likewise. Waits for `LIMIT`."""
    return _directory.ask("groups", name, lambda: frozenset(os.getgrouplist(name, gid)))


def _user_name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name

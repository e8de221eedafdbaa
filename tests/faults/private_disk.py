"""A small file system that only the processes started through it see: filled, broken and healed.

A process holds a mount namespace open; agents join it with `nsenter`, and the test looks in through
/proc. So the file system outlives the agent, and no mount is ever left behind.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

TMPFS = 'mount -t tmpfs -o size=4m tmpfs "$1"'
LOOP = 'mount -o loop "$1.img" "$1"'
_HOLD = " && echo mounted && exec cat"


class PrivateDisk:
    """Mounted on `where`; use as an async context manager.

    Args:
        where: an existing directory, empty outside.
        mount: the command that mounts; `$1` is `where`.
        user: in a user namespace, so that no real root is needed.
    """

    def __init__(self, where: Path, mount: str, *, user: bool = True) -> None:
        self._where = where
        self._mount = mount
        self._unshare = ("unshare", "-Urm") if user else ("unshare", "-m")
        self._join = ("-U", "--preserve-credentials", "-m") if user else ("-m",)
        self._holder: asyncio.subprocess.Process | None = None

    @property
    def wrapper(self) -> tuple[str, ...]:
        """Put before a command, runs it inside."""
        assert self._holder is not None
        return ("nsenter", "-t", str(self._holder.pid), *self._join)

    @property
    def path(self) -> Path:
        """`where` as the test can reach it from outside."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root{self._where}")

    async def run(self, *command: str) -> tuple[int, str]:
        """Run a command inside: exit code, all its output."""
        process = await asyncio.create_subprocess_exec(
            *self.wrapper,
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(LIMIT):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    def fill(self) -> None:
        """Take the last byte."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 - each size ends so

    def make_room(self) -> None:
        """Give it all back."""
        (self.path / "filler").unlink()

    async def __aenter__(self) -> Self:
        self._holder = await asyncio.create_subprocess_exec(
            *(*self._unshare, "sh", "-c", self._mount + _HOLD, "sh", str(self._where)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        async with asyncio.timeout(LIMIT):
            said = await self._holder.stdout.readline()
        assert said == b"mounted\n"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._holder is not None
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        async with asyncio.timeout(LIMIT):
            await self._holder.wait()


@functools.cache
def user_namespaces_work() -> bool:
    """Whether tmpfs can be mounted in a namespace of our own, as any user."""
    return _works("unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt")


@functools.cache
def loop_devices_work() -> bool:
    """Whether an ext4 image can be mounted: real root, a loop device, mkfs."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    return _works("losetup", "-f") and _works("unshare", "-m", "true")


def _works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode == 0


def make_image(path: Path, megabytes: int) -> None:
    """An ext4 file system in a file."""
    with path.open("wb") as image:
        image.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True, timeout=LIMIT)

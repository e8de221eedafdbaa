"""A copy of this machine to install into: its own systemd, its own network, nothing of it lasts.

systemd-nspawn boots an overlay of `/` whose upper layer is a tmpfs. Needs root; the machine itself
is only read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.pages import ROOT, blocks

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

BOOT_LIMIT = 60.0
RUN_LIMIT = 300.0
"""Seconds. An installation downloads and compiles, on whatever machine runs the tests."""

_BOOT = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
# Only what the agent stands on, none of the services of this machine. A machine id of its own.
exec systemd-nspawn --quiet --directory="$1/root" --boot --private-network --register=no \
    --keep-unit --machine="$2" --uuid="$3" --link-journal=no --console=pipe \
    --resolv-conf=replace-host --overlay="$4::$4" -- --unit=basic.target
"""
_SHELL = ("unshare", "--mount", "sh", "-c")
_SPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
_KEPT = re.compile(r"(?i)(PIP_.*|UV_.*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|.*_PROXY|LANG|CI)")
"""Variables by which this machine reaches its package index."""


class Done:
    """What a command did."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output


class Machine:
    """Use as a context manager; booted inside it.

    Raises PermissionError where namespaces or mounts are refused.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="da-machine-"))
        self._boot: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        # A machine's name is a host's: letters and digits, and no dash at its end.
        name = f"da-machine-{os.urandom(4).hex()}"
        uuid = os.urandom(16).hex()
        with (self._directory.with_suffix(".log")).open("wb") as log:
            self._boot = subprocess.Popen(
                [*_SHELL, _BOOT, "sh", str(self._directory), name, uuid, str(ROOT)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._init = self._find_init()
            self._until_booted()
            self._give_sudo()
            # Containers have one that forbids packages to start anything.
            self.run("rm", "-f", "/usr/sbin/policy-rc.d")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._boot is not None
        if self._boot.poll() is None:
            # The first process of its pid namespace takes all others with it.
            with suppress(ProcessLookupError):
                os.kill(self._init or self._boot.pid, 9)
        self._boot.wait(30)
        self._directory.with_suffix(".log").unlink()
        shutil.rmtree(self._directory)

    def run(
        self, *command: str | Path, ok: bool = True, network: bool = False, **environ: str
    ) -> Done:
        """Run a command in it, as root, in this tree; `network`: in the network outside.

        A failure fails the test, unless it is expected: `ok=False`.
        """
        inside = ["nsenter", "--target", str(self._init), "--root", *_SPACES]
        if not network:
            inside.append("--net")
        done = subprocess.run(
            [*inside, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *command],
            env={
                **{key: value for key, value in os.environ.items() if _KEPT.fullmatch(key)},
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": os.environ.get("HOME", "/root"),  # pip's cache and settings
                "DEBIAN_FRONTEND": "noninteractive",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT,
            check=False,
        )
        if ok:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-5000:]}"
        return Done(done.returncode, done.stdout)

    def sh(self, script: str, *, ok: bool = True, network: bool = False, **environ: str) -> Done:
        """Run a script as an operator's shell would, stopping at the first failure."""
        shell = ("bash", "-euo", "pipefail", "-c")
        return self.run(*shell, script, ok=ok, network=network, **environ)

    def text(self, path: str) -> str:
        """A file in it."""
        return self.run("cat", path).output

    def write(self, path: str, text: str) -> None:
        """Write over a file; owner and mode stay."""
        self.run("sh", "-c", 'printf %s "$1" >"$0"', path, text)

    def stat(self, path: str) -> str:
        """`owner:group mode`."""
        return self.run("stat", "-c", "%U:%G %a", path).output.strip()

    def exists(self, path: str) -> bool:
        """Whether there is such a file or link."""
        return self.run("test", "-e", path, ok=False).code == 0

    def unit(self, name: str, unit: str = "device-agent") -> str:
        """A property of the agent's unit, or of another."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).output.strip()

    def journal(self, unit: str = "device-agent") -> str:
        """What the agent logged, or another unit."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).output

    def until(self, condition: str, limit: float = 20.0) -> None:
        """Wait until the shell condition holds."""
        end = time.monotonic() + limit
        while self.run("sh", "-c", condition, ok=False).code != 0:
            assert time.monotonic() < end, f"waited {limit} s for {condition}\n{self.journal()}"
            time.sleep(0.1)

    def _find_init(self) -> int:
        """The pid, here, of its first process."""
        assert self._boot is not None
        end = time.monotonic() + BOOT_LIMIT
        while time.monotonic() < end:
            if self._boot.poll() is not None:
                log = self._directory.with_suffix(".log").read_text(errors="replace")
                raise PermissionError(f"no machine can be booted here: {log.strip()}")
            for pid in _children(self._boot.pid):
                with suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    if re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE):
                        return pid
            time.sleep(0.05)
        raise AssertionError(f"not booted in {BOOT_LIMIT} s")

    def _until_booted(self) -> None:
        end = time.monotonic() + BOOT_LIMIT
        while self.run("systemctl", "is-active", "basic.target", ok=False).code != 0:
            assert time.monotonic() < end, f"not booted in {BOOT_LIMIT} s"
            time.sleep(0.1)

    def _give_sudo(self) -> None:
        """The documents say sudo; root needs none, and an editor is for people."""
        for name, body in (("sudo", 'exec "$@"'), ("sudoedit", 'test -w "$1"')):
            if self.run("sh", "-c", f"command -v {name}", ok=False).code != 0:
                path = f"/usr/local/bin/{name}"
                self.run("sh", "-c", 'printf %s "$1" >"$0"', path, f"#!/bin/sh\n{body}\n")
                self.run("chmod", "755", path)


def _children(pid: int) -> list[int]:
    """Of a process, and theirs."""
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_children(int(child))]
    return found


def commands(mark: str) -> str:
    """The shell commands of the pages' block behind `<!-- run: MARK -->`."""
    return next(block.text for block in blocks("sh") if block.marks.get("run") == mark)

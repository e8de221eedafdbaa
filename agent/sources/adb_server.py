"""Starting an adb server where none runs: which binary, with which flags, home and environment.

Measured on adb 29 and 36:

- `-L tcp:localhost:PORT start-server` binds 127.0.0.1 and nothing else, on both. `-L
  tcp:127.0.0.1:PORT` is refused ("cannot start server on remote host"); without a port, or with
  `ADB_SERVER_SOCKET` or `ANDROID_ADB_SERVER_PORT` around, a stray server comes up elsewhere.
- The server ends at once when it cannot write its key (`$HOME/.android/adbkey`; neither version
  honours ANDROID_USER_HOME) or its log (`$TMPDIR/adb.UID.log`).
- adb 36 with libusb takes 3.1 s to start where there is no USB; any other start 0.1 s.

A started server is left running when the agent ends: others use it by then (one server holds a
host's phones for everybody), and with it gone the phones would drop out of their hands. For the
same reason nothing here ever sends `kill-server`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from agent.errors import AgentError

log = structlog.get_logger(__name__)

START_LIMIT = 15.0
"""Seconds for `start-server`, which returns when the server answers."""

VERSION_LIMIT = 3.0
"""Seconds for `adb version`, which asks nobody."""
VERSION_WORDS = 4096
"""Bytes of what it says that are read."""
KILL_LIMIT = 1.0
"""Seconds for killed programs to be gone."""

_INHERITED = frozenset({"PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "TZ"})
_ELSEWHERE = frozenset(
    {"ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT"}
)


class AdbStartError(AgentError):
    """No server could be started; the message says what to do."""


def can_start(host: str) -> bool:
    """May a server be started for an address with this host? `-L tcp:localhost` is 127.0.0.1."""
    return host == "127.0.0.1"


class AdbVersion(NamedTuple):
    """What `adb version` says."""

    protocol: int
    """41 of "1.0.41": a client of another one ends the server."""
    release: str = ""
    """`36.0.0-13206524`, `29.0.6-debian`; "" of those that say none."""

    @property
    def order(self) -> tuple[int, tuple[int, ...]]:
        """The newer one's is greater."""
        numbers = re.match(r"[\d.]*", self.release, re.ASCII)
        return self.protocol, tuple(map(int, re.findall(r"\d+", numbers[0] if numbers else "")))


_versions: dict[tuple[str, int, int], AdbVersion] = {}
"""By path, time and size of the file: an upgraded one is another."""


async def version_of(binary: Path) -> AdbVersion:
    """Asked once per file, within `VERSION_LIMIT` seconds. AdbStartError where it is no adb."""
    try:
        status = binary.stat()
        key = (str(binary), status.st_mtime_ns, status.st_size)
        if key not in _versions:
            _versions[key] = await _ask_version(binary)
        return _versions[key]
    except TimeoutError:
        raise AdbStartError(f"`{binary} version` did not end within {VERSION_LIMIT:g} s") from None
    except OSError as error:
        raise AdbStartError(f"cannot run {binary}: {error.strerror}") from error


async def _ask_version(binary: Path) -> AdbVersion:
    process = await asyncio.create_subprocess_exec(
        str(binary),
        "version",
        # HOME is not needed, and nothing of ours shall send it elsewhere.
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/"},
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    out = b""
    try:
        async with asyncio.timeout(VERSION_LIMIT):
            while len(out) < VERSION_WORDS and (more := await process.stdout.read(VERSION_WORDS)):
                out += more
    finally:
        # Its children too: a wrapper's would keep the pipe, and `wait` waits for its end.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_LIMIT):
                while await process.stdout.read(VERSION_WORDS):
                    pass
                await process.wait()
    said = out.decode(errors="replace")
    protocol = re.search(r"version \d+\.\d+\.(\d+)", said, re.ASCII)
    if protocol is None:
        raise AdbStartError(f"`{binary} version` says {said.strip()[:80]!r}")
    release = re.search(r"^Version (\S+)", said, re.MULTILINE)
    return AdbVersion(int(protocol[1]), release[1][:80] if release else "")


async def find_adb(adb_path: str = "") -> Path:
    """The adb binary: `adb_path` if given, else the newer of `adb` on PATH and adbutils' own.

    Of two of one version that on PATH, which others on the host use too. One that cannot be run is
    passed over, with a word in the log; where there is one alone, nothing is asked of it.

    Raises AdbStartError with the remedy when there is none.
    """
    if adb_path:
        chosen = shutil.which(adb_path)
        if chosen is None:
            raise AdbStartError(
                f"adb_path = {adb_path!r} is no program that can be run: correct it, or leave it "
                "out to use the newer of the adb on PATH and the one that came with the agent"
            )
        return Path(chosen)
    found = [path for path in (_on_path(), _bundled()) if path is not None]
    if len(found) == 1 or (found and found[0].resolve() == found[-1].resolve()):
        return found[0]
    best: tuple[AdbVersion, Path] | None = None
    broken = []
    for path in found:
        try:
            version = await version_of(path)
        except AdbStartError as error:
            broken.append(str(error))
            log.warning("adb.binary_passed_over", binary=str(path), reason=str(error))
            continue
        if best is None or version.order > best[0].order:
            best = version, path
    if best is not None:
        return best[1]
    raise AdbStartError(
        f"no adb {'that runs (' + '; '.join(broken) + ')' if broken else 'found'}: "
        "install it (Debian: apt install adb), or set adb_path to where it is"
    )


def _on_path() -> Path | None:
    found = shutil.which("adb")
    return Path(found) if found is not None else None


def _bundled() -> Path | None:
    """The one in adbutils' wheel, which some platforms' wheels leave out."""
    # Not imported: that costs 10 MB and 90 ms, for one path.
    spec = importlib.util.find_spec("adbutils")
    for root in (spec.submodule_search_locations if spec else None) or ():
        bundled = Path(root) / "binaries" / "adb"
        if os.access(bundled, os.X_OK):
            return bundled
    return None


def environment(home: Path | None = None) -> dict[str, str]:
    """What a started server runs with.

    HOME stays where the caller's can be written (so that a key which the phones already trust is
    used), else it is `home`. Nothing that would send adb to another port comes through, nor
    anything else that is not adb's: the server outlives the agent, whose secrets may be there.
    Raises AdbStartError when there is no HOME to write the key to.
    """
    chosen = {
        key: value
        for key, value in os.environ.items()
        if key in _INHERITED or (key.startswith(("ADB_", "ANDROID_")) and key not in _ELSEWHERE)
    }
    # adb's own look at /dev/bus/usb. libusb, the default of newer ones, is blind for good where the
    # server starts before the kernel has a USB bus (measured with 36: early in a boot).
    chosen.setdefault("ADB_LIBUSB", "0")
    own = os.environ.get("HOME", "")
    if own and _holds_keys(Path(own)):
        chosen["HOME"] = own
    elif home is not None and _made(home):
        chosen["HOME"] = str(home)
    else:
        raise AdbStartError(
            f"no home for the adb server's key: HOME ({own or 'not set'}) cannot be written"
            + (f", nor can {home}" if home else "")
            + "; set HOME to a directory that the agent's user may write"
        )
    try:
        chosen["TMPDIR"] = tempfile.gettempdir()
    except FileNotFoundError:
        chosen["TMPDIR"] = chosen["HOME"]
    return chosen


def _holds_keys(home: Path) -> bool:
    """Can adb keep its key there: in `.android`, or by making that directory?"""
    keys = home / ".android"
    return os.access(keys if keys.exists() else home, os.W_OK | os.X_OK)


def _made(home: Path) -> bool:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return _holds_keys(home)


async def start(port: int, adb_path: str = "", home: Path | None = None) -> None:
    """Start a server on 127.0.0.1:`port`, unless one answers there; returns when it answers.

    In a session of its own: a Ctrl-C meant for the agent does not reach it. Raises AdbStartError.
    """
    binary = await find_adb(adb_path)
    variables = environment(home)
    remedy = f"try `{binary} -L tcp:localhost:{port} start-server` by hand as the agent's user"
    # Its words go to a file, not to a pipe: a server that kept the pipe would keep us reading.
    with tempfile.TemporaryFile(dir=variables["TMPDIR"]) as words:
        try:
            process = await asyncio.create_subprocess_exec(
                str(binary),
                "-L",
                f"tcp:localhost:{port}",
                "start-server",
                env=variables,
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            raise AdbStartError(f"cannot run {binary}: {error.strerror}; {remedy}") from error
        try:
            async with asyncio.timeout(START_LIMIT):
                status = await process.wait()
        except TimeoutError:
            raise AdbStartError(
                f"`{binary} start-server` did not end within {START_LIMIT:g} s; {remedy}"
            ) from None
        finally:
            # Only the starter; once it has forked the server, that one is nobody's child.
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status != 0:
            words.seek(0)
            said = words.read(16 * 1024).decode(errors="replace").strip().splitlines()
            raise AdbStartError(
                f"`{binary} start-server` failed: {'; '.join(said[-3:]) or f'status {status}'}; "
                f"{remedy}"
            )
    log.info("adb.server_started", binary=str(binary), port=port, home=variables["HOME"])

"""The adb server at the configured address, the adb that would start one, and other servers."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agent.address import tcp_of
from agent.doctor.facts import AdbFacts, Listener, User
from agent.doctor.gather import users
from agent.doctor.gather.limit import in_thread
from agent.doctor.gather.listeners import adb_servers, listeners_at
from agent.errors import AgentError
from agent.sources.adb_server import AdbStartError, find_adb, version_of
from agent.users import entry
from agent.wire.adb import AdbClient, AdbFailError
from agent.wire.adb_lists import AdbError, parse_rows

if TYPE_CHECKING:
    from agent.config import Android

SERVER_LIMIT = 4.0
"""Seconds; adb 36 without USB answers nothing for its first 3."""
RAW = ("host:version", "host:host-features", "host:devices", "host:devices-l", "host:list-forward")
"""What a server is asked for the bundle."""
PROC_LIMIT = 3.0
"""Seconds to look through all processes."""


async def look_at_adb(android: Android, *, local: bool, state_dir: Path, user: User) -> AdbFacts:
    """Everything of adb; raises nothing, starts nothing."""
    if not android.enabled:
        return AdbFacts(enabled=False, server=android.adb_server)
    (error, version, rows), raw, client, found = await asyncio.gather(
        _ask_server(android.adb_server),
        _raw(android.adb_server),
        _ask_client(android.adb_path),
        _servers(android, local),
    )
    owner, others = found
    owner_user = users.of_process(owner.pid) if owner is not None and owner.pid else None
    if owner is not None and owner_user is None:
        owner_user = users.by_name(owner.user)
    key, mode = _key(owner, owner_user or user, state_dir)
    return AdbFacts(
        enabled=True,
        server=android.adb_server,
        local=local,
        starts=android.start_server,
        error=error,
        version=version,
        rows=rows,
        raw=raw,
        client=client[0],
        client_version=client[1],
        client_release=client[2],
        client_error=client[3],
        owner=owner,
        owner_user=owner_user,
        others=others,
        key=key,
        key_mode=mode,
    )


async def _ask_server(address: str) -> tuple[str, int, tuple[tuple[str, str], ...]]:
    """Why it cannot be asked, its protocol's version, its phones."""
    try:
        async with asyncio.timeout(SERVER_LIMIT):
            client = AdbClient(address)
            version = await client.version()
            rows = parse_rows(await client.listing("host:devices"))
    except TimeoutError:
        return f"no answer within {SERVER_LIMIT:g} s", 0, ()
    except ConnectionRefusedError:
        return "nothing listens there", 0, ()
    except OSError as error:
        return error.strerror or str(error), 0, ()
    except (AdbError, AgentError, ValueError) as error:
        return f"what answers is no adb server ({error})", 0, ()
    return "", version, tuple((serial, each) for serial in sorted(rows) for each in rows[serial])


async def _raw(address: str) -> dict[str, list[str] | dict[str, str]]:
    """What the server says, as it says it: the rows of each list, or its FAIL."""
    said: dict[str, list[str] | dict[str, str]] = {}
    try:
        async with asyncio.timeout(SERVER_LIMIT):
            client = AdbClient(address)
            for service in RAW:
                try:
                    text = (await client.listing(service)).removesuffix("\n")
                    said[service] = text.split("\n") if text else []
                except AdbFailError as error:
                    said[service] = {"FAIL": str(error)}
    except (AgentError, OSError):
        pass  # the error is told with the rows
    return said


async def _ask_client(adb_path: str) -> tuple[str, int, str, str]:
    """Path, protocol version, release and error of the adb that the agent would start."""
    binary = ""
    try:
        path = await find_adb(adb_path)
        binary = str(path)
        version = await version_of(path)
    except AdbStartError as error:
        return binary, 0, "", str(error)
    return binary, version.protocol, version.release, ""


async def _servers(android: Android, local: bool) -> tuple[Listener | None, tuple[Listener, ...]]:
    """Who listens at the configured address, and the other adb servers."""

    def look() -> tuple[Listener | None, tuple[Listener, ...]]:
        servers = adb_servers()
        if not local:
            return None, tuple(servers)
        tcp = tcp_of(android.adb_server)
        if tcp is None:
            at = [each for each in servers if each.address == android.adb_server]
        else:
            _, port = tcp
            at = [each for each in servers if each.port == port] or listeners_at(port)
        pids = {each.pid for each in at}
        return (at[0] if at else None), tuple(each for each in servers if each.pid not in pids)

    try:
        return await in_thread(look, PROC_LIMIT)
    except (TimeoutError, OSError):
        return None, ()


def _key(owner: Listener | None, user: User, state_dir: Path) -> tuple[str, int]:
    """The key of the server that runs, else of the one that the agent would start."""
    homes = [_home_of(owner.pid) if owner is not None and owner.pid else "", _home(user)]
    homes += [] if owner is not None else [str(state_dir)]
    path = ""
    for home in dict.fromkeys(each for each in homes if each):
        path = str(Path(home) / ".android" / "adbkey")
        try:
            return path, stat.S_IMODE(Path(path).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return "", 0  # not ours to see
    return path, 0


def _home_of(pid: int) -> str:
    """$HOME of a process, where we may see it."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    found = re.search(rb"(?:^|\0)HOME=([^\0]*)", data)
    return found[1].decode(errors="replace") if found else ""


def _home(user: User) -> str:
    found = entry(user.name)
    return found.pw_dir if found is not None else ""

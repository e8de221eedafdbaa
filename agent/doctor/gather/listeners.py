"""Who listens: sockets of /proc/net and the processes that hold them (proc(5), proc_net(5))."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.address import host_port
from agent.doctor.facts import Listener
from agent.doctor.gather import users

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN = "0A"
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Socket:
    host: str
    port: int
    uid: int
    inode: int


def listeners_at(port: int, proc: Path = PROC) -> list[Listener]:
    """Who listens at a TCP port of this host, in this network namespace."""
    found = [each for each in _listening(proc) if each.port == port]
    holders = _holders({each.inode for each in found}, proc) if found else {}
    return [_listener(each, holders.get(each.inode, 0), proc) for each in found]


def adb_servers(proc: Path = PROC) -> list[Listener]:
    """Every adb server process, with where it listens as far as that can be told."""
    sockets: dict[int, list[_Socket]] = defaultdict(list)
    listening = list(_listening(proc))
    pids = [pid for pid in _pids(proc) if _is_adb_server(pid, proc)]
    holders = _holders({each.inode for each in listening}, proc, pids)
    for each in listening:
        if each.inode in holders:
            sockets[holders[each.inode]].append(each)
    found = []
    for pid in pids:
        held = min(sockets[pid], key=lambda each: each.port, default=None)
        if held is not None:
            found.append(_listener(held, pid, proc))
        else:
            address, port = _announced(_arguments(pid, proc))
            found.append(
                Listener(address, port, pid, _owner(pid, proc), _program(pid, proc) or "adb")
            )
    return found


def _listener(each: _Socket, pid: int, proc: Path) -> Listener:
    return Listener(
        host_port(each.host, each.port),
        each.port,
        pid,
        users.name_of(each.uid),
        _program(pid, proc) if pid else "",
    )


def _listening(proc: Path) -> Iterator[_Socket]:
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == _LISTEN:
                host, _, port = words[1].partition(":")
                yield _Socket(_address(host), int(port, 16), int(words[7]), int(words[9]))


def _address(text: str) -> str:
    """Of 32-bit words in the machine's byte order, in hexadecimal."""
    data = bytes.fromhex(text)
    if sys.byteorder == "little":
        data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return str(ipaddress.ip_address(data))


def _pids(proc: Path) -> list[int]:
    return sorted(int(each.name) for each in proc.iterdir() if each.name.isdecimal())


def _holders(inodes: set[int], proc: Path, pids: list[int] | None = None) -> dict[int, int]:
    """Inode → the process that holds that socket; only root sees those of other users."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in _pids(proc) if pids is None else pids:
        try:
            links = list((proc / str(pid) / "fd").iterdir())
        except OSError:
            continue  # gone, or not ours
        for link in links:
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target in wanted:
                found.setdefault(wanted[target], pid)
    return found


def _is_adb_server(pid: int, proc: Path) -> bool:
    try:
        if (proc / str(pid) / "comm").read_text().strip() != "adb":
            return False
    except OSError:
        return False
    # `adb -L tcp:5037 fork-server server --reply-fd 4`, or `adb nodaemon server`: "server" is a
    # word of its own; `start-server` is a client that soon ends.
    return "server" in _arguments(pid, proc)


def _arguments(pid: int, proc: Path) -> list[str]:
    try:
        data = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return data.decode(errors="replace").rstrip("\0").split("\0")


def _announced(arguments: list[str]) -> tuple[str, int]:
    """Where `-L tcp:…`, `-L localfilesystem:PATH` or `-P PORT` says that it listens."""
    line = " ".join(arguments)
    if match := re.search(r"-L (?:localfilesystem|local):(\S+)", line):
        return match[1], 0
    if match := re.search(r"-L tcp:(?:\S*:)?(\d+)|-P (\d+)", line):
        port = int(match[1] or match[2])
        return f"127.0.0.1:{port}", port
    return "", 0


def _owner(pid: int, proc: Path) -> str:
    user = users.of_process(pid, proc)
    return user.name if user is not None else "?"


def _program(pid: int, proc: Path) -> str:
    """The path of its executable; its name where that is not ours to see."""
    try:
        return str((proc / str(pid) / "exe").readlink())
    except OSError:
        pass
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""

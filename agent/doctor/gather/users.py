"""Users and their groups, by name, number or process."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from agent.doctor.facts import User

PROC = Path("/proc")


def name_of(uid: int) -> str:
    """The user's name; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def by_name(name: str) -> User | None:
    """As the system's database knows it; None: it does not."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def own() -> User:
    """Of this process."""
    return User(name_of(os.geteuid()), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def of_process(pid: int, proc: Path = PROC) -> User | None:
    """The effective user and all groups of a process; None: it is gone, or hidden from us."""
    try:
        text = (proc / str(pid) / "status").read_text()
    except OSError:
        return None
    found = dict(re.findall(r"^(Uid|Gid|Groups):[ \t]*(.*)$", text, re.MULTILINE))
    uid = int(found["Uid"].split()[1])
    gids = {int(found["Gid"].split()[1]), *map(int, found.get("Groups", "").split())}
    return User(name_of(uid), uid, frozenset(gids))

"""Users and their groups, by name, number or process."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agent.doctor.facts import User
from agent.users import entry, groups_of, user_name

PROC = Path("/proc")


def name_of(uid: int) -> str:
    """The user's name; its number where it has none."""
    return user_name(uid) or str(uid)


def by_name(name: str) -> User | None:
    """As the system's database knows it; None: it does not."""
    found = entry(name)
    if found is None:
        return None
    groups = groups_of(name, found.pw_gid) or frozenset({found.pw_gid})
    return User(name, found.pw_uid, groups)


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

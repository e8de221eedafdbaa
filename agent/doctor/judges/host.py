"""The store and its disk, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import AgentFacts, Facts, StoreFacts, User

_HOST = Section("Store and host")
FIXED_SQLITE = (3, 51, 3)
"""Before it two connections could corrupt a WAL that is reset (sqlite.org/wal.html, "the WAL-reset
bug"). The agent has one connection, and keeps others out."""
LITTLE = 1024**3
"""Bytes free: below it the disk needs a look."""
NOTHING = 64 * 1024**2
"""Bytes free: below it the store will soon not be written."""
NOTHING_SHARE, LITTLE_SHARE = 0.05, 0.1
"""Of a small disk."""
SHARE = 0.02
"""Of the inodes."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""No agent is older: an earlier clock has lost its battery."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


def judge_store(facts: Facts) -> Iterator[Finding]:
    """Through the agent where one runs, else as the file was found."""
    yield _running_store(facts.agent) if facts.agent.runs else _resting_store(facts.store)


def _running_store(agent: AgentFacts) -> Finding:
    store = agent.status["store"]
    if store["lost"]:
        return _HOST.fail(
            "store",
            f"{store['lost']} changes were lost: memory was full while the disk failed",
            "free space or repair the disk; phones that changed meanwhile show their net change",
        )
    if not store["ok"]:
        return _HOST.fail(
            "store",
            f"{store['error']} ({store['waiting']} changes wait in memory)",
            "make room or repair the disk: the agent writes them then; do not restart it before",
        )
    if store["recovered_from"]:
        return _HOST.warn(
            "store",
            f"was corrupt; what could be saved was, the rest is in {store['recovered_from']}",
            "check the disk (dmesg, smartctl); keep the file for a report, or delete it",
        )
    return _HOST.ok("store", f"{store['directory']}, {size(store['size'])}, written and readable")


def _resting_store(store: StoreFacts) -> Finding:  # noqa: PLR0911 - a table: one answer for each case
    match store.state:
        case "ok":
            return _HOST.ok("store", f"{store.directory}: whole (quick_check)")
        case "absent":
            return _HOST.ok("store", f"{store.directory}: none yet; the agent makes it")
        case "busy":
            return _HOST.warn(
                "store",
                f"{store.directory} is in use by an agent that was not asked",
                "give the --config of that agent",
            )
        case "slow":
            return _HOST.ok("store", f"{store.directory}: too large to look through in a moment")
        case "corrupt":
            return _HOST.fail(
                "store",
                f"{store.directory} is corrupt: {store.detail}",
                "the next start saves what can be saved; check the disk (dmesg, smartctl), or "
                "restore a backup (docs/upgrade.md)",
            )
        case "newer":
            return _HOST.fail(
                "store",
                f"{store.directory} was written by a newer agent: {store.detail}",
                "run that version again, or restore a backup (docs/upgrade.md)",
            )
    return _HOST.warn(
        "store",
        f"{store.directory} cannot be looked at: {store.detail}",
        "use sudo, or run it as the agent's user",
    )


def judge_sqlite(facts: Facts) -> Iterator[Finding]:
    """Whether other programs may open the file, too."""
    version = facts.store.sqlite
    if tuple(int(part) for part in version.split(".")) >= FIXED_SQLITE:
        yield _HOST.ok("SQLite", version)
        return
    fixed = ".".join(map(str, FIXED_SQLITE))
    yield _HOST.ok(
        "SQLite",
        f"{version}: safe with one connection; before {fixed} do not open the file "
        "with other programs",
    )


def judge_disk(facts: Facts) -> Iterator[Finding]:
    """Below the state directory."""
    # Who may not ask the agent does not know whose directory it is.
    yield _disk(facts.store, facts.user, known=not facts.agent.denied)


def _disk(store: StoreFacts, user: User, *, known: bool) -> Finding:  # noqa: PLR0911 - a table: one answer for each case
    directory = store.directory
    if not store.total:
        return _HOST.warn("disk", f"{directory}: {store.detail}", "use sudo, or look at its disk")
    found = f"{size(store.free)} of {size(store.total)} free below {directory}"
    if store.read_only:
        return _HOST.fail(
            "disk",
            f"the file system of {directory} is read-only",
            "see dmesg: an error of the disk does that; repair it, then mount it for writing",
        )
    if known and not store.usable:
        return _HOST.fail(
            "disk",
            f"user {user.name} may not write {directory}",
            f"sudo install -d -m 0700 -o {user.name} {directory}, or set [agent] state_dir",
        )
    if store.free < min(NOTHING, store.total * NOTHING_SHARE):
        return _HOST.fail("disk", found, "make room now: what happens is soon kept in memory only")
    if store.inodes and store.inodes_free < store.inodes * SHARE:
        return _HOST.warn(
            "disk",
            f"{found}, but only {store.inodes_free} of {store.inodes} inodes",
            "delete small files: df -i shows where",
        )
    if store.free < min(LITTLE, store.total * LITTLE_SHARE):
        return _HOST.warn("disk", found, "make room; [delivery] retention says how much is kept")
    return _HOST.ok("disk", found)


def judge_clock(facts: Facts) -> Iterator[Finding]:
    """Signatures and creationTime hang on it; receivers refuse what is minutes off."""
    host = facts.host
    if not EARLIEST < host.now < LATEST:
        shown = datetime.fromtimestamp(host.now, UTC)
        yield _HOST.fail(
            "clock",
            f"it is {shown:%Y-%m-%d} here, says the clock: TLS and signatures will fail",
            "sudo timedatectl set-ntp true; or date --set",
        )
    elif host.synchronised is None:
        yield _HOST.ok("clock", "the kernel does not say whether it is synchronised")
    elif not host.synchronised:
        yield _HOST.warn(
            "clock",
            "not synchronised, says the kernel: receivers refuse signatures that are minutes off",
            "sudo timedatectl set-ntp true (systemd-timesyncd), or install chrony",
        )
    else:
        yield _HOST.ok("clock", f"synchronised, to {host.max_error * 1000:.0f} ms")


def size(count: float) -> str:
    """`512 B`, `4.0 KiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - of each in the next
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

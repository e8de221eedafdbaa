"""adb: the server, the one that would be started, and others that fight for the same phones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, Section
from agent.doctor.judges.usb import some
from agent.model import UsbKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.facts import AdbFacts, AgentFacts, Facts, UsbFacts, User

_ANDROID = Section("Android")


def judge_adb(facts: Facts) -> Iterator[Finding]:
    """Everything of adb."""
    adb, usb, agent = facts.adb, facts.usb, facts.agent
    if not adb.enabled:
        yield _ANDROID.ok("adb server", "not watched ([android] enabled = false)")
        return
    yield _server(adb, agent)
    yield from _versions(adb)
    if adb.local:
        yield from _others(adb)
        yield from _nodes(usb, adb.owner_user or facts.user)
        yield from _unseen(adb, usb)
        yield from _key(adb)
    if not agent.runs:
        yield from _rows(adb)


def _server(adb: AdbFacts, agent: AgentFacts) -> Finding:  # noqa: PLR0911 - a table: one answer for each case
    if not adb.error:
        by = f", started by {adb.owner.user}" if adb.owner is not None else ""
        program = f" ({adb.owner})" if adb.owner is not None else ""
        if agent.runs and (said := agent.problem_of("adb")):
            return _ANDROID.fail(
                "adb server",
                f"answers at {adb.server}{by}, but the agent says: {said}",
                "see the agent's log; it goes on trying",
            )
        return _ANDROID.ok("adb server", f"answers at {adb.server}{program}")
    if "no adb server" in adb.error:
        who = f" It is {adb.owner}." if adb.owner is not None else ""
        return _ANDROID.fail(
            "adb server",
            f"{adb.server}: {adb.error}.{who}",
            "stop what listens there, or set [android] adb_server to where adb is",
        )
    if "no answer" in adb.error:
        return _ANDROID.fail(
            "adb server",
            f"{adb.server}: {adb.error}" + (f" ({adb.owner})" if adb.owner is not None else ""),
            "it hangs: when nobody uses the phones, end it (kill its pid); "
            + ("the agent starts another" if adb.starts and adb.local else "then start another"),
        )
    if agent.runs and adb.starts and adb.local:
        return _ANDROID.fail(
            "adb server",
            f"{adb.server}: {adb.error}; the agent says: {agent.problem_of('adb') or 'nothing'}",
            f"try by hand as the agent's user: {adb.client or 'adb'} start-server",
        )
    if adb.starts and adb.local:
        return _ANDROID.warn(
            "adb server",
            f"{adb.server}: {adb.error}",
            "nothing to do: the agent starts one when it runs",
        )
    return _ANDROID.fail(
        "adb server",
        f"{adb.server}: {adb.error}",
        "start one there (adb start-server), or set [android] start_server = true"
        if adb.local
        else "start one on that host, and see that this one reaches it",
    )


def _versions(adb: AdbFacts) -> Iterator[Finding]:
    if adb.client_error:
        yield (_ANDROID.fail if adb.starts and adb.error else _ANDROID.warn)(
            "adb client", adb.client_error, "apt install adb, or set [android] adb_path"
        )
        return
    client = f"{adb.client_release or '?'} ({adb.client})"
    if not adb.version or not adb.client_version:
        yield _ANDROID.ok("adb client", client)
    elif adb.version != adb.client_version:
        yield _ANDROID.fail(
            "adb versions",
            f"the server speaks version {adb.version}, {adb.client} {adb.client_version}: "
            "each use of that client kills the server, and drops every phone for a moment",
            "use one adb for all on this host: [android] adb_path, and PATH of everybody else",
        )
    else:
        yield _ANDROID.ok("adb versions", f"server and client speak {adb.version}; {client}")


def _others(adb: AdbFacts) -> Iterator[Finding]:
    if not adb.others:
        yield _ANDROID.ok("other servers", "none")
        return
    told = [f"at {each.address or 'an unknown place'} ({each})" for each in adb.others]
    pids = " ".join(str(each.pid) for each in adb.others)
    count = "another adb server" if len(told) == 1 else f"{len(told)} other adb servers"
    yield _ANDROID.warn(
        "other servers",
        f"{count}: {some(told, 4)}: they fight for the same phones",
        f"when nobody uses it, end it: sudo kill {pids}; then find out who starts it "
        "(ANDROID_ADB_SERVER_PORT, ADB_SERVER_SOCKET, a tool that brings its own adb)",
    )


def _nodes(usb: UsbFacts, user: User) -> Iterator[Finding]:
    phones = [each for each in usb.devices or () if each.kind in {UsbKind.ADB, UsbKind.FASTBOOT}]
    nodes = [(each, each.node) for each in phones if each.node is not None]
    shut = [
        (phone.port, node)
        for phone, node in nodes
        if not user.may_use(node.mode, node.owner, node.group)
    ]
    if shut:
        _, node = shut[0]
        yield _ANDROID.fail(
            "permissions",
            f"user {user.name} (who runs adb) may not use {len(shut)} of {len(nodes)} phones: "
            f"{some([port for port, _ in shut])}; {node.path} is of group {node.group_name}, mode "
            f"{node.mode:04o}",
            "install 71-device-agent.rules into /etc/udev/rules.d, then sudo udevadm control "
            f"--reload and replug; sudo usermod --append --groups plugdev {user.name}, and restart "
            "the adb server",
        )
    elif nodes:
        yield _ANDROID.ok("permissions", f"user {user.name} may use all {len(nodes)} phones")


def _unseen(adb: AdbFacts, usb: UsbFacts) -> Iterator[Finding]:
    """Phones that offer adb on USB, and that the server does not list."""
    if adb.error:
        return
    # udev writes `_` for what it does not like in a serial: only what nobody changes is compared.
    listed = {_plain(serial) for serial, _ in adb.rows}
    unseen = [
        f"{each.serial or '?'} at {each.port}"
        for each in usb.devices or ()
        if each.kind is UsbKind.ADB and each.serial and _plain(each.serial) not in listed
    ]
    if unseen:
        yield _ANDROID.fail(
            "hotplug",
            f"on USB with debugging on, and not listed by the adb server: {some(unseen)}",
            "see permissions and other servers here; replug one, and if it still is not listed, "
            "restart the adb server when nobody uses the phones",
        )


def _plain(serial: str) -> str:
    return "".join(letter for letter in serial if letter.isalnum()) or serial


def _key(adb: AdbFacts) -> Iterator[Finding]:
    if not adb.key:
        return
    if not adb.key_mode:
        yield _ANDROID.warn(
            "adb key",
            f"{adb.key} is not there: phones will ask whether to allow USB debugging",
            "the adb server makes one when it starts; copy adbkey and adbkey.pub there from a host "
            "that the phones know",
        )
    elif adb.key_mode & 0o077:
        yield _ANDROID.warn(
            "adb key",
            f"others can read {adb.key} (mode {adb.key_mode:04o}), which opens every phone",
            f"chmod 0600 {adb.key}",
        )
    else:
        yield _ANDROID.ok("adb key", adb.key)


def _rows(adb: AdbFacts) -> Iterator[Finding]:
    """Without an agent: what adb itself says of its phones."""
    bad = [f"{serial}: {state}" for serial, state in adb.rows if state != "device"]
    if bad:
        yield _ANDROID.warn(
            "phones", some(bad), "unlock each and accept the prompt; replug what stays offline"
        )
    elif not adb.error:
        yield _ANDROID.ok("phones", f"adb lists {len(adb.rows)}, all ready")

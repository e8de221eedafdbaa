"""What somebody who took the agent over would try: each attempt, and what came of it, as JSON.

Run as the agent is run, inside its unit's sandbox. `{"name": "denied: …" | "ALLOWED: …"}`.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
STATE = Path(os.environ["STATE_DIRECTORY"])
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SYS_INIT_MODULE, SYS_BPF, SYS_PERF_EVENT_OPEN, SYS_KEXEC_LOAD, SYS_IO_URING_SETUP = (
    *(175, 321, 298, 246, 425),
)


def call(name: str, *arguments: object) -> int:
    """A function of libc; raises OSError where it fails."""
    result = int(getattr(LIBC, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def setuid_file() -> str:
    """A file that would run as its owner for everybody."""
    path = STATE / "sandbox-suid"
    path.touch()
    try:
        path.chmod(0o4755)
        return oct(path.stat().st_mode)
    finally:
        path.unlink()


def seen_processes() -> str:
    """Processes of other users, which /proc must not show."""
    owners = {entry.stat().st_uid for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    others = owners - {os.getuid()}
    if not others:
        raise PermissionError(errno.EPERM, "only its own")
    return f"sees those of {others}"


def hidden(path: str) -> str:
    """What lies in a directory that must look empty or be closed."""
    found = [entry.name for entry in Path(path).iterdir()]
    if not found:
        raise PermissionError(errno.EPERM, "empty")
    return f"sees {found}"


def write(path: str) -> None:
    """Open for writing, make it if it is not there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write its own program": lambda: write("/opt/device-agent/lib/x"),
    "write its own configuration": lambda: write("/etc/device-agent/agent.toml"),
    "write into /etc": lambda: write("/etc/x"),
    "write into /usr/bin": lambda: write("/usr/bin/x"),
    "write into /run": lambda: write("/run/x"),
    "write into /var/tmp of all": lambda: hidden("/var/tmp"),
    "see files in /tmp of all": lambda: hidden("/tmp"),
    "read the password hashes": lambda: Path("/etc/shadow").read_text(),
    "look into /root": lambda: hidden("/root"),
    "look into /home": lambda: hidden("/home"),
    "read the disk": lambda: os.open("/dev/vda", os.O_RDONLY),
    "read the memory": lambda: os.open("/dev/mem", os.O_RDONLY),
    "read the kernel's log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
    "make a device node": lambda: os.mknod(STATE / "x", 0o600 | stat.S_IFBLK, os.makedev(254, 0)),
    "make a set-uid file": setuid_file,
    "mount": lambda: call("mount", b"x", b"/mnt", b"tmpfs", 0, None),
    "unmount": lambda: call("umount2", b"/proc", 2),
    "change its root": lambda: os.chroot("/tmp"),
    "a user namespace": lambda: call("unshare", CLONE_NEWUSER),
    "a network namespace": lambda: call("unshare", CLONE_NEWNET),
    "become root": lambda: os.setresuid(0, 0, 0),
    "another group": lambda: os.setgroups([0]),
    "signal init": lambda: os.kill(1, signal.SIGCONT),
    "trace init": lambda: call("ptrace", 16, 1, None, None),
    "see others' processes": seen_processes,
    "load a kernel module": lambda: call("syscall", SYS_INIT_MODULE, None, 0, b""),
    "load another kernel": lambda: call("syscall", SYS_KEXEC_LOAD, 0, 0, None, 0),
    "load a BPF program": lambda: call("syscall", SYS_BPF, 5, None, 0),
    "open a performance counter": lambda: call("syscall", SYS_PERF_EVENT_OPEN, None, 0, -1, -1, 0),
    "set the clock": lambda: call("clock_settime", 0, (ctypes.c_long * 2)(0, 0)),
    "set the host's name": lambda: socket.sethostname("taken"),
    "reboot": lambda: call("reboot", 0),
    "swap": lambda: call("swapon", b"/dev/vda", 0),
    "a kernel setting": lambda: Path("/proc/sys/kernel/panic").write_text("1"),
    "its own cgroup": lambda: write("/sys/fs/cgroup/x/cgroup.procs"),
    "a device's attribute": lambda: Path("/sys/bus/usb/drivers_probe").write_text("x"),
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "raw IP": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "bluetooth": lambda: socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, 1),
    "memory both writable and executable": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "a higher priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -10),
    "another personality": lambda: call("personality", 0x0008),
}
ALLOWED: dict[str, Callable[[], object]] = {
    "write its state": lambda: (STATE / "sandbox-file").write_text("x"),
    "read its configuration": lambda: Path("/etc/device-agent/agent.toml").read_text() and "read",
    "TCP": lambda: socket.create_connection(("127.0.0.1", 8700), 10).close(),
    "hear udev": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15).bind((0, 2)),
}


def outcome(attempt: Callable[[], object]) -> str:
    """What came of it."""
    try:
        return f"ALLOWED: {attempt()}"
    except OSError as error:
        return f"denied: {error.strerror}"


if __name__ == "__main__":
    json.dump(
        {
            "attempts": {name: outcome(attempt) for name, attempt in ATTEMPTS.items()},
            "needs": {name: outcome(attempt) for name, attempt in ALLOWED.items()},
        },
        sys.stdout,
    )

"""A Debian under QEMU (software emulation): boot it, run commands in it, cut its power.

What `tests/lab/build` made is only read; each machine has a disk of its own, a copy. The files in
`tests/lab/guest` are laid over it at every boot. It reaches nothing, and has no network until a
scenario asks for its one card (`connect_network`): then a port of this host leads to the agent's
page, and the address of a fleet's broker to another one.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.fakes.ports import free_port

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / "build" / "lab"
GUEST = Path(__file__).parent / "guest"

BOOT_LIMIT = 300.0
"""Seconds until commands are taken. 10 to 20 on two idle cores."""
LIMIT = 120.0
"""Seconds for a command or a wait. Everything is ten times slower than on real hardware, and more
so when the machine that emulates has other work."""

KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "loglevel=4",
    "mitigations=off",
    "nokaslr",
    "random.trust_cpu=on",
    "systemd.show_status=0",
    "systemd.default_timeout_start_sec=300",
    "systemd.mask=systemd-networkd-wait-online.service",
)


GUEST_ADDRESS = "10.0.2.15"
"""Of the machine, where it has a network: QEMU's user network forwards to it."""
PAGE_PORT = 9178
"""Of the agent there."""
BROKER = "10.0.2.100:4222"
"""Of a fleet's broker, as the machine reaches it: `broker_port` of this host."""


class Done:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def output(self) -> str:
        """Both streams."""
        return self.out + self.err


class Vm:
    """One machine. `directory` holds its disk, its console's text and what it received.

    Use as a context manager: booted inside it, its power cut at the end. QEMU dies with the thread
    that called `boot`, however that ends. Machines with one `broker_port` may be of one fleet; 0: a
    free one.
    """

    def __init__(self, directory: Path, broker_port: int = 0) -> None:
        self.directory = directory
        self.broker_port = broker_port or free_port()
        self.console = directory / "console.log"
        self.received = directory / "received.jsonl"
        self.page_port = 0
        """Of this host: leads to PAGE_PORT of the machine."""
        self.boots = 0
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pending = b""
        self._asked = 0

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.received.touch()
        disk = "cp", "--sparse=always", BUILT / "disk.img", self.directory / "disk.img"
        subprocess.run(disk, check=True, timeout=LIMIT)
        lay_files(self.directory)
        try:
            self.boot()
        except BaseException:
            self.cut_power()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.cut_power()
        (self.directory / "disk.img").unlink()

    def boot(self) -> None:
        """Switch it on; returns when it takes commands."""
        path = self.directory / "command"
        path.unlink(missing_ok=True)
        self.boots += 1
        self.page_port = free_port()
        forward = f"hostfwd=tcp:127.0.0.1:{self.page_port}-{GUEST_ADDRESS}:{PAGE_PORT}"
        # A process for each connection: one that is forwarded by QEMU itself is made at its start.
        broker = f"guestfwd=tcp:{BROKER}-cmd:busybox nc 127.0.0.1 {self.broker_port}"
        self._qemu = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem"),
                *("-smp", "2", "-m", "1536", "-no-reboot"),
                *("-nic", f"user,model=virtio-net-pci,restrict=on,{forward},{broker}"),
                *("-kernel", str(BUILT / "kernel"), "-initrd", str(self.directory / "initramfs")),
                *("-append", " ".join(KERNEL_ARGUMENTS)),
                "-drive",
                f"file={self.directory}/disk.img,if=virtio,format=raw,cache=writeback",
                *("-chardev", f"file,id=console,path={self.console},append=on"),
                *("-serial", "chardev:console"),
                *("-device", "virtio-serial-pci"),
                *("-chardev", f"socket,id=command,path={path},server=on,wait=off"),
                *("-device", "virtserialport,chardev=command,name=lab.command"),
                *("-chardev", f"file,id=received,path={self.received},append=on"),
                *("-device", "virtserialport,chardev=received,name=lab.received"),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.connect()

    def connect(self) -> None:
        """Take the command channel, of one that was booted elsewhere too: one may at a time."""
        end = time.monotonic() + LIMIT
        while self._channel is None:
            assert self._qemu is None or self._qemu.poll() is None, "QEMU ended; it says why above"
            assert time.monotonic() < end, f"nothing runs in {self.directory}"
            channel = socket.socket(socket.AF_UNIX)
            try:
                channel.connect(str(self.directory / "command"))
                self._channel = channel
            except (FileNotFoundError, ConnectionRefusedError):
                channel.close()
                time.sleep(0.05)
        self._pending = b""
        self.run("true", limit=BOOT_LIMIT)

    def connect_network(self) -> None:
        """Give it its address: from then on `page_port` leads to the agent's port there."""
        self.run("modprobe", "virtio_net")
        card = self.run("sh", "-c", "ls -d /sys/class/net/e*").out.strip().rpartition("/")[2]
        self.run("ip", "link", "set", card, "up")
        self.run("ip", "address", "replace", f"{GUEST_ADDRESS}/24", "dev", card)

    def disconnect(self) -> None:
        """Leave it to others."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def cut_power(self) -> None:
        """As if the plug were pulled: what the guest has not written to its disk is lost."""
        self.disconnect()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait(LIMIT)
            self._qemu = None

    def run(
        self,
        *command: str,
        ok: bool = True,
        stdin: str | None = None,
        limit: float = LIMIT,
    ) -> Done:
        """Run a command in it as root. A failure fails the test, unless it is expected: `ok=False`.

        A command still running after `limit` seconds is killed, with code 124.
        """
        asked = {"run": command, "input": stdin, "limit": limit}
        answer = self._ask(asked, limit)
        done = Done(answer["code"], answer["out"], answer["err"])
        if ok:
            assert done.code == 0, f"{command}: {done.code}\n{done.output[-5000:]}"
        return done

    def talk(self, path: str, text: str, limit: float = LIMIT) -> str:
        """Send the text to a socket in it: a path, or `:PORT`.

        Returns what came back: a line if the text is JSON, else all until the other end closed.

        Raises ConnectionError where nobody listens, or the limit passed.
        """
        answer = self._ask({"talk": path, "input": text, "limit": limit}, limit)
        if answer["err"]:
            raise ConnectionError(answer["err"])
        return str(answer["out"])

    def sh(self, script: str, *, ok: bool = True, limit: float = LIMIT) -> Done:
        """Run a script as an operator's shell would, stopping at the first failure."""
        return self.run("bash", "-euo", "pipefail", "-c", script, ok=ok, limit=limit)

    def until(self, condition: str, limit: float = LIMIT) -> None:
        """Wait, in it, until the shell condition holds."""
        done = self.sh(f"until {condition}; do sleep 0.2; done", ok=False, limit=limit)
        if done.code != 0:
            raise AssertionError(f"waited {limit} s for {condition}\n{done.output}{self.state()}")

    def write(self, path: str, text: str) -> None:
        """Write over a file in it; owner and mode stay."""
        self.run("sh", "-c", 'cat >"$0"', path, stdin=text)

    def text(self, path: str) -> str:
        """A file in it."""
        return self.run("cat", path).out

    def callbacks(self) -> list[dict[str, Any]]:
        """What its receiver got since the first boot, in order, whatever it answered."""
        whole, _, _ = self.received.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def state(self) -> str:
        """What a failed test wants to know."""
        script = """
            device-agent devices
            device-agent deliveries list | head -n 30
            ls -l /dev/bus/usb/*/*
            systemctl status --no-pager --lines=0 device-agent
            journalctl --no-pager -n 100 -o short-monotonic
        """
        return self.run("sh", "-c", script, ok=False).output

    def _ask(self, asked: dict[str, Any], limit: float) -> dict[str, Any]:
        assert self._channel is not None, "it is not booted"
        self._asked += 1
        self._channel.settimeout(limit + LIMIT)
        self._channel.sendall(json.dumps({"id": self._asked, **asked}).encode() + b"\n")
        while b"\n" not in self._pending:
            try:
                piece = self._channel.recv(65536)
            except TimeoutError:
                raise AssertionError(f"no answer; console:\n{self._last_words()}") from None
            assert piece, f"the machine went away; console:\n{self._last_words()}"
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        assert answer["id"] == self._asked, answer
        return answer

    def _last_words(self) -> str:
        return self.console.read_text(errors="replace")[-3000:]


def lay_files(directory: Path) -> None:
    """The initramfs of this run: what was built, and behind it the files of the lab."""
    laid = directory / "lay"
    shutil.rmtree(laid, ignore_errors=True)
    units = laid / "lab/etc/systemd/system"
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(parents=True)
    for tree in (GUEST, ROOT / "tests" / "fakes"):
        shutil.copytree(
            tree,
            laid / "lab/opt/lab" / tree.relative_to(ROOT),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copytree(GUEST / "units", units, dirs_exist_ok=True)
    for unit in sorted(units.glob("*.service")):
        (wanted / unit.name).symlink_to(f"../{unit.name}")
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
        input="\n".join(str(path.relative_to(laid)) for path in sorted(laid.rglob("*"))).encode(),
        cwd=laid,
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT,
    ).stdout
    built = (BUILT / "initramfs.cpio").read_bytes()
    (directory / "initramfs").write_bytes(built + archive)

"""An agent as a process whose phones are simulated, and hang there whether it runs or not.

`Rack` is what tests and the fleet's demo have in hand. The process (this module, started) is the
product's whole agent over the demo's bench (`agent.sources.simulated`) in place of udev, adb and
usbmux. It is told on its standard input, a line of JSON each: first all phones that hang there as
it begins, then each that has changed. Where that ends, it ends: it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from agent import log
from agent.app import App
from agent.config.file import ConfigFile
from agent.errors import AgentError
from agent.model import Bridge, Platform
from agent.reasons import Reason
from agent.sources.simulated import Bench, Phone
from agent.sources.supervisor import SourcePlan
from tests.kit import warm
from tests.kit.agent import AgentProcess, Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.config import Config
    from agent.model import SourceName
    from agent.sources.supervisor import SourcePlans

CONFIG = """\
[usage]
wda = false
uiautomator2 = false
"""
"""Of each rack: no server on this machine is looked at for its phones."""
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Hanging:
    """A phone at a rack: on USB, and as adb or usbmux has it; None: they do not list it."""

    phone: Phone
    bridge: Bridge | None
    reason: str = ""
    gone: bool = False
    """It hangs there no more."""

    def told(self) -> dict[str, Any]:
        """As JSON."""
        phone, bridge = self.phone, self.bridge
        return {
            "serial": phone.serial,
            "name": phone.name,
            "port": phone.port,
            "platform": phone.platform.value,
            "bridge": None if bridge is None else bridge.value,
            "reason": self.reason,
            "gone": self.gone,
        }

    @classmethod
    def read(cls, told: dict[str, Any]) -> Hanging:
        """Of that JSON."""
        phone = Phone(told["serial"], told["name"], told["port"], Platform(told["platform"]))
        bridge = None if told["bridge"] is None else Bridge(told["bridge"])
        return cls(phone, bridge, told["reason"], told["gone"])


class Rack(AgentProcess):
    """A host with simulated phones: the same `start`, `kill`, `stop` … as any agent process.

    What is done to its phones while no agent runs is what the next one finds.
    """

    def __init__(
        self, directory: Path, config: str, wrapper: Sequence[str] = (), *, listen: str = ""
    ) -> None:
        super().__init__(directory, CONFIG + config, wrapper, listen=listen)
        self._hanging: dict[str, Hanging] = {}

    @property
    def phones(self) -> list[Phone]:
        """Which hang there."""
        return [each.phone for each in self._hanging.values()]

    def plug(self, phone: Phone, bridge: Bridge | None = Bridge.READY, reason: str = "") -> None:
        """The cable goes in; or, for one that hangs there, adb or usbmux has other news of it."""
        self._hanging[phone.serial] = Hanging(phone, bridge, reason)
        self._tell(self._hanging[phone.serial])

    def unplug(self, phone: Phone) -> None:
        """The cable comes out."""
        if self._hanging.pop(phone.serial, None) is not None:
            self._tell(Hanging(phone, None, gone=True))

    def bridge(self, phone: Phone) -> Bridge | None:
        """How adb or usbmux has it; None: not at all."""
        hanging = self._hanging.get(phone.serial)
        return None if hanging is None else hanging.bridge

    async def _begun(self, environ: Mapping[str, str], stderr: int) -> Process:
        told, pipe = {**os.environ, **environ}, asyncio.subprocess.PIPE
        process: Process
        if not self.wrapper and warm.may_be_warm(environ):
            process = await warm.start(
                warm.RACK, self.path, environ=told, stdin=pipe, stderr=stderr
            )
        else:
            process = await asyncio.create_subprocess_exec(
                *(*self.wrapper, sys.executable, "-m", warm.RACK, str(self.path)),
                env=told,
                cwd=_ROOT,
                stdin=pipe,
                stderr=stderr,
            )
        assert process.stdin is not None
        first = [each.told() for each in self._hanging.values()]
        process.stdin.write(json.dumps(first).encode() + b"\n")
        return process

    def _tell(self, hanging: Hanging) -> None:
        """One that is not there, or ends just now, need not know it."""
        process = self.process
        if process is None or process.returncode is not None or process.stdin is None:
            return
        if not process.stdin.is_closing():  # else the next one is told
            process.stdin.write(json.dumps(hanging.told()).encode() + b"\n")


# --- in the process ------------------------------------------------------------------------------


async def _run(path: Path) -> None:
    file = ConfigFile(path.absolute(), os.environ)
    config, _ = file.load()
    log.configure(config.agent.log_level, config.agent.log_format, sys.stderr, os.environ)
    logging.captureWarnings(capture=True)
    told = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(told), sys.stdin
    )
    bench = Bench()
    for each in json.loads(await told.readline()):
        _show(bench, Hanging.read(each))

    def plans(config: Config, names: Iterable[SourceName], state_dir: Path) -> SourcePlans:
        del config, state_dir
        return {name: _plan(bench, name) for name in names}

    app = App(lambda: file.load()[0], config, file=file, plans=plans)

    async def hear() -> None:
        async for line in told:
            _show(bench, Hanging.read(json.loads(line)))
        structlog.get_logger(__name__).warning("rack.left_alone")
        app.stop()

    hearing = asyncio.create_task(hear())
    try:
        await app.run()
    finally:
        hearing.cancel()
        await asyncio.wait({hearing})
    if not hearing.cancelled():
        hearing.result()


def _plan(bench: Bench, name: SourceName) -> SourcePlan:
    return SourcePlan(name, lambda: bench.sources[name])


def _show(bench: Bench, hanging: Hanging) -> None:
    phone = hanging.phone
    if hanging.gone:
        bench.unplug(phone)
        return
    bench.plug(phone)
    if hanging.bridge is None:
        bench.sources[phone.bridge].hide(phone.serial)
    else:
        bench.bridge(phone, hanging.bridge, Reason(hanging.reason))


def main(config: str) -> int:
    """Run until SIGTERM, or until nobody speaks to it any more; returns the exit code."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(Path(config)))
    except AgentError as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    main(sys.argv[1])

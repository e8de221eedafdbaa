"""`device-agent demo`: simulated phones through the real pipeline, into a local receiver."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent import log
from agent.app import App
from agent.cli.receiver import Received, Receiver
from agent.config import parse
from agent.model import Bridge, Platform, SourceName
from agent.sources.adb_states import reading
from agent.sources.simulated import Bench, Phone, SimulatedSource
from agent.sources.supervisor import SourcePlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config import Config
    from agent.sources.supervisor import SourcePlans

SECRET = "device-agent-demo"  # noqa: S105 - no secret: it only shows that signatures are checked
STEP_LIMIT = 10.0
"""Seconds within which a step's callback must have come."""
QUIET = 1.5
"""Seconds of silence that prove that a held change makes no callback (holds are 1 s here)."""

NOTE = Phone("ce0917198075440c057e", "Galaxy Note 8", "1-1", Platform.ANDROID)
PIXEL = Phone("1A051FDF600AYB", "Pixel 9", "1-2", Platform.ANDROID)
IPHONE = Phone("00008120-000A2D3C0E91801E", "Lab iPhone 15", "2-1", Platform.IOS)

_CONFIG = """
[agent]
state_dir = "{state}"
log_level = "error"
[hold]
offline = "1s"
unplugged = "1s"
[api]
listen = ""
[[webhooks]]
name = "demo"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "{secret}"
"""


@click.command()
def command() -> None:
    """Show simulated phones becoming callbacks. Ends by itself, or on Ctrl-C."""
    log.to_stderr("error")
    with tempfile.TemporaryDirectory(prefix="device-agent-demo-") as state:
        sys.exit(asyncio.run(_demo(Path(state))))


def _plan(source: SimulatedSource) -> SourcePlan:
    return SourcePlan(source.name, lambda: source)


class _Screen:
    """Tells the story, and knows which callbacks have come."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    def take(self, got: Received) -> None:
        """A callback came in."""
        body = got.content
        self.came.append((body["deviceUdid"], body["eventDescription"]))
        self._news.set()
        with contextlib.suppress(OSError):  # nobody reads on: what is said next ends the story
            self._show(got, body)

    def _show(self, got: Received, body: dict[str, Any]) -> None:
        seal = "signature good" if got.verified else f"signature BAD: {got.why_not}"
        click.echo(
            f"   {click.style('→ callback', fg='green')} "
            f"{click.style(body['eventActivity'], bold=True)}  {body['deviceName']}  ({seal})"
        )
        click.echo(click.style(f"     {got.body.decode()}", dim=True))

    async def expect(self, phone: Phone, description: str) -> None:
        """Wait for the next callback; it must be that one."""
        count = len(self.came)
        async with asyncio.timeout(STEP_LIMIT):
            while len(self.came) == count:
                self._news.clear()
                await self._news.wait()
        if self.came[count] != (phone.serial, description):
            raise RuntimeError(f"expected {description} of {phone.name}, got {self.came[count]}")

    async def expect_nothing(self) -> None:
        """Wait long enough for a callback that must not come."""
        count = len(self.came)
        await asyncio.sleep(QUIET)
        if len(self.came) != count:
            raise RuntimeError(f"expected no callback, got {self.came[count:]}")
        click.echo(f"   {click.style('· no callback', dim=True)}")


async def _demo(state: Path) -> int:
    screen, bench = _Screen(), Bench()
    receiver = Receiver(screen.take, SECRET)
    url = await receiver.start("127.0.0.1", 0)
    text = _CONFIG.format(state=state, url=url, secret=SECRET)

    def load() -> Config:
        return parse(text, "demo.toml")

    def plans(config: Config, names: Iterable[SourceName], state_dir: Path) -> SourcePlans:
        del config, names, state_dir
        return {name: _plan(source) for name, source in bench.sources.items()}

    app = App(load, load(), {}, plans=plans)
    running = asyncio.create_task(app.run())
    playing = asyncio.create_task(_play(app, bench, screen, url))
    try:
        await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
        playing.cancel()
        await asyncio.wait({playing})
        app.stop()
        await running
        if not playing.cancelled():
            playing.result()
    finally:
        await receiver.stop()
    return 0


async def _play(app: App, bench: Bench, screen: _Screen, url: str) -> None:
    def say(text: str) -> None:
        click.echo(f"\n{click.style('■', fg='cyan')} {text}")

    click.echo(f"Simulated phones, the agent's real pipeline, a receiver at {url}")
    await app.ready()

    say("A Galaxy Note 8 is plugged in; it asks to be trusted, and somebody accepts.")
    bench.plug(NOTE)
    bench.bridge(NOTE, *reading("unauthorized"))
    await asyncio.sleep(0.3)
    bench.bridge(NOTE, Bridge.READY)
    await screen.expect(NOTE, "Online")

    say("An iPhone is plugged in that trusts this host already.")
    bench.plug(IPHONE)
    bench.bridge(IPHONE, Bridge.READY)
    await screen.expect(IPHONE, "Online")

    say("A Pixel is plugged in, and nobody accepts its prompt: after the hold time it is offline.")
    bench.plug(PIXEL)
    bench.bridge(PIXEL, *reading("unauthorized"))
    await screen.expect(PIXEL, "Offline")

    say("Alice takes the Galaxy (device-agent use … -- pytest).")
    lease = await app.services.leases.acquire(NOTE.serial, "alice", "pytest", 60)
    await screen.expect(NOTE, "Utilizing")

    say("The Galaxy's cable flickers for 0.3 s: shorter than the hold time.")
    bench.unplug(NOTE)
    await asyncio.sleep(0.3)
    bench.plug(NOTE)
    bench.bridge(NOTE, Bridge.READY)
    await screen.expect_nothing()

    say("The adb server dies and is restarted: a source that is down is unknown, not absent.")
    bench.fail(SourceName.ADB, "adb server died")
    await asyncio.sleep(0.3)
    bench.recover(SourceName.ADB)
    await screen.expect_nothing()

    say("Alice is done: from utilizing to online, which is recorded and calls nobody back.")
    await app.services.leases.release(lease["id"])
    await screen.expect_nothing()

    say("The iPhone is unplugged.")
    bench.unplug(IPHONE)
    await screen.expect(IPHONE, "Unplugged")

    say("Somebody accepts the Pixel's prompt at last.")
    bench.bridge(PIXEL, Bridge.READY)
    await screen.expect(PIXEL, "Online")

    click.echo(f"\nDone: {len(screen.came)} callbacks, each stored before it was sent.")

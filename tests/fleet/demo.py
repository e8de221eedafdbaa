"""`make fleet-demo`: three hosts with simulated phones, a broker, a hub, and what befalls them.

    python -m tests.fleet.demo [--once]

All of it runs on this machine, as processes on loopback below a temporary directory, and ends with
this one. Each step waits for the callbacks that it must make; any other fails the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.receiver import Receiver
from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.kit.agent import cli
from tests.kit.broker import BUNDLED, Broker
from tests.kit.fleet import HEARTBEAT, TAKEOVER, hub, rack

if TYPE_CHECKING:
    from agent.cli.receiver import Received
    from tests.kit.agent import AgentProcess
    from tests.kit.rack import Rack

SECRET = "device-agent-demo"
"""Not one: it only shows that signatures are checked."""
HOLD = 1.0
"""Seconds that a phone must be away to count, at its own host."""
HOST_GRACE = 8.0
SOURCE_GRACE = 2.0
MOVE_HOLD = 3.0
QUIET = HOLD + MOVE_HOLD + 1.0
"""Seconds of silence that prove that nobody is told."""
STEP_LIMIT = 60.0
"""Seconds within which a step's callbacks must have come."""
STROLL = 4.0
"""Seconds between what happens by itself once the story is told."""

NOTE = Phone("ce0917198075440c057e", "Galaxy Note 8", "1-1", Platform.ANDROID)
PIXEL = Phone("1A051FDF600AYB", "Pixel 9", "1-2", Platform.ANDROID)
IPHONE = Phone("00008120-000A2D3C0E91801E", "Lab iPhone 15", "2-1", Platform.IOS)

HOLDS = f'[hold]\noffline = "{HOLD:.0f}s"\nunplugged = "{HOLD:.0f}s"\n'
WEBHOOK = """\
[[webhooks]]
id = 1
name = "demo"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "{secret}"
payload = "extended"
"""


class StoryError(Exception):
    """It went otherwise than it must."""


class Board:
    """Shows each callback, and knows which have come."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        """(UDID, event) of each message, when it came first."""
        self.repeats = 0
        self._bodies: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()
        self._expected = 0
        self._wrong = ""

    def take(self, got: Received) -> None:
        """A callback came in."""
        body = got.content
        known = self._bodies.setdefault(got.headers["webhook-id"], body)
        if repeat := known is not body:
            self.repeats += 1
            if known | {"creationTime": ""} != body | {"creationTime": ""}:
                self._wrong = f"one id for {known} and {body}"
        else:
            self.came.append((body["deviceUdid"], body["eventDescription"]))
        self._news.set()
        seal = "signature good" if got.verified else f"signature BAD: {got.why_not}"
        with contextlib.suppress(OSError):  # nobody reads on
            _tell(
                f"   {click.style('→ callback', fg='green')} "
                f"{click.style(body['eventActivity'], bold=True)}  {body['deviceName']}  "
                f"({body['host']}; {seal}{'; again, with its id' if repeat else ''})"
            )
            if body.get("reason"):
                _tell(click.style(f"     {body['reason']}", dim=True))

    async def expect(self, *expected: tuple[Phone, str]) -> None:
        """Wait for these: those of one phone in this order, and no others."""
        wanted = [(phone.serial, event) for phone, event in expected]
        end = self._expected + len(wanted)
        try:
            async with asyncio.timeout(STEP_LIMIT):
                while len(self.came) < end:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise StoryError(f"expected {wanted}, got {self.came[self._expected :]}") from None
        got = self.came[self._expected : end]
        for udid, _ in wanted:
            mine = [[each for each in all_ if each[0] == udid] for all_ in (wanted, got)]
            if mine[0] != mine[1]:
                raise StoryError(f"expected {wanted}, got {got}")
        self._expected = end
        self.expect_no_more()

    async def expect_nothing(self, during: float = QUIET) -> None:
        """Wait so long for a callback that must not come."""
        await asyncio.sleep(during)
        self.expect_no_more()
        _tell(f"   {click.style('· no callback', dim=True)}")

    def expect_no_more(self) -> None:
        """All that came was expected, and nothing twice but under its id."""
        if self._wrong:
            raise StoryError(self._wrong)
        if len(self.came) > self._expected:
            raise StoryError(f"expected no callback, got {self.came[self._expected :]}")

    def forget(self) -> None:
        """From now on anything may come."""
        self._expected = sys.maxsize


class Fleet:
    """What runs; use inside `running`."""

    def __init__(self, place: Path, url: str) -> None:
        self.broker = Broker(place / "broker")
        urls = [self.broker.url]
        self.racks = {
            host: rack(place / host, host, urls, more=HOLDS)
            for host in ("rack-1", "rack-2", "rack-3")
        }
        self.hub = hub(
            place / "hub",
            urls,
            WEBHOOK.format(url=url, secret=SECRET),
            host_grace=HOST_GRACE,
            move_hold=MOVE_HOLD,
            source_grace=SOURCE_GRACE,
            page=True,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """While all of it runs; whatever still does then is ended, by its pid."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.broker.close)
            await self.broker.start()
            for each in (self.hub, *self.racks.values()):
                await stack.enter_async_context(each)
            await asyncio.gather(*(each.start() for each in (self.hub, *self.racks.values())))
            yield

    async def where(self, phone: Phone) -> str:
        """The host that the hub has it at, and its state."""
        rows = (await self.hub.api("GET", "/v1/devices"))[1]["devices"]
        row = next(row for row in rows if row["udid"] == phone.serial)
        return f"{row['host']}, {row['state']}"

    async def until_at(self, phone: Phone, where: str) -> None:
        """Until the hub has it there."""
        found = ""
        try:
            async with asyncio.timeout(STEP_LIMIT):
                while (found := await self.where(phone)) != where:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StoryError(f"{phone.name}: expected {where}, the hub has {found}") from None

    async def why_not_ready(self) -> str:
        """What the hub says of itself once it is not."""
        try:
            async with asyncio.timeout(STEP_LIMIT):
                while True:
                    status, answer = await self.hub.api("GET", "/-/ready")
                    if status != 200:
                        return "; ".join(answer["problems"])
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StoryError("the hub says that it is ready, without its broker") from None


def _tell(text: str) -> None:
    click.echo(text)


def _say(text: str) -> None:
    _tell(f"\n{click.style('■', fg='cyan')} {text}")


def _note(text: str) -> None:
    _tell(f"   {click.style(f'· {text}', dim=True)}")


async def _play(fleet: Fleet, board: Board) -> None:
    """The story."""
    one, two, three = fleet.racks.values()

    _say("Phones are plugged in: a Galaxy at rack-1, a Pixel at rack-2, an iPhone at rack-3.")
    for each, phone in ((one, NOTE), (two, PIXEL), (three, IPHONE)):
        each.plug(phone)
    await board.expect((NOTE, "Online"), (PIXEL, "Online"), (IPHONE, "Online"))

    _say("The Pixel is carried from rack-2 to rack-1: it was moved, and nobody unplugged it.")
    two.unplug(PIXEL)
    await asyncio.sleep(HOLD + 0.5)
    one.plug(PIXEL)
    await board.expect_nothing()
    await fleet.until_at(PIXEL, "rack-1, online")
    _note("the hub has it at rack-1, online")

    _say("Alice takes the Galaxy at the hub, for 2 s; rack-1 holds it (device-agent use … ).")
    using = asyncio.create_task(
        cli("use", "--config", fleet.hub.path, NOTE.serial, "--", "sleep", "2")
    )
    await board.expect((NOTE, "Utilizing"))
    code, _, error = await using
    if code:
        raise StoryError(f"use ended with {code}: {error}")
    await board.expect_nothing()

    _say(
        "rack-3 dies (SIGKILL), its iPhone as it is. First nothing is known, and nothing is said …"
    )
    await three.kill()
    await board.expect_nothing(HEARTBEAT - 1)
    _say(f"… after {HOST_GRACE:.0f} s of silence rack-3 is lost: offline, and not unplugged.")
    await board.expect((IPHONE, "Offline"))

    _say("rack-3 is back.")
    await three.start()
    await board.expect((IPHONE, "Online"))

    _say("The hub dies (SIGKILL). Meanwhile the Pixel loses its trust and gets it again.")
    await fleet.hub.kill()
    one.plug(PIXEL, Bridge.NOT_READY, "unauthorized: accept the USB debugging prompt")
    await one.until_device(PIXEL.serial, "state", "offline")
    one.plug(PIXEL)
    await one.until_device(PIXEL.serial, "state", "online")
    await board.expect_nothing(1.0)
    _say(
        f"It is back. After {TAKEOVER:.0f} s in which nobody else led, it tells all of it in order."
    )
    await fleet.hub.start()
    await board.expect((PIXEL, "Offline"), (PIXEL, "Online"))

    _say("The broker dies, and its disk with it. The Pixel is unplugged meanwhile.")
    fleet.broker.kill()
    fleet.broker.wipe()
    one.unplug(PIXEL)
    _note(f"the hub: {await fleet.why_not_ready()}")
    await board.expect_nothing()
    _say("A new broker, empty: the agents are the log.")
    await fleet.broker.start()
    await board.expect((PIXEL, "Unplugged"))

    await board.expect_nothing(1.0)
    told = Counter(event for _, event in board.came)
    _tell(
        f"\nDone: {len(board.came)} callbacks ({', '.join(f'{n} {e}' for e, n in told.items())}), "
        f"{board.repeats} of them sent twice."
    )


async def _stroll(racks: list[Rack]) -> None:
    """Phones come and go, for whoever looks at the page."""
    at = random.Random(1)
    phones = [
        Phone(f"R5CT{number:07d}", f"Galaxy S{20 + number % 6}", f"3-{number}", Platform.ANDROID)
        for number in range(1, 10)
    ]
    for phone in (*phones, PIXEL):
        at.choice(racks).plug(phone)
    while True:
        await asyncio.sleep(STROLL)
        phone = at.choice(phones)
        mine = next((each for each in racks if phone in each.phones), None)
        if mine is None or at.random() < 0.3:
            if mine is not None:
                mine.unplug(phone)
            at.choice(racks).plug(phone)
        elif at.random() < 0.5:
            mine.unplug(phone)
        else:
            mine.plug(phone, Bridge.NOT_READY, "unauthorized: accept the USB debugging prompt")


async def _link(hub: AgentProcess) -> str:
    """To the hub's page, signed in."""
    code, said, _ = await hub.cli("ui", "--no-open")
    return said.strip().splitlines()[-1] if code == 0 else f"http://{hub.listen}/"


async def _demo(place: Path, *, once: bool) -> None:
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    board = Board()
    receiver = Receiver(board.take, SECRET)
    url = await receiver.start("127.0.0.1", 0)
    began = time.monotonic()
    try:
        fleet = Fleet(place, url)
        _tell(f"Three agents with simulated phones, a hub, a broker ({BUNDLED.name}), a receiver.")
        async with fleet.running():
            _tell(
                f"The hub's page, with all hosts: {click.style(await _link(fleet.hub), bold=True)}"
            )
            await _play(fleet, board)
            _note(f"it took {time.monotonic() - began:.0f} s")
            if once:
                return
            board.forget()
            _tell(f"\nAll of it stays up until Ctrl-C. The page: {await _link(fleet.hub)}")
            _note(f"device-agent hosts --config {fleet.hub.path}")
            await _stroll(list(fleet.racks.values()))
    finally:
        await receiver.stop()


@click.command()
@click.option("--once", is_flag=True, help="End with the story.")
def main(*, once: bool) -> None:
    """Show a fleet on this machine. Stays up until Ctrl-C."""
    with (
        tempfile.TemporaryDirectory(prefix="da-fleet-") as place,
        contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
    ):
        try:
            asyncio.run(_demo(Path(place), once=once))
        except StoryError as error:
            sys.exit(f"fleet-demo: {error}")


if __name__ == "__main__":
    main()

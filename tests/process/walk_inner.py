"""A random walk of a whole host: what the receivers are told is compared with a model of ten lines.

Phones are plugged, unplugged, moved, trusted, taken, stolen and given back; the file is reloaded,
equal and changed, with a webhook gone and back again; the agent is ended by SIGTERM and SIGKILL and
finds other phones when it is back; endpoints fail and recover; adb, udevd and Appium go and come
back. Each step is waited for, so the model knows every callback there must be.

Runs only inside a namespace of its own; test_walk.py brings it there.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.model import DeviceState
from agent.track.derive import CALLS_BACK
from tests.fakes.fake_adb_host import Listed
from tests.fakes.receiver import Receiver, answer, hang_up, raw, reset
from tests.fakes.usage_servers import FakeAppium
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT
from tests.process.usb_inner import Host, loopback

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["loopback"]  # the fixture that this module's test needs, too

PHONES = 5
STEPS = int(os.environ.get("WALK_STEPS", "18"))
CONFIG = """
[hold]
online = "{online}"
utilizing = "{utilizing}"
offline = "1s"
unplugged = "700ms"
arrival = "500ms"
[flap]
transitions = 1000000
[android]
adb_server = "{adb}"
start_server = false
probe_interval = "0s"
[ios]
enabled = false
[usage]
interval = "200ms"
appium = ["{appium}"]
wda = false
uiautomator2 = false
[delivery]
timeout = "{timeout}"
[[webhooks]]
id = 1
name = "all"
url = "{first}"
events = ["online", "offline", "utilizing", "unplugged"]
[[webhooks]]
id = 3
name = "newest"
url = "{third}"
events = ["online", "offline", "utilizing", "unplugged"]
backlog = "{backlog}"
[[webhooks]]
id = 4
name = "pager"
url = "{fourth}"
events = ["online", "offline", "utilizing", "unplugged"]
after = "{after}"
"""
SECOND = """
[[webhooks]]
id = 2
name = "cable"
url = "{second}"
events = ["online", "unplugged"]
"""
EVENTS = {2: frozenset({DeviceState.ONLINE, DeviceState.UNPLUGGED})}
FAULTS = (
    answer(503),
    answer(429, ("Retry-After: 1",)),
    reset(),
    hang_up(),
    raw(b"nonsense\r\n\r\n", close=True),
)


@dataclass
class ModelPhone:
    """One phone as it really is, and what receivers must have been told of it."""

    serial: str
    port: str
    plugged: bool = False
    adb: str = ""
    """What adb says of it while it is plugged; "": nothing, its debugging is off."""
    lease: str = ""
    """The id of the lease on it."""
    session: bool = False
    """An Appium session uses it."""
    used: bool = False
    """So the agent must believe, who cannot know it while Appium is down."""
    state: DeviceState | None = None
    told: list[DeviceState] = field(default_factory=list)
    second: list[list[DeviceState]] = field(default_factory=lambda: [[]])
    """Of `told`, what was told while the second webhook was in force: a list for each such time."""

    @property
    def due(self) -> DeviceState | None:
        """The state it must come to; None: never seen."""
        if not self.plugged:
            return None if self.state is None else DeviceState.UNPLUGGED
        if self.adb != "device":
            return DeviceState.OFFLINE
        return DeviceState.UTILIZING if self.lease or self.used else DeviceState.ONLINE

    def settle(self, *, readable: bool, second: bool) -> None:
        """It has come to that state; if Appium is readable, and the second webhook in the file."""
        if readable:
            self.used = self.session
        due = self.due
        if due is not None and due is not self.state:
            if (self.state, due) in CALLS_BACK:
                self.told.append(due)
                if second and due in EVENTS[2]:
                    self.second[-1].append(due)
            self.state = due
        if not readable and due in {DeviceState.OFFLINE, DeviceState.UNPLUGGED}:
            self.used = False  # it is remembered no more


class Walk:
    """The host, the agent, the receivers and the model, and the steps that change them."""

    def __init__(self, host: Host, agent: AgentProcess, seed: int) -> None:
        self.host = host
        self.agent = agent
        self.dice = random.Random(seed)
        self.phones = [ModelPhone(f"R58M{n}", f"1-{n + 1}") for n in range(PHONES)]
        self.receivers = {1: host.receiver, 2: Receiver(), 3: Receiver(), 4: Receiver()}
        self.appium = FakeAppium()
        self.reloads = 0
        self.readable = True
        """Whether Appium is up."""
        self.second = True
        """Whether the second webhook is in the file."""
        self.after = "1h"
        """How long the fourth waits: longer than a walk, so that it is told nothing of it."""
        self.holds = {hold: self.dice.choice(("0s", "300ms")) for hold in ("online", "utilizing")}
        self.steps: list[str] = []

    def config(self) -> str:
        """The file as it must be now; every reload that changes anything changes its paths."""
        urls = [self.receivers[id_].url(f"/{self.reloads}") for id_ in (1, 2, 3, 4)]
        return (CONFIG + SECOND * self.second).format(
            adb=self.host.adb.address,
            appium=self.appium.url,
            timeout=f"{5 + self.reloads % 7}s",
            first=urls[0],
            second=urls[1],
            third=urls[2],
            fourth=urls[3],
            after=self.after,
            backlog="all" if self.reloads % 3 == 1 else "latest",
            **self.holds,
        )

    # --- steps -----------------------------------------------------------------------------

    async def step(self) -> None:
        """Something happens, and is seen."""
        steps: dict[Callable[[], Any], int] = {
            self.cables: 5,
            self.moves: 1,
            self.leases: 3,
            self.sessions: 3,
            self.reload: 2,
            self.webhooks: 1,
            self.restart: 3,
            self.faults: 2,
            self.adb_outage: 1,
            self.udev_outage: 1,
            self.usage_outage: 2,
        }
        await self.do(*self.dice.choices(list(steps), list(steps.values())))

    async def do(self, *steps: Callable[[], Any]) -> None:
        """One after the other, each seen."""
        for step in steps:
            self.steps.append(step.__name__)
            await step()
            await self.settled()

    async def cables(self) -> None:
        """Some phones are plugged, unplugged, trusted or not."""
        for phone in self.dice.sample(self.phones, self.dice.randrange(1, PHONES)):
            self.turn(phone)

    def turn(self, phone: ModelPhone) -> None:
        """One phone changes."""
        self.steps.append(f"  {phone.serial}")
        self.session(phone, begins=False)  # none outlives what happens to its phone
        if phone.plugged and self.dice.random() < 0.5:
            phone.plugged, phone.adb = False, ""
            self.host.unplug(phone.port)
            self.host.adb.remove(phone.serial)
            return
        if not phone.plugged:
            phone.plugged = True
            self.host.plug(phone.port, phone.serial, model="Rack")
        phone.adb = self.dice.choice(("", "unauthorized", "device", "device"))
        self.lists(phone)

    def lists(self, phone: ModelPhone) -> None:
        """Adb says of it what it must."""
        if phone.adb:
            number = self.phones.index(phone) + 1
            listed = Listed(phone.serial, phone.adb, port=phone.port, transport_id=number)
            self.host.adb.set(listed)
        else:
            self.host.adb.remove(phone.serial)

    async def moves(self) -> None:
        """One phone goes to another port, and is there before its absence counts."""
        phone = self.dice.choice(self.phones)
        if phone.plugged:
            self.host.unplug(phone.port)
            self.host.adb.remove(phone.serial)
            number = self.phones.index(phone) + 1
            phone.port = f"1-{number + 10}" if phone.port == f"1-{number}" else f"1-{number}"
            self.host.plug(phone.port, phone.serial, model="Rack")
            self.lists(phone)

    async def leases(self) -> None:
        """Some phones are taken, in whatever state they are; some leases given back or stolen."""
        for phone in self.dice.sample(self.phones, self.dice.randrange(1, PHONES)):
            steals = self.dice.random() < 0.3
            if phone.lease and not steals:
                status, _ = await self.agent.api("DELETE", f"/v1/leases/{phone.lease}")
                assert status == 200
                phone.lease = ""
            elif phone.state is not None and (not phone.lease or steals):
                body = {"udid": phone.serial, "holder": "walker", "ttl": 3600}
                if steals:
                    body["steal"] = "it is mine"
                status, lease = await self.agent.api("POST", "/v1/leases", body)
                assert status == 201, lease
                phone.lease = lease["id"]

    async def sessions(self) -> None:
        """Some Appium sessions begin, some end."""
        for phone in self.dice.sample(self.phones, self.dice.randrange(1, PHONES)):
            if phone.session or phone.state is DeviceState.ONLINE:
                self.session(phone, begins=not phone.session)

    def session(self, phone: ModelPhone, *, begins: bool) -> None:
        """One session begins or ends."""
        phone.session = begins
        self.appium.sessions.pop(phone.serial, None)
        if begins:
            self.appium.sessions[phone.serial] = {"appium:udid": phone.serial}

    async def reload(self) -> None:
        """An equal file, or one whose URLs and limits are others."""
        if self.dice.random() < 0.6:
            self.reloads += 1
            self.agent.write(self.config())
        status, answered = await self.agent.api("POST", "/v1/reload")
        assert status == 200, answered

    async def webhooks(self) -> None:
        """One goes, with what waits for it, or comes back."""
        self.second = not self.second
        if self.second:
            for phone in self.phones:
                phone.second.append([])
        self.agent.write(self.config())
        assert (await self.agent.api("POST", "/v1/reload"))[0] == 200

    async def adb_outage(self) -> None:
        """Its server goes and comes back, and may find other phones."""
        await self.host.adb.kill()
        if self.dice.random() < 0.5:
            await asyncio.sleep(self.dice.random())
            await self.cables()
        await self.host.adb.start()

    async def udev_outage(self) -> None:
        """It is stopped, and started anew."""
        downs, snapshots = self.logged("udev.down"), self.logged("udev.snapshot")
        self.host.sysfs.stop_udevd()
        await self.agent.until(lambda: self.logged("udev.down") > downs, "udev.down")
        await self.do(self.dice.choice((self.leases, self.sessions)))
        self.host.sysfs.start_udevd()
        await self.agent.until(lambda: self.logged("udev.snapshot") > snapshots, "udev.snapshot")

    async def usage_outage(self) -> None:
        """What uses which phone is not known for a while."""
        await self.read_again()  # what was in use before the last start is confirmed by now
        await self.appium.stop()
        self.readable = False
        if self.dice.random() < 0.5:
            await self.do(*self.dice.choices((self.cables, self.leases, self.reload), k=3))
        else:
            await self.do(self.restart, self.cables)
        await self.appium.start()
        self.readable = True

    async def read_again(self) -> None:
        """Appium is read until all that it can say is known."""
        enough = len(self.appium.asked) + 3
        async with asyncio.timeout(LIMIT):
            while len(self.appium.asked) < enough:  # noqa: ASYNC110 - another process asks
                await asyncio.sleep(0.05)

    async def restart(self) -> None:
        """An end, of a kill in the middle of what goes on; it may find other phones then."""
        match self.dice.randrange(4):
            case 0:
                await self.cables()  # what comes of it is committed before the end, or never seen
                await self.agent.kill()
            case 1:
                await self.agent.kill()
                await self.cables()
            case 2:
                assert await self.agent.stop() == 0
                await self.cables()
            case _:
                assert await self.agent.stop() == 0
        await self.agent.start()

    async def faults(self) -> None:
        """Some endpoint fails, or is well again."""
        receiver = self.dice.choice(list(self.receivers.values()))
        receiver.default = self.dice.choice((answer(204), answer(204), *FAULTS))

    # --- judging ---------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until every phone is shown in the state that it must come to."""
        for phone in self.phones:
            phone.settle(readable=self.readable, second=self.second)
            if phone.state is not None:
                await self.agent.until_device(phone.serial, "state", phone.state)
                await self.agent.until_device(phone.serial, "since", "T")  # it counts
        await self.agent.stored()

    async def judge(self) -> None:
        """Every callback of the model arrived in order, and no other."""
        for receiver in self.receivers.values():
            receiver.default = answer(204)
        assert not self.receivers[4].requests, "no state has lasted for an hour"
        self.after = "0s"
        self.reloads += 1
        self.agent.write(self.config())
        assert (await self.agent.api("POST", "/v1/reload"))[0] == 200, "what waits is tried at once"
        await self.agent.until_delivered()
        for phone in self.phones:
            assert self.heard(1, phone.serial) == phone.told, (phone, self.steps)
            *cut, last = phone.second if self.second else [*phone.second, []]
            assert _is_told(self.heard(2, phone.serial), cut, last), (phone, self.steps)
            net = [phone.state] if (None, phone.state) in CALLS_BACK else []
            assert self.heard(4, phone.serial) == net, (phone, self.steps)
            newest = self.heard(3, phone.serial)
            rest = iter(phone.told)
            assert all(state in rest for state in newest), (newest, phone, self.steps)
            assert newest[-1:] == phone.told[-1:], (newest, phone, self.steps)

    def logged(self, event: str) -> int:
        """How often the agent has said so."""
        return sum(event in line for line in self.agent.log)

    def heard(self, id_: int, serial: str) -> list[DeviceState]:
        """What that receiver was told of the phone; a message that came twice counts once."""
        first: dict[str, bytes] = {}
        for request in self.receivers[id_].requests:
            assert first.setdefault(request.headers["webhook-id"], request.body) == request.body
        bodies = [json.loads(body) for body in first.values()]
        return [
            DeviceState(body["eventDescription"].lower())
            for body in bodies
            if body["deviceUdid"] == serial
        ]


def _is_told(
    heard: list[DeviceState], cut: list[list[DeviceState]], last: list[DeviceState]
) -> bool:
    """Whether it heard the first part of each of those times, and all of the last one."""
    if not cut:
        return heard == last
    return any(
        heard[:length] == cut[0][:length] and _is_told(heard[length:], cut[1:], last)
        for length in range(len(cut[0]) + 1)
    )


async def test_the_receivers_are_told_what_the_model_says() -> None:
    seed = int(os.environ["WALK_SEED"])
    print("seed", seed)
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        place = Path(name)
        host = Host(place)
        host.sysfs.start_udevd()
        agent = AgentProcess(place, "")
        walk = Walk(host, agent, seed)
        for receiver in walk.receivers.values():
            await receiver.start()
        await walk.appium.start()
        async with host.adb, agent:
            agent.write(walk.config())
            await agent.start()
            try:
                for _ in range(STEPS):
                    await walk.step()
                await walk.judge()
            except AssertionError as error:
                error.add_note("\n".join((f"seed {seed}", *walk.steps, *agent.log[-60:])))
                raise
            assert await agent.stop() == 0
            assert not any("Traceback" in line for line in agent.log), agent.log
        for receiver in walk.receivers.values():
            await receiver.close()
        await walk.appium.stop()
        host.net.close()
        host.sysfs.clear()

"""A real agent with phones and a receiver, for a browser to look at."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port
from tests.fakes.receiver import Receiver
from tests.faults.private_disk import TMPFS, PrivateDisk
from tests.kit.agent import AgentProcess
from tests.kit.configs import AT_ONCE, only_adb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

HOOK = """\
[[webhooks]]
name = "{name}"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""


class Phone:
    """A simulated Android phone behind a real adb server."""

    def __init__(self, server: RealAdbServer, number: int) -> None:
        self._server = server
        self.number = number
        self.fake = FakePhone(device_name=f"Phone {number}", model=f"Pixel {number}")

    @property
    def udid(self) -> str:
        """What the agent calls it."""
        return self.fake.serial

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.fake.device_name

    async def plug(self) -> None:
        """A cable goes in; it is online a moment later."""
        await self._server.register(self.fake)

    async def unplug(self) -> None:
        """The cable goes out."""
        self.fake.hang_up()

    async def unauthorize(self) -> None:
        """It asks whether it may be debugged, and nobody says yes."""
        self.fake.revoke()

    async def authorize(self) -> None:
        """Somebody says yes."""
        self.fake.accept()

    async def rename(self, name: str) -> None:
        """By whoever holds it; the agent learns it when the phone comes next."""
        self.fake.device_name = name

    async def close(self) -> None:
        await self.fake.close()


class ListedPhone:
    """A phone of a scripted adb server: with a serial and a USB port of choice, and fast."""

    def __init__(self, host: FakeAdbHost, number: int) -> None:
        self._host = host
        self.number = number
        self.name = f"Phone {number}"
        hub, port = divmod(number - 1, 7)
        self.row = Listed(
            f"SERIAL{number:04}", model=f"Pixel_{number}", port=f"1-{hub + 1}.{port + 1}"
        )

    @property
    def udid(self) -> str:
        """What the agent calls it."""
        return self.row.serial

    def _push(self) -> None:
        self.row.told = (
            f"device_name={self.name}\nmarketname=\nmodel={self.row.model}\nserialno={self.udid}\n"
        )
        self._host.set(self.row)

    async def plug(self) -> None:
        """A cable goes in, as a new transport of adb's."""
        self.row.transport_id = 0
        self.row.state = "device"
        self._push()

    async def unplug(self) -> None:
        """The cable goes out."""
        self._host.remove(self.udid)

    async def unauthorize(self) -> None:
        """It asks whether it may be debugged, and nobody says yes."""
        self.row.state = "unauthorized"
        self._push()

    async def authorize(self) -> None:
        """Somebody says yes."""
        self.row.state = "device"
        self._push()

    async def rename(self, name: str) -> None:
        """By whoever holds it; the agent learns it when the phone comes next."""
        self.name = name

    async def close(self) -> None:
        """Nothing is open."""


class Lab:
    """An agent that serves the page at `base`, its phones, and the receiver of its webhook.

    Its one webhook of the file is called `rack`; `receiver.default` and `receiver.script` say what
    it is answered.
    """

    def __init__(self, place: Path, *, host: str = "127.0.0.1", tls: Path | None = None) -> None:
        self.place = place
        self.listen = f"{host}:{free_port()}"
        self.base = f"{'https' if tls else 'http'}://{self.listen}/"
        self.tls = tls
        self.receiver = Receiver()
        self.phones: list[Phone | ListedPhone] = []
        self.server: RealAdbServer | FakeAdbHost
        self.agent: AgentProcess
        self.disk: PrivateDisk | None = None
        """Of the state, where it has one of its own."""
        self._api = ""
        self._rest = ""

    def write(self, *, api: str | None = None, rest: str | None = None) -> None:
        """Write the configuration anew; for `agent.api("POST", "/v1/reload")`."""
        self._api = self._api if api is None else api
        self._rest = self._rest if rest is None else rest
        self.agent.write(self._config())

    def _config(self) -> str:
        keys = [self._api]
        if self.tls is not None:
            keys += [f'cert = "{self.tls}/server.pem"', f'key = "{self.tls}/server.key"']
        hook = HOOK.format(name="rack", url=self.receiver.url())
        return "\n".join((*keys, AT_ONCE, only_adb(self.server.address), self._rest, hook))

    async def start(self) -> None:
        """Start the agent, or start it again."""
        await self.agent.start()

    async def kill(self) -> None:
        """SIGKILL."""
        await self.agent.kill()

    def freeze(self) -> None:
        """SIGSTOP: the kernel accepts for it, and nothing is answered."""
        self.agent.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.agent.signal(signal.SIGCONT)

    async def code(self) -> str:
        """One for a browser, as `device-agent ui` gets it."""
        status, row = await self.agent.api("POST", "/v1/sessions/code")
        assert status == 200, row
        return str(row["code"])

    async def sign_in(self, page: Page) -> None:
        """Open the page with a code, as `device-agent ui` does; returns when it is signed in."""
        await page.goto(f"{self.base}#code={await self.code()}")
        await page.locator("html.may-change").wait_for()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer over the unix socket; it must be a good one."""
        status, answer = await self.agent.api(method, path, body)
        assert status < 300, answer
        return answer

    async def until_state(self, phone: Phone | ListedPhone, state: str) -> None:
        """Wait until the agent says so."""
        await self.agent.until_device(phone.udid, "state", state)


@contextlib.asynccontextmanager
async def opened(
    place: Path,
    *,
    phones: int = 3,
    api: str = "",
    config: str = "",
    scripted: bool = False,
    tls: Path | None = None,
    host: str = "127.0.0.1",
    wait: bool = True,
    small: bool = False,
) -> AsyncIterator[Lab]:
    """A lab at work.

    Args:
        place: an empty directory with a short name.
        phones: how many are plugged in.
        api: more keys of [api], `read = "token"`.
        config: more tables.
        scripted: the adb server is a fake, whose phones have serials and USB ports of choice, and
            change as fast as is wanted; else a real one.
        tls: a directory of `tests.fakes.pki`, to serve with TLS.
        host: the address to serve at.
        wait: until all phones are online.
        small: the state has a disk of its own, of 4 MB: `Lab.disk`.
    """
    lab = Lab(place, host=host, tls=tls)
    async with contextlib.AsyncExitStack() as stack:
        await lab.receiver.start()
        stack.push_async_callback(lab.receiver.close)
        if scripted:
            fake = await stack.enter_async_context(FakeAdbHost())
            lab.server = fake
            lab.phones = [ListedPhone(fake, number + 1) for number in range(phones)]
        else:
            (place / "adb").mkdir()
            real = RealAdbServer(next(iter(BINARIES.values())), place / "adb")
            lab.server = await stack.enter_async_context(real)
            lab.phones = [Phone(real, number + 1) for number in range(phones)]
        if small:
            (place / "state").mkdir(mode=0o700)
            lab.disk = await stack.enter_async_context(PrivateDisk(place / "state", TMPFS))
        wrapper = () if lab.disk is None else lab.disk.wrapper
        lab.agent = await stack.enter_async_context(
            AgentProcess(place, "", wrapper, listen=lab.listen)
        )
        lab.write(api=api, rest=config)
        await lab.start()
        for phone in lab.phones:
            await phone.plug()
            stack.push_async_callback(phone.close)
        if wait and phones:
            await lab.agent.until_metric(
                rf'(?m)^device_agent_devices{{[^}}]*state="online"[^}}]*}} {float(phones)}$'
            )
        yield lab

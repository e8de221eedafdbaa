"""From 0.1.0's store and file to this version, and back: 0.1.0 itself has written them."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from agent.store.migrate import scripts
from tests.docs.pages import ROOT
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.fakes.receiver import Receiver, answer, hang
from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb

if TYPE_CHECKING:
    from pathlib import Path

(WHEEL,) = (ROOT / "tests" / "testdata" / "0.1.0").glob("*.whl")
RUN = f"""\
import sys
sys.path.insert(0, "{WHEEL}")
del sys.argv[:1]
from agent.cli import main
main()
"""


class OldAgent(AgentProcess):
    """0.1.0, which knows no `watch_config`."""

    def __init__(self, directory: Path, config: str) -> None:
        super().__init__(directory, config, wrapper=(sys.executable, "-P", "-c", RUN))

    def write(self, config: str) -> None:
        super().write(config)
        text = self.path.read_text()
        self.path.write_text(text.replace("watch_config = false\n", ""))


def config(receiver: Receiver, adb: RealAdbServer) -> str:
    return f"""
[hold]
offline = "60s"
unplugged = "300ms"
{only_adb(adb.address)}
[[webhooks]]
id = 129
name = "board"
url = "{receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
"""


async def test_what_waits_is_sent_what_is_known_stays_and_the_way_back_is_refused(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    async with (
        RealAdbServer(BINARIES["bundled"], tmp_path) as adb,
        FakePhone(device_name="Stays") as stays,
        FakePhone(device_name="Comes") as comes,
    ):
        text = config(receiver, adb)
        async with OldAgent(place, text) as old:
            await old.start()
            assert (await old.api("GET", "/v1/status"))[1]["version"] == "0.1.0"
            await adb.register(stays)
            await receiver.until(lambda: len(receiver.requests) == 1, "online")
            await old.until_delivered()
            receiver.default = hang()
            await adb.register(comes)
            await receiver.until(lambda: len(receiver.requests) >= 2, "an attempt")
            before = (await old.api("GET", "/v1/devices"))[1]["devices"]
            (waiting,) = (await old.api("GET", "/v1/deliveries?state=pending"))[1]["deliveries"]
            assert await old.stop() == 0

        receiver.requests.clear()
        receiver.default = answer()
        async with AgentProcess(place, text) as agent:
            agent.path.write_text(old.path.read_text())  # as it was, to the letter
            await agent.start()
            await receiver.until(lambda: len(receiver.requests) == 1, "what waited")
            assert receiver.requests[0].headers["webhook-id"] == waiting["id"]
            await agent.until_delivered()
            rows = await agent.devices()
            for row in before:
                now = rows[row["udid"]]
                keys = ("name", "platform", "state", "since")
                assert [now[key] for key in keys] == [row[key] for key in keys]
            _, told = await agent.api("GET", f"/v1/devices/{stays.serial}/transitions")
            assert [each["to"] for each in told["transitions"]] == ["online"]
            _, delivered = await agent.api("GET", "/v1/deliveries?state=delivered")
            assert {each["udid"] for each in delivered["deliveries"]} == set(rows)
            comes.hang_up()
            await receiver.until(lambda: len(receiver.requests) == 2, "unplugged")
            await agent.until_delivered()
            assert await agent.stop() == 0
        assert len(receiver.requests) == 2

        store = place / "state" / "state.db"
        kept = hashlib.sha256(store.read_bytes()).digest()
        async with OldAgent(place, text) as old:
            await old.start(ready=False)
            assert await old.ended() != 0
            refused = (
                f"{store} has schema version {len(scripts())}, but this agent knows versions up to"
                " 1: a newer agent wrote it."
            )
            assert any(refused in line for line in old.log), old.log
        assert hashlib.sha256(store.read_bytes()).digest() == kept

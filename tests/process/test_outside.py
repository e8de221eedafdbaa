"""Whatever comes from outside is one printable line wherever the agent shows it.

Each source sends a text that would break a line, move a cursor or turn the direction of writing,
followed by a forged entry. Every output is searched for what got through.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.text import is_printable
from tests.fakes.fake_adb_host import FakeAdbHost, Listed, Mode
from tests.fakes.receiver import Receiver, raw
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.agent import AgentProcess, cli
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT

if TYPE_CHECKING:
    from pathlib import Path

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
ODD = "\x1b[2J\x1b]0;x\x07\x9b31m\x00\x7f\u202e\u2066\u200b\ufeff\u3164\U000e0041"


def hostile(source: str, without: str = "") -> str:
    """A text of that source; `without` what cannot come from there."""
    forged = "".join(f"{each}FORGED {source} WATCHDOG=trigger" for each in BREAKS + ODD)
    return "".join(c for c in f"real {source}{forged}" if c not in without)


def wrong(text: str) -> list[str]:
    """What of an output is not as it must be: its lines are its own, and printable."""
    lines = text.split("\n")
    bad = [line for line in lines if not all(map(is_printable, line))]
    forged = [each for each in text.splitlines() if each.lstrip(" <0123456789>").startswith("FORG")]
    return [*map(ascii, bad), *forged]


class Adb(FakeAdbHost):
    """Words its errors as it likes."""

    async def _misbehave(
        self, mode: Mode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if mode is not Mode.FAIL:
            await super()._misbehave(mode, reader, writer)
            return
        text = hostile("adb FAIL").encode()
        writer.write(b"FAIL%04x%b" % (len(text), text))


CONFIG = """
[usb]
enabled = false
[hold]
source_grace = "0s"
offline = "0s"
unplugged = "0s"
[flap]
transitions = 1000000
[ios]
usbmuxd = "{mux}"
[android]
adb_server = "{adb}"
start_server = false
[usage]
appium = ["{appium}"]
interval = "1s"
[[webhooks]]
id = 7
name = {name}
description = {name}
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""
SHOWN = {
    "log": ("real path", "real adb FAIL", "real holder", "FORGED webhook"),
    "notified": ("real adb FAIL",),
    "watch": ("real watched",),
    "devices": ("real adb name", "real iPhone"),
    "device": ("real iPhone",),
    "leases": ("real holder",),
    "webhooks": ("FORGED webhook",),
    "sample": ("real endpoint",),
    "deliveries": ("FORGED webhook",),
    "delivery": ("FORGED webhook", "real endpoint"),
    "doctor": ("real adb FAIL",),
    "metrics": ("FORGED webhook",),
}
"""Which of what was sent must be seen in which output, that the search is not in vain."""
ASSIGNMENTS = {"READY", "STATUS", "STOPPING"}
IPHONE = "00008110-000A1234A1B2C3D4"
SERIAL = "ce09\x1b[31m\u202e\u2028FORGED"


async def shown(agent: AgentProcess, *words: str) -> str:
    code, out, err = await cli(*words[:2], "--config", agent.path, *words[2:])
    assert "Traceback" not in out + err
    assert code in {0, 1, 2}
    return out + err


async def until_tried(agent: AgentProcess) -> dict[str, Any]:
    """A callback that was tried."""
    async with asyncio.timeout(LIMIT):
        while True:
            rows = (await agent.api("GET", "/v1/deliveries"))[1]["deliveries"]
            for row in rows:
                if row["error"]:
                    return cast("dict[str, Any]", row)
            await asyncio.sleep(0.05)


async def watched(agent: AgentProcess, adb: Adb, called: str) -> str:
    """What `devices --watch` prints while a phone comes and goes, until it was told of it."""
    process = await asyncio.create_subprocess_exec(
        *(DEVICE_AGENT, "devices", "--watch", "--config", agent.path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.readuntil(called.encode()))
    async with asyncio.timeout(LIMIT):
        while not reading.done():  # what came before it follows is not told to it
            adb.set(Listed("r58m", told=f"device_name={called}{ODD}\nmodel=x\n"))
            await agent.until_device("r58m", "state", "online")
            adb.remove("r58m")
            await agent.until_device("r58m", "state", "unplugged")
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
    return ((await reading) + rest).decode()


async def ask_hostilely(address: str) -> None:
    """A path and headers that name an entry of their own, without a token, over TCP."""
    path = "/v1/x" + "".join(
        f"%{byte:02x}" for byte in hostile("path", "\U000e0041\u2066\ufeff\u3164").encode()
    )
    host, _, port = address.partition(":")
    for method, more in (("POST", ""), ("GET", ""), ("POST", f"Host: {path}\r\n")):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"{method} {path} HTTP/1.1\r\n{more or 'Host: localhost'}\r\n"
            f"User-Agent: real agent\x85FORGED agent\u2028FORGED\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode())
        async with asyncio.timeout(LIMIT):
            answer = (await reader.read()).decode()
        writer.close()
        assert not wrong(answer.partition("\r\n\r\n")[2])


@pytest.mark.parametrize("style", ["text", "journal", "json"])
async def test_nothing_from_outside_breaks_a_line(
    place: Path, receiver: Receiver, style: str
) -> None:
    pytest.importorskip("pymobiledevice3")
    body = hostile("endpoint").encode()
    receiver.default = raw(
        b"HTTP/1.1 500 real\x1b[2J\x85FORGED reason\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    name = json.dumps("we\u202e\x1b\u2028FORGED webhook")
    async with Adb() as adb, FakeUsbmuxd(place / "mux") as mux:
        config = CONFIG.format(
            mux=place / "mux",
            adb=adb.address,
            appium=receiver.url(""),
            url=receiver.url("/hook"),
            name=name,
        )
        async with AgentProcess(place, config) as agent:
            text = agent.path.read_text().replace("[agent]", f'[agent]\nlog_format = "{style}"')
            text = text.replace('listen = ""', 'listen = "127.0.0.1:0"\ntoken = "right"')
            agent.path.write_text(text.replace("log_format", 'log_level = "debug"\nlog_format'))
            adb.set(Listed(SERIAL, told=f"device_name={hostile('adb name')}\nmodel=x\n"))
            mux.attach(IPHONE, name=hostile("iPhone", "\x00\x0b\x0c\x1c\x1d\x1e\x1b\x07"))
            adb.mode = Mode.FAIL
            await agent.start()
            await agent.until(lambda: "real adb FAIL" in str(agent.notifications), "its status")
            adb.mode = Mode.ANSWER
            for udid in (SERIAL, IPHONE):
                row = await agent.until_device(udid, "state", "online")
            row = await agent.until_device(IPHONE, "name", "real iPhone")
            assert "\u2028" in row["name"], "the API and callbacks have the true text"
            ready = "agent.ready"
            await agent.until(lambda: any(ready in line for line in agent.log), ready)
            address = (
                next(line for line in agent.log if ready in line)
                .replace('"api": "', "api=")
                .partition("api=")[2]
                .split()[0]
                .strip('",')
            )
            await ask_hostilely(address)
            lease = {"udid": SERIAL, "holder": 'real holder" state=x FORGED', "purpose": "\\"}
            assert (await agent.api("POST", "/v1/leases", lease))[0] == 201
            seen: dict[str, str] = {}
            if style == "text":
                seen["watch"] = await watched(agent, adb, "real watched")
            told = await until_tried(agent)
            message_id = told["id"]
            adb.mode = Mode.FAIL
            seen["metrics"] = await agent.metrics()
            if style == "text":  # what commands show does not depend on it
                seen |= {
                    "devices": await shown(agent, "devices"),
                    "device": await shown(agent, "devices", IPHONE),
                    "leases": await shown(agent, "lease", "list"),
                    "webhooks": await shown(agent, "webhooks", "list"),
                    "sample": await shown(agent, "webhooks", "test", "7"),
                    "deliveries": await shown(agent, "deliveries", "list"),
                    "delivery": await shown(agent, "deliveries", "show", message_id),
                    "doctor": await shown(agent, "doctor"),
                }
            assert await agent.stop() == 0
            seen |= {"log": "\n".join(agent.log), "notified": "\n".join(agent.notifications)}
    assert {name: bad for name, text in seen.items() if (bad := wrong(text))} == {}
    for name, texts in SHOWN.items():
        for text in texts if name in seen else ():
            # A page breaks its lines where it wants to.
            assert text in " ".join(seen[name].split()), f"{text} in {name}"
    assert {line.partition("=")[0] for line in agent.notifications} <= ASSIGNMENTS
    assert "WATCHDOG=trigger" not in agent.notifications
    if style == "journal":
        assert all(line[0] == "<" and line[2] == ">" for line in agent.log)
    if style == "json":
        assert all(json.loads(line)["event"] for line in agent.log)

"""Phones, configurations and callbacks as the benchmarks use them."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agent import log
from agent.clock import LoopClock
from agent.config import parse
from agent.deliver.payload import new_message_id, render
from agent.model import (
    Bridge,
    Callback,
    Device,
    DeviceRecord,
    DeviceState,
    Platform,
    Sighting,
    SourceName,
    Transition,
)

if TYPE_CHECKING:
    from agent.config import Config, Webhook

WEBHOOK_ID = 129
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ONLY_ADB = "[usb]\nenabled = false\n[ios]\nenabled = false\n"
NO_PROBE = 'probe_interval = "0s"\n'
"""Behind `behind_adb`."""
NO_HOLDS = """
[hold]
online = "0s"
offline = "0s"
utilizing = "0s"
unplugged = "0s"
"""


def quiet() -> None:
    """Log as under systemd, to nowhere: rendering a line is part of the price."""
    log.configure("info", "journal", Path(os.devnull).open("w"), {})  # noqa: SIM115 - for good


def freeze() -> None:
    """As the agent does when it is ready: what is there by now is not searched for garbage."""
    gc.collect()
    gc.freeze()


def behind_adb(port: int) -> str:
    """Phones of the adb server on that port alone, of which none is ever damped."""
    return f"""{ONLY_ADB}
[flap]
transitions = 1000000
[android]
adb_server = "127.0.0.1:{port}"
start_server = false
"""


def webhook_toml(url: str) -> str:
    """One signed webhook for all events."""
    return f"""
[[webhooks]]
id = {WEBHOOK_ID}
name = "Webhook for All events"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "{SECRET}"
"""


def make_config(url: str) -> Config:
    """Android phones over adb, no hold times, one signed webhook."""
    return parse(ONLY_ADB + NO_HOLDS + webhook_toml(url), "benchmark.toml")


def make_webhook(url: str) -> Webhook:
    """The webhook of `make_config`."""
    (webhook,) = make_config(url).webhooks
    return webhook


def adb_sighting(number: int, bridge: Bridge) -> Sighting:
    """A phone as adb shows it."""
    serial = f"R58M{number:08}"
    return Sighting(
        SourceName.ADB,
        serial,
        serial,
        Platform.ANDROID,
        bridge=bridge,
        reason="" if bridge is Bridge.READY else "offline: attached, but it does not answer adb",
        name=f"Galaxy {number}",
        model="SM-N950F",
    )


Change = tuple[DeviceRecord, Transition, Callback]


def make_changes(count: int, devices: int, webhook: Webhook) -> list[Change]:
    """What the pipeline would hand to the store: `count` changes, the devices taking turns."""
    host = socket.gethostname()
    made = []
    for number in range(count):
        udid = f"R58M{number % devices:08}"
        now = LoopClock().wall_ms()
        states = (DeviceState.ONLINE, DeviceState.OFFLINE)
        state, previous = states if (number // devices) % 2 else states[::-1]
        device = Device(udid, Platform.ANDROID, name=f"Galaxy {number % devices}")
        transition = Transition(udid, previous, state, "", now)
        message_id = new_message_id()
        body, headers = render(
            transition,
            device,
            webhook,
            org_id=2,
            message_id=message_id,
            created_ms=now,
            host=host,
        )
        made.append(
            (
                DeviceRecord(udid, Platform.ANDROID, state, now, name=device.name),
                transition,
                Callback(message_id, WEBHOOK_ID, udid, now, body, headers, state=state),
            )
        )
    return made

"""A webhook with `after` and a whole agent: killed while it waits, reloaded, edited by commands."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.kit.configs import AT_ONCE
from tests.kit.rack import Rack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.receiver import Receiver

PHONE = Phone("ce0917198075440c057e", "Galaxy Note 8", "1-1", Platform.ANDROID)


def config(receiver: Receiver, after: str) -> str:
    events = 'events = ["online", "offline", "utilizing", "unplugged"]\n'
    return (
        f'{AT_ONCE}[[webhooks]]\nid = 1\nname = "board"\nurl = "{receiver.url("/1")}"\n{events}'
        f'[[webhooks]]\nid = 2\nname = "pager"\nurl = "{receiver.url("/2")}"\n{events}'
        f'after = "{after}"\n'
    )


def told(receiver: Receiver) -> dict[int, list[str]]:
    """What each webhook was told, in order; a message that came twice once."""
    found: dict[int, list[str]] = {}
    bodies = {r.headers["webhook-id"]: json.loads(r.body) for r in receiver.requests}
    for body in bodies.values():
        found.setdefault(body["webhookId"], []).append(body["eventDescription"])
    return found


async def waits(rack: Rack) -> list[dict[str, Any]]:
    status, row = await rack.api("GET", f"/v1/devices/{PHONE.serial}")
    assert status == 200, row
    return list(row["waits"])


async def test_killed_while_it_waits_and_back_in_time(place: Path, receiver: Receiver) -> None:
    """What a webhook waits for outlives the agent; a phone that is back in time costs nothing."""
    async with Rack(place, config(receiver, "1h")) as rack:
        rack.plug(PHONE)
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "online")
        await rack.until_delivered()
        (wait,) = await waits(rack)
        assert (wait["webhook_id"], wait["webhook"], wait["from"]) == (2, "pager", None)
        await rack.until_metric("device_agent_waits 1.0")
        code, out, err = await rack.cli("devices", PHONE.serial)
        assert "webhook pager is told online in 59 min, if that lasts until then" in out, err
        code, out, err = await rack.cli("webhooks", "list")
        assert "online,offline,utilizing,unplugged after 1h" in out, err

        await rack.kill()
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "online")
        (again,) = await waits(rack)
        moved = datetime.fromisoformat(again["until"]) - datetime.fromisoformat(wait["until"])
        assert abs(moved.total_seconds()) < 1, "its time is the one that was stored"
        assert told(receiver) == {1: ["Online"]}

        code, out, err = await rack.cli("webhooks", "edit", "pager", "--after", "0s")
        assert code == 0, err
        await rack.until_delivered()
        assert told(receiver) == {1: ["Online"], 2: ["Online"]}, "it waits no more"
        assert await waits(rack) == []

        code, out, err = await rack.cli("webhooks", "edit", "pager", "--after", "1h")
        assert code == 0, err
        rack.plug(PHONE, Bridge.NOT_READY, "unauthorized")
        await rack.until_device(PHONE.serial, "state", "offline")
        (wait,) = await waits(rack)
        assert wait["from"] == "online"
        await rack.kill()
        rack.plug(PHONE)
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "online")
        assert await waits(rack) == []
        code, out, err = await rack.cli("webhooks", "edit", "pager", "--after", "0s")
        assert code == 0, err
        await rack.until_delivered()
        assert told(receiver) == {1: ["Online", "Offline", "Online"], 2: ["Online"]}


async def test_what_has_lasted_while_no_agent_ran_is_told_at_the_start(
    place: Path, receiver: Receiver
) -> None:
    async with Rack(place, config(receiver, "1h")) as rack:
        rack.plug(PHONE)
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "online")
        await rack.until_delivered()
        await rack.kill()
        rack.write(config(receiver, "1ms"))
        await rack.start()
        await rack.until_metric("device_agent_waits 0.0")
        await rack.until_delivered()
        assert told(receiver) == {1: ["Online"], 2: ["Online"]}
        rack.plug(PHONE, Bridge.NOT_READY, "unauthorized")
        await rack.until_device(PHONE.serial, "state", "offline")
        await rack.until_metric("device_agent_waits 0.0")
        await rack.until_delivered()
        assert told(receiver)[2] == ["Online", "Offline"], "by its timer"

"""The disk fills up or fails under the running agent: it stays up, says so, and catches up."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.receiver import answer
from tests.faults.invariants import (
    EVERY_EVENT,
    check_that_all_arrived_in_order,
    check_that_all_callbacks_were_stored,
    told,
)
from tests.faults.lab import change, config, lines
from tests.faults.private_disk import (
    LOOP,
    TMPFS,
    PrivateDisk,
    loop_devices_work,
    make_image,
    user_namespaces_work,
)
from tests.kit.agent import AgentProcess
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.fake_adb_host import FakeAdbHost
    from tests.fakes.receiver import Receiver

STOP_LIMIT = 5.0
"""Seconds that a SIGTERM may take."""
PHONES = range(1, 5)

needs_tmpfs = pytest.mark.skipif(
    not user_namespaces_work(), reason="no private mount namespaces here"
)
needs_loop = pytest.mark.skipif(
    not loop_devices_work(), reason="needs root, a loop device and mkfs.ext4"
)


@pytest.fixture
async def disk(place: Path) -> AsyncIterator[PrivateDisk]:
    (place / "state").mkdir(mode=0o700)
    async with PrivateDisk(place / "state", TMPFS) as made:
        yield made


async def until_ready(agent: AgentProcess, wanted: int) -> dict[str, Any]:
    """Ask /-/ready until it answers with that status."""
    answered: tuple[int, Any] = (0, {})
    for _ in range(round(LIMIT / 0.05)):
        answered = await agent.api("GET", "/-/ready")
        if answered[0] == wanted:
            return answered[1]  # type: ignore[no-any-return] # JSON
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited {LIMIT} s for {wanted}: {answered}")


async def live_on(host: FakeAdbHost, agent: AgentProcess) -> dict[str, list[str]]:
    """Every phone goes through some states, one after the other; returns what is to be told."""
    expected: dict[str, list[str]] = {}
    for state in ("online", "offline", "unplugged", "online", "unplugged"):
        for number in PHONES:
            await change(host, agent, number, state)
            expected.setdefault(f"phone-{number}", []).append(state)
    return expected


def check_all(disk: PrivateDisk, place: Path, receiver: Receiver) -> None:
    # SQLite would follow /proc's links to what lies outside at the same path.
    shutil.copyfile(disk.path / "state.db", place / "copy.db")
    with closing(sqlite3.connect(place / "copy.db")) as store:
        check_that_all_callbacks_were_stored(store, {1: EVERY_EVENT})
        check_that_all_arrived_in_order(store, 1, receiver)


@pytest.mark.netns
@needs_tmpfs
async def test_a_full_disk_delays_and_loses_nothing(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver
) -> None:
    text = config(host, {1: (receiver, EVERY_EVENT)})
    async with AgentProcess(place, text, disk.wrapper) as agent:
        await agent.start()
        before = await live_on(host, agent)
        await receiver.until(lambda: told(receiver) == before, "what happened before")
        disk.fill()
        during = await live_on(host, agent)
        answer = await until_ready(agent, 503)
        assert "the disk is full" in "; ".join(answer["problems"])
        assert (await agent.api("GET", "/-/healthy"))[0] == 200
        metrics = await agent.metrics()
        assert "\ndevice_agent_store_up 0.0\n" in metrics
        assert "\ndevice_agent_ready 0.0\n" in metrics
        assert "\ndevice_agent_callbacks_pending{" in metrics, "what is stored can still be counted"
        await agent.until(lambda: "the disk is full" in agent.notifications[-1], "STATUS")
        assert told(receiver) == before, "nothing is sent before it is stored"
        disk.make_room()
        everything = {udid: states + during[udid] for udid, states in before.items()}
        await receiver.until(lambda: told(receiver) == everything, "all of it, in order")
        await until_ready(agent, 200)
        assert "\ndevice_agent_store_up 1.0\n" in await agent.metrics()
        await agent.until(
            lambda: agent.notifications[-1] == f"STATUS={len(PHONES)} unplugged", "STATUS"
        )
        await agent.until_delivered()
        assert await agent.stop() == 0
        check_all(disk, place, receiver)


@pytest.mark.netns
@needs_tmpfs
async def test_a_full_disk_is_said_once_not_per_change(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver
) -> None:
    async with AgentProcess(
        place, config(host, {1: (receiver, EVERY_EVENT)}), disk.wrapper
    ) as agent:
        await agent.start()
        disk.fill()
        # Longer than the pauses between two tries of the store, with changes in each of them.
        for _ in range(3):
            await live_on(host, agent)
            await asyncio.sleep(0.7)
        said = [line for line in agent.log if "the disk is full" in line]
        assert 1 <= len(said) <= 2, "\n".join(said)


@pytest.mark.netns
@needs_tmpfs
@pytest.mark.parametrize("first", [True, False])
async def test_a_webhook_that_the_disk_does_not_take_is_refused_whole(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver, first: bool
) -> None:
    """Neither half a file nor a webhook in force; those that were made before stay."""
    kept = disk.path / "webhooks.toml"
    url = receiver.url()
    async with AgentProcess(
        place, config(host, {1: (receiver, EVERY_EVENT)}), disk.wrapper
    ) as agent:
        await agent.start()
        body = {"name": "before", "url": url, "events": ["online"]}
        if not first:
            assert (await agent.api("POST", "/v1/webhooks", body))[0] == 201
        text = None if first else kept.read_bytes()
        files = {each.name for each in disk.path.iterdir()}
        disk.fill()
        asked: list[tuple[str, str, Any]] = [("POST", "", body | {"name": "n"})]
        if not first:
            asked += [("PATCH", "/before", {"description": "d"}), ("DELETE", "/before", None)]
        for method, path, fields in asked:
            status, answered = await agent.api(method, f"/v1/webhooks{path}", fields)
            assert (status, answered["error"]["code"]) == (409, "cannot_write"), answered
            assert "(No space left on device): free space on its" in answered["error"]["message"]
        assert (kept.read_bytes() if kept.exists() else None) == text
        assert {each.name for each in disk.path.iterdir()} == files | {"filler"}
        disk.make_room()
        assert (await agent.api("POST", "/v1/webhooks", body | {"name": "after"}))[0] == 201
        rows = (await agent.api("GET", "/v1/webhooks"))[1]["webhooks"]
        names = ["webhook 1", "after"] if first else ["webhook 1", "before", "after"]
        assert [row["name"] for row in rows] == names


@pytest.mark.netns
@needs_tmpfs
async def test_sigterm_while_the_disk_is_full(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver
) -> None:
    """It ends in time and says what it takes with it; the next start tells the net change."""
    async with AgentProcess(
        place, config(host, {1: (receiver, EVERY_EVENT)}), disk.wrapper
    ) as agent:
        await agent.start()
        for number in PHONES:
            await change(host, agent, number, "online")
        await receiver.until(lambda: len(told(receiver)) == len(PHONES), "all online")
        await agent.until_delivered()
        disk.fill()
        for number in PHONES:
            await change(host, agent, number, "offline")
        await until_ready(agent, 503)
        began = time.monotonic()
        assert await agent.stop() == 0
        assert time.monotonic() - began < STOP_LIMIT
        assert lines(agent, "store.closed_with_loss")
        disk.make_room()
        await agent.start()
        expected = {f"phone-{number}": ["online", "offline"] for number in PHONES}
        await receiver.until(lambda: told(receiver) == expected, "the net change")
        await agent.until_delivered()
        assert await agent.stop() == 0
        check_all(disk, place, receiver)


@pytest.mark.netns
@needs_tmpfs
async def test_answers_that_cannot_be_noted_are_not_forgotten(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver
) -> None:
    """Attempts are under way when the disk fills up; what they came to is stored later, once."""
    gate = asyncio.Event()

    async def behave(request: Any, writer: Any) -> None:
        await gate.wait()
        await answer(204)(request, writer)

    receiver.default = behave
    async with AgentProcess(
        place, config(host, {1: (receiver, EVERY_EVENT)}), disk.wrapper
    ) as agent:
        await agent.start()
        for number in PHONES:
            await change(host, agent, number, "online")
        await receiver.until(lambda: receiver.open == len(PHONES), "attempts under way")
        disk.fill()
        gate.set()
        await until_ready(agent, 503)
        for number in PHONES:
            await change(host, agent, number, "unplugged")
        disk.make_room()
        expected = {f"phone-{number}": ["online", "unplugged"] for number in PHONES}
        await receiver.until(lambda: told(receiver) == expected, "all of it, in order")
        await agent.until_delivered()
        assert len(receiver.requests) == 2 * len(PHONES), "nothing twice"
        assert await agent.stop() == 0
        check_all(disk, place, receiver)


@pytest.mark.netns
@needs_tmpfs
async def test_a_start_on_a_full_disk(
    place: Path, disk: PrivateDisk, host: FakeAdbHost, receiver: Receiver
) -> None:
    """With the webhooks it knows it starts, watches, and catches up once there is room.

    A webhook that needs an id is refused: one line that says why, and exit code 1.
    """
    known = config(host, {1: (receiver, EVERY_EVENT)})
    async with AgentProcess(place, known, disk.wrapper) as agent:
        await agent.start()
        await change(host, agent, 1, "online")
        await receiver.until(lambda: len(receiver.requests) == 1, "online")
        await agent.until_delivered()
        assert await agent.stop() == 0
        host.remove("phone-1")
        disk.fill()

        agent.write(config(host, {1: (receiver, EVERY_EVENT), 2: (receiver, EVERY_EVENT)}))
        agent.log.clear()
        await agent.start(ready=False)
        assert await agent.ended() == 1
        assert not any("Traceback" in line for line in agent.log), agent.log
        assert "the disk is full" in agent.log[-1]
        assert f"{place}/state" in agent.log[-1]

        agent.write(known)
        agent.log.clear()
        await agent.start()
        await change(host, agent, 1, "offline")
        await until_ready(agent, 503)
        disk.make_room()
        expected = {"phone-1": ["online", "unplugged", "offline"]}
        await receiver.until(lambda: told(receiver) == expected, "the net change and the next")
        await until_ready(agent, 200)
        assert not any("Traceback" in line for line in agent.log), agent.log


@pytest.mark.netns
@needs_loop
async def test_a_file_system_that_fails_and_is_mounted_anew(
    place: Path, host: FakeAdbHost, receiver: Receiver
) -> None:
    """ext4 gives up after an error of the disk and refuses all writing: `remount,abort` does it.

    What the operator does then: unmount, repair, mount, all of it under the running agent.
    """
    (place / "state").mkdir()
    make_image(place / "state.img", 16)
    async with PrivateDisk(place / "state", LOOP, user=False) as disk:
        text = config(host, {1: (receiver, EVERY_EVENT)})
        async with AgentProcess(place, text, disk.wrapper) as agent:
            await agent.start()
            before = await live_on(host, agent)
            await receiver.until(lambda: told(receiver) == before, "what happened before")
            await agent.until_delivered()
            assert await disk.run("mount", "-o", "remount,abort", str(place / "state")) == (0, "")
            during = await live_on(host, agent)
            problems = "; ".join((await until_ready(agent, 503))["problems"])
            assert f"cannot write {place}/state/state.db" in problems
            await agent.until(lambda: "cannot write" in agent.notifications[-1], "STATUS")
            assert told(receiver) == before
            assert (await disk.run("umount", "-l", str(place / "state"))) == (0, "")
            # The agent holds the old one open still; mounting the same image would only join that.
            shutil.copyfile(place / "state.img", place / "repaired.img")
            code, said = await disk.run("e2fsck", "-fy", f"{place}/repaired.img")
            assert code in {0, 1}, said
            remount = ("mount", "-o", "loop", f"{place}/repaired.img", f"{place}/state")
            assert await disk.run(*remount) == (0, "")
            everything = {udid: states + during[udid] for udid, states in before.items()}
            await receiver.until(lambda: told(receiver) == everything, "all of it, in order")
            await until_ready(agent, 200)
            await agent.until_delivered()
            assert await agent.stop() == 0
            check_all(disk, place, receiver)

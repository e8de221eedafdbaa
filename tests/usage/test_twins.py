"""A phone in use whose serial turns out to be another's, too: its use stays its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.config import UsageSection
from agent.errors import DeviceHeldError
from agent.model import Gone
from agent.service.leases import candidate, candidates
from agent.subscribers import Subscribers, Topic
from agent.usage.base import Target
from agent.usage.current import CurrentUsage
from agent.usage.lease_queue import Wish
from agent.usage.leases import Leases
from agent.usage.polled_source import UsagePlan
from agent.usage.poller import Poller
from agent.usage.registry import STRENGTH
from tests.kit.tracking import ADB, House, adb, house, usb
from tests.usage.test_poller import Scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TWIN = "0123"
"""Nobody is renamed while it is there; the other one is `0123@1-2`."""


class Lab:
    """The pipeline with what tells it of use, wired as the agent wires it."""

    def __init__(self, h: House) -> None:
        self.h = h
        clock = h.clock
        news = Subscribers()
        self.leases = Leases(
            h.store.leases,
            news.publisher(Topic.LEASE),
            candidates=lambda: candidates(h.pipeline),
            candidate=lambda udid: candidate(h.pipeline, udid),
            clock=clock,
        )
        usage = CurrentUsage(
            STRENGTH,
            lease=self.leases.reading,
            phones=h.pipeline.views.phones,
            changed=news.publisher(Topic.USAGE),
        )
        self.poller = Poller(
            usage,
            UsageSection(),
            clock,
            phones=h.pipeline.views.phones,
            resolve=h.pipeline.roster.find,
        )
        news.subscribe(Topic.LEASE, usage.lease_changed, self.poller.nudge)
        news.subscribe(Topic.USAGE, lambda udid: h.pipeline.use(udid, usage.reading(udid)))

    def rename(self, old: str, new: str) -> None:
        self.poller.rename(old, new)
        self.leases.rename(old, new)

    async def state(self, udid: str) -> tuple[str, str]:
        """With all that has happened by now."""
        for _ in range(2):
            await asyncio.sleep(0)  # not for time: a lease is news, and the usage by it
        return self.h.state(udid)

    def plug_in_the_twin(self) -> None:
        self.h.see(usb("0123", "1-2"))
        self.h.pipeline.observe(Gone(ADB, "0123"))
        self.h.see(replace(adb("0123", "1-1"), address="0123#1"))
        self.h.see(replace(adb("0123", "1-2"), address="0123#2"))


@asynccontextmanager
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    def renamed(old: str, new: str) -> None:
        made.rename(old, new)

    async with house(tmp_path, renamed=renamed) as h:
        made = Lab(h)
        h.see(usb("0123", "1-1"), adb("0123", "1-1"))
        yield made
        await made.poller.close()
        await made.leases.close()


async def test_a_lease_stays_and_ends(tmp_path: Path) -> None:
    async with lab(tmp_path) as it:
        lease = await it.leases.acquire(Wish("0123"), "alice", "soak", 30)
        it.plug_in_the_twin()
        assert await it.state(TWIN) == (
            "utilizing",
            "in use by alice (soak); its serial is shared by another phone",
        )
        assert [each.udid for each in it.leases.all()] == [TWIN]
        with pytest.raises(DeviceHeldError, match=f"{TWIN} is held by alice"):
            await it.leases.acquire(Wish(TWIN), "bob", "", 30)
        await it.leases.renew(lease.id)
        assert {each.udid for each in await it.h.store.leases.all()} == {TWIN}
        await it.leases.release(lease.id)
        assert (await it.state(TWIN))[0] == "online"
        it.h.wait(60)
        assert await it.h.came() == [
            ("0123", "Online"),
            ("0123", "Utilizing"),
            ("0123@1-2", "Online"),
        ]
        assert await it.h.store.leases.all() == []


async def test_a_session_stays_and_ends(tmp_path: Path) -> None:
    async with lab(tmp_path) as it:
        source = Scripted("uiautomator2")
        source.keys = [Target("forward tcp:8200 of 0123", "0123")]
        source.in_use[source.keys[0].key] = {"0123": "session 1"}
        await it.poller.reconfigure(UsageSection(), {"uiautomator2": UsagePlan(1, lambda: source)})
        await it.poller.first_round()
        assert (await it.state("0123"))[0] == "utilizing"
        it.plug_in_the_twin()
        assert (await it.state(TWIN))[1].startswith("in use by session 1")
        source.keys = []  # of two phones with one serial a forward does not tell which it is
        await it.poller.first_round()
        assert (await it.state(TWIN))[0] == "online"


async def test_who_waits_for_it_waits_for_the_one_it_was(tmp_path: Path) -> None:
    async with lab(tmp_path) as it:
        lease = await it.leases.acquire(Wish("0123"), "alice", "", 30)
        bob = asyncio.create_task(it.leases.acquire(Wish("0123"), "bob", "", 30, wait=60))
        async with asyncio.timeout(10):
            while not it.leases.waiting:  # noqa: ASYNC110 - a turn or two of the loop
                await asyncio.sleep(0)
        it.plug_in_the_twin()
        await it.leases.release(lease.id)
        assert (await bob).udid == TWIN

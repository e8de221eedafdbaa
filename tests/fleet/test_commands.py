"""A hub's commands: done by the agent's own desks, and what becomes of those who are withdrawn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.fleet import commands as module
from agent.fleet.commands import Commands
from agent.fleet.link import Incoming, LinkError
from agent.fleet.operations import (
    LeaseAcquire,
    LeaseRelease,
    LeaseRenew,
    SilenceAdd,
    SilenceEnd,
)
from agent.fleet.words import Answer, Cancel, Command, pack, unpack
from agent.model import SilenceKind
from agent.service.devices import Devices
from agent.service.leases import LeaseDesk, candidate, candidates
from agent.service.silences import SilenceDesk
from agent.usage.leases import Leases
from tests.fleet.agent_side import own_of
from tests.kit.tracking import adb, house, usb
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from agent.fleet.operations import Operation


class Caller:
    """A hub that asks."""

    def __init__(self, commands: Commands, leases: Leases) -> None:
        self.commands = commands
        self.leases = leases
        self.bad: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.deaf = False
        """Answers do not come through."""
        self.unheard = 0

    def begin(self, op: str, args: dict[str, Any], id_: str) -> None:
        async def reply(body: bytes) -> None:
            if self.deaf:
                self.unheard += 1
                raise LinkError("the connection is lost")
            self.answers[id_] = unpack(Answer, body, "")

        word = Command(op=op, args=args, caller="alice", id=id_)
        self.commands.take(Incoming("da.v1.h.rack-3.command", pack(word), reply=reply))

    async def ask(self, operation: Operation, id_: str = "one") -> Answer:
        self.begin(operation.op, operation.args(), id_)
        await eventually(lambda: id_ in self.answers)
        return self.answers.pop(id_)

    def cancel(self, id_: str) -> None:
        self.commands.cancel(Incoming("da.v1.h.rack-3.cancel", pack(Cancel(id=id_))))


@asynccontextmanager
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    """Of an agent with two phones, A and B, online."""
    async with house(tmp_path) as made:
        leases = Leases(
            made.store.leases,
            lambda _: None,
            candidates=partial(candidates, made.pipeline),
            candidate=partial(candidate, made.pipeline),
            clock=made.clock,
        )
        devices = Devices(made.pipeline, "rack-3")
        for number, serial in enumerate("AB", start=1):
            made.see(usb(serial, f"1-{number}"), adb(serial, f"1-{number}"))
        made.wait(60)
        await made.pipeline.commits.drain()
        bad: list[str] = []
        own = own_of(
            made.store,
            leases=LeaseDesk(leases, devices),
            silences=SilenceDesk(made.silences, devices, made.pipeline),
            clock=made.clock,
        )
        found = Caller(Commands(own, bad.append), leases)
        found.bad = bad
        yield found
        await found.commands.close(5.0)
        await leases.close()


def wish(**more: Any) -> LeaseAcquire:
    return LeaseAcquire.read({"holder": "bob", "ttl": 30.0, **more})


async def test_a_lease_is_given_renewed_and_released(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        lease = (await hub.ask(wish(udid="a", purpose="tests"))).result
        assert (lease["udid"], lease["holder"], lease["purpose"]) == ("A", "bob", "tests")
        other = (await hub.ask(wish(platform="android"))).result
        assert other["udid"] == "B"
        renewed = await hub.ask(LeaseRenew(id=lease["id"]))
        assert renewed.result["id"] == lease["id"]
        assert (await hub.ask(LeaseRelease(id=lease["id"]))).code == ""
        gone = await hub.ask(LeaseRelease(id=lease["id"]))
        assert (gone.code, gone.result) == ("unknown_lease", None)
        assert [each.udid for each in hub.leases.all()] == ["B"]


async def test_errors_are_those_of_the_api(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        assert (await hub.ask(wish(udid="C"))).code == "unknown_device"
        await hub.ask(wish(udid="A"))
        held = await hub.ask(wish(udid="A", holder="eve"))
        assert held.code == "device_held"
        assert "bob" in held.message
        stolen = await hub.ask(wish(udid="A", holder="eve", steal="release day"))
        assert stolen.result["taken_from"] == "bob: release day"
        for op, args, words in (
            ("lease.acquire", {"holder": "x"}, "ttl: Field required"),
            ("lease.acquire", {"holder": "x", "ttl": 5, "tie": True}, "tie"),
            ("lease.acquire", {"holder": "x", "ttl": 5.0, "steal": "y"}, "steal goes with udid"),
            ("lease.acquire", {"holder": "x", "ttl": 5.0, "udid": "A", "tags": ["y"]}, "neither"),
            ("lease.renew", {"id": 5}, "id"),
            ("silence.add", {"id": "XYZ", "kind": "all", "reason": "r", "seconds": 1}, "id"),
            ("phone.explode", {}, "the hub is newer"),
        ):
            hub.begin(op, args, "bad")
            await eventually(lambda: "bad" in hub.answers)
            answer = hub.answers.pop("bad")
            assert answer.code == "bad_request"
            assert words in answer.message
        assert (await hub.ask(wish(udid="B", holder=" "))).code == "bad_lease"
        hub.commands.take(Incoming("s", b"{}", reply=None))
        hub.commands.take(Incoming("s", pack(Command(op="lease.renew")), reply=None))
        hub.commands.cancel(Incoming("s", b"["))
        assert len(hub.bad) == 3


async def test_who_waits_gets_it_later_or_leaves_the_queue(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        lease = (await hub.ask(wish(udid="A"))).result
        for id_ in ("first", "second"):
            hub.begin("lease.acquire", wish(udid="A", holder=id_, wait=600.0).args(), id_)
        await eventually(lambda: hub.leases.waiting == 2)
        hub.cancel("nobody's")
        hub.cancel("first")
        await eventually(lambda: hub.leases.waiting == 1)
        await hub.ask(LeaseRelease(id=lease["id"]))
        await eventually(lambda: "second" in hub.answers)
        assert hub.answers["second"].result["holder"] == "second"
        assert "first" not in hub.answers


async def test_a_lease_that_nobody_can_be_told_of_ends(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        hub.deaf = True
        hub.begin("lease.acquire", wish(udid="A").args(), "one")
        await eventually(lambda: hub.unheard and not hub.leases.all())
        hub.deaf = False
        late = (await hub.ask(wish(udid="A"), "late")).result  # its asker had just gone
        assert late["udid"] == "A"
        hub.cancel("late")
        await eventually(lambda: not hub.leases.all())
        kept = (await hub.ask(wish(udid="A"), "kept")).result
        await hub.ask(LeaseRenew(id=kept["id"]))  # so it was told
        hub.cancel("kept")
        await asyncio.sleep(0)
        assert len(hub.leases.all()) == 1


async def test_at_the_end_who_waits_is_told_and_leaves_the_queue(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        await hub.ask(wish(udid="A"))
        hub.begin("lease.acquire", wish(udid="A", wait=600.0).args(), "waits")
        await eventually(lambda: hub.leases.waiting)
        await hub.commands.close(5.0)
        assert hub.leases.waiting == 0
        assert hub.answers["waits"].code == "busy"


async def test_too_many_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    async with caller(tmp_path) as hub:
        lease = (await hub.ask(wish(udid="A"))).result
        hub.begin("lease.acquire", wish(udid="A", wait=600.0).args(), "waits")
        assert (await hub.ask(LeaseRelease(id=lease["id"]))).code == "busy"


async def test_one_silence_on_all_hosts(tmp_path: Path) -> None:
    async with caller(tmp_path) as hub:
        add = SilenceAdd(
            id="0123abcd", kind=SilenceKind.DEVICE, value="a", reason="r", seconds=60.0, by="carol"
        )
        row = (await hub.ask(add)).result
        assert (row["id"], row["value"], row["by"], row["kind"]) == (
            "0123abcd",
            "A",
            "carol",
            "device",
        )
        again = await hub.ask(add.model_copy(update={"seconds": 5.0}))  # the hub was not told
        assert again.result == row
        ended = await hub.ask(SilenceEnd(id="0123abcd"))
        assert ended.result["id"] == "0123abcd"
        assert (await hub.ask(SilenceEnd(id="0123abcd"))).code == "unknown_silence"
        unknown = add.model_copy(update={"value": "nobody", "id": "00000001"})
        assert (await hub.ask(unknown)).code == "unknown_device"
        wrong = add.model_copy(update={"kind": SilenceKind.HUB, "value": "?", "id": "00000001"})
        assert (await hub.ask(wrong)).code == "bad_silence"

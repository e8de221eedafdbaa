"""The doctor asked of the agent: once for all who ask, within a limit, and never twice at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import make_mocked_request

from agent.api.errors import answer_to
from agent.clock import LoopClock
from agent.config import Config
from agent.errors import BusyError, InternalError, NoDoctorError
from agent.service.doctor import KEPT, Doctor
from agent.service.live import Live
from tests.kit.clock import StubClock

if TYPE_CHECKING:
    from agent.service.doctor import Examine, FindingRow, Verdict


def finding(verdict: Verdict) -> FindingRow:
    return {"section": "s", "check": "c", "verdict": verdict, "found": "f", "remedy": ""}


def doctor(examine: Examine | None, clock: StubClock | LoopClock) -> Doctor:
    return Doctor(examine, Live(Config(), {}, {}), clock)


async def test_all_who_ask_at_once_share_one_look_and_those_soon_after() -> None:
    looks = 0
    go = threading.Event()

    def examine(_: Config) -> list[FindingRow]:
        nonlocal looks
        looks += 1
        go.wait(10)
        return [finding("ok"), finding("fail"), finding("warn")]

    clock = StubClock()
    made = doctor(examine, clock)
    asked = [asyncio.create_task(made.row()) for _ in range(20)]
    await asyncio.sleep(0)
    asked[0].cancel()  # it hangs up: the others are told all the same
    go.set()
    told = await asyncio.gather(*asked, return_exceptions=True)
    rows = [row for row in told if not isinstance(row, BaseException)]
    assert len(rows) == 19
    assert (looks, {row["verdict"] for row in rows}) == (1, {"fail"})
    await made.row()
    assert looks == 1
    clock.advance(KEPT + 1)
    await made.row()
    assert looks == 2


async def test_one_that_hangs_is_waited_for_within_a_limit_and_not_begun_again() -> None:
    looks = 0
    go = threading.Event()

    def examine(_: Config) -> list[FindingRow]:
        nonlocal looks
        looks += 1
        go.wait(10)
        return []

    made = Doctor(examine, Live(Config(), {}, {}), LoopClock(), limit=0.05)
    for _ in range(3):
        with pytest.raises(BusyError, match="has not ended within"):
            await made.row()
    assert looks == 1
    go.set()
    told = None
    while told is None:
        with contextlib.suppress(BusyError):
            told = await made.row()
    assert told["verdict"] == "ok"
    assert looks == 1


async def test_a_bug_of_it_is_said_and_not_kept() -> None:
    fails = True

    def examine(_: Config) -> list[FindingRow]:
        if fails:
            raise RuntimeError("a secret")
        return [finding("ok")]

    made = doctor(examine, LoopClock())
    with pytest.raises(InternalError, match="the agent's log says why") as raised:
        await made.row()
    assert "secret" not in str(raised.value)
    fails = False
    assert (await made.row())["verdict"] == "ok"


async def test_without_one_it_says_so() -> None:
    with pytest.raises(NoDoctorError, match="without a configuration file") as raised:
        await doctor(None, LoopClock()).row()
    told = answer_to(raised.value, make_mocked_request("GET", "/v1/doctor"))
    assert told.status == 404
    assert '"no_doctor"' in (told.text or "")

"""The poller: each target on its own, quick near changes, unknown never idle."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agent.clock import LoopClock
from agent.config import UsageSection
from agent.model import Platform, Usage, UsageReading
from agent.subscribers import Subscribers, Topic
from agent.usage.base import Incomplete, Phone, Target, UsageUnknownError
from agent.usage.current import CurrentUsage
from agent.usage.polled_source import UsagePlan
from agent.usage.poller import Poller
from agent.usage.registry import STRENGTH
from agent.usage.schedule import SHORTEST
from tests.kit.clock import StubClock
from tests.kit.settings import section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

LIMIT = 10.0
EVERY_MINUTE = section(UsageSection, interval=60)
QUICKLY = section(UsageSection, interval=0.2)
D = Phone("D", Platform.ANDROID, "D")
E = Phone("E", Platform.IOS, "7")


def itself(source: Scripted) -> Scripted:
    """Made again, it is the same one."""
    return source


class Scripted:
    """A source whose targets and answers a test sets; every reading is announced."""

    def __init__(self, name: str = "appium") -> None:
        self.name = name
        self.keys: list[Target] = [Target("one")]
        self.in_use: dict[str, dict[str, str] | Exception] = {}
        self.incomplete: dict[str, str] = {}
        self.hanging: set[str] = set()
        self.failing: UsageUnknownError | None = None
        self.reads: list[str] = []
        self.news = asyncio.Condition()
        self.closed = False
        self.listed = 0
        self.stubborn = False
        """Answers though it was cancelled."""

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        del phones
        self.listed += 1
        if self.failing is not None:
            raise self.failing
        return list(self.keys)

    async def read(self, target: Target) -> Mapping[str, str]:
        async with self.news:
            self.reads.append(target.key)
            self.news.notify_all()
        if target.key in self.hanging:
            with contextlib.suppress(*([asyncio.CancelledError] if self.stubborn else [])):
                await asyncio.Event().wait()
        answer = self.in_use.get(target.key, {})
        if isinstance(answer, Exception):
            raise answer
        if target.key in self.incomplete:
            return Incomplete(answer, self.incomplete[target.key])
        return answer

    async def close(self) -> None:
        self.closed = True


class FirstMoment(LoopClock):
    """Its timers are the loop's; on the wall it is always the first millisecond."""

    def wall_ms(self) -> int:
        return 1


class Bench:
    """A poller over scripted sources; `told` is what the pipeline would get."""

    def __init__(self, read_limit: float = 0.3) -> None:
        self.phones: list[Phone] = [D, E]
        self.told: dict[str, UsageReading] = {}
        self.names = {"D": "D", "E": "E"}
        """Which device an id means."""
        self.breaking: Exception | None = None
        """Raised by whoever is told."""
        self.changes: list[tuple[str, Usage, str]] = []
        self.news = asyncio.Event()
        self.leased: dict[str, UsageReading] = {}
        subscribers = Subscribers()
        self.usage = CurrentUsage(
            STRENGTH,
            lease=lambda udid: self.leased.get(udid, UsageReading()),
            phones=lambda: self.look(),  # noqa: PLW0108 - a test may replace it
            changed=subscribers.publisher(Topic.USAGE),
        )
        self.poller = Poller(
            self.usage,
            UsageSection(),
            FirstMoment(),
            phones=lambda: self.look(),  # noqa: PLW0108 - a test may replace it
            resolve=lambda name: self.names.get(name.upper()),
            read_limit=read_limit,
        )
        subscribers.subscribe(Topic.USAGE, lambda udid: self.take(udid, self.usage.reading(udid)))

    def look(self) -> list[Phone]:
        return self.phones

    def take(self, udid: str, reading: UsageReading) -> None:
        self.told[udid] = reading
        self.changes.append((udid, reading.usage, reading.holder))
        self.news.set()
        if self.breaking is not None:
            raise self.breaking

    async def run(self, *sources: Scripted, interval: float = 0.2) -> None:
        plans = {source.name: UsagePlan(id(source), partial(itself, source)) for source in sources}
        await self.poller.reconfigure(section(UsageSection, interval=interval), plans)
        async with asyncio.timeout(LIMIT):
            await self.poller.first_round()
        await asyncio.sleep(0)  # not for time: what it comes to is told in the next turn

    async def until(self, udid: str, usage: Usage, reason: str = "") -> UsageReading:
        async with asyncio.timeout(LIMIT):
            while True:
                reading = self.told.get(udid, UsageReading())
                if reading.usage is usage and reason in reading.reason:
                    return reading
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    it = Bench()
    yield it
    await it.poller.close()


@pytest.fixture
async def patient() -> AsyncIterator[Bench]:
    """One that gives up nothing within a test."""
    it = Bench(read_limit=10 * LIMIT)
    yield it
    await it.poller.close()


async def test_a_session_and_its_end(bench: Bench) -> None:
    source = Scripted()
    source.in_use["one"] = {"d": "session 1", "stranger": "session 2"}
    await bench.run(source)
    assert bench.told == {"D": UsageReading(Usage.IN_USE, "session 1", since_ms=1)}
    count = len(source.reads)
    source.in_use["one"] = {}
    await bench.until("D", Usage.IDLE)
    assert len(source.reads) - count >= 2
    assert bench.changes == [("D", Usage.IN_USE, "session 1"), ("D", Usage.IDLE, "")]


async def test_an_error_is_unknown_and_never_idle(bench: Bench) -> None:
    source = Scripted()
    source.in_use["one"] = {"D": "session 1"}
    await bench.run(source)
    source.in_use["one"] = UsageUnknownError("one refuses connections")
    reading = await bench.until("D", Usage.UNKNOWN)
    assert (reading.holder, reading.reason) == ("session 1", "one refuses connections")
    assert (await bench.until("E", Usage.IDLE, "one refuses")).reason.startswith("usage unknown")
    source.in_use["one"] = {"D": "session 1"}
    await bench.until("D", Usage.IN_USE)
    assert bench.told["E"] == UsageReading()
    assert Usage.IDLE not in [usage for udid, usage, _ in bench.changes if udid == "D"]


async def test_a_phone_that_comes_hears_what_is_unknown_already(bench: Bench) -> None:
    source = Scripted()
    source.in_use["one"] = UsageUnknownError("one refuses connections")
    bench.phones = [D]
    await bench.run(source, interval=60)
    assert set(bench.told) == {"D"}
    bench.phones = [D, E]
    bench.poller.phones_changed()
    await bench.until("E", Usage.IDLE, "one refuses")


async def test_a_bug_in_a_source_is_unknown_too(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Scripted("farm")
    source.in_use["one"] = KeyError("oops")
    await bench.run(source)
    assert (await bench.until("D", Usage.IDLE, "internal error (KeyError)")).holder == ""
    async with asyncio.timeout(LIMIT), source.news:
        await source.news.wait_for(lambda: len(source.reads) > 3)
    said = capsys.readouterr()
    assert (said.out + said.err).count("usage.bug") <= 1


async def test_a_target_that_hangs_delays_no_other(bench: Bench) -> None:
    source = Scripted()
    source.keys = [Target("one"), Target("two")]
    source.hanging = {"two"}
    source.in_use["one"] = {"D": "session 1"}
    await bench.run(source)
    assert bench.told["D"].usage is Usage.IN_USE
    reading = await bench.until("E", Usage.IDLE, "two did not answer within")
    assert "appium" in reading.reason
    (report,) = bench.poller.report()
    rows = {row.target: (row.state, row.sessions) for row in report.targets}
    assert (report.source, report.reason) == ("appium", "")
    assert rows == {"one": ("good", 1), "two": ("unknown", 0)}


async def test_a_source_that_cannot_list_its_targets_says_why(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Scripted()
    source.failing = UsageUnknownError("the adb server does not list its forwards")
    await bench.run(source, interval=0.05)
    async with asyncio.timeout(LIMIT):
        for _ in range(3):
            await bench.poller.first_round()
    (report,) = bench.poller.report()
    assert (report.reason, report.targets) == (str(source.failing), ())
    said = capsys.readouterr()
    assert (said.out + said.err).count("usage.unknown") == 1
    source.failing = None
    await bench.poller.first_round()
    (report,) = bench.poller.report()
    assert (report.reason, [row.state for row in report.targets]) == ("", ["good"])
    said = capsys.readouterr()
    assert (said.out + said.err).count("usage.readable") == 1


async def test_what_was_in_use_before_the_start_waits_for_two_readings(bench: Bench) -> None:
    source = Scripted()
    bench.usage.assume("D", "session 0")
    await bench.run(source)
    assert bench.changes[0] == ("D", Usage.UNKNOWN, "session 0")
    await bench.until("D", Usage.IDLE)
    assert len(source.reads) >= 2


async def test_without_any_source_it_ends_at_the_first_round(bench: Bench) -> None:
    bench.usage.assume("D", "session 0")
    await bench.run()
    assert bench.told["D"] == UsageReading()


async def read_more(source: Scripted, times: int) -> None:
    """Wait until it was read that often more."""
    wanted = len(source.reads) + times
    async with asyncio.timeout(LIMIT), source.news:
        await source.news.wait_for(lambda: len(source.reads) >= wanted)


async def test_a_stop_tells_nobody_anything(bench: Bench) -> None:
    one, two = Scripted("appium"), Scripted("wda")
    one.in_use["one"] = {"D": "session 1"}
    two.keys = [Target("port 8100 of E", "E")]
    two.in_use["port 8100 of E"] = {"E": "wda session 1"}
    await bench.run(one, two)
    before = list(bench.changes)
    await bench.poller.close()
    assert bench.changes == before
    assert (one.closed, two.closed) == (True, True)
    late = Scripted("grid")  # of a reload that was under way
    made = bench.poller.make({"grid": UsagePlan(1, lambda: late)})
    await bench.poller.swap(EVERY_MINUTE, {"grid": UsagePlan(1, lambda: late)}, made)
    assert (late.closed, late.listed) == (True, 0)


async def test_what_was_in_use_before_the_start_waits_for_its_phone(bench: Bench) -> None:
    """Its lockdown check, its adb answer come late: until then nobody can ask its ports."""
    bench.phones = [D, Phone("E", Platform.IOS, "")]
    server, source = Scripted("appium"), Scripted("wda")
    source.keys = []
    bench.usage.assume("E", "wda session 1")
    await bench.run(server, source, interval=0.05)
    await read_more(server, 4)
    assert bench.changes == [("E", Usage.UNKNOWN, "wda session 1")]
    bench.phones = [D, E]
    source.keys = [Target("port 8100 of E", "E")]
    source.in_use["port 8100 of E"] = {"E": "wda session 1"}
    bench.poller.phones_changed()
    await bench.until("E", Usage.IN_USE)
    assert Usage.IDLE not in {usage for _, usage, _ in bench.changes}


async def test_what_ended_while_the_agent_was_away_ends_when_its_phone_is_there(
    bench: Bench,
) -> None:
    bench.phones = [D, Phone("E", Platform.IOS, "")]
    source = Scripted("wda")
    source.keys = []
    bench.usage.assume("E", "wda session 1")
    await bench.run(source, interval=0.05)
    bench.phones = [D, E]  # and nothing there to be asked, which is an answer too
    bench.poller.phones_changed()
    await bench.until("E", Usage.IDLE)


async def test_a_source_that_cannot_list_its_targets_has_not_spoken(bench: Bench) -> None:
    source = Scripted("uiautomator2")
    source.keys, source.failing = [], UsageUnknownError("the adb server does not list them")
    bench.usage.assume("D", "uiautomator2 session 1")
    await bench.run(source, interval=0.05)
    async with asyncio.timeout(LIMIT):
        while source.listed < 4:  # noqa: ASYNC110 - its listings are what is waited for
            await asyncio.sleep(0.01)
    assert bench.changes == [("D", Usage.UNKNOWN, "uiautomator2 session 1")]
    source.failing = None
    await bench.until("D", Usage.IDLE)


async def test_a_source_that_a_reload_turns_off_need_not_speak(bench: Bench) -> None:
    source = Scripted("uiautomator2")
    source.failing = UsageUnknownError("the adb server does not list them")
    bench.usage.assume("D", "uiautomator2 session 1")
    await bench.run(source)
    await bench.poller.reconfigure(QUICKLY, {})
    await bench.until("D", Usage.IDLE)


@pytest.mark.parametrize("session", ["appium session 1", "appium session 2"])
async def test_a_phone_that_is_found_late_at_its_address_was_in_use_all_along(
    bench: Bench, session: str
) -> None:
    bench.phones = [Phone("D", Platform.ANDROID, ""), E]
    source = Scripted()
    source.in_use["one"] = {"10.0.0.5:5555": session}
    bench.usage.assume("D", "appium session 1")
    await bench.run(source, interval=0.05)
    await read_more(source, 4)
    assert Usage.IDLE not in {usage for _, usage, _ in bench.changes}
    bench.names["10.0.0.5:5555"] = "D"
    bench.phones = [Phone("D", Platform.ANDROID, "10.0.0.5:5555"), E]
    bench.poller.phones_changed()
    assert (await bench.until("D", Usage.IN_USE)).holder == session
    assert Usage.IDLE not in {usage for _, usage, _ in bench.changes}


async def test_a_phone_that_is_not_reached_at_its_address_for_a_while_stays_in_use(
    bench: Bench,
) -> None:
    """An adb server restarts: what Appium calls the phone means nothing until it is back."""
    bench.names["10.0.0.5:5555"] = "D"
    source = Scripted()
    source.in_use["one"] = {"10.0.0.5:5555": "appium session 1"}
    await bench.run(source, interval=0.05)
    assert bench.told["D"].usage is Usage.IN_USE
    del bench.names["10.0.0.5:5555"]
    await read_more(source, 4)
    bench.names["NEW"] = "NEW"
    bench.poller.rename("D", "NEW")  # as one of two with one serial
    await read_more(source, 4)
    assert [(udid, usage) for udid, usage, _ in bench.changes] == [
        ("D", Usage.IN_USE),
        ("NEW", Usage.IN_USE),  # the same again, by its name of now
    ]
    source.in_use["one"] = {}
    await bench.until("NEW", Usage.IDLE)


async def test_an_incomplete_answer_ends_nothing(bench: Bench) -> None:
    source = Scripted("grid")
    source.in_use["one"] = {"D": "grid session 1", "E": "grid session 2"}
    bench.usage.assume("D", "grid session 1")
    await bench.run(source, interval=0.05)
    source.incomplete["one"] = "one does not list a node"
    source.in_use["one"] = {"E": "grid session 2"}
    assert (await bench.until("D", Usage.UNKNOWN)).reason == "one does not list a node"
    await read_more(source, 4)
    assert bench.told["D"].usage is Usage.UNKNOWN
    assert bench.told["E"].usage is Usage.IN_USE
    source.incomplete.clear()
    await bench.until("D", Usage.IDLE)


async def test_what_a_source_says_after_its_end_is_not_heard(bench: Bench) -> None:
    old, new = Scripted(), Scripted()
    old.hanging, old.stubborn = {"one"}, True
    old.in_use["one"] = {"D": "session of the old one"}
    await bench.poller.reconfigure(EVERY_MINUTE, {"appium": UsagePlan(1, lambda: old)})
    async with asyncio.timeout(LIMIT), old.news:
        await old.news.wait_for(lambda: old.reads)
    await bench.run(new)
    await read_more(new, 2)
    assert {usage for _, usage, _ in bench.changes} <= {Usage.IDLE}


async def test_whoever_is_told_may_break_and_the_asking_goes_on(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Scripted()
    await bench.run(source, interval=0.05)
    bench.breaking = KeyError("a watcher's own")
    source.in_use["one"] = {"D": "session 1"}
    await read_more(source, 4)
    bench.breaking = None
    source.in_use["one"] = {}
    await bench.until("D", Usage.IDLE)
    said = capsys.readouterr()
    assert "subscriber.failed" in said.out + said.err


async def test_a_reload_in_the_first_round_holds_nobody_up(patient: Bench) -> None:
    source = Scripted()
    source.hanging = {"one"}
    await patient.poller.reconfigure(EVERY_MINUTE, {"appium": UsagePlan(1, lambda: source)})
    first = asyncio.create_task(patient.poller.first_round())
    async with asyncio.timeout(LIMIT), source.news:
        await source.news.wait_for(lambda: source.reads == ["one"])
    await patient.poller.reconfigure(EVERY_MINUTE, {})
    async with asyncio.timeout(LIMIT / 2):
        await first


@pytest.mark.parametrize("odd", [{"D": None}, {"D": 7}, {7: "alice"}, ["D"], None])
async def test_what_is_no_answer_is_unknown_and_never_idle(bench: Bench, odd: Any) -> None:
    source = Scripted("booking")
    source.in_use["one"] = {"D": "booking of alice"}
    await bench.run(source)
    source.in_use["one"] = odd
    reading = await bench.until("D", Usage.UNKNOWN, "internal error")
    assert reading.holder == "booking of alice"
    (report,) = bench.poller.report()
    assert [target.state for target in report.targets] == ["unknown"]
    source.in_use["one"] = {}
    await bench.until("D", Usage.IDLE)


async def test_a_part_of_an_answer_stays_one_though_it_says_not_why(bench: Bench) -> None:
    source = Scripted("booking")
    source.in_use["one"] = {"D": "booking of alice"}
    await bench.run(source)
    source.in_use["one"], source.incomplete["one"] = {}, ""
    await bench.until("D", Usage.UNKNOWN, "a part of its devices only")


async def test_a_source_that_goes_before_its_turn_in_the_first_round_holds_nobody_up(
    patient: Bench,
) -> None:
    slow, other = Scripted("appium"), Scripted("grid")
    slow.hanging.add("one")
    plans = {each.name: UsagePlan(id(each), partial(itself, each)) for each in (slow, other)}
    await patient.poller.reconfigure(QUICKLY, plans)
    first = asyncio.create_task(patient.poller.first_round())
    async with slow.news, asyncio.timeout(LIMIT):
        await slow.news.wait_for(lambda: slow.reads)
    await patient.poller.reconfigure(QUICKLY, {"appium": plans["appium"]})
    await patient.poller.reconfigure(QUICKLY, {})
    async with asyncio.timeout(LIMIT / 2):
        await first


async def test_a_phone_that_goes_in_the_first_round_holds_nobody_up(patient: Bench) -> None:
    source = Scripted("wda")
    source.keys = [Target("port 8100 of E", "E")]
    source.hanging = {"port 8100 of E"}
    await patient.poller.reconfigure(EVERY_MINUTE, {"wda": UsagePlan(1, lambda: source)})
    first = asyncio.create_task(patient.poller.first_round())
    async with asyncio.timeout(LIMIT), source.news:
        await source.news.wait_for(lambda: source.reads == ["port 8100 of E"])
    source.keys, patient.phones = [], [D]
    patient.poller.phones_changed()
    async with asyncio.timeout(LIMIT / 2):
        await first


async def test_a_phones_target_that_goes(bench: Bench) -> None:
    source = Scripted("wda")
    source.keys = [Target("port 8100 of E", "E")]
    source.in_use["port 8100 of E"] = {"E": "wda session 1"}
    await bench.run(source)
    assert bench.told["E"].usage is Usage.IN_USE
    # Its bridge is down, the phone is still there: unknown.
    source.keys = []
    bench.phones = [D, Phone("E", Platform.IOS, "")]
    bench.poller.phones_changed()
    reading = await bench.until("E", Usage.UNKNOWN)
    assert reading.holder == "wda session 1"
    # It is back.
    source.keys = [Target("port 8100 of E", "E")]
    bench.phones = [D, E]
    bench.poller.phones_changed()
    await bench.until("E", Usage.IN_USE)
    # It is unplugged.
    source.keys = []
    bench.phones = [D]
    bench.poller.phones_changed()
    await bench.until("E", Usage.IDLE)


async def test_a_reload_leaves_alone_what_did_not_change(bench: Bench) -> None:
    one, two, three = Scripted("appium"), Scripted("grid"), Scripted("grid")
    one.in_use["one"] = {"D": "session 1"}
    two.in_use["one"] = {"E": "session 2"}
    await bench.run(one, two)
    assert bench.told["E"].usage is Usage.IN_USE
    three.in_use["one"] = {"E": "session 2"}
    await bench.run(one, three)
    assert (one.closed, two.closed, three.closed) == (False, True, False)
    assert bench.told["E"].usage is Usage.IN_USE
    ofs = [usage for udid, usage, _ in bench.changes if udid == "E"]
    assert ofs == [Usage.IN_USE, Usage.UNKNOWN, Usage.IN_USE], "in doubt, and never idle"
    assert bench.changes.count(("D", Usage.IN_USE, "session 1")) == 1
    await bench.run(three)
    assert one.closed
    assert bench.told["D"] == UsageReading()


async def test_what_a_reload_takes_away_is_in_use_no_more(bench: Bench) -> None:
    one, two = Scripted(), Scripted()
    one.keys = [Target("one"), Target("two")]
    one.in_use = {"one": {"D": "session 1"}, "two": {"E": "session 2"}}
    await bench.run(one)
    await bench.run(two)  # asks "one" only, which knows of no session
    await bench.until("E", Usage.IDLE)
    await bench.until("D", Usage.IDLE)
    assert len(two.reads) >= 2


async def test_what_was_made_for_nothing_is_closed(bench: Bench) -> None:
    one, two = Scripted(), Scripted()
    await bench.run(one)
    made = bench.poller.make({"appium": UsagePlan("other", lambda: two)})
    await bench.poller.discard(made)
    assert (one.closed, two.closed) == (False, True)


async def test_a_lease_is_told_at_once_and_makes_the_others_look(bench: Bench) -> None:
    source = Scripted()
    await bench.run(source, interval=60)
    assert source.reads == ["one"]
    bench.leased["D"] = UsageReading(Usage.IN_USE, "alice")
    bench.usage.lease_changed("D")
    bench.poller.nudge("D")
    await asyncio.sleep(0)  # not for time: the loop's next turn
    assert bench.told["D"].holder == "alice"
    async with asyncio.timeout(LIMIT), source.news:
        await source.news.wait_for(lambda: len(source.reads) > 1)


class Timed(Scripted):
    """Notes when it is read."""

    def __init__(self, clock: StubClock) -> None:
        super().__init__()
        self.clock = clock
        self.at: list[float] = []

    async def read(self, target: Target) -> Mapping[str, str]:
        self.at.append(self.clock.passed)
        return self.in_use.get(target.key, {})  # type: ignore[return-value]  # no errors are set here


async def test_quick_while_something_is_about_to_change_and_slow_else() -> None:
    clock = StubClock()
    source = Timed(clock)
    told: list[Usage] = []
    usage = CurrentUsage(
        STRENGTH,
        lease=lambda _: UsageReading(),
        phones=lambda: [D],
        changed=lambda udid: told.append(usage.reading(udid).usage),
    )
    poller = Poller(
        usage,
        UsageSection(),
        clock,
        phones=lambda: [D],
        resolve=lambda name: name,
    )

    async def at_after(seconds: float) -> list[float]:
        """When it was read meanwhile."""
        source.at.clear()
        for _ in range(round(seconds * 4)):
            clock.advance(0.25)  # adds up without rounding
            for _ in range(20):
                await asyncio.sleep(0)  # not for time: the tasks that the timers woke
        return list(source.at)

    await poller.reconfigure(UsageSection(), {"appium": UsagePlan(1, lambda: source)})
    await poller.first_round()
    assert source.at == [0.0]
    assert await at_after(20) == [5, 10, 15, 20], "slow while nothing happens"
    source.in_use["one"] = {"D": "session 1"}
    assert await at_after(5) == [25], "it begins"
    assert await at_after(10) == [*range(26, 36)], "quick for two intervals"
    assert await at_after(15) == [40, 45, 50], "slow in mid-session"
    source.in_use["one"] = {}
    assert await at_after(5) == [55], "the first reading without it"
    assert told == [Usage.IN_USE]
    assert await at_after(1) == [56], "quick to make sure"
    assert told == [Usage.IN_USE, Usage.IDLE]
    assert await at_after(10) == [*range(57, 67)]
    assert await at_after(10) == [71, 76]
    poller.nudge("D")
    assert len(await at_after(10)) >= 10, "quick after a lease, too"
    await poller.close()


async def test_a_rack_that_comes_back_is_no_burst_of_questions(patient: Bench) -> None:
    source = Scripted()
    await patient.run(source, interval=60)
    before = source.listed
    for _ in range(500):
        patient.poller.phones_changed()
        await asyncio.sleep(0)  # not for time: each phone is a turn of the loop
    assert source.listed - before <= 1 + LIMIT / SHORTEST
    source.keys = [Target("one"), Target("two")]
    async with asyncio.timeout(LIMIT), source.news:
        patient.poller.phones_changed()
        await source.news.wait_for(lambda: "two" in source.reads)


async def test_nothing_is_asked_after_close(bench: Bench) -> None:
    source = Scripted()
    await bench.run(source, interval=0.05)
    await bench.poller.close()
    assert source.closed
    before = asyncio.all_tasks()
    assert {task.get_name() for task in before} & {"usage appium", "one"} == set()


@pytest.mark.parametrize("where", ["subscriber", "manager"])
async def test_a_fault_of_ours_ends_no_reading_for_good(bench: Bench, where: str) -> None:
    source = Scripted()
    faults = [KeyError("once")]

    def faulty() -> list[Phone]:
        if where == "manager" and faults:
            raise faults.pop()
        return [D, E]

    hear = bench.take

    def take(udid: str, reading: UsageReading) -> None:
        if where == "subscriber" and faults:
            raise faults.pop()
        hear(udid, reading)

    bench.take, bench.look = take, faulty  # type: ignore[method-assign]  # a fault
    source.in_use["one"] = {"D": "session 1"}
    with structlog.testing.capture_logs() as logs:
        await bench.run(source)
        assert not faults
        source.in_use["one"] = {"D": "session 2"}
        await bench.until("D", Usage.IN_USE)
    told = [each["event"] for each in logs if each["log_level"] == "error"]
    assert told in (["subscriber.failed"], ["usage.bug"])

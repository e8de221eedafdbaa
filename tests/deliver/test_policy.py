from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from agent.deliver.policy import (
    EXCERPT,
    JITTER,
    LONGEST,
    SCHEDULE,
    Answer,
    Dead,
    Decision,
    Delivered,
    ErrorKind,
    Paused,
    Retry,
    decide,
    delay,
    describe,
    due_in,
    probe_every,
    retry_after_seconds,
    step_of,
)
from agent.model import CallbackState
from tests.kit.deliver import NOW_MS

MAX_AGE = 72 * 3600.0
HOUR_MS = 3600 * 1000


def judged(
    answer: Answer,
    made: int = 1,
    *,
    age_ms: int = 0,
    jitter: float = 0.5,
    max_age: float = MAX_AGE,
) -> Decision:
    return decide(answer, made, NOW_MS - age_ms, NOW_MS, jitter, max_age)


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status(status: int) -> None:
    decision = judged(Answer(status))
    if 200 <= status <= 299:
        assert decision == Delivered()
        assert decision.state is CallbackState.DELIVERED
        assert describe(Answer(status)) == ""
    elif status == 410:
        assert isinstance(decision, Paused)
        assert decision.state is CallbackState.PENDING
        assert decision.due_ms == NOW_MS + 10 * HOUR_MS
        assert "HTTP 410 Gone" in decision.why
    else:
        assert isinstance(decision, Retry)
        assert decision.state is CallbackState.PENDING
        assert decision.due_ms == NOW_MS + 5000
        assert f"HTTP {status}" in decision.why


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_error_is_retried_and_says_why(kind: ErrorKind) -> None:
    decision = judged(Answer(kind=kind, detail="the detail"), 3)
    assert decision == Retry(f"{kind}: the detail", NOW_MS + 120_000)


@pytest.mark.parametrize(
    ("made", "seconds"),
    [
        (1, 5),
        (2, 30),
        (3, 120),
        (4, 600),
        (5, 1800),
        (6, 3600),
        (7, 7200),
        (8, 18000),
        (9, 36000),
        (10, 36000),
        (1000, 36000),
    ],
)
def test_the_schedule_and_its_jitter(made: int, seconds: float) -> None:
    assert delay(made) == seconds
    lowest, middle, highest = (
        judged(Answer(500), made, jitter=jitter, max_age=1e9).due_ms - NOW_MS
        for jitter in (0.0, 0.5, 0.999999)
    )
    assert lowest == pytest.approx(seconds * 900, abs=1)
    assert middle == seconds * 1000
    assert highest == pytest.approx(seconds * 1100, abs=60)


def test_the_first_attempt_is_at_once() -> None:
    assert delay(0) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_name_their_target(status: int) -> None:
    decision = judged(Answer(status, target="http://elsewhere/hook"))
    assert isinstance(decision, Retry)
    assert "to http://elsewhere/hook" in decision.why
    assert "not followed" in decision.why


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 5),  # never earlier than the schedule
        ("1", 5),
        ("36001", 36000),  # never later than LONGEST
        ("9" * 5000, 36000),
        ("-5", 5),
        ("1.5", 5),
        ("²", 5),
        ("soon", 5),
        ("", 5),
        ("Fri, 99 Nov 2023 99:99:99 GMT", 5),
        ("Wed, 01 Jan 9999 00:00:00 GMT", 36000),
        ("Wed, 01 Jan 1000 00:00:00 GMT", 5),
        ("64.57", 64.57),
        ("0.35", 5),
        ("7.", 7),
        (".5", 5),
        ("1.5.5", 5),
        ("8.5e9", 5),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    decision = judged(Answer(429, retry_after=header))
    assert isinstance(decision, Retry)
    assert decision.due_ms == NOW_MS + seconds * 1000
    assert decision.asked is (seconds > 5)


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000"])
def test_retry_after_as_a_date(zone: str) -> None:
    at = datetime.fromtimestamp(NOW_MS // 1000 + 90, UTC)
    header = format_datetime(at).replace("+0000", zone)
    assert retry_after_seconds(header, NOW_MS) == pytest.approx(90, abs=1)


def test_the_last_try_is_at_max_age_and_then_it_is_dead() -> None:
    almost = judged(Answer(500), 12, age_ms=71 * HOUR_MS)
    assert isinstance(almost, Retry)
    assert almost.due_ms == NOW_MS + HOUR_MS
    asked = judged(Answer(503, retry_after="36000"), 12, age_ms=71 * HOUR_MS)
    assert isinstance(asked, Retry)
    assert asked.due_ms == NOW_MS + HOUR_MS
    dead = judged(Answer(500), 13, age_ms=72 * HOUR_MS)
    assert isinstance(dead, Dead)
    assert dead.state is CallbackState.DEAD
    assert "HTTP 500" in dead.why
    assert "72 h" in dead.why
    assert "13 attempts" in dead.why


def test_too_old_is_still_delivered_when_it_is_answered() -> None:
    assert judged(Answer(204), 1, age_ms=1000 * HOUR_MS) == Delivered()


def test_gone_for_longer_than_max_age_is_dead() -> None:
    assert isinstance(judged(Answer(410), 9, age_ms=73 * HOUR_MS), Dead)


def test_a_clock_set_back_gives_the_schedule() -> None:
    day = 24 * HOUR_MS
    decision = judged(Answer(500), 1, age_ms=-day)
    assert decision == Retry("HTTP 500 Internal Server Error", NOW_MS + 5000)


@pytest.mark.parametrize("made", range(1, 12))
def test_a_stored_due_time_is_kept_but_never_beyond_the_schedule(made: int) -> None:
    longest = delay(made) * (1 + JITTER)
    assert due_in(NOW_MS + 2000, made, NOW_MS) == 2.0
    assert due_in(NOW_MS - 1, made, NOW_MS) == 0.0
    assert due_in(0, made, NOW_MS) == 0.0
    for back in (24 * HOUR_MS, 365 * 24 * HOUR_MS):
        assert due_in(NOW_MS + 2000, made, NOW_MS - back) == longest


def test_what_was_never_tried_is_due_at_once_whatever_the_clock_says() -> None:
    assert due_in(NOW_MS + HOUR_MS, 0, NOW_MS) == 0.0


@pytest.mark.parametrize(
    ("made", "age", "step"),
    [
        (1, 0, 1),
        (2, 5, 2),
        (2, 4.6, 2),  # the jitter's share early
        (3, 35, 3),
        (4, 155, 4),
        (9, 31355, 9),
        (30, 60, 3),  # 27 of them were probes
        (90, 3600, 6),
        (500, 80000, 10),
        (1, 70000, 1),  # it waited for its elders
        (3, -86400, 3),
    ],
)
def test_probes_do_not_move_a_callback_on_in_the_schedule(made: int, age: float, step: int) -> None:
    assert step_of(made, age) == step
    probed = decide(Answer(500), made, NOW_MS, NOW_MS, 0.5, 1e9, step)
    assert probed.due_ms - NOW_MS == delay(step) * 1000


def test_an_endpoint_is_probed_often_at_first_then_by_its_heads() -> None:
    assert probe_every(0) == probe_every(599)
    assert probe_every(600) == probe_every(3599)
    assert probe_every(3600) is None
    for failing, most in ((0, 15), (600, 60)):
        every = probe_every(failing)
        assert every is not None
        assert every <= most


def test_messages_are_bounded() -> None:
    answer = Answer(kind=ErrorKind.TLS, detail="x" * 5000)
    assert len(describe(answer)) == EXCERPT
    assert describe(answer._replace(status=599)) == "HTTP 599"


def test_the_schedule_only_grows() -> None:
    assert list(SCHEDULE) == sorted(SCHEDULE)
    assert SCHEDULE[-1] == LONGEST

"""Codes and sessions: once, in time, not too many, and nothing of them that could be told."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.service.sessions import CODE_SECONDS, IDLE_SECONDS, MOST, PREFIX, Asker, Sessions
from tests.kit.clock import StubClock
from tests.kit.examples import examples

if TYPE_CHECKING:
    from agent.service.sessions import Session

ALICE = Asker(1000, "alice")


class Desk:
    def __init__(self) -> None:
        self.clock = StubClock()
        self.ends = 0
        self.sessions = Sessions(self.clock, self._ended)

    def _ended(self) -> None:
        self.ends += 1

    def begin(self, asker: Asker = ALICE) -> tuple[str, Session]:
        made = self.sessions.exchange(self.sessions.code(asker), "127.0.0.1")
        assert made is not None
        return made


def test_a_code_works_once() -> None:
    desk = Desk()
    code = desk.sessions.code(ALICE)
    made = desk.sessions.exchange(code, "10.0.0.1")
    assert made is not None
    token, session = made
    assert token.startswith(PREFIX)
    assert len(token) > 40
    assert desk.sessions.exchange(code, "10.0.0.1") is None
    assert desk.sessions.find(token) is session
    assert desk.sessions.rows() == [
        {
            "id": session.id,
            "user": "alice",
            "uid": 1000,
            "address": "10.0.0.1",
            "created_at": "2023-11-14T22:13:20.000Z",
            "used_at": "2023-11-14T22:13:20.000Z",
            "idle_seconds": 0.0,
            "streams": 0,
        }
    ]


def test_a_code_is_good_for_a_minute_whatever_the_wall_clock_says() -> None:
    for seconds, good in ((CODE_SECONDS - 0.1, True), (CODE_SECONDS, False)):
        for wall in (0.0, -1e6, 1e6):
            desk = Desk()
            code = desk.sessions.code(ALICE)
            desk.clock.set_wall(wall)
            desk.clock.advance(seconds)
            assert (desk.sessions.exchange(code, "") is not None) == good


def test_a_session_ends_after_12_hours_without_use_and_not_before() -> None:
    desk = Desk()
    token, _ = desk.begin()
    for _ in range(5):
        desk.clock.advance(IDLE_SECONDS - 1)
        desk.clock.set_wall(-1e6)
        assert desk.sessions.find(token) is not None
    desk.clock.advance(IDLE_SECONDS)
    assert desk.sessions.find(token) is None
    assert desk.ends == 1


def test_a_session_is_not_idle_while_something_is_followed_with_it() -> None:
    desk = Desk()
    token, session = desk.begin()
    with desk.sessions.streaming(session), desk.sessions.streaming(session):
        desk.clock.advance(10 * IDLE_SECONDS)
        assert desk.sessions.rows()[0]["streams"] == 2
        assert desk.sessions.rows()[0]["idle_seconds"] == 0.0
    desk.clock.advance(IDLE_SECONDS - 1)
    assert desk.sessions.find(token) is session


def test_of_one_too_many_the_one_that_was_idle_longest_goes() -> None:
    desk = Desk()
    made = []
    for _ in range(MOST):
        made.append(desk.begin())
        desk.clock.advance(1)
    desk.sessions.find(made[0][0])  # used just now
    with desk.sessions.streaming(made[1][1]):  # in use
        desk.begin()
    assert desk.ends == 1
    assert len(desk.sessions) == MOST
    gone = [number for number, (token, _) in enumerate(made) if desk.sessions.find(token) is None]
    assert gone == [2]


def test_of_one_code_too_many_the_oldest_is_void() -> None:
    desk = Desk()
    codes = [desk.sessions.code(ALICE) for _ in range(MOST + 1)]
    good = [desk.sessions.exchange(code, "") is not None for code in codes]
    assert good == [False, *[True] * MOST]


def test_a_wrong_code_or_token_is_none_whatever_it_is() -> None:
    desk = Desk()
    token, session = desk.begin()
    for wrong in (
        "",
        PREFIX,
        token[:-1],
        token + "x",
        token.upper(),
        "é",
        "\udcff",
        "\ud800",
        "\0",
    ):
        assert desk.sessions.find(wrong) is None
        assert desk.sessions.exchange(wrong, "") is None
    assert desk.sessions.find(session.id) is None
    assert desk.sessions.find(token) is session


def test_what_is_kept_opens_nothing() -> None:
    """A core dump, or a bug that shows a session, has no token in it."""
    desk = Desk()
    token, session = desk.begin()
    code = desk.sessions.code(ALICE)
    shown = repr(session) + repr(vars(desk.sessions)) + repr(desk.sessions.rows())
    for secret in (token, token.removeprefix(PREFIX), code):
        assert secret not in shown
        assert secret.encode() not in pickle.dumps((session, desk.sessions.rows()))


class Walk(RuleBasedStateMachine):
    """Against a list of who must be in force."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.codes: dict[str, float] = {}
        self.used: dict[str, float] = {}
        """Token → the last use; the order of use."""
        self.ended: set[str] = set()

    @property
    def now(self) -> float:
        return self.desk.clock.now

    def forget(self) -> None:
        self.codes = {c: until for c, until in self.codes.items() if self.now < until}
        for token in [t for t, at in self.used.items() if self.now - at >= IDLE_SECONDS]:
            del self.used[token]
            self.ended.add(token)

    @rule()
    def ask(self) -> None:
        self.forget()
        if len(self.codes) >= MOST:
            del self.codes[next(iter(self.codes))]
        self.codes[self.desk.sessions.code(ALICE)] = self.now + CODE_SECONDS

    @rule(data=st.data())
    def bring(self, data: st.DataObject) -> None:
        self.forget()
        if not self.codes:
            return
        code = data.draw(st.sampled_from(sorted(self.codes)))
        del self.codes[code]
        made = self.desk.sessions.exchange(code, "")
        assert made is not None
        if len(self.used) >= MOST:
            oldest = min(self.used.values())
            gone = [t for t, at in self.used.items() if at == oldest]
            gone = [t for t in gone if not self._is_there(t)]
            assert len(gone) == 1
            del self.used[gone[0]]
            self.ended.add(gone[0])
        self.used[made[0]] = self.now
        assert self.desk.sessions.exchange(code, "") is None

    def _is_there(self, token: str) -> bool:
        # Without using it.
        return any(
            session.digest == digest_of(token) for session in self.desk.sessions._sessions.values()
        )

    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        self.forget()
        if self.used:
            token = data.draw(st.sampled_from(sorted(self.used)))
            assert self.desk.sessions.find(token) is not None
            self.used[token] = self.now

    @rule(data=st.data())
    def log_out(self, data: st.DataObject) -> None:
        self.forget()
        if self.used:
            token = data.draw(st.sampled_from(sorted(self.used)))
            session = self.desk.sessions.find(token)
            assert session is not None
            assert self.desk.sessions.end(session.id)
            assert not self.desk.sessions.end(session.id)
            assert not self.desk.sessions.is_in_force(session)
            del self.used[token]
            self.ended.add(token)

    @rule(seconds=st.sampled_from([1.0, CODE_SECONDS, IDLE_SECONDS / 3]))
    def wait(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    @invariant()
    def as_many_as_there_must_be(self) -> None:
        self.forget()
        assert len(self.desk.sessions) == len(self.used) <= MOST
        assert all(self.desk.sessions.find(token) is None for token in self.ended)


def digest_of(token: str) -> bytes:
    import hashlib  # noqa: PLC0415 - for this alone

    return hashlib.sha256(token.encode()).digest()


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=examples(50), stateful_step_count=60, deadline=None)

"""The judge of the proof: what it lets pass, and what not."""

from __future__ import annotations

import random

import pytest

from agent.model import DeviceState
from agent.track.derive import CALLS_BACK
from tests.fleet.proof.oracle import Sent, Told, judge
from tests.kit.seed import seed

ALL = frozenset(DeviceState)
STATES = {"n": DeviceState.ONLINE, "f": DeviceState.OFFLINE, "p": DeviceState.UNPLUGGED}
"""One letter each; a big F in what was sent: offline, for the host was lost."""


def wrong(log: str, sent: str, moved: str = "", events: frozenset[DeviceState] = ALL) -> list[str]:
    told = [Told("rack-1", n, "x", STATES[letter], n) for n, letter in enumerate(log, 1)]
    came = [
        Sent(f"msg-{n}", 1, "x", STATES[letter.lower()], letter.isupper(), "")
        for n, letter in enumerate(sent)
    ]
    return judge(told, came, {1: events}, moved).wrong


@pytest.mark.parametrize(
    ("log", "sent"),
    [
        ("nfn", "nfn"),
        ("npn", "npn"),
        ("np", "np"),
        ("n", "nFn"),  # lost, and heard again
        ("nf", "nF"),  # lost; what it told first was the same
        ("nfn", "nFn"),
        ("n", "nFnFn"),
        ("np", "nFp"),
    ],
)
def test_what_is_right(log: str, sent: str) -> None:
    assert wrong(log, sent) == []


@pytest.mark.parametrize(
    ("log", "sent"),
    [
        ("nfn", "n"),  # lost
        ("nfn", "nf"),
        ("np", "n"),
        ("npn", "n"),  # it came back where it left: that is no move
        ("nfpf", "nf"),
        ("nfn", "nnf"),  # disorder
        ("nfnf", "nfnfn"),  # made up
        ("n", "nfn"),  # an offline that no host told of
        ("n", "nF"),  # and not heard again
        ("npf", "nfp"),
        ("n", ""),
    ],
)
def test_what_is_wrong(log: str, sent: str) -> None:
    assert len(wrong(log, sent)) == 1


def test_a_webhook_is_held_to_its_events() -> None:
    some = frozenset({DeviceState.OFFLINE, DeviceState.UNPLUGGED})
    assert wrong("nfnfp", "ffp", events=some) == []
    assert wrong("nfnfp", "fp", events=some) != []


def test_a_moved_phone_was_online_all_the_time() -> None:
    assert wrong("npnpn", "n", "x") == []
    assert wrong("npnpn", "nFn", "x") == []
    for sent in ("npn", "nfn", "nF", "nn"):
        assert len(wrong("npnpn", sent, "x")) == 1


def test_repeats_have_equal_ids_and_say_the_same() -> None:
    told = [Told("rack-1", 1, "x", DeviceState.ONLINE, 1)]
    one = Sent("msg-1", 1, "x", DeviceState.ONLINE, False, "a body")
    verdict = judge(told, [one, one, one], {1: ALL}, "")
    assert (verdict.wrong, verdict.messages, verdict.repeats) == ([], 1, 2)
    other = Sent("msg-1", 1, "x", DeviceState.ONLINE, False, "another body")
    assert len(judge(told, [one, other], {1: ALL}, "").wrong) == 1
    again = Sent("msg-2", 1, "x", DeviceState.ONLINE, False, "a body")
    assert len(judge(told, [one, again], {1: ALL}, "").wrong) == 1
    unknown = Sent("msg-3", 1, "y", DeviceState.ONLINE, False, "a body")
    assert len(judge(told, [one, unknown], {1: ALL}, "").wrong) == 1


def test_what_a_hub_may_do_is_right_and_one_callback_less_or_more_is_not() -> None:
    """Random logs through a hub that loses the host at random."""
    at = random.Random(seed(20261130))
    for _ in range(300):
        log = [at.choice("nfp")]
        while len(log) < 12:
            log.append(at.choice([each for each in "nfp" if each != log[-1]]))
        sent, stands = "", ""
        for letter in log:
            for state in (letter,) if at.random() < 0.8 or letter == "p" else (letter, "F", letter):
                sent, stands = _hub(sent, stands, state)
        assert wrong("".join(log), sent) == []
        # The last one is never free: everybody waits for it.
        assert wrong("".join(log), sent[:-1]) != []
        assert wrong("".join(log), sent + sent[-1]) != []


def _hub(sent: str, stands: str, state: str) -> tuple[str, str]:
    low = state.lower()
    before = STATES[stands] if stands else None
    if low == stands or (before, STATES[low]) not in CALLS_BACK:
        return sent, low
    return sent + state, low

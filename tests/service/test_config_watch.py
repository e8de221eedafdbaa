"""What a look at the configuration file leads to."""

from __future__ import annotations

import pytest

from agent.service.config_watch import Action, Looks

NOTHING, TRY, INSIST = Action.NOTHING, Action.TRY, Action.INSIST


def seen(looks: Looks, texts: str) -> list[Action]:
    return [looks.look(text) for text in texts]


def test_a_text_is_loaded_once_it_has_stayed() -> None:
    looks = Looks("a")
    assert seen(looks, "aaaa") == [NOTHING] * 4
    assert seen(looks, "bb") == [NOTHING, TRY]
    looks.loaded("b", ok=True)
    assert seen(looks, "bbb") == [NOTHING] * 3


def test_one_that_is_being_written_is_waited_for() -> None:
    looks = Looks("a")
    assert seen(looks, "bcdefgg") == [NOTHING] * 6 + [TRY]


def test_one_that_cannot_be_used_gets_a_third_look_and_is_refused_once() -> None:
    looks = Looks("a")
    assert seen(looks, "bbb") == [NOTHING, TRY, INSIST]
    looks.loaded("b", ok=False)
    assert seen(looks, "bbbb") == [NOTHING] * 4
    assert seen(looks, "cc") == [NOTHING, TRY], "mended"


def test_what_somebody_else_had_loaded_is_no_news() -> None:
    looks = Looks("a")
    assert seen(looks, "b") == [NOTHING]
    looks.loaded("b", ok=True)
    assert not looks.wanted
    assert seen(looks, "bbb") == [NOTHING] * 3
    looks.loaded("c", ok=False)
    assert seen(looks, "ccc") == [NOTHING] * 3, "its caller was told"


@pytest.mark.parametrize("before", ["", "b", "bb"])
def test_the_old_text_put_back_ends_the_refusal(before: str) -> None:
    looks = Looks("a")
    seen(looks, "aa" + before)
    looks.loaded("b", ok=False)
    assert [each for each in seen(looks, "aa") if each is not NOTHING]
    looks.loaded("a", ok=True)
    assert seen(looks, "aaa") == [NOTHING] * 3


def test_the_text_in_force_that_cannot_be_loaded_any_more_is_not_tried_for_ever() -> None:
    looks = Looks("a")
    looks.loaded("a", ok=False)  # a file that it names is gone, say
    assert seen(looks, "aaaa") == [NOTHING] * 4
    assert seen(looks, "bba") == [NOTHING, TRY, NOTHING]

"""Which webhook is meant: one answer, or a message that says what to say instead."""

from __future__ import annotations

import pytest

from agent.config.which import Named, which
from agent.errors import UnknownWebhookError

KNOWN = [Named("board", 1, 1), Named("1", 7, 1), Named("bell", 2, 1), Named("bell", 3, 2)]
FILE = [Named("bell", None, 1), Named("bell", None, 2)]


@pytest.mark.parametrize(("text", "index"), [("board", 0), ("7", 1), ("2", 2), ("3", 3)])
def test_by_name_or_id(text: str, index: int) -> None:
    assert which(text, KNOWN) == index


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        ("bord", KNOWN, "no webhook 'bord': did you mean 'board'?"),
        ("bord", [], "no webhook 'bord': none is configured"),
        (
            "1",
            KNOWN,
            (
                "'1' may be webhook 'board' (id 1) of organisation 1: say 'board' or "
                "webhook '1' (id 7) of organisation 1: say its id 7"
            ),
        ),
        (
            "bell",
            FILE,
            (
                "'bell' may be webhook 'bell' of organisation 1: say --org or "
                "webhook 'bell' of organisation 2: say --org"
            ),
        ),
    ],
)
def test_else_what_to_say_instead(text: str, known: list[Named], said: str) -> None:
    with pytest.raises(UnknownWebhookError) as caught:
        which(text, known, by_org="say --org")
    assert str(caught.value) == said


def test_what_the_file_lacks() -> None:
    with pytest.raises(UnknownWebhookError, match=r"^no webhook 'x' in the file: it has none$"):
        which("x", [], in_file=True)

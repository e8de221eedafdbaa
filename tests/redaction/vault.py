"""Secrets that can be told apart and found again, however they were written down."""

from __future__ import annotations

import base64
import random
import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HALF = 12
"""Characters: enough that chance never makes them, few enough to find a secret that was cut."""
_WORD = re.compile(rb"[0-9a-z]{%d,}" % _HALF)
"""Where a half, its hex or its base64 can stand at all."""


class Vault:
    """Makes secrets, and finds them in what an operator (or a thief) can read.

    A secret is a random half, a middle that its encodings change, and another random half. Either
    half alone counts as found: letters and digits look the same in JSON, URLs, HTML and `repr`,
    so only base64 and hex are looked for besides, and a secret that was cut off is found too.
    """

    def __init__(self) -> None:
        self._dice = random.SystemRandom()
        self._words: list[tuple[str, bytes]] = []
        """Needles that can stand within a word alone, and whose they are."""
        self._others: list[tuple[str, bytes]] = []
        self.values: dict[str, str] = {}

    def make(self, name: str, middle: str = "") -> str:
        """A new secret; the name tells it from others in a failed test."""
        assert name not in self.values
        head, tail = self._random(), self._random()
        self.values[name] = value = f"{head}{middle}{tail}"
        for half in (head, tail):
            for form in _forms(half.encode()):
                self._look_for(name, form)
        return value

    def whsec(self, name: str) -> str:
        """A Standard Webhooks secret."""
        # Base64 itself: what stands behind the prefix is the secret, and its characters are random.
        return f"whsec_{self.make(name)}"

    def keep(self, name: str, value: str) -> None:
        """Count an existing text among the secrets, by its lines."""
        self.values[name] = value
        for line in value.splitlines():
            if not line.startswith("-----"):
                for at in range(0, len(line) - 2 * _HALF, 2 * _HALF):
                    self._look_for(name, line[at : at + 2 * _HALF].encode())

    def found_in(self, text: str | bytes) -> set[str]:
        """The names of the secrets that stand in it, whole or in part, plain or encoded."""
        data = (text.encode() if isinstance(text, str) else text).lower()
        # Most needles are words, and most words stand in a state directory many times.
        words = b"\n".join(set(_WORD.findall(data)))
        return {
            *(name for name, needle in self._words if needle in words),
            *(name for name, needle in self._others if needle in data),
        }

    def _look_for(self, name: str, needle: bytes) -> None:
        needle = needle.lower()
        (self._words if _WORD.fullmatch(needle) else self._others).append((name, needle))

    def _random(self) -> str:
        letters = string.ascii_letters + string.digits
        return "".join(self._dice.choice(letters) for _ in range(_HALF))


def _forms(half: bytes) -> Iterator[bytes]:
    yield half
    yield half.hex().encode()
    # Within a longer text that was encoded it may begin at any of three places.
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + half)
        whole = slice(4 if before else 0, 4 * ((before + len(half)) // 3))
        yield encoded[whole]

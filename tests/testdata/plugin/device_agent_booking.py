"""A usage source of another package: phones that a booking system has given out.

Its file holds a line for each booked phone: the UDID, a blank, and who has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.usage.base import Target, UsageUnknownError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.usage.base import Phone


class BookingSource:
    """Reads the file at each question."""

    name = "booking"

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """The one file."""
        del phones
        return [Target(str(self._file))]

    async def read(self, target: Target) -> Mapping[str, str]:
        """Who has which phone."""
        try:
            lines = self._file.read_text().splitlines()
        except OSError as error:
            raise UsageUnknownError(f"booking: {target.key}: {error.strerror}") from None
        booked = (line.split(" ", 1) for line in lines if " " in line)
        return {udid: f"booking of {who}" for udid, who in booked}

    async def close(self) -> None:
        """Nothing is open."""


def make(options: Mapping[str, Any]) -> BookingSource:
    """What the entry point names."""
    return BookingSource(options["file"])

"""What came of a reload: for whoever asked for it, and for everybody since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from agent.service.rows import ProblemRow, Time, iso, problem_rows

if TYPE_CHECKING:
    from agent.errors import Problem

ReloadBy = Literal["start", "request", "edit", "signal", "file"]
"""Who wanted it: the start itself; `device-agent reload` or the API; a webhook's edit by the API;
SIGHUP; or nobody, the file had changed."""


IN_FORCE = "the new configuration is in force"
"""So begins what is said of a reload that a part of the agent did not take."""


class ReloadRow(TypedDict):
    """The last reload; the start counts as a good one."""

    ok: bool
    at: Time | None
    """null: none since the start."""
    by: ReloadBy
    """What asked for it."""
    error: str
    problems: list[ProblemRow]
    """Every mistake of the file, where that is why it was refused."""


class Reloaded(TypedDict):
    """What a reload changed."""

    changed: list[str]
    """Tables of the file."""
    restarted_sources: list[str]
    needs_restart: list[str]
    """Keys that count at the next start only."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """What came of the last reload; a start counts as a good one."""

    ok: bool = True
    at_ms: int = 0
    error: str = ""
    by: ReloadBy = "start"
    problems: tuple[Problem, ...] = ()
    """Every mistake of the file, where that is why it was refused."""
    failed: tuple[str, ...] = ()
    """The parts of the agent that did not take it, by a fault of theirs; all others did."""

    @property
    def in_force(self) -> bool:
        """Whether what was loaded counts, be it not everywhere."""
        return self.ok or bool(self.failed)

    def row(self) -> ReloadRow:
        """For `/v1/status`."""
        error = self.problem().removeprefix("reload: ") if self.failed else self.error
        return {
            "ok": self.ok,
            "at": iso(self.at_ms),
            "by": self.by,
            "error": error,
            "problems": problem_rows(self.problems),
        }

    def problem(self) -> str:
        """One line for operators; "" for a good one."""
        if self.ok:
            return ""
        if self.failed:
            return (
                f"reload: {IN_FORCE} since {iso(self.at_ms)}, but not in "
                f"{', '.join(self.failed)}: internal error, see the log and restart the agent"
            )
        first, *more = self.error.splitlines()
        others = f" (and {len(more)} more: device-agent check)" if more else ""
        return f"reload: refused at {iso(self.at_ms)}, the old configuration stays: {first}{others}"

"""What is said of a reload that went wrong in part."""

from __future__ import annotations

from agent.service.reload import LastReload


def test_a_reload_in_parts_is_in_force_and_no_good_one() -> None:
    last = LastReload(ok=False, at_ms=1, by="file", failed=("leases", "usage"))
    assert last.in_force
    assert not LastReload(ok=False, error="x").in_force
    assert last.problem() == (
        "reload: the new configuration is in force since 1970-01-01T00:00:00.001Z, but not in "
        "leases, usage: internal error, see the log and restart the agent"
    )
    assert last.row()["error"] == last.problem().removeprefix("reload: ")

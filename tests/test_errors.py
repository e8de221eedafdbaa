"""Errors by their codes, as another agent tells of them."""

from __future__ import annotations

from agent.api.errors import status_of
from agent.errors import AgentError, DeviceHeldError, UnknownLeaseError, rebuilt


def test_an_error_that_was_told_by_its_code_is_the_same_again() -> None:
    for error in (DeviceHeldError("held"), UnknownLeaseError("gone"), AgentError("broken")):
        again = rebuilt(error.code, str(error))
        assert (type(again), str(again), again.code) == (type(error), str(error), error.code)
        assert status_of(again) == status_of(error)


def test_a_code_of_a_newer_agent_stays_as_it_is() -> None:
    again = rebuilt("something_new", "no such thing")
    assert (again.code, str(again), status_of(again)) == ("something_new", "no such thing", 500)
    assert AgentError.code == "failed"

"""`[api] hosts`: names as a Host header has them."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.errors import ConfigError


def test_names_are_kept_as_they_are_compared() -> None:
    config = parse('[api]\nhosts = ["Rack-1.Lab.", "agent", "10.0.0.1"]\n', "a.toml")
    assert config.api.hosts == ("rack-1.lab", "agent", "10.0.0.1")
    assert parse("", "a.toml").api.hosts == ()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ('["https://rack-1.lab"]', "a host name alone"),
        ('["rack-1.lab:9178"]', "a host name alone"),
        ('["*.lab"]', "a host name alone"),
        ('["rack 1"]', "a host name alone"),
        ('["a..b"]', "a host name alone"),
        ('["-a.b"]', "a host name alone"),
        ('["r\\u00e4ck"]', "a host name alone"),
        ('["rack-1.lab", "RACK-1.lab."]', "'rack-1.lab' stands twice"),
        ('"rack-1.lab"', "array"),
    ],
)
def test_what_is_no_name_is_a_mistake_at_its_place(names: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[api]\nhosts = {names}\n", "a.toml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (2, 1)
    assert problem.message.startswith("api.hosts: ")
    assert says in problem.message

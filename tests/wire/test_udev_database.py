"""What udev's database is asked for one device."""

from __future__ import annotations

import pytest

from agent.wire.udev import Database


def test_a_port_where_nothing_hangs_is_looked_up_in_vain() -> None:
    """As the name of a root hub's interface without its number: nobody is called `1-0`."""
    with pytest.raises(LookupError):
        Database().device("1-0")

"""Ports that tests choose: no two of them choose one, whatever process they run in."""

from __future__ import annotations

import subprocess
import sys

from tests.fakes.ports import free_ports

CHOOSE = """
from tests.fakes.ports import free_ports
print(*free_ports(500), flush=True)
input()
"""


def test_no_two_processes_choose_the_same() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHOOSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        ours = free_ports(500)
        other.communicate(b"\n")
    assert len(theirs) == len(set(ours)) == 500
    assert not theirs & set(ours)

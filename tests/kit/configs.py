"""The parts of configurations that many tests share; TOML, joined as text.

`ONLY_ADB` and the like end in the table `[android]`: what follows may add keys to it.
"""

from __future__ import annotations

ONLY_ADB = """\
[usb]
enabled = false
[ios]
enabled = false
[android]
adb_server = "{adb}"
start_server = false
"""
"""Phones come by one adb server that is there already: `{adb}` is its address, for `format`."""
NO_SOURCES = """\
[usb]
enabled = false
[ios]
enabled = false
[android]
enabled = false
"""
"""Nothing on this machine is looked at."""
AT_ONCE = """\
[hold]
offline = "0s"
unplugged = "0s"
[flap]
transitions = 1000000
"""
"""Going away counts at once, and nothing is held for flapping."""


def only_adb(address: str) -> str:
    """`ONLY_ADB` for that server."""
    return ONLY_ADB.format(adb=address)

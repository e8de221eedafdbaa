"""Which host a phone belongs to, by what the hosts tell of it. Pure.

A phone is *held* by a host that tells any state of it but unplugged. Its owner is the host whose
word counts:

    what happens                                          owner becomes
    first told of                                         that host
    arrives on USB at another host                        that host, at once
      (it was not held there, or by the network alone)
    the owner says unplugged, or tells of it no more,     another that holds it, at once: one that
      or is gone; another host holds it                     has it on USB before one on the network
    anything else                                         stays

Only a host that is there, and whose log is taken, can be moved to like that: else nobody knows.
Two hosts that both have it on USB for `TWIN_AFTER` of seen time, and both were heard to live after
that, with all that they had to say taken: it is two phones of one serial. The owner keeps the name,
the other is `serial@host` from then on, as long as that host tells of it: it is always its own, and
none of this applies to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.model import DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.fleet.hub.stored import Told
    from agent.fleet.words import DeviceTold

TWIN_AFTER: Final = 30.0
"""Seconds of seen time."""


def holds(told: Told | None) -> bool:
    """Whether that host has the phone."""
    return told is not None and told.device.state is not DeviceState.UNPLUGGED


def holds_on_usb(told: Told | None) -> bool:
    """Likewise, on its USB."""
    return told is not None and holds(told) and told.device.usb


def arrives(before: DeviceTold | None, now: DeviceTold) -> bool:
    """Whether it came onto that host's USB."""
    if now.state is DeviceState.UNPLUGGED or not now.usb:
        return False
    return before is None or before.state is DeviceState.UNPLUGGED or not before.usb


def heir(told: Iterable[Told], owner: str, can: Callable[[str], bool]) -> str:
    """The host that a phone goes to which its owner has no more; "": to none."""
    holders = [each for each in told if each.host != owner and holds(each) and can(each.host)]
    return min(holders, key=lambda each: (not each.device.usb, each.host)).host if holders else ""

"""Why usbmuxd cannot be seen, in an operator's words; and whether that is to be expected. Pure."""

from __future__ import annotations

from typing import NamedTuple

from agent.wire.usbmux import MalformedError, brief, is_local


class Loss(NamedTuple):
    """Why usbmuxd cannot be seen, for an operator."""

    reason: str
    normal: bool = False
    """To be expected on a host that works."""
    absent: bool = False
    """Nobody listens on the socket: looking again is cheap."""
    on_usb: bool = False
    """The kernel shows iPhones meanwhile."""


def explain(
    error: Exception,
    where: str,
    *,
    answer_limit: float,
    attached: int,
    connected: bool,
    on_usb: int = 0,
) -> Loss:
    """What the error that ended a connection means.

    Args:
        error: as raised.
        where: usbmuxd's address.
        answer_limit: seconds that it was waited for.
        attached: how many iPhones were attached.
        connected: the connection had worked before.
        on_usb: how many iPhones the kernel shows now.
    """
    local = is_local(where)
    # Debian's usbmuxd is started by udev with the first iPhone and ends with the last.
    expected = local and not attached and not on_usb
    remedy = "see `systemctl status usbmuxd`" if local else "is it running there?"
    if expected:
        remedy = "normal while no iPhone is attached"
    elif on_usb:
        phones = "1 iPhone is" if on_usb == 1 else f"{on_usb} iPhones are"
        remedy = (
            f"{phones} attached over USB all the same; start it (`systemctl start usbmuxd`; "
            "`systemctl status usbmuxd` says why it ended), or install it (Debian: `apt "
            "install usbmuxd`)"
        )
    normal = absent = False
    match error:
        case MalformedError():
            reason = (
                f"usbmuxd on {where} sent a malformed message ({error.what}): "
                "is it really usbmuxd that listens there? Reconnecting"
            )
        case TimeoutError():
            reason = (
                f"usbmuxd on {where} hangs: no answer within {answer_limit:g} s; "
                "if that lasts, restart it (`systemctl restart usbmuxd`)"
            )
        case FileNotFoundError():
            reason = f"usbmuxd is not running (no {where}): {remedy}"
            normal, absent = expected, local
        case ConnectionRefusedError():
            reason = f"usbmuxd is not running (nothing listens on {where}): {remedy}"
            normal, absent = expected, local
        case PermissionError():
            reason = f"the agent's user may not open {where}: {error.strerror}"
        case ConnectionError() if connected:
            reason = f"usbmuxd on {where} closed the connection: {remedy}"
            normal = expected
        case _:
            reason = f"usbmuxd on {where} cannot be used: {brief(error)}; reconnecting"
    return Loss(reason, normal, absent, on_usb=on_usb > 0)

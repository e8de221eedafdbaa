"""udev through libudev: a monitor of USB devices, and what its database says of them.

The only file that imports pyudev, and it does so when it is asked: on a host without libudev that
is an error with the remedy. Contexts are made where they are used, for they are not to be shared
between threads.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import AgentError
from agent.wire.usb_sysfs import DEVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyudev

CONTROL = Path("/run/udev/control")
"""udevd's control file: without it nobody sends, and another one is another udevd's."""
NETLINK_KOBJECT_UEVENT = 15
"""linux/netlink.h; Python has no name for it."""
UDEVD_GROUP = 2
"""The multicast group in which udevd sends; the kernel's own is 1."""
_OVERFLOW = {None, errno.ENOBUFS}
"""errno of pyudev's OSError: poll(2) reported an error, or receiving did. Any other one is libudev
refusing a message (ENODEV: of no device)."""
_SONAMES = ("libudev.so.1", "libudev.so.0")


class UdevError(AgentError):
    """udev can be neither heard nor asked: why, and what to do."""


class MalformedError(ValueError):
    """A message was refused. It is consumed: the next one may be good."""


class LostError(Exception):
    """Messages were lost: the monitor raises this for ever, another one is needed."""


class UdevDevice(NamedTuple):
    """One USB device, as a message or the database tells of it; reads no sysfs."""

    path: str
    """Its DEVPATH."""
    properties: Mapping[str, str]
    """Looked up when asked for: ValueError where one is no UTF-8."""
    action: str
    """`add`, `bind`, `change`, `unbind`, `remove` …; "" from the database."""


class Monitor:
    """A socket on which udevd tells of whole USB devices; closes with its last reference.

    Raises:
        UdevError: udev cannot be heard.
    """

    def __init__(self, receive_buffer: int) -> None:
        context = _context()
        try:
            import pyudev  # noqa: PLC0415 - see the module's docstring

            monitor = pyudev.Monitor.from_netlink(context)
            monitor.filter_by("usb", "usb_device")
            with contextlib.suppress(OSError):  # past rmem_max only for CAP_NET_ADMIN
                monitor.set_receive_buffer_size(receive_buffer)
            monitor.start()
        except OSError as error:
            raise UdevError(
                f"no netlink socket to hear udevd with ({error}): where systemd sandboxes the "
                "agent, RestrictAddressFamilies= must list AF_NETLINK"
            ) from None
        if not _hears_udevd(monitor):
            raise UdevError(
                "libudev takes udevd for not running and hears nothing: see that "
                f"{CONTROL} exists where the agent runs"
            )
        self._monitor = monitor

    def fileno(self) -> int:
        """Readable when `receive` has something."""
        return self._monitor.fileno()

    def receive(self) -> UdevDevice | None:
        """The next message, None where none waits. Raises MalformedError, LostError."""
        try:
            device = self._monitor.poll(0)
        except (ValueError, OverflowError) as error:  # libudev refused it (EINVAL)
            raise MalformedError(str(error)) from None
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno not in _OVERFLOW:
                raise MalformedError(str(error)) from None
            raise LostError(str(error)) from None
        return None if device is None else _device(device, device.action or "")


class Database:
    """What udev knows of the USB devices that are there. Of the thread that made it."""

    def __init__(self) -> None:
        self._made: pyudev.Context | None = None

    @property
    def _context(self) -> pyudev.Context:
        """Made when first needed, which most looks at the bus do not come to."""
        if self._made is None:
            self._made = _context()
        return self._made

    def devices(self) -> Iterator[UdevDevice]:
        """All of them. May take as long as a hanging device holds sysfs. Raises UdevError."""
        for device in self._context.list_devices(subsystem="usb", DEVTYPE="usb_device"):
            yield _device(device)

    def device(self, name: str) -> UdevDevice:
        """The one at that port. Raises LookupError: it is gone, or not whole yet; UdevError."""
        import pyudev  # noqa: PLC0415 - see the module's docstring

        try:
            return _device(pyudev.Devices.from_path(self._context, f"/{DEVICES}/{name}"))
        except pyudev.DeviceNotFoundError as error:
            raise LookupError(str(error)) from None


def why_no_netlink() -> str:
    """Why no socket can be had on which udevd is heard; "" if one can."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as probe:
            probe.bind((0, UDEVD_GROUP))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _device(device: pyudev.Device, action: str = "") -> UdevDevice:
    return UdevDevice(device.device_path, device.properties, action)


def _context() -> pyudev.Context:
    """A libudev context of the caller's own; raises UdevError.

    pyudev asks ctypes for the library's name, which runs ldconfig or a compiler and finds nothing
    where there is neither (NixOS, Alpine, minimal images). The loader finds it by its own name.
    """
    try:
        import pyudev  # noqa: PLC0415 - see the module's docstring
        from pyudev._ctypeslib.libudev import (  # noqa: PLC0415 - as above; pyudev is pinned
            ERROR_CHECKERS,
            SIGNATURES,
        )

        library = _library()
        for name, (arguments, result) in SIGNATURES.items():
            function = getattr(library, name, None)
            if function is not None:
                function.argtypes, function.restype = arguments, result
                if (checker := ERROR_CHECKERS.get(name)) is not None:
                    function.errcheck = checker

        class Context(pyudev.Context):
            """pyudev's own, over a library that is loaded already."""

            def __init__(self, library: ctypes.CDLL) -> None:
                self._libudev, self._as_parameter_ = library, library.udev_new()

        return Context(library)
    except (ImportError, OSError) as error:
        raise UdevError(
            f"libudev cannot be loaded ({error}): install it (Debian: libudev1;"
            " Fedora and RHEL: systemd-libs; Alpine: eudev-libs or libudev-zero); where it is"
            " installed, name its directory in LD_LIBRARY_PATH"
        ) from None


def _library() -> ctypes.CDLL:
    """Raises OSError with the loader's words."""
    try:
        return ctypes.CDLL(_SONAMES[0], use_errno=True)
    except OSError as error:
        found = ctypes.util.find_library("udev")
        for name in (*_SONAMES[1:], *([found] if found else [])):
            with contextlib.suppress(OSError):
                return ctypes.CDLL(name, use_errno=True)
        raise OSError(str(error)) from None


def _hears_udevd(monitor: pyudev.Monitor) -> bool:
    """Did the monitor join a multicast group?"""
    with socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW,
        NETLINK_KOBJECT_UEVENT,
        fileno=os.dup(monitor.fileno()),
    ) as twin:
        _, groups = twin.getsockname()
    return bool(groups)

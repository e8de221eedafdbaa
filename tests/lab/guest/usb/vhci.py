"""The kernel's virtual USB host, `vhci-hcd`, through sysfs.

`vhci_hcd.0/status`, `status.1` … list all ports: a row has the hub's speed (`hs`, `ss`), the port's
number over all hubs, and its state, 004 for a free one. Writing `port sockfd devid speed` to
`attach` gives the port one end of a stream socket on which a device's USB/IP is spoken.
(Linux drivers/usb/usbip/vhci_sysfs.c.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PLATFORM = Path("/sys/devices/platform")
FREE = 4
HIGH_SPEED = 3


class NoPortError(Exception):
    """No port for a phone; the text says why and what to do."""


@dataclass(frozen=True, order=True)
class Port:
    """Where a phone is plugged in."""

    number: int
    """The kernel's, over all hubs."""
    hub: int
    """N of `vhci_hcd.N`."""
    index: int
    """On that hub, from 1."""


class Vhci:
    """The ports; all high-speed."""

    def __init__(self, platform: Path = PLATFORM) -> None:
        self._platform = platform
        self._control = platform / "vhci_hcd.0"

    def ports(self) -> dict[Port, bool]:
        """All ports, and whether each is free."""
        found: dict[Port, bool] = {}
        hub = 0
        while (status := self._control / (f"status.{hub}" if hub else "status")).exists():
            rows = [line.split() for line in status.read_text().splitlines()[1:]]
            mine = [row for row in rows if row[0] == "hs"]
            for index, row in enumerate(mine, 1):
                found[Port(int(row[1]), hub, index)] = int(row[2]) == FREE
            hub += 1
        if not found:
            raise NoPortError(f"{self._control} has no ports: run `modprobe vhci-hcd`")
        return found

    def lingers(self, port: Port) -> bool:
        """Whether the kernel still has the device that was there.

        One that comes before the last is cleared away is never enumerated: unlike a real port, this
        one stays enabled when its device goes, and the kernel takes the new one for the old.
        """
        hub = self._platform / f"vhci_hcd.{port.hub}"
        return any(hub.glob(f"usb*/*-{port.index}"))

    def attach(self, port: Port, descriptor: int) -> None:
        """Give `port` a socket; the kernel keeps it. OSError where it refuses."""
        line = f"{port.number} {descriptor} {port.number + 1} {HIGH_SPEED}"
        attach = os.open(self._control / "attach", os.O_WRONLY)
        try:
            os.write(attach, line.encode())
        finally:
            os.close(attach)

    def path(self, port: Port) -> str:
        """The port's name in sysfs and in adb's list (`3-2`); "" where it cannot be told."""
        for bus in sorted((self._platform / f"vhci_hcd.{port.hub}").glob("usb*")):
            try:
                if (bus / "speed").read_text().strip() == "480":
                    return f"{(bus / 'busnum').read_text().strip()}-{port.index}"
            except OSError:
                continue
        return ""

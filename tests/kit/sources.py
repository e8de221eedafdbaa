"""The sources that ask servers, with what a test does not care for filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config import Android, Ios
from agent.sources.adb import ANSWER_LIMIT, AdbSource
from agent.sources.usbmux import UsbmuxSource
from agent.sources.usbmux_bus import BUS
from tests.kit.settings import section

if TYPE_CHECKING:
    from pathlib import Path


def adb_source(
    address: str,
    home: Path | None = None,
    *,
    compare_interval: float = 5.0,
    answer_limit: float = ANSWER_LIMIT,
    **keys: object,
) -> AdbSource:
    """It starts no server and probes no phone, unless `keys` of [android] say so."""
    settings = section(
        Android, **{"adb_server": address, "start_server": False, "probe_interval": 0.0, **keys}
    )
    return AdbSource(settings, home, compare_interval=compare_interval, answer_limit=answer_limit)


def usbmux_source(
    address: str,
    records: Path,
    *,
    list_interval: float = 30.0,
    answer_limit: float = 5.0,
    retry: float = 2.0,
    sysfs: Path = BUS,
    **keys: object,
) -> UsbmuxSource:
    """It probes no phone, unless `keys` of [ios] say so."""
    settings = section(Ios, **{"usbmuxd": address, "probe_interval": 0.0, **keys})
    return UsbmuxSource(
        settings,
        records,
        list_interval=list_interval,
        answer_limit=answer_limit,
        retry=retry,
        sysfs=sysfs,
    )

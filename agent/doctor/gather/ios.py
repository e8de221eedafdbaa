"""usbmuxd: does it answer, which iPhones does it list, and are they paired with this host?"""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.doctor.facts import UsbmuxFacts
from agent.model import Platform
from agent.udid import canonical
from agent.wire.usbmux import has_record, is_local, list_rows, usb_serials

if TYPE_CHECKING:
    from agent.config import Ios

LIMIT = 3.0
"""Seconds for all questions; usbmuxd answers in milliseconds."""
LOCKDOWN = Path("/var/lib/lockdown")
"""Where usbmuxd keeps pairing records (usbmuxd, src/conf.c)."""


async def look_at_usbmuxd(ios: Ios, state_dir: Path, lockdown: Path = LOCKDOWN) -> UsbmuxFacts:
    """Everything of usbmuxd; raises nothing."""
    address = ios.usbmuxd
    local = is_local(address)
    facts = UsbmuxFacts(
        ios.enabled,
        address,
        there=not local or Path(address).exists(),
        supported=importlib.util.find_spec("pymobiledevice3") is not None,
        local=local,
    )
    if not (facts.enabled and facts.there):
        return facts
    listed: tuple[str, ...] = ()
    rows: list[Any] = []
    records: dict[str, str] = {}
    error = ""
    # What usbmuxd keeps in files, another host's keeps there.
    places = (state_dir / "pairing", *([lockdown] if local else []))
    try:
        async with asyncio.timeout(LIMIT):
            rows = await list_rows(address)
            udids = {serial: canonical(serial, Platform.IOS) for serial in usb_serials(rows)}
            listed = tuple(udids.values())
            for serial, udid in udids.items():
                records[udid] = await _record(address, {serial, udid}, places)
    except TimeoutError:
        error = f"no answer within {LIMIT:g} s"
    except ConnectionRefusedError:
        error = "its socket is there, and nobody answers at it" if local else "nobody answers there"
    except OSError as failure:
        error = failure.strerror or str(failure)
    return replace(
        facts, error=error, listed=listed, records=tuple(records.items()), raw=tuple(rows)
    )


async def _record(address: str, names: set[str], places: tuple[Path, ...]) -> str:
    """Where the pairing record is: with usbmuxd, else a file; "" without one."""
    for name in sorted(names):
        if await has_record(address, name):
            return "usbmuxd"
    for place in places:
        for name in sorted(names):
            try:
                if (place / f"{name}.plist").stat().st_size:
                    return str(place / f"{name}.plist")
            except OSError:
                continue
    return ""

"""usbmuxd: does it answer, which iPhones does it list, and are they paired with this host?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.doctor.facts import UsbmuxFacts
from agent.model import Platform
from agent.udid import canonical
from agent.wire.lockdown import installed
from agent.wire.usbmux import UsbmuxClient, attached_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Ios

LIMIT = 3.0
"""Seconds for all questions; usbmuxd answers in milliseconds."""
LOCKDOWN = Path("/var/lib/lockdown")
"""Where usbmuxd keeps pairing records (usbmuxd, src/conf.c)."""


async def look_at_usbmuxd(ios: Ios, state_dir: Path, lockdown: Path = LOCKDOWN) -> UsbmuxFacts:
    """Everything of usbmuxd; raises nothing."""
    address = ios.usbmuxd
    mux = UsbmuxClient(address)
    local = mux.is_local
    facts = UsbmuxFacts(
        ios.enabled,
        address,
        there=not local or Path(address).exists(),
        supported=installed(),
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
            rows = await mux.rows()
            udids = {serial: canonical(serial, Platform.IOS) for serial in _on_usb(rows)}
            listed = tuple(udids.values())
            for serial, udid in udids.items():
                records[udid] = await _record(mux, {serial, udid}, places)
    except TimeoutError:
        error = f"no answer within {LIMIT:g} s"
    except ConnectionRefusedError:
        error = "its socket is there, and nobody answers at it" if local else "nobody answers there"
    except OSError as failure:
        error = failure.strerror or str(failure)
    return replace(
        facts, error=error, listed=listed, records=tuple(records.items()), raw=tuple(rows)
    )


def _on_usb(rows: list[Any]) -> Iterator[str]:
    """The serials of those that the agent would take for attached phones."""
    for row in rows:
        with suppress(ValueError):
            phone = attached_of(row)
            if phone.is_usb:
                yield phone.serial


async def _record(mux: UsbmuxClient, names: set[str], places: tuple[Path, ...]) -> str:
    """Where the pairing record is: with usbmuxd, else a file; "" without one."""
    if await mux.pair_record(*sorted(names)) is not None:
        return "usbmuxd"
    for place in places:
        for name in sorted(names):
            try:
                if (place / f"{name}.plist").stat().st_size:
                    return str(place / f"{name}.plist")
            except OSError:
                continue
    return ""

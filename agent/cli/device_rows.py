"""Devices and their transitions as a terminal shows them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agent.cli.out import can_write, printable
from agent.cli.table import columns
from agent.text import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.service.device_page import WaitRow
    from agent.service.devices import BatteryRow, DeviceRow, TransitionRow

COLOURS = {
    "online": "green",
    "utilizing": "blue",
    "offline": "yellow",
    "unplugged": "bright_black",
}
_HEADINGS = ("NAME", "UDID", "PLATFORM", "STATE", "SINCE", "BATTERY", "HOST", "PORT", "TAGS", "WHY")
_SHRINK = (
    *(("NAME", 24), ("WHY", 32), ("TAGS", 16), ("NAME", 16), ("WHY", 24), ("TAGS", 8)),
    *(("HOST", 12), ("PLATFORM", 0), ("TAGS", 0), ("BATTERY", 4), ("WHY", 12), ("PORT", 0)),
    *(("NAME", 8), ("BATTERY", 0)),
    *(("WHY", 0), ("HOST", 0), ("UDID", 13), ("SINCE", 0), ("NAME", 0), ("UDID", 1), ("STATE", 1)),
)
"""Which column gives up how much room, in turn; a UDID, which is copied, and the state last."""
_SHOWN = 10
"""Transitions below the table of one device."""


def table(rows: list[DeviceRow], now: float, room: int | None = None) -> str:
    """The rows under headings, in columns; states coloured. `room`: of the terminal.

    Their hosts are shown where there are several, their batteries where any is known.
    """
    several = len({row["host"] for row in rows}) > 1
    charged = any(row["battery"] for row in rows)
    left_out = {*(() if several else ("HOST",)), *(() if charged else ("BATTERY",))}
    headings = [each for each in _HEADINGS if each not in left_out]
    shrink = [(headings.index(each), wide) for each, wide in _SHRINK if each in headings]
    cells = [
        (
            row["name"],
            row["udid"],
            row["platform"] or "",
            row["state"] + ("~" if row["flapping"] else ""),
            since(row["since"], now),
            *((_battery(row["battery"]),) if charged else ()),
            *((row["host"],) if several else ()),
            row["port"],
            ",".join(row["tags"]),
            " ".join(filter(None, (*_silenced(row, now), *_why(row)))),
        )
        for row in rows
    ]
    colours = [COLOURS.get(row["state"]) for row in rows]
    return columns(headings, cells, 3, colours, room=room, shrink=shrink)


def _battery(battery: BatteryRow | None) -> str:
    """`87%+ 31°C`: how full, whether it is charged, how warm."""
    if battery is None:
        return ""
    level, warm = battery["level"], battery["temperature"]
    full = "-" if level is None else f"{level}%{'+' if battery['charging'] else ''}"
    degrees = "°C" if can_write("°") else "C"
    return full if warm is None else f"{full} {warm:.0f}{degrees}"


def _why(row: DeviceRow) -> Iterator[str]:
    yield row["reason"]
    if row["flapping"]:
        yield "(flapping)"


def _silenced(row: DeviceRow, now: float) -> Iterator[str]:
    """First: who waits for a callback is to see that none comes."""
    if (silence := row["silence"]) is not None:
        left = elapsed(datetime.fromisoformat(silence["ends"]).timestamp() - now)
        differs = row["since"] is not None and row["told"] != row["state"]
        kept = f", told: {row['told'] or 'nothing'}" if differs else ""
        yield f"[silenced for {left}{kept}: {silence['reason']}]"


def transition_line(row: TransitionRow) -> str:
    """One transition: when, which device, from what to what, and why."""
    return f"{row['at']}  {printable(row['name'])}  {printable(row['udid'])}  {_move(row)}".rstrip()


def history(transitions: list[TransitionRow]) -> str:
    """What one device went through, newest first."""
    lines = [f"{row['at']}  {_move(row)}".rstrip() for row in transitions[:_SHOWN]]
    return "\n" + ("\n".join(lines) or "no transition is stored")


def waits(rows: list[WaitRow], state: str, now: float) -> str:
    """Which webhooks wait for its state to last; "": none."""
    lines = []
    for row in rows:
        left = datetime.fromisoformat(row["until"]).timestamp() - now
        when = f"in {elapsed(left)}" if left > 0 else "as soon as nothing keeps it back"
        lines.append(
            printable(f"webhook {row['webhook']} is told {state} {when}, if that lasts until then")
        )
    return "\n" + "\n".join(lines) if lines else ""


def _move(row: TransitionRow) -> str:
    to = click.style(row["to"], fg=COLOURS.get(row["to"]))
    return f"{row['from'] or 'new'} -> {to}  {printable(row['reason'])}"


def tally(rows: list[DeviceRow]) -> str:
    """`4 devices: 3 online, 1 offline`."""
    counts: Counter[str] = Counter(row["state"] for row in rows)
    parts = ", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state])
    return f"{len(rows)} device{'' if len(rows) == 1 else 's'}" + (f": {parts}" if parts else "")


def since(moment: str | None, now: float) -> str:
    """How long ago; "" for never."""
    if not moment:
        return ""
    return elapsed(now - datetime.fromisoformat(moment).timestamp())

"""What an Android phone says of its battery. Pure.

`dumpsys battery` and not the kernel's files: those are called otherwise and have other units on
each maker's phones, and many phones keep adb's shell from reading them. Nor `cmd battery get`, a
process for each value. The text has looked alike since Android 4; makers put lines of their own
between and behind (`Capacity level: 3`, `mSavedBatteryMaxTemp: 490`, whole logs), so that only
whole lines of the very name count, indented by two, and the first of each.
"""

from __future__ import annotations

from agent.model import Battery, BatteryHealth

COMMAND = "dumpsys battery"
_BEGIN = "Current Battery Service state:"
_FAKED = "UPDATES STOPPED"
"""Behind that: somebody set values by hand (`dumpsys battery unplug`), for a test of an app."""
_VALUE = {
    key: f"\n  {key}: "
    for key in ("status", "health", "present", "level", "scale", "voltage", "temperature")
}
"""What stands before each value. A search for each takes a fifth of an expression's time for all,
and there are a thousand phones a minute."""
_MOST = 8_192
"""Characters that are looked at; all of it stands in the first thousand."""
_HEALTH = {
    "2": BatteryHealth.GOOD,
    "3": BatteryHealth.OVERHEAT,
    "4": BatteryHealth.DEAD,
    "5": BatteryHealth.OVER_VOLTAGE,
    "6": BatteryHealth.FAILURE,
    "7": BatteryHealth.COLD,
}
"""android.os.BatteryManager, BATTERY_HEALTH_*; 1 is unknown."""
_CHARGING = {"2": True, "3": False, "4": False, "5": False}
"""BATTERY_STATUS_*: charging, discharging, not charging, full; 1 is unknown."""
COLDEST, HOTTEST = -30.0, 120.0
"""Degrees Celsius between which a phone may be that answers."""


_NOTHING = Battery()


def parse(text: str) -> Battery | None:
    """What `COMMAND` printed, or some of it; None: nothing that makes sense."""
    begin = text.find(_BEGIN, 0, _MOST)
    if begin < 0:
        return None
    text = text[begin : begin + _MOST]
    if text.find(_FAKED, 0, 200) >= 0 or _value(text, "present") == "false":
        return None
    battery = Battery(
        _level(text),
        _temperature(text),
        _HEALTH.get(_value(text, "health")),
        _CHARGING.get(_value(text, "status")),
    )
    return None if battery == _NOTHING else battery


def _level(text: str) -> int | None:
    level, scale = _number(text, "level"), _number(text, "scale")
    if level is None or scale is None or not 0 <= level <= scale or not scale:
        return None
    if not level and not _number(text, "voltage"):
        return None  # what says 0 of everything knows nothing
    return round(100 * level / scale)


def _temperature(text: str) -> float | None:
    """Told in tenths of a degree; 0 by those that have no sensor."""
    tenths = _number(text, "temperature")
    if not tenths or not COLDEST <= tenths / 10 <= HOTTEST:
        return None
    return tenths / 10


def _number(text: str, key: str) -> int | None:
    value = _value(text, key)
    digits = value.removeprefix("-")
    return int(value) if len(digits) < 10 and digits.isascii() and digits.isdecimal() else None  # noqa: PLR2004 - int32


def _value(text: str, key: str) -> str:
    """Of the first whole line of that name; "": there is none."""
    before = _VALUE[key]
    at = text.find(before)
    end = text.find("\n", at + 1)
    return "" if at < 0 or end < 0 else text[at + len(before) : end].rstrip("\r")

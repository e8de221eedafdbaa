"""When a phone's battery is a concern, and when what is shown of it is another. Pure.

It decides no state. Readings come once a minute from each of a thousand phones: one that says much
the same as the last is not told to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Battery, BatteryHealth
from agent.reasons import Reason, ReasonCode

if TYPE_CHECKING:
    from agent.config import BatterySection

DEAD_BAND = 1.0
"""Degrees by which a temperature must differ from the one that is shown."""
BAD = frozenset({BatteryHealth.DEAD, BatteryHealth.FAILURE, BatteryHealth.OVER_VOLTAGE})
"""A battery that is to be replaced."""


def shown(reading: Battery, before: Battery | None, limits: BatterySection) -> Battery:
    """What is shown from now on, with what is to be said of it; `before` where it is much the same.

    Args:
        reading: as the phone told it.
        before: what was shown; None: there was none, or it was of another time.
        limits: [battery]. A concern begins at a limit, and lasts until the margin is passed. Of a
            value that is unknown there is none.
    """
    level, warm = reading.level, reading.temperature
    low = hot = False
    if limits.low and level is not None:
        margin = limits.low_margin if before is not None and before.low else 0
        low = level <= limits.low or level < limits.low + margin
    if limits.hot:
        hot = reading.health is BatteryHealth.OVERHEAT
        if warm is not None and not hot:
            cooler = limits.hot_margin if before is not None and before.hot else 0.0
            hot = warm >= limits.hot or warm > limits.hot - cooler
    if (
        before is not None
        and (level, low, hot) == (before.level, before.low, before.hot)
        and (reading.health is before.health)
        and (reading.charging is before.charging)
        and _is_near(warm, before.temperature)
    ):
        return before
    return Battery(level, warm, reading.health, reading.charging, hot, low)


def _is_near(warm: float | None, before: float | None) -> bool:
    if warm is None or before is None:
        return warm is before
    return abs(warm - before) < DEAD_BAND


def words(battery: Battery | None) -> Reason:
    """What is wrong with it, for the reason of a phone that can be used."""
    said = Reason()
    if battery is None:
        return said
    if battery.hot:
        warm = "" if battery.temperature is None else f" {battery.temperature:.0f} °C"
        said = Reason(f"battery{warm}: too hot", ReasonCode.BATTERY_HOT)
    if battery.low:
        low = Reason(f"battery {battery.level} %: low", ReasonCode.BATTERY_LOW)
        said = said.and_(low)
    return said


def is_tired(battery: Battery | None) -> bool:
    """Whether other phones are to be given first; of one that tells nothing, they are not."""
    return battery is not None and (battery.hot or battery.low or battery.health in BAD)

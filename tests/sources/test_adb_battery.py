"""What phones print for `dumpsys battery`, in the forms of Android 5 to 16, and what is no form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Battery, BatteryHealth
from agent.sources.adb_battery import parse

GOOD = BatteryHealth.GOOD
LOLLIPOP = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 64
  scale: 100
  voltage: 4035
  temperature: 283
  technology: Li-ion
"""
"""Android 5 and 6; over their pseudo-terminals each line ends with CR LF, or CR CR LF."""
OREO_SAMSUNG = """\
Current Battery Service state:
  mBootCompleted: true
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Max charging voltage: 0
  Charge counter: 2532000
  status: 2
  health: 2
  present: true
  level: 84
  scale: 100
  voltage: 4110
  temperature: 336
  technology: Li-ion
  batterySWSelfDischarging: false
  batteryMiscEvent: 0
  batteryCurrentEvent: 0
  mSecPlugTypeSummary: 2
  LED Charging: true
  LED Low Battery: true
  current now: 347
  charge counter: 2532000
USE_FAKE_BATTERY: false
LLB CAL: 20180609
LLB CURRENT: YEAR2022M7D6
BatteryInfoBackUp
  mSavedBatteryAsoc: -1
  mSavedBatteryMaxTemp: 782
  temperature: 999
  level: 1
"""
PIE = """\
Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  Max charging current: 3000000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
"""
UPSIDE_DOWN_MIUI = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 0
 Time when the latest updated value of the Max charging current was sent via battery changed \
broadcast: +16s303ms
  Max charging voltage: 0
  Charge counter: 2520000
  status: 4
  health: 3
  present: true
  level: 65
  scale: 100
  voltage: 4077
 Time when the latest updated value of the voltage was sent via battery changed broadcast: +2d17h
 The last voltage value sent via the battery changed broadcast: 4074
  temperature: 477
  technology: Li-poly
  Charging state: 0
  Charging policy: 0
  Capacity level: 3
MiuiBatteryService first usage time:
  mSetBatteryUsageTimeCount=0
"""
BAKLAVA_LOG = """\
Current Battery Service state:
  AC powered: false
  USB powered: false
  status: 3
  health: 7
  present: true
  level: 9
  scale: 100
  voltage: 3600
  temperature: -52
  technology: Li-ion
  Charging state: 0
  Charging policy: 1
  Capacity level: -1
[EventLogBuffer]
08-11 18:34:14.721  Sending ACTION_BATTERY_CHANGED: level:72, health:2, temperature:345
"""
NO_BATTERY = PIE.replace("present: true", "present: false")
FAKED = PIE.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")
FORMS = {
    "Android 5": (LOLLIPOP, Battery(64, 28.3, GOOD, charging=True)),
    "CR LF": (LOLLIPOP.replace("\n", "\r\n"), Battery(64, 28.3, GOOD, charging=True)),
    "CR CR LF": (LOLLIPOP.replace("\n", "\r\r\n"), Battery(64, 28.3, GOOD, charging=True)),
    "Android 8, Samsung": (OREO_SAMSUNG, Battery(84, 33.6, GOOD, charging=True)),
    "Android 9": (PIE, Battery(100, 27.4, GOOD, charging=False)),
    "Android 14, MIUI": (
        UPSIDE_DOWN_MIUI,
        Battery(65, 47.7, BatteryHealth.OVERHEAT, charging=False),
    ),
    "Android 16, with a log": (BAKLAVA_LOG, Battery(9, -5.2, BatteryHealth.COLD, charging=False)),
    "behind a probe": (f"\n{PIE}", Battery(100, 27.4, GOOD, charging=False)),
    "no battery": (NO_BATTERY, None),
    "values set by hand": (FAKED, None),
    "no such program": ("/system/bin/sh: dumpsys: not found\n", None),
    "no such service": ("Can't find service: battery\n", None),
    "refused": ("Permission Denial: can't dump BatteryService from pid=1, uid=2000\n", None),
    "dump timed out": (
        "*** SERVICE 'battery' DUMP TIMEOUT (10000ms) EXPIRED ***\n",
        None,
    ),
    "nothing": ("", None),
    "nothing but words": ("Current Battery Service state:\n  status: 1\n  health: 1\n", None),
}
ODD = {
    "another scale": ("level: 100\n  scale: 100", "level: 21\n  scale: 50", 42, 27.4),
    "a scale of 0": ("scale: 100", "scale: 0", None, 27.4),
    "no scale": ("  scale: 100\n", "", None, 27.4),
    "more than full": ("level: 100", "level: 101", None, 27.4),
    "less than empty": ("level: 100", "level: -1", None, 27.4),
    "no number": ("level: 100", "level: full", None, 27.4),
    "a percent sign": ("level: 100", "level: 100%", None, 27.4),
    "empty indeed": ("level: 100", "level: 0", 0, 27.4),
    "0 for unknown": (
        "level: 100\n  scale: 100\n  voltage: 4352",
        "level: 0\n  scale: 100",
        None,
        27.4,
    ),
    "no sensor": ("temperature: 274", "temperature: 0", 100, None),
    "as cold as space": ("temperature: 274", "temperature: -2731", 100, None),
    "in thousandths": ("temperature: 274", "temperature: 27400", 100, None),
    "the coldest": ("temperature: 274", "temperature: -300", 100, -30.0),
    "too cold": ("temperature: 274", "temperature: -301", 100, None),
    "the hottest": ("temperature: 274", "temperature: 1200", 100, 120.0),
    "too hot": ("temperature: 274", "temperature: 1201", 100, None),
    "very many digits": ("temperature: 274", f"temperature: {'9' * 5000}", 100, None),
    "other digits": ("temperature: 274", "temperature: ٢٧٤", 100, None),
    "two minus signs": ("temperature: 274", "temperature: --74", 100, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_phones_print(form: str) -> None:
    text, battery = FORMS[form]
    assert parse(text) == battery


@pytest.mark.parametrize("odd", ODD)
def test_what_makes_no_sense_is_unknown_and_never_zero(odd: str) -> None:
    before, after, level, temperature = ODD[odd]
    assert before in PIE
    assert parse(PIE.replace(before, after)) == Battery(level, temperature, GOOD, charging=False)


@pytest.mark.parametrize("form", FORMS)
def test_what_was_cut_is_unknown_or_as_the_whole_says(form: str) -> None:
    """Half a number is none: `temperature: 3` of `336` is not 0.3 degrees."""
    text, whole = FORMS[form]
    for end in range(len(text)):
        cut = parse(text[:end])
        if cut is None:
            continue
        if whole is None:  # what takes it back comes later
            assert form == "no battery"
            continue
        for key in ("level", "temperature", "health", "charging"):
            assert getattr(cut, key) in {None, getattr(whole, key)}


def test_a_flood_is_looked_at_only_where_it_begins() -> None:
    assert parse("x" * 1_000_000 + PIE) is None
    assert parse(PIE + "  level: 3\n" * 100_000) == parse(PIE)
    assert parse(PIE.replace("  level", "z" * 1_000_000 + "\n  level")) is not None


@given(
    st.text(
        alphabet="level scale temperature status health present: 0123456789-\r\n\t", max_size=300
    )
)
def test_anything_is_a_battery_that_makes_sense_or_none(text: str) -> None:
    battery = parse(f"Current Battery Service state:\n{text}")
    if battery is not None:
        assert battery != Battery()
        assert battery.level is None or 0 <= battery.level <= 100
        assert battery.temperature is None or -30 <= battery.temperature <= 120

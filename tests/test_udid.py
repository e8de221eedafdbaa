"""What a serial or a UDID is, and how two compare."""

from __future__ import annotations

import pytest

from agent.udid import fits as udid_fits
from agent.udid import hub_above, hubs_above, is_ios, listed_key, root_hub, spellings

DASHED, PLAIN = "00008030-001A2B3C4D5E6F70", "00008030001A2B3C4D5E6F70"


@pytest.mark.parametrize(
    ("glob", "udid", "fits"),
    [
        ("ce09*", "CE0917198075440c057e", True),
        ("CE09*", "ce0917198075440c057e", True),
        ("ce09", "ce0917198075440c057e", False),
        ("00008030001a2b3c4d5e6f70", "00008030-001A2B3C4D5E6F70", True),
        ("00008030-001A*", "00008030001a2b3c4d5e6f70", True),
        ("00008030-*", "00008031-001A2B3C4D5E6F70", False),
        ("emulator-555?", "emulator-5554", True),
        ("ab[0-3]*", "ab2x", True),
        ("ab[0-3]*", "ab-x", False),
        ("ab[!0-3]*", "ab2x", False),
        ("0123@1-11", "0123@1-11", True),
        ("0123@1-11", "0123@11-1", False),
        ("0123*", "0123@1-11", True),
        ("*", "anything", True),
    ],
)
def test_globs_ignore_case_and_dashes(glob: str, udid: str, fits: bool) -> None:
    assert udid_fits(glob, udid) is fits


def test_one_listed_device_has_one_key() -> None:
    assert listed_key("A" * 40) == "a" * 40
    assert listed_key("emulator-5554") == "emulator-5554"
    assert listed_key(PLAIN.lower()) == listed_key(DASHED) == DASHED
    assert listed_key("ZUG 5S") == listed_key(" ZUG_5S ") == "ZUG_5S"
    assert listed_key("ce09") != listed_key("CE09")


def test_what_has_the_form_of_apples() -> None:
    assert all(map(is_ios, (DASHED, PLAIN, DASHED.lower(), f" {DASHED} ", "a" * 40)))
    assert not any(map(is_ios, ("ce0917198075440c057e", "", DASHED + "0", "g" * 40)))


def test_an_iphones_serial_is_spelled_with_and_without_its_dash() -> None:
    assert spellings(DASHED) == (DASHED, PLAIN)
    assert spellings(PLAIN) == (PLAIN, DASHED)
    assert spellings("a" * 40) == ("a" * 40,)
    assert spellings("emulator-5554") == ("emulator-5554",)


def test_hubs_above_a_port() -> None:
    assert hubs_above("1-4.2.3") == ["1-4.2", "1-4"]
    assert hubs_above("1-4") == []
    assert [hub_above(port) for port in ("1-4.2.3", "1-4", "2-1.7")] == ["1-4.2", "usb1", "2-1"]
    assert [root_hub(port) for port in ("1-4.2.3", "12-4", "usb3")] == ["usb1", "usb12", "usb3"]

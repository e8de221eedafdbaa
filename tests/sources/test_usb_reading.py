"""What is told of a USB device besides whether it is a phone: maker, speed, a hub's ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.sources.usb_reading import glance, reading_of

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "/devices/pci0000:00/0000:00:14.0/usb1/1-4"


@pytest.mark.parametrize(
    ("properties", "maker"),
    [
        ({}, ""),
        ({"ID_VENDOR": "SAMSUNG_Electronics", "ID_VENDOR_ID": "04e8"}, "SAMSUNG Electronics"),
        ({"ID_VENDOR": "04e8", "ID_VENDOR_ID": "04e8"}, ""),
        (
            {
                "ID_VENDOR": "04e8",
                "ID_VENDOR_ID": "04e8",
                "ID_VENDOR_FROM_DATABASE": "Samsung Electronics Co., Ltd",
            },
            "Samsung Electronics Co., Ltd",
        ),
        ({"ID_VENDOR": "<b>__x", "ID_VENDOR_ID": "04e8"}, "<b> x"),
    ],
)
def test_a_maker_is_a_word_or_nothing(properties: dict[str, str], maker: str) -> None:
    assert reading_of(ADDRESS, properties).maker == maker


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("480\n", 480.0),
        ("1.5\n", 1.5),
        ("20000\n", 20000.0),
        ("unknown\n", 0.0),
        ("", 0.0),
        ("-1", 0.0),
        ("1e9", 0.0),
        ("9" * 400, 0.0),
        (None, 0.0),
    ],
)
def test_a_speed_is_what_the_kernel_says_or_nothing(
    tmp_path: Path, text: str | None, speed: float
) -> None:
    place = tmp_path / ADDRESS.lstrip("/")
    place.mkdir(parents=True)
    if text is not None:
        (place / "speed").write_text(text)
    reading = glance(reading_of(ADDRESS, {}), str(tmp_path))
    assert reading.speed == speed


def test_only_a_hub_has_ports_and_a_later_look_that_is_not_told_them_keeps_them(
    tmp_path: Path,
) -> None:
    place = tmp_path / ADDRESS.lstrip("/")
    place.mkdir(parents=True)
    (place / "maxchild").write_text("7\n")
    (place / "speed").write_text("480\n")
    hub = glance(reading_of(ADDRESS, {"TYPE": "9/0/1", "PRODUCT": "5e3/610/1"}), str(tmp_path))
    phone = glance(reading_of(ADDRESS, {"TYPE": "0/0/0"}), str(tmp_path))
    assert (hub.port_count, phone.port_count) == (7, 0)
    (place / "maxchild").unlink()
    (place / "speed").write_text("unknown\n")
    later = glance(reading_of(ADDRESS, {"TYPE": "9/0/1", "PRODUCT": "5e3/610/1"}), str(tmp_path))
    assert (hub.with_news(later).port_count, hub.with_news(later).speed) == (7, 480.0)

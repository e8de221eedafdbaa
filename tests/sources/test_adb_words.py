"""adb's texts → readings: lists, states, serials, what phones tell. No I/O."""

from __future__ import annotations

import pytest

from agent.errors import AgentError
from agent.model import Bridge
from agent.reasons import Reason, ReasonCode
from agent.sources.adb_probe import Told, parse_told
from agent.sources.adb_states import READINGS, is_junk, reading
from agent.udid import is_network
from agent.wire.adb import AdbClient
from agent.wire.adb_lists import (
    AdbProtocolError,
    AdbState,
    Forward,
    LongRow,
    parse_forwards,
    parse_long_rows,
    parse_rows,
)

NO_PERMISSIONS = (
    "no permissions (user in plugdev group; are your udev rules wrong?); "
    "see [http://developer.android.com/tools/device.html]"
)


def test_rows_split_on_the_first_tab_only() -> None:
    text = f"R58M\tdevice\nHT\t{NO_PERMISSIONS}\nodd\tone\ttwo\nR58M\toffline\n"
    assert parse_rows(text) == {
        "R58M": ("device", "offline"),
        "HT": (NO_PERMISSIONS,),
        "odd": ("one\ttwo",),
    }
    assert parse_rows("") == {}


@pytest.mark.parametrize("torn", ["devi", "R58M\tdevi", "R58M\n", "\tdevice\n", "R58M\t\n", "\n"])
def test_a_torn_list_is_no_list(torn: str) -> None:
    with pytest.raises(AdbProtocolError):
        parse_rows(torn)


def test_long_rows_with_blanks_in_serial_and_state() -> None:
    tls = "adb-0123456789-abcdef._adb-tls-connect._tcp"
    text = (
        "R58M                   device usb:1-4.2 product:a model:SM_G991B device:o transport_id:3\n"
        f"(no serial number)     {NO_PERMISSIONS} usb:2-1 transport_id:14\n"
        f"{tls} device product:p model: device:d transport_id:5\n"
        "emulator-5554          offline transport_id:6\n"
        "stranger               device transport_id:7\n"
    )
    serials = ["R58M", "(no serial number)", tls, "emulator-5554"]
    assert parse_long_rows(text, serials) == {
        "R58M": (LongRow("R58M", "device", 3, "1-4.2", "SM G991B"),),
        "(no serial number)": (LongRow("(no serial number)", NO_PERMISSIONS, 14, "2-1", ""),),
        tls: (LongRow(tls, "device", 5, "", ""),),
        "emulator-5554": (LongRow("emulator-5554", "offline", 6, "", ""),),
    }


def padded(serial: str, rest: str) -> str:
    return f"{serial:<22} {rest}\n"


LONG = {
    "libusb: a bare path": (
        "device 3-1 product:manet model:23127 device:m transport_id:2",
        ("device", 2, "3-1", "23127"),
    ),
    "behind hubs": ("device 1-4.2.3 transport_id:2", ("device", 2, "1-4.2.3", "")),
    "offline, so without a model": ("offline 1-4 transport_id:2", ("offline", 2, "1-4", "")),
    "no path": ("device product:p model:M device:d transport_id:2", ("device", 2, "", "M")),
    "no id": ("device usb:1-4.2 product:p model:M_1 device:d", ("device", 0, "1-4.2", "M 1")),
    "an id that is none": ("device 1-4 transport_id:new", ("device", 0, "1-4", "")),
    "an id without end": (f"device 1-4 transport_id:{'9' * 5000}", ("device", 0, "1-4", "")),
    "an id in other digits": ("device 1-4 transport_id:٣", ("device", 0, "1-4", "")),
    "state alone": ("unauthorized", ("unauthorized", 0, "", "")),
    "nothing": ("", ("", 0, "", "")),
    "another order": ("device transport_id:2 model:M 9-9", ("device", 2, "9-9", "M")),
    "the path last": ("device model:M transport_id:2 usb:9-9", ("device", 2, "9-9", "M")),
    "keys to come": (
        "device usb:1-4 negotiated_speed:480 model:M features:a,b transport_id:2",
        ("device", 2, "1-4", "M"),
    ),
    "a state to come": ("half awake usb:1-4 transport_id:2", ("half awake", 2, "1-4", "")),
    "a state to come, bare path": ("half awake 1-4 transport_id:2", ("half awake", 2, "1-4", "")),
    "an explanation": (
        f"{NO_PERMISSIONS} 1-4 transport_id:2",
        (NO_PERMISSIONS, 2, "1-4", ""),
    ),
    "a known state explained": (
        "unauthorized (see the phone) 1-4 transport_id:2",
        ("unauthorized (see the phone)", 2, "1-4", ""),
    ),
    "a blank in a value": (
        "device 1-4 model:SM G99 transport_id:2",
        ("device", 2, "1-4", "SM G99"),
    ),
    "empty values": ("device 1-4 product: model: device: transport_id:2", ("device", 2, "1-4", "")),
}


@pytest.mark.parametrize("serial", ["bd9d00cc", "ZUG 5S", " outer ", "(no serial number)", "é/()&"])
@pytest.mark.parametrize(("rest", "row"), LONG.values(), ids=LONG.keys())
def test_a_long_row_with_anything_odd_or_missing(
    serial: str, rest: str, row: tuple[str, int, str, str]
) -> None:
    other = padded("other", "device 7-7 transport_id:9")
    found = parse_long_rows(padded(serial, rest) + other, [serial, "other"])
    assert found == {
        serial: (LongRow(serial, *row),),
        "other": (LongRow("other", "device", 9, "7-7", ""),),
    }


def test_a_path_that_is_no_port_still_says_usb() -> None:
    (row,) = parse_long_rows(padded("AB:1234", "device usb:3:5 transport_id:2"), ["AB:1234"])[
        "AB:1234"
    ]
    assert (row.port, row.path, row.transport_id) == ("", "usb:3:5", 2)


def test_rows_are_parted_by_the_state_that_adb_knows() -> None:
    text = f"ZUG 5S\tdevice \n outer \toffline\na\ttab\tdevice\nb\ttab\t{NO_PERMISSIONS}\n"
    assert parse_rows(text) == {
        "ZUG 5S": ("device",),
        " outer ": ("offline",),
        "a\ttab": ("device",),
        "b\ttab": (NO_PERMISSIONS,),
    }


@pytest.mark.parametrize("odd", ["R58M", "", "\tdevice", "R58M\t", "device", "a b c"])
def test_one_odd_row_costs_nobody_else(odd: str) -> None:
    told: list[str] = []
    assert parse_rows(f"A\tdevice\n{odd}\nB\toffline\n", told.append) == {
        "A": ("device",),
        "B": ("offline",),
    }
    assert told == [odd]


def test_one_odd_forward_costs_nobody_else() -> None:
    assert parse_forwards("odd\nZUG 5S tcp:8200 tcp:6790\n\n") == [
        Forward("ZUG 5S", "tcp:8200", "tcp:6790")
    ]
    assert parse_forwards("") == []
    with pytest.raises(AdbProtocolError):
        parse_forwards("odd\n")


ALIKE = {
    AdbState.OFFLINE: {ReasonCode.UNRESPONSIVE},
    AdbState.HOST: {ReasonCode.NOT_A_PHONE},
}
"""States whose codes have other names than adb gives them."""


def test_every_state_has_a_reading_and_only_device_is_ready() -> None:
    assert READINGS.keys() == set(AdbState)
    for state in AdbState:
        bridge, reason = reading(state)
        assert (bridge is Bridge.READY) == (state is AdbState.DEVICE)
        assert bool(reason) == bool(reason.code) == (bridge is Bridge.NOT_READY)
        assert reason.text == "" or reason.text.startswith(f"{state}:")
        assert reason.code in ALIKE.get(state, {"", str(state).replace(" ", "_")})


def test_no_permissions_shows_adbs_words_and_unknown_states_theirs() -> None:
    bridge, reason = reading(NO_PERMISSIONS)
    assert bridge is Bridge.NOT_READY
    assert "udev rule" in reason.text
    assert "plugdev" in reason.text
    assert reason.code == ReasonCode.NO_PERMISSIONS
    assert reading("unauthorized. Accept the dialog") == (
        Bridge.NOT_READY,
        (
            f"{READINGS[AdbState.UNAUTHORIZED][1].text} (adb: 'unauthorized. Accept the dialog')",
            ReasonCode.UNAUTHORIZED,
        ),
    )
    assert reading("device (remote)") == (Bridge.READY, Reason())
    assert reading("deviceless")[0] is reading("device-like")[0] is Bridge.NOT_READY
    assert reading("levitating") == (
        Bridge.NOT_READY,
        ("adb calls its state 'levitating', which is not `device`", ReasonCode.NOT_READY),
    )


@pytest.mark.parametrize(
    ("serial", "network"),
    [
        ("192.168.1.7:5555", True),
        ("phone-7.lab.example:5555", True),
        ("[fe80::1%eth0]:5555", True),
        ("adb-R58M-AbCdEf._adb-tls-connect._tcp", True),
        ("adb-R58M-AbCdEf._adb-tls-connect._tcp.", True),
        ("adb-R58M._adb._tcp", True),
        ("emulator-5554", False),
        ("R58M30ABCDE", False),
        ("????????????", False),
    ],
)
def test_what_is_a_network_address(serial: str, network: bool) -> None:
    assert is_network(serial) is network


def test_junk_serials() -> None:
    assert is_junk("????????????")
    assert is_junk("(no serial number)")
    assert not is_junk("0123456789ABCDEF")


def test_what_a_phone_tells() -> None:
    assert parse_told(
        "device_name=Rack 3\r\nmarketname=Galaxy S21\r\nmodel=SM-G991B\r\nserialno=R58M\r\n"
    ) == Told("Rack 3", "Galaxy S21", "R58M", final=True)
    assert parse_told("device_name=null\nmarketname=\nmodel=Pixel 8\nserialno=x\n") == Told(
        "", "Pixel 8", "x", final=True
    )
    booting = parse_told("cmd: Can't find service: settings\ndevice_name=\nmodel=Pixel 8\n")
    assert booting == Told("", "Pixel 8", "", final=False)
    hostile = parse_told(f"device_name=\x1b[31m{'x' * 999}\nmodel=m\n")
    assert hostile.name.startswith("[31mxxx")
    assert len(hostile.name) == 255


def test_addresses() -> None:
    assert (AdbClient("10.0.0.1:1").host, AdbClient("10.0.0.1:1").port) == ("10.0.0.1", 1)
    assert AdbClient("[::1]:5037").host == "::1"
    assert AdbClient("localhost:5037").host == "127.0.0.1"
    assert AdbClient("/run/adb.sock").host == ""
    for bad in ("", "5037", "host:", ":5037", "host:port"):
        with pytest.raises(AgentError, match="adb_server"):
            AdbClient(bad)

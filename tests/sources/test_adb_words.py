"""adb's texts → readings: lists, states, serials, what phones tell. No I/O."""

from __future__ import annotations

import pytest

from agent.errors import AgentError
from agent.model import Bridge
from agent.sources.adb import READINGS, AdbState, is_junk, is_network, reading
from agent.sources.adb_ask import Told, parse_told
from agent.sources.adb_wire import (
    AdbClient,
    AdbProtocolError,
    LongRow,
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


def test_a_long_row_without_its_id_is_none() -> None:
    with pytest.raises(AdbProtocolError):
        parse_long_rows("R58M                   device usb:1-4.2\n", ["R58M"])


def test_every_state_has_a_reading_and_only_device_is_ready() -> None:
    assert READINGS.keys() == set(AdbState)
    for state in AdbState:
        bridge, reason = reading(state)
        assert (bridge is Bridge.READY) == (state is AdbState.DEVICE)
        assert bool(reason) == (bridge is Bridge.NOT_READY)
        assert reason == "" or reason.startswith(f"{state}:")


def test_no_permissions_shows_adbs_words_and_unknown_states_theirs() -> None:
    bridge, reason = reading(NO_PERMISSIONS)
    assert bridge is Bridge.NOT_READY
    assert "udev rule" in reason
    assert "plugdev" in reason
    assert reading("levitating") == (
        Bridge.NOT_READY,
        "adb calls its state 'levitating', which is not `device`",
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

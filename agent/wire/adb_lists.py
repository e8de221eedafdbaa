"""What an adb server lists: its rows, their states and details, its forwards. Pure.

Source: AOSP packages/modules/adb, transport.cpp (`append_transport`) and adb_listeners.cpp. Phones
name themselves, servers differ and forwarded ones lie: a row that is none is told, and left out.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

Rows = dict[str, tuple[str, ...]]
"""Serial → adb's state word; more than one where several phones have that serial."""


class AdbState(StrEnum):
    """adb's own words for a phone's state (adb.h, ConnectionState)."""

    DEVICE = "device"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    CONNECTING = "connecting"
    RECOVERY = "recovery"
    SIDELOAD = "sideload"
    RESCUE = "rescue"
    BOOTLOADER = "bootloader"
    DETACHED = "detached"
    HOST = "host"
    NO_PERMISSIONS = "no permissions"
    """Followed by an explanation in parentheses."""


class AdbError(AgentError):
    """The adb server answered something other than what was asked."""


class AdbProtocolError(AdbError):
    """It sent what is no adb protocol, or closed in the middle of it."""


class LongRow(NamedTuple):
    """One line of `host:devices-l`. All but the serial may be missing."""

    serial: str
    state: str
    transport_id: int
    """0: the server gave none; ids begin at 1."""
    port: str
    """`1-4.2`; "" for anything that is not on USB, or where the server does not say."""
    model: str
    path: str = ""
    """What says that it is on USB and names no port: `usb:3:5`, `usb:336592896X`."""


def ignore(_: str) -> None:
    """What to do with an odd row where somebody else has told of it."""


def parse_rows(text: str, odd: Callable[[str], None] = ignore) -> Rows:
    """The rows of a plain list: serial, tab, state. Rows that are none go to `odd`, one by one.

    Both may hold blanks, and a serial even a tab, so that what is behind the last tab is the state
    where adb knows it as one; else all behind the first tab.

    Raises AdbProtocolError for a list that ends in the middle of a row, or has not one that is
    one, so that a torn list is never taken for phones that went.
    """
    if text and not text.endswith("\n"):
        raise AdbProtocolError(f"a device list ends in the middle of a row: {text[-40:]!r}")
    rows: Rows = {}
    strange: list[str] = []
    for line in text.split("\n")[:-1]:
        serial, tab, state = line.rpartition("\t")
        if state not in _STATES:
            if not known_state(state.strip()):
                serial, tab, state = line.partition("\t")
            state = state.strip()
        if serial and tab and state:
            rows[serial] = (*rows[serial], state) if serial in rows else (state,)
        else:
            strange.append(line)
    if strange and not rows:
        raise AdbProtocolError(f"a device list has a row that is none: {strange[0][:80]!r}")
    for line in strange:
        odd(line)
    return rows


_STATES = frozenset(AdbState) - {AdbState.NO_PERMISSIONS}
"""The closed set of words that are a state, each by itself."""
_EXPLAINED = re.compile(rf"({'|'.join(AdbState)})(?![\w-])")


def known_state(text: str) -> AdbState | None:
    """The word of adb's with which the text begins; an explanation may follow it."""
    found = _EXPLAINED.match(text)
    return AdbState(found[1]) if found else None


_LONG = 20
"""Digits of no transport id: they are of 64 bits, and `int` raises at very many."""
_PORT = re.compile(r"(?:usb:)?(\d+-\d+(?:\.\d+)*)", re.ASCII)
"""`usb:1-4.2` where the server reads USB itself, `1-4.2` where libusb does (adb 35; before and
after that by ADB_LIBUSB=1)."""


def parse_long_rows(text: str, serials: Collection[str]) -> dict[str, tuple[LongRow, ...]]:
    """The rows of `host:devices-l` by serial; those not in `serials` are left out.

    A line is serial, state, then what is known of USB path, product, model, device and
    `transport_id`; each of these may be missing, and unknown ones come. Serial and state are parted
    by blanks and both may hold some, so that only the serials of a plain list tell where the state
    begins.
    """
    blanks = sorted((serial for serial in serials if " " in serial), key=len, reverse=True)
    found: dict[str, tuple[LongRow, ...]] = {}
    for line in text.split("\n"):
        serial = next((each for each in blanks if line.startswith(f"{each} ")), None)
        if serial is None:
            serial = line.partition(" ")[0]
        if serial in serials:
            row = _long_row(serial, line[len(serial) :].split())
            found[serial] = (*found.get(serial, ()), row)
    return found


def _long_row(serial: str, words: Sequence[str]) -> LongRow:
    size = 1
    if words and (words[0] not in _STATES or (len(words) > 1 and not _begins(words[1]))):
        # An explanation, or a state of an adb to come.
        size = next((n for n, word in enumerate(words) if _begins(word)), len(words))
    port = path = last = ""
    details: dict[str, str] = {}
    for word in words[size:]:
        key, colon, value = word.partition(":")
        if not port and (not colon or key == "usb") and (at := _PORT.fullmatch(word)):
            port = at[1]
        elif key == "usb" and colon:
            path = path or word
        elif colon and _is_key(key):
            last = key
            details.setdefault(key, value)
        elif last:  # a blank in a value
            details[last] += f" {word}"
    number = details.get("transport_id", "")
    return LongRow(
        serial,
        " ".join(words[:size]),
        int(number) if number.isascii() and number.isdecimal() and len(number) < _LONG else 0,
        port,
        details.get("model", "").replace("_", " ").strip(),
        path,
    )


def _begins(word: str) -> bool:
    """Whether what is known beside the state begins with that word."""
    key, colon, _ = word.partition(":")
    return (colon == ":" and _is_key(key)) or _PORT.fullmatch(word) is not None


def _is_key(text: str) -> bool:
    return text.isascii() and text.replace("_", "").isalpha() and text.islower()


class Forward(NamedTuple):
    """One line of `host:list-forward`."""

    serial: str
    local: str
    """`tcp:8200` on the adb server's host, or a `local…:` socket."""
    remote: str


def parse_forwards(text: str) -> list[Forward]:
    """The lines of `host:list-forward`; AdbProtocolError where not one is one."""
    lines = text.splitlines()
    # A serial may hold blanks.
    parted = [words for line in lines if len(words := line.rsplit(" ", 2)) == 3 and all(words)]  # noqa: PLR2004 - serial, local, remote
    if lines and not parted:
        raise AdbProtocolError(f"a list of forwards has a line that is none: {lines[0][:120]!r}")
    return [Forward(*words) for words in parted]

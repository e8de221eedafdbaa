"""What hangs where on this host's USB, as a tree. Pure.

Made of two lists: what is plugged in (of udev), and where each phone is or was (of all sources). A
port that only a phone names, because its hub is gone or udev cannot be heard, stands in the tree
all the same: whoever looks for a phone is to find its place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict

from agent.model import DeviceState, Platform
from agent.service.rows import CauseId, ReasonCodeText, Time, iso
from agent.track.cause import CauseKind
from agent.udid import controller_in, hub_above

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.service.causes import CauseRow

LEFT: Final = 8
"""Phones that are shown of those that left one port; a port of a rack sees many in its years."""
_PORT: Final = re.compile(r"([0-9]{1,5})-([0-9]{1,3}(?:\.[0-9]{1,3}){0,6})")
"""As the kernel names it. USB allows five hubs in a row; nothing here grows with a longer name."""
_ROOT: Final = re.compile(r"usb([0-9]{1,5})")


class PhoneAtPort(TypedDict):
    """One phone, as far as it is told beside its port."""

    udid: str
    name: str
    platform: Platform | None
    state: DeviceState
    flapping: bool
    reason: str
    reason_code: ReasonCodeText
    cause_id: CauseId
    since: Time | None
    """Of the state."""


class LeftPhone(TypedDict):
    """One phone that hung there when it was last seen, and is there no more."""

    udid: str
    name: str
    platform: Platform | None
    state: DeviceState
    at: Time | None
    """When it left; null: just now, its hold is not over."""


class PlaceCause(TypedDict):
    """That several phones were lost with a hub or a controller."""

    id: CauseId
    at: Time | None
    devices: int
    """How many."""
    over: bool
    """None of them is lost to it any more."""


class PortRow(TypedDict):
    """One USB port at which something is, or a phone was; or a root hub."""

    port: str
    """As the kernel names it: `1-4.2`; `usb1` is a root hub."""
    number: int | None
    """On its hub; null: of a root hub."""
    kind: Literal["hub", "phone", "other", "empty"]
    """`phone`: one of the devices. `other`: something else. `empty`: nothing is plugged in now."""
    speed: float | None
    """Mb/s. null: not told."""
    vendor: str
    """Of the USB device, as a word; empty: it gave none."""
    product: str
    vendor_id: str
    """Four hexadecimal digits; empty: not told."""
    product_id: str
    blocked: str
    """Why this host may not use it; empty: it may."""
    port_count: int | None
    """Ports of a hub, those at which nothing is or was included. null: no hub, or not told."""
    device: PhoneAtPort | None
    """The phone at it."""
    left: list[LeftPhone]
    """At most 8, who left last first."""
    left_count: int
    """How many there are."""
    cause: PlaceCause | None
    """What it last took with it at once, as a hub; null: nothing that is known."""
    ports: list[PortRow]
    """Of a hub, by number."""


class ControllerRow(TypedDict):
    """One USB controller of this host, with its root hubs."""

    controller: str
    """Its PCI address or platform name; empty: not told."""
    cause: PlaceCause | None
    """What it last took with it at once."""
    hubs: list[PortRow]


class PortsRow(TypedDict):
    """What hangs where on this host's USB."""

    host: str
    reason: str
    """Why this is not all, or nothing; empty: it is all there is."""
    controllers: list[ControllerRow]
    unplaced: list[PhoneAtPort]
    """Phones that are there, at no port of this host that is known: over the network, at another
    host's server, or where no source tells the port."""


class Plugged(NamedTuple):
    """One USB device that is there."""

    port: str
    controller: str
    hub: bool
    port_count: int = 0
    speed: float = 0.0
    vendor: int = 0
    product: int = 0
    maker: str = ""
    model: str = ""
    blocked: str = ""
    udid: str = ""
    """The phone that it is; "": none that is shown."""


class Hanging(NamedTuple):
    """One phone, and its place."""

    phone: PhoneAtPort
    since_ms: int
    port: str = ""
    path: str = ""
    """The port's lasting name."""
    here: bool = False
    """It is there; else it was, when it was last seen."""


def tree(
    host: str,
    reason: str,
    plugged: Iterable[Plugged],
    phones: Iterable[Hanging],
    lost: Iterable[CauseRow] = (),
) -> PortsRow:
    """Every USB device once; every phone that is there, or has a place, once.

    `lost`: what was, the newest first.
    """
    ports = _Ports(lost)
    at: dict[str, str] = {}
    """The ports at which udev sees a phone."""
    for each in plugged:
        ports.plug(each)
        if each.udid:
            at[each.udid] = each.port
    unplaced: list[PhoneAtPort] = []
    for one in sorted(phones, key=lambda each: each.phone["udid"] not in at):  # udev's word first
        port = at.get(one.phone["udid"], one.port)
        here = one.here or one.phone["udid"] in at
        row = ports.at(port, one.path)
        if row is None or (here and row["device"] is not None):
            if here or one.phone["state"] is not DeviceState.UNPLUGGED:
                unplaced.append(one.phone)
        elif here:
            row["device"], row["kind"] = one.phone, "phone"
        else:
            ports.left[port].append(one)
    return {
        "host": host,
        "reason": reason,
        "controllers": ports.controllers(),
        "unplaced": unplaced,
    }


class _Ports:
    """The rows, by port, while they are made."""

    def __init__(self, lost: Iterable[CauseRow]) -> None:
        self._lost: dict[tuple[str, str], PlaceCause] = {}
        """By kind and place, the last one of each."""
        for each in lost:
            cause: PlaceCause = {
                "id": each["id"],
                "at": each["at"],
                "devices": len(each["devices"]),
                "over": each["over"],
            }
            self._lost.setdefault((each["kind"], each["place"]), cause)
        self.left: defaultdict[str, list[Hanging]] = defaultdict(list)
        self._rows: dict[str, PortRow] = {}
        self._strange: list[tuple[str, PortRow]] = []
        """What the kernel names as it never does, each with its controller."""
        self._controller_of: dict[str, str] = {}
        """By bus."""

    def plug(self, plugged: Plugged) -> None:
        """Something is there."""
        row = self._at(plugged.port)
        if row is None:
            row = _empty(plugged.port, None)
            self._strange.append((plugged.controller, row))
        else:
            self._controller_of[_bus(plugged.port)] = plugged.controller
        row["kind"] = "hub" if plugged.hub else "other"
        row["speed"] = plugged.speed or None
        row["vendor"], row["product"] = plugged.maker, plugged.model
        if plugged.vendor or plugged.product:
            row["vendor_id"], row["product_id"] = (
                f"{plugged.vendor & 0xFFFF:04x}",
                f"{plugged.product & 0xFFFF:04x}",
            )
        row["blocked"] = plugged.blocked
        row["port_count"] = (plugged.port_count or None) if plugged.hub else None

    def at(self, port: str, path: str = "") -> PortRow | None:
        """The row of that port; None: no kernel names one so."""
        row = self._at(port)
        if row is not None and (controller := controller_in(path)):
            self._controller_of.setdefault(_bus(port), controller)
        return row

    def controllers(self) -> list[ControllerRow]:
        """All of it."""
        for port, gone in self.left.items():
            gone.sort(key=_who_left_last)
            row = self._rows[port]
            row["left"] = [_left(each) for each in gone[:LEFT]]
            row["left_count"] = len(gone)
        hubs: defaultdict[str, list[PortRow]] = defaultdict(list)
        ordered = sorted(self._rows, key=_natural)
        for port in reversed(ordered):
            if self._rows[port]["kind"] != "empty" and not _ROOT.fullmatch(port):
                above = self._rows[hub_above(port)]
                if above["kind"] == "empty":
                    above["kind"] = "hub"  # of which udev says nothing
        for port in ordered:
            self._rows[port]["cause"] = self._lost.get((CauseKind.HUB, port))
            if _ROOT.fullmatch(port):
                hubs[self._controller_of.get(_bus(port), "")].append(self._rows[port])
            else:
                self._rows[hub_above(port)]["ports"].append(self._rows[port])
        for controller, row in self._strange:
            hubs[controller].append(row)
        return [
            {"controller": each, "cause": self._took(each, hubs[each]), "hubs": hubs[each]}
            for each in sorted(hubs)
        ]

    def _took(self, controller: str, hubs: Iterable[PortRow]) -> PlaceCause | None:
        """By its name; one whose phones told none, by its buses."""
        names = [controller, *(hub["port"] for hub in hubs)]
        found = [self._lost.get((CauseKind.CONTROLLER, name)) for name in names]
        return max((each for each in found if each), key=lambda it: it["at"] or "", default=None)

    def _at(self, port: str) -> PortRow | None:
        """With all hubs above it."""
        found = self._rows.get(port)
        if found is None:
            if _ROOT.fullmatch(port):
                found = _empty(port, None)
                found["kind"] = "hub"  # a bus is one
            elif _PORT.fullmatch(port):
                found = _empty(port, int(re.split(r"[-.]", port)[-1]))
                self._at(hub_above(port))
            else:
                return None
            self._rows[port] = found
        return found


def _empty(port: str, number: int | None) -> PortRow:
    return {
        "port": port,
        "number": number,
        "kind": "empty",
        "speed": None,
        "vendor": "",
        "product": "",
        "vendor_id": "",
        "product_id": "",
        "blocked": "",
        "port_count": None,
        "device": None,
        "left": [],
        "left_count": 0,
        "cause": None,
        "ports": [],
    }


def _left(one: Hanging) -> LeftPhone:
    return {
        "udid": one.phone["udid"],
        "name": one.phone["name"],
        "platform": one.phone["platform"],
        "state": one.phone["state"],
        "at": iso(_left_ms(one)),
    }


def _who_left_last(one: Hanging) -> tuple[bool, int, str]:
    at_ms = _left_ms(one)
    return at_ms != 0, -at_ms, one.phone["udid"]


def _left_ms(one: Hanging) -> int:
    return one.since_ms if one.phone["state"] is DeviceState.UNPLUGGED else 0


def _bus(port: str) -> str:
    return port.removeprefix("usb").partition("-")[0]


def _natural(port: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"[0-9]+", port)], port

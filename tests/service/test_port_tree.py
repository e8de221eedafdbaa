"""The tree of USB ports: whatever is said, each thing stands once, below what its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import DeviceState, Platform
from agent.service.port_tree import LEFT, Hanging, Plugged, tree
from tests.kit.examples import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.service.port_tree import PhoneAtPort, PortRow, PortsRow

_GOOD = st.one_of(
    st.builds("usb{}".format, st.integers(1, 3)),
    st.builds(
        lambda bus, chain: f"{bus}-" + ".".join(map(str, chain)),
        st.integers(1, 3),
        st.lists(st.integers(1, 4), min_size=1, max_size=5),
    ),
)
_ODD = st.one_of(
    st.sampled_from(
        ["", "1-", "-1", "1-4.", "1-4..2", "usb", "usb1.2", "1-0:1.0", "٣-٤", "9" * 400, "1-4\n"]
    ),
    st.builds(lambda depth: "1-1" + ".1" * depth, st.integers(7, 300)),
    st.text(max_size=20),
)
_PORTS = st.one_of(_GOOD, _GOOD, _GOOD, _ODD)
_PATHS = st.one_of(
    st.just(""),
    st.sampled_from(["pci-0000:00:14.0-usb-0:4.2", "platform-vhci_hcd.0-usb-0:1", "pci--usb-"]),
    st.text(max_size=20),
)


def phone(udid: str, state: DeviceState = DeviceState.ONLINE) -> PhoneAtPort:
    return {
        "udid": udid,
        "name": f"<img src=x onerror=alert({udid})>",
        "platform": Platform.ANDROID,
        "state": state,
        "flapping": False,
        "reason": "",
        "reason_code": "",
        "cause_id": "",
        "since": None,
    }


def hub(port: str, port_count: int = 4) -> Plugged:
    return Plugged(port, "0000:00:14.0", hub=True, port_count=port_count, speed=480.0)


def walk(row: PortRow) -> Iterator[PortRow]:
    yield row
    for below in row["ports"]:
        yield from walk(below)


def rows(answer: PortsRow) -> list[PortRow]:
    return [
        row
        for controller in answer["controllers"]
        for root in controller["hubs"]
        for row in walk(root)
    ]


def at(answer: PortsRow, port: str) -> PortRow:
    (found,) = [row for row in rows(answer) if row["port"] == port]
    return found


_PHONES = st.lists(
    st.tuples(_PORTS, _PATHS, st.booleans(), st.sampled_from(list(DeviceState)), st.integers(0, 9)),
    max_size=30,
)


@settings(max_examples=examples(300))
@given(plugged=st.lists(_PORTS, unique=True, max_size=20), places=_PHONES, owned=st.data())
def test_everything_stands_once_below_what_its_name_says(
    plugged: list[str],
    places: list[tuple[str, str, bool, DeviceState, int]],
    owned: st.DataObject,
) -> None:
    phones = [
        Hanging(phone(f"p{number}", state), since, port, path, here)
        for number, (port, path, here, state, since) in enumerate(places)
    ]
    udids = owned.draw(st.permutations([one.phone["udid"] for one in phones] + [""] * 20))
    things = [
        Plugged(port, "c", hub=udid == "", udid=udid)
        for port, udid in zip(plugged, udids, strict=False)
    ]
    answer = tree("host", "", things, phones)
    found = rows(answer)
    names = [row["port"] for row in found]
    assert len(names) == len(set(names))
    assert set(plugged) <= set(names), "all that is plugged in is shown"
    for row in found:
        numbers = [below["number"] for below in row["ports"]]
        assert numbers == sorted(numbers, key=lambda number: number or 0)
        for below in row["ports"]:
            above, dot, _ = below["port"].rpartition(".")
            assert row["port"] == (above if dot else f"usb{below['port'].partition('-')[0]}")
            assert below["number"] == int(below["port"].replace("-", ".").rpartition(".")[2])
    here = [row["device"]["udid"] for row in found if row["device"] is not None]
    gone = [left["udid"] for row in found for left in row["left"]]
    loose = [one["udid"] for one in answer["unplaced"]]
    every = here + gone + loose
    assert len(every) == len(set(every)), "nobody stands twice"
    hidden = sum(row["left_count"] - len(row["left"]) for row in found)
    nowhere = {one.phone["udid"] for one in phones} - set(every)
    states = {one.phone["udid"]: one.phone["state"] for one in phones}
    assert all(states[udid] is DeviceState.UNPLUGGED for udid in nowhere) or hidden
    assert all(len(row["left"]) == min(LEFT, row["left_count"]) for row in found)
    seen = {thing.udid for thing in things} - {""}
    assert seen <= set(here) | set(loose), "whom udev sees is there"


@given(st.permutations(["usb1", "1-4", "1-4.2", "1-4.3", "1-10", "usb2", "2-1"]))
def test_the_order_in_which_it_is_told_does_not_matter(order: list[str]) -> None:
    answer = tree("h", "", [Plugged(port, "c", hub=False) for port in order], [])
    (controller,) = answer["controllers"]
    assert [root["port"] for root in controller["hubs"]] == ["usb1", "usb2"]
    assert [row["port"] for row in rows(answer)] == [
        *("usb1", "1-4", "1-4.2", "1-4.3", "1-10", "usb2", "2-1"),
    ]


def test_a_phone_at_its_hub_and_something_else_beside_it() -> None:
    keyboard = Plugged(
        "1-4.3",
        "0000:00:14.0",
        hub=False,
        speed=1.5,
        vendor=0x46D,
        product=0xC31C,
        maker="Logitech",
        model="Keyboard",
    )
    mobile = Plugged("1-4.2", "0000:00:14.0", hub=False, speed=480.0, udid="ce09")
    answer = tree(
        "h", "", [hub("usb1", 16), hub("1-4"), mobile, keyboard], [Hanging(phone("ce09"), 5)]
    )
    assert [each["controller"] for each in answer["controllers"]] == ["0000:00:14.0"]
    assert (at(answer, "1-4")["kind"], at(answer, "1-4")["port_count"]) == ("hub", 4)
    row = at(answer, "1-4.2")
    assert (row["kind"], row["speed"], row["number"]) == ("phone", 480.0, 2)
    assert row["device"] == phone("ce09"), "by udev's word, whatever else is known of its place"
    row = at(answer, "1-4.3")
    assert (row["kind"], row["speed"], row["device"]) == ("other", 1.5, None)
    assert (row["vendor"], row["product"]) == ("Logitech", "Keyboard")
    assert (row["vendor_id"], row["product_id"]) == ("046d", "c31c")


def test_a_hub_that_is_gone_with_all_its_phones_is_still_found() -> None:
    gone = [
        Hanging(phone(f"p{n}", DeviceState.UNPLUGGED), 1_000 * n, f"1-4.{n}", "pci-0:1-usb-0:4.1")
        for n in (1, 2)
    ]
    answer = tree("h", "", [hub("usb1")], gone)
    assert at(answer, "1-4")["kind"] == "empty"
    (left,) = at(answer, "1-4.2")["left"]
    assert (left["udid"], left["at"]) == ("p2", "1970-01-01T00:00:02.000Z")


def test_a_hub_that_udev_does_not_show_is_one_by_the_phone_behind_it() -> None:
    place = Hanging(phone("p"), 1, "3-1.4.2", "pci-0000:00:1a.0-usb-0:1.4.2", here=True)
    answer = tree("h", "udev: down", [], [place])
    assert [each["controller"] for each in answer["controllers"]] == ["0000:00:1a.0"]
    assert [(row["port"], row["kind"]) for row in rows(answer)] == [
        ("usb3", "hub"),
        ("3-1", "hub"),
        ("3-1.4", "hub"),
        ("3-1.4.2", "phone"),
    ]


def test_who_left_last_is_named_first_and_the_rest_counted() -> None:
    gone = [Hanging(phone(f"p{n:02}", DeviceState.UNPLUGGED), n, "1-1") for n in range(1, 20)]
    just = Hanging(phone("just"), 500, "1-1")
    row = at(tree("h", "", [], [*gone, just]), "1-1")
    assert row["left_count"] == 20
    assert [left["udid"] for left in row["left"]][:2] == ["just", "p19"]
    assert row["left"][0]["at"] is None, "its hold is not over"
    assert len(row["left"]) == LEFT


def test_of_two_that_claim_one_port_the_other_is_not_lost() -> None:
    seen = Plugged("1-1", "c", hub=False, udid="z")
    answer = tree(
        "h", "", [seen], [Hanging(phone("a"), 1, "1-1", here=True), Hanging(phone("z"), 1)]
    )
    device = at(answer, "1-1")["device"]
    assert device is not None
    assert device["udid"] == "z", "udev's word goes first"
    assert [one["udid"] for one in answer["unplaced"]] == ["a"]


def test_nothing_is_an_empty_tree_with_its_reason() -> None:
    answer = tree("h", "udev: gone", [], [Hanging(phone("x", DeviceState.UNPLUGGED), 1)])
    nothing: PortsRow = {
        "host": "h",
        "reason": "udev: gone",
        "controllers": [],
        "unplaced": [],
    }
    assert answer == nothing

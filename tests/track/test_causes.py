"""What took several phones at once: the rule, held against one that knows no shortcuts."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import count, permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Bridge, Presence, Readings
from agent.reasons import Reason, ReasonCode
from agent.track.cause import Cause, CauseKind, read
from agent.track.causes import (
    LEAST,
    WINDOW,
    Causes,
    Spot,
    Stand,
    controller_at,
    stand_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Stand(there=True, listed=True, down=False, on_usb=True)
GONE = Stand(there=False, listed=False, down=False, on_usb=False)
SILENT = Stand(there=True, listed=False, down=False, on_usb=True)
BLIND = Stand(there=True, listed=False, down=True, on_usb=True)
UNSEEN = Stand(there=None, listed=True, down=False, on_usb=False)
PCI = "0000:00:14.0"


class Rack:
    """A book with phones at ports."""

    def __init__(self, *ports: str, bridge: str = "adb") -> None:
        ids = count(1)
        self.book = Causes(lambda: f"cause-{next(ids)}")
        self.bridge = bridge
        for port in ports:
            self.see(port, HERE, 0.0)

    def see(self, port: str, stand: Stand, now: float) -> None:
        """The phone that is called as its port stands so from now on."""
        spot = Spot(port if port[0].isdigit() else "", PCI if port.startswith("1-") else "")
        self.book.look(port, stand, port, now, lambda: spot._replace(bridge=self.bridge))

    def lose(self, *ports: str, at: float = 10.0, to: Stand = GONE) -> None:
        """These leave."""
        for port in ports:
            self.see(port, to, at)

    def cause(self, port: str) -> tuple[str, str, int] | None:
        """What took it."""
        found = self.book.cause_of(port)
        return None if found is None else (found.kind, found.place, found.phones)


def ports(hub: str, number: int, first: int = 1) -> list[str]:
    return [f"{hub}.{n}" if "-" in hub else f"{hub}-{n}" for n in range(first, first + number)]


def test_a_hub_takes_its_phones() -> None:
    rack = Rack(*ports("1-4.2", 8), *ports("1-5", 8))
    rack.lose(*ports("1-4.2", 8))
    assert {rack.cause(port) for port in ports("1-4.2", 8)} == {("hub", "1-4.2", 8)}
    assert {rack.book.cause_of(port).id for port in ports("1-4.2", 8)} == {"cause-1"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("there", "went", "told"),
    [
        (3, 3, True),
        (2, 2, False),  # too few
        (1, 1, False),
        (5, 3, True),  # 60 %, exactly
        (6, 3, False),
        (10, 6, True),
        (10, 5, False),
        (1000, 600, True),
        (1000, 599, False),
    ],
)
def test_the_rule_is_exact(there: int, went: int, told: bool) -> None:
    rack = Rack(*ports("1-4", there))
    rack.lose(*ports("1-4", went))
    expected = ("hub", "1-4", went) if told else None
    assert {rack.cause(port) for port in ports("1-4", went)} == {expected}


@pytest.mark.parametrize(("apart", "told"), [(WINDOW, True), (WINDOW + 0.001, False)])
def test_at_once_is_within_two_seconds(apart: float, told: bool) -> None:
    rack = Rack(*ports("1-4", 3))
    rack.lose("1-4.1", at=10.0)
    rack.lose("1-4.2", at=10.5)
    rack.lose("1-4.3", at=10.0 + apart)
    assert (rack.cause("1-4.1") is not None) is told


def test_a_controller_where_several_hubs_went() -> None:
    rack = Rack(*ports("1-1", 5), *ports("1-2", 5), *ports("2-1", 5))
    rack.lose(*ports("1-1", 5), *ports("1-2", 5))
    assert {rack.cause(p) for p in ports("1-1", 5)} == {("controller", PCI, 10)}


def test_a_controller_that_is_not_told_is_its_bus() -> None:
    rack = Rack(*ports("7-1", 2), *ports("7-2", 2), *ports("1-1", 4))
    rack.lose(*ports("7-1", 2), *ports("7-2", 2))
    assert rack.cause("7-1.1") == ("controller", "usb7", 4)


def test_a_hub_and_one_phone_more_are_no_controller() -> None:
    rack = Rack(*ports("1-1", 8), *ports("1-2", 2))
    rack.lose(*ports("1-1", 8), "1-2.1")
    assert rack.cause("1-1.3") == ("hub", "1-1", 8)
    # It left at once with them, and the controller lost 9 of its 10.
    assert rack.cause("1-2.1") == ("controller", PCI, 9)


def test_of_hubs_in_a_row_the_one_that_explains_most() -> None:
    rack = Rack(*ports("1-4", 3), *ports("1-4.4", 4), *ports("1-5", 7))
    rack.lose(*ports("1-4", 3), *ports("1-4.4", 4))
    assert rack.cause("1-4.4.1") == ("hub", "1-4", 7)
    rack = Rack(*ports("1-4", 3), *ports("1-4.4", 4))
    rack.lose(*ports("1-4.4", 4))
    assert rack.cause("1-4.4.1") == ("hub", "1-4.4", 4)


def test_a_source_where_usb_still_sees_them() -> None:
    rack = Rack(*ports("1-1", 4), *ports("2-1", 4))
    rack.lose(*ports("1-1", 4), *ports("2-1", 4), to=SILENT)
    assert rack.cause("1-1.1") == ("source", "adb", 8)


def test_of_one_hub_it_is_the_source_while_usb_sees_them_and_else_the_hub() -> None:
    rack = Rack(*ports("1-1", 4))
    rack.lose(*ports("1-1", 4), to=SILENT)
    assert rack.cause("1-1.1") == ("source", "adb", 4)
    rack.lose(*ports("1-1", 4), at=10.1)
    assert rack.cause("1-1.1") == ("hub", "1-1", 4)


def test_a_hub_that_hangs_is_none_of_the_sources() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.lose(*ports("1-1", 4), to=SILENT)
    assert rack.cause("1-1.1") == ("hub", "1-1", 4)


def test_a_bridge_that_is_down_is_the_source_whatever_hangs_where() -> None:
    rack = Rack(*ports("1-1", 4))
    rack.lose(*ports("1-1", 4), to=BLIND)
    assert rack.cause("1-1.1") == ("source", "adb", 4)


def test_phones_at_no_port_have_their_source() -> None:
    rack = Rack("x1", "x2", "x3")
    rack.lose("x1", "x2", "x3")
    assert rack.cause("x1") == ("source", "adb", 3)


def test_who_comes_back_and_goes_alone_has_no_cause() -> None:
    rack = Rack(*ports("1-1", 4))
    rack.lose(*ports("1-1", 4))
    rack.see("1-1.1", HERE, 11.0)
    assert rack.cause("1-1.1") is None
    rack.lose("1-1.1", at=20.0)
    assert rack.cause("1-1.1") is None
    assert rack.cause("1-1.2") == ("hub", "1-1", 4)


def test_what_is_told_explains_nothing_that_comes_after() -> None:
    rack = Rack(*ports("1-1", 4), *ports("2-1", 4))
    rack.lose(*ports("1-1", 4), *ports("2-1", 4), to=BLIND)
    assert rack.cause("1-1.1") == ("source", "adb", 8)
    rack.book.counted("1-1.1")
    rack.lose("1-1.1", at=100.0)  # by hand, with the server still down
    assert rack.cause("1-1.1") is None


def test_what_is_told_of_a_hub_that_hangs_is_no_cause_of_who_is_pulled_later() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.lose(*ports("1-1", 4), to=SILENT)
    assert rack.cause("1-1.1") == ("hub", "1-1", 4)
    rack.book.counted("1-1.1")
    rack.lose("1-1.1", at=100.0)
    assert rack.cause("1-1.1") is None


def test_who_is_pulled_while_adb_has_lost_all_was_taken_by_nothing() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.lose(*ports("1-1", 4), *ports("1-2", 4), to=SILENT)
    rack.lose("1-1.1", at=14.0)
    assert rack.cause("1-1.1") is None
    assert rack.cause("1-1.2") == ("source", "adb", 8)


def test_a_bridge_that_is_down_is_the_source_where_no_udev_sees_either() -> None:
    seen = Stand(there=True, listed=True, down=False, on_usb=False)
    rack = Rack()
    for port in ports("1-1", 4):
        rack.see(port, seen, 0.0)
    rack.lose(*ports("1-1", 4), to=Stand(None, listed=False, down=True, on_usb=False))
    assert rack.cause("1-1.1") == ("source", "adb", 4)


def test_a_phone_that_is_never_whole_again_is_remembered_once() -> None:
    rack = Rack("1-1.1")
    for tick in range(100):
        rack.see("1-1.1", GONE, 10.0 + tick)
        rack.see("1-1.1", SILENT, 10.5 + tick)
    assert len(rack.book._phones["1-1.1"].left) <= 2


def test_an_answer_ends_it_though_udev_is_down() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.lose(*ports("1-1", 4), to=SILENT)
    rack.see("1-1.1", UNSEEN, 11.0)
    assert rack.cause("1-1.1") is None


def test_a_group_ends_where_nobody_of_it_is_in_the_window_any_more() -> None:
    rack = Rack(*ports("1-1", 5))
    rack.lose(*ports("1-1", 3), at=10.0)
    first = rack.book.cause_of("1-1.1")
    for port in ports("1-1", 20):
        rack.see(port, HERE, 11.0)
    rack.lose("1-1.4", at=11.5)  # 4 of 20
    assert rack.cause("1-1.4") is None
    rack.lose(*ports("1-1", 16, first=5), at=13.2)
    second = rack.book.cause_of("1-1.4")
    assert first is not None
    assert second is not None
    assert (second.phones, second.id != first.id) == (17, True)


def test_who_went_away_while_its_source_was_down_was_not_taken_by_it() -> None:
    rack = Rack("x1", "x2", "x3")
    for port in ("x1", "x2", "x3"):
        rack.see(port, Stand(None, listed=False, down=True, on_usb=False), 10.0)
    rack.lose("x1", at=500.0)
    assert rack.cause("x1") is None


def test_what_a_bridge_lost_at_once_was_the_hub_even_where_udev_says_it_late() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    for port in ports("1-1", 4) + ports("1-2", 4):
        rack.see(port, UNSEEN, 5.0)
    silent = Stand(None, listed=False, down=False, on_usb=False)
    rack.lose(*ports("1-1", 4), at=10.0, to=silent)
    for number, port in enumerate(ports("1-1", 4)):
        rack.lose(port, at=60.0 + 10 * number)
        assert rack.cause(port) == ("hub", "1-1", 4)


@pytest.mark.parametrize(("seconds", "told"), [(WINDOW, True), (WINDOW + 0.1, False)])
def test_what_udev_finds_gone_left_while_it_did_not_see(seconds: float, told: bool) -> None:
    rack = Rack(*ports("1-1", 4))
    for port in ports("1-1", 4):
        rack.see(port, UNSEEN, 10.0)
    rack.lose(*ports("1-1", 4), at=10.0 + seconds)
    assert (rack.cause("1-1.1") is not None) is told


def test_after_a_gap_nothing_is_dated_until_the_sources_have_spoken() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.book.gap(9.9)
    rack.lose(*ports("1-1", 4), at=10.0)
    assert rack.cause("1-1.1") is None
    rack.lose(*ports("1-2", 4), at=13.0)
    assert rack.cause("1-2.1") == ("hub", "1-2", 4)


def test_those_who_count_later_have_the_same_cause_and_those_who_counted_before_have_none() -> None:
    rack = Rack(*ports("1-1", 4), *ports("1-2", 4))
    rack.lose("1-1.1", at=10.0)
    assert rack.cause("1-1.1") is None  # its hold was over
    rack.lose("1-1.2", "1-1.3", at=10.2)
    first = rack.book.cause_of("1-1.2")
    assert first is not None
    assert (first.kind, first.place) == ("hub", "1-1")
    rack.lose("1-1.4", *ports("1-2", 4), at=10.4)
    wider = rack.book.cause_of("1-2.1")
    assert wider is not None
    assert (wider.id, wider.kind, wider.place) == (first.id, "controller", PCI)
    assert {rack.book.cause_of(port).id for port in ports("1-2", 4)} == {first.id}  # type: ignore[union-attr]


def test_what_adb_loses_and_then_usb_is_one_cause() -> None:
    rack = Rack(*ports("1-1", 4))
    rack.lose(*ports("1-1", 4), to=SILENT)
    first = rack.book.cause_of("1-1.1")  # its hold for offline is none
    rack.book.counted("1-1.1")
    rack.lose(*ports("1-1", 4), at=10.3)
    second = rack.book.cause_of("1-1.1")
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("source", "hub")
    assert second.id == first.id
    assert rack.book.cause_of("1-1.4") == second


def test_two_causes_one_after_the_other_have_two_ids() -> None:
    rack = Rack(*ports("1-1", 4))
    found = set()
    for at in (10.0, 20.0):
        rack.lose(*ports("1-1", 4), at=at)
        found.add(rack.book.cause_of("1-1.1"))
        for port in ports("1-1", 4):
            rack.see(port, HERE, at + 5)
    assert len({cause.id for cause in found if cause is not None}) == 2


def test_one_flickering_phone_is_no_group() -> None:
    rack = Rack(*ports("1-1", 2))
    for tick in range(10):
        rack.lose("1-1.1", at=10.0 + tick / 10)
        rack.see("1-1.1", HERE, 10.05 + tick / 10)
    rack.lose("1-1.1", at=11.0)
    assert rack.cause("1-1.1") is None


def test_a_phone_that_was_never_there_does_not_leave() -> None:
    rack = Rack()
    rack.lose(*ports("1-1", 4), at=1.0)
    assert rack.cause("1-1.1") is None


def test_what_is_remembered_is_bounded() -> None:
    rack = Rack()
    for number in range(3_000):
        port = f"1-{number}.1"
        rack.see(port, HERE, float(number * 10))
        rack.lose(port, at=number * 10 + 5.0)
        rack.book.counted(port)
        rack.book.forget(port)
    assert len(rack.book._places) <= 1_010
    assert not rack.book._phones


def test_renamed_in_the_middle() -> None:
    rack = Rack(*ports("1-1", 3))
    rack.lose("1-1.1", at=10.0)
    rack.book.rename("1-1.1", "other")
    rack.book.rename("1-1.2", "another")
    rack.book.look("another", GONE, "1-1.2", 10.5, Spot)
    rack.lose("1-1.3", at=11.0)
    assert {rack.cause(udid) for udid in ("other", "another", "1-1.3")} == {("hub", "1-1", 3)}
    assert rack.cause("1-1.1") is None


# --- words ---------------------------------------------------------------------------------


def test_words() -> None:
    cause = Cause("cause-1", CauseKind.HUB, "1-4.2", 8)
    words = "lost with hub 1-4.2 (8 phones)"
    assert cause.reason(Reason()) == (words, "hub_lost")
    own = Reason("not seen", ReasonCode.NOT_SEEN_BY_ADB)
    assert cause.reason(own) == (f"{words}: not seen", "hub_lost")
    source = Cause("cause-1", CauseKind.SOURCE, "adb", 100)
    assert source.words == "lost with adb (100 phones)"


@given(
    st.sampled_from(CauseKind),
    st.from_regex(r"[!-~]([ -~]{0,80}[!-~])?", fullmatch=True),
    st.integers(LEAST, 10**8),
    st.text(),
)
def test_what_is_told_is_read_again(kind: CauseKind, place: str, phones: int, own: str) -> None:
    if place.partition(" ")[0] in set(CauseKind) or " (" in place:
        return  # no port, controller, bridge or host is called so
    cause = Cause("cause-7", kind, place, phones)
    assert read("cause-7", cause.reason(Reason(own, "")).text) == cause


@pytest.mark.parametrize("reason", ["", "not trusted", "lost with", "lost with hub 1 (x phones)"])
def test_a_reason_that_names_none(reason: str) -> None:
    assert read("cause-7", reason) is None
    assert read("", "lost with hub 1-4 (3 phones)") is None


# --- readings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "stand"),
    [
        (Readings(Presence.PRESENT, Bridge.READY), HERE),
        (Readings(Presence.PRESENT, Bridge.NOT_READY), HERE),
        (
            Readings(Presence.PRESENT, Bridge.NOT_READY, bridge_code=ReasonCode.UNRESPONSIVE),
            SILENT,
        ),
        (Readings(Presence.PRESENT, Bridge.ABSENT), SILENT),
        (Readings(Presence.PRESENT, Bridge.ABSENT, bridge_ruled_out=True), HERE),
        (Readings(Presence.PRESENT, Bridge.UNKNOWN), BLIND),
        (Readings(Presence.ABSENT, Bridge.ABSENT), GONE),
        (Readings(Presence.UNKNOWN, Bridge.READY), UNSEEN),
        (
            Readings(Presence.UNKNOWN, Bridge.READY, bridge_is_presence=True),
            Stand(True, listed=True, down=False, on_usb=False),
        ),
        (Readings(Presence.UNKNOWN, Bridge.ABSENT, bridge_is_presence=True), GONE),
        (
            Readings(Presence.UNKNOWN, Bridge.UNKNOWN, bridge_is_presence=True),
            Stand(None, listed=False, down=True, on_usb=False),
        ),
    ],
)
def test_how_a_phone_stands(readings: Readings, stand: Stand) -> None:
    assert stand_of(readings) == stand


# --- against a model -----------------------------------------------------------------------

PORTS = ("1-1", "1-2.1", "1-2.2", "1-2.3", "1-2.4.1", "1-2.4.2", "1-2.4.3", "2-1.1", "2-1.2")


class Model:
    """Who was where when, all of it kept; the rule as it is written."""

    def __init__(self) -> None:
        self.left: defaultdict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        self.groups: defaultdict[tuple[str, str], list[set[tuple[float, str]]]] = defaultdict(list)

    def leave(self, place: tuple[str, str], phone: str, at: float, there: Iterable[str]) -> None:
        self.left[place].append((at, phone))
        window = {each for each in self.left[place] if at - each[0] <= WINDOW}
        went = {each for _, each in window}
        if len(went) < LEAST or len(went) / len(went | set(there)) < 0.6 - 1e-9:
            return
        mine = [group for group in self.groups[place] if group & window]
        merged = window.union(*mine)
        self.groups[place] = [g for g in self.groups[place] if g not in mine] + [merged]

    def places(self, phone: str, at: float) -> set[tuple[str, str]]:
        return {
            place
            for place, groups in self.groups.items()
            if any((at, phone) in group for group in groups)
        }


def places_of(port: str) -> list[tuple[str, str]]:
    found, hub = [], port.rpartition(".")[0]
    while hub:
        found.append(("hub", hub))
        hub = hub.rpartition(".")[0]
    return [*found, ("controller", controller_at(Spot(port)))]


steps = st.lists(
    st.tuples(st.sampled_from(PORTS), st.sampled_from([0.0, 0.1, 0.7, 1.0, 1.9, 2.5])),
    max_size=40,
)


@given(steps)
def test_the_book_finds_what_the_rule_says(walk: Sequence[tuple[str, float]]) -> None:
    """Phones come and go: each step turns one around."""
    book, model, now = Causes(lambda: "id"), Model(), 100.0
    here = dict.fromkeys(PORTS, True)
    for port in PORTS:
        book.look(port, HERE, port, 0.0, partial(Spot, port))
    for port, wait in walk:
        now += wait
        here[port] = not here[port]
        book.look(port, HERE if here[port] else GONE, port, now, partial(Spot, port))
        for place in () if here[port] else places_of(port):
            below = [p for p in PORTS if here[p] and place in places_of(p)]
            model.leave(place, port, now, below)
        for phone in PORTS:
            left = book._phones[phone].left
            found = {(g.place.kind.value, g.place.name) for each in left for g in each.groups}
            at = max((t for t, p in model.left[places_of(phone)[-1]] if p == phone), default=0.0)
            expected = set() if here[phone] else model.places(phone, at)
            # A group that had ended before the next began at its edge is another one.
            assert found == expected, (phone, now)


@given(
    st.lists(st.tuples(st.sampled_from(PORTS), st.floats(WINDOW + 0.01, 50)), max_size=30),
)
def test_independent_leavings_are_never_grouped(walk: Sequence[tuple[str, float]]) -> None:
    rack, now = Rack(*PORTS), 100.0
    for port, wait in walk:
        now += wait
        rack.lose(port, at=now)
        assert rack.cause(port) is None
        rack.see(port, HERE, now + 0.001)


@given(st.permutations(PORTS[:7]), st.integers(3, 7), st.data())
def test_order_does_not_matter_and_all_have_one_id(
    order: list[str], number: int, data: st.DataObject
) -> None:
    went = data.draw(st.permutations(PORTS[:number]))
    rack, other = Rack(*order), Rack(*PORTS[:7])
    rack.lose(*went)
    other.lose(*PORTS[:number])
    for port in data.draw(st.permutations(went)):
        assert rack.cause(port) == other.cause(port)
    at_place = defaultdict(set)
    for port in went:
        if (cause := rack.book.cause_of(port)) is not None:
            at_place[cause.place].add(cause.id)
    assert all(len(ids) == 1 for ids in at_place.values())


def test_order_of_four_exhaustively() -> None:
    for order in permutations(ports("1-1", 4)):
        rack = Rack(*ports("1-1", 4))
        for number, port in enumerate(order):
            rack.lose(port, at=10.0 + number / 2)
        causes = [rack.book.cause_of(port) for port in order]
        assert {cause and (cause.id, cause.place, cause.phones) for cause in causes} == {
            ("cause-1", "1-1", 4)
        }


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(PORTS[:5]), st.sampled_from([HERE, GONE, SILENT, UNSEEN])),
            st.tuples(st.sampled_from(PORTS[:5]), st.sampled_from(PORTS[:5])),
        ),
        max_size=40,
    ),
    st.sampled_from([0.1, 0.9]),
)
def test_what_is_counted_on_the_way_is_what_there_is(
    walk: Sequence[tuple[str, Stand | str]], pace: float
) -> None:
    """Renames, comings, goings: the running numbers of each place are those of its lists."""
    rack, now = Rack(*PORTS[:5]), 10.0
    for name, turn in walk:
        now += pace
        if isinstance(turn, str):
            rack.book.rename(name, turn)
        else:
            rack.see(name, turn, now)
        rack.book.cause_of(name)
        for place in rack.book._places.values():
            times: defaultdict[str, int] = defaultdict(int)
            for leaving in place.window:
                times[leaving.udid] += 1
            assert place.gone == times
            assert place.outside == len(times.keys() - place.now)
            assert place.now <= rack.book._phones.keys()

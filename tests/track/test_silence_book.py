"""Which device is covered by which silence, what is owed, and what may be asked for: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SilenceError, UnknownSilenceError
from agent.model import Device, DeviceRecord, DeviceState, Platform, Silence, SilenceKind
from agent.track.silence_book import (
    LONGEST,
    Debt,
    SilenceBook,
    check,
    covered,
    debt_after,
    debt_of,
    hubs_of,
    last_told,
    stored_debt,
)

NOW = 1_700_000_000_000
PHONE = Device("ce09", Platform.ANDROID, "Galaxy", port="1-4.2.1", tags=("rack-1", "samsung"))
STATES = st.sampled_from(DeviceState)


def silence(kind: SilenceKind, value: str = "", *, id_: str = "00000001", ends: int = 1) -> Silence:
    return Silence(id_, kind, value, "why", "alice", NOW, NOW + ends)


@pytest.mark.parametrize(
    ("kind", "value", "covers"),
    [
        (SilenceKind.ALL, "", True),
        (SilenceKind.DEVICE, "ce09", True),
        (SilenceKind.DEVICE, "ce0", False),
        (SilenceKind.TAG, "rack-1", True),
        (SilenceKind.TAG, "rack", False),
        (SilenceKind.PLATFORM, "android", True),
        (SilenceKind.PLATFORM, "ios", False),
        (SilenceKind.HUB, "1-4.2.1", True),
        (SilenceKind.HUB, "1-4.2", True),
        (SilenceKind.HUB, "1-4", True),
        (SilenceKind.HUB, "usb1", True),
        (SilenceKind.HUB, "1-4.21", False),
        (SilenceKind.HUB, "1-4.2.11", False),
        (SilenceKind.HUB, "1-4.2.1.1", False),
        (SilenceKind.HUB, "1-4.1", False),
        (SilenceKind.HUB, "11-4.2", False),
        (SilenceKind.HUB, "2-4.2", False),
    ],
)
def test_what_a_silence_covers(kind: SilenceKind, value: str, covers: bool) -> None:
    book = SilenceBook([silence(kind, value)])
    assert (book.of(PHONE, NOW) is not None) is covers


KINDS = [
    (SilenceKind.ALL, ""),
    (SilenceKind.DEVICE, "phone-1"),
    (SilenceKind.TAG, "rack-1"),
    (SilenceKind.TAG, "rack-2"),
    (SilenceKind.PLATFORM, "ios"),
    (SilenceKind.HUB, "usb1"),
    (SilenceKind.HUB, "1-4"),
]


@given(
    st.lists(st.sampled_from(KINDS)),
    st.lists(
        st.tuples(
            st.sampled_from(Platform),
            st.sampled_from(("", "1-4", "1-4.2", "2-4")),
            st.lists(st.sampled_from(("rack-1", "rack-2"))),
        )
    ),
)
def test_how_many_devices_each_silence_covers_is_counted_in_one_pass(
    kinds: list[tuple[SilenceKind, str]], phones: list[tuple[Platform, str, list[str]]]
) -> None:
    silences = [silence(*each, id_=f"{number:08x}") for number, each in enumerate(kinds)]
    devices = [
        Device(f"phone-{number}", platform, "Phone", port=port, tags=tuple(tags))
        for number, (platform, port, tags) in enumerate(phones)
    ]
    one_pass = iter(devices)  # 500 silences must not look at 1000 phones 500 times
    assert covered(silences, one_pass) == {
        each.id: sum(SilenceBook([each]).names(device) for device in devices) for each in silences
    }


def test_a_hub_is_a_whole_part_of_the_port_path() -> None:
    hub = SilenceBook([silence(SilenceKind.HUB, "1-4.2")])
    assert hub.of(replace(PHONE, port="1-4.2"), NOW) is not None
    assert hub.of(replace(PHONE, port="1-4.21"), NOW) is None
    assert hub.of(replace(PHONE, port=""), NOW) is None, "nobody knows where it hangs"


@given(st.lists(st.integers(1, 99), min_size=1, max_size=6), st.integers(1, 99), st.integers(1, 9))
def test_hubs_are_the_prefixes_of_whole_numbers(ports: list[int], bus: int, other: int) -> None:
    path = f"{bus}-{'.'.join(map(str, ports))}"
    deeper = f"{path}.{other}"
    assert set(hubs_of(deeper)) == {deeper, *hubs_of(path)}
    assert path not in set(hubs_of(f"{path}{other}"))
    assert list(hubs_of("")) == []


def test_of_several_the_last_one_to_end_covers() -> None:
    short = silence(SilenceKind.TAG, "rack-1", ends=10)
    long = silence(SilenceKind.HUB, "1-4", id_="00000002", ends=20)
    longest = silence(SilenceKind.TAG, "rack-1", id_="00000003", ends=15)
    book = SilenceBook([longest, short, long])
    assert book.of(PHONE, NOW) == long
    assert book.of(PHONE, NOW + 19) == long
    assert book.of(PHONE, NOW + 20) is None, "its end has come, whoever took note of that"
    book.remove(long.id, "bob ended it")
    assert book.of(PHONE, NOW + 14) == longest
    assert book.over(NOW + 15) == [short, longest]
    assert book.next_end_ms() == NOW + 10
    with pytest.raises(UnknownSilenceError, match="bob ended it"):
        book.get(long.id)


def test_a_renamed_device_stays_silenced() -> None:
    book = SilenceBook(
        [silence(SilenceKind.DEVICE, "ce09"), silence(SilenceKind.TAG, "x", id_="2")]
    )
    assert [each.value for each in book.rename("ce09", "ce09@1-4")] == ["ce09@1-4"]
    assert book.of(PHONE, NOW) is None
    assert book.of(replace(PHONE, udid="ce09@1-4"), NOW) is not None


@given(st.none() | STATES, st.lists(st.tuples(STATES, st.booleans()), max_size=12))
def test_a_debt_is_from_what_was_told_last(
    first: DeviceState | None, steps: list[tuple[DeviceState, bool]]
) -> None:
    """Told is what is told at once, or when nothing is silenced any more: never the same twice."""
    debt, state, told = None, first, first
    for new, silenced in steps:
        if new is state:
            continue
        if not silenced:
            assert last_told(debt, state) is told
            told = new
        debt, state = debt_after(debt, state, new, silenced=silenced), new
        assert last_told(debt, state) is told
        assert (debt is None) is (told is state)
        record = DeviceRecord("ce09", Platform.ANDROID, new, NOW, debt=stored_debt(debt))
        assert debt_of(record) == debt


def test_a_debt_that_makes_no_sense_is_none() -> None:
    record = DeviceRecord("ce09", Platform.ANDROID, DeviceState.ONLINE, NOW, debt="melted")
    assert debt_of(record) is None
    assert debt_of(replace(record, debt="never seen")) == Debt(None)


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (SilenceKind.ALL, "", ""),
        (SilenceKind.PLATFORM, "ios", "ios"),
        (SilenceKind.HUB, "1-4.2", "1-4.2"),
        (SilenceKind.HUB, "usb03", "usb3"),
        (SilenceKind.HUB, "3", "usb3"),
        (SilenceKind.TAG, "räck 1", "räck 1"),
    ],
)
def test_what_may_be_silenced(kind: SilenceKind, value: str, kept: str) -> None:
    assert check(kind, value, " two\n lines ", NOW + 1, NOW) == (kept, "two lines")


@pytest.mark.parametrize(
    ("kind", "value", "reason", "ends", "why"),
    [
        (SilenceKind.ALL, "", " \n", 1, "reason"),
        (SilenceKind.ALL, "", "x" * 513, 1, "512"),
        (SilenceKind.ALL, "", "\x1b[2J", 1, "control"),
        (SilenceKind.ALL, "", "evil \u202e txt", 1, "control"),
        (SilenceKind.ALL, "", "why", 0, "passed"),
        (SilenceKind.ALL, "", "why", -60_000, "passed"),
        (SilenceKind.ALL, "", "why", int(LONGEST * 1000) + 1, "366 d"),
        (SilenceKind.PLATFORM, "Android", "why", 1, "android, ios"),
        (SilenceKind.HUB, "", "why", 1, "no hub"),
        (SilenceKind.HUB, "1-", "why", 1, "no hub"),
        (SilenceKind.HUB, "1-4.", "why", 1, "no hub"),
        (SilenceKind.HUB, "1-4.2/..", "why", 1, "no hub"),
        (SilenceKind.HUB, "1-४", "why", 1, "no hub"),
        (SilenceKind.TAG, " ", "why", 1, "name"),
        (SilenceKind.TAG, "a\0b", "why", 1, "control"),
    ],
)
def test_what_may_not(kind: SilenceKind, value: str, reason: str, ends: int, why: str) -> None:
    with pytest.raises(SilenceError, match=why):
        check(kind, value, reason, NOW + ends, NOW)

"""NO_PROXY as curl reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.deliver.client import Client
from agent.deliver.no_proxy import bypasses
from tests.kit.deliver import NOW_MS, make_callback, make_webhook

if TYPE_CHECKING:
    from tests.fakes.receiver import Receiver


@pytest.mark.parametrize(
    ("names", "host", "direct"),
    [
        ("", "board.lab", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),  # curl masks both
        ("10.0.0.0/8", "10.example", False),
        ("192.168.1.7", "192.168.1.7", True),
        ("192.168.1.7", "192.168.1.70", False),
        ("192.168.1", "192.168.1.7", False),
        ("127.0.0.0/33", "127.0.0.1", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fe12::1", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("[fd00::]/8", "fd12::1", True),
        ("::1", "1", False),
        (".lab", "board.lab", True),
        (".lab", "a.board.lab", True),
        (".lab", "lab", True),
        ("lab", "board.lab", True),
        ("lab", "lab", True),
        ("lab", "collab", False),
        ("board.lab", "lab", False),
        ("lab.", "board.lab", True),
        ("lab", "board.lab.", True),
        ("LAB", "Board.Lab", True),
        ("*.lab", "board.lab", True),
        ("*", "board.lab", True),
        ("*", "10.0.0.1", True),
        (" * ", "board.lab", True),
        ("a,b , c", "x.c", True),
        ("a b\tc", "b", True),
        ("a,,b,", "", False),
        (".", "board.lab", False),
        ("localhost,127.0.0.1,.lab", "localhost", True),
    ],
)
def test_names(names: str, host: str, direct: bool) -> None:
    assert bypasses(host, 80, {"NO_PROXY": names}) is direct


@pytest.mark.parametrize(
    ("names", "host", "port", "direct"),
    [
        ("board.lab:8080", "board.lab", 8080, True),
        ("board.lab:8080", "board.lab", 80, False),
        ("board.lab", "board.lab", 8080, True),
        ("10.0.0.1:81", "10.0.0.1", 81, True),
        ("10.0.0.1:81", "10.0.0.1", 80, False),
        ("[::1]:81", "::1", 81, True),
        ("[::1]:81", "::1", 80, False),
        ("*:81", "board.lab", 80, False),
    ],
)
def test_ports(names: str, host: str, port: int, direct: bool) -> None:
    assert bypasses(host, port, {"NO_PROXY": names}) is direct


def test_the_lower_case_name_goes_first_unless_it_is_empty() -> None:
    both = {"no_proxy": "a", "NO_PROXY": "b"}
    assert bypasses("a", 80, both)
    assert not bypasses("b", 80, both)
    assert bypasses("b", 80, {"no_proxy": "", "NO_PROXY": "b"})


async def test_a_network_in_no_proxy_is_reached_directly(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,127.0.0.0/8")
    client = Client()
    sent = await client.attempt(make_webhook(receiver.url()), make_callback(), NOW_MS)
    await client.close()
    assert (sent.status, sent.detail) == (200, "")

"""HOST:PORT, read and written."""

from __future__ import annotations

import pytest

from agent.address import (
    bracketed,
    host_port,
    is_host,
    is_ip,
    is_loopback,
    split_host_port,
    tcp_of,
)


def test_host_and_port() -> None:
    assert split_host_port("127.0.0.1:9178") == ("127.0.0.1", 9178)
    assert split_host_port("[::1]:0") == ("::1", 0)
    assert split_host_port("rack-1.lab.example:1") == ("rack-1.lab.example", 1)
    for text in ["", ":", "x", "x:", ":1", "x:-1", "x:+1", "x:1_0", "x:\u0665", "x:65536", "::1:80",
                 "[::1]", "[x]:1", "[127.0.0.1]:1", "a b:1", "a/b:1", "a@b:1"]:  # fmt: skip
        with pytest.raises(ValueError):
            split_host_port(text)


@pytest.mark.parametrize("text", ["127.0.0.1:9178", "[::1]:0", "rack-1.lab.example:1"])
def test_what_is_read_is_written_the_same(text: str) -> None:
    assert host_port(*split_host_port(text)) == text


def test_hosts() -> None:
    assert (bracketed("::1"), bracketed("h")) == ("[::1]", "h")
    assert all(map(is_host, ("10.0.0.1", "rack-1", "a.b.", "_x")))
    assert not any(map(is_host, ("10.0.0", "::1", "", "a..b", "a b")))
    assert is_ip("::1", 6)
    assert is_ip("::1")
    assert not is_ip("::1", 4)
    assert not is_ip("fe80::1%eth0", 6)
    assert all(map(is_loopback, ("127.9.9.9", "::1", "localhost", "LocalHost.", "a.localhost")))
    assert not any(map(is_loopback, ("10.0.0.1", "localhost.example", "")))


@pytest.mark.parametrize(
    ("endpoint", "tcp"),
    [("/run/adb.sock", None), ("[::1]:5037", ("::1", 5037)), ("rack.lab:1", ("rack.lab", 1))],
)
def test_a_servers_socket(endpoint: str, tcp: tuple[str, int] | None) -> None:
    assert tcp_of(endpoint) == tcp


@pytest.mark.parametrize("endpoint", ["run/adb.sock", "::1:5037", "[::1:5037", "a:²", "a:65536"])
def test_what_is_no_servers_socket(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        tcp_of(endpoint)

"""Words that are none of ours, made to be long to read."""

from __future__ import annotations

import json
import zlib

import pytest
from pydantic import ValidationError

from agent.fleet.words import MOST, SHORT, BadMessageError, Heartbeat, HostSnapshot, unpack

_SNAPSHOT = {"host": "rack-1", "epoch": 1, "instance": "a", "through": 1}


@pytest.mark.parametrize(("kind", "most"), [(HostSnapshot, MOST), (Heartbeat, SHORT)])
def test_what_is_far_too_long_unpacked_is_not_read(
    kind: type[HostSnapshot | Heartbeat], most: int
) -> None:
    body = zlib.compress(b"[" + b"0," * (8 * most) + b"0]")
    assert len(body) < SHORT, "a broker would not take it"
    with pytest.raises(BadMessageError, match=f"over {most} bytes, unpacked"):
        unpack(kind, body, "da.v1.x")


@pytest.mark.parametrize("key", ["devices", "leases", "silences"])
def test_of_many_mistakes_the_first_one_is_told(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HostSnapshot.model_validate({**_SNAPSHOT, key: [0] * 1000})
    assert caught.value.error_count() == 1


def test_a_snapshot_of_many_phones_is_read() -> None:
    device = {"udid": "x" * 40, "platform": "android", "state": "online", "since_ms": 1}
    devices = [{**device, "reason": "r" * 300, "name": f"Phone {n}"} for n in range(5000)]
    body = zlib.compress(json.dumps({**_SNAPSHOT, "devices": devices}).encode())
    assert len(unpack(HostSnapshot, body, "da.v1.x").devices) == 5000

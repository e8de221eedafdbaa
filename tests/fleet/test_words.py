"""Words that are none of ours, made to be long to read."""

from __future__ import annotations

import json
import random
import zlib

import pytest
from pydantic import ValidationError

from agent.fleet.words import (
    MOST,
    SHORT,
    BadMessageError,
    DeviceTold,
    Heartbeat,
    HostSnapshot,
    pack,
    unpack,
)
from agent.model import DeviceState, Platform

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


def test_a_snapshot_of_a_thousand_phones_fits_where_little_is_taken() -> None:
    at = random.Random(1)
    devices = tuple(
        DeviceTold(
            udid=f"{at.randrange(16**16):016x}",
            platform=Platform.ANDROID,
            state=at.choice(list(DeviceState)),
            since_ms=1_700_000_000_000 + at.randrange(10**9),
            event=at.randrange(10**6),
            name=f"Phone {number}",
            port=f"1-{number % 10}.{number % 7}",
        )
        for number in range(1000)
    )
    snapshot = HostSnapshot(host="rack-1", epoch=1, instance="a", through=1, devices=devices)
    for few in (100, 200, 1000):
        told = snapshot.model_copy(update={"devices": devices[:few]})
        assert len(pack(told)) < 64 * 1024
        assert unpack(HostSnapshot, pack(told), "da.v1.x") == told

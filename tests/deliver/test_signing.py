from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
import standardwebhooks

from agent.deliver.signing import Signer
from agent.errors import SecretError

VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ARGS = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_public_vector() -> None:
    assert Signer([VECTOR]).sign(*ARGS) == SIGNATURE


@pytest.mark.parametrize("zone", ["UTC", "America/Caracas", "Asia/Kathmandu"])
def test_the_hosts_time_zone_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert Signer([VECTOR]).sign(*ARGS) == SIGNATURE
    finally:
        monkeypatch.undo()
        time.tzset()


def test_plain_text_is_its_own_key() -> None:
    text = "schlüssel: not base64!"
    digest = hmac.digest(text.encode(), b"msg_1.1700000000." + '{"a":"ü"}'.encode(), hashlib.sha256)
    expected = "v1," + base64.b64encode(digest).decode()
    assert Signer([text]).sign("msg_1", 1700000000, '{"a":"ü"}'.encode()) == expected


def test_while_a_secret_rotates_either_verifies() -> None:
    old, new = VECTOR, "whsec_" + base64.b64encode(b"n" * 24).decode()
    now = int(time.time())
    header = Signer([new, old]).sign("msg_1", now, b"{}")
    assert header.split(" ") == [
        Signer([new]).sign("msg_1", now, b"{}"),
        Signer([old]).sign("msg_1", now, b"{}"),
    ]
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": header,
    }
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook("whsec_AAAA").verify(b"{}", headers)


def test_base64_without_padding() -> None:
    assert Signer(["whsec_YWI"]).sign(*ARGS) == Signer(["ab"]).sign(*ARGS)


@pytest.mark.parametrize("secret", ["whsec_not*base64", "whsec_", "", "whsec_YWJj ZGVm", "whsec_é"])
def test_a_secret_that_is_no_key_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(SecretError) as error:
        Signer([secret])
    rest = secret.removeprefix("whsec_")
    assert not rest or rest not in str(error.value)

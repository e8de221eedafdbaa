"""The local receiver: prints, verifies, and refuses what is not signed right."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import aiohttp
import click
import pytest
from standardwebhooks import Webhook

from agent.cli.listen import as_line, as_text
from agent.cli.receiver import Received, Receiver
from agent.errors import StartError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"eventDescription":"Online","deviceName":"Galaxy Note 8"}'


async def post(secret: str, signed_with: str | None) -> tuple[int, Received]:
    got: list[Received] = []
    receiver = Receiver(got.append, secret)
    url = await receiver.start("127.0.0.1", 0)
    headers = {}
    if signed_with:
        now = datetime.now(UTC)
        signature = Webhook(signed_with).sign("msg_1", now, BODY)
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + "hook", data=BODY, headers=headers) as response,
        ):
            return response.status, got[0]
    finally:
        await receiver.stop()


@pytest.mark.parametrize(
    ("secret", "signed_with", "status", "verified"),
    [
        (SECRET, SECRET, 204, True),
        (SECRET, "whsec_" + "A" * 32, 401, False),
        (SECRET, None, 401, False),
        ("", None, 204, None),
    ],
)
async def test_signatures(
    secret: str, signed_with: str | None, status: int, verified: bool | None
) -> None:
    code, got = await post(secret, signed_with)
    assert (code, got.verified) == (status, verified)
    text = click.unstyle(as_text(got))
    assert text.startswith("Online  Galaxy Note 8")
    assert ("signature good" in text) is (verified is True)
    assert ("signature BAD" in text) is (verified is False)
    line = json.loads(as_line(got))
    assert line["body"] == json.loads(BODY)
    assert line["message_id"] == ("msg_1" if signed_with else "")


async def test_a_port_in_use_says_what_to_do() -> None:
    first = Receiver(lambda _: None)
    url = await first.start("127.0.0.1", 0)
    try:
        with pytest.raises(StartError, match="choose another --port"):
            await Receiver(lambda _: None).start("127.0.0.1", int(url.split(":")[2].strip("/")))
    finally:
        await first.stop()

"""Standard Webhooks signatures (https://www.standardwebhooks.com, `v1`: HMAC-SHA256). Pure.

Signed is `{webhook-id}.{webhook-timestamp}.{body}`. A secret that starts with `whsec_` is base64
behind that prefix; any other secret is its own bytes. While a secret rotates there are two, and
the header carries a signature of each, in the config's order.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import standardwebhooks

from agent.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "whsec_"


class Signer:
    """Signs with every secret of one webhook. Raises SecretError on one that is no key."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [standardwebhooks.Webhook(_key(secret)) for secret in secrets]

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The `webhook-signature` header; `timestamp` in seconds since the epoch."""
        # The library takes naive and foreign times for UTC instead of converting: UTC it is.
        at = datetime.fromtimestamp(timestamp, UTC)
        text = body.decode()
        return " ".join([key.sign(message_id, at, text) for key in self._keys])


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        encoded = secret[len(PREFIX) :].rstrip("=")
        try:
            # The library would skip over characters that are no base64 and sign with the rest.
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise SecretError(
                f"the webhook's secret starts with {PREFIX} but is no base64 behind it;"
                " take it over whole, or drop the prefix if it is plain text"
            ) from None
    if not key:
        raise SecretError("the webhook's secret is empty; give it a value, or leave `secret` out")
    return key

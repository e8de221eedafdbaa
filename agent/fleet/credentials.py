"""A NATS credentials file: who we are for the broker, and proof of it.

It holds a JWT and the seed of an Ed25519 key (`nsc generate creds` writes it), or the seed alone
(`nk -gen user`), whose public key the broker's configuration then names.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK: Final = r"-{3,}\s*BEGIN %s\s*-{3,}\s*([A-Za-z0-9_.=-]+)\s*-{3,}\s*END"
_JWT: Final = re.compile(_BLOCK % "NATS USER JWT")
_SEED: Final = re.compile(_BLOCK % "USER NKEY SEED")
_BARE: Final = re.compile(r"(SU[A-Z2-7]{56})", re.ASCII)
_OF_SEED: Final = 18 << 3
_OF_USER: Final = 20 << 3


class CredentialsError(AgentError):
    """It holds no credentials; the message shows nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Whose they are: by JWT, or by public key alone. `repr` shows nothing."""

    jwt: str
    """"": none."""
    _seed: bytes

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """From a file's text.

        Raises:
            CredentialsError: it holds none.
        """
        jwt = _JWT.search(text)
        seed = _SEED.search(text) or _BARE.fullmatch(text.strip())
        if seed is None:
            raise CredentialsError(
                "holds no NATS credentials: it must be what 'nsc generate creds' writes, or the "
                "seed of a user's nkey (SU…)"
            )
        return cls(jwt[1] if jwt else "", _raw_seed(seed[1]))

    def sign(self, nonce: str) -> bytes:
        """What proves it to the broker."""
        return base64.b64encode(self._key().sign(nonce.encode()))

    @property
    def public(self) -> str:
        """The user's public key, as NATS writes it."""
        raw = bytes([_OF_USER]) + self._key().public_key().public_bytes_raw()
        return base64.b32encode(raw + _crc(raw)).decode().rstrip("=")

    def _key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 - only they need it
            ed25519,
        )

        return ed25519.Ed25519PrivateKey.from_private_bytes(self._seed)


def _raw_seed(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (ValueError, binascii.Error):
        raw = b""
    if (
        len(raw) != 36  # noqa: PLR2004 - two bytes of kind, 32 of seed, two of check sum
        or raw[0] & 0xF8 != _OF_SEED
        or ((raw[0] & 7) << 5 | raw[1] >> 3) != _OF_USER
        or _crc(raw[:-2]) != raw[-2:]
    ):
        raise CredentialsError("holds a seed that is none of a user's (SU…), or a damaged one")
    return raw[2:-2]


def _crc(data: bytes) -> bytes:
    """CRC-16/XMODEM, as nkeys has it."""
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")

"""Operators, accounts and users of NATS by JWT, as `nsc` makes them: keys, and what they sign."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED: Final = 18 << 3
OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3


def _b32(data: bytes) -> str:
    data += binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data).decode().rstrip("=")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True)
class Key:
    """An nkey."""

    kind: int
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        """As NATS writes it, with O, A or U before it."""
        return _b32(bytes([self.kind]) + self.private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """Likewise, with S before that."""
        return _b32(
            bytes([_SEED | self.kind >> 5, (self.kind & 31) << 3])
            + self.private.private_bytes_raw()
        )

    def issue(self, subject: Key, name: str, claims: dict[str, Any]) -> str:
        """A JWT about another key."""
        payload = {
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": name,
            "sub": subject.public,
            "nats": {"version": 2, **claims},
        }
        digest = hashlib.new("sha512_256", json.dumps(payload).encode()).digest()
        payload["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(_b64(json.dumps(each).encode()) for each in (head, payload))
        return f"{text}.{_b64(self.private.sign(text.encode()))}"


class Operator:
    """One operator with one account, which has JetStream."""

    def __init__(self) -> None:
        self._key, self._account, self._system = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT)
        limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1}
        limits |= {"wildcards": True, "conn": -1, "leaf": -1}
        claims = {"type": "account", "default_permissions": {"pub": {}, "sub": {}}}
        kept = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        account = self._key.issue(self._account, "lab", {**claims, "limits": {**limits, **kept}})
        system = self._key.issue(self._system, "SYS", {**claims, "limits": limits})
        operator = self._key.issue(
            self._key, "op", {"type": "operator", "system_account": self._system.public}
        )
        self.config: Final = "\n".join(
            [
                f"operator: {operator}",
                f"system_account: {self._system.public}",
                "resolver: MEMORY",
                "resolver_preload: {",
                f"  {self._account.public}: {account}",
                f"  {self._system.public}: {system}",
                "}",
            ]
        )

    def user(self, name: str, **claims: Any) -> str:
        """A credentials file's text."""
        key = Key(USER)
        free = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user"}
        jwt = self._account.issue(key, name, {**free, **claims})
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n\n"
            "*************************************************************\n"
        )

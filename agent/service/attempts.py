"""Wrong tokens and codes, counted per address: whoever guesses is slowed, in bounded memory. Pure.

An address may be wrong BURST times, and then once in SECONDS. Of IPv6 a /64 counts as one address,
for whoever has one has all of it. Beyond MOST addresses that are not forgiven yet all others share
one count: many addresses guess no faster than memory allows.
"""

from __future__ import annotations

import ipaddress
import math

BURST = 20
SECONDS = 2.0
"""Within which one wrong token is forgiven."""
MOST = 1000


class Attempts:
    """The counts. An address's is the moment at which all is forgiven."""

    def __init__(self) -> None:
        self._forgiven: dict[str, float] = {}
        self.wrong = 0
        """In all."""

    def wait(self, address: str, now: float) -> float:
        """Seconds until that address may try again; 0: now."""
        behind = self._forgiven.get(self._key(address, now), now) - now
        return max(0.0, behind - (BURST - 1) * SECONDS)

    def failed(self, address: str, now: float) -> bool:
        """It was wrong once more; True: that was once too often, for now."""
        self.wrong += 1
        key = self._key(address, now)
        since = max(now, self._forgiven.get(key, now))
        # Not longer, however many requests were under way at once.
        self._forgiven[key] = min(since + SECONDS, now + BURST * SECONDS)
        return since + SECONDS > now + (BURST - 1) * SECONDS

    def __len__(self) -> int:
        return len(self._forgiven)

    def _key(self, address: str, now: float) -> str:
        network = network_of(address)
        if network in self._forgiven or len(self._forgiven) < MOST:
            return network
        self._forgiven = {key: until for key, until in self._forgiven.items() if until > now}
        return network if len(self._forgiven) < MOST else ""


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 its /64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def whole_seconds(wait: float) -> int:
    """For `Retry-After`."""
    return max(1, math.ceil(wait))

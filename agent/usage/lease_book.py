"""Which leases there are, until when, and how they ended. Pure: no await, no clock, no I/O.

A lease ends when it is released, when nobody renewed it for its TTL, or when somebody takes it with
a reason. One that is tied (to a connection, or to the store that takes it up) has no TTL meanwhile:
an agent that stands still for a while must not take it for abandoned. A device has one lease.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import LeaseError, UnknownLeaseError
from agent.model import Usage, UsageReading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.model import Lease

MIN_TTL, MAX_TTL = 1.0, 86_400.0
"""Seconds. Shorter ones end by a hiccup of their holder, longer ones outlive what they are for."""
MAX_WAIT = 86_400.0
"""Seconds."""
REMEMBERED = 1000
"""Ends of leases that are told to who asks for them later."""
LATE, SECOND_CHANCE = 1.0, 5.0
"""Seconds. A TTL that is looked at so late ran out while the agent stood still: its renewal may
wait in a socket, and gets so much longer to be read."""


class LeaseBook:
    """All leases, at most one per device."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._of_device: dict[str, str] = {}
        self._ties: Counter[str] = Counter()
        self._ends: dict[str, str] = {}
        self._used_ms: dict[str, int] = {}

    def __contains__(self, lease_id: str) -> bool:
        """Whether that lease is in force."""
        return lease_id in self._leases

    def all(self) -> list[Lease]:
        """The leases in force, oldest first."""
        return sorted(self._leases.values(), key=lambda lease: lease.acquired_ms)

    def get(self, lease_id: str) -> Lease:
        """That lease.

        Raises:
            UnknownLeaseError: it has ended already, or never was; the message says why it ended.
        """
        try:
            return self._leases[lease_id]
        except KeyError:
            why = self.why_ended(lease_id)
            raise UnknownLeaseError(f"no lease {lease_id!r}: {why}") from None

    def of(self, udid: str) -> Lease | None:
        """The lease of that device."""
        lease_id = self._of_device.get(udid)
        return None if lease_id is None else self._leases[lease_id]

    @property
    def devices(self) -> Collection[str]:
        """Those that are leased."""
        return self._of_device.keys()

    @property
    def used_ms(self) -> Mapping[str, int]:
        """When devices were last given, by UDID."""
        return self._used_ms

    def why_ended(self, lease_id: str) -> str:
        """Of one that is not in force, as far as that is remembered."""
        return self._ends.get(lease_id, "it was released, or its time ran out")

    def reading(self, udid: str) -> UsageReading:
        """What a device's lease says of its usage; idle: it has none."""
        lease = self.of(udid)
        if lease is None:
            return UsageReading(Usage.IDLE)
        holder = f"{lease.holder} ({lease.purpose})" if lease.purpose else lease.holder
        if lease.taken:
            holder += f", taken from {lease.taken}"
        return UsageReading(Usage.IN_USE, holder, since_ms=lease.acquired_ms)

    def held_by(self, udid: str, now_ms: int) -> str:
        """Who has a device that is leased, for what, and for how long."""
        lease = self._leases[self._of_device[udid]]
        age = max(0, now_ms - lease.acquired_ms) // 1000
        what = f" ({lease.purpose})" if lease.purpose else ""
        return f"{udid} is held by {lease.holder}{what} for {age} s"

    # --- beginning and ending --------------------------------------------------------------

    def begin(self, lease: Lease) -> None:
        """A lease of a device that has none."""
        self._leases[lease.id] = lease
        self._of_device[lease.udid] = lease.id

    def give(self, lease: Lease) -> None:
        """One that is new: the device counts as used now, and the lease is tied once."""
        self._used_ms[lease.udid] = lease.acquired_ms
        self._ties[lease.id] = 1
        self.begin(lease)

    def renew(self, lease_id: str, now_ms: int) -> Lease:
        """It lasts another TTL from now; UnknownLeaseError."""
        renewed = self._leases[lease_id] = lasting(self.get(lease_id), now_ms)
        return renewed

    def tie(self, lease_id: str, now_ms: int) -> Lease:
        """It lasts until it is untied as often; UnknownLeaseError."""
        renewed = self.renew(lease_id, now_ms)
        self._ties[lease_id] += 1
        return renewed

    def untie(self, lease_id: str) -> bool:
        """One tie fewer of a lease in force; whether none is left."""
        self._ties[lease_id] -= 1
        if self._ties[lease_id] > 0:
            return False
        del self._ties[lease_id]
        return True

    def is_tied(self, lease_id: str) -> bool:
        """Whether it has no TTL now."""
        return lease_id in self._ties

    def second_chance(self, lease_id: str, now_ms: int) -> float:
        """The TTL of a lease in force is over: the seconds that it gets all the same; 0: none.

        Once: from now on it is on time, or the agent stood still again.
        """
        lease = self._leases[lease_id]
        if now_ms - lease.expires_ms <= LATE * 1000:
            return 0.0
        longer = min(lease.ttl, SECOND_CHANCE)
        self._leases[lease_id] = replace(lease, expires_ms=now_ms + int(longer * 1000))
        return longer

    def end(self, lease_id: str, why: str) -> None:
        """End a lease in force; `why` is told to who asks for it later."""
        lease = self._leases.pop(lease_id)
        if self._of_device.get(lease.udid) == lease_id:
            del self._of_device[lease.udid]
        self._ties.pop(lease_id, None)
        self._ends[lease_id] = why
        if len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]

    def rename(self, old: str, new: str) -> Lease | None:
        """A device has another UDID; returns its lease as it is now, where it has one.

        One phone may be held under both its names: who had the new one keeps it (`of`), and the
        lease that is returned is to be ended.
        """
        if old in self._used_ms:
            self._used_ms[new] = self._used_ms.pop(old)
        lease_id = self._of_device.pop(old, None)
        if lease_id is None:
            return None
        moved = self._leases[lease_id] = replace(self._leases[lease_id], udid=new)
        self._of_device.setdefault(new, lease_id)
        return moved


def lasting(lease: Lease, now_ms: int) -> Lease:
    """The same, for one TTL from now."""
    return replace(lease, expires_ms=now_ms + int(lease.ttl * 1000))


def newest(stored: Iterable[Lease]) -> tuple[list[Lease], list[Lease]]:
    """One lease of each device, and the others: by a fault, long ago, there may be some.

    One that could not be given is among these: it would never end, or cannot be shown.

    Args:
        stored: oldest first.
    """
    kept: dict[str, Lease] = {}
    others = []
    for lease in stored:
        if not MIN_TTL <= lease.ttl <= MAX_TTL:
            others.append(lease)
            continue
        if lease.udid in kept:
            others.append(kept[lease.udid])
        kept[lease.udid] = lease
    return list(kept.values()), others


def check(holder: str, text: str, ttl: float, wait: float) -> None:
    """What may be asked for.

    Raises:
        LeaseError: no holder's name, text with control characters, or a number out of bounds.
    """
    if not holder.strip():
        raise LeaseError("a lease needs its holder's name")
    if not (holder + text).isprintable():
        raise LeaseError("a lease's holder and purpose are text without control characters")
    if not MIN_TTL <= ttl <= MAX_TTL:
        raise LeaseError(f"a lease's ttl is {MIN_TTL:.0f} to {MAX_TTL:.0f} seconds, not {ttl:g}")
    if not 0 <= wait <= MAX_WAIT:
        raise LeaseError(f"a lease is waited for 0 to {MAX_WAIT:.0f} seconds, not {wait:g}")

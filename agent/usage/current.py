"""What each device's usage is now, by all that is known of it, and who hears when that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Usage, UsageReading
from agent.usage.fusion import Fusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.usage.base import Phone

UNCONFIRMED = "not confirmed since the start"


class CurrentUsage:
    """One reading per device. All methods run on the event loop's thread.

    What changes `fusion` returns the devices that this may concern, which is to go to `tell`.

    Args:
        strength: the agent's own sources, strongest first.
        lease: what a device's lease says of its usage.
        phones: those that are not unplugged now.
        changed: called with a device whose `reading` is another one now; it must not look at once,
            but in a later turn of the loop (`agent.subscribers`).
    """

    def __init__(
        self,
        strength: Sequence[str],
        *,
        lease: Callable[[str], UsageReading],
        phones: Callable[[], Iterable[Phone]],
        changed: Callable[[str], None],
    ) -> None:
        self.fusion = Fusion(strength)
        self._lease = lease
        self._phones = phones
        self._changed = changed
        self._told: dict[str, UsageReading] = {}
        self._assumed: set[str] = set()
        self._closed = False

    def reading(self, udid: str) -> UsageReading:
        """The device's usage as it was told last."""
        return self._told.get(udid, UsageReading())

    def lease_changed(self, udid: str) -> None:
        """A lease on the device began or ended."""
        self.tell(self.fusion.lease(udid, self._lease(udid)))

    def assume(self, udid: str, holder: str) -> None:
        """The device was in use when the agent stopped; no holder: by a lease that goes on.

        A session may have gone on below it, and is looked for before its end ends the use.
        """
        self.fusion.lease(udid, self._lease(udid))  # first: what is assumed may be below it
        self.fusion.assume(udid, holder)
        if self.fusion.is_leased(udid):
            return
        self._assumed.add(udid)
        self._told[udid] = UsageReading(Usage.UNKNOWN, holder, UNCONFIRMED)
        self._changed(udid)

    def confirm(self) -> None:
        """All that can be asked was asked once since the start: what was assumed may end."""
        self.tell(set(self._assumed))
        self._assumed.clear()

    def away(self, udid: str) -> None:
        """The device is unplugged or offline: what is only remembered of its use is over."""
        self.tell(self.fusion.away(udid))

    def meet(self, phones: Iterable[Phone]) -> None:
        """A phone that is new hears of what is unknown already."""
        self.tell({phone.udid for phone in phones} - set(self._told))

    def rename(self, old: str, new: str) -> None:
        """A device has another UDID from now on; its usage has gone over to that one."""
        self.fusion.rename(old, new)
        if old in self._told:
            self._told[new] = self._told.pop(old)
        if old in self._assumed:
            self._assumed.remove(old)
            self._assumed.add(new)
        if new not in self._assumed:  # else `confirm` looks at it
            self.tell({new})
        self._changed(new)  # of the old name something may not have been told yet

    def tell(self, udids: set[str] | None) -> None:
        """The reading of these may have changed; None: of all."""
        if self._closed:
            return
        if udids is None:
            udids = {*self._told, *(phone.udid for phone in self._phones())}
        for udid in udids:
            reading = self.fusion.reading(udid)
            if reading != self.reading(udid):
                self._told[udid] = reading
                self._changed(udid)

    def close(self) -> None:
        """Tell nobody anything any more: that the agent stops is no news of any phone."""
        self._closed = True

"""Whoever follows phones, as the rest of the agent sees it.

`agent.track.pipeline` is the one of a host, with its sources; `agent.fleet.hub.pipeline` the hub's,
which has the agents. What asks about devices is typed by this, and knows neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from agent.config import Config
    from agent.deliver.outbox import Outbox
    from agent.history.watch import Sight
    from agent.model import Battery, Readings, Silence, SourceName
    from agent.track.cause_list import CauseList
    from agent.track.counts import Counts
    from agent.track.hanging import Where
    from agent.track.views import Census, DeviceView, Grounds
    from agent.track.waits import Waiting
    from agent.usage.base import Phone


class TrackedViews(Protocol):
    """The devices as operators, the API and the usage sources see them; looks, changes nothing."""

    def all(self) -> list[DeviceView]:
        """Every device that is shown: known or listed, and not ignored; by UDID."""

    def census(self) -> Census:
        """How many devices are shown in which state."""

    def covered(self, silences: Sequence[Silence]) -> dict[str, int]:
        """How many devices that are shown each silence names, by its id."""

    def one(self, udid: str) -> DeviceView | None:
        """One device by its exact UDID; None: none that is shown."""

    def called(self, name: str) -> list[str]:
        """The UDIDs of devices that are shown and have that name, whatever the case; sorted."""

    def battery(self, udid: str) -> Battery | None:
        """Of a device that is shown; None: not known."""

    def phones(self) -> tuple[Phone, ...]:
        """The devices that are not unplugged, as the usage sources ask for them."""

    def readings(self, udid: str) -> Readings:
        """What all sources together say now of one device that is known."""

    def grounds(self, udid: str) -> Grounds:
        """What the state of a device that is known stands on."""

    def udids(self) -> list[str]:
        """Of every device that is shown, sorted."""

    def where(self, udid: str) -> Where:
        """At which USB port a device hangs, or hung last."""

    def owner(self, source: SourceName, address: str) -> str:
        """Whose that sighting is; "": nobody's who is shown."""


class TrackedRoster(Protocol):
    """Which devices there are, and what each is called."""

    def udids(self) -> list[str]:
        """Of every device that is known, whether it is shown or not; sorted."""

    def find(self, name: str) -> str | None:
        """The UDID of the device that some tool calls so; None: none of ours, or several."""

    def named(self, name: str) -> tuple[str, ...]:
        """The UDIDs of the devices that a name means: its very spelling, else whatever the case."""

    def is_away(self, udid: str) -> bool:
        """Whether it counts as unplugged or offline."""


class Committed(Protocol):
    """What was stored of what they do."""

    outbox: Outbox
    """Which callbacks a transition makes; replaced by a reload."""

    @property
    def counts(self) -> Counts:
        """Since the start."""

    @property
    def causes(self) -> CauseList:
        """What took several phones at once."""


class Tracker(Protocol):
    """Follows phones. All methods run on the event loop's thread."""

    @property
    def views(self) -> TrackedViews:
        """The devices, to be looked at."""

    @property
    def roster(self) -> TrackedRoster:
        """Which there are."""

    @property
    def commits(self) -> Committed:
        """What was stored."""

    @property
    def derives(self) -> bool:
        """Whether states are derived yet."""

    @property
    def down(self) -> Mapping[SourceName, str]:
        """The sources that cannot see, each with its reason."""

    @property
    def enabled(self) -> AbstractSet[SourceName]:
        """The sources that are turned on."""

    @property
    def remote(self) -> AbstractSet[SourceName]:
        """The bridges whose servers run on other hosts."""

    @property
    def waiting(self) -> AbstractSet[SourceName]:
        """The sources that have not said anything since the start."""

    def waits(self, udid: str) -> list[Waiting]:
        """Which webhooks wait for the state of a device that is known to last."""

    @property
    def wait_count(self) -> int:
        """How many wait, for one device each; but for those that a silence keeps back."""

    @property
    def problems(self) -> list[str]:
        """What else does not work, each in a line for operators."""

    def sights(self) -> Mapping[str, Sight]:
        """What can be seen now, by host ("": this one); of whom is missing, nothing."""

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration."""

    def silences_changed(self) -> None:
        """Silences began or ended: what is owed and no longer kept back is told."""

    def overdue(self) -> float:
        """Seconds by which the next timed decision is late; 0 when all is well."""

    def store_again(self) -> None:
        """Store every device's last state anew: the store was made anew, and may not know it."""

    def stop(self) -> None:
        """Decide nothing more, whatever is said from now on: the agent stops."""

    async def close(self) -> None:
        """`stop`, and wait until everything decided is durable (or the store has refused it)."""

"""The way from an observation to a stored transition: identify → derive → commit → hand on.

One object on the event loop, called by the sources (`observe`), by usage (`use`) and by time. It
decides nothing itself: who a phone is stands in `identity`, which phones are shown in `roster`,
which state one is in in `derive`. Between a reading and the store's call there is no await, so the
store commits in the order of what was seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog

from agent.history.watch import Sight
from agent.model import BatteryRead, Snapshot, SourceName, UsageReading
from agent.track.battery import shown, words
from agent.track.causes import Causes
from agent.track.deriver import Deriver
from agent.track.identity import Identities
from agent.track.records import known_of, restored
from agent.track.roster import Roster, Tracked
from agent.track.settings import Settings
from agent.track.views import Views
from agent.track.waits import count, known, owed_of, waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.clock import Clock
    from agent.config import Config
    from agent.model import Battery, DeviceRecord, Observation
    from agent.track.commits import Commits
    from agent.track.silences import Silences
    from agent.track.waits import Waiting

log = structlog.get_logger(__name__)


class Pipeline:
    """Owns what is known of every device. All methods run on the event loop's thread.

    Args:
        config: the one in force.
        records: the devices as stored, at the start.
        silences: whose callbacks are kept back; tell `silences_changed` of every change of them.
        commits: takes what counts.
        clock: of the process.
        recheck: has a source tell the whole truth anew; see `pace.Questions`.
        on_seen: called once every source has spoken; who takes it calls `start_deriving`.
        changed: called with the UDID at every change of a device's view, its end included, within
            the step that changes it: it is to publish that, and to do nothing else.
        renamed: called with (old, new) whenever a device gets another UDID. Its usage, as it was
            told to `use`, has gone over to the new one by then. Within the reading that renames
            it, so that it has its new name in all books in the same turn.
        battery_changed: called with the UDID where nothing but the battery of a view may have
            changed, which is often; as `changed`.
    """

    def __init__(
        self,
        config: Config,
        records: Iterable[DeviceRecord],
        silences: Silences,
        commits: Commits,
        clock: Clock,
        recheck: Callable[[SourceName], Awaitable[None] | None],
        on_seen: Callable[[], None],
        changed: Callable[[str], None],
        renamed: Callable[[str, str], None],
        battery_changed: Callable[[str], None],
    ) -> None:
        records = list(records)
        settings = Settings.of(config)
        self._identities = Identities(
            sources=settings.sources,
            known=map(known_of, records),
            remote=settings.remote,
            network=settings.network,
        )
        self.roster = Roster(config, settings.platforms, self._identities)
        self._silences = silences
        self.views = Views(self.roster, self._identities, silences)
        self.commits = commits
        self._deriver = Deriver(
            settings,
            self._identities.devices,
            self.roster,
            Causes(_cause_id),
            self.views,
            silences,
            commits,
            clock,
            recheck,
            changed,
            self._on_idle,
        )
        self._clock = clock
        self._limits = config.battery
        self._changed = changed
        self._battery_changed = battery_changed
        self._renamed = renamed
        self._on_seen = on_seen
        self._seen = False
        self._derives = False
        self._first_derived = asyncio.Event()
        for record in records:
            owed = known(owed_of(record)[0], commits.outbox.webhooks.keys())
            tracked = Tracked(restored(record), since_ms=record.since_ms, stored=record, owed=owed)
            self.roster.put(record.udid, tracked)
        self._know_listed()

    # --- input -----------------------------------------------------------------------------

    def observe(self, observation: Observation | BatteryRead) -> None:
        """Take what a source saw."""
        if isinstance(observation, BatteryRead):
            self._take_battery(observation)
            return
        self._deriver.look()  # first of all: a gap is to be noticed before what is said after it
        source = observation.source
        if isinstance(observation, Snapshot) and source not in self._identities.sources.waiting:
            self.commits.counts.reconnects[source] += source in self._identities.sources.down
        touched = self._identities.apply(observation)
        self.roster.renamed()
        self._follow_renames()
        self._drop_batteries(touched)
        if self._derives:
            self._deriver.derive(touched)
        elif self._identities.sources.all_spoke and not self._seen:
            self._seen = True
            self._on_seen()

    def use(self, udid: str, reading: UsageReading) -> None:
        """Take what the usage sources, fused, say of one device."""
        if reading == UsageReading() and self.roster.known(udid) is None:
            return  # by a name that it had until just now
        tracked = self.roster.tracked(udid)
        if tracked.usage != reading:
            tracked.usage = reading
            if self._derives:
                self._deriver.derive({udid})

    def start_deriving(self) -> None:
        """Start deriving: every source has spoken, or the start-up limit has passed."""
        if self._derives:
            return
        silent = self._identities.sources.waiting
        if silent:
            log.warning("start.limit", silent=sorted(silent), hint="their readings are unknown")
            self._identities.give_up_waiting()
        self._derives = True
        # The end of this says that the first states are there.
        self._deriver.derive(self._identities.devices.udids)

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration; a source whose settings changed is restarted by the caller.

        A phone that nothing can see any more, because what saw it is turned off, is shown no more,
        and makes no transition.
        """
        before = self._shown()
        settings = Settings.of(config)
        self._deriver.settings = settings
        self._limits = config.battery
        webhooks = self.commits.outbox.webhooks.keys()
        for each in self.roster.all_tracked():
            each.owed = known(each.owed, webhooks)
        self.roster.reconfigure(config, settings.platforms)
        touched = self._identities.reconfigure(
            sources=settings.sources, remote=settings.remote, network=settings.network
        )
        self._know_listed()
        self._follow_renames()
        self._drop_batteries(touched)
        for udid in self._identities.devices.udids:
            tracked = self.roster.known(udid)
            if tracked is not None and tracked.battery is not None:
                self._show_battery(udid, tracked, tracked.battery)
        if self._derives:
            self._deriver.derive(self._identities.devices.udids)
        for udid in touched:
            tracked = self.roster.known(udid)
            if tracked is not None and tracked.stored is not None and not self.roster.derives(udid):
                # A restart, too, is to know that nothing that is turned on has seen it.
                self._deriver.refresh(udid, tracked, tracked.track)
        for udid in before ^ self._shown():
            self._changed(udid)

    def silences_changed(self) -> None:
        """Silences began or ended: what is owed and no longer kept back is told."""
        others = self._silences.take_changes()
        owing = []
        for udid in self._identities.devices.udids:
            device = self.roster.device(udid)
            if others.names(device):
                self._changed(udid)
                tracked = self.roster.known(udid)
                if tracked is None or not (tracked.owed.debt or tracked.owed.by):
                    continue
                if not self._silences.of(device):
                    owing.append(udid)
        if self._derives:
            self._deriver.pay(owing)

    # --- output ----------------------------------------------------------------------------

    @property
    def derives(self) -> bool:
        """Whether states are derived yet."""
        return self._derives

    async def first_derived(self) -> None:
        """Return once states are derived."""
        await self._first_derived.wait()

    @property
    def down(self) -> dict[SourceName, str]:
        """The sources that cannot see, each with its reason."""
        return {name: reason.text for name, reason in self._identities.sources.down.items()}

    @property
    def enabled(self) -> frozenset[SourceName]:
        """The sources that are turned on."""
        return self._identities.sources.enabled

    @property
    def remote(self) -> frozenset[SourceName]:
        """The bridges whose servers run on other hosts."""
        return self._identities.sources.remote

    @property
    def waiting(self) -> frozenset[SourceName]:
        """The sources that have not said anything since the start."""
        return self._identities.sources.waiting

    def waits(self, udid: str) -> list[Waiting]:
        """Which webhooks wait for the state of a device that is known to last."""
        tracked = self.roster.known(udid)
        if tracked is None or tracked.track.state is None:
            return []
        return waiting(tracked.owed, tracked.track.state, self.commits.outbox)

    @property
    def wait_count(self) -> int:
        """How many wait, for one device each; but for those that a silence keeps back."""
        return count(tracked.owed for tracked in self.roster.all_tracked())

    def sights(self) -> dict[str, Sight]:
        """What the sources see of this host's phones; nothing, while no state is derived."""
        if not self._derives:
            return {}
        states = self._identities.sources
        sees = {each: each not in states.down for each in states.enabled}
        if states.udev_missing and not sees.get(SourceName.UDEV):
            sees.pop(SourceName.UDEV, None)  # it was never there
        return {"": Sight(sees)}

    @property
    def problems(self) -> list[str]:
        """None that is not said of its sources."""
        return []

    def overdue(self) -> float:
        """Seconds by which the next timed decision is late; 0 when all is well."""
        return self._deriver.overdue()

    def store_again(self) -> None:
        """Store every device's last state anew: the store was made anew, and may not know it."""
        for tracked in self.roster.all_tracked():
            if tracked.stored is not None:
                self.commits.keep(tracked.stored)

    def stop(self) -> None:
        """Decide nothing more, whatever is said from now on: the agent stops."""
        self._deriver.stop()

    async def close(self) -> None:
        """`stop`, and wait until everything decided is durable (or the store has refused it)."""
        self.stop()
        await self.commits.drain()

    # --- inside ----------------------------------------------------------------------------

    def _take_battery(self, read: BatteryRead) -> None:
        """What a phone told of its battery: it may change a reason, and never a state."""
        udid = self._identities.devices.owner.get((read.source, read.address))
        device = self._identities.devices.get(udid)
        if udid is None or device is None or not device.ready:
            return
        tracked = self.roster.tracked(udid)
        tracked.battery_ms = self._clock.wall_ms()
        self._show_battery(udid, tracked, read.battery)

    def _show_battery(self, udid: str, tracked: Tracked, reading: Battery | None) -> None:
        before = tracked.battery
        now = None if reading is None else shown(reading, before, self._limits)
        tracked.battery = now
        if now != before:
            self._battery_changed(udid)
            if self._derives and words(now) != words(before):
                self._deriver.derive({udid})

    def _drop_batteries(self, touched: Iterable[str]) -> None:
        """Of a phone that cannot be used (any more) it is not known."""
        for udid in touched:
            tracked, device = self.roster.known(udid), self._identities.devices.get(udid)
            gone = device is None or not device.ready
            if gone and tracked is not None and tracked.battery is not None:
                tracked.battery = None
                self._battery_changed(udid)

    def _shown(self) -> set[str]:
        return {udid for udid in self._identities.devices.udids if self.roster.shown(udid)}

    def _know_listed(self) -> None:
        for udid in self.roster.know_listed():
            self._changed(udid)

    def _follow_renames(self) -> None:
        """What was known of a phone under a name that no transition told goes to its new one."""
        for old, new in self._identities.devices.take_renames():
            log.info("identity.renamed", udid=new, before=old)
            tracked = self.roster.forget(old)
            known = self.roster.known(new)
            stored = None if tracked is None else tracked.stored
            if stored is not None and (stored.debt or stored.waits):
                # Its row stays under the old name, of which nothing is owed any more.
                self.commits.keep(replace(stored, debt="", waits=""))
            moved = tracked is not None and known is None
            if tracked is not None:
                if known is None:
                    self.roster.put(new, tracked)
                elif known.usage == UsageReading():
                    known.usage = tracked.usage
            self._deriver.rename(old, new, moved=moved)
            self._renamed(old, new)
            self._changed(old)

    def _on_idle(self) -> None:
        if self._derives:
            self._first_derived.set()


def _cause_id() -> str:
    return f"cause-{token_hex(6)}"

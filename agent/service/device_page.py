"""All that is known of one device: its row, why it is so, who has it, and what it went through."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Final, TypedDict

from agent.clock import timestamp
from agent.errors import UnknownDeviceError
from agent.model import BRIDGE_OF, Bridge, DeviceState, Presence, SourceName, Usage
from agent.service.deliveries import DeliveryRow  # noqa: TC001 - read by the schema
from agent.service.devices import DeviceRow, TransitionRow, transition_row
from agent.service.leases import LeaseRow  # noqa: TC001 - likewise
from agent.service.rows import Also, Cursor, Time, cursor_of, iso, limit_of
from agent.service.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model import Sighting
    from agent.service.deliveries import Deliveries
    from agent.service.devices import Devices
    from agent.service.leases import LeasesServed
    from agent.service.live import Live
    from agent.store import Store, StoredTransition
    from agent.track.tracker import Tracker
    from agent.track.views import Grounds

SHOWN: Final = 50
"""Transitions that one device is shown with."""
MAX_ROWS: Final = 100
"""Transitions of one answer."""
MAX_CALLBACKS: Final = 2_000
"""Callbacks of one answer: a page of many webhooks ends earlier, with whole transitions."""


class ReadingsRow(TypedDict):
    """What a device's sources say of it now; since when, as far as this agent has watched."""

    presence: Presence
    presence_reason: str
    presence_since: Time | None
    """null: not read yet, like `bridge_since`."""
    bridge: Bridge
    bridge_reason: str
    bridge_since: Time | None
    bridge_source: SourceName | None
    """Who says it. null: the device was never seen."""
    usage: Usage
    usage_reason: str
    usage_since: Time | None
    """null: not known, or nobody has used it since the start."""
    holder: str
    """Who uses it, or did when the usage was last known."""


class SightingRow(TypedDict):
    """A device as one source sees it now."""

    source: SourceName
    address: str
    """The source's own name for it."""
    serial: str
    port: str
    network: bool
    """Over the network."""
    says: str
    """udev: what its descriptors say that it is. adb and usbmux: `ready`, `not ready` or
    `unknown`."""
    reason: str


WaitRow = TypedDict(
    "WaitRow",
    {
        "webhook_id": int,
        "webhook": str,
        "from": DeviceState | None,
        "until": Time,
    },
)
"""A webhook that is told of the device's state if it lasts until then: of the move from the state
that the webhook goes by, null: never seen. A silence may keep it back for longer."""


class DeviceTransitionRow(TransitionRow):
    """A device went from one state to another, and what that made."""

    callbacks: list[DeliveryRow]
    """Those that are stored yet."""


class DeviceTransitions(TypedDict):
    """What one device went through."""

    transitions: list[DeviceTransitionRow]
    """Newest first."""
    next: Cursor | None
    """Of the next page; null: these were the last."""


class DeviceDetail(DeviceRow):
    """One device, and why it is as it is."""

    aliases: list[str]
    """What else it is called: other spellings of its serial, its address on the network."""
    readings: ReadingsRow
    sightings: list[SightingRow]
    """What each source sees of it now."""
    waits: list[WaitRow]
    """The webhooks that wait for its state to last (`after`)."""
    lease: LeaseRow | None
    """In force on it."""
    transitions: list[DeviceTransitionRow]
    """The last 50, newest first; `/v1/devices/{udid}/transitions` has more."""
    next: Cursor | None
    """Of the page there that goes on; null: these are all."""


class TransitionFilters(TypedDict, total=False):
    """Which transitions are listed."""

    limit: Annotated[int, Also(minimum=1, maximum=MAX_ROWS, default=SHOWN)]
    """At most so many."""
    cursor: Cursor
    """Where the page before ended: its `next`."""


class DevicePage:
    """Puts together what others know.

    Args:
        live: the webhooks' names.
        pipeline: follows the devices.
        store: what they went through.
        devices: which one is meant, and its row.
        leases: who has it.
        deliveries: rows of callbacks.
    """

    def __init__(
        self,
        live: Live,
        pipeline: Tracker,
        store: Store,
        devices: Devices,
        leases: LeasesServed,
        deliveries: Deliveries,
    ) -> None:
        self._live = live
        self._pipeline = pipeline
        self._store = store
        self._devices = devices
        self._leases = leases
        self._deliveries = deliveries

    async def show(self, text: str) -> DeviceDetail:
        """All of one device.

        Raises:
            UnknownDeviceError: none is meant; the message names the nearest.
            StoreError: the store cannot be read.
        """
        udid = self._devices.udid(text)
        page = await self._page(udid, SHOWN, None)
        row = self._devices.row(udid)
        if row is None:
            raise UnknownDeviceError(f"no device {text!r}: it was there a moment ago")
        grounds = self._pipeline.views.grounds(udid)
        return {
            **row,
            "aliases": list(grounds.aliases),
            "readings": _readings(row, grounds),
            "sightings": [_sighting(each) for each in grounds.sightings],
            "waits": [
                {
                    "webhook_id": each.webhook,
                    "webhook": self._live.webhooks[each.webhook].name,
                    "from": each.previous,
                    "until": timestamp(each.until_ms),
                }
                for each in self._pipeline.waits(udid)
                if each.webhook in self._live.webhooks
            ],
            "lease": self._leases.of(udid),
            "transitions": page["transitions"],
            "next": page["next"],
        }

    async def transitions(self, text: str, query: Mapping[str, str]) -> DeviceTransitions:
        """A page of what one device went through; `query` has keys of `TransitionFilters`.

        Raises:
            ValueError: a filter makes no sense.
            UnknownDeviceError, StoreError: as `show`.
        """
        if unknown := query.keys() - TransitionFilters.__annotations__.keys():
            raise ValueError(f"unknown filter {min(unknown)!r}")
        before = cursor_of(query["cursor"]) if "cursor" in query else None
        limit = limit_of(query, SHOWN, MAX_ROWS)
        return await self._page(self._devices.udid(text), limit, before)

    async def _page(self, udid: str, limit: int, before: int | None) -> DeviceTransitions:
        """At most so many, from before that transition on."""
        stored = await self._store.transitions.of(udid, limit + 1, before)
        more, stored = len(stored) > limit, stored[:limit]
        moments = list(dict.fromkeys(each.transition.at_ms for each in stored))
        made = await self._store.deliveries.made_at(udid, moments, MAX_CALLBACKS)
        if len(made) == MAX_CALLBACKS:
            # The last moment that was reached may not be whole: it begins the next page.
            reached = set(moments[: moments.index(made[-1].callback.created_ms)])
            if whole := [each for each in stored if each.transition.at_ms in reached]:
                more, stored = True, whole
        slices = Slices()
        callbacks: defaultdict[tuple[int, str | None], list[DeliveryRow]] = defaultdict(list)
        for each in made:
            callback = each.callback
            callbacks[callback.created_ms, callback.state].append(self._deliveries.row(each))
            await slices.let_go()
        view = self._pipeline.views.one(udid)
        rows: list[DeviceTransitionRow] = []
        for one in stored:
            moved = one.transition.at_ms, one.transition.state
            rows.append(
                {
                    **transition_row(one, view, self._devices.host),
                    "callbacks": callbacks.get(moved, []),
                }
            )
            await slices.let_go()
        return {"transitions": rows, "next": _next(stored) if more else None}


def _next(stored: list[StoredTransition]) -> str:
    return str(stored[-1].id)


def _readings(row: DeviceRow, grounds: Grounds) -> ReadingsRow:
    readings, platform = grounds.readings, row["platform"]
    return {
        "presence": readings.presence,
        "presence_reason": readings.presence_reason,
        "presence_since": iso(grounds.presence_ms),
        "bridge": readings.bridge,
        "bridge_reason": readings.bridge_reason,
        "bridge_since": iso(grounds.bridge_ms),
        "bridge_source": None if platform is None else BRIDGE_OF[platform],
        "usage": readings.usage,
        "usage_reason": readings.usage_reason,
        "usage_since": iso(grounds.usage_ms),
        "holder": readings.holder,
    }


def _sighting(sighting: Sighting) -> SightingRow:
    return {
        "source": sighting.source,
        "address": sighting.address,
        "serial": sighting.serial,
        "port": sighting.port,
        "network": sighting.network,
        "says": str(sighting.usb or sighting.bridge or ""),
        "reason": sighting.reason,
    }

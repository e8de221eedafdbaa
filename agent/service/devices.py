"""The devices: their rows, and which one is meant."""

from __future__ import annotations

from bisect import bisect
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from agent.clock import timestamp
from agent.errors import UnknownDeviceError
from agent.model import BatteryHealth, DeviceState, Platform, Visibility
from agent.service.rows import CauseId, MessageId, Place, ReasonCodeText, Time, iso
from agent.service.slices import Slices
from agent.text import near
from agent.udid import alike

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Battery
    from agent.store import StoredTransition
    from agent.track.tracker import Tracker
    from agent.track.views import DeviceView

_FEW = 5
"""Devices that are named where none is near."""
_MANY = 500
"""Of more devices not all are compared with a name that is none: a likeness takes its time."""


class SilencedRow(TypedDict):
    """What keeps a device's callbacks back."""

    id: str
    """Of the silence; of several the one that ends last."""
    reason: str
    ends: Time


class BatteryRow(TypedDict):
    """A phone's battery; null: it did not tell that, or told what makes no sense."""

    level: int | None
    """Percent."""
    temperature: float | None
    """Degrees Celsius; iPhones do not tell it."""
    health: BatteryHealth | None
    charging: bool | None
    hot: bool
    """By `hot` of [battery]: it is given last to who asks for any device. So is `low`."""
    low: bool
    at: Time
    """When it was read, as of this row."""


class DeviceRow(TypedDict):
    """One device."""

    udid: str
    """Android: the serial; iOS: the UDID with its dash."""
    name: str
    platform: Platform | None
    """null: never seen."""
    state: DeviceState
    reason: str
    """Why it is in that state, for people."""
    reason_code: ReasonCodeText
    cause_id: CauseId
    since: Time | None
    """Of the state. null: never seen."""
    holder: str
    """Who uses it."""
    port: str
    """USB port path, `1-4.2`."""
    tags: list[str]
    visibility: Visibility
    flapping: bool
    """It changes too often to be believed."""
    model: str
    silence: SilencedRow | None
    """null: its transitions call back."""
    told: DeviceState | None
    """The state that webhooks go by: the one before, where a silence kept something back."""
    host: str
    """Of the agent that follows it."""
    battery: BatteryRow | None
    """null: it is not known; it is read by the probe of phones that can be used."""


_Move = TypedDict("_Move", {"from": DeviceState | None, "to": DeviceState})


class TransitionRow(_Move):
    """A device went from one state to another."""

    id: MessageId
    """Of its message in `/v1/events`."""
    at: Time
    udid: str
    name: str
    """As of now, like platform and tags."""
    platform: Platform | None
    tags: list[str]
    reason: str
    reason_code: ReasonCodeText
    cause_id: CauseId
    holder: str
    port: str
    """USB port path at which it hung then, or before it left. Empty: not known."""
    host: str
    """Of the agent that followed it then."""


class Devices:
    """Reads the pipeline's views.

    Args:
        pipeline: follows them.
        host: this one's name.
    """

    def __init__(self, pipeline: Tracker, host: str) -> None:
        self._pipeline = pipeline
        self.host = host

    async def rows(self) -> list[DeviceRow]:
        """Rows of `/v1/devices`, by UDID: thousands are made in several turns of the loop."""
        rows, slices = list[DeviceRow](), Slices()
        for udid in self._pipeline.roster.udids():
            if (view := self._pipeline.views.one(udid)) is not None:
                rows.append(device_row(view, self.host))
            await slices.let_go()
        return rows

    def row(self, udid: str) -> DeviceRow | None:
        """One device's, by its exact UDID; None: there is none that is shown."""
        view = self._pipeline.views.one(udid)
        return None if view is None else device_row(view, self.host)

    def platform(self, udid: str) -> Platform | None:
        """`android` or `ios`; None: it was never seen."""
        view = self._pipeline.views.one(udid)
        return view.platform if view else None

    def udid(self, text: str) -> str:
        """The device meant: of that very UDID; else of the only one that is written alike.

        Letter case and dashes do not matter, but behind an `@`; a serial or an address of the phone
        will do.

        Raises:
            UnknownDeviceError: none is, or more than one; the message names them, or the nearest.
        """
        if self._pipeline.views.one(text) is not None:
            return text
        meant = [
            view
            for udid in self._pipeline.roster.named(text)
            if (view := self._pipeline.views.one(udid))
        ]
        if len(meant) == 1:
            return meant[0].udid
        if meant:
            which = " or ".join(map(_called, meant))
            raise UnknownDeviceError(f"{text!r} may be {which}: write its UDID as it is here")
        raise UnknownDeviceError(f"no device {text!r}: {_nearest(text, self._pipeline)}")


def _nearest(text: str, pipeline: Tracker) -> str:
    views, udids = pipeline.views, pipeline.roster.udids()
    among = udids if len(udids) <= _MANY else _neighbours(text, udids)
    written = {alike(udid): view for udid in among if (view := views.one(udid)) is not None}
    by_name = [view for udid in views.called(text)[:_FEW] if (view := views.one(udid))]
    close = near(alike(text), written, 3, 0.5)
    meant = dict.fromkeys(map(_called, [*by_name, *(written[each] for each in close)]))
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    count = views.census().shown
    if not count:
        return "no device is known yet"
    first = islice((udid for udid in udids if views.one(udid) is not None), _FEW)
    more = f" and {count - _FEW} more" if count > _FEW else ""
    return f"known: {', '.join(first)}{more}"


def _neighbours(text: str, udids: Sequence[str]) -> list[str]:
    """Those of many that begin as the text does or end so: what is beside it in their order."""
    found: list[str] = []
    for way in (1, -1):
        spelled = {udid.casefold()[::way]: udid for udid in udids}
        order = sorted(spelled)
        at = bisect(order, text.casefold()[::way])
        found += (spelled[each] for each in order[max(0, at - _MANY // 8) : at + _MANY // 8])
    return sorted(set(found))


def _called(view: DeviceView) -> str:
    return f"{view.udid} ({view.name})"


def device_row(view: DeviceView, host: str) -> DeviceRow:
    """One device's row; `host`: this one."""
    silence = view.silence
    return {
        "udid": view.udid,
        "name": view.name,
        "platform": view.platform,
        "state": view.state,
        "reason": view.reason,
        "reason_code": view.code,
        "cause_id": view.cause,
        "since": iso(view.since_ms),
        "holder": view.holder,
        "port": view.port,
        "tags": list(view.tags),
        "visibility": view.visibility,
        "flapping": view.flapping,
        "model": view.model,
        "silence": None
        if silence is None
        else {"id": silence.id, "reason": silence.reason, "ends": timestamp(silence.ends_ms)},
        "told": view.told,
        "host": view.host or host,
        "battery": None if view.battery is None else _battery_row(view.battery),
    }


def _battery_row(battery: Battery) -> BatteryRow:
    return {
        "level": battery.level,
        "temperature": battery.temperature,
        "health": battery.health,
        "charging": battery.charging,
        "hot": battery.hot,
        "low": battery.low,
        "at": timestamp(battery.at_ms),
    }


def transition_row(stored: StoredTransition, view: DeviceView | None, host: str) -> TransitionRow:
    """One transition's row; name, platform and tags are those of now. `host`: this one."""
    transition = stored.transition
    return {
        "id": str(Place(stored.id, transition.at_ms)),
        "at": timestamp(transition.at_ms),
        "udid": transition.udid,
        "name": view.name if view else transition.udid,
        "platform": view.platform if view else None,
        "tags": list(view.tags) if view else [],
        "from": transition.previous,
        "to": transition.state,
        "reason": transition.reason,
        "reason_code": transition.code,
        "cause_id": transition.cause,
        "holder": transition.holder,
        "port": transition.port,
        "host": transition.host or host,
    }

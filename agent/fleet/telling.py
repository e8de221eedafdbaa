"""What this agent tells of its phones: what is stored of them, with what is shown of them now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.fleet.words import BatteryTold, DeviceTold, SilenceTold, TransitionTold
from agent.model import BRIDGE_OF, DeviceState, SourceName, Visibility
from agent.text import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.fleet.own import DevicesShown
    from agent.history.watch import Sight
    from agent.model import Battery, DeviceRecord
    from agent.store.tables.log import LogRow
    from agent.track.views import DeviceView


def down_of(sights: Mapping[str, Sight]) -> tuple[str, ...]:
    """The sources that cannot see this agent's phones; those that are turned off see nobody."""
    own = sights.get("")
    if own is None:
        return tuple(SourceName)
    bridges = {bridge for bridge in BRIDGE_OF.values() if bridge not in own.sees}
    return tuple(sorted(bridges | {each for each, sees in own.sees.items() if not sees}))


def device_told(record: DeviceRecord, event: int, devices: DevicesShown, now_ms: int) -> DeviceTold:
    """A device as it is stored; who is not shown (any more) is told as `ignore`."""
    view = devices.one(record.udid)
    if view is None:
        return DeviceTold(
            udid=record.udid,
            platform=record.platform,
            state=record.state,
            since_ms=record.since_ms,
            event=event,
            reason=record.reason,
            holder=record.holder,
            name=whole(record.name or record.model or record.udid),
            model=record.model,
            port=record.port,
            code=record.code,
            cause=record.cause,
            usb=_on_usb(record.ways.split()),
            visibility=Visibility.IGNORE,
        )
    return DeviceTold(
        udid=record.udid,
        platform=record.platform,
        state=record.state,
        since_ms=record.since_ms,
        event=event,
        reason=record.reason,
        holder=record.holder,
        name=whole(view.name),
        model=whole(view.model),
        port=view.port,
        usb=_usb(record, devices),
        tags=view.tags,
        visibility=view.visibility,
        flapping=view.flapping,
        silence=_silence(view, now_ms),
        code=record.code,
        cause=record.cause,
        battery=None if view.battery is None else _battery(view.battery),
    )


def transition_told(
    host: str, epoch: int, row: LogRow, devices: DevicesShown, now_ms: int
) -> TransitionTold:
    """A row of the log, with what it does not say of its device as it is now."""
    stored = row.stored
    transition = stored.transition
    now = device_told(row.device, stored.id, devices, now_ms)
    return TransitionTold(
        host=host,
        epoch=epoch,
        id=stored.id,
        check=row.check,
        before=row.before,
        previous=transition.previous,
        at_ms=transition.at_ms,
        device=now.model_copy(
            update={
                "state": transition.state,
                "since_ms": transition.at_ms,
                "reason": transition.reason,
                "holder": transition.holder,
                "code": transition.code,
                "cause": transition.cause,
                "port": transition.port or now.port,
            }
        ),
    )


def _silence(view: DeviceView, now_ms: int) -> SilenceTold | None:
    silence = view.silence
    if silence is None:
        return None
    left = max(0.0, (silence.ends_ms - now_ms) / 1000)
    return SilenceTold(id=silence.id, reason=silence.reason, left=left)


def _battery(battery: Battery) -> BatteryTold:
    return BatteryTold(
        level=battery.level,
        temperature=battery.temperature,
        health=battery.health.value if battery.health else "",
        charging=battery.charging,
        hot=battery.hot,
        low=battery.low,
        at_ms=battery.at_ms,
    )


def _usb(record: DeviceRecord, devices: DevicesShown) -> bool:
    """Seen over USB now; of one that nobody sees: when it was seen last."""
    sightings = devices.seen(record.udid)
    if sightings and record.state is not DeviceState.UNPLUGGED:
        return any(not each.network for each in sightings)
    return _on_usb(record.ways.split())


def _on_usb(ways: list[str]) -> bool:
    """`adb udev`, `adb-network`: the way of the network alone says so; of none we know nothing."""
    return not ways or any(not way.endswith("-network") for way in ways)

"""The devices: their rows, and which one is meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from agent.errors import UnknownDeviceError
from agent.pipeline import fold
from agent.service.rows import Place, iso

if TYPE_CHECKING:
    from agent.pipeline import DeviceView, Pipeline
    from agent.service.rows import Json
    from agent.store import Store, StoredTransition

SHOWN = 50
"""Transitions that one device is shown with."""


class Devices:
    """Reads the pipeline's views."""

    def __init__(self, pipeline: Pipeline, store: Store) -> None:
        self._pipeline = pipeline
        self._store = store

    def rows(self) -> list[Json]:
        """Rows of `/v1/devices`, by UDID."""
        return [device_row(view) for view in self._pipeline.views()]

    async def show(self, text: str) -> Json:
        """One device's row, what is read of it now, and what it went through, newest first.

        A UDID as a row has it is that row's, whoever else has that serial: this only looks.

        Raises:
            UnknownDeviceError: none is meant; the message names the nearest.
            StoreError: the store cannot be read.
        """
        udid = text if self._pipeline.view(text) is not None else self.udid(text)
        stored = await self._store.transitions_of(udid, SHOWN)
        view = self._pipeline.view(udid)
        if view is None:
            raise UnknownDeviceError(f"no device {text!r}: it was there a moment ago")
        readings = self._pipeline.readings(udid)
        return {
            **device_row(view),
            "readings": {
                "presence": str(readings.presence),
                "presence_reason": readings.presence_reason,
                "bridge": str(readings.bridge),
                "bridge_reason": readings.bridge_reason,
                "usage": str(readings.usage),
                "usage_reason": readings.usage_reason,
            },
            "transitions": [transition_row(each, view) for each in stored],
        }

    def platform(self, udid: str) -> str | None:
        """`android` or `ios`; None: it was never seen."""
        view = self._pipeline.view(udid)
        return str(view.platform) if view and view.platform else None

    def udid(self, text: str) -> str:
        """The one device meant, by its UDID, its serial or its address.

        The very spelling goes before one that differs in case or dashes. A serial that two phones
        have means neither, even where the UDID of one is that plain serial.

        Raises:
            UnknownDeviceError: none is, or several are; the message names them, or the nearest.
        """
        meant = [view for udid in self._pipeline.named(text) if (view := self._pipeline.view(udid))]
        if len(meant) == 1:
            return meant[0].udid
        if meant:
            which = " or ".join(
                f"{self._pipeline.own_name(view.udid)} ({view.name}, "
                f"{f'at port {view.port}' if view.port else 'at no known port'}, {view.state})"
                for view in meant
            )
            raise UnknownDeviceError(f"{text!r} means {len(meant)} devices: say which, {which}")
        views = self._pipeline.views()
        by_fold = {fold(view.udid): view.udid for view in views}
        near = difflib.get_close_matches(fold(text), list(by_fold), n=3, cutoff=0.5)
        by_name = [v.udid for v in views if v.name.casefold() == text.casefold()]
        names = {view.udid: view.name for view in views}
        shown = [f"{udid} ({names[udid]})" for udid in [*by_name, *(by_fold[n] for n in near)]]
        if not views:
            hint = "no device is known yet"
        elif shown:
            hint = f"did you mean {' or '.join(dict.fromkeys(shown))}?"
        else:
            hint = f"known: {', '.join(v.udid for v in views[:5])}" + (
                f" and {len(views) - 5} more" if len(views) > 5 else ""  # noqa: PLR2004 - as shown
            )
        raise UnknownDeviceError(f"no device {text!r}: {hint}")


def device_row(view: DeviceView) -> Json:
    """One device as JSON."""
    return {
        "udid": view.udid,
        "name": view.name,
        "platform": str(view.platform) if view.platform else None,
        "state": str(view.state),
        "reason": view.reason,
        "since": iso(view.since_ms),
        "holder": view.holder,
        "port": view.port,
        "tags": list(view.tags),
        "visibility": str(view.visibility),
        "flapping": view.flapping,
        "model": view.model,
    }


def transition_row(stored: StoredTransition, view: DeviceView | None) -> Json:
    """One transition as JSON; name, platform and tags are those of now."""
    transition = stored.transition
    return {
        "id": str(Place(stored.id, transition.at_ms)),
        "at": iso(transition.at_ms),
        "udid": transition.udid,
        "name": view.name if view else transition.udid,
        "platform": str(view.platform) if view and view.platform else None,
        "tags": list(view.tags) if view else [],
        "from": str(transition.previous) if transition.previous else None,
        "to": str(transition.state),
        "reason": transition.reason,
        "holder": transition.holder,
    }

"""A pipeline put together as the agent does it, over a real store and a stub clock."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.config import Delivery, parse
from agent.deliver.outbox import Outbox
from agent.model import (
    Bridge,
    Changed,
    DeviceState,
    Platform,
    Sighting,
    Snapshot,
    SourceName,
    UsbKind,
)
from agent.subscribers import Subscribers, Topic
from agent.track.commits import Commits
from agent.track.pipeline import Pipeline
from agent.track.silences import Silences
from tests.kit import reasons
from tests.kit.clock import StubClock
from tests.kit.store import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.clock import Clock
    from agent.config import Config, Webhook
    from agent.model import Callback, DeviceRecord, Silence
    from agent.store import Store
    from agent.track.commits import Recorder

UDEV, ADB, USBMUX = SourceName.UDEV, SourceName.ADB, SourceName.USBMUX
HOOK = """
[[webhooks]]
id = 129
name = "all"
url = "http://127.0.0.1:1/"
events = ["online", "offline", "utilizing", "unplugged"]
"""
ONLY_ANDROID = "[ios]\nenabled = false\n"
HOST = "host-1"


class _Nowhere:
    """Keeps no silence."""

    async def put(self, silence: Silence) -> None:
        """Forget it."""

    async def delete(self, silence_id: str) -> None:
        """It never was there."""


NOWHERE = _Nowhere()


def nobody_hears() -> None:
    """Nobody subscribed."""


def nobody_to_ask(_source: SourceName) -> None:
    """No source runs that could be asked anew."""


def pipeline_of(
    config: Config,
    webhooks: Mapping[int, Webhook],
    records: Iterable[DeviceRecord],
    store: Recorder,
    notify: Callable[[Sequence[Callback]], None],
    clock: Clock,
    recheck: Callable[[SourceName], Awaitable[None] | None] = nobody_to_ask,
    *,
    stored: Callable[[], None] = lambda: None,
    changed: Callable[[str], None] = lambda _: None,
    renamed: Callable[[str, str], None] = lambda _old, _new: None,
    battery_changed: Callable[[str], None] = lambda _: None,
    silences: Silences | None = None,
) -> Pipeline:
    """Webhooks by id; `notify` is told of the callbacks that are durable."""
    if silences is None:
        silences = Silences((), NOWHERE, clock, nobody_hears)
    commits = Commits(store, Outbox(webhooks, config.org_of, HOST), notify, stored)

    def start_deriving() -> None:
        made.start_deriving()

    made = Pipeline(
        config,
        records,
        silences,
        commits,
        clock,
        recheck,
        start_deriving,
        changed,
        renamed,
        battery_changed,
    )
    return made


def reconfigure(pipeline: Pipeline, config: Config, webhooks: Mapping[int, Webhook]) -> None:
    """A reload, as far as the pipeline goes."""
    pipeline.commits.outbox = Outbox(webhooks, config.org_of, HOST)
    pipeline.reconfigure(config)


def usb(serial: str, port: str = "1-1") -> Sighting:
    return Sighting(UDEV, f"/devices/{port}", serial, Platform.ANDROID, port, UsbKind.ADB)


def adb(serial: str, port: str = "1-1", bridge: Bridge = Bridge.READY, name: str = "") -> Sighting:
    return Sighting(ADB, serial, serial, Platform.ANDROID, port, bridge=bridge, name=name)


def far(address: str, serialno: str = "", bridge: Bridge = Bridge.READY) -> Sighting:
    """A phone on the network, as adb lists it."""
    return Sighting(
        ADB,
        address,
        address,
        Platform.ANDROID,
        bridge=bridge,
        network=True,
        usb_serial=serialno,
    )


class House:
    """A pipeline over a real store, its news, and what it handed on to be sent."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        silences: Silences,
        clock: StubClock,
        news: Subscribers,
    ) -> None:
        self.pipeline = pipeline
        self.silences = silences
        self.news = news
        self.store = store
        self.clock = clock
        self.sent: list[Callback] = []

    def see(self, *sightings: Sighting) -> None:
        for sighting in sightings:
            self.pipeline.observe(Changed(sighting))

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for view in self.pipeline.views.all():
            reasons.check(view.reason, view.code)

    async def heard(self) -> None:
        """What was published is told: a turn of the loop, for one round of it."""
        await asyncio.sleep(0)

    async def came(self) -> list[tuple[str, str]]:
        """(udid, event) of every callback made durable and handed on, in order."""
        await self.pipeline.commits.drain()
        return [
            (body["deviceUdid"], body["eventDescription"])
            for body in (json.loads(callback.body) for callback in self.sent)
        ]

    def state(self, udid: str) -> tuple[DeviceState, str]:
        view = self.pipeline.views.one(udid)
        assert view is not None
        return view.state, view.reason


@asynccontextmanager
async def house(
    tmp_path: Path, text: str = ONLY_ANDROID + HOOK, *, derives: bool = True, **kept: Any
) -> AsyncIterator[House]:
    clock = kept.get("clock") or StubClock()
    config = parse(text, "test.toml")
    store = open_store(tmp_path, clock=clock, settings=kept.get("settings") or Delivery())
    try:
        webhooks = {
            w.id or n: w.model_copy(update={"id": w.id or n}) for n, w in enumerate(config.webhooks)
        }

        def notify(callbacks: Sequence[Callback]) -> None:
            made.sent.extend(callbacks)

        news = Subscribers()
        silences = Silences(
            await store.silences.all(), store.silences, clock, partial(news.publish, Topic.SILENCE)
        )
        made = House(
            pipeline_of(
                config,
                webhooks,
                await store.devices.all(),
                store,
                notify,
                clock,
                kept.get("recheck") or nobody_to_ask,
                stored=partial(news.publish, Topic.TRANSITION),
                changed=kept.get("changed") or news.publisher(Topic.DEVICE),
                renamed=kept.get("renamed") or silences.rename,
                battery_changed=news.publisher(Topic.BATTERY),
                silences=silences,
            ),
            store,
            silences,
            clock,
            news,
        )
        news.subscribe(Topic.SILENCE, lambda _: made.pipeline.silences_changed())
        silences.begin()
        if derives:
            for source in (UDEV, ADB, USBMUX):
                made.pipeline.observe(Snapshot(source, ()))
        yield made
        silences.stop()
        await made.pipeline.commits.drain()
        for record in await store.devices.all():
            reasons.check(record.reason, record.code)
        for _, transition in await store.transitions.after(0, 1000):
            reasons.check(transition.reason, transition.code)
    finally:
        await store.close()

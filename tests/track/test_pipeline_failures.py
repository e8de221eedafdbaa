"""Whatever fails between a reading and its commit costs no transition, and nobody else's."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from agent.config import parse
from agent.model import Bridge, DeviceState
from agent.subscribers import Topic
from tests.kit.clock import StubClock
from tests.kit.tracking import (
    ADB,
    HOOK,
    ONLY_ANDROID,
    UDEV,
    USBMUX,
    adb,
    house,
    pipeline_of,
    reconfigure,
    usb,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.model import Callback, DeviceRecord, Transition
    from agent.store import Store

from agent.model import Snapshot


@contextmanager
def log_that(process: Any) -> Iterator[None]:
    """Have every log line go through that, as the first of structlog's processors.

    The list is changed in its place, as structlog's own `capture_logs` does: loggers keep it.
    """
    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [process, *before]
    try:
        yield
    finally:
        processors[:] = before


async def test_a_log_that_cannot_be_written_costs_no_transition(tmp_path: Path) -> None:
    tried = []

    def broken_pipe(_logger: object, _name: str, event: Any) -> Any:
        tried.append(event["event"])
        raise BrokenPipeError

    async with house(tmp_path) as h:
        told: list[str] = []
        h.news.subscribe(Topic.DEVICE, told.append)
        with log_that(broken_pipe):
            h.see(usb("ce09"), adb("ce09"))
            h.see(adb("ce09", bridge=Bridge.NOT_READY))
            h.wait(5)
            assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]
        assert tried.count("device.transition") == 2
        assert "ce09" in told
        (record,) = await h.store.devices.all()
        assert record.state is DeviceState.OFFLINE


async def test_a_watcher_that_fails_harms_nobody_else_and_is_said(tmp_path: Path) -> None:
    said = []

    def keep(_logger: object, _name: str, event: Any) -> Any:
        said.append(event["event"])
        return event

    def fail(*_what: object) -> None:
        raise RuntimeError("a watcher's own mistake")

    async with house(tmp_path) as h:
        told: list[str] = []
        stored = asyncio.Event()
        h.news.subscribe(Topic.DEVICE, fail, told.append)
        h.news.subscribe(Topic.TRANSITION, fail, lambda _: stored.set())
        with log_that(keep):
            h.see(usb("a", "1-1"), usb("b", "1-2"), adb("a", "1-1"), adb("b", "1-2"))
            assert await h.came() == [("a", "Online"), ("b", "Online")]
            await h.heard()
        assert {"a", "b"} <= set(told)
        assert stored.is_set()
        assert said.count("subscriber.failed") >= 2, "of each topic"


async def test_a_webhook_that_cannot_be_rendered_loses_its_own_callback_alone(
    tmp_path: Path,
) -> None:
    said = []

    def keep(_logger: object, _name: str, event: Any) -> Any:
        said.append((event["event"], event.get("webhook")))
        return event

    async with house(tmp_path) as h:
        config = parse(ONLY_ANDROID + HOOK, "test.toml")
        (good,) = config.webhooks
        bad = good.model_copy(update={"name": "bad", "payload": "standard", "events": 7})
        reconfigure(h.pipeline, config, {1: bad, 129: good})
        with log_that(keep):
            h.see(usb("ce09"), adb("ce09"))
            assert await h.came() == [("ce09", "Online")]
        assert ("callback.not_made", "bad") in said
        assert h.pipeline.commits.counts.lost == 1


class _Fails:
    """A store whose first `record` of a device fails in the call itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failed: set[str] = set()

    def record(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> asyncio.Future[tuple[Callback, ...]]:
        if transition is not None and record.udid not in self.failed:
            self.failed.add(record.udid)
            raise RuntimeError("a mistake of this house")
        return self._store.record(record, transition, callbacks)


async def test_a_step_that_fails_leaves_its_state_and_is_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        clock, config = StubClock(), parse(ONLY_ANDROID + HOOK, "test.toml")
        failing = _Fails(h.store)
        sent: list[Callback] = []
        pipeline = pipeline_of(config, {129: config.webhooks[0]}, [], failing, sent.extend, clock)
        pipeline.observe(Snapshot(UDEV, (usb("a", "1-1"), usb("b", "1-2"))))
        pipeline.observe(Snapshot(USBMUX, ()))
        pipeline.observe(Snapshot(ADB, (adb("a", "1-1"), adb("b", "1-2"))))
        view = pipeline.views.one("a")
        assert view is not None
        assert view.since_ms == 0, "no state that was not committed"
        await pipeline.commits.drain()
        assert (failing.failed, sent) == ({"a", "b"}, [])
        clock.advance(1)
        await pipeline.commits.drain()
        assert [(each.udid, each.state) for each in sent] == [
            ("a", DeviceState.ONLINE),
            ("b", DeviceState.ONLINE),
        ]
        assert clock.armed == []

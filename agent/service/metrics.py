"""What `/metrics` says: the names, and nothing else. The only file that knows prometheus-client.

Imported at the first scrape. Every name stands in docs/monitoring.md, and a test compares. Labels
take few values: webhooks by name and id, never a URL, a device or a person.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from agent.model import DeviceState, Platform
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.histogram import Tally
    from agent.service.scrape import Numbers, WebhookNumbers

    _Labels = tuple[str, ...]
    _Rows = Iterable[tuple[_Labels, float]]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "device_agent_"
_WEBHOOK = ("webhook", "webhook_id")
_STATES = ("good", "failing", "paused", "disabled")
_TARGET_STATES = ("good", "unknown", "unread")


def write(numbers: Numbers) -> Iterator[bytes]:
    """The text format, version 0.0.4, name by name: all of it takes its time."""
    for part in (_agent, _devices, _sources, _webhooks, _store, _usage, _process):
        for family in part(numbers):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Family(family))
            yield generate_latest(registry)


class _Family(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _agent(numbers: Numbers) -> Iterator[Metric]:
    yield InfoMetricFamily(
        f"{_PREFIX}build",
        "Versions of the agent and of its Python; always 1.",
        value={"version": numbers.version, "python": numbers.python},
    )
    yield _gauge("ready", "1 once states are derived and while they can be stored.", numbers.ready)
    yield _gauge(
        "config_last_reload_successful",
        "1 if the last reload was taken; the start counts as one.",
        numbers.reload_ok,
    )
    yield _gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration in force was loaded.",
        numbers.loaded_ms / 1000,
    )

    yield _counter(
        "log_dropped_lines",
        "Lines of the log that could not be written.",
        numbers.log_dropped,
    )


def _devices(numbers: Numbers) -> Iterator[Metric]:
    states = numbers.census.states
    platforms = [*Platform, *([None] if any(platform is None for platform, _ in states) else [])]
    yield _gauges(
        "devices",
        "Devices by platform (unknown: listed and never seen) and state.",
        ("platform", "state"),
        (
            ((str(platform or "unknown"), str(state)), states.get((platform, state), 0))
            for platform, state in product(platforms, DeviceState)
        ),
    )
    yield _gauge(
        "devices_flapping", "Devices that change too often to be believed.", numbers.census.flapping
    )
    yield _counters(
        "transitions",
        "Transitions, by the new state.",
        ("state",),
        (((str(state),), numbers.counts.transitions[state]) for state in DeviceState),
    )
    yield _counter("flaps", "Times a device began to flap.", numbers.counts.flaps)


def _sources(numbers: Numbers) -> Iterator[Metric]:
    yield _gauges(
        "source_up",
        "1 while the source can see; usbmux comes and goes with the first and last iPhone.",
        ("source",),
        (((str(name),), up) for name, up in numbers.sources.items()),
    )
    yield _counters(
        "source_reconnects",
        "Times a source saw again after it could not.",
        ("source",),
        (((str(name),), numbers.counts.reconnects[name]) for name in numbers.sources),
    )


def _webhooks(numbers: Numbers) -> Iterator[Metric]:
    hooks = [((hook.name, str(hook.id)), hook) for hook in numbers.webhooks]
    yield _gauges(
        "webhook_state",
        "1 for the state the webhook is in: good, failing (one attempt at a time), paused (410),"
        " disabled.",
        (*_WEBHOOK, "state"),
        (((*labels, state), state == _state(hook)) for labels, hook in hooks for state in _STATES),
    )
    yield _gauges(
        "webhook_consecutive_failures",
        "Attempts that failed since the last success.",
        _WEBHOOK,
        ((labels, hook.stats.failures) for labels, hook in hooks),
    )
    yield _gauges(
        "webhook_last_success_timestamp_seconds",
        "When the webhook last answered 2xx; none before the first time.",
        _WEBHOOK,
        (
            (labels, hook.stats.last_success_ms / 1000)
            for labels, hook in hooks
            if hook.stats.last_success_ms
        ),
    )
    yield from _callbacks(numbers, hooks)


def _callbacks(
    numbers: Numbers, hooks: Sequence[tuple[_Labels, WebhookNumbers]]
) -> Iterator[Metric]:
    yield _counters(
        "callbacks_stored",
        "Callbacks made and stored, to be sent.",
        _WEBHOOK,
        ((labels, hook.stored) for labels, hook in hooks),
    )
    yield _counters(
        "callbacks",
        "Callbacks that ended: delivered, dead (given up), superseded (by a newer one of the same"
        ' device, backlog = "latest").',
        (*_WEBHOOK, "outcome"),
        (
            ((*labels, outcome), value)
            for labels, hook in hooks
            for outcome, value in (
                ("delivered", hook.figures.delivered),
                ("dead", hook.figures.dead),
                ("superseded", hook.figures.superseded),
            )
        ),
    )
    yield _counter(
        "callbacks_cancelled",
        "Callbacks that ended because their webhook was deleted.",
        numbers.store.cancelled,
    )
    yield _counter(
        "callbacks_lost",
        "Callbacks that could not be stored, because memory was full or the store refused them.",
        numbers.counts.lost,
    )
    yield _gauges(
        "callbacks_pending",
        "Callbacks not delivered yet.",
        _WEBHOOK,
        ((labels, hook.pending) for labels, hook in hooks if hook.pending is not None),
    )
    yield _gauges(
        "callbacks_oldest_pending_age_seconds",
        "Age of the oldest callback not delivered yet; 0: there is none.",
        _WEBHOOK,
        ((labels, _age(numbers.now_ms, hook.figures.oldest_ms)) for labels, hook in hooks),
    )
    yield _gauges(
        "callbacks_in_flight",
        "Attempts under way.",
        _WEBHOOK,
        ((labels, hook.stats.in_flight) for labels, hook in hooks),
    )
    durations = HistogramMetricFamily(
        f"{_PREFIX}callback_attempt_duration_seconds",
        "Time an attempt took, whatever came of it.",
        labels=_WEBHOOK,
    )
    for labels, hook in hooks:
        tally = hook.figures.durations
        durations.add_metric(_shown(labels), _buckets(tally), tally.total)
    yield durations
    yield _counters(
        "callback_attempt_failures",
        "Attempts that failed, by the answer's class (3xx, 4xx, 5xx) or the error's kind.",
        (*_WEBHOOK, "kind"),
        (
            ((*labels, kind), count)
            for labels, hook in hooks
            for kind, count in sorted(hook.figures.failures.items())
        ),
    )


def _store(numbers: Numbers) -> Iterator[Metric]:
    figures, health = numbers.store, numbers.store_health
    yield _gauge("store_up", "1 while the store can be written and asked.", numbers.store_answers)
    commits = HistogramMetricFamily(
        f"{_PREFIX}store_commit_duration_seconds", "Time a commit took, its fsync included."
    )
    commits.add_metric((), _buckets(figures.commits), figures.commits.total)
    yield commits
    yield _counter("store_failures", "Times the store could not be written.", figures.failures)
    yield _gauge("store_queued_changes", "Changes not durable yet.", figures.queued)
    yield _counter(
        "store_dropped_changes",
        "Changes lost, because memory was full while the disk failed.",
        health.dropped,
    )
    yield _gauge(
        "store_recovered",
        "1 if the store was found corrupt since the start, and set aside.",
        bool(health.recovered_from),
    )
    yield _gauge("store_size_bytes", "Size of the store's files.", figures.size)
    yield _gauge("store_free_bytes", "What is free on the store's file system.", figures.free)


def _usage(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge("leases", "Leases in force.", numbers.leases)
    yield _gauge("lease_requests_waiting", "Requests that wait for a device.", numbers.waiting)
    names = [source.source for source in numbers.usage]
    states = Counter(
        (source.source, target.state) for source in numbers.usage for target in source.targets
    )
    in_use = {
        source.source: sum(target.sessions for target in source.targets) for source in numbers.usage
    }
    yield _gauges(
        "usage_targets",
        "What the usage sources ask, by what came of the last reading: good, unknown, unread.",
        ("source", "state"),
        (((name, state), states[name, state]) for name, state in product(names, _TARGET_STATES)),
    )
    yield _gauges(
        "usage_devices_in_use",
        "Devices that a usage source says are in use.",
        ("source",),
        (((name,), in_use[name]) for name in names),
    )


def _process(numbers: Numbers) -> Iterator[Metric]:
    process = numbers.process
    start = numbers.started_ms / 1000
    for name, text, value in (
        ("start_time_seconds", "Start time of the process since unix epoch in seconds.", start),
        ("resident_memory_bytes", "Resident memory size in bytes.", process.resident),
        ("virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual),
        ("open_fds", "Number of open file descriptors.", process.open_fds),
        ("max_fds", "Maximum number of open file descriptors.", process.max_fds),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value=value)
    yield CounterMetricFamily(
        "process_cpu_seconds", "Total user and system CPU time spent in seconds.", process.cpu
    )


def _state(hook: WebhookNumbers) -> str:
    if not hook.enabled:
        return "disabled"
    if hook.stats.paused:
        return "paused"
    return "failing" if hook.stats.failing_since_ms else "good"


def _age(now_ms: int, then_ms: int) -> float:
    return max(0, now_ms - then_ms) / 1000 if then_ms else 0.0


def _buckets(tally: Tally) -> list[tuple[str, float]]:
    bounds = [*map(str, tally.bounds), "+Inf"]
    return list(zip(bounds, tally.cumulative(), strict=True))


def _shown(labels: _Labels) -> _Labels:
    """Printable: the format itself escapes quotes and line feeds, and nothing else."""
    return tuple(map(printable, labels))


def _gauge(name: str, text: str, value: float) -> Metric:
    return _gauges(name, text, (), [((), value)])


def _counter(name: str, text: str, value: float) -> Metric:
    return _counters(name, text, (), [((), value)])


def _gauges(name: str, text: str, labels: _Labels, rows: _Rows) -> Metric:
    gauges = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for values, number in rows:
        gauges.add_metric(_shown(values), number)
    return gauges


def _counters(name: str, text: str, labels: _Labels, rows: _Rows) -> Metric:
    """The format adds `_total` to the name."""
    counters = CounterMetricFamily(_PREFIX + name, text, labels=labels)
    for values, number in rows:
        counters.add_metric(_shown(values), number)
    return counters

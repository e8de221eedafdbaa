"""The metrics: each is one row of `METRICS`, and whatever part counts what it reads.

The table of docs/monitoring.md is made from it (`python -m tests.docs.metrics`). Labels take few
values: webhooks by name, because URLs hold secrets, and by id, because names repeat; never a URL, a
device or a person, but where [battery] per_device_metrics asks for it. How it is written down
stands in `agent.service.exposition`. The file is long because its table is.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, get_args

from agent import __version__
from agent.log import dropped as log_dropped
from agent.model import DeviceState, Platform
from agent.sources.registry import sources_of
from agent.track.battery import BAD
from agent.track.cause import CauseKind
from agent.usage.polled_target import TargetState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.deliver.stats import WebhookFigures, WebhookStats
    from agent.fleet.hub.status import HostStatus, HubStatus
    from agent.fleet.standing import FleetStatus
    from agent.histogram import Tally
    from agent.model import Battery
    from agent.service.attempts import Attempts
    from agent.service.health import Health
    from agent.service.hosts import Hosts
    from agent.service.live import Live
    from agent.service.sessions import Sessions
    from agent.store import Store
    from agent.track.silences import Silences
    from agent.track.tracker import Tracker
    from agent.track.views import Census
    from agent.usage.leases import Leases
    from agent.usage.polled_source import SourceReport

    Value = float | Tally
    Labels = tuple[str, ...]
    Reading = tuple[Labels, Value]
    """One series: the values of its labels, and its own."""

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Process:
    """This process. Not from prometheus-client: it needs /proc/stat, which the unit hides."""

    resident: int
    virtual: int
    """Both bytes."""
    open_fds: int
    max_fds: int


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook."""

    labels: Labels
    id: int
    enabled: bool
    stats: WebhookStats
    figures: WebhookFigures
    pending: int | None
    """None: the store could not be asked."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scrape reads: the parts, and what would be dear to ask them once per metric."""

    live: Live
    pipeline: Tracker
    store: Store
    leases: Leases
    silences: Silences
    health: Health
    fleet: FleetStatus | None
    """None: this agent is in no fleet."""
    hosts: Hosts
    sessions: Sessions
    attempts: Attempts
    now_ms: int
    census: Census
    batteries: dict[str, Battery]
    """Those that are known, by UDID."""
    hooks: list[Hook]
    store_answers: bool
    """It could be asked what is pending."""
    usage: list[SourceReport]
    process: Process


@dataclass(frozen=True, slots=True)
class Metric:
    """One name."""

    kind: Kind
    name: str
    """In full, but for the `_total` that the format gives a counter."""
    text: str
    labels: Labels
    read: Callable[[Scene], Iterable[Reading]]
    """Its series now. On the loop's thread; asks no disk."""


_HOOK = ("webhook", "webhook_id")
_HOOK_STATES = ("good", "failing", "paused", "disabled")
_PREFIX = "device_agent_"


def _one(kind: Kind, name: str, text: str, read: Callable[[Scene], Value]) -> Metric:
    """A metric without labels."""
    return Metric(kind, _PREFIX + name, text, (), lambda scene: [((), read(scene))])


def _many(
    kind: Kind,
    name: str,
    text: str,
    labels: Labels,
    read: Callable[[Scene], Iterable[Reading]],
) -> Metric:
    return Metric(kind, _PREFIX + name, text, labels, read)


def _each(kind: Kind, name: str, text: str, read: Callable[[Hook, Scene], Value | None]) -> Metric:
    """One of each webhook; None: it has none now."""

    def read_all(scene: Scene) -> Iterable[Reading]:
        for hook in scene.hooks:
            value = read(hook, scene)
            if value is not None:
                yield hook.labels, value

    return Metric(kind, _PREFIX + name, text, _HOOK, read_all)


def _each_by(
    kind: Kind,
    name: str,
    text: str,
    label: str,
    read: Callable[[Hook], Iterable[tuple[str, Value]]],
) -> Metric:
    """Several of each webhook, told apart by one more label."""
    return Metric(
        kind,
        _PREFIX + name,
        text,
        (*_HOOK, label),
        lambda scene: (
            ((*hook.labels, of), value) for hook in scene.hooks for of, value in read(hook)
        ),
    )


def _process(kind: Kind, name: str, text: str, read: Callable[[Scene], Value]) -> Metric:
    """Under the name that every exporter gives it."""
    return Metric(kind, f"process_{name}", text, (), lambda scene: [((), read(scene))])


def _devices(scene: Scene) -> Iterable[Reading]:
    states = scene.census.states
    platforms = [*Platform, *([None] if any(platform is None for platform, _ in states) else [])]
    for of, state in product(platforms, DeviceState):
        yield (str(of or "unknown"), str(state)), states.get((of, state), 0)


def _transitions(scene: Scene) -> Iterable[Reading]:
    counts = scene.pipeline.commits.counts.transitions
    return (((str(state),), counts[state]) for state in DeviceState)


def _causes(scene: Scene) -> Iterable[Reading]:
    counts = scene.pipeline.commits.causes.counts
    return (((str(kind),), counts[kind]) for kind in CauseKind)


def _sources_up(scene: Scene) -> Iterable[Reading]:
    down, waiting = scene.pipeline.down, scene.pipeline.waiting
    for name in sources_of(scene.live.config):
        yield (str(name),), name not in down and name not in waiting


def _reconnects(scene: Scene) -> Iterable[Reading]:
    for name in sources_of(scene.live.config):
        yield (str(name),), scene.pipeline.commits.counts.reconnects[name]


def _battery_counts(scene: Scene) -> Iterable[Reading]:
    counts = Counter[str]()
    for battery in scene.batteries.values():
        counts.update(
            {
                "known": 1,
                "hot": int(battery.hot),
                "low": int(battery.low),
                "bad": int(battery.health in BAD),
            }
        )
    for condition in ("known", "hot", "low", "bad"):
        yield (condition,), counts[condition]


def _battery_of_each(
    read: Callable[[Battery], float | None],
) -> Callable[[Scene], Iterable[Reading]]:
    """Where that is wanted."""

    def read_all(scene: Scene) -> Iterable[Reading]:
        if scene.live.config.battery.per_device_metrics:
            for udid, battery in scene.batteries.items():
                value = read(battery)
                if value is not None:
                    yield (udid,), value

    return read_all


def _level(battery: Battery) -> float | None:
    return None if battery.level is None else battery.level / 100


def _warmest(scene: Scene) -> Iterable[Reading]:
    known = [each.temperature for each in scene.batteries.values() if each.temperature is not None]
    return [((), max(known))] if known else []


def _emptiest(scene: Scene) -> Iterable[Reading]:
    known = [level for each in scene.batteries.values() if (level := _level(each)) is not None]
    return [((), min(known))] if known else []


def _targets(scene: Scene) -> Iterable[Reading]:
    for source in scene.usage:
        states = Counter(target.state for target in source.targets)
        for state in get_args(TargetState):
            yield (source.source, state), states[state]


def _in_use(scene: Scene) -> Iterable[Reading]:
    for source in scene.usage:
        yield (source.source,), sum(target.sessions for target in source.targets)


def _fleet(
    kind: Kind, name: str, text: str, read: Callable[[FleetStatus, Scene], Value | None]
) -> Metric:
    """Of an agent that is in one; None: it has none now."""

    def read_one(scene: Scene) -> Iterable[Reading]:
        value = None if scene.fleet is None else read(scene.fleet, scene)
        return [] if value is None else [((), value)]

    return Metric(kind, f"{_PREFIX}fleet_{name}", text, (), read_one)


def _hub(kind: Kind, name: str, text: str, read: Callable[[HubStatus], Value]) -> Metric:
    """Of a hub alone."""

    def read_one(scene: Scene) -> Iterable[Reading]:
        hub = scene.hosts.hub
        return [] if hub is None else [((), read(hub))]

    return Metric(kind, f"{_PREFIX}hub_{name}", text, (), read_one)


def _host(name: str, text: str, read: Callable[[HostStatus], Value | None]) -> Metric:
    """Of each host that a hub follows; None: it has none now."""

    def read_all(scene: Scene) -> Iterable[Reading]:
        for host in scene.hosts.all():
            value = read(host)
            if value is not None:
                yield (host.host,), value

    return Metric("gauge", f"{_PREFIX}host_{name}", text, ("host",), read_all)


def _host_devices(scene: Scene) -> Iterable[Reading]:
    devices = scene.hosts.devices()
    for host in scene.hosts.all():
        for state in DeviceState:
            yield (host.host, str(state)), devices.get((host.host, state), 0)


def _hook_state(hook: Hook) -> str:
    if not hook.enabled:
        return "disabled"
    if hook.stats.paused:
        return "paused"
    return "failing" if hook.stats.failing_since_ms else "good"


def _outcomes(hook: Hook) -> Iterable[tuple[str, Value]]:
    figures = hook.figures
    yield "delivered", figures.delivered
    yield "dead", figures.dead
    yield "superseded", figures.superseded


def _age(now_ms: int, then_ms: int) -> float:
    return max(0, now_ms - then_ms) / 1000 if then_ms else 0.0


METRICS = (
    # --- the agent
    _many(
        "gauge",
        "build_info",
        "Versions of the agent and of its Python; always 1.",
        ("version", "python"),
        lambda _: [((__version__, platform.python_version()), 1)],
    ),
    _one(
        "gauge",
        "ready",
        "1 once states are derived and while they can be stored; as /-/ready.",
        lambda scene: scene.health.ready,
    ),
    _one(
        "gauge",
        "config_last_reload_successful",
        "1 if the last reload was taken, and the start counts as one; 0: it was refused, and the "
        "old configuration stays.",
        lambda scene: scene.health.reloaded.ok,
    ),
    _one(
        "gauge",
        "config_last_reload_success_timestamp_seconds",
        "When the configuration in force was loaded.",
        lambda scene: scene.health.loaded_ms / 1000,
    ),
    _one(
        "counter",
        "log_dropped_lines",
        "Lines of the log that could not be written: a full disk, a reader that died or hangs.",
        lambda _: log_dropped(),
    ),
    _one(
        "gauge",
        "api_sessions",
        "Browsers that may change things: device-agent ui.",
        lambda scene: len(scene.sessions),
    ),
    _one(
        "counter",
        "api_wrong_tokens",
        "Wrong tokens and codes over TCP.",
        lambda scene: scene.attempts.wrong,
    ),
    # --- devices and their sources
    _many(
        "gauge",
        "devices",
        "Devices by platform (unknown: listed and never seen) and state.",
        ("platform", "state"),
        _devices,
    ),
    _one(
        "gauge",
        "devices_flapping",
        "Devices whose holds are lengthened, because they change too often to be believed.",
        lambda scene: scene.census.flapping,
    ),
    _one(
        "gauge",
        "devices_silenced",
        "Devices whose callbacks a silence keeps back.",
        lambda scene: scene.census.silenced,
    ),
    _many(
        "counter",
        "causes",
        "Hubs, controllers, sources (adb, usbmuxd) and, at a fleet's hub, hosts that were lost "
        "with several phones at once.",
        ("kind",),
        _causes,
    ),
    _one("gauge", "silences", "Silences in force.", lambda scene: scene.silences.count),
    _one(
        "gauge",
        "waits",
        "Webhooks that wait (`after`) for a device's state to last, a device each; none of those"
        " that a silence keeps back.",
        lambda scene: scene.pipeline.wait_count,
    ),
    _many(
        "gauge",
        "devices_battery",
        "Devices whose battery is known, hot, low (as [battery] says), or bad: by its own word "
        "dead, failing or over its voltage.",
        ("condition",),
        _battery_counts,
    ),
    _many(
        "gauge",
        "battery_temperature_max_celsius",
        "Temperature of the warmest battery; none where none is known.",
        (),
        _warmest,
    ),
    _many(
        "gauge",
        "battery_level_min_ratio",
        "Charge of the emptiest battery, 0 to 1; likewise.",
        (),
        _emptiest,
    ),
    _many(
        "gauge",
        "device_battery_level_ratio",
        "Charge of each known battery, 0 to 1; only with [battery] per_device_metrics.",
        ("udid",),
        _battery_of_each(_level),
    ),
    _many(
        "gauge",
        "device_battery_temperature_celsius",
        "Temperature of each known battery; likewise.",
        ("udid",),
        _battery_of_each(lambda battery: battery.temperature),
    ),
    _many(
        "counter",
        "transitions",
        "Transitions, by the new state.",
        ("state",),
        _transitions,
    ),
    _one(
        "counter",
        "flaps",
        "Times a device began to flap.",
        lambda scene: scene.pipeline.commits.counts.flaps,
    ),
    _many(
        "gauge",
        "source_up",
        "1 while the source can see; usbmux comes and goes with the first and last iPhone.",
        ("source",),
        _sources_up,
    ),
    _many(
        "counter",
        "source_reconnects",
        "Times a source saw again after it could not.",
        ("source",),
        _reconnects,
    ),
    # --- webhooks and their callbacks
    _each_by(
        "gauge",
        "webhook_state",
        "1 for the state the webhook is in: good, failing (five failures in a row: one attempt at "
        "a time), paused (410), disabled.",
        "state",
        lambda hook: ((state, state == _hook_state(hook)) for state in _HOOK_STATES),
    ),
    _each(
        "gauge",
        "webhook_consecutive_failures",
        "Attempts that failed since the last success.",
        lambda hook, _: hook.stats.failures,
    ),
    _each(
        "gauge",
        "webhook_last_success_timestamp_seconds",
        "When the webhook last answered 2xx; none before the first time.",
        lambda hook, _: hook.stats.last_success_ms / 1000 or None,
    ),
    _each(
        "counter",
        "callbacks_stored",
        "Callbacks made and stored, to be sent.",
        lambda hook, scene: scene.pipeline.commits.counts.callbacks[hook.id],
    ),
    _each_by(
        "counter",
        "callbacks",
        "Callbacks that ended: delivered, dead (given up), superseded (by a newer one of the same"
        ' device, backlog = "latest").',
        "outcome",
        _outcomes,
    ),
    _one(
        "counter",
        "callbacks_cancelled",
        "Callbacks that ended because their webhook was deleted.",
        lambda scene: scene.store.figures.cancelled,
    ),
    _one(
        "counter",
        "callbacks_lost",
        "Callbacks that could not be stored, because memory was full or the store refused them.",
        lambda scene: scene.pipeline.commits.counts.lost,
    ),
    _each(
        "gauge",
        "callbacks_pending",
        "The backlog: callbacks that are stored and not ended.",
        lambda hook, _: hook.pending,
    ),
    _each(
        "gauge",
        "callbacks_oldest_pending_age_seconds",
        "Age of the oldest callback not delivered yet; 0: there is none.",
        lambda hook, scene: _age(scene.now_ms, hook.figures.oldest_ms),
    ),
    _each(
        "gauge",
        "callbacks_in_flight",
        "Attempts under way.",
        lambda hook, _: hook.stats.in_flight,
    ),
    _each(
        "histogram",
        "callback_attempt_duration_seconds",
        "Time an attempt took, 5 ms to 30 s, whatever came of it.",
        lambda hook, _: hook.figures.durations,
    ),
    _each_by(
        "counter",
        "callback_attempt_failures",
        "Attempts that failed, by the answer's class (3xx, 4xx, 5xx) or the error's kind: dns, "
        "refused, unreachable, forbidden, tls, reset, timeout, too slow, bad http, proxy, secret, "
        "config, internal.",
        "kind",
        lambda hook: sorted(hook.figures.failures.items()),
    ),
    # --- the store
    _one(
        "gauge",
        "store_up",
        "1 while the store can be written and asked.",
        lambda scene: scene.store.health.ok and scene.store_answers,
    ),
    _one(
        "histogram",
        "store_commit_duration_seconds",
        "Time a commit took, 0.5 ms to 5 s, its fsync included.",
        lambda scene: scene.store.figures.commits,
    ),
    _one(
        "counter",
        "store_failures",
        "Times the store could not be written.",
        lambda scene: scene.store.figures.failures,
    ),
    _one(
        "gauge",
        "store_queued_changes",
        "Changes not durable yet; stays above 0 while the disk fails or hangs.",
        lambda scene: scene.store.figures.queued,
    ),
    _one(
        "counter",
        "store_dropped_changes",
        "Changes lost, because memory was full while the disk failed.",
        lambda scene: scene.store.health.dropped,
    ),
    _one(
        "gauge",
        "store_recovered",
        "1 if the store was found corrupt since the start, and set aside.",
        lambda scene: bool(scene.store.health.recovered_from),
    ),
    _one(
        "gauge",
        "store_size_bytes",
        "Size of the store's files, measured within the last minute.",
        lambda scene: scene.store.figures.size,
    ),
    _one(
        "gauge",
        "store_free_bytes",
        "What is free on the store's file system; likewise.",
        lambda scene: scene.store.figures.free,
    ),
    # --- the fleet
    _fleet(
        "gauge",
        "connected",
        "1 while the fleet's broker is reached and this agent has its name; none of these where "
        "it is in no fleet.",
        lambda fleet, _: fleet.connected,
    ),
    _fleet(
        "gauge",
        "unacked_transitions",
        "Transitions that wait here until a hub has stored them.",
        lambda fleet, _: fleet.unacked,
    ),
    _fleet(
        "gauge",
        "last_ack_age_seconds",
        "Since a hub last acknowledged any; none before the first time.",
        lambda fleet, scene: _age(scene.now_ms, fleet.acked_ms) if fleet.acked_ms else None,
    ),
    _fleet(
        "gauge",
        "snapshot_bytes",
        "Size of the last snapshot as it was sent; the broker takes 1 MB, unless it is told more.",
        lambda fleet, _: fleet.snapshot_bytes,
    ),
    _fleet(
        "counter",
        "reconnects",
        "Connections to the fleet's broker but for the first.",
        lambda fleet, _: fleet.reconnects,
    ),
    _fleet(
        "counter",
        "bad_messages",
        "Messages from the broker that were none of ours.",
        lambda fleet, _: fleet.bad_messages,
    ),
    _fleet(
        "counter",
        "lost_transitions",
        "Transitions that were deleted by age although no hub had acknowledged them: more than a "
        "million waited.",
        lambda _, scene: scene.store.figures.untold,
    ),
    # --- a hub and its hosts
    _hub("gauge", "connected", "1 while a hub reaches its broker.", lambda hub: hub.connected),
    _hub(
        "gauge",
        "blind",
        "1 while a hub does not hear itself through the broker, and decides nothing.",
        lambda hub: hub.blind,
    ),
    _hub(
        "gauge",
        "active",
        "1 where a hub sends callbacks, 0 where it is a standby.",
        lambda hub: hub.active,
    ),
    _hub(
        "counter",
        "bad_messages",
        "Messages to a hub that were none of ours.",
        lambda hub: hub.bad_messages,
    ),
    _hub(
        "counter",
        "dropped_messages",
        "Messages that came faster than a hub could take them, and were asked for again.",
        lambda hub: hub.dropped,
    ),
    _hub(
        "counter",
        "moves",
        "Phones that went from one host to another.",
        lambda hub: hub.moves,
    ),
    _host("up", "1 while a hub hears a host.", lambda host: host.presence == "alive"),
    _host(
        "lag_transitions",
        "Transitions that a host is known to have, and the hub has not.",
        lambda host: host.lag,
    ),
    _host(
        "heartbeat_age_seconds",
        "Since a host was heard last, while the hub was not blind; none before the first time.",
        lambda host: host.silent,
    ),
    _many(
        "gauge",
        "host_devices",
        "Devices that a hub shows as a host's, by state.",
        ("host", "state"),
        _host_devices,
    ),
    # --- usage
    _one("gauge", "leases", "Leases in force.", lambda scene: len(scene.leases.all())),
    _one(
        "gauge",
        "lease_requests_waiting",
        "Requests that wait for a device.",
        lambda scene: scene.leases.waiting,
    ),
    _many(
        "gauge",
        "usage_targets",
        "What the usage sources ask, by what came of the last reading: good, unknown, unread.",
        ("source", "state"),
        _targets,
    ),
    _many(
        "gauge",
        "usage_devices_in_use",
        "Devices that a usage source says are in use.",
        ("source",),
        _in_use,
    ),
    # --- the process
    _process(
        "gauge",
        "start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        lambda scene: scene.health.started_ms / 1000,
    ),
    _process(
        "gauge",
        "resident_memory_bytes",
        "Resident memory size in bytes.",
        lambda scene: scene.process.resident,
    ),
    _process(
        "gauge",
        "virtual_memory_bytes",
        "Virtual memory size in bytes.",
        lambda scene: scene.process.virtual,
    ),
    _process(
        "gauge",
        "open_fds",
        "Number of open file descriptors.",
        lambda scene: scene.process.open_fds,
    ),
    _process(
        "gauge",
        "max_fds",
        "Maximum number of open file descriptors.",
        lambda scene: scene.process.max_fds,
    ),
    _process(
        "counter",
        "cpu_seconds",
        "Total user and system CPU time spent in seconds.",
        lambda _: time.process_time(),
    ),
)

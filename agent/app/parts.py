"""The parts of one agent, put together in one place; nothing of it runs yet."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.api.server import ApiServer
from agent.deliver.dispatcher import Dispatcher, tell_nobody
from agent.deliver.outbox import Outbox
from agent.deliver.senders import Senders
from agent.fleet.own import Own
from agent.fleet.uplink import Uplink
from agent.model import Down, Snapshot
from agent.service.attempts import Attempts
from agent.service.causes import Causes
from agent.service.deliveries import Deliveries
from agent.service.device_page import DevicePage
from agent.service.devices import Devices
from agent.service.doctor import Doctor
from agent.service.events import Events
from agent.service.health import Health
from agent.service.history import History
from agent.service.hosts import Hosts
from agent.service.leases import LeaseDesk, candidate, candidates
from agent.service.ports import Ports
from agent.service.report import Reports
from agent.service.scrape import Scraper
from agent.service.services import Services
from agent.service.sessions import Sessions
from agent.service.silences import SilenceDesk
from agent.service.webhook_editor import WebhookEditor
from agent.service.webhooks import Webhooks
from agent.sources.supervisor import Supervisor
from agent.subscribers import Topic
from agent.track.commits import Commits
from agent.track.pipeline import Pipeline
from agent.track.silences import Silences
from agent.track.watching import Watching
from agent.usage.current import CurrentUsage
from agent.usage.leases import Leases
from agent.usage.poller import Poller
from agent.usage.registry import STRENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from agent.app.hub import HubSide
    from agent.app.hub_stored import HubStored
    from agent.app.webhook_ids import WebhookIds
    from agent.clock import Clock
    from agent.config import Config, Webhook
    from agent.config.file import ConfigFile
    from agent.model import BatteryRead, DeviceRecord, Observation, Silence, SourceName
    from agent.service.doctor import Examine
    from agent.service.leases import LeasesServed
    from agent.service.live import Live
    from agent.service.reload import Reloaded
    from agent.service.silences import SilencesServed
    from agent.store import Store
    from agent.subscribers import Subscribers
    from agent.tasks import Tasks
    from agent.track.tracker import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the parts are told of the world they run in."""

    file: ConfigFile | None
    """Where the configuration came from; None: from no file."""
    reload: Callable[[], Awaitable[Reloaded]]
    """Asked for by a client."""
    edited: Callable[[], Coroutine[Any, Any, Reloaded]]
    """Asked for by an edit of a webhook."""
    seen: Callable[[], None]
    """Called once every source has spoken."""
    examine: Examine | None
    """Looks at everything around the agent; None: nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One agent."""

    live: Live
    clock: Clock
    tasks: Tasks
    subscribers: Subscribers
    store: Store
    ids: WebhookIds
    senders: Senders
    dispatcher: Dispatcher
    pipeline: Tracker
    own: Pipeline | None
    """The same, where it is this host's own phones that are followed; None: the agent is a hub."""
    hub: HubSide | None
    sources: Supervisor
    leases: Leases
    silences: Silences
    watching: Watching
    usage: CurrentUsage
    poller: Poller
    uplink: Uplink | None
    """To its fleet's hub; None: it is one."""
    services: Services
    api: ApiServer

    def use(self, udid: str) -> None:
        """Have a device derived by all that is known of who uses it."""
        if self.own is not None:
            self.own.use(udid, self.usage.reading(udid))

    def outbox(self, config: Config, webhooks: Mapping[int, Webhook]) -> Outbox:
        """Callbacks by these webhooks."""
        return _outbox(config, webhooks)


def build(
    live: Live,
    clock: Clock,
    tasks: Tasks,
    subscribers: Subscribers,
    store: Store,
    ids: WebhookIds,
    records: list[DeviceRecord],
    stored_silences: list[Silence],
    stored_hub: HubStored | None,
    outside: Outside,
) -> Parts:
    """Put them together; `live` has its webhooks by then, and `records` are the stored devices.

    With `stored_hub` it is a hub: its sources, its usage and its own silences have nothing to do.
    """
    config = live.config
    senders = Senders()
    outbox = _outbox(config, live.webhooks)
    hub = None
    if stored_hub is not None:
        from agent.app.hub import HubSide  # noqa: PLC0415 - a host without a fleet loads none of it

        hub = HubSide(
            config,
            records,
            stored_hub,
            store,
            lambda: dispatcher,
            outbox,
            clock,
            subscribers,
        )
    dispatcher = Dispatcher(
        store.callbacks,
        senders,
        webhooks=live.webhooks,
        settings=config.delivery,
        clock=clock,
        may_send=None if hub is None else hub.active.may_send,
        on_final=tell_nobody if hub is None else hub.active.final,
    )

    def recheck(source: SourceName) -> Awaitable[None] | None:
        return sources.recheck(source)

    def renamed(old: str, new: str) -> None:
        """In the same turn everywhere: a call, and no news."""
        poller.rename(old, new)
        leases.rename(old, new)
        silences.rename(old, new)

    silences = Silences(
        stored_silences, store.silences, clock, partial(subscribers.publish, Topic.SILENCE)
    )
    own = None
    if hub is None:
        commits = Commits(
            store, outbox, dispatcher.notify, partial(subscribers.publish, Topic.TRANSITION)
        )
        own = Pipeline(
            config,
            records,
            silences,
            commits,
            clock,
            recheck,
            outside.seen,
            subscribers.publisher(Topic.DEVICE),
            renamed,
            subscribers.publisher(Topic.BATTERY),
        )
    pipeline: Tracker = _the_one(own, hub)
    watching = Watching(store.watching, pipeline.sights, clock)
    sources = Supervisor(_ignore if own is None else partial(_observe, own, watching))
    leases = Leases(
        store.leases,
        subscribers.publisher(Topic.LEASE),
        candidates=partial(candidates, pipeline),
        candidate=partial(candidate, pipeline),
        clock=clock,
    )
    # What tells whether a phone is in use, over the pipeline's phones.
    usage = CurrentUsage(
        STRENGTH,
        lease=leases.reading,
        phones=pipeline.views.phones,
        changed=subscribers.publisher(Topic.USAGE),
    )
    poller = Poller(
        usage,
        config.usage,
        clock,
        phones=pipeline.views.phones,
        resolve=pipeline.roster.find,
    )
    host = socket.gethostname()
    devices = Devices(pipeline, host)
    own_desk, own_silences = LeaseDesk(leases, devices), SilenceDesk(silences, devices, pipeline)
    desk: LeasesServed = own_desk
    silence_desk: SilencesServed = own_silences
    if hub is not None:
        desks = hub.desks(devices)
        desk, silence_desk = desks.leases, desks.silences
        subscribers.subscribe(Topic.DEVICE, desks.leases.changed)
    deliveries = Deliveries(live, store, dispatcher, devices, clock)
    uplink = None
    if own is not None:
        uplink = Uplink(
            config.fleet,
            Own(
                log=store.log,
                devices=own.views,
                leases=own_desk,
                silences=own_silences,
                sights=own.sights,
                clock=clock,
            ),
            partial(subscribers.publish, Topic.FLEET),
        )
    health = Health(
        pipeline,
        store,
        poller,
        silences,
        lambda: None if uplink is None else uplink.status,
        tasks,
        clock,
        host,
    )
    hosts = Hosts(None if hub is None else hub.hub)
    sessions = Sessions(clock, partial(subscribers.publish, Topic.SESSION))
    attempts = Attempts()
    causes = Causes(pipeline, store, clock, host)
    services = Services(
        live=live,
        devices=devices,
        device_page=DevicePage(live, pipeline, store, devices, desk, deliveries),
        ports=Ports(pipeline, sources, causes, host),
        causes=causes,
        history=History(pipeline, store, devices, watching),
        reports=Reports(pipeline, store, watching, causes),
        hosts=hosts,
        events=Events(pipeline, store, host, silence_desk.rows),
        webhooks=Webhooks(live, dispatcher, store.backlog, senders, clock),
        editor=WebhookEditor(outside.file, live, outside.edited),
        deliveries=deliveries,
        leases=desk,
        silences=silence_desk,
        health=health,
        doctor=Doctor(outside.examine, live, clock),
        scraper=Scraper(
            live=live,
            pipeline=pipeline,
            store=store,
            dispatcher=dispatcher,
            leases=leases,
            silences=silences,
            poller=poller,
            health=health,
            hosts=hosts,
            sessions=sessions,
            attempts=attempts,
            clock=clock,
        ),
        sessions=sessions,
        attempts=attempts,
        clock=clock,
        reload=outside.reload,
    )
    return Parts(
        live=live,
        clock=clock,
        tasks=tasks,
        subscribers=subscribers,
        store=store,
        ids=ids,
        senders=senders,
        dispatcher=dispatcher,
        pipeline=pipeline,
        own=own,
        hub=hub,
        sources=sources,
        leases=leases,
        silences=silences,
        watching=watching,
        usage=usage,
        poller=poller,
        uplink=uplink,
        services=services,
        api=ApiServer(services),
    )


def _the_one(own: Pipeline | None, hub: HubSide | None) -> Tracker:
    """Who follows phones."""
    if own is not None:
        return own
    assert hub is not None
    return hub.pipeline


def _observe(own: Pipeline, watching: Watching, observation: Observation | BatteryRead) -> None:
    """What a source saw; where it says whether the source can see, that is written down."""
    own.observe(observation)
    if isinstance(observation, Snapshot | Down):
        watching.look()


def _ignore(_observation: Observation | BatteryRead) -> None:
    """A hub has no sources."""


def _outbox(config: Config, webhooks: Mapping[int, Webhook]) -> Outbox:
    return Outbox(webhooks, config.org_of, socket.gethostname())

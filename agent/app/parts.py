"""The parts of one agent, put together in one place; nothing of it runs yet."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.api.server import ApiServer
from agent.deliver.dispatcher import Dispatcher
from agent.deliver.outbox import Outbox
from agent.deliver.senders import Senders
from agent.fleet.own import Own
from agent.fleet.uplink import Uplink
from agent.service.attempts import Attempts
from agent.service.deliveries import Deliveries
from agent.service.device_page import DevicePage
from agent.service.devices import Devices
from agent.service.doctor import Doctor
from agent.service.events import Events
from agent.service.health import Health
from agent.service.hosts import Hosts
from agent.service.leases import LeaseDesk, candidate, candidates
from agent.service.ports import Ports
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
from agent.usage.current import CurrentUsage
from agent.usage.leases import Leases
from agent.usage.poller import Poller
from agent.usage.registry import STRENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from agent.app.webhook_ids import WebhookIds
    from agent.clock import Clock
    from agent.config import Config, Webhook
    from agent.config.file import ConfigFile
    from agent.model import DeviceRecord, Silence, SourceName
    from agent.service.doctor import Examine
    from agent.service.live import Live
    from agent.service.reload import Reloaded
    from agent.store import Store
    from agent.subscribers import Subscribers
    from agent.tasks import Tasks


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
    pipeline: Pipeline
    sources: Supervisor
    leases: Leases
    silences: Silences
    usage: CurrentUsage
    poller: Poller
    uplink: Uplink
    services: Services
    api: ApiServer

    def use(self, udid: str) -> None:
        """Have a device derived by all that is known of who uses it."""
        self.pipeline.use(udid, self.usage.reading(udid))

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
    outside: Outside,
) -> Parts:
    """Put them together; `live` has its webhooks by then, and `records` are the stored devices."""
    config = live.config
    senders = Senders()
    dispatcher = Dispatcher(
        store.callbacks, senders, webhooks=live.webhooks, settings=config.delivery, clock=clock
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
    commits = Commits(
        store,
        _outbox(config, live.webhooks),
        dispatcher.notify,
        partial(subscribers.publish, Topic.TRANSITION),
    )
    pipeline = Pipeline(
        config,
        records,
        silences,
        commits,
        clock,
        recheck,
        outside.seen,
        subscribers.publisher(Topic.DEVICE),
        renamed,
    )
    sources = Supervisor(pipeline.observe)
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
    desk = LeaseDesk(leases, devices)
    silence_desk = SilenceDesk(silences, devices, pipeline)
    deliveries = Deliveries(live, store, dispatcher, devices, clock)
    uplink = Uplink(
        config.fleet,
        Own(
            log=store.log,
            devices=pipeline.views,
            leases=desk,
            silences=silence_desk,
            clock=clock,
        ),
        partial(subscribers.publish, Topic.FLEET),
    )
    health = Health(pipeline, store, poller, silences, lambda: uplink.status, tasks, clock, host)
    hosts = Hosts(None)
    sessions = Sessions(clock, partial(subscribers.publish, Topic.SESSION))
    attempts = Attempts()
    services = Services(
        live=live,
        devices=devices,
        device_page=DevicePage(pipeline, store, devices, desk, deliveries),
        ports=Ports(pipeline, sources, host),
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
        sources=sources,
        leases=leases,
        silences=silences,
        usage=usage,
        poller=poller,
        uplink=uplink,
        services=services,
        api=ApiServer(services),
    )


def _outbox(config: Config, webhooks: Mapping[int, Webhook]) -> Outbox:
    return Outbox(webhooks, config.org_of, socket.gethostname())

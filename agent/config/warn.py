"""Warnings: what a valid file may come to regret."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.address import is_loopback, split_host_port
from agent.config.mistakes import QUOTE, Mistake, placed
from agent.config.model import Api, DeviceEntry, Fleet, Tls, UsageServer, Webhook
from agent.config.warn_files import exposed_files
from agent.model import CALLING, Platform
from agent.text import printable
from agent.udid import fits, is_ios, is_network, udev_spelling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.derived import Config
    from agent.config.documents import Documents
    from agent.config.places import KeyPath
    from agent.errors import Problem

_SECRET_KEYS = frozenset(
    ("access_token", "api_key", "apikey", "password", "routing_key", "secret", "token")
)
"""Of bodies, in lower case."""
SHORT_GRACE = 10.0
"""Seconds: a heartbeat that comes every 5 s and is late once."""


def warnings(config: Config, document: Documents) -> tuple[Problem, ...]:
    """What a valid file may come to regret, in its order. `document` is what `config` is of."""
    found = [
        *_exposed_urls(config),
        *_exposed_servers(config),
        *exposed_files(config, document),
        *_idle_webhooks(config),
        *_repeated_urls(config),
        *_open_secrets(config),
        *_fleet(config),
    ]
    return placed(found, document)


def _exposed_urls(config: Config) -> Iterator[Mistake]:
    for index, webhook in enumerate(config.webhooks):
        path = ("webhooks", index)
        if not webhook.tls.verify:
            yield Mistake(
                (*path, "tls", "verify"),
                "certificates are not checked, so anyone in between can read and alter callbacks: "
                "name the server's authority with ca instead",
            )
        parts = urlsplit(webhook.url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            authorised = webhook.auth is not None or "@" in parts.netloc
            yield Mistake(
                (*path, "url"),
                f"callbacks travel unencrypted to {parts.hostname}"
                + (", and so does what authorises them" if authorised else "")
                + ": use https"
                + ("" if webhook.secret else "; unsigned too, anyone can forge them: set a secret"),
            )
        if parts.scheme == "http" and webhook.tls != Tls():
            yield Mistake((*path, "tls"), "has no effect, for the URL is plain http")


def _exposed_servers(config: Config) -> Iterator[Mistake]:
    """What else goes over the network in the clear."""
    for key, index, server in _usage_servers(config):
        parts = urlsplit(server.url)
        authorised = server.auth is not None or "@" in parts.netloc
        if parts.scheme == "http" and authorised and not is_loopback(parts.hostname or ""):
            yield Mistake(
                ("usage", key, index),
                f"what authorises the agent travels unencrypted to {parts.hostname}: use https",
            )
    yield from _exposed_api(config.api)


def _exposed_api(api: Api) -> Iterator[Mistake]:
    """Who reads what the API answers over TCP, beyond this host."""
    if not api.listen:
        for key in ("cert", "read"):
            if key in api.model_fields_set:
                yield Mistake(("api", key), 'has no effect, for listen = "" turns TCP off')
        return
    if api.read == "token" and api.token is None:
        yield Mistake(
            ("api", "read"),
            "only sessions (device-agent ui) can read, for there is no [api] token: Prometheus and "
            "scripts need one",
        )
    if is_loopback(split_host_port(api.listen)[0]):
        return
    everybody = "whoever reaches this address can read devices, webhooks and deliveries"
    if api.cert is None:
        token = "[api] token and sessions" if api.token is not None else "sessions"
        yield Mistake(
            ("api", "listen"),
            (f"{everybody}, and " if api.read == "open" else "")
            + f"without TLS {token} travel unencrypted"
            + (", like all that is read" if api.read == "token" else "")
            + ": set [api] cert and key"
            + (', and read = "token"' if api.read == "open" else "")
            + ", or listen on 127.0.0.1, behind a proxy with TLS and authentication",
        )
    elif api.read == "open":
        yield Mistake(
            ("api", "listen"), f'{everybody}: set [api] read = "token" unless that is meant'
        )


def _usage_servers(config: Config) -> Iterator[tuple[str, int, UsageServer]]:
    """Those of each key in `[usage]` that lists some."""
    for key in type(config.usage).model_fields:
        value = getattr(config.usage, key)
        if isinstance(value, tuple):
            for index, each in enumerate(value):
                if isinstance(each, UsageServer):
                    yield key, index, each


def _idle_webhooks(config: Config) -> Iterator[Mistake]:
    """Webhooks that certainly no phone can match, whatever is plugged in."""
    default = config.discovery.visibility
    listed = [each for each in config.devices if (each.visibility or default) in CALLING]
    for index, webhook in enumerate(config.webhooks):
        path: KeyPath = ("webhooks", index)
        wanted = webhook.platforms or tuple(Platform)
        if not any(map(config.watches, wanted)):
            off = " and ".join(f"[{platform}]" for platform in wanted)
            yield Mistake(
                (*path, "platforms") if webhook.platforms else path,
                f"is never called, for {off} enabled = false leaves out every phone it is for: "
                "turn it on, or take the webhook out",
            )
        elif webhook.tags or default not in CALLING:
            # Tags come from the list alone.
            if not any(_may_match(webhook, device) for device in listed):
                yield Mistake(
                    path,
                    "no device that is listed and calls back is in its scope, so it is never "
                    "called: see its devices and tags, and visibility under [[devices]] and "
                    "[discovery]",
                )
        elif webhook.devices and all(_is_silent(config, each) for each in webhook.devices):
            yield Mistake(
                (*path, "devices"),
                "names only devices that do not call back, so it is never called: see their "
                "visibility under [[devices]]",
            )


def _is_silent(config: Config, pattern: str) -> bool:
    """Whether that is no pattern but a device, listed as one that does not call back."""
    device = None if any(mark in pattern for mark in "*?[@") else config.device(pattern)
    return device is not None and (device.visibility or config.discovery.visibility) not in CALLING


def _may_match(webhook: Webhook, device: DeviceEntry) -> bool:
    """Generous: its `@PORT` or its address is only known when a phone is there."""
    tagged = not webhook.tags or not set(webhook.tags).isdisjoint(device.tags)
    spelled = {device.udid, udev_spelling(device.udid)}
    named = (
        not webhook.devices
        or is_network(device.udid)
        or any(
            "@" in each or is_network(each) or any(fits(each, udid) for udid in spelled)
            for each in webhook.devices
        )
    )
    # An Android serial may look like the UDID of an iPhone; the other way round it cannot.
    possible = webhook.platforms != (Platform.IOS,) or is_ios(device.udid)
    return tagged and named and possible


def _repeated_urls(config: Config) -> Iterator[Mistake]:
    first: dict[str, Webhook] = {}
    for index, webhook in enumerate(config.webhooks):
        other = first.setdefault(_normal(webhook.url), webhook)
        if other is not webhook:
            twice = not set(webhook.events).isdisjoint(other.events)
            if not twice and (webhook.payload, webhook.body) != (other.payload, other.body):
                continue  # one opens an alert, say, and the other closes it
            yield Mistake(
                ("webhooks", index, "url"),
                f"webhook '{printable(other.name, QUOTE)}' has the same URL: "
                + ("it is called twice" if twice else "one with the events of both would do"),
            )


def _open_secrets(config: Config) -> Iterator[Mistake]:
    """Secrets that are written into a body, which is no secret."""
    for index, webhook in enumerate(config.webhooks):
        for path, value in [] if webhook.body is None else webhook.body.texts():
            name = str(path[-1]) if path else ""
            if name.lower() in _SECRET_KEYS and value and "{" not in value:
                yield Mistake(
                    ("webhooks", index, "body", *path),
                    f"'{name}' looks like a secret, and a body is shown by the API and stored with "
                    f'each callback: put it into a file, and "{{file:PATH}}" in its place',
                    ("webhooks", index, "body"),
                )


def _fleet(config: Config) -> Iterator[Mistake]:
    fleet, usual = config.fleet, Fleet()
    changed = [
        key for key in type(fleet).model_fields if getattr(fleet, key) != getattr(usual, key)
    ]
    idle: tuple[str, ...] = ()
    why = ""
    if not fleet.servers:
        idle, why = tuple(changed), "servers names no broker"
    elif fleet.role == "agent":
        idle, why = ("host_grace", "move_hold"), 'only a hub (role = "hub") reads it'
    for key in idle:
        if key in changed:
            yield Mistake(("fleet", key), f"has no effect, for {why}")
    for index, url in enumerate(fleet.servers):
        parts = urlsplit(url)
        clear = parts.scheme == "nats" and fleet.tls == usual.tls
        if clear and "@" in parts.netloc and not is_loopback(parts.hostname or ""):
            yield Mistake(
                ("fleet", "servers", index),
                f"the password travels unencrypted to {parts.hostname}: use tls://, or credentials",
            )
    if config.is_hub:
        yield from _hub(config)


def _hub(config: Config) -> Iterator[Mistake]:
    if config.fleet.host_grace < SHORT_GRACE:
        yield Mistake(
            ("fleet", "host_grace"),
            "is short: a host is heard every 5 s, and would be lost for a moment time and again; "
            f"make it {SHORT_GRACE:g}s or more",
        )
    for index, webhook in enumerate(config.webhooks):
        if webhook.id is None:
            yield Mistake(
                ("webhooks", index),
                "has no id: two hubs that stand in for each other would give it different ones, "
                "and call back twice: set id",
            )


def _normal(url: str) -> str:
    """The same for URLs that mean the same: host in lower case, no default port, a path."""
    parts = urlsplit(url)
    userinfo, at, _ = parts.netloc.rpartition("@")
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in {None, default} else ""
    return parts._replace(
        netloc=f"{userinfo}{at}{parts.hostname}{port}", path=parts.path or "/", fragment=""
    ).geturl()

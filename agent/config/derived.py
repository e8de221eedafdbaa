"""The configuration in force: what the file says, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from agent.config.model import DeviceEntry, Tables
from agent.udid import listed_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from agent.config.model import Webhook
    from agent.config.places import Origin
    from agent.model import Platform


class Origins(dict[tuple[int, str], "Origin"]):
    """Where the webhooks stand, by organisation and name.

    No part of what a configuration says, so any two are equal.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    __hash__ = None


class Config(Tables):
    """Everything the file says, and the defaults of what it does not. See `load` and `check`."""

    _by_udid: dict[str, DeviceEntry] = PrivateAttr(default_factory=dict)
    _origins: Origins = PrivateAttr(default_factory=Origins)

    def model_post_init(self, _context: object, /) -> None:
        """Index the devices."""
        self._by_udid = {listed_key(entry.udid): entry for entry in self.devices}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, and the copy's devices are indexed anew."""
        copy = super().model_copy(update=update, deep=deep)
        copy.model_post_init(None)
        return copy

    def found_in(self, origin: Callable[[int], Origin]) -> Self:
        """Itself, knowing where the webhook of each number stands.

        Asked at once, where files are read: it takes a pass over the text, 40 ms for a thousand
        devices, which no request should wait for.
        """
        self._origins = Origins(
            ((self.org_of(each), each.name), origin(n)) for n, each in enumerate(self.webhooks)
        )
        return self

    def origin_of(self, webhook: Webhook) -> Origin | None:
        """Where that webhook stands; None: in no file."""
        return self._origins.get((self.org_of(webhook), webhook.name))

    def org_of(self, webhook: Webhook) -> int:
        """The organisation of a webhook: its own, else the agent's."""
        return self.agent.org_id if webhook.org_id is None else webhook.org_id

    def device(self, udid: str) -> DeviceEntry | None:
        """What the file says of that phone; an iOS UDID in any spelling. Constant time."""
        return self._by_udid.get(listed_key(udid))

    @property
    def is_hub(self) -> bool:
        """Whether it makes a hub of the agent: that has agents, and no phones of its own."""
        return self.fleet.role == "hub" and bool(self.fleet.servers)

    def watches(self, platform: Platform) -> bool:
        """Whether its section, which bears its name, is turned on; a hub's agents may have any."""
        return self.is_hub or bool(getattr(self, platform).enabled)

    def state_dir(self, environ: Mapping[str, str]) -> Path:
        """The store's directory: as configured, else $STATE_DIRECTORY, else ./state."""
        if self.agent.state_dir is not None:
            return Path(self.agent.state_dir)
        # systemd joins several with colons; the first one is ours (systemd.exec(5)).
        return Path(environ.get("STATE_DIRECTORY", "").split(":")[0] or "state")

    def socket_path(self, environ: Mapping[str, str]) -> Path:
        """The API's unix socket: as configured, else in $RUNTIME_DIRECTORY, else with the state."""
        if self.api.socket is not None:
            return Path(self.api.socket)
        runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        return (Path(runtime) if runtime else self.state_dir(environ)) / "control.sock"

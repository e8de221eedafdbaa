"""Leases at a hub: each is its host's agent's, asked for and kept up from here.

A lease is called `<id>~<host>`. One that is tied to a connection is renewed from here as often as
the API asks for it, and has its TTL at the agent: what the hub does not survive, the lease outlives
by that, within which its holder ties itself to it again. What an agent does not answer for less
than the TTL ends nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.errors import (
    AgentError,
    DeviceHeldError,
    HostUnreachableError,
    LeaseError,
    QueueFullError,
    UnknownDeviceError,
    UnknownLeaseError,
)
from agent.fleet.operations import LeaseAcquire, LeaseRelease, LeaseRenew, wanted
from agent.model import DeviceState, Platform
from agent.service.fleet_rows import number_of, text_of, time_of
from agent.text import printable
from agent.track.battery import is_tired
from agent.usage.lease_book import MAX_TTL, check
from agent.usage.lease_queue import MAX_WAITING, Candidate, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.clock import Clock
    from agent.fleet.hub.directory import Directory
    from agent.fleet.hub.remote import Remote
    from agent.service.devices import Devices
    from agent.service.leases import LeaseRow
    from agent.track.tracker import TrackedViews

log = structlog.get_logger(__name__)

KNOWN: Final = 2_000
"""Leases that were given here, of which the last row is kept."""
LOOK: Final = 10.0
"""Seconds after which who waits for any device tries anew, whatever was heard."""
_NAMED: Final = 5


@dataclass(slots=True, eq=False)
class _Tied:
    """A lease that a connection holds."""

    udid: str
    ttl: float
    renewed_at: float
    ties: int = 0
    why: str = ""
    """It has ended; "": not that we knew."""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class FleetLeaseDesk:
    """See `agent.service.leases.LeasesServed`. Methods raise LeaseError, HostUnreachableError.

    Args:
        remote: asks the agents.
        directory: which hosts there are.
        devices: the fleet's.
        views: likewise.
        clock: of the process.
    """

    def __init__(
        self,
        remote: Remote,
        directory: Directory,
        devices: Devices,
        views: TrackedViews,
        clock: Clock,
    ) -> None:
        self._remote = remote
        self._directory = directory
        self._devices = devices
        self._views = views
        self._clock = clock
        self._known: dict[str, LeaseRow] = {}
        self._tied: dict[str, _Tied] = {}
        self._used: dict[str, int] = {}
        """When devices were last given from here, in the order of giving."""
        self._waiting: dict[asyncio.Event, None] = {}
        self._trying = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Requests for any device that wait."""
        return len(self._waiting)

    def changed(self, udid: str) -> None:
        """Something of that device may be different now, or ("") of any."""
        for waiting in self._waiting:
            waiting.set()
        for tied in self._tied.values():
            if not udid or tied.udid == udid:
                tied.news.set()

    def rows(self) -> list[LeaseRow]:
        """The leases in force, oldest first, as far as the agents have told."""
        return sorted(self._rows(), key=lambda row: (row["since"], row["id"]))

    def of(self, udid: str) -> LeaseRow | None:
        """The lease in force on that device, by its exact UDID."""
        return next((row for row in self._rows() if row["udid"] == udid), None)

    async def acquire(
        self,
        device: str | None,
        holder: str,
        purpose: str,
        ttl: float,
        *,
        platform: Platform | None = None,
        tags: tuple[str, ...] = (),
        wait: float = 0.0,
        steal: str = "",
        caller: str = "",
    ) -> LeaseRow:
        """Give a lease on a device, by whatever names it.

        None: on whichever of any host is of that platform and bears those tags, and is online: one
        with a cool and charged battery first, and of those the one that was used longest ago.
        """
        purpose, steal = " ".join(purpose.split()), " ".join(steal.split())
        check(holder, purpose + steal, ttl, wait)
        asked = wanted(
            LeaseAcquire, holder=holder, purpose=purpose, ttl=ttl, wait=wait, steal=steal
        )
        if device is not None:
            return await self._acquire(self._devices.udid(device), asked, caller)
        if steal:
            raise LeaseError("a reason to take a device goes with one by its UDID")
        return await self._any(Wish(platform=platform, tags=tags), asked, caller)

    async def renew(self, lease_id: str) -> LeaseRow:
        """Let a lease last another TTL; one that is tied is as it was while nobody answers."""
        host, there = self._split(lease_id)
        renewal = wanted(LeaseRenew, id=there)
        tied = self._tied.get(lease_id)
        try:
            row = self._row(host, await self._remote.ask(host, renewal, ""))
        except HostUnreachableError as error:
            if tied is None:
                raise
            log.warning("lease.not_renewed", id=lease_id, udid=tied.udid, error=str(error))
            if self._clock.monotonic() - tied.renewed_at >= tied.ttl:
                tied.why = f"{host} could not be reached for {tied.ttl:g} s"
        except UnknownLeaseError as error:
            if tied is None:
                raise
            tied.why = _why_ended(error)
        else:
            if tied is not None:
                tied.renewed_at = self._clock.monotonic()
            self._remember(row)
            return row
        return self._known[lease_id]

    async def release(
        self, lease_id: str, why: str = "it was released", caller: str = ""
    ) -> LeaseRow:
        """End a lease."""
        host, there = self._split(lease_id)
        release = wanted(LeaseRelease, id=there, why=why)
        return self._row(host, await self._remote.ask(host, release, caller))

    def tie(self, lease_id: str) -> LeaseRow:
        """Let it last until `untie`; it was given or renewed from here this moment."""
        row = self._known.get(lease_id)
        if row is None:
            raise UnknownLeaseError(f"no lease {printable(lease_id)!r} that was asked for here")
        tied = self._tied.setdefault(
            lease_id, _Tied(row["udid"], row["ttl"], self._clock.monotonic())
        )
        tied.ties += 1
        return row

    async def untie(self, lease_id: str, *, stopping: bool) -> None:
        """A connection ended: with the last one the lease does, unless it is the hub that stops."""
        tied = self._tied[lease_id]
        tied.ties -= 1
        if tied.ties:
            return
        del self._tied[lease_id]
        if stopping or tied.why:
            return
        try:
            await self.release(lease_id, "its holder's connection ended")
        except UnknownLeaseError:
            pass  # it has ended meanwhile
        except AgentError as error:
            log.warning(
                "lease.not_released",
                id=lease_id,
                udid=tied.udid,
                error=str(error),
                hint=f"it ends by itself after {tied.ttl:g} s",
            )

    async def ended(self, lease_id: str, limit: float) -> str | None:
        """Why one that is tied has ended, within `limit` seconds; None: it is still in force."""
        tied = self._tied[lease_id]
        end = self._clock.monotonic() + limit
        while not tied.why:
            left = end - self._clock.monotonic()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(left):
                    await tied.news.wait()
            except TimeoutError:
                return None
            tied.news.clear()
            await self.renew(lease_id)  # says whether it has
        return tied.why

    # --- one device, or any ----------------------------------------------------------------

    async def _acquire(self, udid: str, asked: LeaseAcquire, caller: str) -> LeaseRow:
        place = self._directory.place(udid)
        if place is None:
            raise UnknownDeviceError(f"{udid} is not at any host: no agent has told of it yet")
        host, there = place
        wish = asked.model_copy(update={"udid": there})
        row = self._row(host, await self._remote.ask(host, wish, caller, asked.wait))
        self._used.pop(udid, None)
        self._used[udid] = self._clock.wall_ms()
        self._remember(row)
        return row

    async def _any(self, wish: Wish, asked: LeaseAcquire, caller: str) -> LeaseRow:
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} wait for devices already")
        end = self._clock.monotonic() + asked.wait
        at_once = asked.model_copy(update={"wait": 0.0})
        news = asyncio.Event()
        # In the order of asking: they are woken in it, and the lock keeps it.
        self._waiting[news] = None
        try:
            while True:
                news.clear()
                async with self._trying:
                    found = await self._try(wish, at_once, caller)
                if not isinstance(found, str):
                    return found
                left = end - self._clock.monotonic()
                if left <= 0:
                    waited = f"waited {asked.wait:g} s: " if asked.wait else ""
                    raise DeviceHeldError(waited + found)
                try:
                    async with asyncio.timeout(min(left, LOOK)):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            del self._waiting[news]

    async def _try(self, wish: Wish, asked: LeaseAcquire, caller: str) -> LeaseRow | str:
        """A lease on one that fits; or why there is none."""
        fitting = [each for each in self._candidates() if wish.fits(each)]
        if not fitting:
            raise UnknownDeviceError(f"{wish}: no device fits; `device-agent devices` lists them")
        leased = {row["udid"]: row for row in self._rows()}
        held = [
            f"{each.udid} is held by {leased[each.udid]['holder']}"
            for each in fitting
            if each.udid in leased
        ]
        free = [each for each in fitting if each.online and each.udid not in leased]
        used = self._used_ms(leased.values())
        silent: dict[str, str] = {}
        for each in sorted(free, key=lambda one: (one.tired, used.get(one.udid, 0), one.udid)):
            place = self._directory.place(each.udid)
            if place is None or place[0] in silent:
                continue
            try:
                return await self._acquire(each.udid, asked, caller)
            except HostUnreachableError as error:
                silent[place[0]] = str(error)
            except LeaseError as error:
                held.append(str(error))
        words = [*silent.values(), *held][:_NAMED] or ["none of them is online and unused"]
        return f"{wish}: of {len(fitting)} that fit none is free: {'; '.join(words)}"

    def _candidates(self) -> Iterator[Candidate]:
        for view in self._views.all():
            # One that comes and goes is no phone to begin a test on.
            online = view.state is DeviceState.ONLINE and not view.flapping
            tired = is_tired(view.battery)
            yield Candidate(view.udid, view.platform, view.tags, online=online, tired=tired)

    def _used_ms(self, rows: Iterable[LeaseRow]) -> dict[str, int]:
        found = dict(self._used)
        for row in rows:
            since = round(datetime.fromisoformat(row["since"]).timestamp() * 1000)
            found[row["udid"]] = max(since, found.get(row["udid"], 0))
        return found

    # --- rows ------------------------------------------------------------------------------

    def _rows(self) -> Iterator[LeaseRow]:
        for host, told in self._directory.leases():
            try:
                row = self._row(host, told)
            except AgentError:
                continue
            place = self._directory.place(row["udid"])
            if place is None or place[0] == host:  # no lease goes with a phone to another host
                yield row

    def _row(self, host: str, row: Mapping[str, Any]) -> LeaseRow:
        """An agent's row as the hub's."""
        try:
            platform = row["platform"]
            ttl = number_of(row, "ttl", MAX_TTL)
            return {
                "id": f"{text_of(row, 'id')}~{host}",
                "udid": self._directory.name_of(host, text_of(row, "udid")),
                "platform": None if platform is None else Platform(platform),
                "holder": text_of(row, "holder"),
                "purpose": text_of(row, "purpose"),
                "since": time_of(row, "since"),
                "ttl": ttl,
                "expires": time_of(row, "expires"),
                "taken_from": text_of(row, "taken_from"),
                "host": host,
            }
        except (KeyError, ValueError, TypeError, OverflowError):
            raise AgentError(
                f"{host} told of a lease that makes no sense: its version is another one"
            ) from None

    def _remember(self, row: LeaseRow) -> None:
        self._known.pop(row["id"], None)
        self._known[row["id"]] = row
        while len(self._known) > KNOWN:
            oldest = next((each for each in self._known if each not in self._tied), None)
            if oldest is None:
                break
            del self._known[oldest]

    def _split(self, lease_id: str) -> tuple[str, str]:
        there, tilde, host = lease_id.rpartition("~")
        if not tilde or host not in self._directory.names():
            raise UnknownLeaseError(
                f"no lease {printable(lease_id)!r}: one of the fleet is called ID~HOST, as "
                "`device-agent lease list` shows it"
            )
        return host, there


def _why_ended(error: UnknownLeaseError) -> str:
    """What an agent says of a lease that is not in force, without naming it."""
    before, found, why = str(error).partition("': ")
    return why if found and "no lease '" in before else str(error)

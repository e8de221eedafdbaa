"""Silences at a hub: made at the agents, each of which keeps back its own callbacks, too.

One of a device is its host's, one of a port is named `HOST/PORT`, and all others are every host's,
under one id. They are made at all of these hosts or at none; what cannot be reached is said. Only
hosts that are gone are left out: their phones are offline already, and some are gone for good.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.errors import (
    AgentError,
    HostUnreachableError,
    SilenceError,
    UnknownDeviceError,
    UnknownSilenceError,
)
from agent.fleet.operations import SilenceAdd, SilenceEnd, wanted
from agent.model import SilenceKind
from agent.service.fleet_rows import number_of, text_of, time_of
from agent.text import printable
from agent.track.silence_book import check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.clock import Clock
    from agent.fleet.hub.directory import Directory
    from agent.fleet.hub.remote import Remote
    from agent.fleet.operations import Operation
    from agent.service.devices import Devices
    from agent.service.silences import SilenceRow

log = structlog.get_logger(__name__)

_ID: Final = re.compile(r"[0-9a-f]{8}")
_MOST_DEVICES: Final = 1e6
"""Of one host: more is no figure of ours."""


class FleetSilenceDesk:
    """See `agent.service.silences.SilencesServed`; HostUnreachableError is raised, too.

    Args:
        remote: asks the agents.
        directory: which hosts there are.
        devices: the fleet's.
        clock: of the process.
    """

    def __init__(
        self, remote: Remote, directory: Directory, devices: Devices, clock: Clock
    ) -> None:
        self._remote = remote
        self._directory = directory
        self._devices = devices
        self._clock = clock

    @property
    def now_ms(self) -> int:
        """By this host's clock; agents are told how long it is until then."""
        return self._clock.wall_ms()

    def rows(self) -> list[SilenceRow]:
        """The silences in force, oldest first, as far as the agents have told."""
        found: dict[str, SilenceRow] = {}
        for host, told in self._directory.silences():
            try:
                row = self._row(host, told)
            except AgentError:
                continue
            _add(found, row)
        return sorted(found.values(), key=lambda row: (row["since"], row["id"]))

    async def add(
        self, kind: SilenceKind, value: str, reason: str, ends_ms: int, by: str
    ) -> SilenceRow:
        """Keep back what would be told of these devices, until then: everywhere, or nowhere."""
        hosts, value = self._where(kind, value)
        now_ms = self.now_ms
        value, reason = check(kind, value, reason, ends_ms, now_ms)
        seconds = (ends_ms - now_ms) / 1000
        id_ = secrets.token_hex(4)
        wish = wanted(
            SilenceAdd, id=id_, kind=kind, value=value, reason=reason, seconds=seconds, by=by
        )
        rows, errors = await self._ask(hosts, wish, by)
        if errors:
            # Those that did not answer may have it all the same.
            _, left = await self._ask(hosts, SilenceEnd(id=id_, by=by), by)
            left = {
                host: error
                for host, error in left.items()
                if not isinstance(error, UnknownSilenceError)
            }
            raise _all_or_none(errors, rows, left)
        found: dict[str, SilenceRow] = {}
        for host, told in rows.items():
            _add(found, self._row(host, told))
        return found[id_]

    async def end(self, silence_id: str, by: str) -> SilenceRow:
        """End one before its time, wherever it is."""
        known = {host for host, row in self._directory.silences() if row.get("id") == silence_id}
        # One that was made this moment may not have been told of yet.
        hosts = sorted(known) or self._directory.names()
        if not _ID.fullmatch(silence_id) or not hosts:
            raise UnknownSilenceError(f"no silence {printable(silence_id)!r}")
        rows, errors = await self._ask(hosts, SilenceEnd(id=silence_id, by=by), by)
        unknown = [each for each in errors.values() if isinstance(each, UnknownSilenceError)]
        others = {
            host: each for host, each in errors.items() if not isinstance(each, UnknownSilenceError)
        }
        if others and (rows or known):
            raise HostUnreachableError(
                f"silence {silence_id} lasts on at {_those(others)}: {_first(others)}; it has "
                f"ended at {_those(rows) or 'no other host'}. End it again once they can be reached"
            )
        if others and not unknown:
            raise next(iter(others.values()))
        if not rows:
            raise next(iter(unknown))
        found: dict[str, SilenceRow] = {}
        for host, told in rows.items():
            _add(found, self._row(host, told))
        return found[silence_id]

    # --- inside ----------------------------------------------------------------------------

    def _where(self, kind: SilenceKind, value: str) -> tuple[list[str], str]:
        """At which hosts, and what it is called there."""
        hosts = self._directory.names()
        if kind is SilenceKind.DEVICE:
            udid = self._devices.udid(value)
            place = self._directory.place(udid)
            if place is None:
                raise UnknownDeviceError(f"{udid} is not at any host: no agent has told of it yet")
            return [place[0]], place[1]
        if not hosts:
            raise SilenceError("no host of the fleet is known yet: nothing can be silenced")
        if kind is not SilenceKind.HUB:
            reachable = self._directory.reachable()
            if reachable and (left_out := set(hosts) - set(reachable)):
                log.warning(
                    "silence.hosts_left_out",
                    hosts=sorted(left_out),
                    hint="they are gone; what comes back of them is not silenced",
                )
            return reachable or hosts, value
        host, slash, port = value.partition("/")
        if not slash or host not in hosts:
            shown = ", ".join(hosts[:5]) + (" …" if len(hosts) > 5 else "")  # noqa: PLR2004 - as sliced
            raise SilenceError(
                f"a hub or port of the fleet is HOST/PORT, such as {hosts[0]}/1-4.2, not "
                f"{printable(value)!r}; hosts: {shown}"
            )
        return [host], port

    async def _ask(
        self, hosts: Sequence[str], operation: Operation, by: str
    ) -> tuple[dict[str, Mapping[str, Any]], dict[str, AgentError]]:
        """All at once: what each answered, and what went wrong."""
        answers = await asyncio.gather(
            *(self._remote.ask(host, operation, by) for host in hosts), return_exceptions=True
        )
        rows: dict[str, Mapping[str, Any]] = {}
        errors: dict[str, AgentError] = {}
        for host, answer in zip(hosts, answers, strict=True):
            if isinstance(answer, AgentError):
                errors[host] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                rows[host] = answer
        return rows, errors

    def _row(self, host: str, row: Mapping[str, Any]) -> SilenceRow:
        """An agent's row as the hub's."""
        try:
            kind, value = SilenceKind(row["kind"]), text_of(row, "value")
            if kind is SilenceKind.DEVICE:
                value = self._directory.name_of(host, value)
            elif kind is SilenceKind.HUB:
                value = f"{host}/{value}"
            return {
                "id": text_of(row, "id"),
                "kind": kind,
                "value": value,
                "reason": text_of(row, "reason"),
                "by": text_of(row, "by"),
                "since": time_of(row, "since"),
                "ends": time_of(row, "ends"),
                "devices": int(number_of(row, "devices", _MOST_DEVICES)),
            }
        except (KeyError, ValueError, TypeError, OverflowError):
            raise AgentError(
                f"{host} told of a silence that makes no sense: its version is another one"
            ) from None


def _add(found: dict[str, SilenceRow], row: SilenceRow) -> None:
    """One silence is one row, whichever hosts have it."""
    known = found.setdefault(row["id"], row)
    if known is row:
        return
    found[row["id"]] = {
        **known,
        "since": min(known["since"], row["since"]),
        "ends": max(known["ends"], row["ends"]),
        "devices": known["devices"] + row["devices"],
    }


def _all_or_none(
    errors: Mapping[str, AgentError],
    rows: Mapping[str, object],
    left: Mapping[str, AgentError],
) -> AgentError:
    """Why nothing is silenced, and what may be all the same."""
    first = next(iter(errors.values()))
    if len(errors) == 1 and not rows:
        return first
    unsure = [host for host in left if host in rows]
    more = (
        f"; it may count at {_those(unsure)}, which could not be asked to end it" if unsure else ""
    )
    text = f"nothing is silenced, for {_those(errors)} did not do it: {_first(errors)}{more}"
    if isinstance(first, HostUnreachableError):
        return HostUnreachableError(text)
    error = type(first)(text) if isinstance(first, SilenceError) else SilenceError(text)
    error.code = first.code
    return error


def _those(hosts: Iterable[str]) -> str:
    names = sorted(hosts)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004 - as sliced


def _first(errors: Mapping[str, AgentError]) -> str:
    return str(next(iter(errors.values())))

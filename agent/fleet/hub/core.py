"""What the hub hears, taken to where it belongs: hosts' logs, the board, the store's next commit.

All methods run on the event loop's thread and await nothing. Work that may be long is left in
`work`, a step at a time, for whoever has the loop's slices to give (`do`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from agent.fleet.hub.hosts import Host, Need, Presence, Verdict
from agent.fleet.hub.stored import Mark
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.clock import Clock
    from agent.fleet.hub.board import Board, Decision
    from agent.fleet.hub.commits import FleetCommits
    from agent.fleet.hub.seen_time import SeenTime
    from agent.fleet.words import Heartbeat, HostSnapshot, TransitionTold

log = structlog.get_logger(__name__)

MOST_HOSTS: Final = 1_000


class Core:
    """Takes words.

    Args:
        board: decides.
        commits: stores.
        seen: the hub's own time.
        clock: of the process.
        changed: told of each device whose view may have changed.
        silenced: called when a host's silences are others.
    """

    def __init__(
        self,
        board: Board,
        commits: FleetCommits,
        seen: SeenTime,
        clock: Clock,
        changed: Callable[[str], None],
        silenced: Callable[[], None],
    ) -> None:
        self.board = board
        self.hosts = board.hosts
        self.seen = seen
        self.latest: dict[str, HostSnapshot] = {}
        """Each host's last snapshot without its devices: its leases and silences."""
        self._more: dict[str, HostSnapshot] = {}
        """Likewise, with more about its devices, until that is taken: 10,000 of them take 20 MB."""
        self._commits = commits
        self._clock = clock
        self._changed = changed
        self._silenced = silenced
        self._work: deque[Iterator[list[Decision]]] = deque()

    # --- words ------------------------------------------------------------------------------

    def beat(self, beat: Heartbeat) -> None:
        """A host lives."""
        host = self.host(beat.host)
        if host is None:
            return
        before, caught_up = host.presence, host.caught_up
        host.beat(beat, self.seen.seconds)
        if before is not Presence.ALIVE:
            self._say_presence(host, before)
        self._look_if(host, before is not host.presence or caught_up is not host.caught_up)

    def row(self, told: TransitionTold) -> Verdict:
        """A row of a host's log."""
        host = self.hosts.get(told.host)
        if host is None:
            return Verdict.STRANGE  # until it is heard to live
        verdict = host.judge(told.epoch, told.id, told.before)
        if verdict is Verdict.TAKE:
            self._at_now()
            caught_up = host.caught_up
            self._commits.enter(self.board.tell(told.host, told.device))
            host.took(told.id, told.check)
            self._mark(host)
            self._look_if(host, caught_up is not host.caught_up)
            self._refresh(host)
        return verdict

    def whole(self, snapshot: HostSnapshot) -> Iterator[None]:
        """All that a host has, as it was asked for; its log goes on behind it. A step a device.

        To be run to its end before any other row of that host.
        """
        host = self.host(snapshot.host)
        if host is None:
            return
        anew = host.epoch is not None and host.epoch != snapshot.epoch
        caught_up = host.caught_up
        say(
            log.info,
            "fleet.snapshot",
            host=host.name,
            devices=len(snapshot.devices),
            through=snapshot.through,
            behind=host.cursor,
            new_log=anew or host.epoch is None,
        )
        if anew:
            for decisions in self.board.flush(host.name):
                self._commits.enter(decisions)
        host.opened(snapshot.epoch)
        for decisions in self.board.snapshot(snapshot, anew=anew):
            self._at_now()
            self._commits.enter(decisions)
            yield
        host.begin(snapshot.through, snapshot.check)
        self._mark(host)
        self._more.pop(host.name, None)
        self._keep(snapshot)
        self._look_if(host, caught_up is not host.caught_up)

    def glimpse(self, snapshot: HostSnapshot) -> None:
        """All that a host has, as it was published: says more about devices than its log."""
        host = self.hosts.get(snapshot.host)
        if host is not None and host.epoch == snapshot.epoch:
            self._more[host.name] = snapshot
            self._keep(snapshot)
            host.told(snapshot.through)
            self._refresh(host)

    def hole(self, name: str) -> None:
        """A host's log cannot be gone on with."""
        self.hosts[name].hole()

    def forget(self, names: Iterable[str]) -> None:
        """What was taken of these was not stored: all of it is to be asked for anew."""
        for name in names:
            if name in self.hosts:
                self.hosts[name].forget()

    def drop(self, name: str) -> None:
        """That host is known no more, nor what it told."""
        self._at_now()
        self._commits.enter(self.board.forget(name))
        self._commits.unmark(name)
        self._more.pop(name, None)
        if self.latest.pop(name, None) is not None:
            self._silenced()

    # --- time -------------------------------------------------------------------------------

    def tick(self) -> None:
        """The hub has heard itself: what has ripened?"""
        self._at_now()
        policy = self.board.policy
        for host in self.hosts.values():
            before = host.presence
            if host.age(self.seen.seconds, policy.host_grace, policy.source_grace):
                self._say_presence(host, before)
                self._look_if(host, True)
        self._work.append(self.board.ripe())
        self._commits.tick()

    def pay(self, until: float) -> bool:
        """Tell what silences kept back that have ended, and who has waited; whether more is left.

        Until that moment of `time.monotonic`, and one device at least.
        """
        self._at_now()
        return self._commits.pay(until)

    def do(self) -> bool:
        """A step of what is left; whether there was one."""
        while self._work:
            self._at_now()
            decisions = next(self._work[0], None)
            if decisions is not None:
                self._commits.enter(decisions)
                return True
            self._work.popleft()
        return False

    # --- hosts ------------------------------------------------------------------------------

    def host(self, name: str) -> Host | None:
        """That one, from now on; None: there are too many."""
        host = self.hosts.get(name)
        if host is None and len(self.hosts) < MOST_HOSTS:
            host = self.hosts[name] = Host(name, heard=self.seen.seconds)
            say(log.info, "fleet.host_new", host=name)
        return host

    def wanting(self) -> list[Host]:
        """The hosts that are to be asked for something, and can be."""
        return [
            host
            for host in self.hosts.values()
            if host.need is not Need.NOTHING and host.presence is Presence.ALIVE
        ]

    def marks(self) -> list[Mark]:
        """Where each log is, but for those that are taken anew."""
        return [
            Mark(host.name, host.epoch, host.cursor, host.check)
            for host in self.hosts.values()
            if host.epoch is not None and host.need is not Need.SNAPSHOT
        ]

    # --- inside -----------------------------------------------------------------------------

    def _keep(self, snapshot: HostSnapshot) -> None:
        before = self.latest.get(snapshot.host)
        self.latest[snapshot.host] = snapshot.model_copy(update={"devices": ()})
        if snapshot.silences != (before.silences if before is not None else ()):
            self._silenced()

    def _at_now(self) -> None:
        self.board.seen, self.board.now_ms = self.seen.seconds, self._clock.wall_ms()

    def _mark(self, host: Host) -> None:
        assert host.epoch is not None
        self._commits.mark(Mark(host.name, host.epoch, host.cursor, host.check))

    def _look_if(self, host: Host, other: bool) -> None:
        if not other:
            return
        self._work.append(self.board.look(host.name))
        for serial in self.board.of_host(host.name):
            told = self.board.word(host.name, serial)
            if told is not None:
                self._changed(told.key)

    def _refresh(self, host: Host) -> None:
        """What its last snapshot says of its devices, where it is of just this moment of its log.

        Another one may come meanwhile, and other rows.
        """
        snapshot = self._more.get(host.name)
        if snapshot is not None and _is_of_now(snapshot, host):
            self._work.append(self._refreshing(host, snapshot))

    def _refreshing(self, host: Host, snapshot: HostSnapshot) -> Iterator[list[Decision]]:
        steps = self.board.refresh(snapshot)
        while self._more.get(host.name) is snapshot and _is_of_now(snapshot, host):
            decisions = next(steps, None)
            if decisions is None:
                del self._more[host.name]
                return
            yield decisions

    def _say_presence(self, host: Host, before: Presence) -> None:
        silent = round(self.seen.seconds - host.heard, 1)
        match host.presence:
            case Presence.ALIVE if before in {Presence.LOST, Presence.GONE}:
                say(log.info, "fleet.host_back", host=host.name)
            case Presence.LOST:
                say(
                    log.warning,
                    "fleet.host_lost",
                    host=host.name,
                    silent_s=silent,
                    hint="its phones keep their states for [hold] source_grace",
                )
            case Presence.GONE:
                say(log.warning, "fleet.host_gone", host=host.name, silent_s=silent)
            case _:
                say(log.info, "fleet.host_alive", host=host.name, version=host.version)


def _is_of_now(snapshot: HostSnapshot, host: Host) -> bool:
    """Whether it is of just the moment of the host's log that the hub is at."""
    return (snapshot.epoch, snapshot.through) == (host.epoch, host.cursor)

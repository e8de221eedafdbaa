"""Which state each phone of the fleet is in, by what its hosts tell. Pure: no clock, I/O or await.

Theory of operation. A host tells what every phone of it does, in order (`hosts`); the board keeps
the last word of each host on each phone (`Told`), and for each phone its owner (`ownership`) and
the state that counts. What comes in, and what it decides:

    input                                   decided
    the owner tells a state                 a transition to it, at once; but unplugged is pending
    the owner tells another state while     that waits, and all that it tells after it, until each
      its unplugged is pending                other host that is not gone was heard after it, and
                                              its log is taken: then the unplugged first, for it
                                              came back where it left, which is no move
    the phone arrives elsewhere meanwhile   it is there: no unplugged; what waits is told once it
                                              has left there, or that host has said all it has
    the phone arrives on USB elsewhere      the owner changes; a transition where that host tells
                                              another state than the one that counts, else none
    the owner's unplugged has been          a transition to unplugged
      pending for `move_hold`, and each
      other host that is not gone was
      heard lately: none of them has it
    another host tells anything else        nothing: its word is kept
    a host is lost                          nothing yet
    a host is gone (lost, and source_grace  its phones that are not unplugged, nor pending, go
      over)                                   offline; those that another host holds go there
    a host that is gone tells something     as any owner; offline again with the hub's next
                                              heartbeat, if it is still gone
    a host is back, and its log is taken    its phones go to what it tells
    a snapshot                              each phone as if it were told now; what it leaves out is
                                              told of no more, and of a new log: unplugged
    a phone is held by two hosts' USB       two phones: see `ownership`
    a host is forgotten                     it tells of no phone any more; those that another host
                                              holds go there, the others keep the state that counts
                                              and are not shown, until some host tells of them

Logs may be taken one before the other: of a phone that went from A to B and back, A's whole log
before B's, or B's before A's. Clocks are not compared, so that one log does not say when it was in
the other; but a phone is at one place at a time, and each visit elsewhere fits between two at one
host. Hence what waits: `Told.waits`, stored with the cursor. Hence a host that still holds a phone
which has arrived elsewhere since (`_passed`) is no heir before it was heard again. And hence visits
that were taken while a host's log was behind are counted (`Told.visits`): the phone came back to
that host so often from elsewhere, not from where it left. Once the host is heard with nothing more
to say, they count no more.

An unplugged is pending where the owner says so and another state counts: that is not stored, and
after a restart its hold begins anew. All times are seen time (`seen_time`), but the ends of
silences. A decision says what caused it, from which its callbacks' message ids are made, alike at
every hub: the event in a host's log; where that has made a state before (`used`), with the
heartbeat behind which the host was lost, or by which it came back, or the event elsewhere by which
the phone moved. No two have one id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.fleet.hub.hosts import Presence
from agent.fleet.hub.message_ids import Cause, host_cause
from agent.fleet.hub.ownership import TWIN_AFTER, arrives, heir, holds, holds_on_usb
from agent.fleet.hub.stored import Quiet, Told, clean, fit, told_row
from agent.model import DeviceState
from agent.reasons import Reason, ReasonCode
from agent.track.silence_book import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.fleet.hub.hosts import Host
    from agent.fleet.words import DeviceTold, HostSnapshot
    from agent.model import DeviceRecord

MOST_DEVICES: Final = 5_000
"""Devices of one host: no rack has that many."""
MOST_HIDDEN: Final = 10_000
SOME: Final = 100
"""Devices of a snapshot that are compared in one step."""
SAME_END_MS: Final = 3_000
"""Milliseconds that the end of one silence may seem to be apart, told twice."""
LATELY: Final = 7.5
"""Seconds of seen time: who lives was heard within them, for a heartbeat comes every 5 s."""
MOST_WAITS: Final = 64
"""Words of one host on one phone that wait; beyond, its unplugged is told."""
_NO_MORE: Final = float("-inf")
_UNPLUGGED: Final = DeviceState.UNPLUGGED
_OFFLINE: Final = DeviceState.OFFLINE


@dataclass(frozen=True, slots=True)
class Decision:
    """A phone's row is another one; where `counts`, it made a transition."""

    key: str
    told: Told
    """The owner's word."""
    previous: DeviceState | None
    state: DeviceState
    reason: Reason | None
    """None: as it was, and the holder, too."""
    holder: str | None
    told_cause: str | None
    """What its owner says that its transition had in common with others'; None: as it was."""
    cause: Cause | None
    """Of the callbacks; None: it makes none."""
    counts: bool
    moved_from: str = ""
    """The owner before, where it is another one."""


@dataclass(slots=True)
class Phone:
    """One phone as it counts."""

    key: str
    serial: str
    """What its hosts call it."""
    owner: str
    state: DeviceState | None = None
    """None: nothing counted yet."""
    pending: float | None = None
    """Since when its unplugged waits; None: none does."""
    twin: bool = False
    """It is its owner's alone."""


@dataclass(slots=True)
class Policy:
    """Seconds of seen time."""

    host_grace: float
    source_grace: float
    move_hold: float


@dataclass(slots=True)
class Board:
    """All phones.

    `hosts` is shared with whoever takes their logs; `dirty` says which words are to be stored.
    """

    policy: Policy
    hosts: dict[str, Host] = field(default_factory=dict)
    phones: dict[str, Phone] = field(default_factory=dict)
    dirty: dict[tuple[str, str], None] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    """Phones whose hosts tell of them no more."""
    seen: float = 0.0
    now_ms: int = 0
    """Wall clock, for the ends of silences."""
    refused: int = 0
    """Devices that were left out, because their host tells of too many."""
    _told: dict[str, dict[str, Told]] = field(default_factory=dict)
    """By serial and host."""
    _of_host: dict[str, set[str]] = field(default_factory=dict)
    """Serials that each host tells of."""
    _twins: set[tuple[str, str]] = field(default_factory=set)
    """(serial, host) of phones that are called `serial@host`."""
    _hidden: dict[tuple[str, str], Told] = field(default_factory=dict)
    """What hosts have told that tell of it no more: they may again."""
    _conflicts: dict[tuple[str, str], float] = field(default_factory=dict)
    """(serial, host that is not its owner) → since when both have it on USB."""
    _waiting: set[str] = field(default_factory=set)
    """Phones whose unplugged is pending."""
    _queued: dict[tuple[str, str], float] = field(default_factory=dict)
    """(serial, host) whose words wait → since when."""
    _passed: dict[tuple[str, str], float] = field(default_factory=dict)
    """(serial, host that has it on USB) → when it arrived elsewhere, by what that one told."""
    _visited: dict[tuple[str, str], float] = field(default_factory=dict)
    """(serial, host with `Told.visits`) → since when that is so many."""
    _lately: dict[str, float] = field(default_factory=dict)
    """Serials with `Told.lately` → since when that is so many."""
    _late: set[str] = field(default_factory=set)
    """Phones of which a host's log told that is gone: its heartbeat may be just behind."""

    # --- what is known ----------------------------------------------------------------------

    def restore(self, records: Iterable[DeviceRecord], told: Iterable[Told]) -> None:
        """As it was stored."""
        for each in told:
            self._keep(each)
            self._restore_visits(each)
        for record in records:
            if record.host:
                serial = record.serial or record.udid
                twin = record.udid == f"{serial}@{record.host}"
                if twin:
                    self._twins.add((serial, record.host))
                phone = self.phones[record.udid] = Phone(
                    record.udid, serial, record.host, record.state, twin=twin
                )
                word = self._owners_word(phone)
                if word is not None and not holds(word) and record.state is not _UNPLUGGED:
                    self._wait(phone, self.seen)
                for each in self._candidates(phone):
                    if each.host != phone.owner and holds_on_usb(each):
                        self._passed[phone.serial, each.host] = self.seen
        self.dirty.clear()

    def _restore_visits(self, told: Told) -> None:
        """All times begin anew."""
        serial, seen = told.device.udid, self.seen
        if told.visits:
            self._visited[serial, told.host] = seen
        if told.lately:
            self._lately[serial] = seen
        if told.waits:
            self._queued[serial, told.host] = seen

    def word(self, host: str, serial: str) -> Told | None:
        """What a host last told of a device."""
        return self._told.get(serial, {}).get(host)

    def of(self, key: str) -> Told | None:
        """The owner's word on a phone; None: it tells of it no more."""
        phone = self.phones.get(key)
        return None if phone is None else self._owners_word(phone)

    def words(self) -> Iterator[Told]:
        """All that is told."""
        for by_host in self._told.values():
            yield from by_host.values()

    def of_host(self, host: str) -> frozenset[str]:
        """The serials that it tells of."""
        return frozenset(self._of_host.get(host, ()))

    # --- input ------------------------------------------------------------------------------

    def tell(self, host: str, device: DeviceTold) -> list[Decision]:
        """The host's word on one device, from now on."""
        told = self._next(host, device)
        if told is None:
            return []
        phone = self.phones.get(told.key)
        before = self.word(host, told.device.udid)
        if phone is None:
            phone = self._meet(told)
        elif before is None and phone.owner == host:
            # Its host was forgotten, and with it that this event may have made something.
            told.used = max(told.used, 1)
        if before is not None and (before.waits or self._returns(phone, before, told.device)):
            self._queue(before, told)
            return self._settle(phone)
        return self._count(phone, told)

    def flush(self, host: str) -> Iterator[list[Decision]]:
        """Its log has ended: what waits of it waits no more."""
        for serial in [serial for serial, other in sorted(self._queued) if other == host]:
            yield self._end_wait(host, serial)

    def _end_wait(self, host: str, serial: str) -> list[Decision]:
        told = self.word(host, serial)
        if told is None or not told.waits:
            return []
        self._queued[serial, host] = _NO_MORE
        return self._settle(self.phones[told.key])

    def _count(self, phone: Phone, told: Told) -> list[Decision]:
        """That word counts now."""
        host = told.host
        before = self.word(host, phone.serial)
        old = None if before is None else before.device
        if holds_on_usb(told) and not holds(before) and not told.twin:
            self._visit(told, first=before is None)
        decisions: list[Decision] = []
        if phone.owner == host:
            if before is not None and self._returns(phone, before, told.device):
                decisions.append(self._enter(phone, before, _UNPLUGGED))
                told.used = 0
            self._keep(told)
            if told.used and told.device.state is not phone.state:
                decisions.append(self._refresh(phone, told))  # told again: see `_come_or_go`
            else:
                decisions += self._follow(phone, told)
        else:
            self._keep(told)
            if arrives(old, told.device):
                if self._is_another(phone, host):
                    decisions += self._split(told)
                else:
                    decisions += self._move(phone, told)
        if self._gone(phone.owner) and phone.owner == host:
            self._late.add(phone.key)
            return decisions
        return decisions + self._settle(phone)

    def snapshot(self, snapshot: HostSnapshot, *, anew: bool) -> Iterator[list[Decision]]:
        """All that the host tells; anew: its log is another one than before. A step a device.

        In the order of what happened to them there.
        """
        host = snapshot.host
        for device in sorted(snapshot.devices[:MOST_DEVICES], key=lambda each: each.event):
            yield self.tell(host, device)
        listed = {clean(device).udid for device in snapshot.devices}
        for serial in sorted(self.of_host(host) - listed):
            yield self._untold(host, serial, anew=anew)

    def refresh(self, snapshot: HostSnapshot) -> Iterator[list[Decision]]:
        """What a snapshot of just this moment of the host's log says besides states."""
        listed = set()
        for number, device in enumerate(snapshot.devices[:MOST_DEVICES], start=1):
            if number % SOME == 0:
                yield []
            before = self.word(snapshot.host, device.udid)
            if before is not None and before.says(device):
                listed.add(device.udid)  # so it is with most: each second there is a snapshot
                continue
            told = self._next(snapshot.host, device)
            if told is None:
                continue
            listed.add(told.device.udid)
            known = self.word(snapshot.host, told.device.udid)
            last = None if known is None else (known.device, *known.waits)[-1]
            if last is None or (last.state is device.state and known != told):
                yield self.tell(snapshot.host, device)
        for serial in sorted(self.of_host(snapshot.host) - listed):
            yield self._untold(snapshot.host, serial, anew=False)

    def look(self, host: str) -> Iterator[list[Decision]]:
        """The host is there, lost, gone or back: what that means for its phones."""
        for serial in sorted(self.of_host(host)):
            told = self.word(host, serial)
            phone = None if told is None else self.phones.get(told.key)
            if phone is not None:
                yield self._settle(phone)

    def ripe(self) -> Iterator[list[Decision]]:
        """What the time has brought by now."""
        self._forget_visits()
        late, self._late = self._late, set()
        queued = {told.key for s, host in self._queued if (told := self.word(host, s)) is not None}
        for key in sorted(self._waiting | late | queued):
            phone = self.phones.get(key)
            if phone is not None:
                yield self._settle(phone)
        for (serial, host), since in sorted(self._conflicts.items()):
            if self._is_certain(host, since) and self._is_certain(self.phones[serial].owner, since):
                told = self.word(host, serial)
                assert told is not None
                yield self._split(told)

    def forget(self, host: str) -> list[Decision]:
        """That host is there no more, nor what it told."""
        self.hosts.pop(host, None)
        decisions: list[Decision] = []
        for serial in sorted(self.of_host(host)):
            decisions += self._untold(host, serial, anew=False)
            self._hidden.pop((host, serial), None)
        self._of_host.pop(host, None)
        return decisions

    # --- inside -----------------------------------------------------------------------------

    def _next(self, host: str, device: DeviceTold) -> Told | None:
        """Its word from now on; None: it tells of too many devices already."""
        silence, device = device.silence, clean(device)
        before = self.word(host, device.udid)
        told = Told(host, device, twin=(device.udid, host) in self._twins)
        if before is None and len(self._of_host.get(host, ())) >= MOST_DEVICES:
            self.refused += 1
            return None
        known = before or self._hidden.get((host, device.udid))
        if known is not None:
            same = (known.device.event, known.device.state) == (device.event, device.state)
            told.used = known.used if same else 0
            told.visits, told.lately = known.visits, known.lately
        if silence is not None:
            ends_ms = self.now_ms + round(min(silence.left, LONGEST) * 1000)
            old = None if before is None else before.silence
            if old is not None and old.id == silence.id:
                # It is told time and again; each on its way took a while.
                ends_ms = old.ends_ms if abs(old.ends_ms - ends_ms) <= SAME_END_MS else ends_ms
            told.silence = Quiet(fit(silence.id), fit(silence.reason), ends_ms)
        return told

    def _keep(self, told: Told) -> None:
        serial = told.device.udid
        by_host = self._told.setdefault(serial, {})
        before = by_host.get(told.host)
        if before != told and (before is None or _is_stored_otherwise(before, told)):
            self.dirty[told.host, serial] = None
        by_host[told.host] = told
        if not holds_on_usb(told):
            self._passed.pop((serial, told.host), None)
        self._hidden.pop((told.host, serial), None)
        self._of_host.setdefault(told.host, set()).add(serial)

    def _meet(self, told: Told) -> Phone:
        phone = Phone(told.key, told.device.udid, told.host, twin=told.twin)
        self.phones[told.key] = phone
        return phone

    def _untold(self, host: str, serial: str, *, anew: bool) -> list[Decision]:
        told = self.word(host, serial)
        if told is None:
            return []
        if anew:
            if told.device.state is _UNPLUGGED and not told.device.event:
                return []
            why = {
                "reason": f"the agent of {host} began a new store, and knows it no more",
                "code": ReasonCode.HOST_BEGAN_ANEW.value,
                "holder": "",
                "cause": "",
            }
            return self.tell(
                host, told.device.model_copy(update={"state": _UNPLUGGED, "event": 0, **why})
            )
        decisions = self._end_wait(host, serial)
        told = self._told[serial].pop(host)
        self._queued.pop((serial, host), None)
        self._visited.pop((serial, host), None)
        self._passed.pop((serial, host), None)
        self._twins.discard((serial, host))
        if len(self._hidden) < MOST_HIDDEN:
            self._hidden[host, serial] = told
        self._of_host[host].discard(serial)
        self._conflicts.pop((serial, host), None)
        self.dirty[host, serial] = None
        phone = self.phones.get(told.key)
        self.touched[told.key] = None
        return decisions if phone is None else decisions + self._settle(phone)

    def _owners_word(self, phone: Phone) -> Told | None:
        told = self.word(phone.owner, phone.serial)
        return told if told is not None and told.twin == phone.twin else None

    def _can_be_heir(self, host: str) -> bool:
        known = self.hosts.get(host)
        return known is not None and known.caught_up

    def _gone(self, host: str) -> bool:
        known = self.hosts.get(host)
        return known is None or known.presence is Presence.GONE

    def _candidates(self, phone: Phone) -> list[Told]:
        if phone.twin:
            return []
        return [told for told in self._told.get(phone.serial, {}).values() if not told.twin]

    def _is_another(self, phone: Phone, host: str) -> bool:
        """Whether what arrives there is a further phone of a serial that two have already."""
        by_host = self._told.get(phone.serial, {})
        twins = any(told.twin for told in by_host.values() if told.host != host)
        return twins and holds_on_usb(self._owners_word(phone)) and not self._gone(phone.owner)

    def _follow(self, phone: Phone, told: Told) -> list[Decision]:
        """The owner told that."""
        state = told.device.state
        if state is _UNPLUGGED and phone.state is None:
            return [self._enter(phone, told, _UNPLUGGED, counts=False)]
        if state is _UNPLUGGED or state is phone.state:
            return [self._refresh(phone, told)]
        return [self._enter(phone, told, state)]

    def _move(self, phone: Phone, told: Told, why: str = "") -> list[Decision]:
        """It is that host's from now on."""
        left = self._owners_word(phone)
        before, phone.owner = phone.owner, told.host
        if holds_on_usb(left):
            self._passed[phone.serial, before] = self.seen
        self._passed.pop((phone.serial, told.host), None)
        self._conflicts.pop((phone.serial, told.host), None)
        self._wait(phone, None)
        if told.device.state is phone.state:
            return [self._refresh(phone, told, moved_from=before)]
        return [self._enter(phone, told, told.device.state, why, moved_from=before)]

    def _split(self, told: Told) -> list[Decision]:
        """What that host has is another phone of the same serial."""
        self._conflicts.pop((told.device.udid, told.host), None)
        told.twin, told.used, told.visits = True, 0, 0
        self._twins.add((told.device.udid, told.host))
        self.dirty[told.host, told.device.udid] = None
        phone = self.phones.get(told.key) or self._meet(told)
        phone.twin, phone.serial = True, told.device.udid
        return self._follow(phone, told) + self._settle(phone)

    def _settle(self, phone: Phone) -> list[Decision]:
        """What follows from how things stand now, whatever came last."""
        decisions = self._stand(phone)
        while (waits := self._next_waiting(phone)) is not None:
            first, *rest = waits.waits
            told = self._next(waits.host, first)
            assert told is not None
            told.silence, told.waits = waits.silence, tuple(rest)
            if not rest:
                del self._queued[phone.serial, waits.host]
            if self._left_before(phone, waits, told):
                decisions.append(self._enter(phone, waits, _UNPLUGGED))
            decisions += self._count(phone, told)
        return decisions

    def _stand(self, phone: Phone) -> list[Decision]:
        decisions: list[Decision] = []
        word = self._owners_word(phone)
        if not holds(word) or self._gone(phone.owner):
            there = [told for told in self._candidates(phone) if not self._has_passed(told)]
            other = heir(there, phone.owner, self._can_be_heir)
            if other:
                told = self.word(other, phone.serial)
                assert told is not None
                left = phone.owner, word.device.event if word else 0, self._beat_of(phone.owner)
                decisions += self._move(phone, told, "moved:{}:{}:{}".format(*left))
                word = told
        if word is None:
            self._wait(phone, None)
        elif not holds(word):
            decisions += self._wait_or_leave(phone, word)
        else:
            self._wait(phone, None)
            decisions += self._come_or_go(phone, word)
        self._watch_conflicts(phone)
        return decisions

    def _wait_or_leave(self, phone: Phone, word: Told) -> list[Decision]:
        if phone.state in {None, _UNPLUGGED}:
            self._wait(phone, None)
            return []
        if phone.pending is None:
            self._wait(phone, self.seen)
        assert phone.pending is not None
        if self.seen - phone.pending < self.policy.move_hold or self._may_be_elsewhere(phone):
            return []
        self._wait(phone, None)
        return [self._enter(phone, word, _UNPLUGGED)]

    def _returns(self, phone: Phone, before: Told, now: DeviceTold) -> bool:
        """Whether it comes back to its owner, whose unplugged is pending."""
        return (
            phone.owner == before.host
            and not holds(before)
            and now.state is not _UNPLUGGED
            and phone.state not in {None, _UNPLUGGED}
            and not before.visits
        )

    def _visit(self, told: Told, *, first: bool) -> None:
        """It came there: each other host's log may be behind that, or this one's was."""
        serial = told.device.udid
        others = [o for o in self._told.get(serial, {}).values() if o.host != told.host]
        if not first:
            told.visits = max(0, told.visits - 1)
        elif visits := max((each.lately for each in others), default=0):
            told.visits = visits  # it may have been here before each of them
            self._visited[serial, told.host] = self.seen
        if others:
            told.lately = 1 + max(each.lately for each in (told, *others))
            self._lately[serial] = self.seen
        for other in others:
            if not other.twin:
                other.visits += 1
                self._visited[serial, other.host] = self.seen
                self.dirty[other.host, serial] = None

    def _forget_visits(self) -> None:
        """What a host tells of from now on came after them."""
        for (serial, name), since in list(self._visited.items()):
            told, host = self.word(name, serial), self.hosts.get(name)
            assert told is not None
            if told.waits or (host is not None and not host.has_said_all(since)):
                continue
            told.visits = 0
            self.dirty[name, serial] = None
            del self._visited[serial, name]
        for serial, since in list(self._lately.items()):
            if all(host.has_said_all(since) for host in self.hosts.values()):
                for told in self._told.get(serial, {}).values():
                    told.lately = 0
                    self.dirty[told.host, serial] = None
                del self._lately[serial]

    def _queue(self, before: Told, told: Told) -> None:
        """That word counts after those that wait."""
        serial, waits = told.device.udid, before.waits
        last = waits[-1] if waits else None
        if last is not None and (last.event, last.state) == (told.device.event, told.device.state):
            waits = waits[:-1]  # it says more of that
        before.waits, before.silence = (*waits, told.device), told.silence
        self.dirty[told.host, serial] = None
        self._queued.setdefault((serial, told.host), self.seen)

    def _next_waiting(self, phone: Phone) -> Told | None:
        """The host's word behind which the next one of those that wait counts now."""
        if not self._queued:
            return None
        for told in sorted(self._told.get(phone.serial, {}).values(), key=lambda it: it.host):
            if told.waits and told.key == phone.key and not self._must_wait(phone, told):
                return told
        return None

    def _must_wait(self, phone: Phone, told: Told) -> bool:
        since = self._queued[phone.serial, told.host]
        if holds(told) or told.waits[0].state is _UNPLUGGED:
            return False
        if since == _NO_MORE or len(told.waits) > MOST_WAITS:
            return False
        if phone.twin or not self.policy.move_hold:
            return False  # it is its owner's alone; nobody is waited for
        if phone.owner == told.host:
            if phone.state in {None, _UNPLUGGED}:
                return False
        elif not holds(self._owners_word(phone)):
            return False
        return not all(
            host.has_said_all(since) for host in self.hosts.values() if host.name != told.host
        )

    def _left_before(self, phone: Phone, before: Told, now: Told) -> bool:
        """Whether it came back there before it went to its owner, who has it still.

        Each host has said all, and none had it and has it no more: it was nowhere else meanwhile.
        """
        return (
            phone.owner != before.host
            and phone.state is not _UNPLUGGED
            and not holds(before)
            and before.visits <= 1  # that of its owner's
            and holds_on_usb(now)
            and now.waits[-1:] != ()
            and now.waits[-1].state is _UNPLUGGED
            and holds(self._owners_word(phone))
            and self._sure(phone.owner)
        )

    def _has_passed(self, told: Told) -> bool:
        """Whether it has arrived elsewhere since that word, and its host was not heard again."""
        since = self._passed.get((told.device.udid, told.host))
        if since is None:
            return False
        host = self.hosts.get(told.host)
        if host is None or not host.has_said_all(since):
            return True
        del self._passed[told.device.udid, told.host]
        return False

    def _may_be_elsewhere(self, phone: Phone) -> bool:
        """Whether a host could have the phone that has not been able to say so.

        After an outage of the broker one host is connected seconds before the next.
        """
        if phone.twin or not self.policy.move_hold:
            return False  # it is its owner's alone; nobody is waited for
        return any(
            self._may_have_more(host) for host in self.hosts.values() if host.name != phone.owner
        )

    def _may_have_more(self, host: Host) -> bool:
        """Whether it may have something to say that is not taken."""
        match host.presence:
            case Presence.GONE:
                return False
            case Presence.UNHEARD:
                return True  # the hub has just begun
            case _:
                return self.seen - host.heard > LATELY or host.lag > 0

    def _come_or_go(self, phone: Phone, word: Told) -> list[Decision]:
        host = self.hosts.get(phone.owner)
        if host is None or phone.state is None:
            return []
        if host.presence is Presence.GONE:
            if phone.state in {_UNPLUGGED, _OFFLINE}:
                return []
            why = f"lost:{host.last_beat or word.used}"
            lost_with = host_cause(host.name, host.epoch or 0, host.cursor)
            return [self._enter(phone, word, _OFFLINE, why, lost_with, reason=lost(host.name))]
        if host.caught_up and phone.state is not word.device.state:
            why = f"back:{host.first_beat or word.used}"
            return [self._enter(phone, word, word.device.state, why)]
        return []

    def _wait(self, phone: Phone, since: float | None) -> None:
        phone.pending = since
        if since is None:
            self._waiting.discard(phone.key)
        else:
            self._waiting.add(phone.key)

    def _watch_conflicts(self, phone: Phone) -> None:
        if phone.twin:
            return
        owner = self._owners_word(phone)
        certain = holds_on_usb(owner) and self._sure(phone.owner)
        for told in self._told.get(phone.serial, {}).values():
            both = (
                certain
                and not told.twin
                and told.host != phone.owner
                and holds_on_usb(told)
                and self._sure(told.host)
            )
            if both:
                self._conflicts.setdefault((phone.serial, told.host), self.seen)
            else:
                self._conflicts.pop((phone.serial, told.host), None)

    def _is_certain(self, host: str, since: float) -> bool:
        """Whether it has had the time to say otherwise, and was heard after that."""
        known = self.hosts.get(host)
        return known is not None and known.heard - since >= TWIN_AFTER and not known.lag

    def _beat_of(self, host: str) -> str:
        """The last one of a host that is gone; what another tells says enough."""
        known = self.hosts.get(host)
        return known.last_beat if known is not None and known.presence is Presence.GONE else ""

    def _sure(self, host: str) -> bool:
        known = self.hosts.get(host)
        return known is not None and known.presence is Presence.ALIVE

    def _enter(
        self,
        phone: Phone,
        told: Told,
        state: DeviceState,
        why: str = "",
        lost_with: str = "",
        *,
        counts: bool = True,
        reason: Reason | None = None,
        moved_from: str = "",
    ) -> Decision:
        previous, phone.state = phone.state, state
        if state is _UNPLUGGED:
            self._wait(phone, None)
        itself = state is told.device.state
        return Decision(
            phone.key,
            told,
            previous,
            state,
            reason or Reason(told.device.reason, told.device.code),
            told.device.holder if itself else "",
            lost_with or (told.device.cause if itself else ""),
            self.cause(told, "" if itself and not told.used else why or f"again:{told.used}"),
            counts and previous is not state,
            moved_from,
        )

    def _refresh(self, phone: Phone, told: Told, moved_from: str = "") -> Decision:
        """No state, but what else is told of it may be new."""
        state = phone.state
        assert state is not None
        pending = told.device.state is not state
        return Decision(
            phone.key,
            told,
            state,
            state,
            None if pending else Reason(told.device.reason, told.device.code),
            None if pending else told.device.holder,
            None if pending else told.device.cause,
            None,
            counts=False,
            moved_from=moved_from,
        )

    def cause(self, told: Told, why: str) -> Cause:
        """Of a callback that is made of that word.

        `why` tells it from all others that are, and is the same at each hub that heard the same.
        """
        host = self.hosts.get(told.host)
        epoch = host.epoch if host is not None and host.epoch is not None else 0
        found = Cause(told.host, epoch, told.device.event, why)
        told.used += 1
        self.dirty[told.host, told.device.udid] = None
        return found


def lost(host: str) -> Reason:
    """Why its phones are offline."""
    return Reason(
        f"host {host} is lost: it is silent, and nobody knows what its phones do",
        ReasonCode.HOST_LOST,
    )


def _is_stored_otherwise(before: Told, told: Told) -> bool:
    """Whether the store is to have that: of a battery, which changes often, it has nothing."""
    if before.device.battery == told.device.battery:
        return True
    return told_row(before) != told_row(told)

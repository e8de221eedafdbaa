"""What phones say when asked over adb: their names, and whether they answer at all.

One phone that hangs costs its own slot for `probe_timeout` seconds, and nobody else anything:
names, probes and the repeated probes of silent phones have slots of their own, and no edge of the
device list ever waits for any of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.sources import adb_battery
from agent.sources.agenda import Agenda
from agent.sources.base import backoff
from agent.wire.adb import LateError, PhoneSilentError
from agent.wire.adb_lists import AdbError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config import Android
    from agent.model import Battery
    from agent.wire.adb import AdbClient, Heard

log = structlog.get_logger(__name__)

NAME_RETRIES = (5.0, 30.0, 120.0)
"""Seconds between tries to learn a phone's name; it may be booting. Then it stays nameless."""
NAMES_AT_ONCE = 64
"""Many: a phone that works must not wait for its first answer behind a rack of frozen ones. Not all
of a thousand: an adb server that selects (adb 29) ends at 1,024 descriptors."""
PROBES_AT_ONCE = 16
RETRIES_AT_ONCE = 8
RETRY_FIRST, RETRY_CAP = 1.0, 60.0
"""Seconds until a silent phone is asked again: the first time soon, it may just have been busy."""
OVERDUE = 1.0
"""Seconds that who a phone is may be waited for: less than the shortest usual hold."""
GRAINS = 60
"""Into so many batches the probes of an interval are gathered."""
GOLDEN = 0.6180339887498949
"""Multiples of it, less their whole part, stay evenly spread however many there are."""

ALIVE = "echo"
"""A probe: whoever prints anything lives."""
ALIVE_AND_BATTERY = f"{ALIVE}; {adb_battery.COMMAND}"
"""Likewise: the empty line is there before anything of Android's is asked, which may hang."""
BATTERY_LIMIT = 2.0
"""Seconds for the battery, once the phone has shown that it lives: it takes tens of ms."""
BATTERY_SKIPS = 64
"""Probes, at most, after which a phone is asked for its battery again that did not tell it in time:
what hangs on the phone may hang there for good, and is not to be made more of each minute."""

QUESTIONS = (
    'echo "device_name=$(settings get global device_name 2>/dev/null)"; '
    'echo "marketname=$(getprop ro.product.marketname)"; '
    'echo "model=$(getprop ro.product.model)"; '
    'echo "serialno=$(getprop ro.serialno)"'
)
"""One command, one connection. Labelled, because old phones lack some of the programs, and the
shell's complaints come on the same stream."""


class Told(NamedTuple):
    """What a phone says of itself; "" for what it did not."""

    name: str = ""
    model: str = ""
    """Market name, else model."""
    serialno: str = ""
    final: bool = False
    """False: it could not say its name yet (booting), ask again."""


def parse_told(output: str) -> Told:
    """What a phone printed for `QUESTIONS`."""
    values: dict[str, str] = {}
    for line in output.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals:
            values.setdefault(key, "".join(c for c in value if c.isprintable()).strip()[:255])
    name = values.get("device_name", "")
    return Told(
        name="" if name == "null" else name,  # `settings` prints null for what is not set
        model=values.get("marketname") or values.get("model", ""),
        serialno=values.get("serialno", ""),
        final=bool(name and values.get("model")),
    )


class Asker:
    """Asks the phones that it attends; they are transport ids.

    Each is asked for its name once, and every `probe_interval` seconds (0: never) for anything at
    all, and for its battery in the same breath. `changed(id)` is called with each news, and
    `battery(id, what)` with each answer to that.
    """

    def __init__(self, client: AdbClient, settings: Android) -> None:
        self.changed: Callable[[int], None] = lambda _: None
        self.battery: Callable[[int, Battery | None], None] = lambda _, __: None
        self.told: dict[int, Told] = {}
        """Answers; also an empty one where asking failed the first time."""
        self.silent: dict[int, str] = {}
        """Those that do not answer, and the operator's reason."""
        self.overdue: set[int] = set()
        """Those that were waited for and have not said yet who they are."""
        self._client = client
        self._interval = settings.probe_interval
        self._timeout = settings.probe_timeout
        self._asks_battery = settings.battery
        self._skips: dict[int, tuple[int, int]] = {}
        """Those that did not tell their battery in time: after how many probes more they are asked
        for it again, and how many these were at first."""
        self._answers: set[int] = set()
        """Those that answered their last probe: if their names hang, only their names do."""
        self._serials: dict[int, str] = {}
        self._tries: dict[int, Iterator[float]] = {}
        self._waits: dict[int, Iterator[float]] = {}
        self._phase = 0.0
        self._names = Agenda(NAMES_AT_ONCE, self._ask_name)
        self._probes = Agenda(PROBES_AT_ONCE, self._probe, grain=self._interval / GRAINS)
        self._retries = Agenda(RETRIES_AT_ONCE, self._probe)
        self._awaited = Agenda(RETRIES_AT_ONCE, self._wait_no_longer)
        self._agendas = (self._names, self._probes, self._retries, self._awaited)

    def heard(self, phone: int) -> bool:
        """Whether it is known if the phone answers; always, where phones are not probed."""
        return not self._interval or self.asked(phone)

    def asked(self, phone: int) -> bool:
        """Whether it has said who it is, or not answered."""
        return phone in self.told or phone in self.silent

    def attend(self, phone: int, serial: str, *, awaited: bool = False) -> None:
        """It is ready: ask it. No-op when attended already.

        `awaited`: it is shown once it has said who it is; it is `overdue` after a while.
        """
        if phone in self._serials:
            return
        self._serials[phone] = serial
        if phone not in self.told or not self.told[phone].final:
            self._tries[phone] = iter(NAME_RETRIES)
            self._names.add(phone, 0.0)
        if awaited and not self.asked(phone):
            self._awaited.add(phone, OVERDUE)
        if self._interval:
            self._phase = (self._phase + GOLDEN) % 1.0
            self._probes.add(phone, self._interval * self._phase)

    def leave(self, phone: int) -> None:
        """It is not ready any more: ask nothing. What it told stays."""
        if self._serials.pop(phone, None) is not None:
            for agenda in self._agendas:
                agenda.discard(phone)
            for table in (self.silent, self._tries, self._waits, self._skips):
                table.pop(phone, None)
            self._answers.discard(phone)
            self.overdue.discard(phone)

    def forget(self, phone: int) -> None:
        """It is no longer listed."""
        self.leave(phone)
        self.told.pop(phone, None)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            for agenda in self._agendas:
                group.create_task(agenda.run())

    async def _wait_no_longer(self, phone: int) -> None:
        if phone in self._serials and not self.asked(phone):
            self.overdue.add(phone)
            self.changed(phone)

    async def _ask_name(self, phone: int) -> float | None:
        try:
            told = parse_told(await self._client.shell(phone, QUESTIONS, self._timeout))
        except LateError:
            return 0.0
        except PhoneSilentError:
            told = Told()
            unproven = phone not in self._answers and phone not in self.silent
            if self._interval and phone in self._serials and unproven:
                self._probes.discard(phone)
                self.told.setdefault(phone, told)
                self._unanswered(phone)
                return None  # asked again when it answers again
        except (OSError, AdbError) as error:
            told = Told()
            log.debug("adb.name_not_told", serial=self._serials.get(phone), reason=str(error))
        if phone not in self._serials:
            return None
        if told != self.told.get(phone) and (told != Told() or phone not in self.told):
            self.told[phone] = told
            self.changed(phone)
        return None if told.final else next(self._tries[phone], None)

    async def _probe(self, phone: int) -> float | None:
        answers = True
        battery = self._is_battery_asked(phone)
        command = ALIVE_AND_BATTERY if battery else ALIVE
        try:
            heard = await self._client.hear(phone, command, self._timeout, BATTERY_LIMIT)
        except LateError:
            return 0.0
        except PhoneSilentError:
            answers = False
        except (OSError, AdbError):
            # The server's trouble, or a phone just leaving: both show in the list. No verdict.
            return next(self._waits[phone]) if phone in self.silent else self._interval
        if phone not in self._serials:
            return None
        if not answers:
            return self._unanswered(phone)
        delay = self._answered(phone)
        if battery:
            self._hear_battery(phone, heard)
        return delay

    def _is_battery_asked(self, phone: int) -> bool:
        """Whether this probe is to ask for it: not one that is silent, which has enough to do."""
        if not self._asks_battery or phone in self.silent:
            return False
        left, of = self._skips.get(phone, (0, 0))
        if left:
            self._skips[phone] = left - 1, of
        return not left

    def _hear_battery(self, phone: int, heard: Heard) -> None:
        if heard.whole:
            self._skips.pop(phone, None)
        else:
            of = min(2 * self._skips.get(phone, (0, 0))[1] + 1, BATTERY_SKIPS)
            self._skips[phone] = of, of
        self.battery(phone, adb_battery.parse(heard.text))

    def _answered(self, phone: int) -> float | None:
        self._answers.add(phone)
        if phone not in self.silent:
            return self._interval
        del self.silent[phone], self._waits[phone]
        self._retries.discard(phone)
        log.info("adb.phone_answers_again", serial=self._serials[phone])
        self._probes.add(phone, self._interval)
        told = self.told.get(phone, Told())
        if not told.final:
            self._names.add(phone, 0.0)
        if told == Told():
            self.told.pop(phone, None)  # who it is comes with that answer, and is news enough
        else:
            self.changed(phone)
        return None

    def _unanswered(self, phone: int) -> float | None:
        self._answers.discard(phone)
        if phone in self.silent:
            return next(self._waits[phone])
        self.silent[phone] = (
            f"unresponsive: adb lists it but it did not answer for {self._timeout:g} s"
        )
        self._waits[phone] = backoff(RETRY_FIRST, cap=RETRY_CAP)
        log.warning(
            "adb.phone_unresponsive",
            serial=self._serials[phone],
            transport_id=phone,
            limit=self._timeout,
            remedy="it is asked again; if it stays so, replug or restart the phone",
        )
        self._retries.add(phone, next(self._waits[phone]))
        self.changed(phone)
        return None

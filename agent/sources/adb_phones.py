"""The phones that an adb server lists, and the sightings that its lists and their answers make.

No I/O: `adb_session` brings the lists, `adb_probe` what the phones answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.model import BatteryRead, Bridge, Changed, Gone, Platform, Sighting, SourceName
from agent.reasons import Reason, ReasonCode
from agent.sources.adb_probe import Told
from agent.sources.adb_states import is_junk, reading
from agent.udid import is_network, is_off_usb
from agent.wire.adb_lists import LongRow, Rows

if TYPE_CHECKING:
    from agent.config import Android
    from agent.model import Battery, Emit
    from agent.sources.adb_probe import Asker
    from agent.sources.oddities import Oddities

log = structlog.get_logger(__name__)


class AdbPhones:
    """Of one connection. Edges are emitted once it is `live`.

    Args:
        server: as it is told in logs.
        asker: who asks the phones; attended to here.
        emit: takes the edges.
        settings: [android].
        oddities: where what the server leaves out is told.
    """

    def __init__(
        self,
        server: str,
        asker: Asker,
        emit: Emit,
        settings: Android,
        oddities: Oddities,
    ) -> None:
        self.live = False
        """True from the snapshot on: edges are emitted."""
        self.rows: Rows = {}
        """The newest list."""
        self.outdated = asyncio.Event()
        """What `host:devices-l` told is older than the list."""
        self.doubt = asyncio.Event()
        """A phone has shown a state in which it is not ready."""
        self.unnamed: set[int] = set()
        """Network phones that have not said who they are, and may still."""
        self.named = asyncio.Event()
        """None of them is left."""
        self._server = server
        self._asker = asker
        self._emit = emit
        self._settings = settings
        self._oddities = oddities
        self._long: dict[str, tuple[LongRow, ...]] = {}
        self._serial_of: dict[int, str] = {}  # of every transport in _long
        self._shown: dict[str, dict[str, Sighting]] = {}  # serial -> address -> as emitted
        self._detailed = True
        """The server answers `host:devices-l`."""
        self._misfits: frozenset[str] = frozenset()
        """Serials for which its last answer did not fit the list."""
        self._without: set[str] = set()
        """Those for which it did not fit twice: shown without what it does not give."""
        asker.changed = self.heard_from
        asker.battery = self.heard_battery

    def sightings(self) -> tuple[Sighting, ...]:
        """All that are shown."""
        return tuple(one for same in self._shown.values() for one in same.values())

    @property
    def unsure(self) -> bool:
        """Whether details of some phones did not fit the list when they were last told."""
        return bool(self._misfits)

    @property
    def waiting(self) -> bool:
        """Whether some of these may fit when they are asked for once more."""
        return bool(self._misfits - self._without)

    # --- what the server lists -----------------------------------------------------------------

    def take(self, rows: Rows) -> None:
        """The newest list: show what differs from the last one. Linear in its rows."""
        before = self.rows
        if rows == before:
            return
        self.rows = rows
        for serial in before.keys() - rows.keys():
            self._set_long(serial, ())
            self._show(serial)
        for serial, states in rows.items():
            if before.get(serial) != states:
                if len(before.get(serial, ())) != len(states):
                    self._without.discard(serial)
                if any(reading(state)[0] is not Bridge.READY for state in states):
                    self.doubt.set()
                self._show(serial)
        self._without &= rows.keys()
        self.outdated.set()

    def detail(self, asked: Rows, found: dict[str, tuple[LongRow, ...]]) -> None:
        """Take what `host:devices-l` told of the phones that `asked` listed."""
        if not self._detailed:
            self._detailed = True
            log.info("adb.details_known", server=self._server)
        # Where the list changed meanwhile, an answer that does not fit the newest is older or
        # newer than it: the next fits. Where it did not, only the number of rows can tell.
        same = asked is self.rows
        misfits = set()
        for serial, listed in self.rows.items():
            long = found.get(serial, ())
            states = sorted(row.state for row in long)
            if len(long) == len(listed) and (same or states == sorted(listed)):
                self._detail(serial, long)
            elif serial in self._misfits:
                misfits.add(serial)
                if same:
                    self._do_without(serial, long)
            elif same:
                misfits.add(serial)
        self._misfits = frozenset(misfits)

    def without_details(self, error: Exception) -> None:
        """Go on with serials and states alone, and ask again: phones cannot be asked anything."""
        self.outdated.set()
        if self._detailed:
            self._detailed = False
            log.warning("adb.details_unknown", server=self._server, reason=str(error))
        for serial in self.rows:
            self._show(serial)

    def _detail(self, serial: str, long: tuple[LongRow, ...]) -> None:
        """Take what the server gives of the phones listed under that serial."""
        if long == self._long.get(serial) and serial not in self._without:
            return
        self._without.discard(serial)
        for row in long:
            if not row.transport_id:
                self._miss(serial, "its transport id")
            elif not row.port and not is_off_usb(serial):
                self._miss(serial, "its USB port")
        self._set_long(serial, long)
        self._show(serial)

    def _do_without(self, serial: str, long: tuple[LongRow, ...]) -> None:
        """Show them all the same, each by what fits of its row, if there is one."""
        if serial in self._without and long == self._long.get(serial, ()):
            return
        self._without.add(serial)
        self._miss(serial, "its row in `host:devices-l`")
        self._set_long(serial, long)
        self._show(serial)

    def _miss(self, serial: str, what: str) -> None:
        self._oddities.warn(
            "adb.detail_missing",
            f"{serial} {what}",
            server=self._server,
            serial=serial,
            missing=what,
            effect="it is shown by what adb does give; without a transport id it is not probed",
        )

    def _set_long(self, serial: str, long: tuple[LongRow, ...]) -> None:
        kept = {row.transport_id for row in long if row.transport_id}
        for row in self._long.pop(serial, ()):
            if row.transport_id not in kept:
                self._serial_of.pop(row.transport_id, None)
                self._asker.forget(row.transport_id)
        if long:
            self._long[serial] = long
            self._serial_of.update(dict.fromkeys(kept, serial))

    def heard_from(self, transport_id: int) -> None:
        """A phone has answered, or not: show what that changes."""
        self.unnamed.discard(transport_id)
        if not self.unnamed:
            self.named.set()
        serial = self._serial_of.get(transport_id)
        if serial is not None:
            self._show(serial)

    def heard_battery(self, transport_id: int, battery: Battery | None) -> None:
        """A phone that answers was asked for its battery: hand on what it said."""
        serial = self._serial_of.get(transport_id)
        if serial is None or not self.live:
            return
        shown = self._shown.get(serial, {})
        several = f"{serial}#{transport_id}"
        address = several if several in shown else serial
        if address in shown:
            self._emit(BatteryRead(SourceName.ADB, address, battery))

    def _show(self, serial: str) -> None:
        """Emit what is new of the phones listed under that serial."""
        self._attend(serial)
        wanted = self._wanted(serial)
        if wanted is None:
            return
        shown = self._shown.get(serial, {})
        if wanted:
            self._shown[serial] = wanted
        else:
            self._shown.pop(serial, None)
        if not self.live:
            return
        # What comes before what goes: a phone that only changes its address is never unseen.
        for address, sighting in wanted.items():
            if shown.get(address) != sighting:
                self._emit(Changed(sighting))
        for address in shown.keys() - wanted.keys():
            self._emit(Gone(SourceName.ADB, address))

    # --- what that makes of each ---------------------------------------------------------------

    def _network(self, serial: str) -> bool:
        on_usb = any(row.port or row.path for row in self._long.get(serial, ()))
        return is_network(serial) and not on_usb

    def _transports(self, serial: str) -> list[tuple[LongRow, str]] | None:
        """Each transport of that serial with its newest state; None while they are not known."""
        states, long = self.rows.get(serial, ()), self._long.get(serial, ())
        if len(states) == len(long):
            # The plain list is the newer one; it just cannot tell twins apart.
            return [(row, states[0] if len(long) == 1 else row.state) for row in long]
        if self._detailed and serial not in self._without:
            return None
        spare = list(long)
        found = []
        for state in states:
            row = next((one for one in spare if one.state == state), None)
            if row is not None:
                spare.remove(row)
            found.append((row or LongRow(serial, state, 0, "", ""), state))
        return found

    def _attend(self, serial: str) -> None:
        """Have those asked that are ready, and nobody else."""
        if self._network(serial) and not self._settings.network_devices:
            return
        for row, state in self._transports(serial) or ():
            if reading(state)[0] is Bridge.READY and row.transport_id:
                network = self._network(serial)
                self._asker.attend(row.transport_id, serial, awaited=network)
                if network and self._is_awaited(row.transport_id):
                    self.unnamed.add(row.transport_id)
            else:
                self._asker.leave(row.transport_id)

    def _wanted(self, serial: str) -> dict[str, Sighting] | None:
        """Address → sighting of the phones under that serial; None: not to be told yet."""
        states, network = self.rows.get(serial, ()), self._network(serial)
        if not states or (network and not self._settings.network_devices):
            return {}
        transports = self._transports(serial)
        if transports is None:
            if len(states) > 1 or network or is_junk(serial) or serial in self._long:
                return None
            return {serial: self._sighting(serial, serial, states[0], None, network=network)}
        wanted: dict[str, Sighting] = {}
        for place, (row, state) in enumerate(transports, 1):
            if network and reading(state)[0] is Bridge.READY and self._is_awaited(row.transport_id):
                return None
            mark = row.transport_id or row.port or f"?{place}"
            address = serial if len(transports) == 1 else f"{serial}#{mark}"
            wanted[address] = self._sighting(address, serial, state, row, network=network)
        return wanted

    def _is_awaited(self, number: int) -> bool:
        """Whether who that network phone is may still be told before it is shown."""
        return bool(number) and not self._asker.asked(number) and number not in self._asker.overdue

    def _heard(self, number: int, *, network: bool) -> bool:
        """Whether the phone's word is known; on the network that is who it is, too."""
        return self._asker.asked(number) if network else self._asker.heard(number)

    def _sighting(
        self, address: str, serial: str, state: str, row: LongRow | None, *, network: bool
    ) -> Sighting:
        bridge, reason = reading(state)
        number = row.transport_id if row else 0  # ids begin at 1
        told = self._asker.told.get(number, Told())
        silent = self._asker.silent.get(number)
        if bridge is Bridge.READY:
            if silent:
                bridge, reason = Bridge.NOT_READY, Reason(silent, ReasonCode.UNRESPONSIVE)
            elif (row is None or number) and not self._heard(number, network=network):
                new = "it has just appeared and not answered yet"
                bridge, reason = Bridge.UNKNOWN, Reason(new, ReasonCode.CHECKING)
        return Sighting(
            source=SourceName.ADB,
            address=address,
            serial=serial,
            platform=Platform.ANDROID,
            port=row.port if row else "",
            bridge=bridge,
            reason=reason.text,
            code=reason.code,
            name=told.name,
            model=told.model or (row.model if row else ""),
            network=network,
            usb_serial=told.serialno if network else "",
        )

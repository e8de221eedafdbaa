"""Which phones the hub has, and what each is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Device, DeviceState, Visibility
from agent.udid import alike

if TYPE_CHECKING:
    from agent.config import Config, DeviceEntry
    from agent.fleet.hub.board import Board
    from agent.fleet.hub.entry import Entry

_AWAY = frozenset({DeviceState.OFFLINE, DeviceState.UNPLUGGED})


class FleetRoster:
    """The phones by what the hub's own file and their hosts say of them.

    The file goes first: its name, its visibility, its tags; where it does not list a phone, what
    the phone's agent says counts. `[discovery] visibility` counts where it is not `private`.

    Args:
        config: the one in force.
        board: who owns each.
        entries: as they are stored, by UDID.
    """

    def __init__(self, config: Config, board: Board, entries: dict[str, Entry]) -> None:
        self._config = config
        self._board = board
        self._entries = entries
        self._alike: dict[str, list[str]] = {}
        """As they were last looked for, when there were `_alike_of` of them."""
        self._alike_of = 0

    def reconfigure(self, config: Config) -> bool:
        """Take a new configuration; whether it may say something else of any phone."""
        before, self._config = self._config, config
        return (before.devices, before.discovery) != (config.devices, config.discovery)

    def udids(self) -> list[str]:
        """Of every device that is known, whether it is shown or not; sorted."""
        return sorted(self._entries)

    def find(self, name: str) -> str | None:
        """The UDID of the device that some tool calls so; None: none of ours, or several."""
        found = self.named(name)
        return found[0] if len(found) == 1 else None

    def named(self, name: str) -> tuple[str, ...]:
        """The UDIDs of the devices that a name means: its very spelling, else whatever the case.

        The serial of twins means the one that bears it.
        """
        name = name.strip()
        if name in self._entries:
            return (name,)
        if self._alike_of != len(self._entries):
            self._alike, self._alike_of = {}, len(self._entries)
            for udid in self._entries:
                self._alike.setdefault(alike(udid), []).append(udid)
        return tuple(sorted(self._alike.get(alike(name), ())))

    def is_away(self, udid: str) -> bool:
        """Whether it counts as unplugged or offline."""
        entry = self._entries.get(udid)
        return entry is not None and entry.record.state in _AWAY

    def shown(self, udid: str) -> bool:
        """Whether anybody is to see it: its host tells of it, and the file does not ignore it."""
        phone = self._board.phones.get(udid)
        word = None if phone is None else self._board.of(udid)
        if phone is None or word is None or udid not in self._entries:
            return False
        entry = self._said_of(udid, phone.serial)
        return self._visibility(entry, word.device.visibility) is not Visibility.IGNORE

    def device(self, udid: str) -> Device:
        """The device as callbacks tell of it."""
        phone, word = self._board.phones[udid], self._board.of(udid)
        entry = self._said_of(udid, phone.serial)
        aliases = () if phone.serial == udid else (phone.serial,)
        if word is None:
            record = self._entries[udid].record
            return Device(
                udid,
                record.platform,
                (entry.name if entry else "") or record.name or record.model or udid,
                record.model,
                record.port,
                entry.tags if entry else (),
                self._visibility(entry, Visibility.PRIVATE),
                aliases,
                record.host,
            )
        told = word.device
        return Device(
            udid,
            told.platform,
            (entry.name if entry else "") or told.name or told.model or udid,
            told.model,
            told.port,
            (entry.tags if entry else ()) or told.tags,
            self._visibility(entry, told.visibility),
            aliases,
            word.host,
        )

    def _said_of(self, udid: str, serial: str) -> DeviceEntry | None:
        if not self._config.devices:
            return None
        return self._config.device(udid) or self._config.device(serial)

    def _visibility(self, entry: DeviceEntry | None, told: Visibility) -> Visibility:
        if entry is not None and entry.visibility is not None:
            return entry.visibility
        general = self._config.discovery.visibility
        if entry is None and general is not Visibility.PRIVATE:
            return general
        return told

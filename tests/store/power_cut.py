"""What a power cut may leave of files: replays the writes and syncs that strace saw of a process.

What was written before a file's last fsync is there. Of what was written after it any part may be:
every write wholly, not at all, or as some of its sectors; and a file whose directory was not synced
since it was made may be missing.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

STRACE = (
    *("strace", "-f", "-y", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", "signal=none"),
    *("-e", "trace=pwrite64,write,fsync,fdatasync,ftruncate"),
)
SECTOR = 512
_CALL = re.compile(
    r"(?P<pid>\d+) +(?P<name>\w+)\((?P<fd>\d+)<(?P<path>[^>]*)>"
    r'(?:, (?:"(?P<data>[^"]*)", )?(?P<numbers>[\d, ]+))?(?P<ends>\)? += (?P<result>-?\d+))?'
)
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>.*= (?P<result>-?\d+)")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded."""

    name: str
    fd: int
    path: Path
    data: bytes
    numbers: tuple[int, ...]


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace, each where it ended; a call in vain or without an end is left out."""
    begun: dict[str, Call] = {}
    with trace.open() as lines:
        for line in lines:
            if (resumed := _RESUMED.match(line)) is not None:
                call = begun.pop(resumed["pid"])
                assert call.name == resumed["name"]
                if int(resumed["result"]) >= 0:
                    yield call
            elif (match := _CALL.match(line)) is not None:
                call = Call(
                    match["name"],
                    int(match["fd"]),
                    Path(_text(match["path"]).decode()),
                    _text(match["data"] or ""),
                    tuple(int(n) for n in re.findall(r"\d+", match["numbers"] or "")),
                )
                assert match["pid"] not in begun, "nothing of the trace may be overlooked"
                if match["ends"] is None:
                    begun[match["pid"]] = call
                elif int(match["result"]) >= 0:
                    yield call


def _text(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


@dataclass(slots=True)
class _File:
    durable: bytearray
    named: bool
    """Its name is durable, too."""
    unsynced: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        for call in self.unsynced:
            _apply(self.durable, call)
        self.unsynced.clear()

    def left(self, dice: random.Random) -> bytes | None:
        """What may be found after a power cut."""
        if not self.named and dice.random() < 0.5:
            return None
        content = bytearray(self.durable)
        most = dice.choice((0.0, 0.5, 1.0))
        for call in self.unsynced:
            if call.name == "ftruncate" or dice.random() < 0.8:
                if dice.random() < most:
                    _apply(content, call)
            else:
                _tear(content, call, dice)
        return bytes(content)


def _apply(content: bytearray, call: Call) -> None:
    if call.name == "ftruncate":
        (size,) = call.numbers
        content[size:] = bytes(max(0, size - len(content)))
    else:
        _, offset = call.numbers
        _put(content, offset, call.data)


def _tear(content: bytearray, call: Call, dice: random.Random) -> None:
    """Some of the sectors that the write touches."""
    _, start = call.numbers
    at = start
    while at < start + len(call.data):
        end = min((at // SECTOR + 1) * SECTOR, start + len(call.data))
        if dice.random() < 0.5:
            _put(content, at, call.data[at - start : end - start])
        at = end


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


class Disk:
    """The files of one directory while a trace goes by.

    Args:
        directory: as it was before the first call; its name is that in the trace.
        before: a copy of it, to be read from.
    """

    def __init__(self, directory: Path, before: Path) -> None:
        self._directory = directory
        self._files = {
            path.name: _File(bytearray(path.read_bytes()), named=True) for path in before.iterdir()
        }

    def see(self, call: Call) -> None:
        """One more call has ended."""
        if call.path == self._directory and "sync" in call.name:
            for file in self._files.values():
                file.named = True
        if call.path.parent != self._directory:
            return
        file = self._files.setdefault(call.path.name, _File(bytearray(), named=False))
        if "sync" in call.name:
            file.sync()
        else:
            file.unsynced.append(call)

    @property
    def unsynced(self) -> int:
        """Calls whose effect is not durable."""
        return sum(len(file.unsynced) for file in self._files.values())

    def cut(self, target: Path, dice: random.Random) -> None:
        """Put into the (new) directory what a power cut at this moment may leave."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name, file in self._files.items():
            content = file.left(dice)
            if content is not None:
                (target / name).write_bytes(content)


def cuts(
    trace: Sequence[Call], directory: Path, before: Path, dice: random.Random, count: int
) -> Iterator[tuple[Disk, list[str]]]:
    """The disk at `count` moments, half of them just before an fsync, and what was said by then."""
    syncs = [number for number, call in enumerate(trace) if "sync" in call.name]
    moments = dice.sample(syncs, min(count // 2, len(syncs)))
    moments += dice.sample(range(len(trace)), count - len(moments))
    disk, said, done = Disk(directory, before), [], 0
    for moment in sorted(moments):
        for call in trace[done:moment]:
            disk.see(call)
            if call.name == "write" and call.fd == 1:
                said.append(call.data.decode().strip())
        done = moment
        yield disk, said

"""The configuration file changed on disk: whole, as its owner had it, one at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from agent.config.change import FileChanger
from agent.config.edit import Change
from agent.config.file import ConfigFile
from agent.errors import CannotWriteError, ChangeRefusedError, ConfigError
from tests.config.kit import files, own

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.document import Document

TEXT = """# mine
[[webhooks]]
name = "a"
url = "http://a.example/"
events = ["online"]
"""
OFF = Change("a", None, {"enabled": False})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "agent.toml"
    made.write_text(TEXT)
    made.chmod(0o640)
    return made


def change(path: Path, wanted: Change) -> None:
    with FileChanger.open(own(path)) as file:
        file.change(wanted)


def test_mode_and_neighbours_stay(path: Path) -> None:
    change(path, OFF)
    assert path.read_text() == TEXT + "enabled = false\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(path: Path) -> None:
    os.chown(path, 12345, 54321)
    change(path, OFF)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_attributes_stay_where_there_are_any(path: Path) -> None:
    try:
        os.setxattr(path, "user.note", b"1")
    except OSError:
        pytest.skip("this file system has none")
    change(path, OFF)
    assert os.getxattr(path, "user.note") == b"1"


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "agent.toml"
    link.symlink_to("../agent.toml")
    change(link, OFF)
    assert link.is_symlink()
    assert path.read_text().endswith("enabled = false\n")


def test_a_byte_order_mark_and_line_ends_stay(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    change(path, OFF)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf# mine\r\n")
    assert data.endswith(b"\r\nenabled = false\r\n")
    assert data.count(b"\n") == data.count(b"\r\n")


def test_nothing_to_change_writes_nothing(path: Path) -> None:
    before = path.stat()
    change(path, Change("a", None, {}))
    after = path.stat()  # its time of reading may be another one
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_ctime_ns == before.st_ctime_ns


def test_what_could_not_be_used_is_not_written(path: Path) -> None:
    with pytest.raises(ChangeRefusedError) as refused:
        change(path, Change("a", None, {"url": "ftp://user:hidden@a/", "events": []}))
    assert path.read_text() == TEXT
    url, events = str(refused.value).splitlines()
    assert url.startswith("nothing was written: webhook 'a' url: must be absolute")
    assert events == "nothing was written: webhook 'a' events: must hold at least one"


@pytest.mark.parametrize("text", ["[nonsense]\n", "[[", "\0"])
def test_a_file_with_mistakes_is_left_alone(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^{path}:1:"):
        change(path, OFF)
    assert path.read_text() == text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        change(tmp_path / "none.toml", OFF)


class Meanwhile:
    """A change during which an editor saves the file."""

    def __init__(self, path: Path, texts: list[str]) -> None:
        self.path, self.texts = path, texts

    def apply(self, document: Document, default_org: int) -> Document:
        if self.texts:
            self.path.write_text(self.texts.pop(0))
        return OFF.apply(document, default_org)


def test_what_an_editor_saves_meanwhile_is_kept(path: Path) -> None:
    edited = TEXT.replace("# mine", "# theirs")
    with FileChanger.open(own(path)) as file:
        file.change(Meanwhile(path, [edited]))  # type: ignore[arg-type]  # it has the one method
    assert path.read_text() == edited + "enabled = false\n"
    path.write_text(TEXT)
    with FileChanger.open(own(path)) as file:
        saves = [f"{TEXT}# {number}\n" for number in range(9)]
        with pytest.raises(CannotWriteError, match="try again"):
            file.change(Meanwhile(path, saves))  # type: ignore[arg-type]  # likewise
    assert path.read_text() == f"{TEXT}# 4\n"
    assert list(path.parent.iterdir()) == [path]


def test_put_back_is_byte_for_byte_and_never_over_what_others_wrote(path: Path) -> None:
    with FileChanger.open(own(path)) as file:
        file.change(OFF)
        file.put_back()
        assert path.read_text() == TEXT
        file.change(OFF)
        path.write_text("# theirs\n")
        with pytest.raises(CannotWriteError, match="left as it is"):
            file.put_back()
    assert path.read_text() == "# theirs\n"


def test_many_at_once_lose_nothing(path: Path) -> None:
    def create(number: int) -> None:
        fields = {"name": f"n{number}", "url": "http://n.example/", "events": ["online"]}
        change(path, Change(fields=fields))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    config, _ = files(path).load()
    assert {webhook.name for webhook in config.webhooks} == {"a", *(f"n{n}" for n in range(12))}


_AS_NOBODY = """
import codecs, os, sys
from pathlib import Path
from agent.config import parse
from agent.config.document import Document
from agent.config.edit import Change
from agent.config.change import FileChanger, Target
from agent.errors import CannotWriteError
path = Path(sys.argv[1])
# What is loaded late, while it may be read.
codecs.lookup("utf-8-sig")
Change(fields={"name": "a"}).apply(Document("", "f"), 1)
parse(path.read_text(), "f")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with FileChanger.open(Target.own(path, {"STATE_DIRECTORY": str(path.parent)})) as file:
        file.change(Change("a", None, {"enabled": False}))
except CannotWriteError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["directory", "owner"])
def test_who_may_not_write_is_told_what_to_do(place: Path, what: str) -> None:
    if what == "owner" and os.geteuid() != 0:
        pytest.skip("only root makes files of others")
    path = place / "agent.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    place.chmod(0o777 if what == "owner" else 0o555)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(path)], capture_output=True, text=True, check=False
    )
    place.chmod(0o755)
    assert done.stderr == ""
    assert done.stdout.startswith(f"cannot change {path} (")
    assert "use sudo" in done.stdout
    assert path.read_text() == TEXT
    assert list(place.iterdir()) == [path]


def test_one_that_is_being_written_is_not_taken_for_an_empty_one(path: Path) -> None:
    path.write_text("")
    reading = threading.Event()

    class Watched(ConfigFile):
        """Says that it has begun to read."""

        @property
        def path(self) -> Path:
            reading.set()
            return path

        @path.setter
        def path(self, _: Path) -> None:
            pass

    def write() -> None:
        reading.wait()
        path.write_text(TEXT)

    writer = threading.Thread(target=write)
    writer.start()
    config, _ = Watched(path, {"STATE_DIRECTORY": str(path.parent)}).load()
    writer.join()
    assert len(config.webhooks) == 1


def seen(file: ConfigFile) -> tuple[str, str]:
    """The operator's text and the fingerprint of a look."""
    look = file.look()
    return "" if look.texts is None else look.texts.own, look.fingerprint


def test_what_was_loaded_is_known_by_its_text(path: Path) -> None:
    file = files(path)
    file.load()
    assert seen(file) == (TEXT, file.loaded)
    path.touch()
    assert seen(file)[1] == file.loaded
    good = file.loaded
    path.write_text("[nonsense]\n")
    assert seen(file)[1] != good
    with pytest.raises(ConfigError):
        file.load()
    assert seen(file) == ("[nonsense]\n", file.loaded)
    path.unlink()
    with pytest.raises(ConfigError):
        file.load()
    assert seen(file) == ("", file.loaded)

"""`[api] cert` and `key`: no pair is a mistake at its place; an exposed key is warned of."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import check
from agent.config.file import ConfigFile
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def file_with(place: Path, cert: str, key: str = "", *, listen: str = "127.0.0.1:0") -> Path:
    path = place / "agent.toml"
    path.write_text(
        f'[api]\nlisten = "{listen}"\ncert = "{cert}"\n' + (f'key = "{key}"\n' if key else "")
    )
    return path


def joined(pki: Path, place: Path, *names: str) -> Path:
    """The files one behind the other, in one that only its owner reads."""
    path = place / "joined.pem"
    path.touch(mode=0o600)
    path.write_text("".join((pki / name).read_text() for name in names))
    return path


def fifo(place: Path) -> Path:
    os.mkfifo(place / "fifo")
    return place / "fifo"


GOOD: list[tuple[str, Callable[[Path, Path], tuple[Path, Path | str]]]] = [
    ("two files", lambda pki, _: (pki / "server.pem", pki / "server.key")),
    ("one file", lambda pki, place: (joined(pki, place, "server.key", "server.pem"), "")),
    (
        "a chain",
        lambda pki, place: (joined(pki, place, "server.pem", "ca.pem"), pki / "server.key"),
    ),
]
BAD: list[tuple[str, Callable[[Path, Path], tuple[Path, Path | str]], str, str]] = [
    ("missing cert", lambda pki, _: (pki / "x", pki / "server.key"), "3:1: api.cert", "not exist"),
    ("missing key", lambda pki, _: (pki / "server.pem", pki / "x"), "4:1: api.key", "not exist"),
    (
        "another's key",
        lambda pki, _: (pki / "server.pem", pki / "client.key"),
        "4:1: api.key",
        "is not the key of the certificate",
    ),
    ("no key", lambda pki, _: (pki / "server.pem", ""), "3:1: api.cert", "cannot be used"),
    ("swapped", lambda pki, _: (pki / "server.key", pki / "server.pem"), "3:1: api.cert", "PEM"),
    (
        "a key with a passphrase",
        lambda pki, _: (pki / "client.pem", pki / "locked.key"),
        "4:1: api.key",
        "has a passphrase",
    ),
    ("a directory", lambda pki, _: (pki, pki / "server.key"), "3:1: api.cert", "cannot be read"),
    ("a FIFO", lambda pki, place: (pki / "server.pem", fifo(place)), "4:1: api.key", "regular"),
]


@pytest.mark.parametrize(("name", "make"), GOOD, ids=[name for name, _ in GOOD])
def test_a_pair_is_taken_without_a_word(
    pki: Path, tmp_path: Path, name: str, make: Callable[[Path, Path], tuple[Path, Path | str]]
) -> None:
    cert, key = make(pki, tmp_path)
    path = file_with(tmp_path, str(cert), str(key))
    config, problems, warnings = check(path)
    assert (problems, warnings) == ((), ()), name
    assert config is not None
    ConfigFile(path, {}).load()


@pytest.mark.parametrize(
    ("make", "place", "said"), [each[1:] for each in BAD], ids=[each[0] for each in BAD]
)
def test_what_is_no_pair_is_a_mistake_at_its_place(
    pki: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], tuple[Path, Path | str]],
    place: str,
    said: str,
) -> None:
    cert, key = make(pki, tmp_path)
    path = file_with(tmp_path, str(cert), str(key))
    config, problems, _ = check(path)
    assert config is None
    (problem,) = problems
    assert str(problem).startswith(f"{path}:{place}: "), problem
    assert said in problem.message
    assert "PRIVATE" not in problem.message
    with pytest.raises(ConfigError) as caught:
        ConfigFile(path, {}).load()
    assert caught.value.problems == problems


def test_a_key_that_only_the_agent_may_read_is_no_mistake_of_who_checks(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("only root is somebody else for a while")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        monkeypatch.chdir(place)  # `./state` is looked into, and may be somebody's where one stands
        both = joined(pki, place, "server.pem", "client.key")
        path = file_with(place, str(both))
        path.chmod(0o644)
        os.seteuid(65534)
        try:
            config, problems, _ = check(path)
            with pytest.raises(ConfigError, match=r"3:1: api\.cert: .*LoadCredential="):
                ConfigFile(path, {}).load()
        finally:
            os.seteuid(0)
        assert config is not None, problems
        assert check(path)[0] is None
        monkeypatch.undo()


def test_a_relative_path_starts_from_the_file(pki: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text((pki / name).read_text())
    assert check(file_with(tmp_path, "server.pem", "server.key"))[1:] == ((), ())


def test_a_key_that_others_can_read_is_warned_of(pki: Path, tmp_path: Path) -> None:
    both = joined(pki, tmp_path, "server.pem", "server.key")
    both.chmod(0o644)
    key = tmp_path / "page.key"
    key.write_text((pki / "server.key").read_text())
    key.chmod(0o640)
    for cert, named, place in (
        (pki / "server.pem", str(key), "api.key"),
        (both, "", "api.cert"),
    ):
        config, problems, warnings = check(file_with(tmp_path, str(cert), named))
        assert config is not None, problems
        (warning,) = warnings
        assert place in warning.message
        assert "others can read" in warning.message
        assert "chmod 0600" in warning.message


def test_with_tls_beyond_this_host_it_says_who_can_read(pki: Path, tmp_path: Path) -> None:
    path = file_with(
        tmp_path, str(pki / "server.pem"), str(pki / "server.key"), listen="0.0.0.0:9178"
    )
    (warning,) = check(path)[2]
    assert 'set [api] read = "token"' in warning.message
    assert "TLS" not in warning.message
    path.write_text(path.read_text() + 'read = "token"\ntoken = { env = "T" }\n')
    assert check(path)[2] == ()

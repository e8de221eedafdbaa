"""Where secrets are read from, and that they are never shown."""

from __future__ import annotations

import copy
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from agent.config.secret import MAX_BYTES, Kind, PrivateUrl, Secret
from agent.errors import SecretError

if TYPE_CHECKING:
    from pathlib import Path


def test_inline() -> None:
    secret = Secret.parse("hunter2")
    assert secret.read({}) == "hunter2"
    assert secret.kind is Kind.INLINE


def test_a_file_is_read_anew_and_one_newline_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "board.secret"
    secret = Secret.parse({"file": str(file)})
    for content, value in [("one\n", "one"), ("two", "two"), ("three \r\n", "three ")]:
        file.write_bytes(content.encode())
        assert secret.read({}) == value


def test_a_relative_file_is_found_under_the_base(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hunter2")
    assert Secret.parse({"file": "x"}, tmp_path).read({}) == "hunter2"
    assert Secret.parse({"file": "/etc/x"}, tmp_path).where == "/etc/x"


def test_environment() -> None:
    secret = Secret.parse({"env": "BOARD_TOKEN"})
    assert secret.read({"BOARD_TOKEN": "hunter2"}) == "hunter2"
    with pytest.raises(SecretError, match="environment variable BOARD_TOKEN is not set: set it"):
        secret.read({})
    with pytest.raises(SecretError, match="BOARD_TOKEN is empty"):
        secret.read({"BOARD_TOKEN": ""})


def test_the_agents_own_environment_is_the_default() -> None:
    name, value = next((name, value) for name, value in os.environ.items() if value.strip())
    assert Secret.parse({"env": name}).read() == value


def test_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("hunter2\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Secret.parse({"credential": "board"}).read(environ) == "hunter2"
    for name, where in [("board", {}), ("other", environ)]:
        with pytest.raises(SecretError, match=f"credential {name} .*LoadCredential={name}:/PATH"):
            Secret.parse({"credential": name}).read(where)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nhunter3\n", "line break"),
        (b"hunter2\0", "NUL"),
        (b"hunter2\xff", "is not UTF-8"),
        (b"hunter2" * MAX_BYTES, "is larger than"),
    ],
)
def test_a_file_that_is_no_secret(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(SecretError, match=says) as caught:
        Secret.parse({"file": str(file)}).read({})
    assert str(file) in str(caught.value)
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_several_lines_where_they_are_allowed(tmp_path: Path) -> None:
    text = "--BEGIN--\r\nhunter2\n--END--"
    (tmp_path / "creds").write_bytes(text.encode() + b"\n")
    for value in (text, {"file": str(tmp_path / "creds")}, {"env": "CREDS"}):
        secret = Secret.parse(value, lines=True)
        assert secret.read({"CREDS": text}) == text
        assert "hunter2" not in repr(secret)
    with pytest.raises(ValueError, match="NUL"):
        Secret.parse("hunter2\0", lines=True)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, says in [
        ("none", "does not exist"),
        (".", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("loop", "cannot be read"),
    ]:
        with pytest.raises(SecretError, match=says):
            Secret.parse({"file": str(tmp_path / name)}).read({})


def test_is_never_shown() -> None:
    secret = Secret.parse("hunter2")
    for shown in [repr(secret), str(secret), f"{secret}", f"{[secret]!r}", f"{(secret,)}"]:
        assert "hunter2" not in shown
        assert "inline" in shown
    assert str(Secret.parse({"env": "X"})) == "environment variable X"
    assert repr(Secret.parse({"file": "/x"})) == "<Secret: secret file /x>"


def test_is_a_frozen_value() -> None:
    secret = Secret.parse("hunter2")
    assert secret == Secret.parse("hunter2") != Secret.parse("hunter3")
    assert len({secret, copy.deepcopy(secret), pickle.loads(pickle.dumps(secret))}) == 1
    with pytest.raises(AttributeError):
        secret.where = "x"  # type: ignore[misc]  # the point
    assert Secret.parse(secret) is secret


@pytest.mark.parametrize(
    ("url", "bare", "key"),
    [
        ("https://hooks.slack.com/services/T0/B0", "https://hooks.slack.com/services/…", "T0/B0"),
        ("https://hooks.slack.com/workflows/a/b", "https://hooks.slack.com/workflows/…", "a/b"),
        ("https://discord.com/api/webhooks/1/t?w=1", "https://discord.com/api/webhooks/…", "1/t"),
        ("https://ptb.discord.com/api/v10/webhooks/1/t",
         "https://ptb.discord.com/api/v10/webhooks/…", "1/t"),
        ("https://x.webhook.office.com/webhookb2/a@b/c",
         "https://x.webhook.office.com/webhookb2/…", "a@b/c"),
        ("https://hooks.slack.com.:443//services/T0", "https://hooks.slack.com.:443//services/…",
         "T0"),
        ("https://hooks.slack-gov.com/services/T0", "https://hooks.slack-gov.com/services/…", "T0"),
        ("https://outlook.office.com/webhook/a@b/c", "https://outlook.office.com/webhook/…",
         "a@b/c"),
        ("https://api.telegram.org/bot1:AA/sendMessage", "https://api.telegram.org/bot…",
         "1:AA/sendMessage"),
        ("https://hooks.slack.com/services/", "https://hooks.slack.com/services/", ""),
        ("https://hooks.slack.com.evil.example/services/T0", None, ""),
        ("https://evilhooks.slack.com/services/T0", None, ""),
        ("https://a.example/hooks.slack.com/services/T0", None, ""),
        ("https://u:p@b.example/c?d#e", "https://b.example/c", ""),
    ],
)  # fmt: skip
def test_what_of_a_url_is_shown(url: str, bare: str | None, key: str) -> None:
    """Where the path alone lets one send, it is no more shown than a query."""
    found = PrivateUrl(url)
    assert (found.bare, found.key) == (bare or url, key)
    assert found.is_bare is (found.bare == url)
    assert not key or key not in repr(found)

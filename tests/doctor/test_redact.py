"""What of a configuration is private, and what may be shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.doctor.redact import private_texts, shown, without

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
[agent]
org_id = 7
[hold]
offline = "5s"
[api]
token = "hunter-api"
[usage]
appium = ["http://u:hunter-appium@10.0.0.1:4723/wd/hub?x=hunter-ask"]
grid = [{ url = "http://grid:4444", auth = { type = "bearer", token = "hunter-grid" } }]
[usage.plugins.booking]
key = "hunter-plugin"
deep = { list = ["hunter-deep"] }
[[devices]]
udid = "abc"
tags = ["rack-1"]
[[webhooks]]
name = "Board"
url = "https://u:hunter-user@board.example/services/hunter-in-the-path/x?hunter-query#hunter-part"
events = ["online"]
secret = ["whsec_aHVudGVyLXdoc2Vj", { env = "SIGN" }, { file = "missing" }]
headers = { X-Key = "hunter-header", X-Rack = { credential = "rack" } }
proxy = "http://u:hunter-proxy@proxy:3128"
"""


def test_all_that_is_private_is_found() -> None:
    config = parse(TEXT, "agent.toml")
    private = private_texts(config, {"SIGN": "hunter-environment"})
    for each in ("api", "appium", "ask", "grid", "plugin", "deep", "user", "in-the-path", "query",
                 "part", "header", "proxy", "environment"):  # fmt: skip
        assert f"hunter-{each}" in private
    assert "aHVudGVyLXdoc2Vj" in private, "it is known without its prefix too"
    assert not {"abc", "rack-1", "board.example", "x", ""} & set(private)
    assert "hunter" not in without(f"{TEXT}\nSIGN=hunter-environment", private)


def test_what_is_shown() -> None:
    tree = shown(parse(TEXT, "agent.toml"))
    assert "hunter" not in str(tree).replace("hunter-in-the-path", "")
    assert "aHVud" not in str(tree)
    assert tree == {
        "agent": {"org_id": 7},
        "hold": {"offline": 5.0},
        "api": {"token": "inline secret"},
        "usage": {
            "appium": [{"url": "http://10.0.0.1:4723/wd/hub"}],
            "grid": [
                {
                    "url": "http://grid:4444",
                    "auth": {"type": "bearer", "token": "inline secret"},
                }
            ],
            "plugins": {"booking": {"key": "***", "deep": "***"}},
        },
        "devices": [{"udid": "abc", "tags": ["rack-1"]}],
        "webhooks": [
            {
                "name": "Board",
                "url": "https://board.example/services/hunter-in-the-path/x",
                "events": ["online"],
                "secret": [
                    "inline secret",
                    "environment variable SIGN",
                    "secret file missing",
                ],
                "headers": {"X-Key": "inline secret", "X-Rack": "systemd credential rack"},
                "proxy": "http://proxy:3128",
                "in": "agent.toml:17",
            }
        ],
    }


def test_the_defaults_show_nothing() -> None:
    assert shown(parse("", "agent.toml")) == {}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET https://a:b@h/x?q=1#f done", "GET https://***@h/x?*** done"),
        ("url=http://h/x?q=1", "url=http://h/x?***"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("authorization: basic YTpiCg==", "authorization: basic ***"),
        ("key whsec_abc+/= end", "key whsec_*** end"),
        ("why? because 5 > 3 @ noon", "why? because 5 > 3 @ noon"),
        ("adb at 127.0.0.1:5037", "adb at 127.0.0.1:5037"),
    ],
)
def test_what_gives_itself_away(text: str, left: str) -> None:
    assert without(text, []) == left


def test_a_secret_file_is_read_where_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hunter-file\n")
    hook = (
        '[[webhooks]]\nname = "B"\nurl = "https://h/"\nevents = ["online"]\n'
        'secret = { file = "s" }\n'
    )
    assert "hunter-file" in private_texts(parse(hook, str(tmp_path / "agent.toml")), {})

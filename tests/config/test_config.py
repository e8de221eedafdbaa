"""What the loader makes of good files, its defaults, and what it warns of."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

import agent.config
from agent.config import (
    MAX_DURATION,
    BasicAuth,
    BearerAuth,
    Config,
    Tls,
    Webhook,
    check,
    format_duration,
    load,
    parse,
    parse_duration,
)
from agent.config.secret import Secret
from agent.errors import ConfigError
from agent.model import DeviceState, Platform, Visibility
from tests.kit.examples import examples

WEBHOOK = (
    '[[webhooks]]\nname = "Board"\nurl = "https://receiver.example/hook"\nevents = ["online"]\n'
)
EVERYTHING = """
[agent]
org_id = 2
state_dir = "/var/lib/device-agent"
log_format = "json"
[hold]
offline = "1h30m"
[android]
adb_server = "/run/adb.sock"
[ios]
usbmuxd = "[::1]:27015"
[api]
listen = "[::]:0"
token = { credential = "api" }
[delivery]
drain_rate = 20
[discovery]
visibility = "public"
[[devices]]
udid = "00008120-000A2D3C0E91801E"
name = "Lab iPhone"
visibility = "local"
tags = ["rack-1"]
[[devices]]
udid = "ce0917198075440c057e"
[[webhooks]]
id = 129
name = "Webhook for All events"
url = "HTTPS://[2001:db8::1]:8443/hook?key=1"
description = "status board"
events = ["online", "offline", "utilizing", "unplugged"]
enabled = false
payload = "cloudevents"
backlog = "latest"
secret = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", { file = "board.secret" }]
auth = { type = "basic", username = "agent", password = { env = "PASSWORD" } }
headers = { X-Rack = "1", X-Key = { credential = "key" } }
tls = { ca = "ca.pem", cert = "/etc/cert.pem", key = "../key.pem", verify = false }
timeout = "250ms"
allow_link_local = true
devices = ["ce09*"]
tags = ["rack-1"]
platforms = ["ios"]
[[webhooks]]
org_id = 3
name = "Webhook for All events"
url = "http://receiver"
events = ["online"]
secret = "plain"
auth = { type = "bearer", token = "token" }
"""


def test_everything_that_can_be_said() -> None:
    config = parse(EVERYTHING, "/etc/device-agent/agent.toml")
    assert config.hold.offline == 5400.0
    assert config.discovery.visibility is Visibility.PUBLIC
    assert config.devices[0].visibility is Visibility.LOCAL
    first, second = config.webhooks
    assert first.events == tuple(DeviceState)
    assert first.platforms == (Platform.IOS,)
    assert first.secret == (
        Secret.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        Secret.parse({"file": "/etc/device-agent/board.secret"}),
    )
    assert first.auth == BasicAuth(
        type="basic", username="agent", password=Secret.parse({"env": "PASSWORD"})
    )
    assert first.headers == (
        ("X-Rack", Secret.parse("1")),
        ("X-Key", Secret.parse({"credential": "key"})),
    )
    assert first.tls == Tls(
        ca="/etc/device-agent/ca.pem",
        cert="/etc/cert.pem",
        key="/etc/device-agent/../key.pem",
        verify=False,
    )
    assert first.timeout == 0.25
    assert (first.allow_link_local, second.allow_link_local) == (True, False)
    assert config.api.token == Secret.parse({"credential": "api"})
    assert config.delivery.drain_rate == 20.0
    assert second.secret == (Secret.parse("plain"),)
    assert second.auth == BearerAuth(type="bearer", token=Secret.parse("token"))
    assert [config.org_of(webhook) for webhook in config.webhooks] == [2, 3]


def test_defaults() -> None:
    config = parse("", "agent.toml")
    assert config == Config()
    assert config.hold.offline == 5.0
    assert config.delivery.max_age == 72 * 3600
    assert config.delivery.drain_rate == 200.0
    assert config.api.token is None
    (webhook,) = parse(WEBHOOK, "agent.toml").webhooks
    assert (webhook.id, webhook.enabled, webhook.payload, webhook.backlog) == (
        None, True, "standard", "all",
    )  # fmt: skip
    assert (webhook.secret, webhook.auth, webhook.headers, webhook.tls) == ((), None, (), Tls())
    assert webhook.timeout is None


def test_is_frozen_and_comparable() -> None:
    config = parse(EVERYTHING, "agent.toml")
    assert config == parse(EVERYTHING, "agent.toml")
    assert config != parse(EVERYTHING.replace("plain", "plainer"), "agent.toml")
    assert len({config, parse(EVERYTHING, "agent.toml")}) == 1
    with pytest.raises(ValidationError):
        config.webhooks[0].enabled = True  # type: ignore[misc]  # the point


def test_shows_no_secret() -> None:
    text = EVERYTHING.replace("PASSWORD", "x").replace("key=1", "key=hunter2")
    text = text.replace('"plain"', '"hunter2"').replace('"token"', '"hunter2"')
    text = text.replace('X-Rack = "1"', 'X-Rack = "hunter2"')
    text = text.replace('{ credential = "api" }', '"hunter2"')
    config = parse(text + '[usage]\nappium = ["http://a:hunter2@b"]', "agent.toml")
    assert "hunter2" not in repr(config)
    dumped = repr([webhook.model_dump(exclude={"url"}) for webhook in config.webhooks])
    assert "hunter2" not in dumped
    assert "inline secret" in dumped
    assert "hunter2" not in config.webhooks[1].model_dump_json()
    with pytest.raises(ValidationError) as caught:
        Webhook.model_validate(
            {"name": "x", "url": "http://a:hunter2@", "events": (), "secret": ["hunter2\n"]}
        )
    assert "hunter2" not in str(caught.value)


def test_devices_are_found_in_any_spelling_of_an_ios_udid() -> None:
    config = parse(EVERYTHING, "agent.toml")
    iphone, android = config.devices
    for udid in ("00008120-000A2D3C0E91801E", "00008120000a2d3c0e91801e"):
        assert config.device(udid) is iphone
    assert config.device("ce0917198075440c057e") is android
    assert config.device("CE0917198075440C057E") is None
    assert config.device("nothing") is None
    copied = config.model_copy(update={"devices": (android,)})
    assert copied.device(iphone.udid) is None
    assert copied.device(android.udid) is android
    assert config.device(iphone.udid) is iphone


def test_where_the_state_and_the_socket_are() -> None:
    config, environ = Config(), {"STATE_DIRECTORY": "/a:/b", "RUNTIME_DIRECTORY": "/c:/d"}
    assert config.state_dir({}) == Path("state")
    assert config.state_dir(environ) == Path("/a")
    assert config.socket_path({}) == Path("state/control.sock")
    assert config.socket_path({"STATE_DIRECTORY": "/a"}) == Path("/a/control.sock")
    assert config.socket_path(environ) == Path("/c/control.sock")
    config = parse('[agent]\nstate_dir = "s"\n[api]\nsocket = "x.sock"', "/etc/agent.toml")
    assert config.state_dir(environ) == Path("/etc/s")
    assert config.socket_path(environ) == Path("/etc/x.sock")


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("2m", 120), ("1h30m", 5400), ("3d", 259200), ("0s", 0),
     ("1d2h3m4s5ms", 93784.005), ("1m500ms", 60.5), ("90m", 5400), ("36500d", MAX_DURATION)],
)  # fmt: skip
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(0, int(MAX_DURATION * 1000)))
def test_a_duration_survives_its_text(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    "value",
    [5, 5.0, True, None, [], "", "5", " 5s", "5s ", "5s\n", "-5s", "5x", "s", "5S", "1s1m", "1s1s",
     "\u0665s", "1_0s", "1.5s", "36501d", "9" * 5000 + "s", "5 s", "+5s"],
)  # fmt: skip
def test_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize("rate", ["0.001", "1", "200", "1e6"])
def test_rate(rate: str) -> None:
    config = parse(f"[delivery]\ndrain_rate = {rate}", "agent.toml")
    assert config.delivery.drain_rate == float(rate)
    assert isinstance(config.delivery.drain_rate, float)


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ("0", "must be more than 0"),
        ("-0.5", "must be more than 0"),
        ("nan", "must be a finite number"),
        ("inf", "must be a finite number"),
        ("1" + "0" * 400, "must be a finite number"),
        ("true", "expected a number, got a boolean"),
        ('"200"', "expected a number, got a string"),
    ],
)
def test_no_rate(rate: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[delivery]\ndrain_rate = {rate}", "agent.toml")
    (problem,) = caught.value.problems
    assert str(problem) == f"agent.toml:2:1: delivery.drain_rate: {says}"


label = st.text(st.sampled_from("aZ09-_é漢.%@:[]\\\\"), max_size=5)
number = st.integers(-1, 300)
host = st.one_of(
    st.lists(label, min_size=1, max_size=3).map(".".join),
    st.lists(number, min_size=4, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    st.ip_addresses(v=6).map("[{}]".format),
    st.text(st.sampled_from("[]:1."), min_size=1, max_size=6),
    st.sampled_from(["localhost", "a" * 63, "a" * 64, "xn--bcher-kva.example", "a.example."]),
)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(["http", "https", "HTTP", "ftp", ""]),
    st.sampled_from(["", "user@", "user:pass@", "@", "us%er:p@ss@", ":@", "[u]@", "]u[@"]),
    host,
    st.sampled_from(["", ":", ":1", ":65535", ":65536", ":x"]),
    st.sampled_from(["", "/", "/hook", "?a=1", "#x", "/%zz?%", "/é?漢#😀"]),
)
def test_every_url_that_is_accepted_can_be_called(
    scheme: str, user: str, host: str, port: str, rest: str
) -> None:
    url = f"{scheme}://{user}{host}{port}{rest}"
    document = WEBHOOK.replace("https://receiver.example/hook", url.replace("\\", "\\\\"))
    try:
        parse(document, "x")
    except ConfigError:
        return
    called = URL(url)
    assert called.scheme in {"http", "https"}
    assert called.raw_host
    assert called.port
    assert called.absolute


# --- warnings ---------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def warned(file: Path, text: str) -> list[str]:
    file.write_text(text)
    file.chmod(0o600)
    config, problems, warnings = check(file)
    assert config == load(file)
    assert problems == ()
    assert all(warning.file == str(file) for warning in warnings)
    return [f"{each.line}:{each.column}: {each.message}" for each in warnings]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "board.localhost", "127.0.0.1", "127.8.0.1", "[::1]"],
)
def test_plain_http_on_this_host_is_fine(file: Path, host: str) -> None:
    assert warned(file, WEBHOOK.replace("https://receiver.example", f"http://{host}")) == []


@pytest.mark.parametrize(
    "host",
    ["receiver.example", "8.8.8.8", "[2001:4860:4860::8888]", "10.1.2.3", "board.local", "board"],
)
def test_plain_http_elsewhere_is_not(file: Path, host: str) -> None:
    text = WEBHOOK.replace("https://receiver.example/hook", f"http://a:hunter2@{host}/?hunter3")
    (warning,) = warned(file, text)
    assert warning.startswith("3:1: webhook 'Board' url: callbacks travel unencrypted to ")
    assert "hunter" not in warning
    assert host.strip("[]") in warning


def test_certificates_that_are_not_checked(file: Path) -> None:
    (warning,) = warned(file, WEBHOOK + "[webhooks.tls]\nverify = false\n")
    assert warning.startswith("6:1: webhook 'Board' tls.verify: certificates are not checked")


def test_tls_without_tls(file: Path) -> None:
    text = WEBHOOK.replace("https://receiver.example", "http://localhost")
    (file.parent / "ca.pem").touch()
    (warning,) = warned(file, text + 'tls = { ca = "ca.pem" }\n')
    assert warning == "5:1: webhook 'Board' tls: has no effect, for the URL is plain http"


def test_files_of_secrets(file: Path) -> None:
    text = WEBHOOK + (
        'secret = { file = "a" }\n'
        'auth = { type = "bearer", token = { file = "b" } }\n'
        'headers = { X-A = { file = "a" }, X-B = { file = "b" }, X-C = { env = "C" } }\n'
        'tls = { ca = "b", cert = "c", key = "b" }\n'
    )
    for name, mode in [("a", 0o600), ("b", 0o640)]:
        (file.parent / name).touch()
        (file.parent / name).chmod(mode)
    there = file.parent
    advice = f"others can read {there}/b (mode 0640): chmod 0600 {there}/b"
    assert warned(file, text) == [
        f"6:27: webhook 'Board' auth.token: {advice}",
        f"7:35: webhook 'Board' headers.X-B: {advice}",
        f"8:19: webhook 'Board' tls.cert: {there}/c does not exist: create it or correct the path",
        f"8:31: webhook 'Board' tls.key: {advice}",
    ]


def test_the_file_of_the_apis_token(file: Path) -> None:
    token, text = file.parent / "token", '[api]\ntoken = { file = "token" }\n'
    assert warned(file, text) == [
        f"2:1: api.token: {token} does not exist: create it or correct the path"
    ]
    token.touch()
    token.chmod(0o604)
    assert warned(file, text) == [
        f"2:1: api.token: others can read {token} (mode 0604): chmod 0600 {token}"
    ]
    token.chmod(0o600)
    assert warned(file, text) == []


@pytest.mark.parametrize(
    "secret",
    [
        'secret = "hunter2"',
        'auth = { type = "basic", username = "a", password = "hunter2" }',
        'auth = { type = "bearer", token = "hunter2" }',
        '[api]\ntoken = "hunter2"',
    ],
)
def test_a_config_with_secrets_that_others_can_read(file: Path, secret: str) -> None:
    assert warned(file, WEBHOOK + secret) == []
    for mode, loose in [(0o644, True), (0o640, True), (0o604, True), (0o620, False)]:
        file.chmod(mode)
        assert stat.S_IMODE(file.stat().st_mode) == mode
        _, _, warnings = check(file)
        assert [(each.line, each.column) for each in warnings] == ([(1, 1)] if loose else [])
        assert all(f"mode {mode:04o}" in each.message for each in warnings)
        assert "hunter2" not in str(warnings)


def test_a_config_without_secrets_may_be_read_by_all(file: Path) -> None:
    warned(file, WEBHOOK + 'secret = { env = "X" }\nheaders = { X-Rack = "1" }')
    file.chmod(0o644)
    assert check(file)[2] == ()


DEVICES = """
[[devices]]
udid = "00008120-000A2D3C0E91801E"
tags = ["rack-1"]
[[devices]]
udid = "ce0917198075440c057e"
visibility = "public"
tags = ["rack-2"]
"""


@pytest.mark.parametrize(
    ("visibility", "scope", "idle"),
    [
        ("private", "", False),
        ("private", 'tags = ["rack-1"]', False),
        ("private", 'tags = ["rack-9", "rack-1"]', False),
        ("private", 'tags = ["rack-9"]', True),  # tags come from the file alone
        ("private", 'tags = ["rack-2"]', True),  # that one is public
        ("private", 'devices = ["zz*"]', False),  # one may be plugged in
        ("private", 'tags = ["rack-1"]\ndevices = ["ce*"]', True),
        ("private", 'tags = ["rack-1"]\ndevices = ["00008120000a*"]', False),
        ("private", 'tags = ["rack-1"]\ndevices = ["0000[7-9]120*"]', False),  # a range
        ("private", 'tags = ["rack-1"]\ndevices = ["0000[0-7]120*"]', True),
        ("private", 'tags = ["rack-1"]\ndevices = ["*@1-4.2"]', False),
        ("ignore", "", True),  # what is listed without a visibility has that one too
        ("public", "", True),
        ("public", 'devices = ["ce*"]', True),
    ],
)
def test_a_webhook_that_no_device_can_match(
    file: Path, visibility: str, scope: str, idle: bool
) -> None:
    text = f'{WEBHOOK}{scope}\n{DEVICES}[discovery]\nvisibility = "{visibility}"\n'
    warnings = warned(file, text)
    assert len(warnings) == idle
    assert all("1:3: webhook 'Board': no device that is listed" in each for each in warnings)


def test_a_listed_device_that_calls_back_is_matched_though_others_are_ignored(file: Path) -> None:
    devices = (
        '[[devices]]\nudid = "abc"\nvisibility = "local"\n[discovery]\nvisibility = "ignore"\n'
    )
    assert warned(file, WEBHOOK + devices) == []
    assert len(warned(file, WEBHOOK + 'devices = ["b*"]\n' + devices)) == 1


def test_the_same_url_twice(file: Path) -> None:
    text = WEBHOOK + WEBHOOK.replace("Board", "Other") + WEBHOOK.replace("Board", "Third")
    assert warned(file, text) == [
        "7:1: webhook 'Other' url: webhook 'Board' has the same URL: it is called twice",
        "11:1: webhook 'Third' url: webhook 'Board' has the same URL: it is called twice",
    ]


# --- cost -------------------------------------------------------------------------------------


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, agent.config; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "agent.config" in loaded
    assert not loaded & {"aiohttp", "asyncio", "difflib", "sqlite3", "pymobiledevice3", "pyudev"}
    # Of the agent's own, only what the layers allow.
    others = {name for name in loaded if re.match(r"agent\.(?!config\b)", name)}
    light = ("address", "errors", "model", "reasons", "text", "udid")
    assert others == {f"agent.{name}" for name in light}


def test_its_modules_import_one_way() -> None:
    folder = Path(agent.config.__file__).parent
    line = re.compile(r"^ *from agent\.config\.(\w+) import", re.MULTILINE)
    imports = {file.stem: set(line.findall(file.read_text())) for file in folder.glob("*.py")}
    assert imports.keys() >= {"__init__", "values", "fields", "model", "loader"}
    assert set(TopologicalSorter(imports).static_order()) == imports.keys()  # or CycleError
    front = re.compile(r"^ *(from agent\.config import|import agent\.config)", re.MULTILINE)
    inner = [file for file in folder.glob("*.py") if file.stem != "__init__"]
    assert not [file.stem for file in inner if front.search(file.read_text())]


def test_everything_public_is_there() -> None:
    assert sorted(set(agent.config.__all__)) == sorted(agent.config.__all__)
    assert all(hasattr(agent.config, name) for name in agent.config.__all__)

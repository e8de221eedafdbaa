"""Every kind of secret through every way of failing, in the whole agent, in each log format.

What the agent writes is searched for all secrets: its log at level debug, what it tells systemd,
every answer of its API, and each byte of its state directory, while it runs and when it has ended.
In each of these the phone's serial, which is no secret, must be found by the same search.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import html
import itertools
import json
import signal
import socket
import sqlite3
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer, hang, reset
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.fakes.receiver import Behaviour, Request

MIDDLE = '"+/&=<ü>%'
"""What JSON, URLs, HTML and base64 write differently, and a header may hold."""
ECHOES: dict[str, Callable[[Request], str]] = {
    "plain": lambda request: "\n".join(f"{name}: {value}" for name, value in _told(request)),
    "json": lambda request: json.dumps(dict(_told(request))),
    "json-utf8": lambda request: json.dumps(dict(_told(request)), ensure_ascii=False),
    "html": lambda request: "".join(f"<b>{html.escape(value)}" for _, value in _told(request)),
    "url": lambda request: "&".join(f"{n}={quote(v, safe='')}" for n, v in _told(request)),
    "base64": lambda request: " ".join(
        base64.b64encode(value.rpartition(" ")[2].encode()).decode()
        for name, value in _told(request)
        if name != "target"
    ),
}
"""How an endpoint repeats what it was sent."""
_DULL = {"host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"}


def _told(request: Request) -> Iterator[tuple[str, str]]:
    """What may be secret of a request: its target, as it is and as a server takes it apart."""
    yield "target", request.target
    for name, value in parse_qsl(urlsplit(request.target).query, keep_blank_values=True):
        yield f"query {name[:3]}", value or name
    for name, value in request.fields:
        if name.lower() not in _DULL and not name.lower().startswith("webhook-"):
            yield name, value.encode("latin-1").decode()


class Scene:
    """An agent's configuration in which each webhook fails in its own way, and its secrets."""

    def __init__(
        self, place: Path, vault: Vault, receiver: Receiver, ports: tuple[int, int]
    ) -> None:
        self.vault = vault
        self.environ = {
            "CREDENTIALS_DIRECTORY": str(place / "credentials"),
            "no_proxy": "127.0.0.1,169.254.169.254,.invalid",
        }
        self.expected: dict[str, str] = {}
        """Name of a webhook → what its deliveries say."""
        self._place = place
        self._receiver = receiver
        self._closed, self._no_tls = ports
        self._tables: list[str] = []
        self._numbers = itertools.count(1)

    @property
    def toml(self) -> str:
        return "\n".join(self._tables)

    def secret(self, name: str, middle: str = MIDDLE) -> str:
        return self.vault.make(f"{name} {next(self._numbers)}", middle)

    def file(self, name: str, content: str | bytes) -> str:
        """A file's path, in TOML."""
        path = self._place / f"{name}-{next(self._numbers)}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return _toml(str(path))

    def add(self, name: str, says: str, url: str, *keys: str) -> str:
        """A webhook's table, with a secret in its query and in a header besides those of `keys`."""
        number = next(self._numbers)
        query = f"key={quote(self.secret('query'), safe='')}&{self.secret('bare query', '')}"
        header = _toml(self.secret("header"))
        self.expected[name] = says
        self._tables.append(
            f'[[webhooks]]\nid = {number}\nname = "{name}"\nurl = {_toml(f"{url}?{query}")}\n'
            f'events = ["online"]\nheaders.X-Number = "{number}"\nheaders.X-Key = {header}\n'
            + "\n".join(keys)
        )
        return self._tables[-1]

    def every_failure(self) -> None:
        """Fill it."""
        url, port = self._receiver.url, self._receiver.port
        for form in ECHOES:
            self.add(
                f"bearer {form}", "HTTP 401", url(f"/echo/{form}"), f"auth = {self.bearer('env')}"
            )
            self.add(f"basic {form}", "HTTP 401", url(f"/echo/{form}"), f"auth = {self.basic()}")
            self.add(f"userinfo {form}", "HTTP 401", url(f"/echo/{form}", userinfo=self.userinfo()))
        token = quote(self.secret("user name alone"), safe="")
        self.add("user name", "HTTP 401", url("/echo/plain", userinfo=f"{token}@"))
        self.add("delivered", "", url("/good"), f"auth = {self.bearer('credential')}")
        self.add("gone", "HTTP 410", url("/gone"), f"auth = {self.bearer('inline')}")
        self.add("redirect", "redirects are not followed", url("/redirect"))
        self.add("redirect to path", "redirects are not followed", url("/redirect/path"))
        self.add("reset", "reset", url("/reset"), f"auth = {self.basic()}")
        self.add("slow", " within 0.", url("/hang"), 'timeout = "200ms"')
        self.add(
            "refused", "refuses connections", f"http://{self.userinfo()}127.0.0.1:{self._closed}/"
        )
        self.add("dns", "nowhere.invalid", f"https://{self.userinfo()}nowhere.invalid/")
        self.add("tls", "TLS", f"https://{self.userinfo()}127.0.0.1:{self._no_tls}/")
        self.add("metadata", "link-local", f"http://{self.userinfo()}169.254.169.254/")
        self.add("proxied", "HTTP 502", f"http://{self.userinfo()}board.example/proxied")
        self.add("tunnel", "proxy", f"https://{self.userinfo()}board.example/tunnel")
        proxy = f"proxy = {_toml(f'http://{self.userinfo()}127.0.0.1:{port}')}"
        self.add("basic own proxy", "HTTP 502", "http://board.example/proxied", proxy)
        self.add("own tunnel", "proxy", "https://board.example/tunnel", proxy)
        for scheme, says in (("http", "HTTP 502"), ("https", "proxy")):
            self.add(
                f"proxy_auth {scheme}",
                says,
                f"{scheme}://board.example/proxied",
                f'proxy = "http://127.0.0.1:{port}"\nproxy_auth = {self.basic("proxy_auth")}',
            )

        key = f"-----BEGIN PRIVATE KEY-----\n{self.secret('key', '')}\n-----END PRIVATE KEY-----\n"
        self.add(
            "bad key",
            "tls.key",
            f"https://127.0.0.1:{port}/",
            f"tls = {{ cert = {self.file('cert', key)}, key = {self.file('key', key)} }}",
        )
        contents: dict[str, str | bytes] = {
            "two lines": f"{self.secret('file')}\n{self.secret('file')}\n",
            "bytes": self.secret("file").encode() + b"\xff",
            "large": self.secret("file") * 4000,
            "whsec": f"whsec_{self.secret('file')}!",
        }
        for name, content in contents.items():
            file = self.file("secret", content)
            says = "base64" if name == "whsec" else "secret file"
            self.add(f"secret {name}", says, url("/good"), f"secret = {{ file = {file} }}")
        self.add("no file", "does not exist", url("/good"), 'secret = { file = "/none" }')
        self.add("no variable", "not set", url("/good"), 'secret = { env = "NOT_THERE" }')
        self.add("no credential", "NOT_ONE", url("/good"), 'secret = { credential = "NOT_ONE" }')

        inline = f"whsec_{self.vault.make('whsec')}", self.secret("raw")
        self.add("inline", "HTTP 401", url("/echo/plain"), f"secret = {_toml(list(inline))}")
        sent = f"{{ file = {self.file('raw', self.secret('raw file'))} }}"
        hooked = f"{{ file = {self.file('whsec', self.vault.whsec('whsec file'))} }}"
        self.add("files", "HTTP 401", url("/echo/plain"), f"secret = [{sent}, {hooked}]")

    def userinfo(self) -> str:
        user, password = self.secret("user"), self.secret("password")
        return f"{quote(user, safe='')}:{quote(password, safe='')}@"

    def bearer(self, kind: str) -> str:
        value = self.secret(f"token {kind}", "-._~+/")
        if kind == "env":
            name = f"TOKEN_{len(self.environ)}"
            self.environ[name] = value
            return f'{{ type = "bearer", token = {{ env = "{name}" }} }}'
        if kind == "credential":
            (self._place / "credentials").mkdir(exist_ok=True)
            (self._place / "credentials" / "board").write_text(value)
            return '{ type = "bearer", token = { credential = "board" } }'
        return f'{{ type = "bearer", token = {_toml(value)} }}'

    def basic(self, name: str = "basic") -> str:
        password = self.file("password", self.secret(name))
        return f'{{ type = "basic", username = "board", password = {{ file = {password} }} }}'


def _toml(value: object) -> str:
    """A basic string, or an array of them: JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False)


async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
    """The endpoint of every webhook, by the path."""
    path, _, query = request.target.removeprefix("http://board.example").partition("?")
    told = ECHOES["plain"](request).encode()
    what: Behaviour
    match path.strip("/").split("/"):
        case ["echo", form]:
            what = answer(401, (), ECHOES[form](request).encode())
        case ["good"]:
            what = answer(200, (), told)
        case ["gone"]:
            what = answer(410, (), told)
        case ["redirect"]:
            what = answer(302, (f"Location: https://else.example/in?{query}#{query}",), told)
        case ["redirect", "path"]:
            what = answer(308, (f"Location: //else.example/in/{query}",), told)
        case ["reset"]:
            what = reset(b"HTTP/1.1 ")
        case ["hang", *_]:
            what = hang()
        case ["proxied"]:
            what = answer(502, (), told)
        case _ if request.method == "CONNECT":
            what = answer(407, (), told)
        case other:
            raise AssertionError(other)
    await what(request, writer)


async def _not_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Receiver, int, int]]:
    """A receiver, a port that refuses connections, and one that talks no TLS."""
    receiver = await Receiver().start()
    receiver.default = behave
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        async with await asyncio.start_server(_not_tls, "127.0.0.1", 0) as no_tls:
            yield receiver, taken.getsockname()[1], no_tls.sockets[0].getsockname()[1]
    await receiver.close()


PHONES = 5
"""As many failures make a webhook count as failing."""
HEAD = (
    """
log_level = "debug"
log_format = "{log_format}"
[delivery]
max_age = "{max_age}"
[hold]
online = "0s"
"""
    + ONLY_ADB
    + """\
probe_interval = "0s"
"""
)


class Search:
    """Texts an operator may see, searched for what must not and for what must be in them."""

    def __init__(self, vault: Vault, canary: str) -> None:
        self._vault = vault
        self._canary = Vault()
        self._canary.keep("canary", canary)

    def look(self, place: str, text: str | bytes, *, canary: bool = True) -> None:
        """Fail on a secret in it; also where the canary is missing, if it must be there."""
        found = self._vault.found_in(text)
        assert not found, f"{place} tells {sorted(found)}"
        if canary:
            assert self._canary.found_in(text), f"{place} does not tell even what it should"
        # And the search would have seen one between what stands there.
        name, value = next(reversed(self._vault.values.items()))
        raw = text.encode() if isinstance(text, str) else text
        leak = raw[:500] + json.dumps(value).encode() + raw[-500:]
        assert self._vault.found_in(leak) == {name}, place


@pytest.mark.parametrize(
    ("log_format", "max_age", "dead_proxy"),
    [("text", "72h", False), ("journal", "72h", True), ("json", "1ms", False)],
)
async def test_no_secret_is_told_by_any_failure(
    place: Path,
    endpoint: tuple[Receiver, int, int],
    log_format: str,
    max_age: str,
    dead_proxy: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    receiver, closed, no_tls = endpoint
    vault = Vault()
    canary = f"canary{Vault().make('serial') * 3}"
    search = Search(vault, canary)
    scene = Scene(place, vault, receiver, (closed, no_tls))
    scene.every_failure()
    for scheme, port in (
        ("http", receiver.port),
        ("https", closed if dead_proxy else receiver.port),
    ):
        scene.environ[f"{scheme}_proxy"] = f"http://{scene.userinfo()}127.0.0.1:{port}"
    async with FakeAdbHost() as host, AgentProcess(place, "") as agent:
        head = HEAD.format(log_format=log_format, max_age=max_age, adb=host.address)
        begin = agent.path.read_text().replace("[api]", f"{head}[api]", 1)
        token = f"token = {_toml(scene.secret('api token'))}\n"
        begin = begin.replace('listen = ""\n', f'listen = ""\n{token}', 1)
        assert token in begin
        broker = f"nats://{scene.userinfo()}127.0.0.1:{closed}"
        agent.path.write_text(f"{begin}[fleet]\nservers = [{_toml(broker)}]\n{scene.toml}")
        await agent.start(scene.environ)
        host.set(*[Listed(f"{canary}-{number}") for number in range(PHONES)])
        await _until_tried(agent, scene)
        await _look_around(agent, search, scene, canary)
        search.look("the state of the running agent", _state(place))
        await _reload_in_vain(agent, search, scene, begin)

        limit = 'timeout = "9s"' if log_format == "text" else 'timeout = "300ms"'
        late = receiver.url("/hang/late")
        last = scene.add("late", "", late, f"auth = {scene.basic()}", limit)
        agent.path.write_text(begin + last)
        done = await agent.api("POST", "/v1/reload")
        assert done[0] == 200, done
        host.set(Listed(f"{canary}-late"))
        await receiver.until(
            lambda: any(request.target.startswith("/hang/late") for request in receiver.requests)
        )
        assert await agent.stop() == 0

    log = "\n".join(agent.log)
    search.look("log", log)
    silent = [name for name, says in scene.expected.items() if says and name not in log]
    assert not silent
    assert f"STATUS={PHONES} online" in "\n".join(agent.notifications)
    search.look("notifications", "\n".join(agent.notifications), canary=False)
    search.look("stdout", "".join(capfd.readouterr()), canary=False)
    search.look("the state", _state(place))
    with closing(sqlite3.connect(place / "state" / "state.db")) as connection:
        search.look("dump", "\n".join(connection.iterdump()))
    # All of it would be worth nothing if the secrets had not been used.
    used = vault.found_in("".join(f"{each.target} {each.fields}" for each in receiver.requests))
    kinds = {name.rpartition(" ")[0] for name in used}
    assert kinds > {
        *("token env", "token credential", "token inline"),
        *("basic", "user", "header", "proxy_auth"),
    }


async def _until_tried(agent: AgentProcess, scene: Scene) -> None:
    """Wait until each webhook was tried: all its phones, or one where one failure holds it up."""
    rows: list[dict[str, Any]] = []
    tried: set[str] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while len(rows) < PHONES * len(scene.expected) or tried < set(scene.expected):
                await asyncio.sleep(0.05)
                rows = await _deliveries(agent)
                tried = {row["webhook_name"] for row in rows if row["attempts"]}
    assert len(rows) == PHONES * len(scene.expected)
    assert tried == set(scene.expected)
    for row in rows:
        if row["attempts"]:
            says = scene.expected[row["webhook_name"]]
            assert says in row["error"], (row["webhook_name"], says)
            assert bool(says) == bool(row["error"])


async def _deliveries(agent: AgentProcess) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await agent.api("GET", "/v1/deliveries?limit=1000"))[1][
        "deliveries"
    ]
    return rows


async def _look_around(agent: AgentProcess, search: Search, scene: Scene, canary: str) -> None:
    """Ask the API for all that it tells."""
    about_itself = ("/-/ready", "/v1/status", "/v1/doctor")
    lists = ("/v1/webhooks", "/v1/leases", "/v1/causes", "/v1/suspects", "/v1/none")
    for path in (*about_itself, *lists):
        answered = await agent.api("GET", path)
        search.look(path, json.dumps(answered, ensure_ascii=False), canary=False)
    metrics = await agent.metrics()
    search.look("/metrics", metrics, canary=False)
    assert [name for name in scene.expected if f'webhook="{name}"' not in metrics] == []
    rows = await _deliveries(agent)
    search.look("/v1/deliveries", json.dumps(rows, ensure_ascii=False))
    for path in ("/v1/devices", "/v1/ports", f"/v1/devices/{canary}-0"):
        search.look(path, json.dumps(await agent.api("GET", path)))
    first = {row["webhook_name"]: row["id"] for row in rows if row["attempts"]}
    for name, says in scene.expected.items():
        one = await agent.api("GET", f"/v1/deliveries/{first[name]}")
        assert one[0] == 200
        search.look(f"delivery of {name}", json.dumps(one, ensure_ascii=False))
        status, one = await agent.api("POST", f"/v1/webhooks/{quote(name)}/test")
        assert status == 200
        assert one["ok"] is not bool(says), one["error"]
        search.look(f"test of {name}", json.dumps(one, ensure_ascii=False), canary=False)
        if name.startswith(("bearer", "basic", "userinfo")):
            # The endpoint did repeat them, and stars stand in their place.
            assert "***" in one["answer"], name
    bundle = agent.directory / "bundle.tar.gz"
    code, out, err = await agent.cli("doctor", "--bundle", bundle, **scene.environ)
    assert code == 2, err
    search.look("doctor", out + err, canary=False)
    with tarfile.open(bundle) as archive:
        files = [archive.extractfile(each) for each in archive]
        search.look("bundle", b"".join(file.read() for file in files if file is not None))
    bundle.unlink()
    for method, path, body in (
        ("GET", "/v1/deliveries?webhook=none&limit=x", None),
        ("GET", "/v1/deliveries/none", None),
        ("POST", "/v1/webhooks/none/test", None),
        ("POST", "/v1/leases", {"udid": canary, "holder": 5}),
        ("POST", "/v1/leases", {"udid": f"{canary}-0", "holder": "a", "ttl": -1}),
    ):
        answered = await agent.api(method, path, body)
        assert answered[0] >= 400, path
        search.look(path, json.dumps(answered), canary=False)


async def _reload_in_vain(agent: AgentProcess, search: Search, scene: Scene, begin: str) -> None:
    """Reloads that are refused: for what the file says, what it names, what the store knows."""
    mistaken = scene.toml.replace("events", "evnts", 3)
    blocks = scene.toml.split("[[webhooks]]")
    loadable = "[[webhooks]]".join(each for each in blocks if '"bad key"' not in each)
    names = loadable.replace('"dns"', '"?"').replace('"tls"', '"dns"').replace('"?"', '"tls"')
    for text, status in ((mistaken, 422), (scene.toml, 422), (names, 409)):
        agent.path.write_text(begin + text)
        answered = await agent.api("POST", "/v1/reload")
        assert answered[0] == status, answered
        search.look("reload", json.dumps(answered, ensure_ascii=False), canary=False)
    agent.signal(signal.SIGHUP)
    await agent.until(
        lambda: sum("reload.refused" in line for line in agent.log) == 4, "four refusals"
    )
    told = await agent.api("GET", "/v1/status")
    assert "dns" in told[1]["reload"]["error"]
    search.look("status", json.dumps(told, ensure_ascii=False), canary=False)


def _state(place: Path) -> bytes:
    """Every byte of the state directory."""
    files = [path for path in (place / "state").rglob("*") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)

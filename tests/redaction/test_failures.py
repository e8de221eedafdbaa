"""Every kind of secret through every way of failing, in the whole agent, in each log format.

What the agent writes is searched for all secrets: its log at level debug, what it tells systemd,
every answer of its API, and each byte of its state directory, while it runs and when it has ended.
In each of these the phone's serial, which is no secret, must be found by the same search.
"""

from __future__ import annotations

import asyncio
import base64
import html
import itertools
import json
import signal
import socket
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer, hang, reset
from tests.process.kit import AgentProcess
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        self.environ: dict[str, str] = {}
        self.names: list[str] = []
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

    def add(self, name: str, says: str, url: str, *keys: str) -> None:
        """A webhook, with a secret in its query and in a header besides those of `keys`."""
        number = next(self._numbers)
        query = f"key={quote(self.secret('query'), safe='')}&{self.secret('bare query', '')}"
        header = _toml(self.secret("header"))
        self.names.append(name)
        self.expected[name] = says
        self._tables.append(
            f'[[webhooks]]\nid = {number}\nname = "{name}"\nurl = {_toml(f"{url}?{query}")}\n'
            f'events = ["online"]\nheaders.X-Number = "{number}"\nheaders.X-Key = {header}\n'
            + "\n".join(keys)
        )

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
        self.add("dns", "cannot resolve", f"https://{self.userinfo()}nowhere.invalid/")
        self.add("tls", "TLS", f"https://{self.userinfo()}127.0.0.1:{self._no_tls}/")
        self.add("metadata", "link-local", f"http://{self.userinfo()}169.254.169.254/")
        self.add("proxied", "HTTP 502", f"http://{self.userinfo()}board.example/proxied")
        self.add("tunnel", "proxy", f"https://{self.userinfo()}board.example/tunnel")

        key = f"-----BEGIN PRIVATE KEY-----\n{self.secret('key', '')}\n-----END PRIVATE KEY-----\n"
        self.add(
            "bad key",
            "tls.key",
            f"https://127.0.0.1:{port}/",
            f"tls = {{ cert = {self.file('cert', key)}, key = {self.file('key', key)} }}",
        )
        for name, content in {
            "two lines": f"{self.secret('file')}\n{self.secret('file')}\n",
            "bytes": self.secret("file").encode() + b"\xff",
            "large": self.secret("file") * 4000,
            "whsec": f"whsec_{self.secret('file')}!",
        }.items():
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

    def basic(self) -> str:
        password = self.file("password", self.secret("basic"))
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
        case ["hang"]:
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
def place() -> Iterator[Path]:
    """A directory with a short name: unix sockets have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="da-") as name:
        yield Path(name)


HEAD = """
log_level = "debug"
log_format = "{log_format}"
[delivery]
max_age = "{max_age}"
[hold]
online = "0s"
[usb]
enabled = false
[ios]
enabled = false
[android]
adb_server = "{adb}"
start_server = false
probe_interval = "0s"
"""


class Search:
    """Texts an operator may see, searched for what must not and for what must be in them."""

    def __init__(self, vault: Vault, canary: str) -> None:
        self._vault = vault
        self._canary = Vault()
        self._canary.keep("canary", canary)
        self.places: list[str] = []

    def look(self, place: str, text: str | bytes, *, canary: bool = True) -> None:
        """Fail on a secret in it; also where the canary is missing, if it must be there."""
        found = self._vault.found_in(text)
        assert not found, f"{place} tells {sorted(found)}"
        if canary:
            assert self._canary.found_in(text), f"{place} does not tell even what it should"
        # And the search would have seen one, whatever else stands there.
        name, value = next(reversed(self._vault.values.items()))
        raw = text.encode() if isinstance(text, str) else text
        assert self._vault.found_in(raw + json.dumps(value).encode()) == {name}, place
        self.places.append(place)


@pytest.mark.parametrize(
    ("log_format", "max_age", "dead_proxy"),
    [("text", "72h", False), ("journal", "72h", True), ("json", "1ms", False)],
)
async def test_no_secret_is_told_by_any_failure(
    place: Path, log_format: str, max_age: str, dead_proxy: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    vault = Vault()
    # Found by its parts like a key; a serial is all that the canary may look like.
    canary = "canary" + Vault().make("serial") * 3
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        closed = taken.getsockname()[1]
        receiver = await Receiver().start()
        receiver.default = behave
        no_tls = await asyncio.start_server(_not_tls, "127.0.0.1", 0)
        ports = closed, no_tls.sockets[0].getsockname()[1]
        scene = Scene(place, vault, receiver, ports)
        scene.every_failure()
        stuck = Scene(place, vault, receiver, ports)
        stuck.add("in flight", "", receiver.url("/hang"), f"auth = {scene.bearer('inline')}")
        https_proxy = (
            f"http://{scene.userinfo()}127.0.0.1:{closed if dead_proxy else receiver.port}"
        )
        environ = {
            **scene.environ,
            "CREDENTIALS_DIRECTORY": str(place / "credentials"),
            "http_proxy": f"http://{scene.userinfo()}127.0.0.1:{receiver.port}",
            "https_proxy": https_proxy,
            "no_proxy": "127.0.0.1,169.254.169.254,.invalid",
        }
        async with FakeAdbHost() as host:
            phones = [f"{canary}-{number}" for number in range(5)]
            head = HEAD.format(log_format=log_format, max_age=max_age, adb=host.address)
            async with AgentProcess(place, "") as agent:
                begin = agent.path.read_text().replace("[api]", f"{head}[api]", 1)
                agent.path.write_text(begin + scene.toml)
                agent.path.chmod(0o600)
                search = Search(vault, canary)
                await agent.start(**environ)
                host.set(*[Listed(serial) for serial in phones])
                await _until_tried(agent, scene, len(phones))
                await _look_around(agent, search, scene, canary)
                for file in _files(place / "state"):
                    search.look(f"{file} of the running agent", file.read_bytes(), canary=False)
                stored = b"".join(file.read_bytes() for file in _files(place / "state"))
                search.look("the state of the running agent", stored)

                # A reload that is refused, by the file and by the store; then one that is not.
                agent.path.write_text(begin + scene.toml.replace("events", "evnts", 3))
                search.look(
                    "refused", json.dumps(await agent.api("POST", "/v1/reload")), canary=False
                )
                swapped = scene.toml.replace('"dns"', '"?"').replace('"tls"', '"dns"')
                agent.path.write_text(begin + swapped.replace('"?"', '"tls"'))
                clash = await agent.api("POST", "/v1/reload")
                assert clash[0] == 500
                search.look("clash", json.dumps(clash), canary=False)
                agent.signal(signal.SIGHUP)
                await agent.until(lambda: _count(agent, "reload.refused") == 3, "3 refusals")
                search.look(
                    "status", json.dumps(await agent.api("GET", "/v1/status")), canary=False
                )
                agent.path.write_text(begin + stuck.toml)
                done = await agent.api("POST", "/v1/reload")
                assert done[0] == 200, done
                seen = len(receiver.requests)
                host.set(Listed(f"{canary}-late"))
                await receiver.until(lambda: len(receiver.requests) > seen, "one in flight")
                assert await agent.stop() == 0
        no_tls.close()
        await receiver.close()

    log = "\n".join(agent.log)
    search.look("log", log)
    for name in scene.names:
        if scene.expected[name]:
            assert name in log, f"nothing is said of {name}"
    told = "\n".join(agent.notifications)
    search.look("notifications", told, canary=False)
    assert "STATUS=5 online" in told
    out, err = capfd.readouterr()
    search.look("stdout", out + err, canary=False)
    for file in _files(place / "state"):
        search.look(f"{file} afterwards", file.read_bytes(), canary=False)
    with closing(sqlite3.connect(next((place / "state").glob("*.db")))) as connection:
        search.look("dump", "\n".join(connection.iterdump()))
    # All of it would be worth nothing if the secrets had not been used.
    used = "\n".join(f"{request.target} {request.fields}" for request in receiver.requests)
    wanted = {"token env", "token credential", "token inline", "basic", "user", "header", "query"}
    assert wanted <= {name.rpartition(" ")[0] for name in vault.found_in(used)}


async def _until_tried(agent: AgentProcess, scene: Scene, phones: int) -> None:
    """Wait until each webhook was tried: all its phones, or one where one failure holds it up."""
    async with asyncio.timeout(30):
        while True:
            rows = await _deliveries(agent)
            tried = Counter(row["webhookName"] for row in rows if row["attempts"])
            if len(rows) == phones * len(scene.names) and len(tried) == len(scene.names):
                break
            await asyncio.sleep(0.05)
    for row in rows:
        if row["attempts"]:
            says = scene.expected[row["webhookName"]]
            assert says in row["error"], (row["webhookName"], says)
            assert bool(says) == bool(row["error"])


async def _deliveries(agent: AgentProcess) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await agent.api("GET", "/v1/deliveries?limit=1000"))[1][
        "deliveries"
    ]
    return rows


async def _look_around(agent: AgentProcess, search: Search, scene: Scene, canary: str) -> None:
    """Ask the API for all that it tells."""
    for path in ("/-/ready", "/v1/status", "/v1/webhooks", "/v1/leases", "/v1/none"):
        answered = await agent.api("GET", path)
        search.look(path, json.dumps(answered, ensure_ascii=False), canary=False)
    rows = await _deliveries(agent)
    search.look("/v1/deliveries", json.dumps(rows, ensure_ascii=False))
    search.look("/v1/devices", json.dumps(await agent.api("GET", "/v1/devices")))
    first = {row["webhookName"]: row["id"] for row in rows if row["attempts"]}
    for name in scene.names:
        one = await agent.api("GET", f"/v1/deliveries/{first[name]}")
        assert one[0] == 200
        search.look(f"delivery of {name}", json.dumps(one, ensure_ascii=False))
        status, one = await agent.api("POST", f"/v1/webhooks/{quote(name)}/test")
        assert status == 200
        assert one["ok"] is not bool(scene.expected[name]), one["error"]
        search.look(f"test of {name}", json.dumps(one, ensure_ascii=False), canary=False)
        if name.startswith(("bearer", "basic", "userinfo")):
            # The endpoint did repeat them, and stars stand in their place.
            assert "***" in one["answer"], name
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


def _files(directory: Path) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return files


def _count(agent: AgentProcess, what: str) -> int:
    return sum(what in line for line in agent.log)

"""The installed service in its machine, as a scenario sees it: phones in, callbacks out."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standardwebhooks import Webhook

from tests.lab.vm import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.lab.vm import Vm

ONLINE, OFFLINE, UTILIZING, UNPLUGGED = "Online", "Offline", "Utilizing", "Unplugged"

PHONES = "/run/lab-phones.sock"
AGENT = "/run/device-agent/control.sock"
CONFIG = "/etc/device-agent/agent.toml"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the standard's own example
SETTINGS = f"""
[agent]
org_id = 7
[[webhooks]]
id = 1
name = "lab"
url = "http://127.0.0.1:8700/lab"
events = ["online", "offline", "utilizing", "unplugged"]
secret = "{SECRET}"
"""
HOLDS = {"online": "0s", "offline": "120s", "utilizing": "0s", "unplugged": "3s"}
"""Emulated, adb and usbmuxd need long to see a phone: until then it is not offline yet."""
KEYS = [
    *("creationTime", "eventType", "eventActivity", "eventDescription"),
    *("deviceUdid", "deviceName", "orgId", "webhookId", "webhookName"),
]


class Lab:
    """Drives one machine; `fresh` before each scenario."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self._mark = 0

    # --- set up ----------------------------------------------------------------------------

    def fresh(self, more: str = "", **holds: str) -> None:
        """No phones, a receiver that answers, these settings in force, nothing waiting.

        What the store knows of earlier scenarios stays: take serials of your own.

        Args:
            more: TOML behind SETTINGS and HOLDS.
            holds: of `[hold]`, instead of those of HOLDS.
        """
        self.vm.run("rm", "-f", "/run/lab/answer")
        self.vm.run("systemctl", "stop", "lab-use", ok=False)
        self.phones("unplug_many", all=True)
        hold = "".join(f'{key} = "{value}"\n' for key, value in (HOLDS | holds).items())
        self.vm.write(CONFIG, f"{SETTINGS}[hold]\n{hold}{more}")
        if self.unit("ActiveState") != "active":
            self.vm.run("systemctl", "start", "device-agent", limit=300)
        status, answer = self.api("POST", "/v1/reload")
        assert status == 200, answer
        self.until(self._nothing_going_on, "an end of what was before")
        self._mark = len(self._records())

    def _nothing_going_on(self) -> bool:
        _, devices = self.api("GET", "/v1/devices")
        going_on = [row for row in devices["devices"] if row["state"] != "unplugged"]
        return not going_on and not self.pending()

    def answer(self, what: str) -> None:
        """What the receiver answers from now on: a status, or `hang`."""
        self.vm.write("/run/lab/answer", what)

    # --- do --------------------------------------------------------------------------------

    def phones(self, verb: str, **values: Any) -> dict[str, Any]:
        """Ask the simulated phones (tests/lab/guest/usb/README.md); a refusal fails the test."""
        request = json.dumps({"verb": verb, **values})
        answer: dict[str, Any] = json.loads(self.vm.talk(PHONES, request + "\n"))
        assert answer["ok"], f"{request}: {answer['error']}"
        return answer

    def plug(self, kind: str, serial: str, **values: Any) -> dict[str, Any]:
        """Plug a phone in."""
        return self.phones("plug", kind=kind, serial=serial, **values)

    def unplug(self, serial: str) -> None:
        """Pull its cable."""
        self.phones("unplug", serial=serial)

    def use(self, udid: str) -> None:
        """Hold it with the agent's own command until `end_use`; returns when that has begun."""
        command = f"device-agent use {udid} -- sh -c 'touch /run/lab/used && sleep infinity'"
        self.vm.sh(f"rm -f /run/lab/used; systemd-run --quiet --collect --unit=lab-use {command}")
        self.vm.until("[ -e /run/lab/used ]")

    def end_use(self) -> None:
        """End what `use` began."""
        self.vm.run("systemctl", "stop", "lab-use")

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the agent over its socket: (status, JSON). Raises ConnectionError."""
        text = "" if body is None else json.dumps(body)
        answer = self.vm.talk(
            AGENT,
            f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}",
        )
        head, _, content = answer.partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    # --- see -------------------------------------------------------------------------------

    def unit(self, name: str, unit: str = "device-agent") -> str:
        """A property of a unit."""
        return self.vm.run("systemctl", "show", "--value", "-p", name, unit).out.strip()

    def journal(self, *arguments: str) -> str:
        """What the agent logged since the boot."""
        return self.vm.run(
            "journalctl", "--no-pager", "-b", "-o", "cat", "-u", "device-agent", *arguments
        ).out

    def device(self, udid: str) -> dict[str, Any]:
        """Its row; {} for one that the agent does not know (or while it does not answer)."""
        try:
            status, answer = self.api("GET", "/v1/devices")
        except ConnectionError:
            return {}
        assert status == 200, answer
        return next((row for row in answer["devices"] if row["udid"] == udid), {})

    def adb(self) -> dict[str, str]:
        """Serial → state, as the adb server that the agent uses lists them; {} without a server."""
        # Not by the command `adb`, which would start a server where there is none.
        try:
            answer = self.vm.talk(":5037", "000chost:devices")
        except ConnectionError:
            return {}
        return dict(line.split("\t", 1) for line in answer[8:].splitlines())

    def until_state(self, udid: str, state: str, reason: str = "") -> None:
        """Wait until the agent shows the device so."""

        def reached() -> bool:
            row = self.device(udid)
            return row.get("state") == state and reason in row["reason"]

        self.until(reached, f"{udid} to be {state} {reason}")

    def until(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        """Wait until the condition holds."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                told = json.dumps(self.told(), indent=1)
                raise AssertionError(f"waited {limit} s for {what}\n{told}\n{self.vm.state()}")
            time.sleep(0.5)

    def pending(self) -> set[str]:
        """The ids of the callbacks that wait."""
        _, answer = self.api("GET", "/v1/deliveries?state=pending&limit=1000")
        return {row["id"] for row in answer["deliveries"]}

    def callbacks(self) -> list[dict[str, Any]]:
        """What the receiver took (2xx) since `fresh`, each message once, in order of arrival.

        Each with its `body` parsed. Every one was signed with the webhook's secret.
        """
        taken: dict[str, dict[str, Any]] = {}
        for record in self._records()[self._mark :]:
            headers = record["headers"]
            sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            signature = Webhook(SECRET).sign(headers["webhook-id"], sent_at, record["body"])
            assert headers["webhook-signature"] == signature, record
            if 200 <= record["answer"] < 300:
                first = taken.setdefault(headers["webhook-id"], record)
                assert first["body"] == record["body"], "a repetition is the same, byte for byte"
        found = []
        for record in taken.values():
            body = json.loads(record["body"])
            assert list(body) == KEYS, body
            found.append({**record, "body": body})
        return found

    def told(self) -> dict[str, list[str]]:
        """Udid → the states that the receiver was told of, in order."""
        told: dict[str, list[str]] = {}
        for callback in self.callbacks():
            body = callback["body"]
            told.setdefault(body["deviceUdid"], []).append(body["eventDescription"])
        return told

    def expect(self, sequences: Mapping[str, Sequence[str]], limit: float = LIMIT) -> None:
        """Wait until the receiver was told of as many states as this; they must be these.

        Order is kept for each phone: what comes late cannot hide before the last one. End a
        scenario with a state of its own (unplug the phone) and nothing can hide behind it either.
        """
        total = sum(map(len, sequences.values()))
        self.until(lambda: len(self.callbacks()) >= total, f"{total} callbacks", limit)
        told = self.told()
        assert told == {udid: list(states) for udid, states in sequences.items()}, self.vm.state()

    def _records(self) -> list[dict[str, Any]]:
        whole, _, _ = self.vm.received.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

"""`/metrics` of a whole agent, and what reads it: promtool, alert rules, dashboard, page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.metrics import PAGE, rewritten
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb

if TYPE_CHECKING:
    from tests.fakes.receiver import Receiver

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus-rules.yml"
RULE_TESTS = ROOT / "tests" / "testdata" / "prometheus-rules-test.yml"
DASHBOARD = ROOT / "config" / "grafana-dashboard.json"
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def promtool(*arguments: str | Path, text: str = "") -> None:
    """Run it; fails with what it says. CI must have it."""
    if shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have promtool")
        pytest.skip("promtool is not installed (it is in Debian's package prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(text: str) -> set[str]:
    """Metrics of the agent and of its process that an expression or a page names."""
    found = re.findall(r"\b((?:device_agent|process)_[a-z_]+[a-z])\b", text)
    return {SUFFIX.sub("", name) for name in found}


async def scrape(place: Path, tmp_path: Path, receiver: Receiver) -> str:
    """The metrics of an agent with a phone in use, of whom one webhook was told and one was not."""
    adb, phone = RealAdbServer(BINARIES["bundled"], tmp_path), FakePhone()
    config = f"""
{only_adb(adb.address)}
[[webhooks]]
id = 7
name = "board"
url = "{receiver.url()}"
events = ["online", "utilizing"]
[[webhooks]]
name = "nobody there"
url = "http://127.0.0.1:9/"
events = ["online"]
"""
    async with adb, phone, AgentProcess(place, config) as agent:
        await agent.start()
        await adb.register(phone)
        await agent.until_device(phone.serial, "state", "online")
        await agent.api("POST", "/v1/leases", {"udid": phone.serial, "holder": "alice"})
        await receiver.until(lambda: len(receiver.requests) == 2, "online, utilizing")
        await agent.until_metric(
            r'outcome="delivered",webhook="board",webhook_id="7"} 2', r'kind="refused".* [1-9]'
        )
        agent.path.write_text(agent.path.read_text() + "\n[hold]\nonlime = 1\n")
        assert (await agent.api("POST", "/v1/reload"))[0] == 422
        return await agent.metrics()


async def test_all_that_reads_it_finds_what_it_names(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    text = await scrape(place, tmp_path, receiver)
    promtool("check", "metrics", text=text)
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    page = PAGE.read_text().split("## Metrics")[1].split("## Alerts")[0]
    assert names_in(page) == set(families)
    for row in re.findall(r"^\| (`.*`) \| (\w+) \|", page, re.MULTILINE):
        for name in names_in(row[0]):
            assert families[name] == row[1], name
    assert names_in(RULES.read_text()) <= set(families)
    assert names_in(DASHBOARD.read_text()) <= set(families)
    samples = dict(re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE))
    board = 'webhook="board",webhook_id="7"'
    expected = {
        "device_agent_ready": 1,
        "device_agent_config_last_reload_successful": 0,
        'device_agent_devices{platform="android",state="utilizing"}': 1,
        'device_agent_transitions_total{state="utilizing"}': 1,
        'device_agent_source_up{source="adb"}': 1,
        f'device_agent_webhook_state{{state="good",{board}}}': 1,
        f"device_agent_callbacks_stored_total{{{board}}}": 2,
        f'device_agent_callbacks_total{{outcome="delivered",{board}}}': 2,
        f"device_agent_callbacks_pending{{{board}}}": 0,
        f"device_agent_callback_attempt_duration_seconds_count{{{board}}}": 2,
        "device_agent_store_up": 1,
        "device_agent_leases": 1,
    }
    assert {name: float(samples[name]) for name in expected} == expected
    (refused,) = [value for name, value in samples.items() if 'kind="refused"' in name]
    assert float(refused) >= 1
    assert "alice" not in text, "no person is a label"
    assert "127.0.0.1:9" not in text, "no URL is a label"


def test_the_page_has_every_metric() -> None:
    page = PAGE.read_text()
    assert page == rewritten(page), "run: python -m tests.docs.metrics"


def test_the_rules_are_good_and_fire_when_they_should() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULE_TESTS)


def test_every_alert_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    page = PAGE.read_text().split("## Alerts")[1]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == alerts
    tested = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
    assert tested == set(alerts)


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["title"]
        for target in panel["targets"]:
            assert names_in(target["expr"]) or "up{" in target["expr"]


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [
        target["expr"]
        .replace("$__rate_interval", "5m")
        .replace("$__range", "6h")
        .replace("$", "any-")
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    rules = [{"record": f"asked:{n}", "expr": expr} for n, expr in enumerate(asked)]
    path = tmp_path / "asked.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", path)


@pytest.mark.parametrize("panel", ["hub_active", "host_up", "host_lag", "hub_dropped", "host_dev"])
def test_the_dashboard_shows_a_fleet(panel: str) -> None:
    assert f"device_agent_{panel}" in DASHBOARD.read_text()

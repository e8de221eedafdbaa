"""The OpenAPI document has every route and no other, and a running agent keeps to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from agent.api.limits import Limits
from agent.api.openapi import document
from agent.api.routes import MATTERS, build
from agent.reasons import ReasonCode
from tests.api.nobody import Nobody
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.receiver import Receiver, answer
from tests.kit.agent import AgentProcess
from tests.kit.configs import ONLY_ADB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.service.services import Services

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
ROOT = Path(__file__).parents[2]
HOOKS = "tests.api.schemathesis_hooks"
LIMIT = 240.0
"""Seconds before the run fails the test; it takes 20 on an idle machine."""
CONFIG = (
    ONLY_ADB
    + """\
probe_interval = "0s"
[delivery]
max_age = "1s"
[[devices]]
udid = "ce09"
name = "Galaxy"
tags = ["rack-1"]
[[webhooks]]
id = 7
name = "board"
url = "{good}"
events = ["online", "offline", "utilizing", "unplugged"]
[[webhooks]]
name = "dead one"
url = "{bad}"
events = ["online"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""
)


def test_every_route_is_documented_and_every_documented_one_is_there() -> None:
    routes = {
        (route.method, route.resource.canonical)
        for trusted in (True, False)
        for route in build(cast("Services", Nobody()), Limits(), trusted=trusted).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    documented = {
        (method.upper(), path)
        for path, operations in document(MATTERS)["paths"].items()
        for method in operations
    }
    assert documented == routes


def test_every_reference_leads_somewhere_and_every_part_is_used() -> None:
    whole = document(MATTERS)
    used = set(re.findall(r'"\$ref": "#/components/(\w+/\w+)"', json.dumps(whole)))
    there = {f"schemas/{name}" for name in whole["components"]["schemas"]}
    assert used == there


def test_every_key_is_in_snake_case() -> None:
    """Also those of the configuration, which bodies take; the product's keys are in callbacks."""
    schemas = document(MATTERS)["components"]["schemas"].values()
    keys = {key for schema in schemas for key in schema.get("properties", ())}
    assert len(keys) > 50
    assert [key for key in keys if not re.fullmatch(r"[a-z0-9_]+", key)] == []


def test_the_codes_of_reasons_are_listed_and_others_may_come() -> None:
    """Those of a newer agent, at another host."""
    schemas = document(MATTERS)["components"]["schemas"]
    for name in ("Device", "DeviceDetail", "DeviceTransition", "PhoneAtPort"):
        code = schemas[name]["properties"]["reason_code"]
        assert "enum" not in code
        assert all(re.search(rf"\b{each}\b", code["description"]) for each in ReasonCode)
        for each in ("", "melted_2", *ReasonCode):
            assert re.search(code["pattern"], each)
        assert {"reason_code", "cause_id"} <= set(schemas[name]["required"])
    assert "port" in schemas["DeviceTransition"]["required"]


NO_TOKEN = {"/-/healthy", "/", "/web/{name}"}
"""Where no token means anything: that it lives, and the page, which knows nothing by itself."""
OPEN = {("get", path) for path in NO_TOKEN} | {
    ("get", "/v1/sessions/current"),
    ("post", "/v1/sessions"),
}
"""For everybody, whatever the configuration says."""


def test_all_but_a_few_may_need_the_token() -> None:
    for path, operations in document(MATTERS)["paths"].items():
        for method, operation in operations.items():
            is_open = (method, path) in OPEN
            assert ("security" in operation) != is_open, path
            assert {"401", "429"} <= operation["responses"].keys() or path in NO_TOKEN


def test_every_operation_has_its_own_name_and_says_what_it_does() -> None:
    operations = [each for path in document(MATTERS)["paths"].values() for each in path.values()]
    names = {operation["operationId"] for operation in operations}
    assert len(names) == len(operations)
    assert all(operation["summary"] for operation in operations)


@pytest.fixture
async def failing() -> AsyncIterator[Receiver]:
    made = await Receiver().start()
    made.default = answer(503, body=b"out to lunch")
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        ("examples,fuzzing,stateful", 5),
        pytest.param("examples,coverage,fuzzing,stateful", 50, marks=pytest.mark.long),
    ],
)
async def test_the_running_agent_keeps_to_it(
    place: Path, receiver: Receiver, failing: Receiver, phases: str, examples: int
) -> None:
    good, bad = receiver.url("/hook?token=hidden"), failing.url("/hook?token=hidden")
    async with FakeAdbHost() as host:
        text = CONFIG.format(adb=host.address, good=good, bad=bad)
        async with AgentProcess(place, text) as agent:
            api = f'[api]\nsocket = "{agent.socket}"\nlisten = "127.0.0.1:0"\ntoken = "right"\n'
            agent.path.write_text(re.sub(r"\[api\]\n.*\n.*\n", api, agent.path.read_text()))
            await agent.start()
            host.set(Listed("ce09"), Listed("r58m"))
            await agent.until(lambda: any("callback.dead" in line for line in agent.log), "death")
            await agent.until_delivered()
            lease = {"udid": "ce09", "holder": "alice", "ttl": 3600}
            assert (await agent.api("POST", "/v1/leases", lease))[0] == 201
            ready = next(line for line in agent.log if "agent.ready" in line)
            found = re.search(r"127\.0\.0\.1:\d+", ready)
            assert found is not None
            await run(found[0], place, phases, examples)
            failed = [line for line in agent.log if "api.failed" in line or "Traceback" in line]
            assert not failed, "\n".join(agent.log)
            assert not any("hidden" in line for line in agent.log)
            assert await agent.stop() == 0


async def run(address: str, place: Path, phases: str, examples: int) -> None:
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
        "run",
        f"http://{address}/v1/openapi.json",
        "--header=Authorization: Bearer right",
        "--seed=1",
        "--generation-deterministic",
        f"--phases={phases}",
        f"--max-examples={examples}",
        "--checks=all",
        # Answers that never end: their own tests read them.
        "--exclude-path-regex=^/v1/events$|/tie$",
        "--request-timeout=10",
        "--no-color",
        cwd=place,  # it leaves files
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        pytest.fail(out.decode()[-20_000:])

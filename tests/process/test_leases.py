"""`use` and `lease` as operators run them, against a whole agent with real phones on its adb."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.kit.agent import AgentProcess, begun
from tests.kit.configs import only_adb
from tests.kit.waiting import LIMIT
from tests.kit.warm import DEVICE_AGENT
from tests.process.test_usage import told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.receiver import Receiver
    from tests.kit.agent import Process


class Lab:
    """One agent, one adb server, two phones: `one` in rack-1, `two` in rack-2."""

    def __init__(self, place: Path, tmp_path: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self.adb = RealAdbServer(BINARIES["bundled"], tmp_path)
        self.one, self.two = FakePhone(), FakePhone()
        self.agent = AgentProcess(place, "")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.adb, self.one, self.two, self.agent:
            self.agent.write(f"""
{only_adb(self.adb.address)}
[[devices]]
udid = "{self.one.serial}"
tags = ["rack-1"]
[[devices]]
udid = "{self.two.serial}"
tags = ["rack-2"]
[[webhooks]]
name = "board"
url = "{self.receiver.url()}"
events = ["online", "offline", "utilizing", "unplugged"]
tags = ["rack-1"]
""")
            await self.agent.start()
            for phone in (self.one, self.two):
                await self.adb.register(phone)
                await self.agent.until_device(phone.serial, "state", "online")
            yield

    async def until_told(self, *expected: str) -> None:
        await self.receiver.until(
            lambda: len(told(self.receiver)) >= len(expected), " ".join(expected)
        )
        assert told(self.receiver) == list(expected)

    async def until_free(self) -> None:
        """It was used once, and is online again: of that nobody is told (see README, states)."""
        await self.agent.until_device(self.one.serial, "state", "online")
        await self.agent.until_delivered()
        assert told(self.receiver) == ["Online", "Utilizing"]

    @asynccontextmanager
    async def use(self, *arguments: str) -> AsyncIterator[Process]:
        """`device-agent use …` with pipes; killed at the end if it still runs."""
        process = await begun(
            "use",
            "--config",
            self.agent.path,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            session=True,
        )
        try:
            async with asyncio.timeout(3 * LIMIT):
                yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate(b"")

    async def lease(self, *arguments: str) -> tuple[int, str, str]:
        return await self.agent.cli("lease", *arguments)


@pytest.fixture
def lab(place: Path, tmp_path: Path, receiver: Receiver) -> Lab:
    return Lab(place, tmp_path, receiver)


CAT = ("sh", "-c", "echo up; exec cat")


async def until_up(process: Process) -> None:
    """Its command runs, so `use` was told of its lease: the callback may come before that."""
    assert await line_of(process.stdout) == "up"


async def line_of(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(LIMIT):
        return (await stream.readline()).decode().rstrip()


# --- use --------------------------------------------------------------------------------------


async def test_a_command_has_the_phone_while_it_runs(lab: Lab) -> None:
    async with lab.running():
        script = "echo $DEVICE_AGENT_UDID $ANDROID_SERIAL $DEVICE_AGENT_LEASE; read _; exit 7"
        async with lab.use(
            lab.one.serial, "--holder", "alice", "--purpose", "soak", "--", "sh", "-c", script
        ) as process:
            udid, serial, lease_id = (await line_of(process.stdout)).split()
            assert udid == serial == lab.one.serial
            row = await lab.agent.until_device(lab.one.serial, "state", "utilizing")
            assert row["holder"] == "alice (soak)"
            leases = (await lab.agent.api("GET", "/v1/leases"))[1]["leases"]
            assert [lease["id"] for lease in leases] == [lease_id]
            await process.communicate(b"\n")
            assert process.returncode == 7
        await lab.until_free()
        assert (await lab.agent.api("GET", "/v1/leases"))[1] == {"leases": []}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sh", "-c", "exit 3"), 3, ""),
        (("sh", "-c", "kill -KILL $$"), 128 + signal.SIGKILL, ""),
        (("no-such-command",), 127, "cannot run 'no-such-command': No such file"),
        (("/etc/passwd",), 126, "cannot run '/etc/passwd': Permission denied"),
    ],
    ids=["exit", "signal", "missing", "forbidden"],
)
async def test_exit_codes_are_a_shells(
    lab: Lab, words: tuple[str, ...], code: int, said: str
) -> None:
    async with lab.running(), lab.use(lab.one.serial, "--", *words) as process:
        _, err = await process.communicate(b"")
        assert process.returncode == code
        assert said in err.decode()


async def test_anybody_can_run_any_command(lab: Lab) -> None:
    """Its words and the user's name become a purpose and a holder, which are printable text."""
    words = ("sh", "-c", "exit 7", "a\x1b[2J\n\u2028\x07\udcff")
    async with lab.running():
        code, _, err = await lab.agent.cli(
            "use", lab.one.serial, "--", *words, LOGNAME="al\x1bice\udcff"
        )
        assert (code, err) == (7, "")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGQUIT]
)
async def test_signals_reach_the_command(lab: Lab, number: signal.Signals) -> None:
    async with lab.running():
        script = f"trap 'exit 5' {number.name[3:]}; echo up; while :; do read _ || sleep 0.05; done"
        async with lab.use(lab.one.serial, "--", "sh", "-c", script) as process:
            assert await line_of(process.stdout) == "up"
            process.send_signal(number)
            assert process.stdin is not None
            process.stdin.close()  # a shell looks at its traps between commands
            assert await process.wait() == 5
        await lab.until_free()


IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


async def test_a_terminals_keys_reach_the_command_once(lab: Lab) -> None:
    """The terminal itself sends SIGINT to the command: its process group is in the foreground."""
    ours, theirs = pty.openpty()
    script = "trap 'n=$((n+1)); echo int' INT; echo up; until read x; do :; done; echo got $n"
    try:
        async with lab.running():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", IN_A_TERMINAL, DEVICE_AGENT),
                *("use", "--config", lab.agent.path, lab.one.serial, "--", "sh", "-c", script),
                stdin=theirs,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert await line_of(process.stdout) == "up"
                os.write(ours, b"\x03")
                assert await line_of(process.stdout) == "int"
                os.write(ours, b"end\n")
                assert await line_of(process.stdout) == "got 1"
                assert await process.wait() == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()
    finally:
        os.close(ours)
        os.close(theirs)


async def test_use_ends_with_its_process_even_by_sigkill(lab: Lab) -> None:
    async with lab.running():
        async with lab.use(lab.one.serial, "--ttl", "1h", "--", *CAT) as process:
            await until_up(process)
            await lab.until_told("Online", "Utilizing")
            process.kill()
            await lab.until_free()
        assert any("its holder's connection ended" in line for line in lab.agent.log)


async def test_an_agent_that_is_killed_meanwhile_calls_nobody_twice(lab: Lab) -> None:
    async with lab.running():
        async with lab.use(lab.one.serial, "--ttl", "1h", "--", *CAT) as process:
            await until_up(process)
            await lab.until_told("Online", "Utilizing")
            await lab.agent.kill()
            assert "trying again" in await line_of(process.stderr)
            await lab.agent.start()
            await lab.agent.until(
                lambda: any("lease.tied" in line for line in lab.agent.log), "tied again"
            )
            await process.communicate(b"")
            assert process.returncode == 0
        await lab.until_free()


async def test_an_agent_that_stood_still_for_longer_than_the_ttl_takes_nothing_away(
    lab: Lab,
) -> None:
    async with lab.running():
        async with lab.use(lab.one.serial, "--ttl", "1s", "--", *CAT) as process:
            await until_up(process)
            await lab.until_told("Online", "Utilizing")
            lab.agent.signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)  # the TTL passes, which is what this is about
            lab.agent.signal(signal.SIGCONT)
            _, listed, _ = await lab.lease("list")
            assert lab.one.serial in listed
            assert not any("lease.expired" in line for line in lab.agent.log)
            out, err = await process.communicate(b"x")
            assert (process.returncode, out, err) == (0, b"x", b"")
        await lab.until_free()


async def test_a_lease_that_nobody_renews_ends(lab: Lab) -> None:
    async with lab.running():
        await lab.lease("acquire", lab.one.serial, "--holder", "ci", "--ttl", "1s")
        await lab.until_told("Online", "Utilizing")
        await lab.until_free()
        said = [line for line in lab.agent.log if "lease.expired" in line]
        assert len(said) == 1
        assert "nobody renewed it for 1 s" in said[0]


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_lease_survives_a_restart(lab: Lab, how: str) -> None:
    async with lab.running():
        code, out, err = await lab.lease(
            *("acquire", lab.one.serial, "--holder", "ci", "--purpose", "nightly", "--ttl", "1h")
        )
        assert code == 0, err
        await lab.until_told("Online", "Utilizing")
        await lab.agent.until_delivered()
        await getattr(lab.agent, how)()
        await lab.agent.start()
        row = await lab.agent.until_device(lab.one.serial, "state", "utilizing")
        assert row["holder"] == "ci (nightly)"
        code, _, err = await lab.lease("acquire", lab.one.serial)
        assert code == 1
        assert f"{lab.one.serial} is held by ci (nightly) for" in err
        assert (await lab.lease("release", out.strip()))[0] == 0
        await lab.until_free()


async def test_a_command_that_ends_while_the_agent_is_away(lab: Lab) -> None:
    async with lab.running():
        script = "echo up; read _; exit 3"
        async with lab.use(lab.one.serial, "--ttl", "1s", "--", "sh", "-c", script) as it:
            await until_up(it)
            await lab.until_told("Online", "Utilizing")
            await lab.agent.until_delivered()
            await lab.agent.kill()
            _, err = await it.communicate(b"\n")
            assert it.returncode == 3
            assert "the lease ends by itself" in err.decode()
        await lab.agent.start()
        await lab.until_free()
        assert any("lease.expired" in line for line in lab.agent.log)


async def test_a_lease_that_is_lost_with_the_agents_store_is_taken_anew(lab: Lab) -> None:
    async with lab.running():
        words = (lab.one.serial, "--holder", "alice", "--purpose", "cat", "--", *CAT)
        async with lab.use(*words) as process:
            await until_up(process)
            await lab.until_told("Online", "Utilizing")
            first = (await lab.agent.api("GET", "/v1/leases"))[1]["leases"]
            await lab.agent.kill()
            shutil.rmtree(lab.agent.directory / "state")
            await lab.agent.start()
            await lab.agent.until_device(lab.one.serial, "holder", "alice (cat)")
            second = (await lab.agent.api("GET", "/v1/leases"))[1]["leases"]
            assert [each["purpose"] for each in second] == ["cat"]
            assert first[0]["id"] != second[0]["id"]
            await process.communicate(b"")
            assert process.returncode == 0
        await lab.agent.until_device(lab.one.serial, "state", "online")
        assert (await lab.agent.api("GET", "/v1/leases"))[1] == {"leases": []}


async def test_who_dies_while_waiting_has_left_the_queue(lab: Lab) -> None:
    def waiting(count: int) -> bool:
        return sum("lease.waiting" in line for line in lab.agent.log) == count

    async with lab.running(), contextlib.AsyncExitStack() as stack:
        lease_id = (await lab.lease("acquire", lab.one.serial, "--ttl", "1h"))[1].strip()
        uses = []
        for number, name in enumerate(("bob", "carol"), start=1):
            words = (lab.one.serial, "--wait", "--holder", name, "--", "cat")
            uses.append(await stack.enter_async_context(lab.use(*words)))
            await lab.agent.until(lambda number=number: waiting(number), f"{name} waits")
        uses[0].kill()
        await uses[0].wait()
        await lab.agent.until_metric(r"(?m)^device_agent_lease_requests_waiting 1(\.0)?$")
        await lab.lease("release", lease_id)
        await lab.agent.until_device(lab.one.serial, "holder", "carol (cat)")
        assert not any("lease.acquired" in line and "bob" in line for line in lab.agent.log)


async def test_who_waits_goes_on_waiting_for_an_agent_that_restarts(lab: Lab) -> None:
    async with lab.running():
        lease_id = (await lab.lease("acquire", lab.one.serial, "--ttl", "1h"))[1].strip()
        words = (lab.one.serial, "--wait", "--holder", "bob", "--", "cat")
        async with lab.use(*words) as process:
            await lab.agent.until(
                lambda: any("lease.waiting" in line for line in lab.agent.log), "bob waits"
            )
            await lab.agent.stop()
            assert "waiting on, behind others now" in await line_of(process.stderr)
            await lab.agent.start()
            await lab.lease("release", lease_id)
            await lab.agent.until_device(lab.one.serial, "holder", "bob (cat)")
            await process.communicate(b"")
            assert process.returncode == 0


async def test_turned_off_while_somebody_waits(lab: Lab) -> None:
    """A reload takes all of the new file, and who waits is told why nothing comes."""
    async with lab.running():
        await lab.lease("acquire", lab.one.serial, "--holder", "alice", "--ttl", "1h")
        words = (lab.one.serial, "--wait", "--holder", "bob", "--", "echo", "never")
        async with lab.use(*words) as process:
            await lab.agent.until(
                lambda: any("lease.waiting" in line for line in lab.agent.log), "bob waits"
            )
            config = lab.agent.path.read_text()
            lab.agent.path.write_text(config + "[usage]\nleases = false\n")
            code, _, err = await lab.agent.cli("reload")
            assert code == 0, err
            out, said = await process.communicate(b"")
            assert process.returncode == 1
            assert out == b""
            assert "leases are turned off: see leases in [usage]" in said.decode()
        await lab.agent.until_device(lab.one.serial, "state", "online")
        status = (await lab.agent.api("GET", "/v1/status"))[1]
        assert status["ready"], status
        assert not any("Traceback" in line for line in lab.agent.log)
        await lab.agent.stop()
        await lab.agent.start()
        assert (await lab.agent.api("GET", "/v1/leases"))[1] == {"leases": []}
        await lab.until_told("Online", "Utilizing")


async def test_a_holder_and_who_waits_die_at_once_and_a_restart_knows_of_neither(lab: Lab) -> None:
    async with lab.running(), contextlib.AsyncExitStack() as stack:
        holder = await stack.enter_async_context(
            lab.use(lab.one.serial, "--holder", "alice", "--", *CAT)
        )
        await until_up(holder)
        uses = [holder]
        for number in range(1, 4):
            words = (lab.one.serial, "--wait", "--holder", f"w{number}", "--", "cat")
            uses.append(await stack.enter_async_context(lab.use(*words)))
            await lab.agent.until(
                lambda number=number: (
                    sum("lease.waiting" in line for line in lab.agent.log) == number
                ),
                "they wait",
            )
        lab.agent.signal(signal.SIGSTOP)  # all of it waits in its sockets, for one turn of the loop
        for process in uses:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        lab.agent.signal(signal.SIGCONT)
        await lab.agent.until_device(lab.one.serial, "state", "online")
        await lab.agent.until_metric(r"(?m)^device_agent_lease_requests_waiting 0(\.0)?$")
        assert (await lab.agent.api("GET", "/v1/leases"))[1] == {"leases": []}
        assert not any("Traceback" in line for line in lab.agent.log)
        await lab.agent.stop()
        await lab.agent.start()
        await lab.agent.until_device(lab.one.serial, "state", "online")
        assert (await lab.agent.api("GET", "/v1/leases"))[1] == {"leases": []}
        await lab.agent.until_delivered()
        assert told(lab.receiver)[:2] == ["Online", "Utilizing"]


async def test_a_second_holder_is_refused_by_name(lab: Lab) -> None:
    async with lab.running(), lab.use(lab.one.serial, "--holder", "alice", "--", "cat"):
        await lab.until_told("Online", "Utilizing")
        async with lab.use(lab.one.serial, "--", "echo", "never") as second:
            out, err = await second.communicate(b"")
        assert second.returncode == 1
        assert out == b""
        assert f"{lab.one.serial} is held by alice (cat) for" in err.decode()
        assert "(--wait queues for it, --steal REASON takes it)" in err.decode()


async def test_who_waits_gets_it_in_the_order_of_asking(lab: Lab) -> None:
    def waiting() -> int:
        return sum("lease.waiting" in line for line in lab.agent.log)

    async with lab.running(), contextlib.AsyncExitStack() as stack:
        lease_id = (await lab.lease("acquire", lab.one.serial, "--ttl", "1h"))[1].strip()
        uses = []
        for number, name in enumerate(("bob", "carol"), start=1):
            uses.append(
                await stack.enter_async_context(
                    lab.use(lab.one.serial, "--wait", "--holder", name, "--", "cat")
                )
            )
            await lab.agent.until(lambda number=number: waiting() == number, f"{name} waits")
        await lab.lease("release", lease_id)
        for name, process in zip(("bob", "carol"), uses, strict=True):
            await lab.agent.until_device(lab.one.serial, "holder", f"{name} (cat)")
            await process.communicate(b"")
            assert process.returncode == 0
        await lab.agent.until_device(lab.one.serial, "state", "online")


async def test_a_wait_has_a_limit(lab: Lab) -> None:
    async with lab.running():
        await lab.lease("acquire", lab.one.serial, "--holder", "alice", "--ttl", "1h")
        code, _, err = await lab.lease("acquire", lab.one.serial, "--timeout", "100ms")
        assert code == 1
        assert f"waited 0.1 s: {lab.one.serial} is held by alice" in err


async def test_any_picks_a_free_one_that_fits(lab: Lab) -> None:
    async with lab.running():
        any_android = ("--any", "--platform", "android")
        async with lab.use(*any_android, "--tag", "rack-2", "--", "sh", "-c", "env; cat") as two:
            environment = set()
            while f"ANDROID_SERIAL={lab.two.serial}" not in environment:
                environment.add(await line_of(two.stdout))
            code, out, _ = await lab.lease("acquire", *any_android, "--json")
            assert (code, json.loads(out)["udid"]) == (0, lab.one.serial)
            code, _, err = await lab.lease("acquire", *any_android)
            assert code == 1
            assert "any device android: of 2 that fit none is free" in err
            assert "(--wait queues for it)" in err
        code, _, err = await lab.lease("acquire", "--any", "--platform", "ios")
        assert code == 1
        assert "any device ios: no device fits" in err


async def test_a_phone_is_taken_with_a_reason_that_all_can_read(lab: Lab) -> None:
    async with lab.running(), lab.use(lab.one.serial, "--holder", "alice", "--", *CAT) as alice:
        await until_up(alice)
        await lab.until_told("Online", "Utilizing")
        code, _, err = await lab.lease(
            "acquire", lab.one.serial, "--holder", "bob", "--steal", "release blocker"
        )
        assert code == 0, err
        said = await line_of(alice.stderr)
        assert said.endswith("is no longer ours: it was taken by bob: release blocker")
        _, out, _ = await lab.lease("list")
        assert "alice: release blocker" in out
        assert (await lab.agent.devices())[lab.one.serial]["holder"] == (
            "bob, taken from alice: release blocker"
        )
        assert any("lease.taken" in line and "release blocker" in line for line in lab.agent.log)
        await alice.communicate(b"")
        assert alice.returncode == 0
        assert (await lab.agent.devices())[lab.one.serial]["state"] == "utilizing", "bob has it"


# --- lease ------------------------------------------------------------------------------------


async def test_acquire_renew_list_release(lab: Lab) -> None:
    async with lab.running():
        code, out, err = await lab.lease(
            "acquire", lab.one.serial, "--holder", "ci", "--purpose", "nightly", "--ttl", "1h"
        )
        assert (code, err.strip()) == (
            0,
            f"{lab.one.serial} is held by ci for 3600 s unless renewed",
        )
        lease_id = out.strip()
        assert (await lab.lease("renew", lease_id))[1].startswith("lasts until ")
        _, out, _ = await lab.lease("list")
        headings, row = out.splitlines()
        assert headings.split()[:5] == ["ID", "UDID", "HOLDER", "PURPOSE", "SINCE"]
        assert row.split()[:4] == [lease_id, lab.one.serial, "ci", "nightly"]
        code, out, _ = await lab.agent.cli("devices")
        assert "ci (nightly)" in out
        code, out, _ = await lab.lease("release", lease_id)
        assert (code, out) == (0, f"{lab.one.serial} is released\n")
        code, _, err = await lab.lease("renew", lease_id)
        assert code == 1
        assert f"no lease '{lease_id}': it was released" in err
        assert (await lab.lease("list"))[1] == "no leases\n"
        await lab.until_free()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("acquire",), "name either a UDID or --any"),
        (("acquire", "x", "--any"), "name either a UDID or --any"),
        (("acquire", "x", "--tag", "t"), "--platform and --tag go with --any"),
        (("acquire", "--any", "--steal", "why"), "it does not go with --any"),
        (("acquire", "x", "--steal", " "), "--steal needs a reason"),
        (("acquire", "x", "--ttl", "5"), "Invalid value for '--ttl'"),
    ],
)
async def test_options_that_make_no_sense(
    place: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = await AgentProcess(place, "").cli("lease", *arguments)
    assert (code, said in err) == (2, True), err


async def test_without_an_agent_it_says_how_to_start_one(place: Path) -> None:
    agent = AgentProcess(place, "")
    code, _, err = await agent.cli("use", "x", "--", "true")
    assert code == 1
    assert "start it with 'device-agent run'" in err
    assert [path.name for path in place.iterdir()] == ["agent.toml"]

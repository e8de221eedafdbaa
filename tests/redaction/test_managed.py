"""What webhooks made over the API hold in secret stands in the agent's own file, and only there."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb
from tests.redaction.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "c4nary"


class Told:
    """All that an agent and its commands say."""

    def __init__(self, agent: AgentProcess) -> None:
        self.agent = agent
        self.texts: list[str] = []
        self.config = ""
        """Of the last bundle."""

    async def ask(self, method: str, path: str, body: object, wanted: int) -> None:
        status, answered = await self.agent.api(method, path, body)
        assert status == wanted, answered
        self.texts.append(json.dumps(answered, ensure_ascii=False))

    async def run(self, *arguments: str | Path) -> None:
        _, out, err = await self.agent.cli(*arguments)
        self.texts.append(out + err)

    async def look(self) -> None:
        """Every command that shows webhooks or the configuration."""
        for command in (("check",), ("webhooks", "list"), ("webhooks", "show", CANARY)):
            await self.run(*command)
        bundle = self.agent.directory / "bundle.tar.gz"
        await self.run("doctor", "--bundle", bundle)
        with tarfile.open(bundle) as archive:
            for each in archive:
                file = archive.extractfile(each)
                assert file is not None
                self.texts.append(file.read().decode())
                if each.name.endswith("/config.json"):
                    self.config = self.texts[-1]
        bundle.unlink()


async def test_its_secrets_are_shown_nowhere(place: Path) -> None:
    vault = Vault()
    secret = vault.make
    body: dict[str, Any] = {
        "name": CANARY,
        "url": f"http://{secret('user')}:{secret('pass')}@127.0.0.1:9/?key={secret('query')}",
        "events": ["online"],
        "secret": vault.whsec("signing"),
        "headers": {"X-Key": secret("header")},
    }
    agent = AgentProcess(place, only_adb("127.0.0.1:9"))
    agent.path.write_text(agent.path.read_text().replace("[agent]", '[agent]\nlog_level = "debug"'))
    kept = place / "state" / "webhooks.toml"
    told = Told(agent)
    async with agent:
        await agent.start()
        await told.ask("POST", "/v1/webhooks", body, 201)
        assert vault.found_in(kept.read_text()) == set(vault.values)
        await told.ask("POST", "/v1/webhooks", body, 422)
        await told.ask("POST", "/v1/webhooks", body | {"name": "b", "secret": "whsec_!"}, 422)
        change = {"headers": body["headers"], "timeout": 0}
        await told.ask("PATCH", f"/v1/webhooks/{CANARY}", change, 422)
        await told.ask("POST", f"/v1/webhooks/{CANARY}/test", None, 200)
        changed = f'headers={{X-Key="{secret("changed")}"}}'
        await told.run("webhooks", "edit", CANARY, "--set", changed)
        await told.look()
        assert CANARY in told.config, "the bundle has what the file says"
        good = kept.read_text()
        for broken in (
            good.replace("events", "evnets"),
            good.replace("[[webhooks]]\nname", "[[webhooks]\nname"),
            f"{good}[agent]\n",
        ):
            kept.write_text(broken)
            await told.ask("POST", "/v1/reload", None, 422)
            await told.ask("GET", "/v1/status", None, 200)
            await told.ask("POST", "/v1/webhooks", body | {"name": "b"}, 422)
            await told.look()
        kept.write_text(good)
        assert await agent.stop() == 0
        await told.look()
        assert CANARY in told.config
    shown = "\n".join([*told.texts, *agent.log])
    assert CANARY in shown
    assert not vault.found_in(shown)

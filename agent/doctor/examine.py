"""The doctor called by the agent that he looks at: the same checks as the command's. Blocking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.config import check
from agent.doctor.gather.everything import gather
from agent.doctor.judge import judge
from agent.doctor.redact import private_texts, without

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.service.doctor import FindingRow


def examine(path: Path, environ: Mapping[str, str], config: Config) -> list[FindingRow]:
    """Everything that is found, without a secret.

    On a loop of its own: much of it waits for disks, for the kernel and for directories of users,
    none of which the agent's loop may wait for. It asks the agent over its socket, like anybody.

    Args:
        path: the configuration file.
        environ: of the process.
        config: the one in force. A file that has mistakes is told, and this one stands for it.
    """
    found, problems, warnings = check(path)
    used = found or config
    facts = asyncio.run(gather(path, (used, problems, warnings), config.socket_path(environ)))
    private = [*private_texts(config, environ), *private_texts(used, environ)]
    return [
        {
            "section": each.section,
            "check": without(each.check, private),
            "verdict": each.verdict.value,
            "found": without(each.found, private),
            "remedy": without(each.remedy, private),
        }
        for each in judge(facts)
    ]

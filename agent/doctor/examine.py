"""The doctor called by the agent that he looks at: the same checks as the command's. Blocking.

He works in a process of his own. A thread for each webhook that is reached for, and all that is
read, would keep the interpreter's lock from the agent's loop for up to a second; and what hangs in
the kernel keeps no thread of the agent.
"""

from __future__ import annotations

import asyncio
import copyreg
import json
import pickle
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from agent.config import check
from agent.doctor.gather.everything import gather
from agent.doctor.judge import judge
from agent.doctor.redact import private_texts, without
from agent.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Config
    from agent.service.doctor import FindingRow

LIMIT: Final = 60.0
"""Seconds after which the process is ended: he takes 10; a busy host lets him begin late."""
_TOLD: Final = 2000
"""Characters of what a process that failed has said: the last ones."""


def _frozen(table: dict[str, Any]) -> MappingProxyType[str, Any]:
    return MappingProxyType(table)


# Plug-ins' options are such tables, which cannot be handed over by themselves.
copyreg.pickle(MappingProxyType, lambda table: (_frozen, (dict(table),)))


def examine(path: Path, environ: Mapping[str, str], config: Config) -> list[FindingRow]:
    """Everything that is found, without a secret.

    He asks the agent over its socket, like anybody.

    Args:
        path: the configuration file.
        environ: of the process.
        config: the one in force. A file that has mistakes is told, and this one stands for it.

    Raises:
        InternalError: he failed; the message says how.
    """
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-c", f"from {__name__} import answer; answer()"],
            input=pickle.dumps((path, dict(environ), config)),
            capture_output=True,
            timeout=LIMIT,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        # Not its words: they hold what it was given.
        raise InternalError(f"the doctor could not be asked ({type(error).__name__})") from None
    if done.returncode != 0:
        private = private_texts(config, environ)
        said = without(done.stderr.decode(errors="replace"), private)[-_TOLD:]
        raise InternalError(f"the doctor ended with {done.returncode}: {said}")
    rows: list[FindingRow] = json.loads(done.stdout)
    return rows


def _look(path: Path, environ: Mapping[str, str], config: Config) -> list[FindingRow]:
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


def answer() -> None:
    """The process: what he is asked stands on stdin, and what he found on stdout."""
    asked: Any = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the agent that began this
    out, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no answer
    json.dump(_look(*asked), out)

"""Forks `device-agent run` to be killed, so that an interpreter's start is paid for only once.

Lines on stdin: `run CONFIG LOG` forks an agent; `kill` ends it with SIGKILL. Lines on stdout:
`running`, and `dead CODE`, where -9 means that it lived until it was killed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from agent.cli.run import command


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def run(config: str, log: str) -> None:
    """In the child: everything the real process does from here on. Never returns."""
    os.dup2(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    code = 70
    try:
        command(["--config", config], standalone_mode=False)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - to be seen in the log, not in the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    child = 0
    for line in sys.stdin:
        match line.split():
            case ["run", config, log]:
                child = os.fork()
                if child == 0:
                    run(config, log)
                say("running")
            case ["kill"]:
                os.kill(child, signal.SIGKILL)  # not reaped yet, so it is this very process
                say(f"dead {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    main()

"""The command channel's end in the guest: what the harness asks over a virtio port, done here.

One JSON object a line, answered by one JSON object a line, in order. `limit` is in seconds.

- `{"id", "run": [argv], "input", "limit"}` runs a command: `{"id", "code", "out", "err"}`. Code 124
  says that the limit has passed and that the command was killed with all it started.
- `{"id", "talk": PATH, "input", "limit"}` sends the input to a unix socket, or to a TCP port
  (`:5037`), and answers with what comes back, up to a line's end for JSON, else to the end:
  `{"id", "out", "err"}`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from typing import Any

PORT = "/dev/virtio-ports/lab.command"
NOT_STARTED = 127
LIMIT_PASSED = 124


def run(argv: list[str], text: str | None, limit: float) -> dict[str, Any]:
    """Run a command to its end, or kill its session at the limit."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return {"code": NOT_STARTED, "out": "", "err": f"{argv[0]}: {error.strerror}"}
    data = None if text is None else text.encode()
    try:
        out, err = process.communicate(data, timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = LIMIT_PASSED
    return {"code": code, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}


def talk(path: str, text: str, limit: float) -> dict[str, Any]:
    """One exchange over a socket."""
    received = b""
    port = path.startswith(":")
    try:
        with socket.socket(socket.AF_INET if port else socket.AF_UNIX) as connection:
            connection.settimeout(limit)
            connection.connect(("127.0.0.1", int(path[1:])) if port else path)
            connection.sendall(text.encode())
            while piece := connection.recv(65536):
                received += piece
                if text.startswith("{") and piece.endswith(b"\n"):
                    break
    except OSError as error:
        return {"out": "", "err": f"{path}: {error}"}
    return {"out": received.decode(errors="replace"), "err": ""}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do one request."""
    if "talk" in asked:
        return talk(asked["talk"], asked["input"], asked["limit"])
    return run(asked["run"], asked["input"], asked["limit"])


def main() -> None:
    """Serve for ever."""
    descriptor = os.open(PORT, os.O_RDWR)
    pending = b""
    while True:
        piece = os.read(descriptor, 65536)
        if not piece:  # nobody holds the other end: what comes next is another's
            pending = b""
            time.sleep(0.1)
            continue
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            rest = json.dumps({"id": asked["id"], **answer(asked)}).encode() + b"\n"
            while rest:
                rest = rest[os.write(descriptor, rest) :]


if __name__ == "__main__":
    main()

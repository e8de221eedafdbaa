"""The command channel's end in the guest: what the harness asks over a virtio port, done here.

One JSON object a line, answered by one JSON object a line, in order. `{"id", "run": [argv],
"input", "limit"}` is answered by `{"id", "code", "out", "err"}`; code 124 says that the limit
(seconds) has passed and the command was killed with all it started.
"""

import json
import os
import signal
import subprocess
import time

PORT = "/dev/virtio-ports/lab.command"
NOT_STARTED = 127
LIMIT_PASSED = 124


def run(argv: list[str], text: str | None, limit: float) -> dict[str, object]:
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
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = LIMIT_PASSED
    return {"code": code, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}


def main() -> None:
    """Serve for ever."""
    descriptor = os.open(PORT, os.O_RDWR)
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as port:
        pending = b""
        while True:
            piece = port.read(65536)
            if not piece:  # nobody holds the other end: what comes next is another's
                pending = b""
                time.sleep(0.1)
                continue
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                answer = {"id": asked["id"], **run(asked["run"], asked["input"], asked["limit"])}
                rest = json.dumps(answer).encode() + b"\n"
                while rest:
                    rest = rest[os.write(descriptor, rest) :]


if __name__ == "__main__":
    main()

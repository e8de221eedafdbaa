"""The webhooks' receiver in the guest: hands each callback to the harness before it answers.

Every request becomes one JSON line on a virtio port, whose other end is a file of the host: what
was received outlives a guest that is powered off. The answer's status is what the file
`/run/lab/answer` says (default 204); `hang` keeps the client waiting until the file says else.
"""

import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = "/dev/virtio-ports/lab.received"
ANSWER = Path("/run/lab/answer")
ADDRESS = ("127.0.0.1", 8700)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 600
    disable_nagle_algorithm = True
    port = -1
    writing = threading.Lock()

    def do_POST(self) -> None:
        """Record, then answer."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        monotonic, wall = time.monotonic(), time.time()
        while (answer := self._answer()) == "hang":
            time.sleep(0.05)
            if self._client_gone():
                self.close_connection = True
                return
        record = {
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "answer": int(answer),
            "monotonic": monotonic,
            "wall": wall,
            "body": body.decode(),
        }
        line = json.dumps(record).encode() + b"\n"
        with self.writing:
            while line:
                line = line[os.write(self.port, line) :]
        self.send_response(int(answer))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Nothing: the record is the log."""

    def _client_gone(self) -> bool:
        """Nobody would read the answer: the callback was not taken."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    @staticmethod
    def _answer() -> str:
        try:
            return ANSWER.read_text().strip()
        except FileNotFoundError:
            return "204"


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


if __name__ == "__main__":
    Handler.port = os.open(PORT, os.O_WRONLY)
    Server(ADDRESS, Handler).serve_forever()

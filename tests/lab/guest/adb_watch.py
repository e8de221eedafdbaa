"""Prints `MONOTONIC SERIAL STATE` for each change that the adb server on port 5037 announces."""

import socket
import time


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes; EOFError where the server is gone."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError("the adb server is gone")
        data += piece
    return data


with socket.create_connection(("127.0.0.1", 5037)) as server:
    server.sendall(b"0012host:track-devices")
    assert exactly(server, 4) == b"OKAY"
    before: set[str] = set()
    while True:
        rows = set(exactly(server, int(exactly(server, 4), 16)).decode().splitlines())
        for row in sorted(rows - before):
            print(time.monotonic(), row, flush=True)
        before = rows

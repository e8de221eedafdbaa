"""What test automation leaves running on a phone: HTTP servers that say whether a session is open.

WebDriverAgent answers `/status` with `sessionId` at the top level; appium-uiautomator2-server
`/sessions` with a list. A session's id, "idle" for a server without one, "" for no server.
"""

from __future__ import annotations

import json

WDA_PORT, UIAUTOMATOR2_PORT = 8100, 6790
IDLE = "idle"


def wda(session: str) -> bytes:
    """WebDriverAgent's answer to whatever it is asked."""
    status = {"ready": True, "state": "success", "message": "WebDriverAgent is ready"}
    return _http({"value": status, "sessionId": None if session == IDLE else session})


def uiautomator2(session: str) -> bytes:
    """appium-uiautomator2-server's answer to whatever it is asked."""
    sessions = [] if session == IDLE else [{"id": session, "capabilities": {}}]
    return _http({"sessionId": "None", "value": sessions})


def _http(answer: object) -> bytes:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body

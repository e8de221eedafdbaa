"""A local receiver of callbacks: takes them, and verifies them if it knows the secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from agent.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Received:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    verified: bool | None
    """None: there is no secret to verify with."""
    why_not: str = ""

    @property
    def content(self) -> Any:
        """The body's JSON, or its text where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")


class Receiver:
    """Answers every POST with 204, or 401 when its signature is wrong.

    Args:
        take: called with each request.
        secret: `whsec_…` or raw text; "" to verify nothing.
    """

    def __init__(self, take: Callable[[Received], None], secret: str = "") -> None:
        self._take = take
        self._verifier = _verifier(secret) if secret else None
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the URL. StartError when the address cannot be used."""
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise StartError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --port"
            ) from None
        bound = self._runner.addresses[0]
        return f"http://{host}:{bound[1]}/"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        verified: bool | None = None
        why_not = ""
        if self._verifier is not None:
            try:
                self._verifier.verify(body, dict(request.headers), json_parse=False)
                verified = True
            except WebhookVerificationError as error:
                verified, why_not = False, str(error)
        self._take(Received(request.path, request.headers, body, verified, why_not))
        return web.Response(status=401 if verified is False else 204)


def _verifier(secret: str) -> Webhook:
    return Webhook(secret if secret.startswith("whsec_") else secret.encode())

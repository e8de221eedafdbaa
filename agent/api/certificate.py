"""TLS of the API's address: a certificate that is exchanged while connections go on.

A connection keeps the certificate that it began with. Whoever comes is given the newest one: at the
moment in which a client has said what it wants, and before it is shown anything, OpenSSL asks which
context is to go on (`SSL_CTX_set_tlsext_servername_callback`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.pair import server_context

if TYPE_CHECKING:
    import ssl

    from agent.config import Api


class Certificate:
    """The certificate of one listener.

    Args:
        context: with the certificate to begin with.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        """For listening."""
        self._newest = context
        context.sni_callback = self._choose

    def use(self, context: ssl.SSLContext) -> None:
        """Show that one to whoever comes from now on."""
        self._newest = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest


def context_of(api: Api) -> ssl.SSLContext | None:
    """The context of these settings; None: no TLS. Blocking. Raises StartError."""
    return server_context(api) if api.cert is not None else None

"""Why there is no connection to the broker, in operators' words. Pure."""

from __future__ import annotations

import ssl
from typing import Final

from agent.deliver.explain import os_words
from agent.text import printable

CONNECTING: Final = 5.0
"""Seconds for one server, from the look-up of its name to its answer."""


class PlainError(OSError):
    """TLS is wanted, and the server offers none: nothing was told to it."""


def closed_early(where: str, *, tls: bool) -> str:
    """Why there is no connection, where the broker took it and ended it without a word.

    With TLS 1.3 it judges our certificate after we are done with the handshake: then it hangs up,
    and whether its reason is still read or the connection is reset first is a matter of timing.
    """
    if tls:
        return (
            f"{where} ended the connection right after TLS: does the broker want a client's "
            "certificate ([fleet] tls.cert), or another one? Its log says why"
        )
    return f"{where} closed the connection while we signed in: its log says why"


def why_not(  # noqa: PLR0911 - a table
    where: str, error: BaseException, said: str, *, credentials: bool, tls: bool
) -> str:
    """Why there is no connection.

    Args:
        where: to which server; no password is in it.
        error: what was raised.
        said: what the broker said, as nats-py quotes it; "": nothing.
        credentials: whether they were shown, not user and password.
        tls: whether TLS had begun.
    """
    match error:
        case PlainError():
            return (
                f"{where} offers no TLS, which is wanted: put 'tls {{ … }}' into the broker's "
                "configuration, or take tls:// and [fleet] tls out of the agent's"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"certificate of {where} refused: {os_words(error)}; [fleet] tls.ca names the "
                "authority that signed it"
            )
        case ssl.SSLError():
            return (
                f"TLS with {where} failed: {os_words(error)}; does the broker want a client's "
                "certificate ([fleet] tls.cert), or another one?"
            )
        case TimeoutError():
            return (
                f"{where} does not answer within {CONNECTING:g} s: is the address right, does it "
                "run, does a firewall stand between, and is it a NATS server?"
            )
        case ConnectionRefusedError():
            return f"{where} refuses connections: nothing listens there"
        case ConnectionError() if tls:
            return closed_early(where, tls=True)
        case OSError():
            return f"cannot connect to {where}: {os_words(error)}"
    if "authorization violation" in said.lower():
        what = "credentials" if credentials else "user and password of its URL, if any,"
        return (
            f"{where} does not let us in: it does not know the {what} or wants others; see "
            "'authorization' in its configuration, and [fleet] servers or credentials in ours"
        )
    if said.startswith("'"):
        return f"{where} does not let us in, and says: {printable(said, 200)}"
    return (
        f"what answers at {where} is no NATS server: is the port right? Clients of NATS commonly "
        "have 4222"
    )

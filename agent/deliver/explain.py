"""Why an attempt got no answer, in the operator's words: from an exception to its `ErrorKind`."""

from __future__ import annotations

import errno
import functools
import ssl

import aiohttp
from yarl import URL

from agent.address import host_port
from agent.deliver.policy import ErrorKind
from agent.errors import AgentError, SecretError


class ForbiddenAddressError(OSError):
    """A destination that callbacks never go to."""


def explain(  # noqa: C901, PLR0911, PLR0912 - a table: one line for each kind of error
    error: Exception, url: str, limit: float, connect_limit: float
) -> tuple[ErrorKind, str]:
    """What an operator reads of an exception; the limits are in seconds.

    Of exceptions' own texts only the operating system's and OpenSSL's go on: aiohttp's quote URLs
    and headers.
    """
    where = origin(url)
    match error:
        case SecretError():
            return ErrorKind.SECRET, str(error)
        case AgentError():
            return ErrorKind.CONFIG, str(error)
        case ForbiddenAddressError():
            return ErrorKind.FORBIDDEN, error.strerror or ""
        case aiohttp.ConnectionTimeoutError():
            return ErrorKind.TIMEOUT, f"no connection to {where} within {connect_limit:g} s"
        case TimeoutError():
            return ErrorKind.TOO_SLOW, f"no answer from {where} within {limit:g} s"
        case aiohttp.ClientConnectorDNSError():
            return ErrorKind.DNS, f"cannot resolve the host of {where}: {error.os_error.strerror}"
        case aiohttp.ClientConnectorCertificateError():
            return (
                ErrorKind.TLS,
                f"certificate of {where} refused: {os_words(error.certificate_error)}",
            )
        case aiohttp.ClientProxyConnectionError():
            return ErrorKind.PROXY, f"cannot reach the proxy: {os_words(error.os_error)}"
        case aiohttp.ClientConnectorError():
            return explain_connect(error.os_error, where)
        case aiohttp.ClientHttpProxyError():
            return ErrorKind.PROXY, f"the proxy refused to connect to {where}: HTTP {error.status}"
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):
            return ErrorKind.TLS, f"TLS with {where} failed: {os_words(error.__cause__)}"
        case aiohttp.ServerDisconnectedError():
            return ErrorKind.RESET, f"{where} closed the connection without an answer"
        case aiohttp.ClientOSError() | ConnectionError():
            return ErrorKind.RESET, f"connection to {where} lost: {os_words(error)}"
        case aiohttp.ClientResponseError():
            return ErrorKind.BAD_HTTP, f"{where} does not answer in HTTP"
        case aiohttp.InvalidURL():
            return ErrorKind.CONFIG, f"the webhook's url cannot be used: {where}"
        case aiohttp.ClientPayloadError():
            return ErrorKind.BAD_HTTP, f"{where} broke off its answer"
        case ValueError() | TypeError():
            return ErrorKind.CONFIG, "the webhook's url or a header of it cannot be sent"
        case _:
            return ErrorKind.INTERNAL, f"unexpected {type(error).__name__} while sending to {where}"


def explain_connect(error: OSError, where: str) -> tuple[ErrorKind, str]:
    """Why there is no connection to `host:port`, for operators."""
    words = os_words(error)
    if isinstance(error, ssl.SSLError):
        return ErrorKind.TLS, f"TLS with {where} failed: {words}"
    if isinstance(error, ForbiddenAddressError) or error.errno == errno.EACCES:
        return ErrorKind.FORBIDDEN, words
    if error.errno == errno.ECONNREFUSED:
        return ErrorKind.REFUSED, f"{where} refuses connections: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError):  # asyncio's have no errno
        return ErrorKind.RESET, f"connection to {where} lost: {words}"
    return ErrorKind.UNREACHABLE, f"cannot connect to {where}: {words}"


def os_words(error: BaseException) -> str:
    """What the operating system or OpenSSL says of it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


@functools.lru_cache(maxsize=256)
def origin(url: str) -> str:
    """`host:port` of a URL, for messages."""
    try:
        parsed = URL(url)
    except ValueError:
        return "the webhook's url"
    return host_port(parsed.host or "?", parsed.port)

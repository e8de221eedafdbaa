"""NO_PROXY: which hosts are reached without the environment's proxy, as curl reads it. Pure.

Names are parted by commas or blanks. A name means that host and all below it, with or without a
dot before it; an address means itself; `10.0.0.0/8` and `fd00::/8` mean all addresses in them; `*`
means every host. `no_proxy` goes before `NO_PROXY`, unless it is empty. More lenient than curl: a
`:port` behind a name limits it to that port, addresses may stand in brackets, `*.lab` is `.lab`,
and `*` counts beside other names, too.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTS: Final = re.compile(r"[,\s]+")
_PORT: Final = re.compile(r"(?P<host>\[[^]]*\]|[^:]*):(?P<port>[0-9]{1,5})")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bypasses(host: str, port: int | None, environ: Mapping[str, str]) -> bool:
    """Whether the environment wants this host (IPv6 without brackets) reached directly."""
    names = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    address = _address(host)
    host = host.lower().removesuffix(".")
    return any(_means(each, host, address, port) for each in _PARTS.split(names) if each)


def _means(entry: str, host: str, address: Address | None, port: int | None) -> bool:
    if entry == "*":
        return True
    if limited := _PORT.fullmatch(entry):
        if int(limited["port"]) != port:
            return False
        entry = limited["host"]
    bare = entry.removeprefix("[").replace("]", "")
    if address is not None:
        try:
            return address in ipaddress.ip_network(bare, strict=False)
        except ValueError:
            return False
    name = entry.lower().removeprefix("*.").removeprefix(".").removesuffix(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None

"""What the package carries below /opt/device-agent: each Python package, and what lies within.

Read from what was installed there, and from licences.toml. `copyright.py` and `sbom.py` write it
down. A package whose licence is not known, or may not be shipped with the agent's, ends the build.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from license_expression import ExpressionError, get_spdx_licensing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

HERE = Path(__file__).parent
AGENT = "device-agent"

SHIPPABLE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "GPL-3.0-or-later",
        "ISC",
        "LGPL-2.1-or-later",
        "LGPL-3.0-only",
        "LGPL-3.0-or-later",
        "LLVM-exception",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Unlicense",
        "Zlib",
    }
)
"""By SPDX's names, and by the FSF's list: what may be one work with GPL-3.0-or-later."""
BESIDE = SHIPPABLE | {"OpenSSL"}
"""And what may lie in a program of its own beside it."""

_SPDX = get_spdx_licensing()
_FILE = re.compile(r"(?i)licen[cs]e|copying|notice|copyright")
_HOLDER = re.compile(r"(?i)^\W*(?:copyright\b(?:\s*:)?|©|\(c\))\s*((?:\(c\)|©|\d{4}).*)$")


class LicenceError(Exception):
    """Says which package, and what to do."""


@dataclass(frozen=True)
class Part:
    """Something within a package that is not the package's own."""

    name: str
    version: str
    licence: str
    purl: str = ""
    holder: str = ""
    path: str = ""
    """Where it lies; `""`: somewhere in the package, which itself says what is in it."""


@dataclass(frozen=True)
class Carried:
    """One Python package."""

    name: str
    """As packages are compared: `pure-eval`, not `pure_eval`."""
    version: str
    licence: str
    """An SPDX expression."""
    summary: str
    homepage: str
    holders: tuple[str, ...]
    """Who has its copyright, as its files say."""
    files: tuple[str, ...]
    """Its folders and files, below site-packages."""
    texts: tuple[str, ...]
    """Its licence files, likewise."""
    requires: tuple[str, ...]
    """Names of other packages that it is said to need here."""
    sha256: str
    """Of the wheel; `""` where that is not known."""
    parts: tuple[Part, ...]


def carried(site: Path, reports: list[Path]) -> list[Carried]:
    """All that lies in `site`, by name; the agent itself too.

    Args:
        site: its site-packages.
        reports: what `pip install --report` wrote while it was filled.

    Raises:
        LicenceError: what is said of a licence here is missing, wrong or out of date.
    """
    table = tomllib.loads((HERE / "licences.toml").read_text(encoding="utf-8"))
    wheels = _wheels(reports)
    found = [_carried(each, site, table, wheels) for each in distributions(path=[str(site)])]
    names = {each.name for each in found}
    for each in found:
        for part in each.parts:
            check(f"{part.name} in {each.name}", part.licence, beside=part.path.endswith("/adb"))
        check(each.name, each.licence)
    # Without iPhones fewer are carried: what is written of them is not out of date.
    return sorted(
        (_without(each, names) for each in found), key=lambda each: (each.name != AGENT, each.name)
    )


def check(what: str, licence: str, *, beside: bool = False) -> None:
    """Raise LicenceError unless the expression is SPDX's and the whole may be shipped."""
    try:
        parsed = _SPDX.parse(licence, validate=True)
    except ExpressionError as error:
        raise LicenceError(f"{what}: {licence!r} is no SPDX expression: {error}") from None
    if parsed is None or not _fits(parsed, BESIDE if beside else SHIPPABLE):
        raise LicenceError(
            f"{what}: {licence!r} is not known to go with GPL-3.0-or-later: leave it out"
            " (requirements/left-out.txt), or add it to SHIPPABLE in packaging/carried.py"
        )


def _fits(licence: Any, names: frozenset[str]) -> bool:
    """Whether those suffice: all of what is joined by AND, one of what is joined by OR."""
    if isinstance(licence, _SPDX.OR):
        return any(_fits(each, names) for each in licence.args)
    if isinstance(licence, _SPDX.AND):
        return all(_fits(each, names) for each in licence.args)
    return all(symbol.key in names for symbol in licence.decompose())  # two of them: WITH


def _carried(
    package: Distribution, site: Path, table: dict[str, Any], wheels: dict[str, str]
) -> Carried:
    said = cast("Message", package.metadata)  # which it is; typeshed says less
    name = canonicalize_name(str(said["Name"]))
    licence = said.get("License-Expression") or table["expressions"].get(name)
    if licence is None:
        raise LicenceError(
            f"{name} does not say its licence in SPDX's words: read its licence files, and write"
            " it into packaging/licences.toml"
        )
    files = [str(each) for each in package.files or () if (site / each).exists()]
    files = [each for each in files if not each.startswith("..")]
    texts = [
        each
        for each in files
        if ".dist-info/" in each
        and _FILE.search(each.split(".dist-info/")[1])
        and "sboms/" not in each
    ]
    holders = [table["holders"][name]] if name in table["holders"] else _holders(site, texts)
    author = str(said.get("Author") or said.get("Author-email") or "").split(" <")[0]
    if not holders and not author:
        raise LicenceError(f"{name} does not say whose it is: see [holders] of licences.toml")
    return Carried(
        name=name,
        version=package.version,
        licence=str(licence),
        summary=" ".join(str(said.get("Summary") or "").split()),
        homepage=_homepage(said),
        holders=tuple(holders) or (author,),
        files=_tops(files),
        texts=tuple(sorted(texts)),
        requires=tuple(_requires(package)),
        sha256=wheels.get(name, ""),
        parts=(*_written(name, site, table), *_listed(site, files)),
    )


def _without(each: Carried, names: set[str]) -> Carried:
    """With no requirement that is not there: some are left out (requirements/left-out.txt)."""
    kept = tuple(name for name in each.requires if name in names)
    return Carried(**{**each.__dict__, "requires": kept})


def _wheels(reports: list[Path]) -> dict[str, str]:
    """Name → SHA-256 of the wheel that was installed."""
    found = {}
    for report in reports:
        for each in json.loads(report.read_text(encoding="utf-8"))["install"]:
            info = each["download_info"]
            digest = info.get("archive_info", {}).get("hashes", {}).get("sha256", "")
            if not digest and info["url"].startswith("file://"):  # our own wheel
                digest = sha256(Path(unquote(info["url"][7:])).read_bytes()).hexdigest()
            found[canonicalize_name(each["metadata"]["name"])] = str(digest)
    return found


def _holders(site: Path, texts: list[str]) -> list[str]:
    """What its licence files say of whose it is; not whose the licences' own texts are."""
    found: dict[str, None] = {}
    for text in texts:
        for line in (site / text).read_text(encoding="utf-8", errors="replace").splitlines():
            match = _HOLDER.match(line.strip())
            if match and not re.search(r"(?i)free software foundation|\[yyyy\]|<year>", line):
                found[re.sub(r"(?i)^\s*(\(c\)|©)\s*", "", match[1]).strip(" .")] = None
    return list(found)


def _homepage(said: Message) -> str:
    """As it says; of several links the one of that name, else the first."""
    links = dict(
        tuple(part.strip() for part in str(each).split(",", 1))
        for each in said.get_all("Project-URL") or []
    )
    named = {name.lower(): url for name, url in links.items()}
    home = said.get("Home-page") or named.get("homepage") or next(iter(links.values()), "")
    return str(home)


def _tops(files: list[str]) -> tuple[str, ...]:
    """Folders and files that are its own, as few as say it; its .dist-info among them."""
    found = set()
    for each in files:
        first, _, rest = each.partition("/")
        second = rest.partition("/")
        if first == "backports" and second[1]:  # shared by packages of several names
            found.add(f"{first}/{second[0]}/*")
        elif rest:
            found.add(f"{first}/*")
        else:
            found.add(first)
    return tuple(sorted(found))


def _requires(package: Distribution) -> Iterator[str]:
    found = set()
    extras = ["fleet", "ios"] if canonicalize_name(package.name) == AGENT else []
    for text in package.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(
            wanted.marker.evaluate({"extra": extra}) for extra in ["", *extras]
        ):
            found.add(canonicalize_name(wanted.name))
    yield from sorted(found)


def _written(name: str, site: Path, table: dict[str, Any]) -> Iterator[Part]:
    """What licences.toml says is in it."""
    for row in table["within"]:
        if row["package"] != name:
            continue
        lie = sorted(site.glob(row["path"]))
        if not lie:
            raise LicenceError(
                f"{name} has no {row['path']} any more, where {row['name']} was: mend"
                " packaging/licences.toml"
            )
        yield Part(
            name=row["name"],
            version=row.get("version", ""),
            licence=row["licence"],
            holder=row["holder"],
            path=str(lie[0].relative_to(site)),
        )


def _listed(site: Path, files: list[str]) -> Iterator[Part]:
    """What its own bills of materials say (PEP 770)."""
    for file in sorted(each for each in files if ".dist-info/sboms/" in each):
        for row in json.loads((site / file).read_text(encoding="utf-8")).get("components", []):
            licences = row.get("licenses") or []
            said = [
                each.get("expression") or each["license"].get("id") or each["license"]["name"]
                for each in licences
            ]
            # OpenSSL since 3.0; its row says nothing.
            known = "Apache-2.0" if row["name"] == "openssl" else ""
            yield Part(
                name=row["name"],
                version=row.get("version", ""),
                licence=" AND ".join(f"({each})" if " " in each else each for each in said)
                or known,
                purl=str(row.get("purl", "")).partition("?")[0],
            )

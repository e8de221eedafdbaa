"""Print Debian's `copyright` file of the package: whose each part is, and under which licence.

usage: packaging/copyright.py SITE_PACKAGES
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from carried import AGENT, HERE, Carried, Part, carried

_HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: device-agent
Comment:
 Below /opt/device-agent lie copies of packages of the Python Package Index, each with its licence
 files in its *.dist-info folder. The paths are those of the installed package.

Files: *
Copyright: the contributors to device-agent
License: GPL-3.0-or-later
Comment: Because of pymobiledevice3.
"""


def main() -> None:
    """A paragraph for each part, then one for each licence."""
    site = Path(sys.argv[1]).resolve()
    below = str(site)[str(site).index("opt/device-agent") :]
    found = carried(site, [])
    paragraphs = [_HEAD]
    named: set[str] = {"GPL-3.0-or-later"}
    for each in found:
        if each.name != AGENT:
            named |= _names(each.licence)
            paragraphs.append(_package(each, below))
        for part in each.parts:
            if part.path:  # what a package's own bill of materials lists is told there
                named |= _names(part.licence)
        paragraphs += [_parts(path, each, below) for path in _paths(each)]
    for name in sorted(named):
        text = (HERE / "licences" / f"{name}.txt").read_text(encoding="utf-8")
        lines = [f" {line}" if line else " ." for line in text.rstrip().splitlines()]
        paragraphs.append("\n".join([f"License: {name}", *lines]) + "\n")
    sys.stdout.write("\n".join(paragraphs))


def _package(each: Carried, below: str) -> str:
    lines = [f"Files: {_several(f'{below}/{_glob(file)}' for file in each.files)}"]
    lines += [f"Copyright: {_several(each.holders)}", f"License: {_short(each.licence)}"]
    texts = [f"{below}/{text}" for text in each.texts]
    lines.append(f"Comment: {each.name} {each.version}{'; its texts:' if texts else ''}")
    return "\n".join([*lines, *(f" {text}" for text in texts)]) + "\n"


def _paths(each: Carried) -> list[str]:
    return sorted({part.path for part in each.parts if part.path})


def _parts(path: str, each: Carried, below: str) -> str:
    """The file of a package in which other works were compiled."""
    parts = [part for part in each.parts if part.path == path]
    licences = sorted({part.licence for part in parts} | _own(path, each))
    lines = [f"Files: {below}/{path}"]
    lines.append(f"Copyright: {_several(f'{_called(part)}: {part.holder}' for part in parts)}")
    lines.append(f"License: {_short(' AND '.join(licences))}")
    lines.append("Comment: It holds, by themselves:")
    lines += [f" {_called(part)}: {part.licence}" for part in parts]
    return "\n".join(lines) + "\n"


def _own(path: str, each: Carried) -> set[str]:
    """A library of the package is under its licence too; a program that it brings is not."""
    return {each.licence} if path.endswith(".so") else set()


def _called(part: Part) -> str:
    return f"{part.name} {part.version}".strip()


def _several(values: object) -> str:
    assert hasattr(values, "__iter__")
    return "\n ".join(str(value) for value in values)


def _glob(file: str) -> str:
    """As a pattern; only the last `*` is meant as one."""
    return file.replace("?", "\\?")


def _short(licence: str) -> str:
    """An SPDX expression in the words of the format, which has no brackets."""
    flat = re.sub(r" WITH ", "-with-", licence)
    if "(" in flat:
        raise ValueError(f"{licence}: write it without brackets")
    words = sorted(set(flat.split(" AND "))) if " OR " not in flat else [flat]
    return " and ".join(words).replace(" OR ", " or ")


def _names(licence: str) -> set[str]:
    return set(re.split(r" AND | OR ", licence.replace(" WITH ", "-with-")))


if __name__ == "__main__":
    main()

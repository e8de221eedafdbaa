"""Print the `copyright` file: the agent's licence, and what each package beside it states."""

from __future__ import annotations

from importlib.metadata import distributions
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from email.message import Message

_HEAD = """\
device-agent {version}

Copyright: the contributors to device-agent
Licence: GPL-3.0-or-later, because of pymobiledevice3. On Debian systems the text is in
/usr/share/common-licenses/GPL-3.

Below /opt/device-agent/lib lie copies of these packages of the Python Package Index, with their
licences as they state them; the full texts are in their *.dist-info folders there.

"""


def main() -> None:
    """One line per package, by name."""
    rows = []
    version = ""
    for package in distributions():
        stated = cast("Message", package.metadata)  # which it is; typeshed says less
        name = str(stated["Name"])
        if name == "device-agent":
            version = package.version
            continue
        licence = str(stated.get("License-Expression") or stated.get("License") or "")
        if not licence or "\n" in licence.strip():  # nothing, or the whole text
            classes = [str(each) for each in stated.get_all("Classifier") or []]
            licence = ", ".join(c.split(" :: ")[-1] for c in classes if c.startswith("License"))
        rows.append((name.lower(), package.version, licence.strip() or "see its files"))
    print(_HEAD.format(version=version), end="")
    for row in sorted(rows):
        print("  {} {}: {}".format(*row))


if __name__ == "__main__":
    main()

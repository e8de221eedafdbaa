"""The commands of docs/lab.md, as they stand there: a machine of their own."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.lab.vm import BOOT_LIMIT, LIMIT, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "lab.md"


def test_the_commands_of_the_page(place: Path) -> None:
    (block,) = re.findall(r"<!-- run: lab -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "/tmp/my-lab" in block
    # The machine ends with the script, wherever that ends.
    script = "trap 'kill $(jobs -p); wait' EXIT\n" + block.replace("/tmp/my-lab", str(place))
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOOT_LIMIT + 5 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert '"ok": true' in done.stdout

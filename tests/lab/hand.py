"""The lab's machine by hand: boot one and keep it, run commands in it, bring changed files to it.

python -m tests.lab.hand boot          until Ctrl-C or SIGTERM, or for 3 hours
python -m tests.lab.hand run COMMAND…  as root, in it; code 124: still running after 2 minutes
python -m tests.lab.hand push          tests/lab/guest and tests/fakes, as they are now, to /opt/lab

Its directory is $LAB_DIRECTORY, else device-agent-lab below the one for temporary files: machines
in several directories do not meet.
"""

from __future__ import annotations

import base64
import io
import os
import signal
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tests.lab.vm import GUEST, ROOT, Vm

KEPT = 3 * 3600.0


def boot(vm: Vm) -> None:
    """Boot it and stay until it is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    started = time.monotonic()
    with vm:
        vm.disconnect()
        print(f"booted in {time.monotonic() - started:.0f} s; console: {vm.console}")
        print(f"kill {os.getpid()} ends it", flush=True)
        time.sleep(KEPT)


def push(vm: Vm) -> None:
    """Bring the guest's files as they are now."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for tree in (GUEST, ROOT / "tests" / "fakes"):
            archive.add(tree, tree.relative_to(ROOT))
    text = base64.b64encode(packed.getvalue()).decode()
    vm.run("sh", "-c", "base64 -d | tar -C /opt/lab --no-same-owner -xzf -", stdin=text)


def main() -> int:
    """Do what the arguments say."""
    default = Path(tempfile.gettempdir()) / "device-agent-lab"
    vm = Vm(Path(os.environ.get("LAB_DIRECTORY", default)))
    match sys.argv[1:]:
        case ["boot"]:
            boot(vm)
        case ["push"]:
            vm.connect()
            push(vm)
        case ["run", _, *_]:
            vm.connect()
            done = vm.run(*sys.argv[2:], ok=False)
            sys.stdout.write(done.out)
            sys.stderr.write(done.err)
            return done.code
        case _:
            sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())

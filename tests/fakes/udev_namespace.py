"""Runs a command where /sys and /run/udev are fake and netlink is private to it.

A network and a mount namespace of its own: as root directly, otherwise inside a user namespace,
where the kernel allows that. /dev is no devtmpfs there, as in containers: on one, libudev would
listen whether or not a udevd runs.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

LAB = "UDEV_LAB"
"""The environment variable that tells the command its FakeSysfs root."""

_WAYS = (
    ("unshare", "--net", "--mount"),
    ("unshare", "--user", "--map-root-user", "--net", "--mount"),
)
_MOUNT = f"""
set -e
mount -t tmpfs tmpfs "${LAB}"
mkdir -p "${LAB}/sys" "${LAB}/run/udev"
mount --bind "${LAB}/sys" /sys
mount -t tmpfs tmpfs /run
mkdir /run/udev
mount --bind "${LAB}/run/udev" /run/udev
mkdir "${LAB}/dev"
mount -t tmpfs tmpfs "${LAB}/dev"
for node in null zero random urandom; do
    touch "${LAB}/dev/$node"
    mount --bind "/dev/$node" "${LAB}/dev/$node"
done
mount --rbind "${LAB}/dev" /dev
exec "$@"
"""


def lab() -> Path:
    """The FakeSysfs root, inside."""
    return Path(os.environ[LAB])


def run_inside(command: list[str], root: Path, limit: float) -> subprocess.CompletedProcess[str]:
    """The ended command, with its output as text; `root` is an empty directory to mount on.

    Raises PermissionError where namespaces are refused, subprocess.TimeoutExpired past the limit
    (seconds).
    """
    return subprocess.run(
        [*_way(str(root)), "sh", "-c", _MOUNT, "sh", *command],
        env=_environment(str(root)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit,
        check=False,
    )


@functools.cache
def _way(root: str) -> tuple[str, ...]:
    """The first way in that works here."""
    refusals = []
    for way in _WAYS:
        tried = subprocess.run(
            [*way, "sh", "-c", _MOUNT, "sh", "true"],
            env=_environment(root),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if tried.returncode == 0:
            return way
        refusals.append(f"{' '.join(way)}: {tried.stderr.strip()}")
    raise PermissionError("no private network and mount namespace here: " + "; ".join(refusals))


def _environment(root: str) -> dict[str, str]:
    return {**os.environ, LAB: root, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}

"""The sample package of a third party's usage source: as a wheel, installed, and its server."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import tomli
from aiohttp import web

from tests.fakes.usage_servers import FakeServer

SAMPLE = Path(__file__).parents[1] / "testdata" / "plugin"
MODULE = SAMPLE / "device_agent_booking.py"


def wheel(directory: Path) -> Path:
    """The package, made of what its project file says: setuptools would come from a network."""
    project = tomli.loads((SAMPLE / "pyproject.toml").read_text())["project"]
    stem = f"{MODULE.stem}-{project['version']}"
    about = f"{stem}.dist-info"
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    files = {
        MODULE.name: MODULE.read_text(),
        f"{about}/METADATA": (
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        ),
        f"{about}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        f"{about}/entry_points.txt": "\n".join(groups),
    }
    files[f"{about}/RECORD"] = "".join(
        f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in files.items()
    ) + (f"{about}/RECORD,,\n")
    made = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made


def install(directory: Path) -> Path:
    """Install it by pip, without a network; the directory to import from."""
    site = directory / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "--quiet"]
    where = ["--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, "install", *where, str(wheel(directory))], check=True, timeout=120)
    return site


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class BookingServer(FakeServer):
    """The booking system that the package asks."""

    def __init__(self) -> None:
        super().__init__()
        self.booked: dict[str, str] = {}

    def answer(self, path: str) -> web.Response:
        del path
        return web.json_response(self.booked)

"""An Android-only installation, as an operator makes it, kept between runs."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCKED = REPOSITORY / "requirements" / "agent.txt"


async def android_only() -> Path:
    """A venv with the locked dependencies (made once per lock file) and the agent as it is now."""
    key = hashlib.sha256(LOCKED.read_bytes() + sys.version.encode()).hexdigest()[:12]
    base = Path(tempfile.gettempdir()) / f"device-agent-bench-{getpass.getuser()}"
    base.mkdir(mode=0o700, exist_ok=True)
    venv = base / key
    python = str(venv / "bin" / "python")
    if not (venv / "complete").exists():
        print("   making an Android-only installation (kept for the next run)", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        await _call(sys.executable, "-m", "venv", str(venv))
        await _pip(python, "--no-deps", "--require-hashes", "-r", str(LOCKED))
        (venv / "complete").touch()
    # From a copy: a build leaves its traces beside the sources.
    with tempfile.TemporaryDirectory(prefix="bench-build-") as copy:
        for name in ("agent", "pyproject.toml", "README.md", "LICENSE"):
            source, target = REPOSITORY / name, Path(copy) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        await _pip(python, "--no-deps", "--force-reinstall", copy)
    return venv


async def _pip(python: str, *arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-script-location")
    await _call(python, "-m", "pip", "install", *quiet, *arguments)


async def _call(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{' '.join(command)} failed")

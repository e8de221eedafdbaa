"""Wheel and sdist: the same bytes wherever they are built, whole, and working by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent import __version__
from tests.docs.pages import ROOT
from tests.packaging.machine import commands

EPOCH = "1750000000"
QUIET = """\
[agent]
state_dir = "{place}/state"
[api]
socket = "{place}/s"
listen = "127.0.0.1:0"
[usb]
enabled = false
[android]
enabled = false
[ios]
enabled = false
"""


def tracked(*below: str) -> list[str]:
    """What is under version control, or will be."""
    asked = ("git", "-c", "safe.directory=*", "ls-files", "--cached", "--others")
    done = subprocess.run(
        [*asked, "--exclude-standard", "--", *below],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return sorted(name for name in done.stdout.splitlines() if (ROOT / name).exists())


def copy(place: Path) -> Path:
    """The tree, somewhere else."""
    place.mkdir(parents=True)
    names = "\0".join(tracked(".")).encode()
    tar = ["tar", "--null", "--files-from=-", "--create", "--file=-"]
    packed = subprocess.run(tar, cwd=ROOT, input=names, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "--extract", "--file=-"], cwd=place, input=packed.stdout, check=True)
    return place


def dist(place: Path, tools: Path, umask: int, **environ: str) -> dict[str, bytes]:
    """Name → contents of what `make dist` built there."""
    done = subprocess.run(
        commands("dist").split(),
        cwd=place,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "TOOLS": str(tools), **environ},
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return {each.name: each.read_bytes() for each in (place / "dist").iterdir()}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What builds it, as locked."""
    place = tmp_path_factory.mktemp("tools") / "venv"
    subprocess.run([ROOT / "requirements" / "make-tools", place], check=True)
    return place


@pytest.fixture(scope="module")
def built(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with both; built by a user of ordinary habits."""
    place = copy(tmp_path_factory.mktemp("a") / "tree")
    (place / "agent" / "__pycache__").mkdir()
    (place / "agent" / "__pycache__" / "left.pyc").write_bytes(b"of another build")
    names = sorted(dist(place, tools, 0o022, TZ="UTC", LC_ALL="C"))
    assert names == [f"device_agent-{__version__}{end}" for end in ("-py3-none-any.whl", ".tar.gz")]
    return place / "dist"


def test_they_are_the_same_wherever_they_are_built(
    built: Path, tools: Path, tmp_path: Path
) -> None:
    elsewhere = copy(tmp_path / "a longer name" / "elsewhere")
    for each in elsewhere.rglob("*"):
        if each.is_file():
            os.utime(each, (1, 1))
    there = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "LANG": "tr_TR.UTF-8"}
    again = dist(elsewhere, tools, 0o077, **there)
    assert again == {each.name: each.read_bytes() for each in built.iterdir()}


def test_the_wheel_holds_the_agent_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    info = f"device_agent-{__version__}.dist-info"
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    assert sorted(names) == sorted([*tracked("agent"), *(f"{info}/{each}" for each in about)])
    assert any(name.endswith(".sql") for name in names)
    assert "agent/web/index.html" in names


def test_the_sdist_holds_what_it_takes_and_no_configuration_of_this_checkout(built: Path) -> None:
    """That it suffices to build from is shown by the wheel, which is built from it."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        members = sdist.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    about = ["CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md", "pyproject.toml"]
    configs = [name for name in tracked("config") if name != "config/agent.toml"]
    assert names == {*tracked("agent"), *about, *configs}
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_works_installed_by_itself(built: Path, kind: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [venv / "bin" / command[0], *command[1:]],
            cwd=tmp_path,
            env={**environ, "HOME": str(tmp_path)} if command[0] == "device-agent" else environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    pip = ("pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    locked = (*pip, "--only-binary=:all:", "--require-hashes", "-r")
    run(*locked, ROOT / "requirements" / "agent.txt")
    run(*locked, ROOT / "requirements" / "build.txt")
    run(*pip, "--no-build-isolation", next(built.glob(kind)))

    assert run("device-agent", "--version") == f"device-agent, version {__version__}\n"
    where = run("python", "-c", "import agent; print(agent.__file__)")
    assert Path(where).is_relative_to(venv), where
    schema = (ROOT / "config" / "agent.schema.json").read_text(encoding="utf-8")
    assert run("device-agent", "schema") == schema
    run("device-agent", "check", ROOT / "config" / "agent.example.toml")
    assert "unplugged" in run("device-agent", "demo").lower()

    config = tmp_path / "agent.toml"
    config.write_text(QUIET.format(place=tmp_path))
    config.chmod(0o600)
    agent = subprocess.Popen(
        [venv / "bin" / "device-agent", "run", "--config", config],
        cwd=tmp_path,
        env={**environ, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert agent.stdout is not None
        lines: list[str] = []
        for line in agent.stdout:
            lines.append(line)
            if "agent.ready" in line:
                break
        assert lines, "it said nothing"
        assert "agent.ready" in lines[-1], "".join(lines)
        shown = run("device-agent", "devices", "--config", config, "--json")
        assert '"devices": []' in shown
    finally:
        agent.terminate()
        rest, _ = agent.communicate(timeout=30)
    assert agent.returncode == 0, rest

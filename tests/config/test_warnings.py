"""One file per warning, with what is said of it beside it; and no secret in any of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.config import check, format_problems

HERE = Path(__file__).parent.parent / "testdata" / "warnings"
FILES = sorted(HERE.glob("*.toml"))
MODES = {"secrets-readable": 0o644, "file-writable": 0o606, "secret-file-readable": 0o644}
"""Of the file, or of the secret's file, where the warning is about it; git keeps no modes."""


def test_the_walk_finds_its_files() -> None:
    assert len(FILES) > 20
    assert {file.stem for file in FILES} == {file.stem for file in HERE.glob("*.txt")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_warnings(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mode = next((mode for name, mode in MODES.items() if file.stem.startswith(name)), 0o600)
    for name in (file.name, "signing.secret"):
        shutil.copy(HERE / name, name)
        Path(name).chmod(mode)
    config, problems, warnings = check(Path(file.name))
    assert config is not None, problems
    said = "".join(f"{warning}\n" for warning in warnings)
    assert said == file.with_suffix(".txt").read_text()
    assert "hunter" not in said
    shown = format_problems(warnings, lambda name: Path(name).read_text())
    assert "hunter" not in shown
    assert shown.count("^") == len(warnings)


@pytest.mark.parametrize(
    ("owner", "mode", "advice"),
    [
        ((0, 7), 0o640, ""),
        ((0, 7), 0o644, "chmod 0640"),
        ((0, 0), 0o640, "chmod 0600"),
        ((7, 7), 0o640, "chmod 0600"),
        ((7, 7), 0o600, ""),
    ],
)
def test_what_root_gave_to_a_group_is_for_that_group(
    tmp_path: Path, owner: tuple[int, int], mode: int, advice: str
) -> None:
    import os  # noqa: PLC0415 - for this test alone

    if os.geteuid():
        pytest.skip("only root gives files away")
    path = tmp_path / "agent.toml"
    shutil.copy(HERE / "secrets-readable.toml", path)
    os.chown(path, *owner)
    path.chmod(mode)
    (warning,) = [str(each) for each in check(path)[2]] or [""]
    assert advice in warning
    assert bool(warning) == bool(advice)

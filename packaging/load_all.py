"""Load all that the installed agent can load, late imports too: nothing was left out too much."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import agent


def main() -> None:
    """Raise ImportError for the first module that is missing."""
    for module in pkgutil.walk_packages(agent.__path__, "agent."):
        importlib.import_module(module.name)
        if module.ispkg:
            continue
        spec = importlib.util.find_spec(module.name)
        assert spec is not None
        assert spec.origin is not None
        for name in _imports(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            if name.split(".")[0] == "pymobiledevice3" and not _has("pymobiledevice3"):
                continue  # installed without the support of iPhones
            importlib.import_module(name)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _imports(tree: ast.Module) -> set[str]:
    """Every module named in an import, at the top or in a function."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            names.add(node.module)
    return names


if __name__ == "__main__":
    main()

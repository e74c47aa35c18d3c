"""The files of this repository.

What lives here: where the files are and their text. What does not: what they must look like.
Called by the shape tests.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "located", "package_files", "python_files", "text_files"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "embedded_tasks"

_BUILT = {"__pycache__", "build", "data", "dist", "node_modules", "site"}
_HIDDEN_BUT_OURS = {".ci", ".github"}


@cache
def text_files() -> tuple[Path, ...]:
    """Every file of the repository that is text, built and hidden folders left out."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if _is_ours(name))
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and b"\0" not in path.read_bytes()[:4096]:
                found.append(path)
    return tuple(found)


def python_files() -> list[Path]:
    return [path for path in text_files() if path.suffix == ".py"]


def package_files() -> list[Path]:
    return [path for path in python_files() if path.is_relative_to(PACKAGE)]


def located(path: Path) -> str:
    """The path as it is written in the repository, such as `embedded_tasks/clock.py`."""
    return path.relative_to(ROOT).as_posix()


def _is_ours(name: str) -> bool:
    return name in _HIDDEN_BUT_OURS or not (name.startswith(".") or name in _BUILT)

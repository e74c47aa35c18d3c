"""The arrows between rooms.

What lives here: the import contracts of pyproject.toml hold, are exhaustive, and bite. What does
not: the contracts themselves. Run by pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.shape.tree import ROOT


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of `folder`'s pyproject.toml on the package in that folder."""
    script = "from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", script, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def rooms() -> dict[str, list[str]]:
    """The modules of each package that has a contract."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        contract["containers"][0]: [
            name.strip().strip("()") for layer in contract["layers"] for name in layer.split("|")
        ]
        for contract in config["tool"]["importlinter"]["contracts"]
    }


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An empty package with every room of the contracts, and the contracts."""
    packages = rooms()
    for package, names in packages.items():
        folder = tmp_path / package.replace(".", "/")
        folder.mkdir()
        for name in ["__init__", *names]:
            if f"{package}.{name}" not in packages:
                (folder / f"{name}.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return tmp_path


def test_arrows_point_down_only() -> None:
    answer = lint_imports(ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "2 kept, 0 broken" in answer.stdout


def test_an_arrow_down_is_fine(house: Path) -> None:
    (house / "embedded_tasks/worker.py").write_text("import embedded_tasks.clock")
    answer = lint_imports(house)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("room", "imported"), [("clock", "job"), ("store", "enqueue"), ("enqueue", "attempt")]
)
def test_an_arrow_up_or_aside_is_noticed(house: Path, room: str, imported: str) -> None:
    (house / f"embedded_tasks/{room}.py").write_text(f"import embedded_tasks.{imported}")
    answer = lint_imports(house)
    assert answer.returncode == 1
    assert f"embedded_tasks.{room} -> embedded_tasks.{imported}" in answer.stdout


def test_a_room_on_no_layer_is_noticed(house: Path) -> None:
    (house / "embedded_tasks/attic.py").touch()
    answer = lint_imports(house)
    assert answer.returncode == 1
    assert "attic" in answer.stdout

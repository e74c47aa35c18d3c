"""FastAPI's and Starlette's own tests, run with the runner installed.

What lives here: where their tests come from, which of them are run, and the count that is printed.
What does not: how the runner gets under them (`tests/upstream/plugin.py`). Called by
`scripts/upstream` and by tests/upstream.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = ["UNAVAILABLE", "main"]

UNAVAILABLE: Final = 75
"""The exit code where their tests or what they need cannot be had, such as offline."""

_ROOT: Final = Path(__file__).resolve().parent.parent
_HERE: Final = _ROOT / "tests" / "upstream"
# Tests of background tasks, of dependencies with `yield` and of an endpoint's own response.
_FASTAPI: Final = (
    "tests/test_async_dependency_cleanup.py",
    "tests/test_dependency_after_yield_*.py",
    "tests/test_dependency_concurrency.py",
    "tests/test_dependency_contextmanager.py",
    "tests/test_dependency_contextvars.py",
    "tests/test_dependency_normal_exceptions.py",
    "tests/test_dependency_yield_*.py",
    "tests/test_frontend.py",
    "tests/test_response_dependency.py",
    "tests/test_telemetry/test_background.py",
    "tests/test_telemetry/test_http.py",
    "tests/test_tutorial/test_background_tasks",
)
_STARLETTE: Final = re.compile(r"\bBackgroundTasks?\b")
# Tools that their tests do not need, and one that forbids a runner to open its file on the loop.
_TYPING: Final = ("mypy", "ty")
_REPORTS: Final = ("black", "coverage", "pytest-cov", "pytest-sugar", "ruff", "twine")
_NOT_NEEDED: Final = frozenset((*_TYPING, *_REPORTS, "blockbuster"))
# Told of by us, where theirs are errors: tasks inside tests cannot be stored, mounts are not ours.
_OUR_WARNINGS: Final = ("NotDurableWarning", "NotInstalledWarning")


class UnavailableError(Exception):
    """Their tests, or what they need, cannot be had here."""


class Place:
    """The environment and the sources of one pair of releases.

    Args:
        fastapi: FastAPI's release.
        starlette: Starlette's release; None for the newest that this FastAPI takes.
    """

    def __init__(self, fastapi: str, starlette: str | None) -> None:
        folder = os.environ.get("VENV_UPSTREAM", str(_ROOT / ".venv-upstream"))
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.folder = Path(folder).absolute() / f"fastapi-{fastapi}-python-{python}"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / ".installed"
        self._fastapi = fastapi
        self._starlette = starlette

    def prepare(self) -> None:
        """Make what is not there yet.

        Raises:
            UnavailableError: It cannot be had.
        """
        wanted = f"{self._fastapi} {self._starlette} {Path(__file__).stat().st_mtime_ns}"
        if self._stamp.exists() and self._stamp.read_text() == wanted:
            return
        _run(sys.executable, "-m", "venv", "--clear", str(self.folder))
        # What builds their sources, so that each is not given an environment of its own.
        self._install("hatchling", "pdm-backend")
        fastapi = self._source(f"fastapi=={self._fastapi}")
        starlette = f"starlette=={self._starlette}" if self._starlette else "starlette"
        ours = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        self._install(
            *ours,
            *_requirements(fastapi),
            f"fastapi[all]=={self._fastapi}",
            starlette,
            "httpx",
            "itsdangerous",
            "jinja2",
            "pytest-xdist",  # for its marker; tests that share a file run in one process here
            "python-multipart",
            "pyyaml",
            "trio",
        )
        self._source(f"starlette=={self._installed('starlette')}")
        self._stamp.write_text(wanted)

    def source(self, name: str) -> Path:
        """Return the unpacked source of "fastapi" or "starlette"."""
        return next(path for path in (self.folder / "sources").glob(f"{name}-*") if path.is_dir())

    def _install(self, *requirements: str) -> None:
        _pip(self.python, "install", "--prefer-binary", *requirements)

    def _source(self, requirement: str) -> Path:
        folder = self.folder / "sources"
        name = requirement.partition("==")[0]
        only = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
        _pip(self.python, "download", *only, "--dest", str(folder), requirement)
        with tarfile.open(next(folder.glob(f"{name}-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = self.source(name)
        if not (source / "tests").is_dir():
            raise UnavailableError(f"the source distribution of {requirement} has no tests")
        return source

    def _installed(self, name: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return _run(str(self.python), "-c", code).strip()


def _requirements(source: Path) -> Iterator[str]:
    """Yield what the tests of a source need."""
    groups = tomllib.loads((source / "pyproject.toml").read_text()).get("dependency-groups", {})
    found = _of_group(groups, "tests") if groups else _of_file(source / "requirements-tests.txt")
    for requirement in found:
        name = re.match(r"[\w.-]+", requirement)
        if name is not None and name[0].lower() not in _NOT_NEEDED:
            yield requirement


def _of_group(groups: dict[str, Any], name: str) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, dict):
            yield from _of_group(groups, entry["include-group"])
        else:
            yield entry


def _of_file(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            yield from _of_file(path.parent / line[3:].strip())
        elif line and line[0] not in "#-" and not line.startswith("types-"):
            yield line.strip()


def _tests(run: str, source: Path, *, everything: bool) -> list[str]:
    if run == "starlette":
        files = sorted((source / "tests").rglob("test_*.py"))
        return [str(file) for file in files if _STARLETTE.search(file.read_text())]
    if everything:
        return ["tests"]
    return sorted(str(path) for pattern in _FASTAPI for path in source.glob(pattern))


def _pip(python: Path, command: str, *arguments: str) -> None:
    _run(str(python), "-m", "pip", command, "-q", "--disable-pip-version-check", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise UnavailableError(f"{' '.join(command)[:200]}: {tail}")
    return done.stdout


def _pytest(run: str, place: Place, tests: list[str], source: Path) -> tuple[int, Counter[str]]:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as written:
        environment = {
            **os.environ,
            "EMBEDDED_TASKS_TESTING": "1",
            "EMBEDDED_TASKS_UPSTREAM": run,
            "EMBEDDED_TASKS_UPSTREAM_COUNTS": written,
            "PYTHONPATH": f"{_ROOT}{os.pathsep}{_HERE}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("PYTEST_ADDOPTS", "EMBEDDED_TASKS_ALWAYS_DECODE"):
            environment.pop(name, None)
        ours = [f"-Wignore::embedded_tasks.errors.{name}" for name in _OUR_WARNINGS]
        options = ["-q", "--tb=short", "--no-header", "-p", "plugin", "-p", "no:cacheprovider"]
        command = [str(place.python), "-m", "pytest", *options, *ours, *tests]
        done = subprocess.run(command, cwd=source, env=environment, check=False)
        for path in Path(written).iterdir():
            counts.update(json.loads(path.read_text()))
    return done.returncode, counts


def _durable(run: str, counts: Counter[str]) -> tuple[int, str]:
    """Return the count of durable jobs, and the line that tells of it."""
    if run == "no-lifespan":
        # With no lifespan nothing is open that could store them.
        return counts["storable"], (
            f"{counts['in_request']} background tasks ran in their requests, as plain; "
            f"{counts['storable']} of them are durable jobs where the lifespan runs"
        )
    return counts["stored"], (
        f"{counts['stored']} durable jobs stored ({counts['job.succeeded']} succeeded, "
        f"{counts['job.failed']} failed as their tests want, "
        f"{counts['job.interrupted']} given back when their tests cut a request off), "
        f"{counts['non_durable']} tasks could not be stored and ran in their requests, "
        f"{counts['left_out']} tests left out"
    )


def main() -> int:
    """Run one of the runs; return 0, or what went wrong."""
    parser = argparse.ArgumentParser(prog="scripts/upstream")
    parser.add_argument("run", choices=("no-lifespan", "lifespan", "starlette"))
    parser.add_argument("--fastapi", help="another release than the installed one")
    parser.add_argument("--all", action="store_true", help="all of FastAPI's tests; takes minutes")
    asked = parser.parse_args()
    fastapi = asked.fastapi or version("fastapi")
    place = Place(fastapi, None if asked.fastapi else version("starlette"))
    try:
        place.prepare()
    except UnavailableError as error:
        print(f"{asked.run}: cannot be run here: {error}")
        return UNAVAILABLE
    source = place.source("starlette" if asked.run == "starlette" else "fastapi")
    tests = _tests(asked.run, source, everything=asked.all)
    code, counts = _pytest(asked.run, place, tests, source)
    durable, told = _durable(asked.run, counts)
    print(f"{asked.run} ({source.name}): {told}", flush=True)
    if not durable:
        print(f"{asked.run}: no durable job, so this run shows nothing")
    return code or int(not durable)


if __name__ == "__main__":
    sys.exit(main())

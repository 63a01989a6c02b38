"""The warehouse's documentation: one page, made from the database that is there."""

from pathlib import Path

import pytest
from mart_records import empty_marts

from assets.warehouse.docs import write_docs
from storage.database import Database


@pytest.mark.begins(after=empty_marts)
def test_the_documentation_builds_as_one_page_with_every_mart_metric_and_reader_in_it(
    database: Database, tmp_path: Path
) -> None:
    page = tmp_path / "docs.html"
    write_docs(database, page)
    text = page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["docs.html"]
    for named in (
        "model.tidemark.drift_history",
        "metric.tidemark.avg_drift_score",
        "exposure.tidemark.route_drift_trends",
        "semantic_model.tidemark.evaluations",
        "UTC day, tenant and template: mean drift",
    ):
        assert named in text

"""The warehouse's documentation as one page: dbt's own site, with the catalogue of this database inside."""

import tempfile
from pathlib import Path

from assets.warehouse.build import raise_on_failure
from assets.warehouse.dbt_runner import invoke_dbt
from assets.warehouse.project import PROJECT_DIR
from storage.database import Database


def write_docs(database: Database, out: Path) -> None:
    """Write models, columns, lineage, metrics and exposures as one HTML file that needs no server.

    Args:
        database: whose tables are described; what isn't built yet is described without sizes.
        out: the file; replaced if it is there.

    Raises:
        DbtFailedError: dbt could not make it.
        OSError: the file can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="tidemark-docs-") as folder:
        target = Path(folder)
        # Parsed anew: dbt writes the site's files from what it has parsed itself.
        outcome = invoke_dbt(
            ["docs", "generate", "--static"], database.platform, target_path=target, project_dir=PROJECT_DIR
        )
        raise_on_failure(outcome, outcome.problems)
        page = (target / "static_index.html").read_bytes()
    beside = out.with_name(f".{out.name}.part")
    beside.write_bytes(page)
    beside.replace(out)

"""Alembic's scripts: one `.sql` file a revision, run whole by the thin `.py` beside it."""

from pathlib import Path

from sqlalchemy import Connection


def run_sql(connection: Connection, revision_file: str) -> None:
    """Run the `.sql` beside a revision's file; on the driver's own connection, for which `%` is an ordinary letter."""
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None, "a migration runs on an open connection"  # noqa: S101 - for the type checker
    driver_connection.execute(Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8"))

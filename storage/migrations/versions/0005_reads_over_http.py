"""Reads over HTTP: what role api_reader sees beside marts, and the indexes that pages of it follow."""

from alembic import op

from storage.migrations import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

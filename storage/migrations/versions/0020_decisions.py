"""Decisions: among whom an extractor was chosen and how, what it cost; the shares that snapshots published."""

from alembic import op

from storage.migrations import run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

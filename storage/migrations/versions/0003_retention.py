"""Retention: what role retention may drop, and only by these functions."""

from alembic import op

from storage.migrations import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

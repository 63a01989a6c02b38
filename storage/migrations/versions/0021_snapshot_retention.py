"""Retention of recommendations that no record on hand can have been chosen by."""

from alembic import op

from storage.migrations import run_sql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

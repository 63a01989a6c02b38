"""Snapshots stay: what a published share rests on can no longer be changed."""

from alembic import op

from storage.migrations import run_sql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""Roles with the least rights for each process, and row-level security on every table of tenants' rows."""

from alembic import op

from storage.migrations import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

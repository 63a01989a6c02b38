"""Forecasts of coming days are written again each night: in place."""

from alembic import op

from storage.migrations import run_sql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""Forecasts: calibrated verdicts of drift and reliability, their registry, memory, calibrations and back-tests."""

from alembic import op

from storage.migrations import run_sql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

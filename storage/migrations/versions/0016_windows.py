"""Thresholds for the mean of a subject's newest evaluations, and the windows that scans keep for them."""

from alembic import op

from storage.migrations import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

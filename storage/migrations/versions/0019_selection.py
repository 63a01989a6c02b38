"""Selection: posteriors and recommendations as snapshots that never change, and what people decide about extractors."""

from alembic import op

from storage.migrations import run_sql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

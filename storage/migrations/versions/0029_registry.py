"""The registry of forecasters: any method may serve."""

from alembic import op

from storage.migrations import run_sql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

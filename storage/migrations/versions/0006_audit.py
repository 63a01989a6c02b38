"""The audit log that nobody can change: daily partitions of a role that nobody logs in as, sealed day by day."""

from alembic import op

from storage.migrations import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""The drop folder: how far each dropped file has landed."""

from alembic import op

from storage.migrations import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

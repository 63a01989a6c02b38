"""When a delivery arrived first, whatever was sent again since."""

from alembic import op

from storage.migrations import run_sql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

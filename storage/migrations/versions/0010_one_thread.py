"""Dead letters and grown files told apart by all that was read; receipts with the correlation id of their request."""

from alembic import op

from storage.migrations import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

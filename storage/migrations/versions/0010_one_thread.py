"""Dead letters told apart by what was judged; receipts that carry the correlation id of their request."""

from alembic import op

from storage.migrations import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

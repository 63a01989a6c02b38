"""The share of an extractor that a key falls into, in SQL as in Python."""

from alembic import op

from storage.migrations import run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""Decisions learnt: what people decided that changes what is learnt, as the newest learning knew it."""

from alembic import op

from storage.migrations import run_sql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

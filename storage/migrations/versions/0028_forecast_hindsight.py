"""Of which templates the days before their first verdict have been judged."""

from alembic import op

from storage.migrations import run_sql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

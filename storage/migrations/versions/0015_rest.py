"""An end for what waits behind a dead endpoint, retention of what was told, policies and inhibitions over HTTP."""

from alembic import op

from storage.migrations import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

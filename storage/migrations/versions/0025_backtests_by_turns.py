"""Back-tests by turns: on which day each template was last tried."""

from alembic import op

from storage.migrations import run_sql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

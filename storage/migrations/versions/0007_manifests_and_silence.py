"""What senders declare against what landed and what was refused; and what each one's own rhythm lets expect."""

from alembic import op

from storage.migrations import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

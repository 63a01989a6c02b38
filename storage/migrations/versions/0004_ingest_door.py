"""The door for pushing: what a tenant may send and has sent, and the answers that an Idempotency-Key replays."""

from alembic import op

from storage.migrations import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

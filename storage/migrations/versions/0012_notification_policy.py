"""Who is told of an alert, when and how often; what has been told; what silences and inhibitions kept back."""

from alembic import op

from storage.migrations import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""The warehouse by increments: marks, what models calculate with, and the roles that read marts."""

from alembic import op

from storage.migrations import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

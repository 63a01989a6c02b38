"""The floor plan: schemas raw, access, alerting and ml with what the main job needs."""

from alembic import op

from storage.migrations import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

"""Deliveries claimed endpoint by endpoint: limits, breaker, retry profile and order in the endpoint's own row."""

from alembic import op

from storage.migrations import run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

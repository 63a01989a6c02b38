"""Rules by tier and extractor, with hysteresis; alerts that wait before they fire; re-baselines; evidence."""

from alembic import op

from storage.migrations import run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql(op.get_bind(), __file__)

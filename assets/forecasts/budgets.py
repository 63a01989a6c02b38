"""Budgets: how often a template may alarm without a cause, as a tenant has decided.

Belongs here: that decision, changed with its audit entry. Does not belong here: bounds that keep it (`judging`).
"""

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import lock_tenant

# One false alarm a template in half a year, for each measure.
DEFAULT_BUDGET_WEEKS = 26.0
LEAST_WEEKS, MOST_WEEKS = 1.0, 520.0

_READ = "select budget_weeks from ml.forecast_settings where tenant_id = %s"
_SAVE = """
insert into ml.forecast_settings (tenant_id, budget_weeks) values (%s, %s)
on conflict (tenant_id) do update set budget_weeks = excluded.budget_weeks, updated_at = now()
"""


def read_budget(connection: Connection, tenant_id: str) -> float:
    """One false alarm a template in so many weeks."""
    row = connection.execute(_READ, (tenant_id,)).fetchone()
    return DEFAULT_BUDGET_WEEKS if row is None else row[0]


def set_budget(connection: Connection, tenant_id: str, weeks: float) -> None:
    """Decide it; what has been judged by another budget stands.

    Raises:
        UsageError: no such budget can be kept.
    """
    if not LEAST_WEEKS <= weeks <= MOST_WEEKS:
        raise UsageError(f"budget of {weeks:g} weeks: give one false alarm in {LEAST_WEEKS:g} to {MOST_WEEKS:g} weeks")
    lock_tenant(connection, tenant_id)
    before = read_budget(connection, tenant_id)
    if weeks != before:
        connection.execute(_SAVE, (tenant_id, weeks))
        detail = {"weeks": weeks, "before": before}
        record_audit(connection, tenant_id=tenant_id, action="forecast.budget", subject=tenant_id, detail=detail)

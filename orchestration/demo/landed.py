"""Which sample a database holds already, so that a demo that runs again past midnight pushes the same one.

Belongs here: that one question. Does not belong here: deciding what to do about it.
"""

from datetime import date

from orchestration.demo import scenario
from storage.database import Connection

_NEWEST_SAMPLE = """
select max(substring(record_id from '^sample-([0-9]{8})/'))
from raw.evaluations
where tenant_id = %(tenant_id)s
"""


def landed_last_day(connection: Connection) -> date | None:
    """The last day of the newest sample that has landed, None if none has."""
    # The tenant whose file is landed last: an interrupted demo counts as landed only when it had come that far.
    names = {"tenant_id": scenario.TENANTS[-1].tenant_id}
    row = connection.execute(_NEWEST_SAMPLE, names).fetchone()
    return date.fromisoformat(row[0]) if row and row[0] else None

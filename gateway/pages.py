"""Pages of a mart: one short read-only transaction as a role that sees one tenant's rows.

Belongs here: the SQL of a page, composed from the whitelist alone. Does not belong here: what a request may ask for
(`dashboards`, `parameters`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from gateway.cursors import Position, write_cursor
from gateway.dashboards import Dashboard
from gateway.parameters import Query
from gateway.problems import unavailable
from storage.pool import Pool

STATEMENT_TIMEOUT = timedelta(seconds=5)
REFRESH_TAKES_SECONDS = 60

# One round trip. The role comes last: it may read marts and nothing else.
_BEGIN = """
select
    set_config('transaction_read_only', 'on', true),
    set_config('statement_timeout', %(timeout)s, true),
    set_config('tidemark.tenant_id', %(tenant_id)s, true),
    set_config('role', 'api_reader', true)
"""

# The tenant is asked for although row-level security lets no other's rows through: two locks, and an index.
_PAGE = sql.SQL(
    "select * from marts.{mart} where tenant_id = %(tenant_id)s {conditions} order by {order} limit %(rows)s"
)

_NEWEST_DAY = sql.SQL("select max(date) as newest from marts.{mart} where tenant_id = %(tenant_id)s")

_COMPARED = {
    "=": sql.SQL("and {column} = {value}"),
    ">=": sql.SQL("and {column} >= {value}"),
    "<=": sql.SQL("and {column} <= {value}"),
}
_SINCE = sql.SQL("and date >= %(since)s")
_AFTER = {False: sql.SQL("and ({columns}) > ({values})"), True: sql.SQL("and ({columns}) < ({values})")}
_DIRECTION = {False: sql.SQL("{} asc"), True: sql.SQL("{} desc")}

Cursor = psycopg.Cursor[DictRow]


@dataclass(frozen=True)
class Page:
    """Rows, and where the next ones begin, if there are any."""

    data: list[DictRow]
    next_cursor: str | None


@contextmanager
def reading(pool: Pool, tenant_id: str) -> Iterator[Cursor]:
    """A read-only transaction that sees the marts' rows of one tenant.

    Raises:
        ProblemError: a mart isn't there yet, or the database needed too long.
    """
    timeout = str(STATEMENT_TIMEOUT // timedelta(milliseconds=1))
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_BEGIN, {"timeout": timeout, "tenant_id": tenant_id})
        try:
            yield cursor
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege):
            # Missing, or left by an older version that knew neither this column nor this role.
            detail = "the marts are not built, or not by this version: run `tidemark refresh`, or wait for the sensor"
            raise unavailable(detail, REFRESH_TAKES_SECONDS) from None
        except psycopg.errors.QueryCanceled:
            raise unavailable(f"the database needed more than {timeout} ms; ask for less, or later") from None


def read_page(pool: Pool, query: Query) -> Page:
    """The rows that a checked query asks for, and the cursor of those after them."""
    with reading(pool, query.tenant_id) as cursor:
        since = _since(cursor, query)
        rows = cursor.execute(_statement(query, since), _arguments(query, since)).fetchall()
    data = rows[: query.limit]
    if len(rows) <= query.limit:
        return Page(data, None)
    keys = tuple(_text(data[-1][column]) for column, _ in query.dashboard.order)
    return Page(data, write_cursor(Position(keys, None if since is None else since.isoformat()), query.identity))


def _since(cursor: Cursor, query: Query) -> date | None:
    """First day of the window; the cursor keeps it, so that a day that comes between two pages moves neither."""
    days = query.dashboard.window_days
    if days is None or "from" in query.values:
        return None
    if query.after is not None:
        return query.since
    newest: date | None = query.values.get("to")
    if newest is None:
        statement = _NEWEST_DAY.format(mart=sql.Identifier(query.dashboard.mart))
        row = cursor.execute(statement, {"tenant_id": query.tenant_id}).fetchone()
        newest = None if row is None else row["newest"]
    return None if newest is None else date.fromordinal(max(1, newest.toordinal() - days + 1))


def _statement(query: Query, since: date | None) -> sql.Composed:
    dashboard = query.dashboard
    conditions: list[sql.Composable] = [
        _COMPARED[known.comparison].format(
            column=sql.Identifier(known.column), value=sql.Placeholder(f"filter_{known.name}")
        )
        for known in dashboard.filters
        if known.name in query.values
    ]
    if since is not None:
        conditions.append(_SINCE)
    if query.after is not None:
        conditions.append(_after(dashboard))
    order = [_DIRECTION[dashboard.descending].format(sql.Identifier(column)) for column, _ in dashboard.order]
    return _PAGE.format(
        mart=sql.Identifier(dashboard.mart),
        conditions=sql.SQL(" ").join(conditions),
        order=sql.SQL(", ").join(order),
    )


def _after(dashboard: Dashboard) -> sql.Composed:
    columns = [sql.Identifier(column) for column, _ in dashboard.order]
    values = [sql.Placeholder(f"after_{column}") for column, _ in dashboard.order]
    return _AFTER[dashboard.descending].format(columns=sql.SQL(", ").join(columns), values=sql.SQL(", ").join(values))


def _arguments(query: Query, since: date | None) -> dict[str, Any]:
    after = {f"after_{column}": value for column, value in (query.after or {}).items()}
    filters = {f"filter_{name}": value for name, value in query.values.items()}
    # One more than asked for tells whether there is a next page.
    return {"tenant_id": query.tenant_id, "rows": query.limit + 1, "since": since, **filters, **after}


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)

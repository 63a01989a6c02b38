"""Pages: read in one short read-only transaction as a role that sees one tenant's rows.

Belongs here: that transaction, the rows with the cursor of those after them, the SQL of a mart's page, composed from
the whitelist alone. Does not belong here: what a request may ask for (`dashboards`, `parameters`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from gateway.dashboards import Dashboard
from gateway.listings import Listing
from gateway.parameters import Query
from gateway.problems import unavailable
from storage.database import Connection
from storage.pool import Pool

STATEMENT_TIMEOUT = timedelta(seconds=5)
REFRESH_TAKES_SECONDS = 60

# One round trip. The role comes last: it may only read.
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

    data: Sequence[Mapping[str, Any]]
    next_cursor: str | None


@contextmanager
def seeing(pool: Pool, tenant_id: str) -> Iterator[Connection]:
    """A read-only transaction that sees the rows of one tenant, and of tables those that the door shows.

    Raises:
        ProblemError: the database needed too long.
    """
    timeout = str(STATEMENT_TIMEOUT // timedelta(milliseconds=1))
    with pool.connection() as connection:
        connection.execute(_BEGIN, {"timeout": timeout, "tenant_id": tenant_id})
        try:
            yield connection
        except psycopg.errors.QueryCanceled:
            raise unavailable(f"the database needed more than {timeout} ms; ask for less, or later") from None


@contextmanager
def reading(pool: Pool, tenant_id: str) -> Iterator[Cursor]:
    """The same for marts.

    Raises:
        ProblemError: a mart isn't there yet, or the database needed too long.
    """
    with seeing(pool, tenant_id) as connection, connection.cursor(row_factory=dict_row) as cursor:
        try:
            yield cursor
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege):
            # Missing, or left by an older version that knew neither this column nor this role.
            detail = "the marts are not built, or not by this version: run `tidemark refresh`, or wait for the sensor"
            raise unavailable(detail, REFRESH_TAKES_SECONDS) from None


def page_of(listing: Listing, query: Query, rows: Sequence[Mapping[str, Any]], since: date | None = None) -> Page:
    """A page of rows that were read with one more than the query's limit: whether it came tells if there are more."""
    data = rows[: query.limit]
    if len(rows) <= query.limit:
        return Page(data, None)
    return Page(data, query.cursor_after((_text(data[-1][column]) for column, _ in listing.order), since))


def read_page(pool: Pool, dashboard: Dashboard, query: Query) -> Page:
    """The rows of a mart that a checked query asks for, and the cursor of those after them."""
    with reading(pool, query.tenant_id) as cursor:
        since = _since(cursor, dashboard, query)
        statement = _statement(dashboard, query, since)
        rows = cursor.execute(statement, _arguments(query, since)).fetchall()
    return page_of(dashboard, query, rows, since)


def _since(cursor: Cursor, dashboard: Dashboard, query: Query) -> date | None:
    """First day of the window; the cursor keeps it, so that a day that comes between two pages moves neither."""
    days = dashboard.window_days
    if days is None or "from" in query.values:
        return None
    if query.after is not None:
        return query.since
    newest: date | None = query.values.get("to")
    if newest is None:
        statement = _NEWEST_DAY.format(mart=sql.Identifier(dashboard.mart))
        row = cursor.execute(statement, {"tenant_id": query.tenant_id}).fetchone()
        newest = None if row is None else row["newest"]
    return None if newest is None else date.fromordinal(max(1, newest.toordinal() - days + 1))


def _statement(dashboard: Dashboard, query: Query, since: date | None) -> sql.Composed:
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
    return {"tenant_id": query.tenant_id, "rows": query.limit + 1, "since": since, **filters, **after}


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)

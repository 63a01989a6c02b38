"""A table of `ml` that holds what was computed last: rows are written where they differ, or go.

Belongs here: that one statement, for any such table. Does not belong here: what is in them.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
from psycopg import sql
from psycopg.rows import scalar_row
from psycopg.types.json import Json

from storage.database import Connection

_ONE_WRITER = sql.SQL("lock table ml.{table} in share row exclusive mode")
# The rows come as one JSON array: one statement whatever their number.
_REPLACE = sql.SQL("""
with given as materialized (
    select {columns} from json_populate_recordset(null::ml.{table}, %(rows)s)
),

gone as (
    delete from ml.{table} as stored
    where
        not exists (select 1 from given where ({given_key}) = ({stored_key}))
        and not exists (
            select 1 from unnest(%(tenants)s::text [], %(templates)s::uuid []) as kept (tenant_id, template_id)
            where kept.tenant_id = stored.tenant_id and kept.template_id = stored.template_id
        )
    returning 1
),

written as (
    insert into ml.{table} as stored ({columns})
    select {columns} from given
    on conflict ({key}) do update set ({values}, computed_at) = row({new_values}, now())
    where ({stored_values}) is distinct from ({new_values})
    returning 1
)

select (select count(*) from gone) + (select count(*) from written)
""")


def replace_rows(
    connection: Connection,
    table: str,
    key: Sequence[str],
    row_type: type[NamedTuple],
    rows: Sequence[NamedTuple],
    kept: Collection[tuple[str, UUID]] = (),
) -> int:
    """Make a table of schema `ml` hold exactly these rows, and those of what is kept.

    Args:
        connection: its transaction is the caller's.
        table: its name; it has a column `computed_at`, which changes only with its row.
        key: the columns that its rows are known by.
        row_type: the rows' type, whose fields are the table's columns.
        rows: each key once.
        kept: tenant and template of rows that stay as they are although none are given.

    Returns:
        How many rows are new, changed or gone.
    """
    values = [name for name in row_type._fields if name not in key]
    statement = _REPLACE.format(
        table=sql.Identifier(table),
        columns=_names(row_type._fields),
        key=_names(key),
        given_key=_names(key, "given"),
        stored_key=_names(key, "stored"),
        values=_names(values),
        new_values=_names(values, "excluded"),
        stored_values=_names(values, "stored"),
    )
    documents = Json([row._asdict() for row in rows], dumps=orjson.dumps)
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(_ONE_WRITER.format(table=sql.Identifier(table)))
        values_of = {"rows": documents, "tenants": [at[0] for at in kept], "templates": [at[1] for at in kept]}
        changed = cursor.execute(statement, values_of).fetchone()
    return int(changed or 0)


def _names(columns: Sequence[str], relation: str | None = None) -> sql.Composed:
    prefix = () if relation is None else (relation,)
    return sql.SQL(", ").join(sql.Identifier(*prefix, column) for column in columns)

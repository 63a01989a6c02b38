"""Manifests: what a sender declares to have sent under a batch_key, for the reconciliation to compare with.

Belongs here: rows of `raw.batch_manifests`. Does not belong here: the comparison (mart `batch_reconciliation`).
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from storage.database import Connection

_DECLARE = """
insert into raw.batch_manifests as declared (tenant_id, batch_key, expected, checksum)
values (%(tenant_id)s, %(batch_key)s, %(expected)s, %(checksum)s)
on conflict (tenant_id, batch_key) do update
set expected = excluded.expected, checksum = excluded.checksum, declared_at = excluded.declared_at
where (declared.expected, declared.checksum) is distinct from (excluded.expected, excluded.checksum)
"""

_STORED = """
select batch_key, expected, checksum, declared_at from raw.batch_manifests
where tenant_id = %(tenant_id)s and batch_key = %(batch_key)s
"""


@dataclass(frozen=True)
class Manifest:
    """One declaration: how many records a batch has, and optionally their checksum."""

    batch_key: str
    expected: int
    checksum: str | None
    declared_at: datetime


def declare_manifest(
    connection: Connection, tenant_id: str, batch_key: str, *, expected: int, checksum: str | None = None
) -> Manifest:
    """Store a declaration and return what is stored: the same again changes nothing, another one takes its place.

    Args:
        connection: whatever its mode; two statements.
        tenant_id: an existing tenant.
        batch_key: the sender's own name of the batch, 1 to 200 characters without NUL.
        expected: how many records it has, from 0.
        checksum: of its records, if the sender made one.
    """
    names = {"tenant_id": tenant_id, "batch_key": batch_key, "expected": expected, "checksum": checksum}
    connection.execute(_DECLARE, names)
    with connection.cursor(row_factory=class_row(Manifest)) as cursor:
        stored = cursor.execute(_STORED, names).fetchone()
    assert stored is not None  # noqa: S101 - just written, and nothing deletes manifests
    return stored

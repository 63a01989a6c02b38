"""Manifests: what a sender declares to have sent under a batch_key, for the reconciliation to compare with.

Belongs here: rows of `raw.batch_manifests` and the checksum that a manifest may carry. Does not belong here: the
comparison (mart `batch_reconciliation`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from hashlib import sha256
from operator import xor

from psycopg.rows import class_row, dict_row

from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

MAX_BATCH_KEY_LENGTH = 200
MAX_CHECKSUM_LENGTH = 200
MAX_EXPECTED = 2**63 - 1
_CHECKSUM = re.compile(r"[0-9a-fA-F]{16}")

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

# Of what is due, only a build can say more.
_LIST = """
select
    batch_key, expected, checksum, declared_at, declared_at + raw.manifest_grace() as due_at,
    case when declared_at + raw.manifest_grace() > now() then 'WAITING' end as status
from raw.batch_manifests
where tenant_id = %(tenant_id)s
order by declared_at desc, batch_key
limit %(limit)s
"""

_JUDGED = """
select
    manifests.batch_key, manifests.expected, manifests.checksum, manifests.declared_at,
    manifests.declared_at + raw.manifest_grace() as due_at,
    case
        when judged.status is not null then judged.status
        when manifests.declared_at + raw.manifest_grace() > now() then 'WAITING'
    end as status,
    judged.reason, judged.landed_count as landed, judged.rejected_count as rejected, judged.conflict_count as conflicts,
    judged.never_sent_count as never_sent
from raw.batch_manifests as manifests
left join marts.batch_reconciliation as judged
    on manifests.tenant_id = judged.tenant_id
    and manifests.batch_key = judged.batch_key
    and manifests.declared_at = judged.declared_at
where manifests.tenant_id = %(tenant_id)s
order by manifests.declared_at desc, manifests.batch_key
limit %(limit)s
"""

_HAS_MART = """
select exists (
    select from pg_attribute
    where attrelid = to_regclass('marts.batch_reconciliation') and attname = 'due_at' and not attisdropped
)
"""

# Whoever has landed whole before then is no news; of the others the mart says WAITING, or nothing yet.
_DUE = """
select max(manifests.declared_at)
from raw.batch_manifests as manifests
cross join intermediate.marks as mark
where
    mark.model = 'batch_reconciliation'
    and manifests.declared_at > mark.taken_at - raw.manifest_grace()
    and manifests.declared_at <= now() - raw.manifest_grace()
    and not exists (
        select from marts.batch_reconciliation as judged
        where
            judged.tenant_id = manifests.tenant_id
            and judged.batch_key = manifests.batch_key
            and judged.declared_at = manifests.declared_at
            and judged.status <> 'WAITING'
    )
"""

_DECLARED = """
select exists (
    select from raw.batch_manifests as manifests
    inner join intermediate.marks as mark on manifests.declared_at > mark.taken_at
    where mark.model = 'batch_reconciliation'
)
"""


@dataclass(frozen=True)
class Manifest:
    """One declaration: how many records a batch has, and optionally their checksum."""

    batch_key: str
    expected: int
    checksum: str | None
    declared_at: datetime


def batch_checksum(record_ids: Iterable[str]) -> str:
    """The checksum of a batch: 16 lower-case hexadecimal digits, whatever the order of its records.

    The first 8 bytes of the SHA-256 of each record_id in UTF-8, taken as an unsigned big-endian number, xored; each
    record_id once. Of no record it is 0.

    Args:
        record_ids: those that the records were sent with: one that Tidemark derives is not known to the sender.
    """
    parts = (int.from_bytes(sha256(record_id.encode()).digest()[:8], "big") for record_id in set(record_ids))
    return f"{reduce(xor, parts, 0):016x}"


def declare_manifest(
    connection: Connection, tenant_id: str, batch_key: str, *, expected: int, checksum: str | None = None
) -> Manifest:
    """Store a declaration and return what is stored: the same again changes nothing, another one takes its place.

    Args:
        connection: whatever its mode; two statements.
        tenant_id: an existing tenant.
        batch_key: the sender's own name of the batch, 1 to 200 characters without NUL.
        expected: how many records it has, from 0.
        checksum: of its records, by `batch_checksum`; another one is kept and shown, but there is nothing to compare
            it with.

    Raises:
        UsageError: an unknown tenant, or a value that can't be declared; the message names the field.
    """
    require_tenant(connection, tenant_id)
    if checksum is not None and _CHECKSUM.fullmatch(checksum):
        checksum = checksum.lower()
    _check(batch_key, expected, checksum)
    names = {"tenant_id": tenant_id, "batch_key": batch_key, "expected": expected, "checksum": checksum}
    connection.execute(_DECLARE, names)
    with connection.cursor(row_factory=class_row(Manifest)) as cursor:
        stored = cursor.execute(_STORED, names).fetchone()
    assert stored is not None  # noqa: S101 - just written, and nothing deletes manifests
    return stored


def _check(batch_key: str, expected: int, checksum: str | None) -> None:
    if not 1 <= len(batch_key) <= MAX_BATCH_KEY_LENGTH or "\0" in batch_key:
        raise UsageError(f"batch_key must have 1 to {MAX_BATCH_KEY_LENGTH} characters, none of them NUL")
    if not 0 <= expected <= MAX_EXPECTED:
        raise UsageError("expected must be the number of the batch's records, 0 or more")
    if checksum is not None and (not 1 <= len(checksum) <= MAX_CHECKSUM_LENGTH or "\0" in checksum):
        raise UsageError(f"checksum must have 1 to {MAX_CHECKSUM_LENGTH} characters, none of them NUL")


def list_manifests(connection: Connection, tenant_id: str, *, limit: int = 100) -> list[Mapping[str, object]]:
    """A tenant's newest declarations; with what the last build found, once there was one.

    Raises:
        UsageError: an unknown tenant.
    """
    require_tenant(connection, tenant_id)
    query = _JUDGED if is_reconciled(connection) else _LIST
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, {"tenant_id": tenant_id, "limit": limit}).fetchall()
    return list(rows)


def is_reconciled(connection: Connection) -> bool:
    """Whether the mart `batch_reconciliation` stands, as this version of Tidemark builds it."""
    return connection.execute(_HAS_MART).fetchone() == (True,)


def declared_since_last_build(connection: Connection) -> bool:
    """Whether something was declared that the mart knows nothing of; before the first build it makes no difference."""
    return connection.execute(_DECLARED).fetchone() == (True,)


def overdue_since_last_build(connection: Connection) -> datetime | None:
    """When the newest batch was declared whose grace has ended since the mart was built; None if there is none."""
    if not is_reconciled(connection):
        return None
    row = connection.execute(_DUE).fetchone()
    return row[0] if row else None

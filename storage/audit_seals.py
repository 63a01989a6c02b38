"""The audit log in the database: read, sealed day by day, verified, and dropped once it need no longer be kept.

What may be sealed and what may be dropped is decided by functions of the database (migration 0004). The time is the
server's, because it is the server that times the entries.

Belongs here: rows to `audit_chain`'s values and back. Does not belong here: what is hashed (`audit_chain`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg import errors
from psycopg.rows import class_row

from storage.audit import record_audit
from storage.audit_chain import (
    DIGEST_BYTES,
    Entry,
    Seal,
    Tampering,
    contents_by_day,
    contents_of,
    find_tampering,
    make_seal,
)
from storage.database import Connection
from storage.errors import UsageError
from storage.locks import AdvisoryLock

_ONE_SEALER = "select pg_advisory_xact_lock(%(key)s)"
_NOW = "select clock_timestamp()"
_NEWEST = "select * from access.audit_seals order by day desc limit 1"
_SEALS = "select * from access.audit_seals order by day"
# An empty log's chain begins with the day before: from its first night on, nothing can be added to the past.
_FIRST_DAY = """
select coalesce(
    (select (min(at) at time zone 'UTC')::date from access.audit_log),
    (clock_timestamp() at time zone 'UTC')::date - 1
)
"""
_ENTRIES = """
select entry_id, tenant_id, at, actor, action, subject, detail::text as detail from access.audit_log
where
    at >= coalesce(%(from)s::date::timestamp at time zone 'UTC', '-infinity')
    and at < coalesce(%(before)s::date::timestamp at time zone 'UTC', 'infinity')
order by at, entry_id
"""
_WRITE_SEAL = """
select access.seal_audit_day(row(
    %(day)s, %(entries)s, %(first_entry)s, %(last_entry)s, %(entries_digest)s, %(keep_from)s, %(sealed_at)s,
    %(previous_digest)s, %(digest)s
)::access.audit_seals)
"""
_MAKE_AHEAD = "select access.ensure_audit_days_ahead()"
_ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"
_BECOME_RETENTION = "set local role retention"
_BE_ONESELF = "set local role none"
_RELEASED = "select access.released_audit_days()"
_DROP_RELEASED = "select access.drop_released_audit_days()"
_LATEST = """
select entry_id, tenant_id, at, actor, action, subject, detail::text as detail from access.audit_log
where
    (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and at >= coalesce(%(since)s::timestamptz, '-infinity')
order by at desc, entry_id desc
limit %(limit)s
"""


@dataclass(frozen=True)
class Sealing:
    """What a sealing did.

    Attributes:
        sealed: the seals that it made, by day.
        newest: the newest seal there is now; None if there is none.
        waiting: why the next ended day could not be sealed; None if all ended days are.
    """

    sealed: Sequence[Seal]
    newest: Seal | None
    waiting: str | None = None


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        seals: all there are, by day.
        entries: how many entries were held against them.
        unsealed: how many there are of later days, which nothing can be said about.
    """

    seals: Sequence[Seal]
    entries: int
    unsealed: int
    tampering: Sequence[Tampering]


def latest_entries(
    connection: Connection, *, tenant_id: str | None = None, since: datetime | None = None, limit: int = 100
) -> list[Entry]:
    """The newest entries first; of one tenant, or of all and of none."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        names = {"tenant_id": tenant_id, "since": since, "limit": limit}
        return cursor.execute(_LATEST, names).fetchall()


def make_days_ahead(connection: Connection) -> None:
    """Make the partitions of today and of the coming days, so that an action need not wait for one."""
    connection.execute(_MAKE_AHEAD)


def seal_ended_days(connection: Connection, keep_days: int) -> Sealing:
    """Seal each day that has ended since the newest seal, in a transaction of its own; again is harmless.

    A day waits while a transaction is open that may have written into it; the days after it wait with it.

    Args:
        connection: of the platform, in autocommit mode.
        keep_days: for how many days entries are kept.
    """
    sealed: list[Seal] = []
    waiting: str | None = None
    try:
        while (seal := _seal_next(connection, keep_days)) is not None:
            sealed.append(seal)
    except errors.ObjectNotInPrerequisiteState as refused:
        waiting = refused.diag.message_primary
    return Sealing(sealed, _newest(connection), waiting)


def verify_log(connection: Connection, witnesses: Mapping[date, bytes] | None = None) -> Verification:
    """Calculate every kept day anew and hold it against the seals, in one snapshot.

    Args:
        connection: of the platform, in autocommit mode.
        witnesses: digests of seals by day, as they were kept elsewhere.
    """
    with connection.transaction():
        connection.execute(_ONE_SNAPSHOT)
        with connection.cursor(row_factory=class_row(Seal)) as cursor:
            seals = cursor.execute(_SEALS).fetchall()
        held = contents_by_day(_entries(connection, None, None))
    newest = seals[-1].day if seals else date.min
    return Verification(
        seals,
        entries=sum(contents.entries for day, contents in held.items() if day <= newest),
        unsealed=sum(contents.entries for day, contents in held.items() if day > newest),
        tampering=find_tampering(seals, held, witnesses),
    )


def released_days(connection: Connection) -> list[date]:
    """The days whose entries need no longer be kept and are still there, the oldest first."""
    return _as_retention(connection, _RELEASED)


def drop_released_days(connection: Connection) -> list[date]:
    """Drop the entries of the released days; their seals stay. Returns the days, none if the log is busy."""
    try:
        with connection.transaction():
            days = _as_retention(connection, _DROP_RELEASED)
            if days:
                told = {"from": days[0].isoformat(), "to": days[-1].isoformat()}
                record_audit(connection, tenant_id=None, action="retention.drop", subject="audit_log", detail=told)
    except errors.LockNotAvailable:
        return []
    return days


def read_witness(text: str) -> tuple[date, bytes]:
    """Read `2026-06-01:<64 hexadecimal digits>`, as a verification prints it.

    Raises:
        UsageError: it isn't one.
    """
    day, _, digest = text.partition(":")
    try:
        witness = date.fromisoformat(day), bytes.fromhex(digest)
    except ValueError:
        witness = date.min, b""
    if len(witness[1]) != DIGEST_BYTES:
        raise UsageError(f"a seal looks like 2026-06-01:<64 hexadecimal digits>, not {text!r}")
    return witness


def _seal_next(connection: Connection, keep_days: int) -> Seal | None:
    with connection.transaction():
        connection.execute(_ONE_SEALER, {"key": AdvisoryLock.AUDIT_SEAL.value})
        newest = _newest(connection)
        [[now]] = connection.execute(_NOW).fetchall()
        day = _first_day(connection) if newest is None else newest.day + timedelta(days=1)
        if day >= now.date():
            return None
        contents = contents_of(_entries(connection, day, day + timedelta(days=1)))
        seal = make_seal(contents, newest, day=day, keep_days=keep_days, sealed_at=now)
        connection.execute(_WRITE_SEAL, vars(seal))
    return seal


def _first_day(connection: Connection) -> date:
    [[day]] = connection.execute(_FIRST_DAY).fetchall()
    first: date = day
    return first


def _newest(connection: Connection) -> Seal | None:
    with connection.cursor(row_factory=class_row(Seal)) as cursor:
        return cursor.execute(_NEWEST).fetchone()


def _entries(connection: Connection, first: date | None, before: date | None) -> Iterator[Entry]:
    with connection.cursor("audit_entries", row_factory=class_row(Entry)) as cursor:
        yield from cursor.execute(_ENTRIES, {"from": first, "before": before})


def _as_retention(connection: Connection, query: str) -> list[date]:
    with connection.transaction():
        connection.execute(_BECOME_RETENTION)
        days = [day for (day,) in connection.execute(query.encode())]
        connection.execute(_BE_ONESELF)
    return days

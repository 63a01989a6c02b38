"""Publishing: recommendations stored as snapshots that never change, pointers to those that hold, a notification.

Belongs here: SQL that reads what recommendations are made of and writes them. Does not belong here: how they are made
(`recommendations`), reading what is published (`published`).
"""

from collections.abc import Sequence
from uuid import UUID

from assets.selection.policies import Extractor, read_policies, read_rulings
from assets.selection.published import CHANNEL
from assets.selection.recommendations import Evidence, Found, Publication, recommendations
from assets.selection.snapshots import read_posteriors
from storage.database import Connection

_CHANGES = """
select tenant_id, template_id, extractor_vendor, extractor_model, changed_on, found_on, mean_before, mean_after
from ml.extractor_changes
where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s
"""
_ONE_WRITER = "lock table ml.current_recommendations in share row exclusive mode"
_POINTERS = """
select tenant_id, template_id, snapshot_id from ml.current_recommendations
where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s
"""
_HEADER = """
insert into ml.recommendation_snapshots
    (snapshot_id, posterior_id, tenant_id, template_id, template, decision, reason, extractor_vendor, extractor_model,
     assigned_by, incumbent_vendor, incumbent_model, cheapest_vendor, cheapest_model, exploration_floor, tolerance,
     expected_max, value_remaining)
values
    (%(snapshot_id)s, %(posterior_id)s, %(tenant_id)s, %(template_id)s, %(template)s, %(decision)s, %(reason)s,
     %(extractor_vendor)s, %(extractor_model)s, %(assigned_by)s, %(incumbent_vendor)s, %(incumbent_model)s,
     %(cheapest_vendor)s, %(cheapest_model)s, %(exploration_floor)s, %(tolerance)s, %(expected_max)s,
     %(value_remaining)s)
on conflict (snapshot_id) do nothing
"""
_SHARE = """
insert into ml.extractor_shares
    (snapshot_id, tenant_id, template_id, extractor_vendor, extractor_model, p_best, expected_loss, share_lo, share_hi,
     p_worse_than_incumbent)
values
    (%(snapshot_id)s, %(tenant_id)s, %(template_id)s, %(extractor_vendor)s, %(extractor_model)s, %(p_best)s,
     %(expected_loss)s, %(share_lo)s, %(share_hi)s, %(p_worse_than_incumbent)s)
on conflict (snapshot_id, extractor_vendor, extractor_model) do nothing
"""
_POINT = """
insert into ml.current_recommendations (tenant_id, template_id, snapshot_id)
values (%(tenant_id)s, %(template_id)s, %(snapshot_id)s)
on conflict (tenant_id, template_id) do update set snapshot_id = excluded.snapshot_id, since = now()
"""
_REVIVE = "update ml.recommendation_snapshots set superseded_at = null where snapshot_id = any(%s)"
_SUPERSEDE = "update ml.recommendation_snapshots set superseded_at = now() where snapshot_id = any(%s)"
_FORGET = "delete from ml.current_recommendations where tenant_id = %s and template_id = %s"
_NOTIFY = "select pg_notify(%(channel)s, tenant_id) from unnest(%(tenants)s::text []) as tenant_id"


def publish(connection: Connection, tenant_id: str | None = None) -> list[Publication]:
    """Publish what follows from what is known and decided now, and tell whoever listens; what stays the same stays.

    Args:
        connection: its transaction is the caller's, or one of its own if there is none.
        tenant_id: whose recommendations; everybody's if None.

    Returns:
        All that hold now, the unchanged ones too.
    """
    with connection.transaction():
        connection.execute(_ONE_WRITER)
        found = recommendations(_evidence(connection, tenant_id))
        _write(connection, found, tenant_id)
    return found


def _evidence(connection: Connection, tenant_id: str | None) -> Evidence:
    rulings = read_rulings(connection, tenant_id)
    rows = connection.execute(_CHANGES, {"tenant_id": tenant_id})
    return Evidence(
        templates=read_posteriors(connection, tenant_id),
        policies=read_policies(connection),
        retired={
            tenant: [ruling.extractor for ruling in each if ruling.is_retired] for tenant, each in rulings.items()
        },
        heirs={tenant: [ruling.extractor for ruling in each if ruling.predecessor] for tenant, each in rulings.items()},
        changes={(row[0], row[1], Extractor(row[2], row[3])): Found(*row[4:]) for row in rows},
    )


def _write(connection: Connection, found: Sequence[Publication], tenant_id: str | None) -> None:
    new = {(each.known.tenant_id, each.known.template_id): (each.snapshot_id, each) for each in found}
    with connection.cursor() as cursor:
        old: dict[tuple[str, UUID], UUID] = {
            (tenant, template): stored
            for tenant, template, stored in cursor.execute(_POINTERS, {"tenant_id": tenant_id})
        }
        changed = {key: each.rows() for key, (name, each) in new.items() if old.get(key) != name}
        gone = [key for key in old if key not in new]
        if changed:
            headers = [header for header, _ in changed.values()]
            cursor.executemany(_HEADER, headers)
            cursor.executemany(_SHARE, [share for _, shares in changed.values() for share in shares])
            cursor.executemany(_POINT, headers)
            # What holds again after something else did is the same snapshot.
            cursor.execute(_REVIVE, ([header["snapshot_id"] for header in headers],))
        if gone:
            cursor.executemany(_FORGET, gone)
        moved = [*changed, *gone]
        cursor.execute(_SUPERSEDE, ([old[key] for key in moved if key in old],))
        cursor.execute(_NOTIFY, {"channel": CHANNEL, "tenants": sorted({tenant for tenant, _ in moved})})

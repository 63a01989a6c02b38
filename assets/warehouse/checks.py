"""Checks after every build of the marts: who sees what; what senders declared has arrived, and what they sent is used.

Belongs here: the asset checks. Does not belong here: how leaks are found (`storage.leaks`), what is missing (the mart
`batch_reconciliation`), or what is left out (the mart `selection_quarantine`).
"""

from datetime import timedelta

import dagster as dg

from storage.clock import Clock
from storage.database import Database
from storage.leaks import find_leaks

BATCHES_NAMED = 20
# What nobody has mended in a month stays in the mart; here it would only hide what is new.
_RECENT = timedelta(days=30)
_INCOMPLETE = """
select tenant_id, batch_key, status, reason, landed_count, expected_count, count(*) over () as batches
from marts.batch_reconciliation
where status in ('PARTIAL', 'MISSING') and declared_at >= %(since)s
order by declared_at desc, tenant_id, batch_key
limit %(limit)s
"""

REASONS_NAMED = 20
_QUARANTINED = """
select
    tenant_id, template, extractor_vendor, extractor_model, reason, field, remedy, sum(decision_count)::bigint,
    (sum(sum(decision_count)) over ())::bigint
from marts.selection_quarantine
where date >= %(since)s
group by tenant_id, template, extractor_vendor, extractor_model, reason, field, remedy
order by sum(decision_count) desc, tenant_id, template, extractor_vendor, extractor_model, reason
limit %(limit)s
"""


@dg.asset_check(
    asset=dg.AssetKey(["marts", "dim_tenants"]),
    blocking=True,
    description="Row-level security guards everything that reader roles may read: tables, views and functions.",
)
def readers_see_only_their_tenants(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Nothing that a reader may read shows other tenants' rows."""
    with database.connect() as connection:
        leaks = find_leaks(connection)
    return dg.AssetCheckResult(
        passed=not leaks,
        description=None if not leaks else "; ".join(map(str, leaks)),
        metadata={"leaks": len(leaks)},
    )


@dg.asset_check(
    asset=dg.AssetKey(["marts", "batch_reconciliation"]),
    description="Every batch that a sender has declared in the last 30 days has arrived whole, or may still arrive.",
)
def declared_batches_arrived(
    database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
) -> dg.AssetCheckResult:
    """Name the batches that are missing or not whole; it is for their senders to mend, so it stops nothing."""
    with database.connect() as connection:
        names = {"since": clock.now() - _RECENT, "limit": BATCHES_NAMED}
        found = connection.execute(_INCOMPLETE, names).fetchall()
    told = [
        f"{batch_key} of {tenant_id}: {status}, {landed} of {expected} ({reason})"
        for tenant_id, batch_key, status, reason, landed, expected, _ in found
    ]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) or None,
        metadata={"incomplete_batches": found[0][-1] if found else 0},
    )


@dg.asset_check(
    asset=dg.AssetKey(["marts", "selection_quarantine"]),
    description="Extractor selection uses all that was said of the choices and outcomes of the last 30 days.",
)
def choices_can_be_used(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """Name what is left out, the field to blame and what mends it; selection goes on without, so it stops nothing."""
    with database.connect() as connection:
        names = {"since": (clock.now() - _RECENT).date(), "limit": REASONS_NAMED}
        found = connection.execute(_QUARANTINED, names).fetchall()
    told = [
        f"{template} of {tenant_id}, {vendor}/{model}: {count} left out ({reason}, field {field}). {remedy}"
        for tenant_id, template, vendor, model, reason, field, remedy, count, _ in found
    ]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(told) or None,
        metadata={"decisions_left_out": found[0][-1] if found else 0},
    )

"""Checks of selection: sums that can be, probabilities and shares that add up.

Belongs here: asset checks and their SQL. Does not belong here: what can't be (`evidence`, `policy_value`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.selection.refusals import REMEDY, Refused
from storage.database import Database

TABLE_ROWS = 10
DAILY_SUMS_CAN_BE = dg.AssetCheckSpec(
    "daily_sums_can_be",
    asset="extractor_posteriors",
    description="Every day's sums of feedback can be. Of a template where they can't nothing new is learnt.",
)
LOGGED_SUMS_CAN_BE = dg.AssetCheckSpec(
    "logged_sums_can_be",
    asset="policy_value",
    description="Every template's sums over logged decisions can be. Where they can't the estimates stay as they were.",
)

SUMS = """
select count(*), count(*) filter (where abs(total - 1) > 1e-9)
from (
    select sum(p_best) as total
    from ml.current_recommendations inner join ml.extractor_shares using (snapshot_id)
    group by snapshot_id
) as sums
"""
TILES = """
select
    count(*),
    count(*) filter (where share_lo <> coalesce(before, 0) or (after is null and share_hi <> 1)),
    count(*) filter (where assigned_by = 'share' and share_hi - share_lo < exploration_floor / extractors - 1e-12)
from (
    select
        shares.share_lo,
        shares.share_hi,
        header.assigned_by,
        header.exploration_floor,
        lag(shares.share_hi) over laid as before,
        lead(shares.share_lo) over laid as after,
        count(*) over (partition by shares.snapshot_id) as extractors
    from ml.current_recommendations
    inner join ml.recommendation_snapshots as header using (snapshot_id)
    inner join ml.extractor_shares as shares using (snapshot_id)
    window laid as (
        partition by shares.snapshot_id
        order by shares.extractor_vendor collate "C", shares.extractor_model collate "C"
    )
) as shares
"""


def refusal_check(spec: dg.AssetCheckSpec, refused: Sequence[Refused]) -> dg.AssetCheckResult:
    """Whether every template's sums can be; those that can't are named, with the remedy."""
    metadata: dict[str, Any] = {"templates_refused": len(refused)}
    if refused:
        metadata["refused"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "tenant": each.tenant_id,
                        "template": each.template,
                        "extractor": str(each.extractor),
                        "day": str(each.day or ""),
                        "field": each.field,
                        "value": f"{each.value:.15g}",
                        "why": each.why,
                        "remedy": REMEDY,
                    }
                )
                for each in refused[:TABLE_ROWS]
            ]
        )
    more = f"; and {len(refused) - TABLE_ROWS} templates more" if len(refused) > TABLE_ROWS else ""
    told = "; ".join(map(str, refused[:TABLE_ROWS]))
    return dg.AssetCheckResult(
        check_name=spec.name,
        passed=not refused,
        metadata=metadata,
        description=f"{told}{more}. {REMEDY}." if refused else None,
    )


@dg.asset_check(
    asset="extractor_recommendations",
    blocking=True,
    description="The probabilities of being the best sum to 1 over each template's extractors.",
)
def p_best_sums_to_one(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Every template has exactly one best extractor."""
    with database.connect() as connection:
        row = connection.execute(SUMS).fetchone()
    total, wrong = row or (0, 0)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"templates": total, "violations": wrong})


@dg.asset_check(
    asset="extractor_recommendations",
    blocking=True,
    description="Each template's shares tile [0, 1) without a gap, and none is below its part of the floor.",
)
def shares_tile(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Every key falls to exactly one extractor, and every extractor may be chosen."""
    with database.connect() as connection:
        row = connection.execute(TILES).fetchone()
    total, gaps, starved = row or (0, 0, 0)
    return dg.AssetCheckResult(
        passed=gaps == 0 and starved == 0, metadata={"shares": total, "gaps": gaps, "below_the_floor": starved}
    )

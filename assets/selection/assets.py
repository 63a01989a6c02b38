"""Assets of selection: `extractor_prior`, `extractor_posteriors`, `extractor_recommendations`, `policy_value`; checks.

Belongs here: Dagster's view of them. Does not belong here: the mathematics, SQL (but the checks' own).
"""

from collections.abc import Iterator

import dagster as dg

from assets.selection.decided import learnt_from, read_decided
from assets.selection.findings import write_changes, write_priors, write_values
from assets.selection.history import read_groups
from assets.selection.knowledge import ArmChange, ArmPrior, know
from assets.selection.policies import read_policies, read_rulings
from assets.selection.publishing import publish
from assets.selection.refusals import Refused, whose
from assets.selection.snapshots import TemplatePosteriors, one_learner, read_posteriors, write_posteriors
from assets.selection.told import (
    posterior_metadata,
    prior_metadata,
    recommendation_metadata,
    refusal_check,
    value_metadata,
)
from assets.selection.values import estimate_values
from storage.database import Database

EXTRACTOR_PERFORMANCE_DAILY = dg.AssetKey(["marts", "extractor_performance_daily"])
DAILY_SUMS_CAN_BE = "daily_sums_can_be"
LOGGED_SUMS_CAN_BE = "logged_sums_can_be"
_GROUP = "selection"
_OWNERS = ["team:tidemark"]
_KINDS = {"python", "postgres"}

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


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "extractor_prior",
            deps=[EXTRACTOR_PERFORMANCE_DAILY],
            description=(
                "What is assumed of each extractor on a template before its own feedback, learnt from the tenant's "
                "other templates (correlated empirical Bayes), from an earlier version, or uniform for want of data."
            ),
            group_name=_GROUP,
            owners=_OWNERS,
            kinds=_KINDS,
        ),
        dg.AssetSpec(
            "extractor_posteriors",
            deps=[EXTRACTOR_PERFORMANCE_DAILY],
            description=(
                "Beta posterior of each extractor's success rate or field accuracy on each template, begun anew where "
                "its quality has changed: mean and 95 % credible interval, as snapshots that never change."
            ),
            group_name=_GROUP,
            owners=_OWNERS,
            kinds=_KINDS,
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            DAILY_SUMS_CAN_BE,
            asset="extractor_posteriors",
            description="Every day's sums of feedback can be. Of a template where they can't nothing new is learnt.",
        )
    ],
)
def learn_of_extractors(
    database: dg.ResourceParam[Database],
) -> Iterator[dg.MaterializeResult[None]]:
    """Learn from all daily feedback, and store priors, posteriors and changes in one transaction.

    What was known of a template whose sums can't be stays as it is.
    """
    templates: list[TemplatePosteriors] = []
    priors: list[ArmPrior] = []
    changes: list[ArmChange] = []
    refused: list[Refused] = []
    silent = 0
    with database.connect() as connection:
        one_learner(connection)
        decided = read_decided(connection)
        rulings = read_rulings(connection)
        for group in read_groups(connection, read_policies(connection)):
            found = know(group, rulings)
            templates += found.templates
            priors += found.priors
            changes += found.changes
            refused += found.refused
            silent += group.templates_without_feedback
        kept = whose(refused)
        rewritten = write_priors(connection, priors, kept)
        changed = write_posteriors(connection, templates, kept)
        write_changes(connection, changes, kept)
        learnt_from(connection, decided)
    yield dg.MaterializeResult(asset_key="extractor_prior", metadata=prior_metadata(priors, templates, rewritten))
    yield dg.MaterializeResult(
        asset_key="extractor_posteriors",
        metadata=posterior_metadata(templates, changes)
        | {
            "templates_changed": changed,
            "templates_without_feedback": silent,
            "templates_refused": len(refused),
        },
        check_results=[refusal_check(DAILY_SUMS_CAN_BE, refused)],
    )


@dg.asset(
    deps=["extractor_posteriors"],
    description=(
        "What to do with each template (promote, keep, explore, stop, insufficient, alarm) and why; each extractor's "
        "probability of being best and its share of the decisions, as snapshots that never change. Computed and stored "
        "here; the mart of the same name (marts/extractor_recommendations) shows it to BI and SQL."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds=_KINDS,
)
def extractor_recommendations(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Publish what follows from the posteriors and from what people decided."""
    with database.connect() as connection:
        published = publish(connection)
    return dg.MaterializeResult(metadata=recommendation_metadata(published))


@dg.asset(
    deps=["extractor_posteriors", EXTRACTOR_PERFORMANCE_DAILY],
    description=(
        "What each extractor's objective would have been, had it been used always in the last 90 days: off-policy "
        "estimates (IPS, SNIPS, doubly robust) from logged propensities, or why the logs can't tell. Computed and "
        "stored here; the mart of the same name (marts/policy_value) shows it to BI."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds=_KINDS,
    check_specs=[
        dg.AssetCheckSpec(
            LOGGED_SUMS_CAN_BE,
            asset="policy_value",
            description="Every template's sums over logged decisions can be. Where they can't the estimates stay as "
            "they were.",
        )
    ],
)
def policy_value(database: dg.ResourceParam[Database]) -> Iterator[dg.MaterializeResult[None]]:
    """Estimate what other choices would have been worth, and store it."""
    with database.connect() as connection:
        values, refused = estimate_values(connection, read_posteriors(connection))
        changed = write_values(connection, values, whose(refused))
    yield dg.MaterializeResult(
        metadata=value_metadata(values, changed), check_results=[refusal_check(LOGGED_SUMS_CAN_BE, refused)]
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


def definitions() -> list[dg.AssetsDefinition]:
    """The selection's assets and checks, for orchestration."""
    return [learn_of_extractors, extractor_recommendations, policy_value, p_best_sums_to_one, shares_tile]

"""Assets of selection: `extractor_prior`, `extractor_posteriors`, `extractor_recommendations`, `policy_value`; checks.

Belongs here: Dagster's view of them. Does not belong here: the mathematics, SQL (but the checks' own).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.figures import markdown
from assets.selection.findings import write_changes, write_priors, write_values
from assets.selection.history import read_groups
from assets.selection.knowledge import ArmChange, ArmPrior, know
from assets.selection.plots import density_figure
from assets.selection.policies import read_policies, read_rulings
from assets.selection.publishing import publish
from assets.selection.recommendations import Publication
from assets.selection.snapshots import TemplatePosteriors, one_learner, read_posteriors, write_posteriors
from assets.selection.values import estimate_values
from storage.database import Database

EXTRACTOR_PERFORMANCE_DAILY = dg.AssetKey(["marts", "extractor_performance_daily"])
TABLE_ROWS = 10
PANELS = 4
CLEAR = 0.95
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
)
def learn_of_extractors(database: dg.ResourceParam[Database]) -> Iterator[dg.MaterializeResult[None]]:
    """Learn from all daily feedback, and store priors, posteriors and changes in one transaction."""
    templates: list[TemplatePosteriors] = []
    priors: list[ArmPrior] = []
    changes: list[ArmChange] = []
    silent = 0
    with database.connect() as connection:
        one_learner(connection)
        rulings = read_rulings(connection)
        for group in read_groups(connection, read_policies(connection)):
            found = know(group, rulings)
            templates += found.templates
            priors += found.priors
            changes += found.changes
            silent += group.templates_without_feedback
        rewritten = write_priors(connection, priors)
        changed = write_posteriors(connection, templates)
        write_changes(connection, changes)
    yield dg.MaterializeResult(asset_key="extractor_prior", metadata=_prior_metadata(priors, rewritten))
    yield dg.MaterializeResult(
        asset_key="extractor_posteriors",
        metadata=_posterior_metadata(templates, changes)
        | {"templates_changed": changed, "templates_without_feedback": silent},
    )


@dg.asset(
    deps=["extractor_posteriors"],
    description=(
        "What to do with each template (promote, keep, explore, stop, insufficient, alarm) and why; each extractor's "
        "probability of being best and its share of the decisions, as snapshots that never change."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds=_KINDS,
)
def extractor_recommendations(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Publish what follows from the posteriors and from what people decided."""
    with database.connect() as connection:
        published = publish(connection)
    counts = {
        f"decided_{kind}": sum(each.decision.decision == kind for each in published)
        for kind in ("promote", "keep", "explore", "stop", "insufficient", "alarm")
    }
    contested = [each for each in published if len(each.shares) > 1]
    metadata: dict[str, Any] = {
        "templates": len(published),
        "templates_with_a_choice": len(contested),
        "templates_with_a_clear_best": sum(max(share.p_best for share in each.shares) >= CLEAR for each in contested),
        "templates_overridden": sum(each.is_overridden for each in published),
        **counts,
    }
    if published:
        ranked = sorted(published, key=_urgency)
        metadata["recommendations"] = dg.MetadataValue.table([_recommended(each) for each in ranked[:TABLE_ROWS]])
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    deps=["extractor_posteriors", EXTRACTOR_PERFORMANCE_DAILY],
    description=(
        "What each extractor's objective would have been, had it been used always in the last 90 days: off-policy "
        "estimates (IPS, SNIPS, doubly robust) from logged propensities, or why the logs can't tell."
    ),
    group_name=_GROUP,
    owners=_OWNERS,
    kinds=_KINDS,
)
def policy_value(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Estimate what other choices would have been worth, and store it."""
    with database.connect() as connection:
        values = estimate_values(connection, read_posteriors(connection))
        changed = write_values(connection, values)
    told = [value for value in values if value.estimator == "dr" and value.gain is not None]
    gains = sorted(told, key=lambda value: -(value.gain or 0))
    metadata: dict[str, Any] = {
        "extractors": len(values) // 3,
        "extractors_estimated": len(told),
        "surely_better_than_what_was_done": sum((value.gain_lower or 0) > 0 for value in told),
        "rows_changed": changed,
    }
    if gains:
        metadata["largest_gains"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "tenant": value.tenant_id,
                        "template": value.template,
                        "extractor": f"{value.extractor_vendor}/{value.extractor_model}",
                        "would_have_been": round(value.estimate or 0, 4),
                        "gain": round(value.gain or 0, 4),
                        "interval_95": f"{value.gain_lower:+.3f} to {value.gain_upper:+.3f}",
                    }
                )
                for value in gains[:TABLE_ROWS]
            ]
        )
    return dg.MaterializeResult(metadata=metadata)


def _prior_metadata(priors: Sequence[ArmPrior], rewritten: int) -> dict[str, Any]:
    bases = sorted({prior.basis for prior in priors})
    return {
        "extractors": len(priors),
        "rows_changed": rewritten,
        **{f"from_{basis.replace(' ', '_')}": sum(prior.basis == basis for prior in priors) for basis in bases},
    }


def _posterior_metadata(templates: Sequence[TemplatePosteriors], changes: Sequence[ArmChange]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "templates": len(templates),
        "extractors": sum(len(known.arms) for known in templates),
        "feedback_count": sum(arm.feedback_count for known in templates for arm in known.arms),
        "extractors_changed": len(changes),
    }
    if templates:
        ranked = sorted(templates, key=_interest)
        rows = [(known, arm) for known in ranked for arm in sorted(known.arms, key=lambda arm: -arm.mean)]
        metadata["posteriors"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "tenant": known.tenant_id,
                        "template": known.template,
                        "extractor": str(arm.extractor),
                        "objective": known.objective,
                        "n": arm.feedback_count,
                        "mean": round(arm.mean, 4),
                        "interval_95": f"{arm.lower:.3f} - {arm.upper:.3f}",
                        "since": str(arm.restarted_on or ""),
                    }
                )
                for known, arm in rows[:TABLE_ROWS]
            ]
        )
        metadata["posterior_densities"] = dg.MetadataValue.md(
            markdown(density_figure(ranked[:PANELS]), "posterior densities")
        )
    return metadata


def _interest(known: TemplatePosteriors) -> tuple[bool, float, str, str]:
    """Templates with a choice first, and of those where the extractors' rates are furthest apart."""
    means = [arm.mean for arm in known.arms if arm.feedback_count]
    return len(known.arms) == 1, min(means) - max(means), known.tenant_id, known.template


def _urgency(each: Publication) -> tuple[int, float, str, str]:
    """Alarms first, then what is to be changed, then by what there is to gain."""
    order = ("alarm", "promote", "stop", "explore", "insufficient", "keep")
    return order.index(each.decision.decision), -each.value_remaining, each.known.tenant_id, each.known.template


def _recommended(each: Publication) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "tenant": each.known.tenant_id,
            "template": each.known.template,
            "decision": each.decision.decision,
            "use": str(each.recommended),
            "reason": each.decision.reason,
        }
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

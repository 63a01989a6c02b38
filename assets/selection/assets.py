"""Assets of selection: `extractor_prior`, `extractor_posteriors`, `extractor_recommendations`, `policy_value`.

Belongs here: Dagster's view of them. Does not belong here: the mathematics, SQL, checks (`checks`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.figures import markdown
from assets.selection.checks import (
    DAILY_SUMS_CAN_BE,
    LOGGED_SUMS_CAN_BE,
    TABLE_ROWS,
    p_best_sums_to_one,
    refusal_check,
    shares_tile,
)
from assets.selection.decided import learnt_from, read_decided
from assets.selection.findings import write_changes, write_priors, write_values
from assets.selection.history import read_groups
from assets.selection.knowledge import ArmChange, ArmPrior, know
from assets.selection.plots import density_figure
from assets.selection.policies import read_policies, read_rulings
from assets.selection.publishing import publish
from assets.selection.recommendations import Publication
from assets.selection.refusals import Refused, whose
from assets.selection.snapshots import TemplatePosteriors, one_learner, read_posteriors, write_posteriors
from assets.selection.values import ArmValue, estimate_values
from storage.database import Database

EXTRACTOR_PERFORMANCE_DAILY = dg.AssetKey(["marts", "extractor_performance_daily"])
PANELS = 4
CLEAR = 0.95
_DECISIONS = ("promote", "keep", "explore", "stop", "insufficient", "alarm")
_GROUP = "selection"
_OWNERS = ["team:tidemark"]
_KINDS = {"python", "postgres"}


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
    check_specs=[DAILY_SUMS_CAN_BE],
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
    yield dg.MaterializeResult(asset_key="extractor_prior", metadata=_prior_metadata(priors, templates, rewritten))
    yield dg.MaterializeResult(
        asset_key="extractor_posteriors",
        metadata=_posterior_metadata(templates, changes)
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
    return dg.MaterializeResult(metadata=_recommendation_metadata(published))


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
    check_specs=[LOGGED_SUMS_CAN_BE],
)
def policy_value(database: dg.ResourceParam[Database]) -> Iterator[dg.MaterializeResult[None]]:
    """Estimate what other choices would have been worth, and store it."""
    with database.connect() as connection:
        values, refused = estimate_values(connection, read_posteriors(connection))
        changed = write_values(connection, values, whose(refused))
    yield dg.MaterializeResult(
        metadata=_value_metadata(values, changed), check_results=[refusal_check(LOGGED_SUMS_CAN_BE, refused)]
    )


def _prior_metadata(
    priors: Sequence[ArmPrior], templates: Sequence[TemplatePosteriors], rewritten: int
) -> dict[str, Any]:
    """How many priors come from where, and those that say most: whoever weighs most before any feedback."""
    names = {(known.tenant_id, known.template_id): known.template for known in templates}
    bases = sorted({prior.basis for prior in priors})
    metadata: dict[str, Any] = {
        "extractors": len(priors),
        "rows_changed": rewritten,
        **{f"from_{basis.replace(' ', '_')}": sum(prior.basis == basis for prior in priors) for basis in bases},
    }
    if priors:
        weightiest = sorted(priors, key=lambda prior: (-prior.alpha - prior.beta, *prior[:4]))
        metadata["priors"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "tenant": prior.tenant_id,
                        "template": names[prior.tenant_id, prior.template_id],
                        "extractor": f"{prior.extractor_vendor}/{prior.extractor_model}",
                        "objective": prior.objective,
                        "mean": round(prior.alpha / (prior.alpha + prior.beta), 4),
                        "weighs_feedbacks": round(prior.alpha + prior.beta, 2),
                        "basis": prior.basis,
                    }
                )
                for prior in weightiest[:TABLE_ROWS]
            ]
        )
    return metadata


def _posterior_metadata(templates: Sequence[TemplatePosteriors], changes: Sequence[ArmChange]) -> dict[str, Any]:
    """What is known now: the templates with a choice whose extractors' rates are furthest apart, drawn too."""
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


def _recommendation_metadata(published: Sequence[Publication]) -> dict[str, Any]:
    """How many templates were decided how; what is most urgent."""
    counts = {f"decided_{kind}": sum(each.decision.decision == kind for each in published) for kind in _DECISIONS}
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
    return metadata


def _value_metadata(values: Sequence[ArmValue], changed: int) -> dict[str, Any]:
    """How many extractors could be estimated, and with whom most would have been gained."""
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


def definitions() -> list[dg.AssetsDefinition]:
    """The selection's assets and checks, for orchestration."""
    return [learn_of_extractors, extractor_recommendations, policy_value, p_best_sums_to_one, shares_tile]

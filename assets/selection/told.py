"""What runs of selection tell on Dagster's page: key numbers, tables of what matters most, a picture, refusals.

Belongs here: metadata and results of checks. Does not belong here: what they are told of (`assets`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.figures import markdown
from assets.selection.knowledge import ArmChange, ArmPrior
from assets.selection.plots import density_figure
from assets.selection.recommendations import Publication
from assets.selection.refusals import REMEDY, Refused
from assets.selection.snapshots import TemplatePosteriors
from assets.selection.values import ArmValue

TABLE_ROWS = 10
PANELS = 4
CLEAR = 0.95
_DECISIONS = ("promote", "keep", "explore", "stop", "insufficient", "alarm")


def prior_metadata(
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


def posterior_metadata(templates: Sequence[TemplatePosteriors], changes: Sequence[ArmChange]) -> dict[str, Any]:
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


def recommendation_metadata(published: Sequence[Publication]) -> dict[str, Any]:
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


def value_metadata(values: Sequence[ArmValue], changed: int) -> dict[str, Any]:
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


def refusal_check(name: str, refused: Sequence[Refused]) -> dg.AssetCheckResult:
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
        check_name=name,
        passed=not refused,
        metadata=metadata,
        description=f"{told}{more}. {REMEDY}." if refused else None,
    )


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

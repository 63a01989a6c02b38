"""Asset `extractor_posteriors` and its check: reads marts.extractor_performance, writes ml.extractor_posteriors.

Belongs here: Dagster's view of posteriors. Does not belong here: the mathematics (posteriors.py), SQL (tables.py) but
the check's own.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.figures import markdown
from assets.selection.plots import density_figure
from assets.selection.tables import (
    Arm,
    posterior_rows,
    read_counts,
    templates_with_feedback,
    write_posteriors,
)
from storage.database import Database

EXTRACTOR_PERFORMANCE = dg.AssetKey(["marts", "extractor_performance"])
TABLE_ROWS = 10
PANELS = 4
CLEAR = 0.95

SUMS = """
select count(*), count(*) filter (where abs(total - 1) > 1e-9)
from (select sum(p_best) as total from ml.extractor_posteriors group by tenant_id, template_id) as sums
"""


@dg.asset(
    group_name="selection",
    owners=["team:tidemark"],
    kinds={"python", "postgres"},
    deps=[EXTRACTOR_PERFORMANCE],
    description=(
        "Beta posterior of each extractor's success rate on each template, from its newest feedback: mean, 95 % "
        "credible interval and the probability of being the template's best."
    ),
)
def extractor_posteriors(database: dg.ResourceParam[Database]) -> dg.MaterializeResult[None]:
    """Compute the posteriors of all templates with feedback and store them, in one transaction."""
    with database.connect() as connection:
        counts = read_counts(connection)
        templates = posterior_rows(templates_with_feedback(counts))
        arms = [arm for template in templates for arm in template]
        changed = write_posteriors(connection, arms)
    metadata = _metadata(templates, arms) | {
        "rows_changed": changed,
        "templates_without_feedback": len({(row.tenant_id, row.template_id) for row in counts}) - len(templates),
    }
    return dg.MaterializeResult(metadata=metadata)


def _metadata(templates: Sequence[Sequence[Arm]], arms: Sequence[Arm]) -> dict[str, Any]:
    contested = [template for template in templates if len(template) > 1]
    metadata: dict[str, Any] = {
        "templates": len(templates),
        "templates_with_a_choice": len(contested),
        "templates_with_a_clear_best": sum(max(arm.p_best for arm in template) >= CLEAR for template in contested),
        "extractors": len(arms),
        "feedback_count": sum(arm.feedback_count for arm in arms),
    }
    ranked = sorted(templates, key=_interest)
    rows = [arm for template in ranked for arm in sorted(template, key=lambda arm: -arm.p_best)]
    if rows:
        metadata["posteriors"] = dg.MetadataValue.table([_record(arm) for arm in rows[:TABLE_ROWS]])
        metadata["posterior_densities"] = dg.MetadataValue.md(
            markdown(density_figure(ranked[:PANELS]), "posterior densities")
        )
    return metadata


def _interest(template: Sequence[Arm]) -> tuple[bool, float, str, str]:
    """Templates with a choice first, and of those where the extractors' rates are furthest apart."""
    means = [arm.mean for arm in template if arm.feedback_count]
    return len(template) == 1, min(means) - max(means), template[0].tenant_id, template[0].template


def _record(arm: Arm) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "tenant": arm.tenant_id,
            "template": arm.template,
            "extractor": f"{arm.extractor_vendor}/{arm.extractor_model}",
            "n": arm.feedback_count,
            "mean": round(arm.mean, 4),
            "interval_95": f"{arm.lower:.3f} - {arm.upper:.3f}",
            "p_best": round(arm.p_best, 4),
        }
    )


@dg.asset_check(
    asset=extractor_posteriors,
    blocking=True,
    description="The probabilities of being the best sum to 1 over each template's extractors.",
)
def p_best_sums_to_one(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Every template has exactly one best extractor."""
    with database.connect() as connection:
        row = connection.execute(SUMS).fetchone()
    total, wrong = row or (0, 0)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"templates": total, "violations": wrong})


def definitions() -> list[dg.AssetsDefinition]:
    """The selection's assets and checks, for orchestration."""
    return [extractor_posteriors, p_best_sums_to_one]

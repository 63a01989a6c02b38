"""Rows of what selection has learnt and published, planted without a refresh."""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

from assets.evaluations.contract import template_id
from assets.selection.publishing import publish
from assets.selection.snapshots import ArmPosterior, TemplatePosteriors, read_posteriors, write_posteriors
from storage.database import Connection

_SNAPSHOT = """
with known as (
    insert into ml.posterior_snapshots (posterior_id, tenant_id, template_id, template, objective, evidence_to)
    values (%(snapshot_id)s, %(tenant_id)s, %(template_id)s, %(template)s, 'success', '2026-01-01')
    on conflict do nothing
)

insert into ml.recommendation_snapshots
    (snapshot_id, posterior_id, tenant_id, template_id, template, decision, reason, extractor_vendor, extractor_model,
     assigned_by, exploration_floor, tolerance, expected_max, value_remaining)
values
    (%(snapshot_id)s, %(snapshot_id)s, %(tenant_id)s, %(template_id)s, %(template)s, 'explore', 'planted', 'v', 'm',
     'share', 0.05, 0.01, 0.5, 0.5)
"""
_SHARE = """
insert into ml.extractor_shares
    (snapshot_id, tenant_id, template_id, extractor_vendor, extractor_model, p_best, expected_loss, share_lo, share_hi)
values
    (%(snapshot_id)s, %(tenant_id)s, %(template_id)s, %(vendor)s, %(model)s, %(share)s, 0, %(share_lo)s, %(share_hi)s)
"""


def plant_shares(
    connection: Connection, snapshot_id: str, tenant: str, template: str, shares: Mapping[tuple[str, str], float]
) -> None:
    """Write a snapshot down that gave each (vendor, model) this share, in this order."""
    about = {
        "snapshot_id": snapshot_id,
        "tenant_id": tenant,
        "template_id": template_id(tenant, template),
        "template": template,
    }
    connection.execute(_SNAPSHOT, about)
    low = 0.0
    for (vendor, model), share in shares.items():
        bounds = {"share_lo": low, "share_hi": low + share, "share": share}
        connection.execute(_SHARE, about | {"vendor": vendor, "model": model} | bounds)
        low += share


def arm(vendor: str, model: str, good: int, bad: int, cost: float | None = None) -> ArmPosterior:
    """An extractor with so many successes and failures, begun with a uniform prior; its interval is made up."""
    alpha, beta = 1.0 + good, 1.0 + bad
    mean = alpha / (alpha + beta)
    counts = good + bad, good, bad, float(good + bad)
    return ArmPosterior(vendor, model, *counts, alpha, beta, mean, 0.9 * mean, 0.1 + 0.9 * mean, None, cost, None)


def known(
    tenant: str, template: str, arms: Sequence[ArmPosterior], evidence_to: date = date(2026, 5, 10)
) -> TemplatePosteriors:
    """What is known of a template."""
    ordered = sorted(arms, key=lambda arm: arm.extractor)
    identity: UUID = template_id(tenant, template)
    return TemplatePosteriors(tenant, identity, template, "success", evidence_to, ordered)


def plant_recommendation(connection: Connection, tenant: str, template: str, arms: Sequence[ArmPosterior]) -> None:
    """Learn and publish as a refresh would, of one template more."""
    mine = known(tenant, template, arms)
    others = [each for each in read_posteriors(connection) if (each.tenant_id, each.template) != (tenant, template)]
    write_posteriors(connection, [*others, mine])
    publish(connection)

"""Alerts and deliveries as Dagster sees them: external assets, observed once a minute, with a health check each.

Belongs here: reporting how they stand without a run. Does not belong here: what is healthy (`sensors.health`), writing
alerts (`sensors.alerts.sensors`) and sending deliveries (`sensors.webhooks.sensors`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from sensors.alerts.sensors import ALERTS
from sensors.health import AlertHealth, DeliveryHealth, read_alert_health, read_delivery_health
from storage.clock import Clock
from storage.database import Database

DELIVERIES = dg.AssetKey("webhook_deliveries")
INTERVAL_SECONDS = 60
_JUDGED = "evaluations_are_judged"
_ARRIVE = "deliveries_arrive"


def deliveries_asset() -> dg.AssetSpec:
    """The delivery log as an external asset: whoever drains the outbox writes it, no run does."""
    return dg.AssetSpec(
        DELIVERIES,
        deps=[ALERTS],
        group_name="alerting",
        owners=["team:tidemark"],
        kinds={"postgres"},
        description="What was told to which endpoint (alerting.webhook_deliveries), written by the sensor "
        "`webhook_deliveries` and by dispatchers.",
    )


@dg.asset_check(
    asset=ALERTS, name=_JUDGED, description="What has landed was held against the thresholds within five minutes."
)
def evaluations_are_judged(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Nothing that landed waits long for a scan."""
    with database.connect(autocommit=True) as connection:
        health = read_alert_health(connection)
    return dg.AssetCheckResult(**_judgement(health.problems, _told_of_alerts(health)))


@dg.asset_check(
    asset=DELIVERIES,
    name=_ARRIVE,
    description="No delivery is due for more than five minutes, no endpoint is disabled or cut off, and nothing failed "
    "for good in the last day.",
)
def deliveries_arrive(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
    """Name what somebody should look after, with the remedy."""
    with database.connect(autocommit=True) as connection:
        health = read_delivery_health(connection, clock.now())
    return dg.AssetCheckResult(**_judgement(health.problems, _told_of_deliveries(health)))


@dg.sensor(
    name="alerting_health",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes the assets alerts and webhook_deliveries and judges their health, whenever something has "
    "changed and once an hour.",
)
def alerting_health(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]
) -> dg.SensorResult | dg.SkipReason:
    """A tick; its message says how things stand."""
    now = clock.now()
    with database.connect(autocommit=True) as connection:
        alerts, deliveries = read_alert_health(connection), read_delivery_health(connection, now)
    problems = [*alerts.problems, *deliveries.problems]
    message = "; ".join(problems) or _in_words(alerts, deliveries)
    # An event whenever a tick finds what the last one found would be 3,000 a day that say nothing.
    standing = f"{now:%Y-%m-%dT%H} {len(problems)} {_in_words(alerts, deliveries)}"
    if standing == context.cursor:
        return dg.SkipReason(message)
    of_alerts, of_deliveries = _told_of_alerts(alerts), _told_of_deliveries(deliveries)
    return dg.SensorResult(
        asset_events=[
            dg.AssetObservation(ALERTS, metadata=of_alerts),
            dg.AssetObservation(DELIVERIES, metadata=of_deliveries),
            dg.AssetCheckEvaluation(asset_key=ALERTS, check_name=_JUDGED, **_judgement(alerts.problems, of_alerts)),
            dg.AssetCheckEvaluation(
                asset_key=DELIVERIES, check_name=_ARRIVE, **_judgement(deliveries.problems, of_deliveries)
            ),
        ],
        skip_reason=dg.SkipReason(message),
        cursor=standing,
    )


def _judgement(problems: Sequence[str], told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "passed": not problems,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": "; ".join(problems) or None,
        "metadata": told,
    }


def _told_of_alerts(health: AlertHealth) -> dict[str, Any]:
    oldest = health.oldest_firing_at
    return {
        "firing": sum(health.firing.values()),
        **{f"firing_{severity}": count for severity, count in health.firing.items()},
        "unacknowledged": health.unacknowledged,
        "oldest_firing_since": "none" if oldest is None else oldest.isoformat(),
        "waiting_batches": health.waiting_batches,
        "waiting_seconds": round(health.waiting_age.total_seconds()),
    }


def _told_of_deliveries(health: DeliveryHealth) -> dict[str, Any]:
    return {
        **{state: health.open_by_state.get(state, 0) for state in ("pending", "in_flight", "retry", "parked")},
        "oldest_due_seconds": round(health.oldest_due_age.total_seconds()),
        "failed_last_day": health.failed_last_day,
        "endpoints_not_served": len(health.unserved),
    }


def _in_words(alerts: AlertHealth, deliveries: DeliveryHealth) -> str:
    waiting = sum(deliveries.open_by_state.values())
    return (
        f"{sum(alerts.firing.values())} alerts fire, {alerts.unacknowledged} of them unacknowledged; "
        f"{waiting} deliveries open, {deliveries.failed_last_day} failed in the last day, "
        f"{len(deliveries.unserved)} endpoints not served"
    )

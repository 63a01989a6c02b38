"""Evaluations to land for tests of alerts, and a view of what came of them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from assets.evaluations.contract import template_id
from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from storage.database import Connection

NOW = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)


def evaluation(number: int, *, at: datetime | None = None, **fields: object) -> Mapping[str, object]:
    """A healthy evaluation, `number` seconds after an hour before NOW, changed by `fields` (None removes one)."""
    record = {
        "record_id": f"r{number}",
        "evaluation_id": str(UUID(int=number)),
        "template": "invoice",
        "extractor_vendor": "vendor-a",
        "extractor_model": "model-1",
        "drift_score": 0.1,
        "reliability_score": 0.95,
        "created_at": (at or NOW - timedelta(hours=1) + timedelta(seconds=number)).isoformat(),
    } | fields
    return {name: value for name, value in record.items() if value is not None}


def push(connection: Connection, tenant: str, records: Sequence[Mapping[str, object]], now: datetime = NOW) -> None:
    """Land one batch in which every record is accepted or a duplicate."""
    lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
    receipt = land(connection, tenant, "evaluations", lines, door="test", now=now)
    assert not receipt.problems


def alerts(connection: Connection) -> list[tuple[object, ...]]:
    """Every alert without what differs from run to run."""
    return connection.execute(
        """select tenant_id, event_type, template, extractor_vendor, extractor_model, epoch, status, value,
                  breach_count, evaluation_count, consecutive_ok, window_start, window_end, evaluation_id
           from alerting.alerts order by 1, 2, 3, 4, 5, 6"""
    ).fetchall()


def events(connection: Connection, event_type: str | None = None) -> list[dict[str, object]]:
    """The outbox's bodies in order."""
    rows = connection.execute(
        "select body from alerting.events where %(type)s::text is null or event_type = %(type)s order by seq",
        {"type": event_type},
    )
    return [json.loads(row[0]) for row in rows]


def statuses(connection: Connection, event_type: str) -> list[object]:
    """What has been told of an event type, in order."""
    return [body["alert"]["status"] for body in events(connection, event_type)]  # type: ignore[index]


def forecast(
    connection: Connection,
    tenant: str,
    day: datetime,
    *,
    anomaly: bool,
    actual: float | None = None,
    measure: str = "drift",
) -> None:
    """Write, or write again, the forecast of one day as the asset would: drift within 0.05 and 0.2, or 1 less that."""
    know_template(connection, tenant, "invoice")
    connection.execute(
        """insert into ml.drift_forecasts
               (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower, yhat_upper, actual,
                evaluation_count, p_value, is_anomaly, budget_weeks, fitted_from, fitted_to, fitted_days, history_hash)
           select
               %(tenant)s, %(template_id)s, 'invoice', %(measure)s, %(day)s, 'zscore', expected, lower, upper,
               %(actual)s, 40, 0.5, %(anomaly)s, 26, %(day)s::date - 20, %(day)s::date - 1, 20, 0
           from (values ('drift', 0.1, 0.05, 0.2), ('reliability', 0.9, 0.8, 0.95)) as band (of, expected, lower, upper)
           where of = %(measure)s
           on conflict (tenant_id, template_id, measure, date) do update set
               actual = excluded.actual, is_anomaly = excluded.is_anomaly, computed_at = clock_timestamp()""",
        {
            "tenant": tenant,
            "template_id": template_id(tenant, "invoice"),
            "day": day.date(),
            "measure": measure,
            "anomaly": anomaly,
            "actual": actual if actual is not None else (0.5 if anomaly else 0.1 if measure == "drift" else 0.9),
        },
    )


def predict(
    connection: Connection, tenant: str, now: datetime, probability: float, measure: str = "drift", bound: float = 0.3
) -> None:
    """Write, or write again, a forecast of today and six days: that of a crossing doubles to `probability`."""
    know_template(connection, tenant, "invoice")
    connection.execute(
        """insert into ml.drift_forecasts
               (tenant_id, template_id, template, measure, date, method, yhat, yhat_lower, yhat_upper,
                evaluation_count, is_anomaly, p_crossing, threshold, budget_weeks, fitted_from, fitted_to, fitted_days,
                history_hash)
           select
               %(tenant)s, %(template_id)s, 'invoice', %(measure)s, %(today)s::date + ahead, 'zscore', 0.2, 0.1, 0.9, 0,
               false, %(probability)s / power(2, 6 - ahead), %(bound)s, 26, %(today)s::date - 20, %(today)s::date - 1,
               20, 0
           from generate_series(0, 6) as ahead
           on conflict (tenant_id, template_id, measure, date) do update set
               (p_crossing, threshold, fitted_from, fitted_to)
               = row(excluded.p_crossing, excluded.threshold, excluded.fitted_from, excluded.fitted_to)""",
        {
            "tenant": tenant,
            "template_id": template_id(tenant, "invoice"),
            "today": now.date(),
            "probability": probability,
            "measure": measure,
            "bound": bound,
        },
    )


def know_template(connection: Connection, tenant: str, template: str) -> None:
    """Register a template as its first evaluation would."""
    connection.execute(
        """insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
           values (%s, %s, %s, uuidv7(), now()) on conflict do nothing""",
        (template_id(tenant, template), tenant, template),
    )

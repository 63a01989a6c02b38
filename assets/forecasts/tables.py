"""Where forecasts come from and go to: SQL over marts.drift_history and schema ml.

Belongs here: reading histories and earlier verdicts, writing new ones. Does not belong here: any judgement (engine.py).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from assets.forecasts.bands import Band
from assets.forecasts.engine import FITTED_DAYS, Forecast, Model
from assets.forecasts.history import DayRow, History, Subject, histories
from storage.database import Connection

# More than a fit uses, so that the days which a fit may see don't depend on the date of the run.
LOOKBACK = timedelta(days=FITTED_DAYS + 365)

READ_HISTORY = """
select tenant_id, template_id, template, date, drift_score, coalesce(drift_count, 0)
from marts.drift_history
where date >= %(since)s and date < %(today)s
order by tenant_id, template_id, date
"""
READ_EARLIER = """
select tenant_id, template_id, date, yhat, yhat_lower, yhat_upper, is_anomaly, model_id
from ml.drift_forecasts
where date >= %(since)s
"""
ONE_WRITER = "lock table ml.drift_forecasts in share row exclusive mode"
REGISTER_MODEL = """
insert into ml.forecast_models
    (model_id, tenant_id, template_id, method, fitted_from, fitted_to, fitted_days, history_hash)
values
    (%(model_id)s, %(tenant_id)s, %(template_id)s, %(method)s, %(fitted_from)s, %(fitted_to)s, %(fitted_days)s,
     %(history_hash)s)
on conflict (model_id) do nothing
"""
# Rows that say the same as before stay untouched: re-running changes nothing, computed_at included.
WRITE_FORECAST = """
insert into ml.drift_forecasts as stored
    (tenant_id, template_id, template, date, method, yhat, yhat_lower, yhat_upper, actual, evaluation_count,
     is_anomaly, fitted_from, fitted_to, fitted_days, model_id)
values
    (%(tenant_id)s, %(template_id)s, %(template)s, %(date)s, %(method)s, %(yhat)s, %(yhat_lower)s, %(yhat_upper)s,
     %(actual)s, %(evaluation_count)s, %(is_anomaly)s, %(fitted_from)s, %(fitted_to)s, %(fitted_days)s, %(model_id)s)
on conflict (tenant_id, template_id, date) do update set
    template = excluded.template,
    method = excluded.method,
    yhat = excluded.yhat,
    yhat_lower = excluded.yhat_lower,
    yhat_upper = excluded.yhat_upper,
    actual = excluded.actual,
    evaluation_count = excluded.evaluation_count,
    is_anomaly = excluded.is_anomaly,
    fitted_from = excluded.fitted_from,
    fitted_to = excluded.fitted_to,
    fitted_days = excluded.fitted_days,
    model_id = excluded.model_id,
    computed_at = excluded.computed_at
where
    (stored.template, stored.method, stored.yhat, stored.yhat_lower, stored.yhat_upper, stored.actual,
     stored.evaluation_count, stored.is_anomaly, stored.fitted_from, stored.fitted_to, stored.fitted_days,
     stored.model_id)
    is distinct from
    (excluded.template, excluded.method, excluded.yhat, excluded.yhat_lower, excluded.yhat_upper, excluded.actual,
     excluded.evaluation_count, excluded.is_anomaly, excluded.fitted_from, excluded.fitted_to, excluded.fitted_days,
     excluded.model_id)
"""


@dataclass
class Earlier:
    """What earlier runs said about one template."""

    flagged: set[date] = field(default_factory=set)
    bands: dict[tuple[UUID, date], Band] = field(default_factory=dict)


def read_histories(connection: Connection, today: date) -> list[History]:
    """The complete days of every template, as far back as LOOKBACK."""
    rows = connection.execute(READ_HISTORY, {"since": today - LOOKBACK, "today": today})
    return histories(
        DayRow(Subject(tenant_id, template_id, template), day, drift, count)
        for tenant_id, template_id, template, day, drift, count in rows
    )


def read_earlier(connection: Connection, today: date) -> dict[tuple[str, UUID], Earlier]:
    """Earlier verdicts by (tenant_id, template_id)."""
    earlier: dict[tuple[str, UUID], Earlier] = defaultdict(Earlier)
    for tenant_id, template_id, day, yhat, lower, upper, is_anomaly, model_id in connection.execute(
        READ_EARLIER, {"since": today - LOOKBACK}
    ):
        known = earlier[tenant_id, template_id]
        if is_anomaly:
            known.flagged.add(day)
        if model_id is not None:
            known.bands[model_id, day] = Band(yhat, lower, upper)
    return earlier


def write_forecasts(connection: Connection, forecasts: Iterable[Forecast]) -> int:
    """Store forecasts and register their models; returns the number of rows that are new or changed.

    Runs in the connection's transaction, so that readers see all of a run or nothing.
    """
    ordered = list(forecasts)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(ONE_WRITER)
        models = {forecast.model.model_id: forecast.model for forecast in ordered}
        cursor.executemany(REGISTER_MODEL, [_model_row(model) for model in models.values()])
        if not ordered:
            return 0
        cursor.executemany(WRITE_FORECAST, [_forecast_row(forecast) for forecast in ordered])
        return cursor.rowcount


def _model_row(model: Model) -> dict[str, Any]:
    values = model._asdict()
    subject: Subject = values.pop("subject")
    return values | {"tenant_id": subject.tenant_id, "template_id": subject.template_id}


def _forecast_row(forecast: Forecast) -> dict[str, Any]:
    return _model_row(forecast.model) | {
        "template": forecast.model.subject.template,
        "date": forecast.date,
        "yhat": forecast.band.yhat,
        "yhat_lower": forecast.band.lower,
        "yhat_upper": forecast.band.upper,
        "actual": forecast.actual,
        "evaluation_count": forecast.evaluations,
        "is_anomaly": forecast.is_anomaly,
    }

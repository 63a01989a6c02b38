"""Marts that forecasts read, filled with templates of every kind, and a view of what was made of them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np

from assets.evaluations.contract import template_id
from assets.forecasts.assets import definitions
from storage.clock import Clock
from storage.database import Connection, Database
from storage.settings import Settings
from storage.tenants import create_tenant

TENANT = "acme"
NOW = datetime(2026, 5, 7, 9, tzinfo=UTC)  # a Thursday
TODAY = NOW.date()
YESTERDAY = TODAY - timedelta(days=1)
MARTS = """
create table marts.drift_history (
    drift_history_id text primary key, date date, tenant_id text, template_id uuid, template text,
    drift_score double precision, drift_count bigint, reliability_score double precision, reliability_count bigint
);
create table intermediate.int_score_months (
    tenant_id text, template_id uuid, template text, month date, days bytea, drift_scores bytea, drift_counts bytea,
    reliability_scores bytea, reliability_counts bytea, primary key (tenant_id, template_id, month)
);
create table intermediate.int_extractor_totals (
    tenant_id text, template_id uuid, extractor_vendor text, extractor_model text, first_date date
)
"""
# As dbt does it: months that are the same stay untouched.
MONTHS = """
with months as (
    select tenant_id, template_id, min(template) as template, date_trunc('month', date)::date as month,
        string_agg(int4send(date - date '2000-01-01'), '' order by date) as days,
        string_agg(float8send(coalesce(drift_score, 'NaN')), '' order by date) as drift_scores,
        string_agg(float8send(drift_count), '' order by date) as drift_counts,
        string_agg(float8send(coalesce(reliability_score, 'NaN')), '' order by date) as reliability_scores,
        string_agg(float8send(reliability_count), '' order by date) as reliability_counts
    from marts.drift_history group by tenant_id, template_id, date_trunc('month', date)
)

merge into intermediate.int_score_months as known using months
on (known.tenant_id, known.template_id, known.month) = (months.tenant_id, months.template_id, months.month)
when matched and known.* is distinct from months.* then update set
    (days, drift_scores, drift_counts, reliability_scores, reliability_counts)
    = (months.days, months.drift_scores, months.drift_counts, months.reliability_scores, months.reliability_counts)
when not matched by target then insert values (
    months.tenant_id, months.template_id, months.template, months.month, months.days, months.drift_scores,
    months.drift_counts, months.reliability_scores, months.reliability_counts
)
when not matched by source then delete
"""
CALM = 30


def prepare(database: Database) -> None:
    """Two tenants' marts: calm templates, and some of which something is to be said."""
    with database.connect() as connection:
        connection.execute(MARTS)
        create_tenant(connection, TENANT)
        create_tenant(connection, "globex")
        random = np.random.default_rng(3)
        for number in range(CALM):
            fill(connection, TENANT if number % 2 else "globex", f"calm-{number}", calm(random, 120))
        known = calm(random, 120)
        fill(connection, TENANT, "calm", known)
        fill(connection, TENANT, "spiking", [*known[:-2], 0.6, 0.1])
        fill(connection, TENANT, "climbing", [*known[:-20], *(0.13 + 0.0085 * day for day in range(20))])
        fill(connection, TENANT, "young", [*known[:20], 0.5])
        fill(connection, TENANT, "short", known[:3])
        fill(connection, TENANT, "silent", known, last=YESTERDAY - timedelta(days=90))
        fill(connection, TENANT, "unscored", [None] * 40)
        connection.execute(MONTHS)


def calm(random: np.random.Generator, days: int) -> list[float]:
    """Ordinary days."""
    return [float(value) for value in np.clip(random.normal(0.12, 0.02, days), 0, 1)]


def fill(
    connection: Connection, tenant: str, template: str, values: Sequence[float | None], last: date = YESTERDAY
) -> None:
    """Days up to `last`; their reliability is what is left of 1."""
    days = [last - timedelta(days=ago) for ago in range(len(values))]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into marts.drift_history values (%(key)s, %(day)s, %(tenant)s, %(id)s, %(template)s, %(drift)s,"
            " %(count)s, 1 - %(drift)s::double precision, %(count)s)",
            [
                {
                    "key": f"{template}-{day}",
                    "day": day,
                    "tenant": tenant,
                    "id": template_id(tenant, template),
                    "template": template,
                    "drift": value,
                    "count": 0 if value is None else 25,
                }
                for day, value in zip(days, reversed(values), strict=True)
            ],
        )


def materialize(
    database: Database, now: datetime = NOW, *, parts: int = 1, hindsight: int = 0, raise_on_error: bool = True
) -> tuple[dg.ExecuteInProcessResult, dict[str, object]]:
    """A run of all assets of forecasts, its replays in so many parts, and the numbers of all of them."""
    with database.connect() as connection:
        connection.execute(MONTHS)
    settings = Settings(forecast_shards=parts, forecast_hindsight=hindsight)
    resources = {"database": database, "clock": Clock(lambda: now), "settings": settings}
    result = dg.materialize(definitions(), resources=resources, raise_on_error=raise_on_error)
    numbers: dict[str, object] = {}
    for event in result.get_asset_materialization_events():
        materialization = event.materialization
        asset = materialization.asset_key.to_user_string()
        numbers |= {f"{asset}.{name}": value.value for name, value in materialization.metadata.items()}
    return result, numbers

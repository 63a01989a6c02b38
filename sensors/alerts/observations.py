"""What is new, judged by the thresholds: rows of landed batches, and days of forecasts.

Belongs here: reading rows and holding each against the most specific threshold (tenant and template, tenant, default).
"Above" means greater, "below" less: a value equal to its bound is within bounds. Rows without the metric, and decisions
left `undecided`, are no observations of that rule. Does not belong here: what an alert makes of them (`states`).

Everything reads by batch or by a few recent days, so that the cost follows what is new, not history.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts.states import Observation, Source, Subject
from storage.database import Connection

_METRICS = {
    "drift_high": "drift_score",
    "reliability_low": "reliability_score",
    "decision_review": "decision_review",
    "template_new": "template_new",
    "drift_anomaly": "drift_score",
}

_LONGEST_AGE = "select max(max_age) from alerting.thresholds where enabled"

# A row is worth a look in Python only where its subject breaks the rule in these batches or has an open alert: of
# 100,000 healthy evaluations none leaves the database. Batches are taken in the order of their transactions, so that
# the outcome doesn't depend on how many batches one scan happens to find.
_EVALUATIONS = """
with fresh as materialized (
    select
        evaluations.tenant_id,
        evaluations.template,
        evaluations.extractor_vendor,
        evaluations.extractor_model,
        evaluations.drift_score,
        evaluations.reliability_score,
        case evaluations.decision when 'undecided' then null when 'review' then 1.0 else 0.0 end as review,
        evaluations.created_at,
        evaluations.evaluation_id,
        coalesce(evaluations.correlation_id, receipts.correlation_id) as correlation_id,
        batches.position
    from unnest(%(batch_ids)s::uuid[]) with ordinality as batches (batch_id, position)
    inner join raw.evaluations on batches.batch_id = evaluations.batch_id
    inner join raw.ingest_batches as receipts on batches.batch_id = receipts.batch_id
    where evaluations.created_at >= %(now)s - %(longest_age)s
),

rules as (
    select
        templates.tenant_id,
        templates.template,
        rule.event_type,
        rule.comparison,
        rule.value as threshold,
        rule.severity,
        rule.clear_n,
        rule.max_age
    from (select distinct fresh.tenant_id, fresh.template from fresh) as templates
    cross join lateral alerting.rules_for(templates.tenant_id, templates.template) as rule
    where rule.enabled and rule.event_type in ('drift_high', 'reliability_low', 'decision_review')
),

measured as (
    select
        fresh.*,
        rules.event_type,
        rules.comparison,
        rules.threshold,
        rules.severity,
        rules.clear_n,
        case rules.event_type
            when 'drift_high' then fresh.drift_score
            when 'reliability_low' then fresh.reliability_score
            else fresh.review
        end as value
    from fresh
    inner join rules using (tenant_id, template)
    where fresh.created_at >= %(now)s - rules.max_age
),

judged as (
    select
        *,
        case comparison when 'above' then value > threshold else value < threshold end as breach
    from measured
    where value is not null
),

watched as (
    select tenant_id, event_type, template, extractor_vendor, extractor_model from judged where breach
    union
    select tenant_id, event_type, template, extractor_vendor, extractor_model from alerting.alerts
    where status = 'firing'
)

select
    judged.tenant_id,
    judged.event_type,
    judged.template,
    judged.extractor_vendor,
    judged.extractor_model,
    judged.value,
    judged.threshold,
    judged.breach,
    judged.severity,
    judged.clear_n,
    judged.created_at as starts,
    judged.created_at as ends,
    1 as evaluation_count,
    judged.evaluation_id,
    judged.correlation_id
from judged
inner join watched using (tenant_id, event_type, template, extractor_vendor, extractor_model)
order by judged.position, judged.created_at, judged.evaluation_id
"""

# A template whose first batch holds data older than max_age comes from a back-fill and is no news, then or later.
_NEW_TEMPLATES = """
select distinct on (templates.tenant_id, templates.template)
    templates.tenant_id,
    'template_new' as event_type,
    templates.template,
    '' as extractor_vendor,
    '' as extractor_model,
    1.0::double precision as value,
    rule.value as threshold,
    rule.severity,
    rule.clear_n,
    1.0::double precision > rule.value as breach,
    evaluations.created_at as starts,
    evaluations.created_at as ends,
    1 as evaluation_count,
    evaluations.evaluation_id,
    coalesce(evaluations.correlation_id, receipts.correlation_id) as correlation_id
from raw.evaluations
inner join access.templates
    on evaluations.template_id = templates.template_id and evaluations.batch_id = templates.first_batch_id
inner join raw.ingest_batches as receipts on evaluations.batch_id = receipts.batch_id
cross join lateral alerting.rules_for(templates.tenant_id, templates.template) as rule
where
    evaluations.batch_id = any(%(batch_ids)s::uuid[])
    and rule.event_type = 'template_new'
    and rule.enabled
    and not exists (
        select 1
        from raw.evaluations as older
        where
            older.batch_id = templates.first_batch_id
            and older.template_id = templates.template_id
            and older.created_at < %(now)s - rule.max_age
    )
order by templates.tenant_id, templates.template, evaluations.created_at, evaluations.evaluation_id
"""

# The forecast decides what is an anomaly; the threshold adds a margin above its upper bound. A day that isn't over may
# raise an alert but not resolve one: the rest of it is still to come.
_FORECASTS = """
with judged as (
    select
        forecasts.tenant_id,
        forecasts.template,
        forecasts.date,
        forecasts.actual as value,
        forecasts.yhat_upper + rule.value as threshold,
        forecasts.is_anomaly and forecasts.actual > forecasts.yhat_upper + rule.value as breach,
        forecasts.evaluation_count,
        rule.severity,
        rule.clear_n
    from ml.drift_forecasts as forecasts
    cross join lateral alerting.rules_for(forecasts.tenant_id, forecasts.template) as rule
    where
        forecasts.date >= (%(now)s - %(longest_age)s)::date
        and forecasts.actual is not null
        and rule.event_type = 'drift_anomaly'
        and rule.enabled
        and forecasts.date >= (%(now)s - rule.max_age)::date
),

watched as (
    select tenant_id, template from judged where breach
    union
    select tenant_id, template from alerting.alerts where status = 'firing' and event_type = 'drift_anomaly'
)

select
    judged.tenant_id,
    'drift_anomaly' as event_type,
    judged.template,
    '' as extractor_vendor,
    '' as extractor_model,
    judged.value,
    judged.threshold,
    judged.breach,
    judged.severity,
    judged.clear_n,
    judged.date::timestamptz as starts,
    (judged.date + 1)::timestamptz as ends,
    judged.evaluation_count,
    null::uuid as evaluation_id,
    null::text as correlation_id
from judged
inner join watched using (tenant_id, template)
where judged.breach or judged.date < %(now)s::date
order by judged.date
"""


def of_batches(connection: Connection, batch_ids: Sequence[UUID], now: datetime) -> Iterator[Observation]:
    """The observations that batches of evaluations bring, in the order in which they are to be judged.

    Args:
        connection: in UTC.
        batch_ids: in the order of their transactions.
        now: against which the rules' maximum age is taken, aware.
    """
    age = longest_age(connection)
    if not batch_ids or age is None:
        return
    parameters = {"batch_ids": list(batch_ids), "now": now, "longest_age": age}
    yield from read_observations(connection, _NEW_TEMPLATES, parameters, "one_shot")
    yield from read_observations(connection, _EVALUATIONS, parameters, "evaluation")


def of_forecasts(connection: Connection, now: datetime) -> Iterator[Observation]:
    """The recent days of forecasts in which a template was anomalous, or that may end its open alert, oldest first."""
    age = longest_age(connection)
    if age is not None:
        yield from read_observations(connection, _FORECASTS, {"now": now, "longest_age": age}, "finding")


def longest_age(connection: Connection) -> timedelta | None:
    """The longest maximum age of any rule that is held: older data is nowhere of interest."""
    row = connection.execute(_LONGEST_AGE).fetchone()
    return row[0] if row else None


def read_observations(
    connection: Connection, query: str, parameters: dict[str, object], source: Source
) -> Iterator[Observation]:
    """What a query finds, which names the columns of `Subject` and `Observation`; `metric` may follow from the type."""
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(query, parameters):
            row.setdefault("metric", _METRICS.get(row["event_type"]))
            subject = Subject(*(row.pop(name) for name in Subject._fields))
            yield Observation(subject=subject, source=source, **row)

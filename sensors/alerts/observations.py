"""What is new, judged by the thresholds: rows of landed batches.

Belongs here: reading rows and holding each against the most specific threshold (`alerting.rules_for`).
"Above" means greater, "below" less: a value equal to its bound is within bounds. Rows without the metric, and decisions
left `undecided`, are no observations of that rule. Does not belong here: rules for a mean (`window_rows`), what assets
have found (`findings`), receipts (`rejected_records`), what an alert makes of them (`states`).

Everything reads by batch, so that the cost follows what is new, not history.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import dict_row

from sensors.alerts.states import Observation, Source, Subject
from storage.database import Connection

METRICS = {
    "drift_high": "drift_score",
    "reliability_low": "reliability_score",
    "decision_review": "decision_review",
    "template_new": "template_new",
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

-- Materialized: else a plan may ask for the rules of each row anew.
rules as materialized (
    select
        extractors.*,
        row_number() over () as rule_number,
        exists (
            select 1 from alerting.alerts
            where
                alerts.tenant_id = extractors.tenant_id
                and alerts.event_type = rule.event_type
                and alerts.template = extractors.template
                and alerts.extractor_vendor = extractors.extractor_vendor
                and alerts.extractor_model = extractors.extractor_model
                and alerts.status in ('pending', 'firing')
        ) as has_open_alert,
        rule.event_type,
        rule.comparison,
        alerting.widest(rule.comparison, rule.value, rule.bound) as threshold,
        rule.clear_gap,
        rule.severity,
        rule.for_n,
        rule.clear_n,
        rule.max_age,
        jsonb_build_object('rule', rule.basis) as basis
    from
        (
            select distinct fresh.tenant_id, fresh.template, fresh.extractor_vendor, fresh.extractor_model from fresh
        ) as extractors
    cross join lateral alerting.rules_for(
        extractors.tenant_id, extractors.template, extractors.extractor_vendor, extractors.extractor_model
    ) as rule
    where
        rule.enabled
        and rule.event_type in ('drift_high', 'reliability_low', 'decision_review')
        and num_nonnulls(rule.window_n, rule.window_span) = 0
),

measured as (
    select
        fresh.*,
        rules.rule_number,
        rules.has_open_alert,
        rules.event_type,
        rules.comparison,
        rules.threshold,
        rules.clear_gap,
        rules.severity,
        rules.for_n,
        rules.clear_n,
        rules.basis,
        case rules.event_type
            when 'drift_high' then fresh.drift_score
            when 'reliability_low' then fresh.reliability_score
            else fresh.review
        end as value
    from fresh
    inner join rules using (tenant_id, template, extractor_vendor, extractor_model)
    where fresh.created_at >= %(now)s - rules.max_age
),

judged as (
    select
        *,
        case comparison when 'above' then value > threshold else value < threshold end as breach,
        case comparison when 'above' then value > threshold + clear_gap else value < threshold + clear_gap end
            as is_beyond_clear
    from measured
    where value is not null
),

-- Over a window and not by a join with what breaks: of the sizes of both a plan knows nothing, and looks at each pair.
watched as (
    select *, bool_or(breach) over (partition by rule_number) or has_open_alert as is_watched from judged
)

select
    watched.tenant_id,
    watched.event_type,
    watched.template,
    watched.extractor_vendor,
    watched.extractor_model,
    watched.value,
    watched.threshold,
    watched.comparison,
    watched.breach,
    watched.is_beyond_clear and not watched.breach as between,
    watched.severity,
    watched.for_n,
    watched.clear_n,
    watched.basis,
    watched.created_at as starts,
    watched.created_at as ends,
    1 as evaluation_count,
    watched.evaluation_id,
    watched.correlation_id
from watched
where watched.is_watched
order by watched.position, watched.created_at, watched.evaluation_id, watched.event_type
"""

# A template whose first batch holds data older than max_age comes from a back-fill and is no news, then or later.
_NEW_TEMPLATES = """
with firsts as materialized (
    select
        evaluations.tenant_id,
        evaluations.template,
        evaluations.created_at,
        evaluations.evaluation_id,
        evaluations.batch_id,
        evaluations.correlation_id,
        row_number() over (
            partition by evaluations.template_id order by evaluations.created_at, evaluations.evaluation_id
        ) as place
    from raw.evaluations
    inner join access.templates
        on evaluations.template_id = templates.template_id and evaluations.batch_id = templates.first_batch_id
    where evaluations.batch_id = any(%(batch_ids)s::uuid[])
)

select
    firsts.tenant_id,
    'template_new' as event_type,
    firsts.template,
    '' as extractor_vendor,
    '' as extractor_model,
    1.0::double precision as value,
    rule.value as threshold,
    rule.severity,
    rule.clear_n,
    jsonb_build_object('rule', rule.basis) as basis,
    1.0::double precision > rule.value as breach,
    firsts.created_at as starts,
    firsts.created_at as ends,
    1 as evaluation_count,
    firsts.evaluation_id,
    coalesce(firsts.correlation_id, receipts.correlation_id) as correlation_id
from firsts
inner join raw.ingest_batches as receipts on firsts.batch_id = receipts.batch_id
cross join lateral alerting.rules_for(firsts.tenant_id, firsts.template) as rule
where
    firsts.place = 1
    and firsts.created_at >= %(now)s - rule.max_age
    and rule.event_type = 'template_new'
    and rule.enabled
order by firsts.tenant_id, firsts.template
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
            row.setdefault("metric", METRICS.get(row["event_type"]))
            subject = Subject(*(row.pop(name) for name in Subject._fields))
            yield Observation(subject=subject, source=source, **row)

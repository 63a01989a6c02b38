"""Senders that have become silent: arrivals followed batch by batch, and nothing but the clock to tell that none came.

A tenant is a sender, and so is each of its templates that has a regular rhythm; of a silent tenant the templates are
not told as well. What a sender's rhythm is learned from is brought up to date when it has sent in another hour; from
then on it is known until when the next is expected, so that a look at the clock costs nothing.

Belongs here: rows of `alerting.arrivals` and `alerting.rhythms`, and holding them against the clock. Does not belong
here: what is unusual (`assets.evaluations.rhythm`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from assets.evaluations.rhythm import rhythm_of
from sensors.alerts.observations import longest_age, read_observations
from sensors.alerts.states import Observation
from storage.database import Connection

METRIC = "silent_hours"
# Older evaluations are a back-fill, which is no rhythm of the template.
_FRESH = timedelta(days=7)
_AWAY = timedelta(minutes=15)

_NOTE_ARRIVALS = """
with batches as materialized (
    select batch_id, tenant_id, received_at, date_trunc('hour', received_at, 'UTC') as hour
    from raw.ingest_batches
    where batch_id = any(%(batch_ids)s::uuid[]) and accepted > 0
),

arrived as (
    select tenant_id, '' as template, hour, max(received_at) as arrived_at
    from batches
    group by tenant_id, hour
    union all
    select batches.tenant_id, evaluations.template, batches.hour, max(batches.received_at) as arrived_at
    from batches
    inner join raw.evaluations on batches.batch_id = evaluations.batch_id
    where evaluations.created_at >= %(fresh_from)s
    group by batches.tenant_id, evaluations.template, batches.hour
),

last as (
    insert into alerting.rhythms as known (tenant_id, template, last_arrived_at)
    select tenant_id, template, max(arrived_at) from arrived group by tenant_id, template
    on conflict (tenant_id, template) do update set
        last_arrived_at = greatest(known.last_arrived_at, excluded.last_arrived_at)
),

noted as (
    insert into alerting.arrivals (tenant_id, template, hour)
    select tenant_id, template, hour from arrived
    on conflict do nothing
    returning tenant_id, template
)

select distinct tenant_id, template from noted
"""

_FORGET = """
delete from alerting.arrivals
using
    alerting.rhythms
    inner join unnest(%(tenants)s::text[], %(templates)s::text[]) as senders (tenant_id, template)
        using (tenant_id, template)
where
    arrivals.tenant_id = rhythms.tenant_id
    and arrivals.template = rhythms.template
    and arrivals.hour < rhythms.last_arrived_at - interval '9 weeks'
"""

_ARRIVALS = """
select tenant_id, template, array_agg(hour order by hour)
from alerting.arrivals
inner join unnest(%(tenants)s::text[], %(templates)s::text[]) as senders (tenant_id, template)
    using (tenant_id, template)
group by tenant_id, template
"""

_LEARN = """
update alerting.rhythms set silent_from = %(silent_from)s where tenant_id = %(tenant_id)s and template = %(template)s
"""

_WAIT_LONGER = """
update alerting.rhythms set silent_from = silent_from + (%(now)s - %(last_read_at)s)
where silent_from > %(last_read_at)s
"""

_SENDERS = """
with watched as (
    select tenant_id, template from alerting.rhythms
    where silent_from <= %(now)s and silent_from >= %(now)s - %(longest_age)s
    union
    select tenant_id, template from alerting.alerts
    where status in ('pending', 'firing') and event_type = 'evaluations_missing' and metric = %(metric)s
),

judged as (
    select
        rhythms.*,
        coalesce(rhythms.silent_from <= %(now)s, false) as breach,
        rule.event_type,
        rule.severity,
        rule.clear_n,
        rule.max_age,
        rule.basis
    from watched
    inner join alerting.rhythms using (tenant_id, template)
    cross join lateral alerting.rules_for(rhythms.tenant_id, rhythms.template) as rule
    where rule.event_type = 'evaluations_missing' and rule.enabled
)

select
    judged.tenant_id,
    judged.event_type,
    %(metric)s as metric,
    judged.template,
    '' as extractor_vendor,
    '' as extractor_model,
    extract(epoch from %(now)s - judged.last_arrived_at)::double precision / 3600 as value,
    coalesce(extract(epoch from judged.silent_from - judged.last_arrived_at)::double precision / 3600, 0) as threshold,
    judged.breach,
    judged.severity,
    judged.clear_n,
    judged.last_arrived_at as starts,
    case when judged.breach then judged.silent_from else judged.last_arrived_at end as ends,
    0 as evaluation_count,
    false as is_final,
    jsonb_build_object(
        'rule', judged.basis, 'last_arrived_at', judged.last_arrived_at, 'silent_from', judged.silent_from
    ) as basis
from judged
where
    not judged.breach
    or (
        judged.silent_from >= %(now)s - judged.max_age
        and not exists (
            select 1 from alerting.rhythms as whole
            where
                judged.template <> ''
                and whole.tenant_id = judged.tenant_id
                and whole.template = ''
                and whole.silent_from <= %(now)s
        )
    )
order by judged.tenant_id, judged.template
"""


def follow(connection: Connection, batch_ids: Sequence[UUID], last_read_at: datetime | None, now: datetime) -> None:
    """Note what has arrived, and learn anew until when more is expected from who sent it.

    Args:
        connection: in UTC, inside the transaction that moves the position.
        batch_ids: the batches that are read for the first time.
        last_read_at: when somebody last looked; while nobody did, nobody was silent.
        now: the time, aware.
    """
    if last_read_at is not None and now - last_read_at > _AWAY:
        connection.execute(_WAIT_LONGER, {"now": now, "last_read_at": last_read_at})
    if not batch_ids:
        return
    names = {"batch_ids": list(batch_ids), "fresh_from": now - _FRESH}
    senders = connection.execute(_NOTE_ARRIVALS, names).fetchall()
    if senders:
        _learn(connection, senders)


def _learn(connection: Connection, senders: Sequence[tuple[str, str]]) -> None:
    columns = {"tenants": [tenant for tenant, _ in senders], "templates": [template for _, template in senders]}
    connection.execute(_FORGET, columns)
    learned = []
    for tenant_id, template, hours in connection.execute(_ARRIVALS, columns):
        rhythm = rhythm_of(hours)
        is_expected = rhythm is not None and (not template or rhythm.is_regular)
        silent_from = rhythm.silent_from if rhythm is not None and is_expected else None
        learned.append({"tenant_id": tenant_id, "template": template, "silent_from": silent_from})
    with connection.cursor() as cursor:
        cursor.executemany(_LEARN, learned)


def of_senders(connection: Connection, now: datetime) -> Iterator[Observation]:
    """The senders from whom something was expected by now, or whose open alert a new arrival may end.

    The value is in hours since the last arrival, the threshold in hours after it.

    Args:
        connection: in UTC.
        now: the time, aware.
    """
    age = longest_age(connection)
    if age is not None:
        yield from read_observations(
            connection, _SENDERS, {"now": now, "longest_age": age, "metric": METRIC}, "finding"
        )

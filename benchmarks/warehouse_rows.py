"""Evaluations by the million, straight into `raw`: what a year of senders leaves there, made by set-based SQL.

50 tenants of uneven size with 20 templates and 3 extractors each; 200,000 records a day, of which 2 % are late by up to
30 days, 20 % bring five features, 10 % get feedback and 10 % ask for review. Every number comes from a hash of the
record's own number: the same rows on every machine.

Belongs here: rows as `assets.evaluations.landing` would leave them. Does not belong here: where they are kept
(`warehouse_history`), and measuring.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import LiteralString

from psycopg import ClientCursor

from storage.database import Connection

ROWS_A_DAY = 200_000
# Windows of the marts reach 30 days back: a shorter history would be cheaper for lack of days, not of rows.
_FEWEST_DAYS = 30
_LAST_DAY = date(2026, 6, 30)
_LATE_DAYS = 30
_CORRECTED_SHARE = 0.01

_CHANCE = """
create or replace function pg_temp.chance(number bigint, salt bigint) returns double precision
language sql immutable as $$
    select (hashint8extended(number, salt) & 9007199254740991)::double precision / 9007199254740992
$$
"""
# As uuidv7() makes them: by time, so that a day's rows are neighbours in an index.
_TIMED_UUID = """
create or replace function pg_temp.timed_uuid(at timestamptz, seed text) returns uuid language sql immutable as $$
    select (
        lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
        || '7' || left(md5(seed), 3) || 'a' || right(md5(seed), 15)
    )::uuid
$$
"""

_TENANTS = """
insert into access.tenants (tenant_id, name)
select tenant_id, initcap(tenant_id) from (select 'tenant-' || lpad(n::text, 2, '0') from generate_series(0, 49) as n)
    as tenants (tenant_id)
on conflict do nothing
"""

_MONTHS = """
select raw.ensure_evaluations_month(month::date)
from generate_series(date_trunc('month', %(first)s::date), %(last)s::date, interval '1 month') as month
"""

_INCOMING: tuple[LiteralString, ...] = (
    "drop table if exists pg_temp.incoming",
    """
create temporary table incoming as
with drawn as (
    select
        number,
        'tenant-' || lpad(floor(50 * pg_temp.chance(number, 1) ^ 2)::text, 2, '0') as tenant_id,
        'template-' || lpad(floor(20 * pg_temp.chance(number, 2) ^ 1.5)::text, 2, '0') as template,
        floor(3 * pg_temp.chance(number, 3) ^ 1.5)::integer as extractor,
        number %% 5 as part,
        case
            when number %% 50 = 7
                then greatest(
                    %(earliest)s::date, %(day)s::date - 1 - floor(%(late_days)s * pg_temp.chance(number, 4))::integer
                )
            else %(day)s::date
        end as date
    from generate_series(%(first)s::bigint, %(last)s::bigint) as number
)
select
    drawn.*,
    md5('record ' || number)::uuid as record_key,
    pg_temp.timed_uuid(received.at, 'evaluation ' || number) as evaluation_id,
    pg_temp.timed_uuid(received.at, concat_ws(' ', 'batch', tenant_id, part, %(day)s)) as batch_id,
    received.at as received_at,
    md5(tenant_id || ' ' || template)::uuid as template_id
from drawn
cross join lateral (
    select (%(day)s::timestamp at time zone 'UTC') + interval '23 hours' + part * interval '10 minutes'
) as received (at)
order by batch_id, number
""",
)

_EVALUATIONS = """
insert into raw.evaluations (
    evaluation_id, tenant_id, record_key, record_id, batch_id, template_id, template, extractor_vendor, extractor_model,
    drift_score, reliability_score, decision, created_at, batch_key, features
)
select
    evaluation_id, tenant_id, record_key, 'record-' || number, batch_id, template_id, template,
    'vendor-' || extractor, 'model-' || extractor,
    case when number %% 33 <> 0 then round((pg_temp.chance(number, 5) ^ 3)::numeric, 4)::double precision end,
    case when number %% 33 <> 1 then round(1 - (pg_temp.chance(number, 6) ^ 3)::numeric, 4)::double precision end,
    case
        when number %% 20 < 15 then 'accept' when number %% 20 < 17 then 'review' when number %% 20 < 19 then 'reject'
        else 'undecided'
    end,
    (date::timestamp at time zone 'UTC') + pg_temp.chance(number, 7) * interval '23 hours',
    case when tenant_id < 'tenant-10' then concat_ws(' ', 'export', %(day)s, part) end,
    case
        when number %% 5 = 2
            then jsonb_build_object(
                'pages', number %% 19 + 1,
                'density', round(pg_temp.chance(number, 8)::numeric, 4),
                'tokens', floor(4000 * pg_temp.chance(number, 9)),
                'is_scan', number %% 2 = 0,
                'confidence', round(pg_temp.chance(number, 10)::numeric, 4)
            )
    end
from incoming
"""

_KEYS = """
insert into raw.evaluation_keys (record_key, tenant_id, evaluation_id, payload_hash, created_on)
select record_key, tenant_id, evaluation_id, md5(record_key::text)::uuid, date from incoming
"""

_TEMPLATES = """
insert into access.templates (template_id, tenant_id, template, first_batch_id, first_seen_at)
select distinct on (template_id) template_id, tenant_id, template, batch_id, received_at
from incoming order by template_id, batch_id
on conflict do nothing
"""

_RECEIPTS = """
insert into raw.ingest_batches
    (batch_id, tenant_id, kind, door, received_at, accepted, duplicates, conflicts, rejected, touched_days)
select batch_id, tenant_id, 'evaluations', 'http', received_at, count(*), 0, 0, 0, array_agg(distinct date)
from incoming group by batch_id, tenant_id, received_at
"""

# Feedback on a tenth of the day's records; and again, said otherwise, on some records that had feedback before.
_FEEDBACK = """
with judged as (
    select number, tenant_id, record_key, date from incoming where number %% 10 = 3
    union all
    select -picked.number, keys.tenant_id, keys.record_key, keys.created_on
    from (
        select distinct %(first)s - 10 * (1 + floor(%(window)s / 10 * pg_temp.chance(n, 11))::bigint) + 3 as number
        from generate_series(%(first)s + 1, %(first)s + %(corrected)s::bigint) as n
    ) as picked
    inner join raw.evaluation_keys as keys on keys.record_key = md5('record ' || picked.number)::uuid
),
receipts as (
    insert into raw.ingest_batches
        (batch_id, tenant_id, kind, door, received_at, accepted, duplicates, conflicts, rejected, touched_days)
    select
        pg_temp.timed_uuid(%(feedback_at)s, concat_ws(' ', 'feedback', tenant_id, %(day)s)), tenant_id, 'feedback',
        'http', %(feedback_at)s, count(*), 0, 0, 0, array_agg(distinct date)
    from judged group by tenant_id
)
insert into raw.feedback (
    feedback_id, tenant_id, batch_id, record_key, payload_hash, success, fields_correct, fields_total, created_at,
    received_at
)
select
    md5(concat_ws(' ', 'feedback', number, %(day)s))::uuid, tenant_id,
    pg_temp.timed_uuid(%(feedback_at)s, concat_ws(' ', 'feedback', tenant_id, %(day)s)), record_key,
    md5(number::text)::uuid, number > 0 and pg_temp.chance(number, 12) < 0.8,
    case when number %% 4 = 1 then 6 end, case when number %% 4 = 1 then 8 end, %(feedback_at)s, %(feedback_at)s
from judged
"""

_ALERTS = """
insert into alerting.alerts (
    tenant_id, event_type, template, epoch, status, severity, metric, value, threshold, breach_count, window_start,
    window_end, started_at, resolved_at
)
select
    templates.tenant_id, 'drift_high', templates.template, epoch, case when epoch = 6 then 'firing' else 'resolved' end,
    'warning', 'drift_score', 0.4, 0.3, 5, started.at, started.at, started.at,
    case when epoch < 6 then started.at + interval '3 hours' end
from access.templates
cross join generate_series(1, 6) as epoch
cross join lateral (select now() - (7 - epoch) * interval '13 days') as started (at)
on conflict do nothing
"""


@dataclass(frozen=True)
class Calendar:
    """On which days how many of a history's records come in.

    Attributes:
        rows: how many records the history has.
    """

    rows: int

    @property
    def rows_a_day(self) -> int:
        """Records that come in on one day of the history."""
        return min(ROWS_A_DAY, self.rows // _FEWEST_DAYS)

    @property
    def days(self) -> int:
        """How many days there are."""
        return self.rows // self.rows_a_day

    def day(self, number: int) -> date:
        """The day of that number; the first one after the history is `days`."""
        return _LAST_DAY + timedelta(days=number + 1 - self.days)


def land_history(connection: Connection, calendar: Calendar) -> None:
    """Land all days of the history, and alerts as of now."""
    _prepare(connection, calendar)
    for number in range(calendar.days):
        first = number * calendar.rows_a_day
        last = calendar.rows if number == calendar.days - 1 else first + calendar.rows_a_day
        _land(connection, calendar, calendar.day(number), first, last - first, corrected=0)
    connection.execute(_ALERTS)


def land_new_day(connection: Connection, calendar: Calendar, number: int) -> None:
    """Land 200,000 records on the day `number` days after the history, and corrected feedback of earlier days."""
    _prepare(connection, calendar)
    first = calendar.rows + number * ROWS_A_DAY
    day = calendar.day(calendar.days + number)
    _land(connection, calendar, day, first, ROWS_A_DAY, corrected=int(ROWS_A_DAY * _CORRECTED_SHARE))


def _prepare(connection: Connection, calendar: Calendar) -> None:
    """Make the tenants, the partitions and this session's functions."""
    connection.execute(_CHANCE)
    connection.execute(_TIMED_UUID)
    connection.execute(_TENANTS)
    connection.execute(_MONTHS, {"first": calendar.day(0), "last": calendar.day(calendar.days + _LATE_DAYS)})


def _land(connection: Connection, calendar: Calendar, day: date, first: int, count: int, *, corrected: int) -> None:
    values = {
        "day": day.isoformat(),
        "earliest": calendar.day(0),
        "late_days": _LATE_DAYS,
        "first": first,
        "last": first + count - 1,
        "window": min(first, _LATE_DAYS * calendar.rows_a_day),
        "corrected": corrected,
        "feedback_at": f"{day.isoformat()} 23:50:00+00",
    }
    # Values go into the text: a parameter has no type where nothing but concat_ws takes it.
    with connection.transaction(), ClientCursor(connection) as cursor:
        for statement in (*_INCOMING, _EVALUATIONS, _KEYS, _TEMPLATES, _RECEIPTS, _FEEDBACK):
            cursor.execute(statement, values)

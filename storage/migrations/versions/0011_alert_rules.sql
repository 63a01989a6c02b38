-- Rules: for whom, from where to where, and how often in a row. Alerts: pending before firing, what was told, evidence.

alter table access.tenants add column tier text check (tier ~ '^[a-z0-9][a-z0-9_-]{0,62}$');
comment on column access.tenants.tier is 'Tenants of a tier share its thresholds; null where a tenant is of none.';

-- thresholds ---------------------------------------------------------------------------------------------------------

drop function alerting.rules_for (text, text);

alter table alerting.thresholds
    drop constraint thresholds_tenant_id_event_type_template_key,
    add column tier text,
    add column extractor_vendor text,
    add column extractor_model text,
    add column clear_value double precision,
    add column for_n integer not null default 1 check (for_n >= 1),
    add constraint one_threshold_a_scope
        unique nulls not distinct (tenant_id, tier, event_type, template, extractor_vendor, extractor_model),
    add check (num_nonnulls(tenant_id, tier) <= 1),
    add check (tenant_id is not null or num_nonnulls(template, extractor_vendor, extractor_model) = 0),
    add check (num_nonnulls(extractor_vendor, extractor_model) in (0, 2)),
    add check (case comparison when 'above' then clear_value <= value else clear_value >= value end);
comment on table alerting.thresholds is
    'The rule of an event type; the most specific row wins: tenant with template and extractor, with template, with
    extractor, tenant, tier, default (neither tenant nor tier).';
comment on column alerting.thresholds.value is
    'The bound, itself within bounds. Of drift_anomaly a margin above the forecast''s upper bound, of drift_predicted one
    above the bound of drift_high.';
comment on column alerting.thresholds.clear_value is
    'Hysteresis: what is between value and this one neither raises nor ends an alert. Null: value itself ends it.';
comment on column alerting.thresholds.for_n is 'Consecutive breaches before an alert fires; until then it is pending.';
comment on column alerting.thresholds.clear_n is
    'Consecutive observations (evaluations; days; batches) within bounds that resolve an alert.';

insert into alerting.thresholds (event_type, comparison, value, severity, clear_n) values
    ('drift_predicted', 'above', 0, 'warning', 1),
    ('feature_drift', 'above', 0.5, 'warning', 1),
    ('records_rejected', 'above', 0.05, 'warning', 1);

-- re-baselines -------------------------------------------------------------------------------------------------------

create table alerting.rebaselines (
    rebaseline_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    event_type text not null,
    metric text not null,
    template text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    alert_id uuid not null,
    bound double precision not null,
    previous_bound double precision not null,
    from_at timestamptz not null,
    reason text not null check (reason <> ''),
    author text not null,
    created_at timestamptz not null,
    ended_at timestamptz
);
create index on alerting.rebaselines
    (tenant_id, event_type, template, extractor_vendor, extractor_model, created_at) where ended_at is null;
alter table alerting.rebaselines enable row level security;
comment on table alerting.rebaselines is
    'Levels that somebody has accepted as a subject''s new normal, which ended an alert; the newest that has not ended holds.';
comment on column alerting.rebaselines.bound is
    'The subject''s own bound, in the metric''s unit: holds where it is wider than the rule''s.';
comment on column alerting.rebaselines.from_at is
    'From when the data is of the new level: what learns a baseline may leave out what is older.';

create function alerting.rules_for(
    of_tenant text, of_template text, of_vendor text default '', of_model text default ''
) returns table (
    event_type text,
    comparison text,
    value double precision,
    clear_gap double precision,
    bound double precision,
    severity text,
    for_n integer,
    clear_n integer,
    max_age interval,
    enabled boolean,
    basis jsonb
) language sql stable rows 10 as $$
    select distinct on (rule.event_type)
        rule.event_type,
        rule.comparison,
        rule.value,
        coalesce(rule.clear_value - rule.value, 0),
        own.bound,
        rule.severity,
        rule.for_n,
        rule.clear_n,
        rule.max_age,
        rule.enabled,
        jsonb_strip_nulls(jsonb_build_object(
            'threshold_id', rule.threshold_id,
            'set_for', case
                when rule.tenant_id is not null then concat_ws(
                    ' and ', 'tenant', 'template ' || rule.template,
                    'extractor ' || rule.extractor_vendor || '/' || rule.extractor_model
                )
                when rule.tier is not null then 'tier ' || rule.tier
                else 'default'
            end,
            'value', rule.value,
            'clear_value', rule.clear_value,
            'rebaseline_id', own.rebaseline_id,
            'rebaselined_bound', own.bound
        ))
    from alerting.thresholds as rule
    left join lateral (
        select rebaselines.rebaseline_id, rebaselines.bound
        from alerting.rebaselines
        where
            rebaselines.ended_at is null
            and rebaselines.tenant_id = of_tenant
            and rebaselines.event_type = rule.event_type
            and rebaselines.template = of_template
            and rebaselines.extractor_vendor = of_vendor
            and rebaselines.extractor_model = of_model
        order by rebaselines.created_at desc, rebaselines.rebaseline_id desc
        limit 1
    ) as own on true
    where
        coalesce(rule.tenant_id, of_tenant) = of_tenant
        and (rule.tier is null or rule.tier = (select tenants.tier from access.tenants where tenants.tenant_id = of_tenant))
        and coalesce(rule.template, of_template) = of_template
        and coalesce(rule.extractor_vendor, of_vendor) = of_vendor
        and coalesce(rule.extractor_model, of_model) = of_model
    order by
        rule.event_type asc,
        rule.tenant_id asc nulls last,
        rule.tier asc nulls last,
        rule.template asc nulls last,
        rule.extractor_vendor asc nulls last
$$;
comment on function alerting.rules_for (text, text, text, text) is
    'The rule of each event type that holds for an extractor of a template, for a template (no extractor) or for a tenant
    (neither), enabled or not; bound is what its subject was re-baselined to.';

create function alerting.widest(comparison text, bound double precision, own double precision)
returns double precision language sql immutable parallel safe as $$
    select case comparison when 'above' then greatest(bound, own) else least(bound, own) end
$$;
comment on function alerting.widest (text, double precision, double precision) is
    'The bound that holds: the rule''s, or the subject''s own where it allows more.';

-- alerts -------------------------------------------------------------------------------------------------------------

drop index alerting.one_open_alert_a_subject;
alter table alerting.alerts
    drop constraint alerts_status_check,
    add constraint alerts_status_check check (status in ('ok', 'pending', 'firing', 'resolved')),
    add column comparison text not null default 'above' check (comparison in ('above', 'below')),
    add column worst_value double precision,
    add column value_start timestamptz,
    add column value_end timestamptz,
    add column told_start timestamptz,
    add column told_end timestamptz,
    add column told_value double precision,
    add column told_rule text not null default '',
    add column revision integer not null default 0,
    add column is_retracted boolean not null default false,
    add column contributors jsonb not null default '[]',
    add column baseline jsonb not null default '{}',
    add column evidence jsonb not null default '{}';
update alerting.alerts set worst_value = value, value_start = window_start, value_end = window_end;
create unique index one_open_alert_a_subject on alerting.alerts
    (tenant_id, event_type, template, extractor_vendor, extractor_model, metric) where status in ('pending', 'firing');
-- What late data may still undo.
create index on alerting.alerts (event_type, told_end) where not is_retracted;
comment on table alerting.alerts is
    'One row an alert: a rule broken by a subject, from pending over firing to resolved.';
comment on column alerting.alerts.status is
    'pending: broken, not often enough in a row to fire; ok: was pending, and may be again; firing; resolved.';
comment on column alerting.alerts.worst_value is 'The breach farthest from the bound since the alert began.';
comment on column alerting.alerts.value_start is 'With value_end: the data that value is of.';
comment on column alerting.alerts.told_start is
    'With told_end and told_value: the data and value that the firing or the newest amendment told.';
comment on column alerting.alerts.told_rule is
    'What people had set when that was told: another verdict under another rule is no late data.';
comment on column alerting.alerts.revision is 'How many times late data has amended or retracted it.';
comment on column alerting.alerts.is_retracted is 'Late data has undone the breach that was told.';
comment on column alerting.alerts.evidence is
    'n, statistic, threshold, baseline, top contributors, and the SQL that reproduces the statistic.';

-- The newest receipts of a sender, for the share that was refused.
create index on raw.ingest_batches (tenant_id, xact_id, batch_id) where kind = 'evaluations';

-- Who brought a day's drift above what was expected. Of aggregates that no build has made yet nothing is known: late bound.
create function alerting.drift_contributors(
    of_tenant text, of_template_id uuid, of_day date, expected double precision
) returns jsonb language plpgsql stable as $$
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(extractor)), '[]')
        from (
            select
                daily.extractor_vendor,
                daily.extractor_model,
                sum(daily.drift_count)::bigint as evaluation_count,
                sum(daily.drift_sum) / sum(daily.drift_count) as mean
            from intermediate.int_evaluations_daily as daily
            where
                daily.tenant_id = of_tenant
                and daily.template_id = of_template_id
                and daily.date = of_day
            group by daily.extractor_vendor, daily.extractor_model
            having sum(daily.drift_count) > 0
            order by sum(daily.drift_sum) - expected * sum(daily.drift_count) desc, 1, 2
            limit 5
        ) as extractor
    );
exception when undefined_table or undefined_column then
    return '[]';
end $$;
comment on function alerting.drift_contributors (text, uuid, date, double precision) is
    'The extractors that brought most of a day''s drift above what was expected of it; none before the first build.';

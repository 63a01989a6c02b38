-- Forecasts of drift and of reliability: what was expected of a day, by which registered model, how calibrated, and what
-- the next night needs to go on.

-- Computed from history, so the next refresh brings them back in their new shape.
drop table ml.drift_forecasts cascade;
drop table ml.forecast_models cascade;

create table ml.forecast_settings (
    tenant_id text primary key references access.tenants,
    budget_weeks double precision not null check (budget_weeks between 1 and 520),
    updated_at timestamptz not null default now()
);
comment on table ml.forecast_settings is 'What people decided about a tenant''s forecasts; without a row the defaults.';
comment on column ml.forecast_settings.budget_weeks is
    'How often a template may alarm without a cause: once in so many weeks, for each measure.';

create table ml.forecast_models (
    model_id uuid primary key,
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    measure text not null check (measure in ('drift', 'reliability')),
    version integer not null check (version >= 1),
    method text not null check (method in ('prophet', 'ewma', 'seasonal_naive', 'zscore')),
    fitted_from date not null,
    fitted_to date not null check (fitted_to >= fitted_from),
    fitted_days integer not null check (fitted_days >= 1),
    history_hash bigint not null,
    recipe text not null,
    parameters bytea,
    pinball double precision,
    coverage double precision,
    backtest_days integer not null default 0,
    computed_at timestamptz not null default now(),
    unique (tenant_id, template_id, measure, version)
);
comment on table ml.forecast_models is
    'The registry: one row a version of a template''s forecaster, fitted on the days before the Monday after fitted_to;
    never changed.';
comment on column ml.forecast_models.model_id is
    'Made of template, measure, method, recipe and history: the same id means the same forecasts.';
comment on column ml.forecast_models.history_hash is 'Made of the days that it was fitted on, their scores and counts.';
comment on column ml.forecast_models.recipe is
    'The method''s settings and version: stored forecasts of another recipe are made anew.';
comment on column ml.forecast_models.parameters is 'Its fitted parameters, float64 little-endian, in the recipe''s order.';
comment on column ml.forecast_models.pinball is
    'Mean pinball loss of its method in the back-test when it was registered, in units of the score; null before there was
    one. Likewise coverage, the part of days within the band.';

create trigger append_only before update or truncate on ml.forecast_models
for each statement execute function access.refuse_change();

create table ml.forecast_champions (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    measure text not null check (measure in ('drift', 'reliability')),
    model_id uuid not null references ml.forecast_models,
    chosen_method text check (chosen_method in ('prophet', 'ewma')),
    is_pinned boolean not null default false,
    check (chosen_method is not null or not is_pinned),
    primary key (tenant_id, template_id, measure)
);
create index on ml.forecast_champions (model_id);
comment on table ml.forecast_champions is
    'The alias champion: which registered version serves a template. All others of the template are challengers.';
comment on column ml.forecast_champions.chosen_method is
    'Which method is to serve, by a back-test or a rollback; null: Prophet''s, as soon as there are days enough for it.';
comment on column ml.forecast_champions.is_pinned is
    'Somebody has rolled back: no back-test promotes another method until that is taken back.';

create table ml.forecast_promotions (
    promotion_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    measure text not null check (measure in ('drift', 'reliability')),
    model_id uuid not null references ml.forecast_models,
    replaced_model_id uuid references ml.forecast_models,
    because text not null,
    promoted_by text not null,
    promoted_at timestamptz not null default now()
);
create index on ml.forecast_promotions (tenant_id, template_id, measure, promoted_at);
create index on ml.forecast_promotions (model_id);
create index on ml.forecast_promotions (replaced_model_id);
comment on table ml.forecast_promotions is
    'One row each time another method became a template''s champion, by a back-test or by hand; never changed.';
comment on column ml.forecast_promotions.because is 'Why: what the back-test said, or the reason that was given.';
comment on column ml.forecast_promotions.promoted_by is 'The platform, or who rolled back.';

create trigger append_only before update or truncate on ml.forecast_promotions
for each statement execute function access.refuse_change();

create table ml.drift_forecasts (
    forecast_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    measure text not null check (measure in ('drift', 'reliability')),
    date date not null,
    method text not null check (method in ('prophet', 'ewma', 'seasonal_naive', 'zscore')),
    yhat double precision not null,
    yhat_lower double precision not null,
    yhat_upper double precision not null,
    actual double precision,
    evaluation_count bigint not null,
    p_value double precision check (p_value between 0 and 1),
    is_anomaly boolean not null,
    p_crossing double precision check (p_crossing between 0 and 1),
    threshold double precision,
    budget_weeks double precision not null,
    fitted_from date not null,
    fitted_to date not null check (fitted_to < date),
    fitted_days integer not null,
    history_hash bigint not null,
    model_id uuid references ml.forecast_models,
    model_version integer,
    computed_at timestamptz not null default now(),
    unique (tenant_id, template_id, measure, date),
    check ((model_id is null) = (model_version is null)),
    check ((actual is null) = (p_value is null)),
    check ((p_crossing is null) or (actual is null and threshold is not null))
);
-- The alert scan reads the last days of all templates every ten seconds.
create index on ml.drift_forecasts (date);
create index on ml.drift_forecasts (computed_at);
create index on ml.drift_forecasts (model_id);
comment on table ml.drift_forecasts is
    'One row a measure, template and day: what was expected of the day from earlier days alone, and what came.';
comment on column ml.drift_forecasts.yhat_upper is
    'Of drift the bound above which the day is an anomaly. It comes closer while evidence of a slow change gathers.';
comment on column ml.drift_forecasts.yhat_lower is 'Of reliability the bound below which the day is an anomaly.';
comment on column ml.drift_forecasts.p_value is
    'One-sided, of the day alone: how often a template without a change has such a day, or a worse one.';
comment on column ml.drift_forecasts.p_crossing is
    'Of a coming day: the probability that the score has crossed the threshold on or before it.';
comment on column ml.drift_forecasts.threshold is
    'Of a coming day: the bound of drift_high, or of reliability_low, that held when it was forecast.';
comment on column ml.drift_forecasts.budget_weeks is 'The budget by which its bounds were made: one alarm in so many weeks.';
comment on column ml.drift_forecasts.history_hash is
    'Made of the template''s days up to this one: as long as it is the same, the verdict stands.';

create table ml.forecast_calibrations (
    measure text not null check (measure in ('drift', 'reliability')),
    date date not null,
    layout text not null,
    content bytea not null,
    computed_at timestamptz not null default now(),
    primary key (measure, date, layout)
);
comment on table ml.forecast_calibrations is
    'One row a measure and day: how the fleet''s standardised errors were spread before it; verdicts of the day that late
    data asks for anew are made by the same. Never changed. Has no score, and nothing that names a template.';

create trigger append_only before update or truncate on ml.forecast_calibrations
for each statement execute function access.refuse_change();

create table ml.forecast_lessons (
    measure text not null check (measure in ('drift', 'reliability')),
    block integer not null,
    layout text not null,
    content bytea not null,
    computed_at timestamptz not null default now(),
    primary key (measure, block, layout)
);
comment on table ml.forecast_lessons is
    'One row a measure and four weeks: what templates have in common, learnt before parts of the fleet are replayed apart.
Never changed. Has no score, and nothing that names a template.';

create trigger append_only before update or truncate on ml.forecast_lessons
for each statement execute function access.refuse_change();

create table ml.forecast_memory (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    measure text not null check (measure in ('drift', 'reliability')),
    layout text not null,
    block integer not null,
    judged_to date not null,
    history_hash bigint not null,
    state bytea not null,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, measure)
) with (toast_tuple_target = 8160);
-- Some two thousand bytes of noise, written each night: to compress them, or to put them elsewhere, would only cost time.
alter table ml.forecast_memory alter column state set storage external;
comment on table ml.forecast_memory is
    'One row a measure and template: what the judgement knew after judged_to, as one array; the next night goes on from
    there instead of from the first day. A short cut: without it the same comes out.';
comment on column ml.forecast_memory.layout is 'Which arrays the state is made of.';
comment on column ml.forecast_memory.block is 'The block of days under whose priors it was made.';
comment on column ml.forecast_memory.history_hash is 'Made of the days that are in it.';

create table ml.forecast_backtests (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    measure text not null check (measure in ('drift', 'reliability')),
    method text not null check (method in ('prophet', 'ewma', 'seasonal_naive', 'zscore')),
    is_champion boolean not null,
    days integer not null,
    pinball double precision,
    coverage double precision,
    nominal_coverage double precision not null,
    days_judged integer not null,
    alarms integer not null,
    alarms_expected double precision not null,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, measure, method)
);
comment on table ml.forecast_backtests is
    'One row a measure, template and method: how its forecasts of past days, each from earlier days alone, did.';
comment on column ml.forecast_backtests.days is 'On so many past days it was tried.';
comment on column ml.forecast_backtests.pinball is 'Mean pinball loss, in units of the score; the smaller the better.';
comment on column ml.forecast_backtests.alarms_expected is 'So many alarms its budget allows on the days judged.';

create table ml.drift_anomalies (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    measure text not null check (measure in ('drift', 'reliability')),
    date date not null,
    actual double precision not null,
    yhat double precision not null,
    bound double precision not null,
    p_value double precision not null,
    q_value double precision not null,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, measure, date)
);
comment on table ml.drift_anomalies is
    'One row an anomaly of the last two weeks: beyond which bound it was, and how sure it is among all days judged.';
comment on column ml.drift_anomalies.q_value is
    'Benjamini-Hochberg: of the days of this date that are at least as unusual, this part is expected to be chance.';

do $$
declare
    relation regclass;
begin
    foreach relation in array array[
        'ml.forecast_settings', 'ml.forecast_models', 'ml.forecast_champions', 'ml.forecast_promotions',
        'ml.drift_forecasts', 'ml.forecast_memory', 'ml.forecast_backtests', 'ml.drift_anomalies'
    ]::regclass []
    loop
        execute format('alter table %s enable row level security', relation);
    end loop;
    foreach relation in array array['ml.drift_forecasts', 'ml.forecast_backtests']::regclass []
    loop
        execute format('create policy dbt_reads_all_tenants on %s for select to tidemark_dbt using (true)', relation);
        execute format('grant select on %s to tidemark_dbt', relation);
    end loop;
end $$;

-- A probability now, and no margin above the bound of drift_high.
delete from alerting.thresholds where event_type = 'drift_predicted' and tenant_id is not null;
update alerting.thresholds set value = 0.5, clear_value = null where event_type = 'drift_predicted';
comment on column alerting.thresholds.value is
    'The bound, itself within bounds. Of drift_anomaly a margin beyond the forecast''s bound, of drift_predicted the
    probability of a crossing within a week, of extractor_change by how much an extractor''s objective fell.';

drop function alerting.drift_contributors (text, uuid, date, double precision);
create function alerting.drift_contributors(
    of_tenant text, of_template_id uuid, of_day date, expected double precision, of_measure text default 'drift'
) returns jsonb language plpgsql stable as $$
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(extractor)), '[]')
        from (
            select
                daily.extractor_vendor,
                daily.extractor_model,
                sum(measured.count)::bigint as evaluation_count,
                sum(measured.sum) / sum(measured.count) as mean
            from intermediate.int_evaluations_daily as daily
            cross join lateral (
                select
                    case of_measure when 'drift' then daily.drift_count else daily.reliability_count end as count,
                    case of_measure when 'drift' then daily.drift_sum else daily.reliability_sum end as sum
            ) as measured
            where
                daily.tenant_id = of_tenant
                and daily.template_id = of_template_id
                and daily.date = of_day
            group by daily.extractor_vendor, daily.extractor_model
            having sum(measured.count) > 0
            order by
                (sum(measured.sum) - expected * sum(measured.count))
                * case of_measure when 'drift' then -1 else 1 end,
                1, 2
            limit 5
        ) as extractor
    );
exception when undefined_table or undefined_column then
    return '[]';
end $$;
comment on function alerting.drift_contributors (text, uuid, date, double precision, text) is
    'The extractors that brought most of a day''s drift above what was expected of it, or of a lack of reliability; none
    before the first build.';

-- A bound for the mean of a subject's newest evaluations, in place of each by itself.

-- thresholds ---------------------------------------------------------------------------------------------------------

alter table alerting.thresholds
    add column window_n integer check (window_n between 2 and 100000),
    add column window_span interval check (window_span > '0' and window_span <= max_age),
    add column min_n integer check (min_n >= 1 and min_n <= coalesce(window_n, min_n)),
    add check (
        num_nonnulls(window_n, window_span, min_n) = 0
        or event_type in ('drift_high', 'reliability_low', 'decision_review')
    ),
    add check (min_n is null or num_nonnulls(window_n, window_span) > 0),
    add check (num_nonnulls(window_n, min_n) > 0 or window_span is null);
comment on column alerting.thresholds.window_n is
    'The mean of so many newest evaluations is held against the bound. With window_span both limit it; null in both: each
    evaluation by itself.';
comment on column alerting.thresholds.window_span is
    'None in the mean is so much older than the newest; null: than max_age.';
comment on column alerting.thresholds.min_n is 'So many evaluations before the mean is judged; null: window_n.';

drop function alerting.rules_for (text, text, text, text);

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
    window_n integer,
    window_span interval,
    min_n integer,
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
        rule.window_n,
        rule.window_span,
        rule.min_n,
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
            'window_n', rule.window_n,
            'window_span', rule.window_span,
            'min_n', rule.min_n,
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

-- windows ------------------------------------------------------------------------------------------------------------

create table alerting.windows (
    window_id bigint generated always as identity primary key,
    tenant_id text not null references access.tenants,
    event_type text not null,
    template text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    window_n integer,
    span interval not null,
    evaluation_count integer not null default 0,
    total bigint not null default 0,
    newest_at timestamptz,
    newest_id uuid,
    until_xact_id xid8 not null default '0',
    until_batch_id uuid not null default '00000000-0000-0000-0000-000000000000',
    unique (tenant_id, event_type, template, extractor_vendor, extractor_model)
);
alter table alerting.windows enable row level security;
comment on table alerting.windows is
    'The window of each subject whose rule is held against a mean, as of the last batch that brought it an evaluation;
    can be made anew from raw.evaluations.';
comment on column alerting.windows.total is 'The sum of the values in it, in billionths: whole numbers add up exactly.';
comment on column alerting.windows.until_xact_id is 'With until_batch_id: the last batch that is in it.';

create table alerting.window_values (
    window_id bigint not null references alerting.windows on delete cascade,
    created_at timestamptz not null,
    evaluation_id uuid not null,
    tenant_id text not null,
    value bigint not null,
    primary key (window_id, created_at, evaluation_id)
);
alter table alerting.window_values enable row level security;
comment on table alerting.window_values is
    'One row an evaluation in a window, oldest first: what a new one pushes out is found without reading the others.';
comment on column alerting.window_values.value is 'In billionths.';

-- alerts -------------------------------------------------------------------------------------------------------------

alter table alerting.alerts add column told_window jsonb;
comment on column alerting.alerts.told_window is
    'Of a mean: the window that was told, from its first to its last evaluation and until which batch; else null.';

-- Schemas raw (landing), access, alerting (sensors) and ml (assets). staging, intermediate and marts belong to dbt.
-- Every table carries tenant_id. Times are timestamptz, read and written in UTC.

create extension if not exists vector;

create schema raw;
create schema access;
create schema alerting;
create schema ml;
create schema if not exists staging;
create schema if not exists intermediate;
create schema if not exists marts;

comment on schema raw is 'What pipelines sent, as landed: evaluations, feedback, receipts and what was refused.';
comment on schema access is 'Tenants, their templates, keys and the audit log.';
comment on schema alerting is 'Thresholds, alerts, events and the outbox of webhook deliveries.';
comment on schema ml is 'What models say: forecasts and posteriors.';

-- access -------------------------------------------------------------------------------------------------------------

create table access.tenants (
    tenant_id text primary key check (tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text not null,
    created_at timestamptz not null default now()
);
comment on table access.tenants is 'One row a tenant: who owns records, sees marts and receives webhooks.';

create table access.audit_log (
    entry_id uuid primary key default uuidv7(),
    tenant_id text,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null
);
comment on table access.audit_log is 'Append-only: who did which administrative action on what.';

create function access.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on access.audit_log
    for each statement execute function access.refuse_change();

create table access.api_keys (
    key_id text primary key,
    tenant_id text not null references access.tenants,
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    scopes text[] not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
comment on table access.api_keys is 'Keys of the HTTP door; only their SHA-256 is kept.';

create table access.reader_tenants (
    role_name name not null,
    tenant_id text not null references access.tenants,
    primary key (role_name, tenant_id)
);
comment on table access.reader_tenants is 'Which tenants a login role of a BI tool may see in marts.';

-- SECURITY DEFINER over session_user: a reader can neither SET its way to another tenant nor read the mapping itself.
-- One array and no question a row, so that a policy asks once a query.
create function access.reader_tenant_ids() returns text[]
language sql stable security definer set search_path = pg_catalog as $$
    select coalesce(array_agg(tenant_id), '{}') from access.reader_tenants where role_name = session_user
$$;

-- raw ----------------------------------------------------------------------------------------------------------------

create table raw.ingest_batches (
    batch_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    kind text not null check (kind in ('evaluations', 'feedback')),
    door text not null,
    source text,
    received_at timestamptz not null default clock_timestamp(),
    -- Readers follow batches by this number against a snapshot's xmin: a serial or a clock skips late commits.
    xact_id xid8 not null default pg_current_xact_id(),
    accepted integer not null,
    duplicates integer not null,
    conflicts integer not null,
    rejected integer not null,
    touched_days date[] not null default '{}'
);
create index on raw.ingest_batches (xact_id);
comment on table raw.ingest_batches is 'One receipt a landed batch, written in the transaction that landed it.';
comment on column raw.ingest_batches.touched_days is
    'UTC days of created_at whose aggregates this batch changes, through evaluations or through feedback on them.';

create table access.templates (
    template_id uuid primary key,
    tenant_id text not null references access.tenants,
    template text not null,
    first_batch_id uuid not null,
    first_seen_at timestamptz not null,
    unique (tenant_id, template)
);
comment on table access.templates is 'One row a template of a tenant, registered by the first evaluation that names it.';

create table raw.evaluation_keys (
    record_key uuid primary key,
    tenant_id text not null,
    evaluation_id uuid not null,
    payload_hash uuid not null,
    created_on date not null,
    unique (evaluation_id, tenant_id)
);
comment on table raw.evaluation_keys is
    'Idempotency across all months: record_key is the hash of (tenant_id, record_id), payload_hash that of the content.';

create table raw.evaluations (
    evaluation_id uuid not null,
    tenant_id text not null,
    record_key uuid not null,
    record_id text not null,
    batch_id uuid not null,
    template_id uuid not null,
    template text not null,
    template_version text,
    extractor_vendor text not null,
    extractor_model text not null,
    drift_score double precision check (drift_score between 0 and 1),
    reliability_score double precision check (reliability_score between 0 and 1),
    decision text not null check (decision in ('accept', 'review', 'reject', 'undecided')),
    created_at timestamptz not null,
    score double precision,
    label text,
    propensity double precision check (propensity > 0 and propensity <= 1),
    batch_key text,
    correlation_id text,
    features jsonb,
    embedding halfvec(384)
) partition by range (created_at);
create index on raw.evaluations (batch_id);
create index on raw.evaluations (tenant_id, template_id, created_at);
create index on raw.evaluations (evaluation_id);
comment on table raw.evaluations is 'One row an accepted evaluation; monthly partitions by created_at.';

create function raw.ensure_evaluations_month(day date) returns void language plpgsql as $$
declare
    first_day date := date_trunc('month', day)::date;
    partition_name text := 'evaluations_' || to_char(first_day, 'YYYYMM');
begin
    if to_regclass(format('raw.%I', partition_name)) is not null then return; end if;
    -- The table's own lock and not an advisory one: only the former makes the catalogue cache notice another's commit.
    lock table raw.evaluations in share update exclusive mode;
    if to_regclass(format('raw.%I', partition_name)) is not null then return; end if;
    -- Made apart and attached: that asks for a lock which lets readers and writers of other months go on.
    execute format('create table raw.%I (like raw.evaluations including all)', partition_name);
    execute format(
        'alter table raw.evaluations attach partition raw.%I for values from (%L) to (%L)',
        partition_name,
        first_day::text || ' 00:00:00+00',
        (first_day + interval '1 month')::date::text || ' 00:00:00+00'
    );
end $$;

create table raw.feedback (
    feedback_id uuid primary key,
    tenant_id text not null,
    batch_id uuid not null,
    -- One of the two is set: feedback may come before its evaluation and joins it when that has landed.
    record_key uuid,
    evaluation_id uuid,
    payload_hash uuid not null,
    feedback_key text,
    success boolean,
    fields_correct integer check (fields_correct between 0 and fields_total),
    fields_total integer check (fields_total >= 1),
    created_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp(),
    check (num_nonnulls(record_key, evaluation_id) = 1),
    check (num_nonnulls(success, fields_total) > 0),
    check (num_nonnulls(fields_correct, fields_total) in (0, 2))
);
create index on raw.feedback (record_key) where record_key is not null;
create index on raw.feedback (tenant_id, evaluation_id) where evaluation_id is not null;
create index on raw.feedback (batch_id);
comment on table raw.feedback is 'Append-only: one row a feedback; the newest of an evaluation counts.';

create table raw.rejected_records (
    rejected_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    kind text not null check (kind in ('evaluations', 'feedback')),
    verdict text not null check (verdict in ('rejected', 'conflict')),
    batch_id uuid not null,
    line bigint not null,
    field text,
    code text not null,
    reason text not null,
    payload bytea not null,
    payload_sha256 bytea not null generated always as (sha256(payload)) stored,
    record bytea,
    occurrences bigint not null default 1,
    first_received_at timestamptz not null default clock_timestamp(),
    last_received_at timestamptz not null default clock_timestamp(),
    replayed_at timestamptz,
    unique (tenant_id, kind, verdict, payload_sha256)
);
comment on table raw.rejected_records is
    'Dead letters and conflicts, byte for byte. The same bytes sent again raise occurrences instead of adding a row.';
comment on column raw.rejected_records.batch_id is 'The batch that brought these bytes first.';
comment on column raw.rejected_records.record is
    'The JSON record that was judged, where the payload is of another format (a CSV line, a Parquet row).';

create table raw.batch_manifests (
    tenant_id text not null references access.tenants,
    batch_key text not null,
    expected bigint not null check (expected >= 0),
    checksum text,
    declared_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, batch_key)
);
comment on table raw.batch_manifests is 'What a sender declares to have sent under a batch_key.';

-- alerting -----------------------------------------------------------------------------------------------------------

create table alerting.thresholds (
    threshold_id uuid primary key default uuidv7(),
    tenant_id text references access.tenants,
    event_type text not null,
    template text,
    comparison text not null check (comparison in ('above', 'below')),
    value double precision not null,
    severity text not null default 'warning' check (severity in ('info', 'warning', 'critical')),
    clear_n integer not null default 3 check (clear_n >= 1),
    max_age interval not null default '7 days' check (max_age > '0' and max_age <= '3650 days'),
    enabled boolean not null default true,
    updated_at timestamptz not null default now(),
    unique nulls not distinct (tenant_id, event_type, template)
);
comment on table alerting.thresholds is
    'The rule of an event type; the most specific row wins: tenant and template, tenant, default (tenant_id null).';
comment on column alerting.thresholds.clear_n is
    'Consecutive evaluations (of drift_anomaly: days) within bounds that resolve an alert.';
comment on column alerting.thresholds.max_age is 'Older data changes history silently: it opens and resolves no alert.';

-- drift_anomaly is judged by whole days, and above 0 means above the forecast's upper bound.
create function alerting.rules_for(of_tenant text, of_template text) returns setof alerting.thresholds
language sql stable as $$
    select distinct on (event_type) *
    from alerting.thresholds
    where coalesce(tenant_id, of_tenant) = of_tenant and coalesce(template, of_template) = of_template
    order by event_type asc, tenant_id asc nulls last, template asc nulls last
$$;
comment on function alerting.rules_for (text, text) is
    'The rule of each event type that holds for a template of a tenant, enabled or not.';

insert into alerting.thresholds (event_type, comparison, value, severity, clear_n) values
    ('drift_high', 'above', 0.30, 'warning', 3),
    ('reliability_low', 'below', 0.80, 'warning', 3),
    ('decision_review', 'above', 0, 'info', 3),
    ('template_new', 'above', 0, 'info', 1),
    ('drift_anomaly', 'above', 0, 'warning', 1);

create table alerting.alerts (
    alert_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    event_type text not null,
    template text not null,
    -- Empty where the subject is the whole template: keeps the subject comparable with plain equality.
    extractor_vendor text not null default '',
    extractor_model text not null default '',
    epoch integer not null,
    status text not null check (status in ('firing', 'resolved')),
    severity text not null,
    metric text not null,
    value double precision not null,
    threshold double precision not null,
    breach_count bigint not null,
    evaluation_count bigint not null default 1,
    consecutive_ok integer not null default 0,
    window_start timestamptz not null,
    window_end timestamptz not null,
    evaluation_id uuid,
    correlation_id text,
    started_at timestamptz not null,
    resolved_at timestamptz,
    acked_at timestamptz,
    acked_by text,
    unique (tenant_id, event_type, template, extractor_vendor, extractor_model, epoch)
);
create unique index one_open_alert_a_subject on alerting.alerts
    (tenant_id, event_type, template, extractor_vendor, extractor_model) where status = 'firing';
comment on table alerting.alerts is 'One row an alert: a rule broken by a subject, from firing to resolved.';
comment on column alerting.alerts.value is 'The newest breach; what resolved the alert is in its event.';
comment on column alerting.alerts.evaluation_count is 'Evaluations judged between window_start and window_end.';
comment on column alerting.alerts.epoch is 'The how-many-th alert of this rule and subject, from 1.';

create table alerting.silences (
    silence_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    matchers jsonb not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    author text not null,
    comment text not null default ''
);
comment on table alerting.silences is 'Times during which matching alerts notify nobody.';

create table alerting.positions (
    consumer text primary key,
    next_xact_id xid8 not null
);
comment on table alerting.positions is
    'How far a reader has followed raw.ingest_batches: every batch with a smaller xact_id is done. No tenant: all of them.';

create sequence alerting.event_seq;

create table alerting.events (
    event_id uuid primary key,
    tenant_id text not null references access.tenants,
    seq bigint not null unique,
    event_type text not null,
    alert_id uuid references alerting.alerts,
    dedupe_key bytea not null unique,
    body bytea not null,
    body_sha256 bytea not null generated always as (sha256(body)) stored,
    occurred_at timestamptz not null,
    created_at timestamptz not null default clock_timestamp()
);
comment on table alerting.events is 'The outbox: what happened, as the exact bytes that are signed and sent.';

create table alerting.webhooks (
    webhook_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    url text not null,
    event_types text[] not null default '{}',
    status text not null default 'active' check (status in ('active', 'paused', 'disabled', 'deleted')),
    description text not null default '',
    created_at timestamptz not null default now()
);
comment on table alerting.webhooks is 'Endpoints that tenants want told; empty event_types means all.';

create table alerting.webhook_secrets (
    secret_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    webhook_id uuid not null references alerting.webhooks,
    sealed bytea not null,
    valid_from timestamptz not null default now(),
    valid_to timestamptz
);
create index on alerting.webhooks (tenant_id);
create index on alerting.webhook_secrets (webhook_id);
comment on table alerting.webhook_secrets is 'Signing secrets, encrypted and bound to their row.';

create table alerting.webhook_deliveries (
    delivery_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    event_id uuid not null references alerting.events,
    webhook_id uuid not null references alerting.webhooks,
    state text not null default 'pending'
        check (state in ('pending', 'in_flight', 'delivered', 'retry', 'failed', 'cancelled', 'parked')),
    attempt_count integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    lease_until timestamptz,
    fence bigint not null default 0,
    delivered_at timestamptz,
    created_at timestamptz not null default now(),
    unique (event_id, webhook_id)
);
create index on alerting.webhook_deliveries (next_attempt_at) where state in ('pending', 'retry', 'in_flight');
create index on alerting.webhook_deliveries (webhook_id);
comment on table alerting.webhook_deliveries is 'One row an event and endpoint: what is due, in flight, done or dead.';
comment on column alerting.webhook_deliveries.fence is
    'Raised by each claim; a result is written only by the claim whose number still stands.';

create table alerting.delivery_attempts (
    attempt_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    delivery_id uuid not null references alerting.webhook_deliveries,
    attempt integer not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status_code integer,
    error text,
    response bytea check (octet_length(response) <= 1000)
);
create index on alerting.delivery_attempts (delivery_id);
comment on table alerting.delivery_attempts is 'One row a request, inserted before it is sent; the result follows.';

-- ml -----------------------------------------------------------------------------------------------------------------

create table ml.forecast_models (
    model_id uuid primary key,
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    method text not null check (method in ('prophet', 'zscore')),
    fitted_from date not null,
    fitted_to date not null check (fitted_to >= fitted_from),
    fitted_days integer not null,
    history_hash bytea not null,
    computed_at timestamptz not null default now()
);
create index on ml.forecast_models (tenant_id, template_id);
comment on table ml.forecast_models is 'One row a fitted model: on which history, by which method.';
comment on column ml.forecast_models.model_id is
    'Hash of template, method, its settings and version, and the history: the same id means the same forecasts.';

create table ml.drift_forecasts (
    forecast_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    date date not null,
    method text not null check (method in ('prophet', 'zscore')),
    yhat double precision not null,
    yhat_lower double precision not null,
    yhat_upper double precision not null,
    actual double precision,
    evaluation_count bigint not null,
    is_anomaly boolean not null,
    fitted_from date not null,
    fitted_to date not null check (fitted_to < date),
    fitted_days integer not null,
    model_id uuid references ml.forecast_models,
    computed_at timestamptz not null default now(),
    unique (tenant_id, template_id, date)
);
-- The alert scan reads the last days of all templates every ten seconds.
create index on ml.drift_forecasts (date);
comment on table ml.drift_forecasts is
    'One row a template and day: the drift expected by a model that saw only earlier days, and what came.';

create table ml.extractor_posteriors (
    posterior_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    alpha double precision not null check (alpha > 0),
    beta double precision not null check (beta > 0),
    mean double precision not null,
    lower double precision not null,
    upper double precision not null,
    p_best double precision not null check (p_best between 0 and 1),
    success_count bigint not null,
    failure_count bigint not null,
    computed_at timestamptz not null default now(),
    unique (tenant_id, template_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_posteriors is
    'One row an extractor of a template: the Beta posterior of its success rate, 95 % credible interval, P(best).';

create table ml.feature_profiles (
    profile_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    feature text not null,
    profile jsonb not null,
    fitted_from date not null,
    fitted_to date not null,
    computed_at timestamptz not null default now()
);
comment on table ml.feature_profiles is 'Reference profiles of features that later days are compared with.';

-- intermediate -------------------------------------------------------------------------------------------------------

create table intermediate.horizons (
    model text primary key,
    snapshot pg_snapshot not null
);
comment on table intermediate.horizons is
    'Which batches an aggregate of dbt has in it: those whose xact_id is visible in its snapshot. No tenant: all of them.';

-- roles --------------------------------------------------------------------------------------------------------------

-- Roles belong to the server, not to the database: another database's migration may have made it.
do $$
begin
    create role bi_reader nologin;
exception when duplicate_object or unique_violation then
    null;
end $$;
grant usage on schema marts to bi_reader;
-- REFERENCES too: with SELECT alone information_schema shows a BI tool no primary keys.
alter default privileges in schema marts grant select, references on tables to bi_reader;
grant usage on schema access to bi_reader;
revoke all on function access.reader_tenant_ids () from public;
grant execute on function access.reader_tenant_ids () to bi_reader;

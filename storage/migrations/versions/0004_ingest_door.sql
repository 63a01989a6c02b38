-- The door for pushing: what a tenant may send and has sent, and the answers that an Idempotency-Key replays.

create table access.tenant_limits (
    tenant_id text primary key references access.tenants,
    records_a_month bigint check (records_a_month >= 0),
    updated_at timestamptz not null default now()
);
comment on table access.tenant_limits is 'What a tenant may land in a UTC month over the network; no row means no limit.';
comment on column access.tenant_limits.records_a_month is 'Accepted evaluations and feedback together; null is unlimited.';

create table access.tenant_usage_counters (
    tenant_id text not null references access.tenants,
    month date not null check (month = date_trunc('month', month)::date),
    slot smallint not null,
    accepted bigint not null,
    primary key (tenant_id, month, slot)
) with (fillfactor = 50);
comment on table access.tenant_usage_counters is
    'Records accepted in a month, counted in the transaction that landed them: the sum over the slots.';
comment on column access.tenant_usage_counters.slot is
    'Landings at once count in rows of their own, else each would wait for the commit of the one before.';

-- A trigger and not a statement of the landing: no door can land without being counted.
create function access.count_usage() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    insert into access.tenant_usage_counters as counter (tenant_id, month, slot, accepted)
    values (
        new.tenant_id,
        date_trunc('month', new.received_at at time zone 'UTC')::date,
        pg_backend_pid() % 16,
        new.accepted
    )
    on conflict (tenant_id, month, slot) do update set accepted = counter.accepted + excluded.accepted;
    return null;
end $$;
revoke all on function access.count_usage () from public;
create trigger count_usage after insert on raw.ingest_batches
    for each row when (new.accepted > 0) execute function access.count_usage();

insert into access.tenant_usage_counters (tenant_id, month, slot, accepted)
select tenant_id, date_trunc('month', received_at at time zone 'UTC')::date, 0, sum(accepted)
from raw.ingest_batches
where accepted > 0
group by 1, 2;

create table access.idempotent_answers (
    tenant_id text not null references access.tenants,
    idempotency_key text not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    status smallint not null,
    body bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, idempotency_key)
);
create index on access.idempotent_answers (created_at);
comment on table access.idempotent_answers is
    'Answers of the HTTP door by Idempotency-Key, written in the transaction that landed the records; kept 24 hours.';
comment on column access.idempotent_answers.fingerprint is 'SHA-256 of what was asked: the key with another body is refused.';

create table alerting.heartbeats (
    worker text primary key,
    beat_at timestamptz not null
);
comment on table alerting.heartbeats is
    'When a worker was last at work: `webhook_deliveries` is whoever drains the outbox. No tenant: all of them.';

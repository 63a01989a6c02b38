-- Endpoints: in which form they are told, by which signatures, at what pace; an address that is a secret; dead letters
-- sent again once; and what of the delivery log need no longer be kept.

alter table alerting.webhooks
    add column sealed_url bytea,
    add column format text not null default 'tidemark' check (format in ('tidemark', 'slack', 'teams')),
    add column ed25519 boolean not null default false;
comment on column alerting.webhooks.url is
    'As it is shown: scheme and host. Path and query may be secrets; the whole of it is in sealed_url.';
comment on column alerting.webhooks.sealed_url is 'Where deliveries go, encrypted and bound to this row.';
comment on column alerting.webhooks.format is
    'tidemark: the event''s own bytes; slack: Block Kit; teams: an Adaptive Card. An endpoint keeps its format.';
comment on column alerting.webhooks.ed25519 is 'Whether requests also carry an ed25519 signature (v1a).';

alter table alerting.webhook_secrets add column public_key text;
comment on column alerting.webhook_secrets.public_key is
    'Of an ed25519 key, as receivers are given it (whpk_…); null for an HMAC secret.';

alter table alerting.webhook_deliveries
    add column rendered bytea,
    add column replay_key text;
comment on column alerting.webhook_deliveries.rendered is
    'The bytes that are signed and sent if they are not the event''s own: made once, before the first attempt.';
comment on column alerting.webhook_deliveries.replay_key is 'With which key it was last sent again: not with that one anew.';
create index on alerting.webhook_deliveries (tenant_id, delivery_id);
create index webhook_deliveries_failed on alerting.webhook_deliveries (next_attempt_at) where state = 'failed';

-- A body that is no longer kept leaves its hash behind, and its dedupe_key, so that nothing is told a second time.
alter table alerting.events
    alter column body drop not null,
    alter column body_sha256 drop expression,
    add constraint events_body_is_what_was_hashed check (body_sha256 = sha256(body));
create index events_created_at_with_body on alerting.events (created_at) where body is not null;
comment on column alerting.events.body is 'The bytes; null once they need no longer be kept.';
comment on column alerting.events.body_sha256 is 'SHA-256 of the bytes, also of those that are no longer kept.';

grant select (public_key) on alerting.webhook_secrets to tidemark_api;

-- retention ----------------------------------------------------------------------------------------------------------

-- Nothing is sent again meanwhile: a replay holds the same lock, shared, until its delivery is open. The update is a
-- statement of its own, so that it sees what was replayed while it waited.
create function alerting.prune_event_bodies(before timestamptz) returns bigint
language plpgsql security definer set search_path = pg_catalog as $$
declare
    pruned bigint;
begin
    perform pg_advisory_xact_lock(7430113855215);
    with gone as (
        update alerting.events set body = null
        where
            body is not null
            and created_at < least(before, now() - interval '1 day')
            and not exists (
                select from alerting.webhook_deliveries
                where
                    webhook_deliveries.event_id = events.event_id
                    and webhook_deliveries.state in ('pending', 'in_flight', 'retry', 'parked')
            )
        returning event_id
    ),
    forgotten as (
        update alerting.webhook_deliveries set rendered = null
        where rendered is not null and event_id in (select gone.event_id from gone)
    )
    select count(*) into pruned from gone;
    return pruned;
end $$;
comment on function alerting.prune_event_bodies (timestamptz) is
    'Forgets the bodies of older events of which no delivery is open, also as rendered; returns how many. Never of the last day.';

create function alerting.prune_deliveries(before timestamptz, out attempts bigint, out deliveries bigint)
language plpgsql security definer set search_path = pg_catalog as $$
begin
    delete from alerting.delivery_attempts using alerting.webhook_deliveries
    where
        delivery_attempts.delivery_id = webhook_deliveries.delivery_id
        and webhook_deliveries.state in ('delivered', 'failed', 'cancelled')
        and delivery_attempts.started_at < least(before, now() - interval '1 day');
    get diagnostics attempts = row_count;
    delete from alerting.webhook_deliveries
    where
        state in ('delivered', 'failed', 'cancelled')
        and created_at < least(before, now() - interval '1 day')
        and not exists (
            select from alerting.delivery_attempts
            where delivery_attempts.delivery_id = webhook_deliveries.delivery_id
        );
    get diagnostics deliveries = row_count;
end $$;
comment on function alerting.prune_deliveries (timestamptz) is
    'Forgets older attempts of deliveries that are not open, and the deliveries themselves once none is left. Events stay.';

revoke all on function alerting.prune_event_bodies (timestamptz), alerting.prune_deliveries (timestamptz) from public;
grant usage on schema alerting to retention;
grant execute on function alerting.prune_event_bodies (timestamptz), alerting.prune_deliveries (timestamptz) to retention;

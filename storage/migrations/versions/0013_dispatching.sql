-- How an endpoint wants to be served, and how it stands: in its own row, so that any number of drainers share both, and
-- whoever claims for an endpoint has its row locked.

alter table alerting.webhooks
    add column retry_profile text not null default 'quick' check (retry_profile in ('quick', 'standard')),
    add column max_in_flight integer not null default 8 check (max_in_flight between 1 and 100),
    add column rate_per_second double precision check (rate_per_second > 0 and rate_per_second <= 1000),
    add column ordered boolean not null default false,
    add column breaker text not null default 'closed' check (breaker in ('closed', 'open', 'half_open')),
    add column breaker_until timestamptz,
    add column breaker_reason text,
    add column failures integer not null default 0,
    add column trips integer not null default 0,
    add column told_at timestamptz,
    add column tokens double precision not null default 0,
    add column tokens_at timestamptz;
-- Room on each page for the new versions that a token bucket leaves: none of these columns is indexed.
alter table alerting.webhooks set (fillfactor = 50);
comment on column alerting.webhooks.retry_profile is
    'quick: after 1, 5 and 30 minutes; standard: nine retries over 75 hours, as Standard Webhooks recommends.';
comment on column alerting.webhooks.max_in_flight is 'Requests under way at once, of all drainers together.';
comment on column alerting.webhooks.rate_per_second is 'Requests a second, a second''s worth at once; null is no limit.';
comment on column alerting.webhooks.ordered is
    'One delivery of a subject at a time, in the order of the events; one that is dead lets the next one go.';
comment on column alerting.webhooks.breaker is
    'closed: served; open: its due deliveries are parked until breaker_until; half_open: one request probes it.';
comment on column alerting.webhooks.breaker_reason is 'What opened it last; holds nothing of the request.';
comment on column alerting.webhooks.failures is 'Failures since the last success.';
comment on column alerting.webhooks.trips is 'How often the breaker has opened since the last success.';
comment on column alerting.webhooks.told_at is 'When the tenant''s other endpoints were last told that the breaker opened.';
comment on column alerting.webhooks.tokens is 'Of the token bucket, at tokens_at; counts only where a rate is set.';

alter table alerting.webhook_deliveries add column subject_key bytea;
comment on column alerting.webhook_deliveries.subject_key is
    'Of endpoints in order alone: which deliveries wait for one another.';

-- A claim goes from endpoint to endpoint and takes the head of each: never past another endpoint's backlog.
drop index alerting.webhook_deliveries_next_attempt_at_idx;
create index webhook_deliveries_due on alerting.webhook_deliveries (webhook_id, next_attempt_at, delivery_id)
where state in ('pending', 'retry');
create index webhook_deliveries_parked on alerting.webhook_deliveries (webhook_id, next_attempt_at, delivery_id)
where state = 'parked';
create index webhook_deliveries_in_flight on alerting.webhook_deliveries (webhook_id, lease_until)
where state = 'in_flight';
create index webhook_deliveries_in_order on alerting.webhook_deliveries (webhook_id, subject_key, delivery_id)
where subject_key is not null and state in ('pending', 'retry', 'in_flight', 'parked');

comment on table alerting.heartbeats is
    'When a worker was last at work: `dispatcher` delivers at once, `webhook_deliveries` is whoever drains the outbox.';

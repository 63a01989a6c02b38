-- Between an alert's transition and its event: what is told, held back, grouped, repeated.

create table alerting.notification_policies (
    tenant_id text primary key references access.tenants,
    group_by text [],
    group_wait interval not null default '0' check (group_wait >= '0'),
    group_interval interval not null default '5 minutes' check (group_interval >= '0'),
    repeat_interval interval check (repeat_interval > '0'),
    suppression_window interval check (suppression_window > '0'),
    updated_at timestamptz not null default now()
);
comment on table alerting.notification_policies is
    'How a tenant is told; without a row each transition at once, alone and once.';
comment on column alerting.notification_policies.group_by is
    'Labels whose values make a group, besides event_type; null: no grouping, every transition is an event of its own.';
comment on column alerting.notification_policies.group_wait is 'How long a new group waits for more before it is told.';
comment on column alerting.notification_policies.group_interval is
    'How long after a group was told it is told again of what is new in it.';
comment on column alerting.notification_policies.repeat_interval is
    'After so long an alert that still fires and that nobody has acknowledged is told again; null: never.';
comment on column alerting.notification_policies.suppression_window is
    'So long after a subject was told to fire, its next firing is kept back; null: never.';

create table alerting.inhibitions (
    inhibition_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    source_matchers jsonb not null check (jsonb_typeof(source_matchers) = 'array'),
    target_matchers jsonb not null check (jsonb_typeof(target_matchers) = 'array'),
    equal_labels text [] not null default '{}',
    created_at timestamptz not null default now(),
    unique (tenant_id, source_matchers, target_matchers, equal_labels)
);
comment on table alerting.inhibitions is
    'While an alert fires that the source matchers fit, alerts that the target matchers fit notify nobody, if all equal
    labels have the same values.';

create table alerting.notifications (
    alert_id uuid not null references alerting.alerts,
    transition text not null check (transition in ('firing', 'resolved', 'amended', 'retracted')),
    number integer not null default 0,
    tenant_id text not null references access.tenants,
    state text not null check (state in ('told', 'held', 'grouped', 'dropped')),
    seen_at timestamptz not null,
    read_from xid8 not null,
    read_to xid8 not null,
    told_at timestamptz,
    window_start timestamptz not null,
    window_end timestamptz not null,
    by_hand boolean not null default false,
    group_key jsonb,
    draft jsonb check (draft is not null or state not in ('held', 'grouped')),
    primary key (alert_id, transition, number)
);
create index on alerting.notifications (seen_at, alert_id) where state = 'held';
create index on alerting.notifications (tenant_id, group_key) where group_key is not null;
create index on alerting.notifications (tenant_id, seen_at);
comment on table alerting.notifications is
    'The log of transitions, and what became of each: told, held back (by a silence, an inhibition, a suppression window),
    waiting in its group, or dropped because what it was about was never told or is over.';
comment on column alerting.notifications.number is
    'Of firing the how-many-th repeat (0: the first telling), of amended and retracted how many came before it.';
comment on column alerting.notifications.seen_at is 'The time of the scan that found the transition.';
comment on column alerting.notifications.read_from is
    'With read_to: the positions between which the scan read, so that a replay can begin where the state is known.';
comment on column alerting.notifications.window_start is 'With window_end: the data that the transition was judged by.';
comment on column alerting.notifications.by_hand is 'Somebody resolved it: no data did, so no replay can.';
comment on column alerting.notifications.draft is 'What would be told, as long as it may still be.';

create table alerting.suppressions (
    suppression_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    alert_id uuid not null references alerting.alerts,
    transition text not null,
    number integer not null,
    reason text not null check (reason in ('silence', 'inhibition', 'window')),
    by_id uuid,
    suppressed_at timestamptz not null,
    unique nulls not distinct (alert_id, transition, number, reason, by_id)
);
create index on alerting.suppressions (tenant_id, by_id, suppression_id);
comment on table alerting.suppressions is 'What was kept back, and by what: one row a notification and cause.';
comment on column alerting.suppressions.by_id is
    'The silence, or the alert whose firing inhibits; null of a suppression window.';

create table alerting.notification_groups (
    tenant_id text not null references access.tenants,
    group_key jsonb not null,
    flushed_at timestamptz not null,
    primary key (tenant_id, group_key)
);
comment on table alerting.notification_groups is 'Groups that were told and still have a firing alert; others wait anew.';

-- Whatever fired before there was a policy was told.
insert into alerting.notifications
    (alert_id, transition, tenant_id, state, seen_at, read_from, read_to, told_at, window_start, window_end)
select
    alerts.alert_id, told.transition, alerts.tenant_id, 'told', told.at, '0', positions.next_xact_id, told.at,
    alerts.window_start, alerts.window_end
from alerting.alerts
inner join alerting.positions on positions.consumer = 'alerts'
cross join lateral (
    values ('firing', alerts.started_at), ('resolved', alerts.resolved_at)
) as told (transition, at)
where alerts.status in ('firing', 'resolved') and told.at is not null;

do $$
declare
    relation regclass;
begin
    foreach relation in array array[
        'alerting.notification_policies', 'alerting.inhibitions', 'alerting.notifications', 'alerting.suppressions',
        'alerting.notification_groups'
    ]::regclass []
    loop
        execute format('alter table %s enable row level security', relation);
    end loop;
end $$;

create policy the_api_sees_its_tenant on alerting.notifications for select to api_reader
using (tenant_id = (select access.api_tenant_id()));
create policy the_api_sees_its_tenant on alerting.suppressions for select to api_reader
using (tenant_id = (select access.api_tenant_id()));
grant select on alerting.notifications, alerting.suppressions to api_reader;

-- An alert that is resolved over HTTP is told, or kept back, as one that data resolves.
grant select on alerting.notification_policies, alerting.inhibitions to tidemark_api;
grant select, insert, update on alerting.notifications to tidemark_api;
grant select, insert on alerting.suppressions to tidemark_api;

-- An end for what waits behind a dead endpoint, retention of what was told, policies and inhibitions over HTTP.

alter table alerting.webhooks add column failing_since timestamptz;
update alerting.webhooks set failing_since = now() where breaker <> 'closed';
comment on column alerting.webhooks.failing_since is
    'Of a breaker that is not closed: when it opened first since it was. What waits behind it for too long is given up.';

-- Of every delivery: an endpoint that is put in order has some in its queue. Those from before wait for no other.
update alerting.webhook_deliveries set subject_key = uuid_send(delivery_id) where subject_key is null;
alter table alerting.webhook_deliveries alter column subject_key set not null;
comment on column alerting.webhook_deliveries.subject_key is
    'Which deliveries wait for one another, where the endpoint is told in order.';
drop index alerting.webhook_deliveries_in_order;
create index webhook_deliveries_in_order on alerting.webhook_deliveries (webhook_id, subject_key, delivery_id)
where state in ('pending', 'retry', 'in_flight', 'parked');

-- Each scan asks for the groups in which something waits, and not for all that were ever told.
create index on alerting.notifications (tenant_id, group_key) where state = 'grouped';

-- over HTTP ----------------------------------------------------------------------------------------------------------

create policy the_api_sees_its_tenant on alerting.inhibitions for select to api_reader
using (tenant_id = (select access.api_tenant_id()));
create policy the_api_sees_its_tenant on alerting.notification_policies for select to api_reader
using (tenant_id = (select access.api_tenant_id()));
grant select on alerting.inhibitions, alerting.notification_policies to api_reader;
grant insert, delete on alerting.inhibitions to tidemark_api;
grant insert, update, delete on alerting.notification_policies to tidemark_api;

-- retention ----------------------------------------------------------------------------------------------------------

create function alerting.prune_notifications(
    before timestamptz, out notifications bigint, out suppressions bigint, out groups bigint
) language plpgsql security definer set search_path = pg_catalog as $$
declare
    -- A dry run replays 30 days, and looks for its beginning in the 31 before them.
    horizon timestamptz := least(before, now() - interval '62 days');
begin
    with gone as materialized (
        select alerts.alert_id
        from alerting.alerts
        where
            alerts.status in ('ok', 'resolved')
            and alerts.started_at < horizon
            -- Late data may no longer restate it.
            and coalesce(alerts.told_end, alerts.window_end) < now() - coalesce(
                (
                    select max(thresholds.max_age) from alerting.thresholds
                    where thresholds.event_type = alerts.event_type
                ),
                '0'
            )
            and not exists (
                select from alerting.notifications as recent
                left join alerting.notification_policies as policies on recent.tenant_id = policies.tenant_id
                where
                    recent.alert_id = alerts.alert_id
                    and (
                        recent.state in ('held', 'grouped')
                        or greatest(recent.seen_at, recent.told_at) >= horizon
                        -- The subject's next firing may still be held against it.
                        or recent.told_at >= now() - policies.suppression_window
                    )
            )
            -- The newest of its subject tells a replay where to go on counting.
            and exists (
                select from alerting.alerts as later
                inner join alerting.notifications as firing on later.alert_id = firing.alert_id
                where
                    (later.tenant_id, later.event_type, later.metric, later.template)
                    = (alerts.tenant_id, alerts.event_type, alerts.metric, alerts.template)
                    and (later.extractor_vendor, later.extractor_model)
                    = (alerts.extractor_vendor, alerts.extractor_model)
                    and later.epoch > alerts.epoch
                    and firing.transition = 'firing'
                    and firing.number = 0
                    and firing.seen_at < horizon
            )
    )
    delete from alerting.notifications as old
    where
        old.alert_id in (select gone.alert_id from gone)
        -- Of repeats only the newest decides when the next is due.
        or (
            old.transition = 'firing'
            and old.number > 0
            and old.state = 'told'
            and old.told_at < horizon
            and exists (
                select from alerting.notifications as later
                where
                    later.alert_id = old.alert_id
                    and later.transition = 'firing'
                    and later.number > old.number
            )
        );
    get diagnostics notifications = row_count;

    delete from alerting.suppressions as old using alerting.alerts
    where
        old.alert_id = alerts.alert_id
        and old.suppressed_at < horizon
        and alerts.status in ('ok', 'resolved')
        and not exists (
            select from alerting.notifications as waiting
            where
                (waiting.alert_id, waiting.transition, waiting.number) = (old.alert_id, old.transition, old.number)
                and waiting.state in ('held', 'grouped')
        );
    get diagnostics suppressions = row_count;

    delete from alerting.notification_groups as old
    where
        old.flushed_at < horizon
        and not exists (
            select from alerting.notifications as told
            inner join alerting.alerts on told.alert_id = alerts.alert_id
            where
                (told.tenant_id, told.group_key) = (old.tenant_id, old.group_key)
                and (alerts.status = 'firing' or told.state = 'grouped')
        );
    get diagnostics groups = row_count;
end $$;
comment on function alerting.prune_notifications (timestamptz) is
    'Forgets older transitions of alerts that are over, what kept them back, and groups. Never what waits, what late
    data may restate, what a suppression window or a dry run looks back at, nor the newest alert of a subject.';

revoke all on function alerting.prune_notifications (timestamptz) from public;
grant execute on function alerting.prune_notifications (timestamptz) to retention;

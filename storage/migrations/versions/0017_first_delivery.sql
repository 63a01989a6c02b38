-- Of a delivery that is sent again: when it arrived first, from which its endpoint's health is told.

alter table alerting.webhook_deliveries add column first_delivered_at timestamptz;
update alerting.webhook_deliveries as deliveries
set first_delivered_at = coalesce(
    (
        select min(attempts.finished_at) from alerting.delivery_attempts as attempts
        where attempts.delivery_id = deliveries.delivery_id and attempts.status_code between 200 and 299
    ),
    deliveries.delivered_at
);
comment on column alerting.webhook_deliveries.delivered_at is 'When it was acknowledged; null while it is sent again.';
comment on column alerting.webhook_deliveries.first_delivered_at is
    'When it was acknowledged first, whatever was sent again since.';

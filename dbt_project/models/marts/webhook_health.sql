{{ config(
    unique_key='webhook_id',
    indexes=[{'columns': ['tenant_id']}],
    post_hook="
        delete from {{ this }}
        where webhook_id not in (select webhook_id from {{ ref('stg_webhooks') }} where status <> 'deleted')
    "
) }}

with known_tenants as not materialized (
    select tenant_id from {{ ref('dim_tenants') }}
),

webhooks as not materialized (
    select * from {{ ref('stg_webhooks') }}
    -- Of a tenant made since dim_tenants was: left to the next build.
    where status <> 'deleted' and tenant_id in (select known_tenants.tenant_id from known_tenants)
),

deliveries as not materialized (
    select * from {{ ref('stg_webhook_deliveries') }}
    where created_at >= now() - interval '{{ var("webhook_health_days") }} days'
),

counts as (
    select
        webhook_id,
        count(*) as delivery_count,
        count(*) filter (where state = 'delivered') as delivered_count,
        count(*) filter (where state = 'failed') as failed_count,
        count(*) filter (where state in ('pending', 'in_flight', 'retry', 'parked')) as waiting_count,
        sum(attempt_count)::bigint as attempt_count,
        percentile_cont(array[0.5, 0.95]) within group (
            order by extract(epoch from first_delivered_at - created_at)::double precision
        ) as seconds_to_deliver,
        min(next_attempt_at) filter (where state in ('pending', 'in_flight', 'retry', 'parked')) as oldest_due_at,
        max(delivered_at) as last_delivered_at
    from deliveries
    group by webhook_id
),

final as (
    select
        webhooks.webhook_id,
        webhooks.tenant_id,
        webhooks.endpoint,
        webhooks.format,
        webhooks.status,
        webhooks.breaker,
        coalesce(counts.delivery_count, 0) as delivery_count,
        coalesce(counts.delivered_count, 0) as delivered_count,
        coalesce(counts.failed_count, 0) as failed_count,
        coalesce(counts.waiting_count, 0) as waiting_count,
        coalesce(counts.attempt_count, 0) as attempt_count,
        {{ mean_of('counts.delivered_count::numeric', '(counts.delivered_count + counts.failed_count)') }}
            as success_rate,
        counts.seconds_to_deliver[1] as seconds_to_deliver_p50,
        counts.seconds_to_deliver[2] as seconds_to_deliver_p95,
        counts.oldest_due_at,
        counts.last_delivered_at
    from webhooks
    left join counts on webhooks.webhook_id = counts.webhook_id
)

{{ changed_rows('final', [
    'webhook_id', 'tenant_id', 'endpoint', 'format', 'status', 'breaker', 'delivery_count', 'delivered_count', 'failed_count',
    'waiting_count', 'attempt_count', 'success_rate', 'seconds_to_deliver_p50', 'seconds_to_deliver_p95',
    'oldest_due_at', 'last_delivered_at'
]) }}

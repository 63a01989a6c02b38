"""Whether the marts of alerts, endpoints and recommendations show how these stand: what people do is no landing.

Does not belong here: building them (`build`), and when they are built (`orchestration`).
"""

from storage.database import Connection

# Before the first build of this version there is nothing to compare.
_STAND = """
select count(*) = 3
from pg_attribute
where
    (attrelid, attname) in (
        (to_regclass('marts.recent_alerts'), 'is_amended'),
        (to_regclass('marts.webhook_health'), 'breaker'),
        (to_regclass('marts.extractor_recommendations'), 'snapshot_id')
    )
    and not attisdropped
"""

# What is shown is held against what is, and no time or number of a change: whatever changed it, whoever wrote the time,
# and however late that was committed. Left out are what each evaluation of a firing alert moves, and deliveries: a
# landing brings them up to date. Also whether an endpoint that is held back is being tried just now.
_BEHIND = """
select
    exists (
        select from alerting.alerts
        left join marts.recent_alerts as shown on alerts.alert_id = shown.alert_id
        where
            (shown.alert_id is not null or alerts.status = 'firing')
            and (alerts.status, alerts.acked_at, alerts.is_retracted, alerts.revision > alerts.is_retracted::integer)
            is distinct from (shown.status, shown.acked_at, shown.is_retracted, shown.is_amended)
    )
    or exists (
        select from (select * from alerting.webhooks where status <> 'deleted') as webhooks
        full join marts.webhook_health as shown on webhooks.webhook_id = shown.webhook_id
        where
            (webhooks.webhook_id, webhooks.url, webhooks.status, webhooks.breaker = 'closed')
            is distinct from (shown.webhook_id, shown.endpoint, shown.status, shown.breaker = 'closed')
    )
    or exists (
        select from ml.extractor_recommendations as holding
        full join marts.extractor_recommendations as shown
            on
                holding.tenant_id = shown.tenant_id
                and holding.template_id = shown.template_id
                and holding.extractor_vendor = shown.extractor_vendor
                and holding.extractor_model = shown.extractor_model
        where holding.snapshot_id is distinct from shown.snapshot_id
    )
"""


def alert_marts_are_behind(connection: Connection) -> bool:
    """Whether one of them stands otherwise than its mart shows; False before the first build."""
    if connection.execute(_STAND).fetchone() != (True,):
        return False
    return connection.execute(_BEHIND).fetchone() == (True,)

"""Notification policies: how a tenant is told of its alerts.

Belongs here: rows of `alerting.notification_policies`, their validation and their audit entries. Does not belong here:
what they mean (`policy`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta

from psycopg.rows import dict_row

from sensors.alerts.inhibitions import check_labels
from sensors.alerts.policy import Policy
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant

LONGEST = timedelta(days=365)

_READ = """
select tenant_id, group_by, group_wait, group_interval, repeat_interval, suppression_window
from alerting.notification_policies
where tenant_id = any(%(tenants)s)
"""

_SET = """
insert into alerting.notification_policies
    (tenant_id, group_by, group_wait, group_interval, repeat_interval, suppression_window)
values
    (%(tenant_id)s, %(group_by)s, %(group_wait)s, %(group_interval)s, %(repeat_interval)s, %(suppression_window)s)
on conflict (tenant_id) do update set
    group_by = excluded.group_by,
    group_wait = excluded.group_wait,
    group_interval = excluded.group_interval,
    repeat_interval = excluded.repeat_interval,
    suppression_window = excluded.suppression_window,
    updated_at = now()
"""

_UNSET = "delete from alerting.notification_policies where tenant_id = %(tenant_id)s"


def read_policies(connection: Connection, tenant_ids: Iterable[str]) -> dict[str, Policy]:
    """Each tenant's policy; of one that has set none, that every transition is told at once, alone and once."""
    names = list(tenant_ids)
    policies = {name: Policy() for name in names}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_READ, {"tenants": names}):
            tenant_id, by = row.pop("tenant_id"), row.pop("group_by")
            policies[tenant_id] = Policy(group_by=None if by is None else tuple(by), **row)
    return policies


def get_policy(connection: Connection, tenant_id: str) -> Policy:
    """A tenant's policy.

    Raises:
        UsageError: an unknown tenant.
    """
    require_tenant(connection, tenant_id)
    return read_policies(connection, [tenant_id])[tenant_id]


def set_policy(connection: Connection, tenant_id: str, policy: Policy) -> None:
    """Tell a tenant by this policy from now on.

    Raises:
        UsageError: an unknown tenant, a label that alerts don't have, or a time that makes no sense.
    """
    require_tenant(connection, tenant_id)
    check_policy(policy)
    with connection.transaction():
        values = asdict(policy) | {"group_by": None if policy.group_by is None else list(policy.group_by)}
        connection.execute(_SET, values | {"tenant_id": tenant_id})
        record_audit(connection, tenant_id=tenant_id, action="policy.set", subject=tenant_id, detail=policy_row(policy))


def unset_policy(connection: Connection, tenant_id: str) -> bool:
    """Tell a tenant every transition at once, alone and once from now on; False if it had set nothing else.

    Raises:
        UsageError: an unknown tenant.
    """
    require_tenant(connection, tenant_id)
    with connection.transaction():
        if not connection.execute(_UNSET, {"tenant_id": tenant_id}).rowcount:
            return False
        record_audit(connection, tenant_id=tenant_id, action="policy.unset", subject=tenant_id)
    return True


def check_policy(policy: Policy) -> None:
    """Refuse a policy that can't be meant.

    Raises:
        UsageError: naming the field.
    """
    check_labels(policy.group_by or (), "group_by")
    for name in ("group_wait", "group_interval", "repeat_interval", "suppression_window"):
        value: timedelta | None = getattr(policy, name)
        least = timedelta() if name.startswith("group") else timedelta(seconds=1)
        if value is not None and not least <= value <= LONGEST:
            raise UsageError(f"{name}: must be between {least.total_seconds():g} s and {LONGEST.days} days")


def policy_row(policy: Policy) -> Mapping[str, object]:
    """A policy as people read it: times in seconds, null where something is off."""
    times = ("group_wait", "group_interval", "repeat_interval", "suppression_window")
    seconds = {name: None if (time := getattr(policy, name)) is None else time.total_seconds() for name in times}
    return {"group_by": None if policy.group_by is None else list(policy.group_by), **seconds}

"""Which firings silences would have kept back: by the silences as they are stored now, without those that are deleted.

Belongs here: silences held against a replay's alerts. Does not belong here: keeping back what is told (`policy`).
"""

from datetime import datetime

from sensors.alerts.matchers import Matcher, fit, read_matchers
from sensors.alerts.states import Alert
from storage.database import Connection

_SILENCES = """
select tenant_id, matchers, starts_at, ends_at from alerting.silences
where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s
"""


class Silences:
    """A tenant's silences, or everybody's, over and to come ones too.

    Args:
        connection: any.
        tenant_id: whose; None for everybody's.
    """

    def __init__(self, connection: Connection, tenant_id: str | None) -> None:
        self._by_tenant: dict[str, list[tuple[tuple[Matcher, ...], datetime, datetime]]] = {}
        for owner, matchers, starts, ends in connection.execute(_SILENCES, {"tenant_id": tenant_id}):
            self._by_tenant.setdefault(owner, []).append((read_matchers(matchers), starts, ends))

    def keep_back(self, alert: Alert, at: datetime) -> bool:
        """Whether one of them was in force then and fits the alert."""
        subject = alert.subject
        names = ("event_type", "template", "extractor_vendor", "extractor_model")
        labels = {name: getattr(subject, name) for name in names} | {"severity": alert.severity}
        return any(
            starts <= at < ends and fit(matchers, labels)
            for matchers, starts, ends in self._by_tenant.get(subject.tenant_id, ())
        )

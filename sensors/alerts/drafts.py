"""Events that wait: drafts as JSON and back, and several of them as the one event of a group.

Does not belong here: when they are told (`policy`, `notifications`).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from sensors.alerts.policy import severity_rank
from sensors.outbox import AlertPart, EventDraft, MetricPart, SubjectPart, alert_members

# A body stays within what receivers take; the counts are of all.
MOST_SHOWN = 100


def draft_row(draft: EventDraft) -> Jsonb:
    """A draft as a row keeps it."""
    return Jsonb(asdict(draft), dumps=lambda value: json.dumps(value, default=_text))


def read_draft(row: Mapping[str, Any]) -> EventDraft:
    """A draft as it was before `draft_row`."""
    alert, metric = row["alert"], row["metric"]
    return EventDraft(
        tenant_id=row["tenant_id"],
        event_type=row["event_type"],
        dedupe=tuple(row["dedupe"]),
        occurred_at=datetime.fromisoformat(row["occurred_at"]),
        alert=AlertPart(
            **(alert | {"alert_id": _uuid(alert["alert_id"]), "started_at": _time(alert["started_at"])}),
        ),
        subject=SubjectPart(**row["subject"]),
        metric=MetricPart(
            **(metric | {name: _time(metric[name]) for name in ("window_start", "window_end")}),
        ),
        evaluation_id=_uuid(row["evaluation_id"]),
        correlation_id=row["correlation_id"],
    )


def group_draft(key: Mapping[str, str], members: Sequence[EventDraft]) -> EventDraft:
    """One event for several transitions of a group.

    The most severe is told as the alert, subject and metric, of equals one that fires, then the oldest. The `group` has
    the key's labels, counts by status, and the alerts themselves.

    Args:
        key: the group's labels and their values.
        members: at least one, oldest first, all of one tenant and event type.
    """
    lead = max(members, key=lambda draft: (severity_rank(draft.alert.severity), draft.alert.status == "firing"))
    counts = Counter(str(draft.alert.status) for draft in members)
    group = {
        "key": dict(key),
        "counts": dict(counts),
        "alerts": [alert_members(draft) for draft in members[:MOST_SHOWN]],
        "omitted": max(len(members) - MOST_SHOWN, 0),
    }
    whose = tuple(draft.dedupe_key.hex() for draft in members)
    return replace(lead, dedupe=("group", json.dumps(dict(key), sort_keys=True), *whose), group=group)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

"""The life of an alert, as a pure function: one observation after the other, `firing` and `resolved`.

Belongs here: when an alert opens, what later observations change in it, when it resolves. Does not belong here: where
observations come from (`rules`) and where alerts are kept (`store`).

An alert's `window_end` is the end of the newest data it has judged. What is older than that comes late:

* a late evaluation changes nothing. Had it come in time, a later one would have had the last word anyway; a late breach
  must not reopen what newer data has resolved, late in-bounds data must not resolve what newer data keeps firing;
* a finding (a day of a forecast, a build's missing batches, a silence) is read anew with every scan, so also what ends
  at `window_end` itself is done.

Without an alert there is nothing to be late for: the first breach opens one.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

Status = Literal["firing", "resolved"]
Source = Literal["evaluation", "finding", "one_shot"]


class Subject(NamedTuple):
    """What an alert is about, of which one is open at most.

    No extractor where the whole template is meant, and no template where the whole tenant is.
    """

    tenant_id: str
    event_type: str
    metric: str
    template: str = ""
    extractor_vendor: str = ""
    extractor_model: str = ""


@dataclass(frozen=True)
class Observation:
    """One judged value.

    Attributes:
        source: `evaluation`: seen once, in its batch; `finding`: seen with each scan; `one_shot`: news that is over as
            soon as it is told (a new template).
        clear_n: consecutive observations within bounds that resolve the alert.
        starts, ends: the data's window, aware; equal for a single evaluation.
        evaluation_count: evaluations the value was made from.
    """

    subject: Subject
    source: Source
    value: float
    threshold: float
    breach: bool
    severity: str
    clear_n: int
    starts: datetime
    ends: datetime
    evaluation_count: int = 1
    evaluation_id: UUID | None = None
    correlation_id: str | None = None


@dataclass(frozen=True)
class Alert:
    """One alert as kept in `alerting.alerts`; `alert_id` is None until it is stored."""

    subject: Subject
    epoch: int
    status: Status
    severity: str
    value: float
    threshold: float
    breach_count: int
    evaluation_count: int
    consecutive_ok: int
    window_start: datetime
    window_end: datetime
    evaluation_id: UUID | None
    correlation_id: str | None
    started_at: datetime
    resolved_at: datetime | None = None
    alert_id: UUID | None = None


@dataclass(frozen=True)
class Transition:
    """A change that is told: the alert right after it, and the value that caused it."""

    status: Status
    alert: Alert
    value: float
    evaluation_id: UUID | None
    correlation_id: str | None


def advance(alert: Alert | None, seen: Observation) -> tuple[Alert | None, Transition | None]:
    """Judge one observation against the subject's newest alert (None: it never had one).

    Returns:
        The subject's newest alert now (the same object if nothing changed), and the transition if there was one.
    """
    if alert is not None and _is_late(alert, seen):
        return alert, None
    if not seen.breach:
        return (alert, None) if alert is None or alert.status == "resolved" else _within_bounds(alert, seen)
    if alert is not None and alert.status == "firing":
        return _still_firing(alert, seen), None
    return _open(alert.epoch + 1 if alert else 1, seen)


def resolve(alert: Alert, seen: Observation) -> tuple[Alert, Transition]:
    """Close an alert with the observation that ends it."""
    resolved = replace(alert, status="resolved", resolved_at=seen.ends)
    return resolved, _transition("resolved", resolved, seen)


def _is_late(alert: Alert, seen: Observation) -> bool:
    if seen.source == "one_shot":
        return True
    return seen.ends <= alert.window_end if seen.source == "finding" else seen.ends < alert.window_end


def _open(epoch: int, seen: Observation) -> tuple[Alert, Transition]:
    alert = Alert(
        subject=seen.subject,
        epoch=epoch,
        status="firing",
        severity=seen.severity,
        value=seen.value,
        threshold=seen.threshold,
        breach_count=1,
        evaluation_count=seen.evaluation_count,
        consecutive_ok=0,
        window_start=seen.starts,
        window_end=seen.ends,
        evaluation_id=seen.evaluation_id,
        correlation_id=seen.correlation_id,
        started_at=seen.starts,
    )
    if seen.source == "one_shot":
        return resolve(alert, seen)[0], _transition("firing", alert, seen)
    return alert, _transition("firing", alert, seen)


def _still_firing(alert: Alert, seen: Observation) -> Alert:
    return replace(
        alert,
        value=seen.value,
        threshold=seen.threshold,
        severity=seen.severity,
        breach_count=alert.breach_count + 1,
        evaluation_count=alert.evaluation_count + seen.evaluation_count,
        consecutive_ok=0,
        window_end=seen.ends,
        evaluation_id=seen.evaluation_id,
        correlation_id=seen.correlation_id,
    )


def _within_bounds(alert: Alert, seen: Observation) -> tuple[Alert, Transition | None]:
    alert = replace(
        alert,
        consecutive_ok=alert.consecutive_ok + 1,
        evaluation_count=alert.evaluation_count + seen.evaluation_count,
        window_end=seen.ends,
    )
    return resolve(alert, seen) if alert.consecutive_ok >= seen.clear_n else (alert, None)


def _transition(status: Status, alert: Alert, seen: Observation) -> Transition:
    return Transition(status, alert, seen.value, seen.evaluation_id, seen.correlation_id)

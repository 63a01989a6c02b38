"""The life of an alert, as a pure function: one observation after the other, from `ok` to `resolved`.

Belongs here: when an alert is pending, fires and resolves, what later observations change in it, what late data undoes.
Does not belong here: where observations come from (`observations`, `findings`) and where alerts are kept (`store`).

`for_n` breaches in a row make a `pending` alert fire; anything else in between makes it `ok`, from where the next
breach goes on. `clear_n` observations in a row within the clear value resolve it. What is between the bound and the
clear value is neither: it ends either row and begins none, so of a metric that flaps there nothing is told.

An alert's `window_end` is the end of the newest data it has judged. What is older than that comes late:

* a late evaluation changes nothing. Had it come in time, a later one would have had the last word anyway; a late breach
  must not reopen what newer data has resolved, late in-bounds data must not resolve what newer data keeps firing. What
  landed is never changed, so what a single evaluation raised is never undone either;
* a window's mean is judged when it has moved, also by what came late, and each time as of its newest evaluation. What
  it was when it was told is held against what it is with what came late, as a finding is;
* a finding (a day of a forecast, a build's missing batches, a silence) is read anew with every scan, so also what ends
  at `window_end` itself is done. Where it has another value for the very window that was told, late data has restated
  it: no breach any more is `retracted`, a materially different one `amended`. Under another rule than it was told by it
  is neither: nobody is told that a threshold was moved. A finding whose data is gone is retracted, too; of an alert
  that didn't tell it, it says nothing.

What ends an alert says why: the data is within bounds; forecasts have taken a lasting change for the normal level, so
that the day and what is expected of it are both nearer to the newest breach than to what was expected then; or the time
that was forecast is over, and nothing newer is known.

Without an alert there is nothing to be late for: the first breach opens one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

Status = Literal["ok", "pending", "firing", "resolved"]
Told = Literal["firing", "resolved", "amended", "retracted"]
Source = Literal["evaluation", "window", "finding", "one_shot"]
Comparison = Literal["above", "below"]
Ending = Literal["within_bounds", "new_level", "outdated", "by_hand", "rebaselined"]

CONTRIBUTORS = 5
MATERIAL_SHARE = 0.1
MATERIAL_LEAST = 0.01


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
        source: `evaluation`: seen once, in its batch; `window`: a mean, seen once, when it has moved; `finding`: seen
            with each scan; `one_shot`: news that is over as soon as it is told (a new template).
        clear_n: consecutive observations within bounds that resolve the alert.
        starts, ends: the data's window, aware; equal for a single evaluation.
        evaluation_count: evaluations the value was made from.
        between: no breach, and not within the clear value either.
        for_n: consecutive breaches that make it fire.
        is_final: nothing but late data changes it; false of a day that isn't over.
        is_withdrawn: of a finding: its data has been corrected away; `value` then means nothing.
        is_outdated: of a finding: what was found is of a time that is over; nothing newer is known.
        rule: what people have set that it was judged by, as text to compare.
        basis: where bound and baseline come from; JSON.
        contributors: what brings most of the value, worst first; JSON. Empty: the evaluation itself.
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
    between: bool = False
    for_n: int = 1
    comparison: Comparison = "above"
    is_final: bool = True
    is_withdrawn: bool = False
    is_outdated: bool = False
    rule: str = ""
    basis: Mapping[str, object] | None = None
    contributors: Sequence[Mapping[str, object]] = ()

    @property
    def began(self) -> datetime:
        """Since when what is observed holds: with its data, but for a prediction, whose data are all of its history."""
        return self.ends if self.subject.event_type == "drift_predicted" else self.starts


@dataclass(frozen=True)
class Alert:
    """One alert as kept in `alerting.alerts`; `alert_id` is None until it is stored.

    Attributes:
        value: the newest breach, of the data from `value_start` to `value_end`; `worst_value`: the one farthest from
            the bound.
        resolved_because: None while it is open, of what was retracted, and of news that is over at once.
        told_start, told_end, told_value, told_rule: what was told by `firing` or its newest amendment; None before.
        told_window: where that was a mean, its window as in the observation's basis.
        revision: how many times that was amended or retracted.
    """

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
    comparison: Comparison
    worst_value: float
    value_start: datetime
    value_end: datetime
    resolved_at: datetime | None = None
    resolved_because: Ending | None = None
    told_start: datetime | None = None
    told_end: datetime | None = None
    told_value: float | None = None
    told_rule: str = ""
    told_window: Mapping[str, Any] | None = None
    revision: int = 0
    is_retracted: bool = False
    contributors: Sequence[Mapping[str, object]] = ()
    baseline: Mapping[str, object] | None = None
    alert_id: UUID | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next observation within bounds matters to it."""
        return self.status in ("pending", "firing")

    @property
    def window(self) -> Mapping[str, Any] | None:
        """Where `value` is a mean, the window that it is of."""
        return _window(self.baseline)


@dataclass(frozen=True)
class Transition:
    """A change that is told: the alert right after it, the value that caused it and the data that value is from.

    The value is None where what caused it is that the data is gone.
    """

    status: Told
    alert: Alert
    value: float | None
    evaluation_id: UUID | None
    correlation_id: str | None
    finding: Observation | None = None
    """What is told of data of its own: a mean, or what was restated. Else all that the alert has judged is meant."""

    @property
    def data(self) -> tuple[datetime, datetime, int]:
        """The window that is told, and how many evaluations are in it."""
        alert, seen = self.alert, self.finding
        if seen is not None:
            return seen.starts, seen.ends, seen.evaluation_count
        if alert.window is not None:
            return alert.value_start, alert.value_end, alert.evaluation_count
        return alert.window_start, alert.window_end, alert.evaluation_count


def advance(alert: Alert | None, seen: Observation) -> tuple[Alert | None, Transition | None]:
    """Judge one observation against the subject's newest alert (None: it never had one).

    Returns:
        The subject's newest alert now (the same object if nothing changed), and the transition if there was one.
    """
    if alert is not None and (seen.is_withdrawn or _is_late(alert, seen)):
        return restate(alert, seen) if seen.source == "finding" else (alert, None)
    if seen.is_withdrawn:
        return alert, None
    if seen.breach:
        return _breach(alert, seen)
    if alert is None or not alert.is_open:
        return alert, None
    return _calm_down(alert, seen) if alert.status == "pending" else _within_bounds(alert, seen)


def resolve(alert: Alert, seen: Observation) -> tuple[Alert, Transition]:
    """Close an alert with the observation that ends it."""
    resolved = replace(alert, status="resolved", resolved_at=seen.ends, resolved_because=_ending(alert, seen))
    return resolved, _transition("resolved", resolved, seen)


def restate(alert: Alert, seen: Observation) -> tuple[Alert | None, Transition | None]:
    """Hold a finding or a mean that is read anew against what was told of it; of any of the subject's alerts.

    Returns:
        The alert, the same object where nothing is to be told.
    """
    if not _was_told(alert, seen):
        return alert, None
    if not seen.breach:
        return _retract(alert, seen)
    if alert.told_value is None or not is_material(alert.told_value, seen.value):
        return alert, None
    amended = replace(
        alert,
        told_start=seen.starts,
        told_value=seen.value,
        told_window=_window(seen.basis),
        revision=alert.revision + 1,
        worst_value=seen.value if alert.breach_count == 1 else _worse(alert, seen),
    )
    if (alert.value_start, alert.value_end) == (
        alert.told_start,
        alert.told_end,
    ):  # nothing newer has had its say since
        amended = replace(
            amended,
            value=seen.value,
            value_start=seen.starts,
            threshold=seen.threshold,
            evaluation_count=seen.evaluation_count if seen.source == "window" else alert.evaluation_count,
            contributors=tuple(seen.contributors),
            baseline=seen.basis,
        )
    return amended, replace(_transition("amended", amended, seen), finding=seen)


def is_material(told: float, now: float) -> bool:
    """Whether somebody who was told one value ought to hear of another: by a tenth of it, and by 0.01 at least."""
    return abs(now - told) > max(MATERIAL_LEAST, MATERIAL_SHARE * abs(told))


def _ending(alert: Alert, seen: Observation) -> Ending:
    if seen.is_outdated:
        return "outdated"
    then, now = _expected(alert.baseline), _expected(seen.basis)
    if then is None or now is None:
        return "within_bounds"
    stays = all(abs(level - alert.value) < abs(level - then) for level in (seen.value, now))
    return "new_level" if stays else "within_bounds"


def _expected(basis: Mapping[str, object] | None) -> float | None:
    forecast = (basis or {}).get("forecast")
    expected = forecast.get("expected") if isinstance(forecast, Mapping) else None
    return None if expected is None else float(str(expected))


def _is_late(alert: Alert, seen: Observation) -> bool:
    if seen.source == "one_shot":
        return True
    return seen.ends <= alert.window_end if seen.source == "finding" else seen.ends < alert.window_end


def _was_told(alert: Alert, seen: Observation) -> bool:
    # With what came late, as many newest evaluations may begin elsewhere.
    starts = alert.told_start if seen.source == "window" else seen.starts
    return (
        seen.is_final
        and not alert.is_retracted
        and (starts, seen.ends, seen.rule) == (alert.told_start, alert.told_end, alert.told_rule)
    )


def _retract(alert: Alert, seen: Observation) -> tuple[Alert, Transition]:
    retracted = replace(alert, is_retracted=True, revision=alert.revision + 1, resolved_because=None)
    if alert.status == "firing":
        # The days since are judged anew: one that is out of bounds still opens the next alert.
        retracted = replace(retracted, status="resolved", resolved_at=seen.ends, window_end=seen.starts)
    return retracted, replace(_transition("retracted", retracted, seen), finding=seen)


def _breach(alert: Alert | None, seen: Observation) -> tuple[Alert, Transition | None]:
    if alert is not None and alert.is_open:
        after = _still_out_of_bounds(alert, seen)
        return _fire(after, seen) if _has_lasted(after, seen) else (after, None)
    if alert is not None and alert.status == "ok":
        after = replace(_opened(alert.epoch, seen), alert_id=alert.alert_id)
    else:
        after = _opened(alert.epoch + 1 if alert else 1, seen)
    if seen.source == "one_shot":
        fired, told = _fire(after, seen)
        return replace(fired, status="resolved", resolved_at=seen.ends), told
    return _fire(after, seen) if _has_lasted(after, seen) else (after, None)


def _has_lasted(alert: Alert, seen: Observation) -> bool:
    return alert.status == "pending" and alert.breach_count >= seen.for_n


def _fire(alert: Alert, seen: Observation) -> tuple[Alert, Transition]:
    fired = replace(
        alert,
        status="firing",
        told_start=seen.starts,
        told_end=seen.ends,
        told_value=seen.value,
        told_rule=seen.rule,
        told_window=_window(seen.basis),
    )
    return fired, _transition("firing", fired, seen)


def _opened(epoch: int, seen: Observation) -> Alert:
    return Alert(
        subject=seen.subject,
        epoch=epoch,
        status="pending",
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
        started_at=seen.began,
        comparison=seen.comparison,
        worst_value=seen.value,
        value_start=seen.starts,
        value_end=seen.ends,
        contributors=_contributors((), seen),
        baseline=seen.basis,
    )


def _still_out_of_bounds(alert: Alert, seen: Observation) -> Alert:
    return replace(
        alert,
        value=seen.value,
        threshold=seen.threshold,
        severity=seen.severity,
        breach_count=alert.breach_count + 1,
        evaluation_count=_counted(alert, seen),
        consecutive_ok=0,
        window_end=seen.ends,
        evaluation_id=seen.evaluation_id,
        correlation_id=seen.correlation_id,
        comparison=seen.comparison,
        worst_value=_worse(alert, seen),
        value_start=seen.starts,
        value_end=seen.ends,
        contributors=_contributors(alert.contributors, seen),
        baseline=seen.basis,
    )


def _calm_down(alert: Alert, seen: Observation) -> tuple[Alert, None]:
    return replace(alert, status="ok", window_end=seen.ends), None


def _within_bounds(alert: Alert, seen: Observation) -> tuple[Alert, Transition | None]:
    alert = replace(
        alert,
        consecutive_ok=0 if seen.between else alert.consecutive_ok + 1,
        evaluation_count=alert.evaluation_count if seen.source == "window" else _counted(alert, seen),
        window_end=seen.ends,
    )
    is_over = not seen.between and alert.consecutive_ok >= seen.clear_n
    return resolve(alert, seen) if is_over else (alert, None)


def _counted(alert: Alert, seen: Observation) -> int:
    # A window that rolls holds again what was counted with the window before.
    is_rolling = seen.source == "window" or seen.starts < alert.window_end
    return seen.evaluation_count if is_rolling else alert.evaluation_count + seen.evaluation_count


def _window(basis: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return (basis or {}).get("window")


def _worse(alert: Alert, seen: Observation) -> float:
    pick = max if seen.comparison == "above" else min
    return pick(alert.worst_value, seen.value)


def _contributors(known: Sequence[Mapping[str, object]], seen: Observation) -> Sequence[Mapping[str, object]]:
    if seen.source == "window":
        return known
    if seen.contributors or seen.evaluation_id is None:
        return tuple(seen.contributors)
    sign = -1 if seen.comparison == "above" else 1
    if len(known) == CONTRIBUTORS and sign * _value(known[-1]) <= sign * seen.value:
        return known
    own = {"evaluation_id": str(seen.evaluation_id), "value": seen.value, "created_at": seen.ends.isoformat()}
    return tuple(sorted([*known, own], key=lambda one: sign * _value(one))[:CONTRIBUTORS])


def _value(contributor: Mapping[str, object]) -> float:
    return float(str(contributor["value"]))


def _transition(status: Told, alert: Alert, seen: Observation) -> Transition:
    own = seen if seen.source == "window" else None
    value = None if seen.is_withdrawn else seen.value
    return Transition(status, alert, value, seen.evaluation_id, seen.correlation_id, own)

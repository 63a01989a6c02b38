"""Thresholds: which bound holds for whom, and changing it.

Belongs here: rows of `alerting.thresholds`, their validation and their audit entries. Does not belong here: judging
values by them (`observations`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import timedelta
from typing import Literal, TypeVar

from psycopg.rows import class_row

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import UsageError
from storage.tenants import require_tenant, require_tier_name

MAX_AGE_LIMIT = timedelta(days=3650)
MAX_TEMPLATE_LENGTH = 200
MAX_EXTRACTOR_LENGTH = 100
MAX_CLEAR_N = 1_000_000
MAX_SHIFT = 1_000_000
MIN_WINDOW_N, MAX_WINDOW_N = 2, 100_000

# What an event type's subject is decides for whom it can be set; the rest of a rule has to make sense for its metric.
_OF_EVALUATIONS = ("drift_high", "reliability_low", "decision_review")
_OF_EXTRACTORS = (*_OF_EVALUATIONS, "extractor_change")
_OF_TENANTS = ("records_rejected",)
_NO_RUNS = ("template_new", "evaluations_missing")
_NO_GAP = (*_NO_RUNS, "decision_review")
_UNBOUNDED = ("feature_drift",)
_MEANING = {
    "extractor_change": "by how much the rate of an extractor fell: 0.05 for five points",
    "drift_predicted": "the probability of a crossing within a week: 0.5 for one half",
    "drift_anomaly": "the margin beyond the forecast's bound, in units of the score",
    "evaluations_missing": "the part that is missing",
    "records_rejected": "the part that is rejected",
}

_KEY = ("tenant_id", "tier", "event_type", "template", "extractor_vendor", "extractor_model")
_WINDOW = ("window_n", "window_span", "min_n")
_SET = ("value", "clear_value", "severity", "for_n", "clear_n", "max_age", *_WINDOW, "enabled")
_COLUMNS = ", ".join((*_KEY, "comparison", *_SET))

# Most specific first, as alerting.rules_for picks them.
_LIST = f"""
select {_COLUMNS} from alerting.thresholds
where
    tenant_id = %(tenant_id)s
    or tier = coalesce(%(tier)s, (select tier from access.tenants where tenant_id = %(tenant_id)s))
    or (tenant_id is null and tier is null)
order by
    event_type, tenant_id nulls last, tier nulls last, template nulls last, extractor_vendor nulls last, extractor_model
"""  # noqa: S608 - constants of this module

_UPSERT = f"""
insert into alerting.thresholds ({_COLUMNS})
values ({", ".join(f"%({name})s" for name in (*_KEY, "comparison", *_SET))})
on conflict ({", ".join(_KEY)}) do update set
    {", ".join(f"{name} = excluded.{name}" for name in _SET)},
    updated_at = now()
"""  # noqa: S608 - constants of this module

_DELETE = f"""
delete from alerting.thresholds
where {" and ".join(f"{name} is not distinct from %({name})s" for name in _KEY)}
"""  # noqa: S608 - constants of this module

Severity = Literal["info", "warning", "critical"]
_T = TypeVar("_T", int, timedelta)


@dataclass(frozen=True)
class Scope:
    """For whom a threshold is: a tenant, one of its templates, extractors or both; a tier of tenants; nobody: everyone.

    Where several fit, the first of these that exists holds, whole and not field by field: template and extractor,
    template, extractor, tenant, tier, default. A template comes before an extractor, because what is tolerable is a
    matter of the use, whoever does the work.
    """

    tenant_id: str | None = None
    tier: str | None = None
    template: str | None = None
    extractor_vendor: str | None = None
    extractor_model: str | None = None

    def __str__(self) -> str:
        extractor = f"{self.extractor_vendor}/{self.extractor_model}" if self.extractor_vendor else None
        if self.tenant_id is None:
            return f"tier {self.tier}" if self.tier else "default"
        parts = [
            f"template {self.template}" if self.template else None,
            f"extractor {extractor}" if extractor else None,
        ]
        return " and ".join(part for part in parts if part) or "all templates"


@dataclass(frozen=True)
class Threshold:
    """One row: the bound of an event type for a scope.

    Attributes:
        comparison: `above` or `below`; belongs to the event type.
        value: the bound itself is within bounds; of `drift_anomaly` the margin beyond the forecast's bound, of
            `drift_predicted` the probability of a crossing within a week.
        clear_value: hysteresis: only what is within this one ends an alert; None: what is within `value`.
        for_n: consecutive breaches that make an alert fire.
        clear_n: consecutive observations within bounds that resolve an alert.
        max_age: older data opens and resolves no alert.
        window_n: not each evaluation is held against the bound but the mean of so many newest (`windows`); of
            `decision_review` the share of reviews in them.
        window_span: and none of them is so much older than the newest; None: than `max_age`.
        min_n: so many before the mean is judged; None: `window_n`.
    """

    tenant_id: str | None
    tier: str | None
    event_type: str
    template: str | None
    extractor_vendor: str | None
    extractor_model: str | None
    comparison: str
    value: float
    clear_value: float | None
    severity: str
    for_n: int
    clear_n: int
    max_age: timedelta
    window_n: int | None
    window_span: timedelta | None
    min_n: int | None
    enabled: bool

    @property
    def scope(self) -> Scope:
        """For whom it is."""
        return Scope(self.tenant_id, self.tier, self.template, self.extractor_vendor, self.extractor_model)


def list_thresholds(connection: Connection, tenant_id: str | None, *, tier: str | None = None) -> list[Threshold]:
    """A tenant's own thresholds, its tier's and the defaults, by event type, the most specific first.

    Args:
        connection: any.
        tenant_id: None for those of a tier, and the defaults.
        tier: of which tier, without a tenant.
    """
    if tenant_id is not None:
        require_tenant(connection, tenant_id)
    with connection.cursor(row_factory=class_row(Threshold)) as cursor:
        return cursor.execute(_LIST, {"tenant_id": tenant_id, "tier": tier}).fetchall()


def set_threshold(
    connection: Connection,
    tenant_id: str | None,
    event_type: str,
    value: float | None = None,
    *,
    tier: str | None = None,
    template: str | None = None,
    extractor: tuple[str, str] | None = None,
    clear_value: float | Literal["none"] | None = None,
    severity: Severity | None = None,
    for_n: int | None = None,
    clear_n: int | None = None,
    max_age: timedelta | None = None,
    window_n: int | Literal["none"] | None = None,
    window_span: timedelta | Literal["none"] | None = None,
    min_n: int | Literal["none"] | None = None,
    enabled: bool | None = None,
) -> Threshold:
    """Set a threshold of a tenant or of a tier; what isn't given stays, or comes from the next wider.

    Args:
        connection: a transaction of the caller's, or one that commits by itself.
        tenant_id: whose; None with a tier.
        event_type: of which rule.
        value: the bound. A new one without a `clear_value` takes that from the wider rule along, at the same distance.
        tier: of which tier, instead of a tenant.
        template: for this template alone.
        extractor: vendor and model: for this extractor alone.
        clear_value: `none` removes it.
        severity: as in `Threshold`, with all that follows.
        for_n: breaches in a row.
        clear_n: observations in a row.
        max_age: of data.
        window_n: `none` removes it, as with the two that follow.
        window_span: how much older than the newest.
        min_n: evaluations.
        enabled: whether the rule is held.

    Raises:
        UsageError: an unknown tenant or event type, a scope that the event type has none of, or a value that can't be.
    """
    scope = _scope(tenant_id, tier, template, extractor)
    now = _effective(list_thresholds(connection, tenant_id, tier=tier), event_type, scope)
    bound = now.value if value is None else value
    wanted = Threshold(
        **asdict(scope),
        event_type=event_type,
        comparison=now.comparison,
        value=bound,
        clear_value=_clear_value(now, bound, clear_value),
        severity=severity or now.severity,
        for_n=now.for_n if for_n is None else for_n,
        clear_n=now.clear_n if clear_n is None else clear_n,
        max_age=now.max_age if max_age is None else max_age,
        window_n=_optional(now.window_n, window_n),
        window_span=_optional(now.window_span, window_span),
        min_n=_optional(now.min_n, min_n),
        enabled=now.enabled if enabled is None else enabled,
    )
    check_threshold(wanted)
    connection.execute(_UPSERT, asdict(wanted))
    times = {"max_age": str(wanted.max_age), "window_span": str(wanted.window_span) if wanted.window_span else None}
    detail = {**asdict(wanted), **times}
    record_audit(connection, tenant_id=tenant_id, action="threshold.set", subject=_name(wanted), detail=detail)
    return wanted


def unset_threshold(
    connection: Connection,
    tenant_id: str | None,
    event_type: str,
    template: str | None = None,
    *,
    tier: str | None = None,
    extractor: tuple[str, str] | None = None,
) -> None:
    """Remove a threshold of a tenant or of a tier, so that the next wider one holds again.

    Raises:
        UsageError: there is no such threshold.
    """
    scope = _scope(tenant_id, tier, template, extractor)
    if tenant_id is not None:
        require_tenant(connection, tenant_id)
    if not connection.execute(_DELETE, asdict(scope) | {"event_type": event_type}).rowcount:
        whose = f"tenant {tenant_id}" if tenant_id else "nobody"
        raise UsageError(
            f"{whose} has set no threshold of {event_type} for {scope}: `tidemark threshold list` shows them"
        )
    record_audit(connection, tenant_id=tenant_id, action="threshold.unset", subject=f"{event_type}/{scope}")


def _scope(tenant_id: str | None, tier: str | None, template: str | None, extractor: tuple[str, str] | None) -> Scope:
    if (tenant_id is None) == (tier is None):
        raise UsageError("a threshold is set for a tenant or for a tier: name one of the two")
    if tier is not None:
        require_tier_name(tier)
        if template is not None or extractor is not None:
            raise UsageError("a tier's thresholds hold for all templates and extractors of its tenants: name neither")
    vendor, model = extractor or (None, None)
    return Scope(tenant_id, tier, template, vendor, model)


def _effective(known: Sequence[Threshold], event_type: str, scope: Scope) -> Threshold:
    for threshold in known:
        if threshold.event_type == event_type and all(
            own in (wanted, None) for own, wanted in zip(astuple(threshold.scope)[2:], astuple(scope)[2:], strict=True)
        ):
            return threshold
    types = ", ".join(sorted({threshold.event_type for threshold in known}))
    raise UsageError(f"no threshold is held against event type {event_type!r}. Use one of: {types}")


def _optional(now: _T | None, wanted: _T | Literal["none"] | None) -> _T | None:
    if isinstance(wanted, str):
        return None
    return now if wanted is None else wanted


def _clear_value(now: Threshold, bound: float, wanted: float | Literal["none"] | None) -> float | None:
    if wanted == "none" or (wanted is None and now.clear_value is None):
        return None
    if wanted is not None:
        return wanted
    shifted = bound + ((now.clear_value or 0.0) - now.value)
    return shifted if now.event_type in _UNBOUNDED else min(max(shifted, 0.0), 1.0)


def check_threshold(wanted: Threshold) -> None:
    """Refuse what can't be a threshold.

    Raises:
        UsageError: saying what it would have to be.
    """
    _check_scope(wanted)
    _check_bounds(wanted)
    for name, number, what in (
        ("for-n", wanted.for_n, "breaches in a row make an alert fire"),
        ("clear-n", wanted.clear_n, "observations resolve an alert"),
    ):
        if not 1 <= number <= MAX_CLEAR_N:
            raise UsageError(f"{name} must be between 1 and {MAX_CLEAR_N}: so many {what}")
    if wanted.for_n > 1 and wanted.event_type in _NO_RUNS:
        raise UsageError(f"for-n: {wanted.event_type} is seen once and not in a row; leave it at 1")
    if not timedelta() < wanted.max_age <= MAX_AGE_LIMIT:
        raise UsageError(f"the maximum age must be more than 0 and at most {MAX_AGE_LIMIT.days} days")
    _check_window(wanted)


def _check_window(wanted: Threshold) -> None:
    window_n, span, min_n = wanted.window_n, wanted.window_span, wanted.min_n
    if window_n is None and span is None:
        if min_n is not None:
            raise UsageError("min-n: is for the mean of a window; give window-n or window too, or min-n none")
        return
    if wanted.event_type not in _OF_EVALUATIONS:
        raise UsageError(
            f"window: {wanted.event_type} isn't judged evaluation by evaluation. These can be held against a mean: "
            f"{', '.join(_OF_EVALUATIONS)}"
        )
    if window_n is not None and not MIN_WINDOW_N <= window_n <= MAX_WINDOW_N:
        raise UsageError(
            f"window-n must be between {MIN_WINDOW_N} and {MAX_WINDOW_N}: of so many evaluations is the mean"
        )
    if span is not None and not timedelta() < span <= wanted.max_age:
        raise UsageError("window must be more than 0 and at most the maximum age; raise that with max-age-days")
    if min_n is None and window_n is None:
        raise UsageError("min-n: say how many evaluations there must be before a window of time is judged")
    if min_n is not None and not 1 <= min_n <= (window_n or MAX_WINDOW_N):
        raise UsageError(f"min-n must be between 1 and {window_n or MAX_WINDOW_N}, as many as the window has at most")


def _check_scope(wanted: Threshold) -> None:
    for name, text, longest in (
        ("a template's name", wanted.template, MAX_TEMPLATE_LENGTH),
        ("an extractor's vendor", wanted.extractor_vendor, MAX_EXTRACTOR_LENGTH),
        ("an extractor's model", wanted.extractor_model, MAX_EXTRACTOR_LENGTH),
    ):
        if text is not None and not 1 <= len(text) <= longest:
            raise UsageError(f"{name} has 1 to {longest} characters")
    if wanted.extractor_vendor is not None and wanted.event_type not in _OF_EXTRACTORS:
        raise UsageError(
            f"{wanted.event_type} is not about an extractor. These have thresholds for one: {', '.join(_OF_EXTRACTORS)}"
        )
    if wanted.template is not None and wanted.event_type in _OF_TENANTS:
        raise UsageError(f"{wanted.event_type} is about all that a tenant sends: set it for the tenant")


def _check_bounds(wanted: Threshold) -> None:
    for name, number in (("a threshold", wanted.value), ("a clear value", wanted.clear_value)):
        if number is None:
            continue
        if wanted.event_type in _UNBOUNDED:
            if not (math.isfinite(number) and 0 <= number <= MAX_SHIFT):
                raise UsageError(f"{name} of {wanted.event_type} must be between 0 and {MAX_SHIFT} standard deviations")
        elif not math.isfinite(number) or not 0 <= number <= 1:
            meaning = _MEANING.get(wanted.event_type, "as the scores are")
            raise UsageError(f"{name} of {wanted.event_type} must be a number between 0 and 1, {meaning}")
    is_mean = wanted.window_n is not None or wanted.window_span is not None
    if wanted.event_type == "decision_review" and wanted.value != 0 and not is_mean:
        raise UsageError(
            f"value: one decision is a review or isn't, so that a threshold of {wanted.value:g} means nothing. Give "
            "window-n (or window and min-n) too, for the share of reviews among the newest; or 0 for each of them"
        )
    if wanted.clear_value is None:
        return
    if wanted.event_type in _NO_GAP and not is_mean:
        raise UsageError(f"clear-value: {wanted.event_type} has nothing between broken and kept; leave it out")
    is_inside = (
        wanted.clear_value <= wanted.value if wanted.comparison == "above" else wanted.clear_value >= wanted.value
    )
    if not is_inside:
        side = "above" if wanted.comparison == "above" else "below"
        raise UsageError(
            f"clear-value: what ends an alert can't be {side} the threshold {wanted.value:g} that raises it"
        )


def _name(threshold: Threshold) -> str:
    return f"{threshold.event_type}/{threshold.scope}"

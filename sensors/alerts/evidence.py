"""Evidence: what an alert rests on, and the SQL that finds its number again.

The SQL has its values written out, so that an analyst pastes it; it reads `raw` where the value is a record's or a
receipt's, and marts where it is an asset's finding. It gives the alert's `value`, the newest breach, as long as that
data is kept: retention drops months of `raw`, and a mart tells what its newest build knows.

Belongs here: plain values made from an alert. Does not belong here: judging (`states`), storing (`store`).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sensors.alerts.states import Alert

_EVALUATION = """\
select {expression} as value
from raw.evaluations
where
    tenant_id = {tenant}
    and created_at = {ends}
    and evaluation_id = {evaluation}
    and template = {template}"""

# As of the batch that moved the window: what has come late since is in none of its numbers.
_MEAN = """\
select round(avg(round(({expression})::numeric, 9)), 9)::double precision as value, count(*) as evaluation_count
from raw.evaluations
inner join raw.ingest_batches as receipts using (tenant_id, batch_id)
where
    tenant_id = {tenant}
    and template = {template}
    and extractor_vendor = {vendor}
    and extractor_model = {model}
    and (created_at, evaluation_id) >= ({first_at}, {first}::uuid)
    and (created_at, evaluation_id) <= ({last_at}, {last}::uuid)
    and (receipts.xact_id, receipts.batch_id) <= ({xact}::xid8, {batch}::uuid)
    and ({expression}) is not null"""

_EXPRESSIONS = {
    "drift_high": "drift_score",
    "reliability_low": "reliability_score",
    "decision_review": "case decision when 'undecided' then null when 'review' then 1.0 else 0.0 end",
    "template_new": "1.0",
}

_QUERIES = {
    "drift_score": """\
select actual as value, yhat, lower, upper, p_value, evaluation_count
from marts.drift_forecasts
where tenant_id = {tenant} and template = {template} and date = {day}""",
    "reliability_score": """\
select actual as value, yhat, lower, upper, p_value, evaluation_count
from marts.reliability_forecasts
where tenant_id = {tenant} and template = {template} and date = {day}""",
    "drift_crossing_probability": """\
select p_crossing as value, date, threshold, yhat, lower, upper
from marts.drift_forecasts
where tenant_id = {tenant} and template = {template} and fitted_to = {last_day} and p_crossing is not null
order by p_crossing desc, date
limit 1""",
    "reliability_crossing_probability": """\
select p_crossing as value, date, threshold, yhat, lower, upper
from marts.reliability_forecasts
where tenant_id = {tenant} and template = {template} and fitted_to = {last_day} and p_crossing is not null
order by p_crossing desc, date
limit 1""",
    "feature_shift": """\
select abs(shift) as value, feature, mean, baseline_mean, baseline_stddev, p_value
from marts.feature_drift
where tenant_id = {tenant} and template = {template} and date = {day} and p_value < {chance}
order by abs(shift) desc
limit 1""",
    "objective_drop": """\
select mean_before - mean_after as value, changed_on, found_on, mean_before, mean_after, count_before, count_after
from marts.extractor_changes
where
    tenant_id = {tenant}
    and template = {template}
    and extractor_vendor = {vendor}
    and extractor_model = {model}
    and changed_on = {day}""",
    "missing_share": """\
select greatest(missing_count, 1)::double precision / greatest(expected_count, 1) as value, expected_count, landed_count
from marts.batch_reconciliation
where tenant_id = {tenant} and batch_key = {correlation}""",
    "rejected_share": """\
select
    sum(rejected)::double precision / sum(accepted + duplicates + conflicts + rejected) as value,
    sum(rejected) as rejected
from (
    select * from raw.ingest_batches
    where
        tenant_id = {tenant}
        and kind = 'evaluations'
        and received_at >= {starts}
        and (xact_id, batch_id) <= ({xact}::xid8, {batch}::uuid)
    order by xact_id desc, batch_id desc
    limit 20
) as newest""",
    "silent_hours": """\
select extract(epoch from {seen_at} - max(received_at))::double precision / 3600 as value
from raw.ingest_batches
where tenant_id = {tenant} and kind = 'evaluations' and accepted > 0 and received_at <= {starts}""",
}

# A template's arrivals are in its evaluations: the receipts of their batches.
_SILENT_TEMPLATE = """\
select extract(epoch from {seen_at} - max(receipts.received_at))::double precision / 3600 as value
from raw.ingest_batches as receipts
inner join raw.evaluations using (tenant_id, batch_id)
where
    tenant_id = {tenant}
    and evaluations.template = {template}
    and evaluations.created_at >= {fresh_from}
    and receipts.received_at <= {starts}"""


def evidence_of(alert: Alert) -> dict[str, object]:
    """What the alert rests on, as JSON: n, statistic, threshold, baseline, contributors, and the SQL.

    Returns:
        `n`: evaluations judged since it began (of a mean: those that it is of; of `records_rejected`: records sent in
        the batches judged);
        `breaches`: observations out of bounds; `statistic`: the metric, its newest and its worst value;
        `baseline`: `rule` says whose threshold it was and what was re-baselined, `forecast` or `profile` which model,
        `window` of which evaluations the mean is; `contributors`: worst first, of a mean in what was told.
    """
    return {
        "n": alert.evaluation_count,
        "breaches": alert.breach_count,
        "statistic": {"name": alert.subject.metric, "value": alert.value, "worst": alert.worst_value},
        "threshold": alert.threshold,
        "comparison": alert.comparison,
        "window": {"start": alert.value_start.isoformat(), "end": alert.value_end.isoformat()},
        "baseline": dict(alert.baseline or {}),
        "contributors": list(alert.contributors),
        "sql": query_of(alert),
    }


def query_of(alert: Alert) -> str:
    """The SQL whose first row's column `value` is the alert's."""
    subject, starts, ends = alert.subject, alert.value_start, alert.value_end
    known = {
        "tenant": subject.tenant_id,
        "template": subject.template,
        "evaluation": str(alert.evaluation_id),
        "correlation": alert.correlation_id or "",
        "starts": starts,
        "ends": ends,
        "day": starts.date().isoformat(),
        "last_day": (ends - timedelta(days=1)).date().isoformat(),
        "seen_at": starts + timedelta(hours=alert.value) if subject.metric == "silent_hours" else ends,
        "fresh_from": starts - timedelta(days=7),
        "vendor": subject.extractor_vendor,
        "model": subject.extractor_model,
        **_until(alert),
    }
    text = {name: _literal(value) for name, value in known.items()}
    text |= {
        "expression": _EXPRESSIONS.get(subject.event_type, ""),
        "threshold": repr(alert.threshold),
        "chance": str(_basis(alert, "profile", "p_value_below")),
    }
    return _template(alert).format_map(text)


def _template(alert: Alert) -> str:
    subject = alert.subject
    if alert.window is not None:
        return _MEAN
    if subject.event_type in _EXPRESSIONS:
        return _EVALUATION
    return _SILENT_TEMPLATE if subject.metric == "silent_hours" and subject.template else _QUERIES[subject.metric]


def _until(alert: Alert) -> dict[str, object]:
    window: Mapping[str, Any] = alert.window or {}
    baseline: Mapping[str, Any] = alert.baseline or {}
    until = (window or baseline).get("until", {})
    known: dict[str, object] = {"xact": until.get("xact_id", ""), "batch": until.get("batch_id", "")}
    for name in ("first", "last") if window else ():
        end = window[name]
        known |= {name: end["evaluation_id"], f"{name}_at": datetime.fromisoformat(end["created_at"])}
    return known


def _basis(alert: Alert, part: str, name: str) -> str:
    found = (alert.baseline or {}).get(part)
    return str(found.get(name, "")) if isinstance(found, Mapping) else ""


def _literal(value: object) -> str:
    if isinstance(value, datetime):
        return f"timestamptz '{value.isoformat()}'"
    return "'" + str(value).replace("'", "''") + "'"

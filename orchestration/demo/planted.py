"""What is hidden in the sample, and how each of it is found in the database.

Belongs here: facts as data, and what counts as found. Does not belong here: the facts' numbers (`scenario`), the SQL
(`questions`), the sample's making, printing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestration.demo import questions, scenario
from orchestration.demo.sample import Sample
from storage.database import Connection

# What counts as found. The sample's noise stays far below: daily means scatter by 0.01, weekly ones by 0.005.
_CLEAR_RISE = 0.025
_CLEAR_LOSS = 0.10


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the platform found a fact, and in what words it can be told; the same words whenever it is asked."""

    found: bool
    words: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Something planted: its name, what was done to the sample, and how to look for it."""

    name: str
    planted: str
    find: Callable[[Connection, Sample], Finding]


_TENANT_IDS = [tenant.tenant_id for tenant in scenario.TENANTS]


def _find_sudden_alert(connection: Connection, sample: Sample) -> Finding:
    tenant_id, template = scenario.SUDDEN_DRIFT
    last, first = sample.last_day, sample.last_day - timedelta(scenario.SUDDEN_DRIFT_DAYS - 1)
    now = _mean_drift(connection, scenario.SUDDEN_DRIFT, first, last)
    before = _mean_drift(connection, scenario.SUDDEN_DRIFT, first - timedelta(28), first - timedelta(1))
    alerted = template in _alerted(connection, tenant_id, "drift_high")
    return Finding(
        alerted,
        f"{template} {'raised' if alerted else 'raised no'} drift_high: mean drift {_number(now)} on the last "
        f"{scenario.SUDDEN_DRIFT_DAYS} days, {_number(before)} in the four weeks before",
    )


def _find_sudden_anomaly(connection: Connection, sample: Sample) -> Finding:
    tenant_id, template = scenario.SUDDEN_DRIFT
    names = _subject(scenario.SUDDEN_DRIFT) | {
        "first": sample.last_day - timedelta(scenario.SUDDEN_DRIFT_DAYS - 1),
        "last": sample.last_day,
    }
    days = [row[0].isoformat() for row in connection.execute(questions.ANOMALOUS_DAYS, names)]
    alerted = template in _alerted(connection, tenant_id, "drift_anomaly")
    seen = f"above its forecast on {' and '.join(days)}" if days else "within its forecast"
    return Finding(
        bool(days) and alerted, f"{template} was {seen} and {'raised' if alerted else 'raised no'} drift_anomaly"
    )


def _find_slow_drift(connection: Connection, sample: Sample) -> Finding:
    last = sample.last_day
    week = _mean_drift(connection, scenario.SLOW_DRIFT, last - timedelta(6), last)
    before = _mean_drift(connection, scenario.SLOW_DRIFT, last - timedelta(34), last - timedelta(7))
    rise = None if week is None or before is None else week - before
    return Finding(
        rise is not None and rise > _CLEAR_RISE,
        f"{scenario.SLOW_DRIFT[1]}: mean drift {_number(week)} in the last 7 days, {_number(before)} in the 28 before",
    )


def _find_worse_model(connection: Connection, _sample: Sample) -> Finding:
    old, new = scenario.LEXORA_OLD, scenario.LEXORA_NEW
    rates: dict[str, float] = dict(
        connection.execute(questions.SUCCESS_RATES, {"tenant_ids": _TENANT_IDS, "vendor": new.vendor}).fetchall()
    )
    names = {"tenant_ids": _TENANT_IDS, "old": old.model, "new": new.model}
    apart, templates = _row(connection, questions.POSTERIORS_APART, names)
    was, is_now = rates.get(old.model), rates.get(new.model)
    lost = None if was is None or is_now is None else was - is_now
    return Finding(
        lost is not None and lost > _CLEAR_LOSS and apart > 0,
        f"{new.model} succeeds in {_number(is_now)} of its feedback, {old.model} in {_number(was)}; "
        f"credible intervals apart on {apart} of {templates} templates",
    )


def _find_unsure_model(connection: Connection, _sample: Sample) -> Finding:
    wanted = scenario.UNSURE_TEMPLATES
    alerted = [name for tenant_id, name in wanted if name in _alerted(connection, tenant_id, "reliability_low")]
    return Finding(
        len(alerted) == len(wanted), f"reliability_low was raised on {' and '.join(alerted) or 'no planted template'}"
    )


def _find_new_template(connection: Connection, sample: Sample) -> Finding:
    tenant_id, template = scenario.NEW_TEMPLATE
    first, days = _row(connection, questions.TEMPLATE_DAYS, _subject(scenario.NEW_TEMPLATE))
    alerted = template in _alerted(connection, tenant_id, "template_new")
    return Finding(
        alerted and first is not None and first >= sample.last_day - timedelta(scenario.NEW_TEMPLATE_FIRST_DAY),
        f"{template} {'raised' if alerted else 'raised no'} template_new: {days} days of history, first seen {first}",
    )


def _find_bad_burst(connection: Connection, sample: Sample) -> Finding:
    bad = next(tenant.bad for tenant in sample.tenants if tenant.tenant_id == scenario.BAD_BURST_TENANT)
    names = {"tenant_id": scenario.BAD_BURST_TENANT, "payloads": [line.payload for line in bad]}
    kept, codes = _row(connection, questions.REFUSED_PAYLOADS, names)
    return Finding(kept == len(bad), f"{kept} of {len(bad)} bad lines are kept byte for byte, with {codes} codes")


def _find_repeated(connection: Connection, sample: Sample) -> Finding:
    tenant_id = scenario.SENT_AGAIN[0]
    record_ids = [name for tenant in sample.tenants for name in tenant.repeated]
    stored, distinct = _row(connection, questions.TIMES_STORED, {"tenant_id": tenant_id, "record_ids": record_ids})
    (answered,) = _row(connection, questions.DUPLICATES_ANSWERED, {"tenant_id": tenant_id})
    return Finding(
        stored == distinct == len(record_ids) and answered >= len(record_ids),
        f"{len(record_ids)} records that were sent twice stand {stored} times",
    )


def _find_contradicted(connection: Connection, sample: Sample) -> Finding:
    record_ids = [name for tenant in sample.tenants for name in tenant.contradicted]
    names = {
        "tenant_id": scenario.SENT_AGAIN[0],
        "record_ids": record_ids,
        "later_drift": scenario.OTHER_CONTENT["drift_score"],
    }
    (kept,) = _row(connection, questions.CONFLICTS_KEPT, names)
    (standing,) = _row(connection, questions.FIRST_CONTENT_STANDS, names)
    return Finding(
        kept == standing == len(record_ids),
        f"{kept} contradictions are kept as evidence, {standing} of {len(record_ids)} first contents stand",
    )


def _find_late_batch(connection: Connection, sample: Sample) -> Finding:
    day = sample.last_day - timedelta(scenario.LATE_BATCH_DAY)
    landed, counted = _row(connection, questions.LATE_DAY, _subject(scenario.LATE_BATCH) | {"date": day})
    return Finding(
        landed > 0 and landed == counted,
        f"{scenario.LATE_BATCH[1]} on {day}: {landed} landed, {counted or 0} counted in drift_history",
    )


def _find_quiet_rest(connection: Connection, _sample: Sample) -> Finding:
    planted = {("drift_high", *scenario.SUDDEN_DRIFT)}
    planted |= {("reliability_low", *subject) for subject in scenario.UNSURE_TEMPLATES}
    raised = {
        (event_type, tenant_id, template)
        for event_type in ("drift_high", "reliability_low")
        for tenant_id in _TENANT_IDS
        for template in _alerted(connection, tenant_id, event_type)
    }
    extra = sorted(f"{event_type} on {template}" for event_type, _, template in raised - planted)
    return Finding(not extra, f"beyond what was planted: {', '.join(extra) or 'no drift_high, no reliability_low'}")


def _mean_drift(connection: Connection, subject: tuple[str, str], first: object, last: object) -> float | None:
    mean: float | None = _row(connection, questions.MEAN_DRIFT, _subject(subject) | {"first": first, "last": last})[0]
    return mean


def _alerted(connection: Connection, tenant_id: str, event_type: str) -> set[str]:
    names = {"tenant_id": tenant_id, "event_type": event_type}
    return {row[0] for row in connection.execute(questions.ALERTED_TEMPLATES, names)}


def _subject(subject: tuple[str, str]) -> dict[str, object]:
    return {"tenant_id": subject[0], "template": subject[1]}


def _row(connection: Connection, query: str, names: Mapping[str, object]) -> tuple[Any, ...]:
    row = connection.execute(query, names).fetchone()
    assert row is not None  # noqa: S101 - every query above is an aggregate, which has a row
    return row


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


PLANTED: tuple[Fact, ...] = (
    Fact(
        "sudden drift",
        f"{scenario.SUDDEN_DRIFT[1]}: a new scanner lifts mean drift from 0.12 to {scenario.SUDDEN_DRIFT_MEAN} "
        f"on the last {scenario.SUDDEN_DRIFT_DAYS} days",
        _find_sudden_alert,
    ),
    Fact("drift above forecast", "the same days, as seen by a forecast from earlier days", _find_sudden_anomaly),
    Fact(
        "slow drift",
        f"{scenario.SLOW_DRIFT[1]}: drift climbs by {scenario.SLOW_DRIFT_RISE} over {scenario.SLOW_DRIFT_DAYS} days",
        _find_slow_drift,
    ),
    Fact(
        "worse model version",
        f"{scenario.LEXORA_NEW.model} replaces {scenario.LEXORA_OLD.model} and succeeds in "
        f"{scenario.LEXORA_NEW.success_rate:.2f} of the cases instead of {scenario.LEXORA_OLD.success_rate:.2f}",
        _find_worse_model,
    ),
    Fact(
        "unsure model",
        f"{scenario.LEXORA_NEW.model} is also unsure on {' and '.join(name for _, name in scenario.UNSURE_TEMPLATES)}",
        _find_unsure_model,
    ),
    Fact(
        "new template",
        f"{scenario.NEW_TEMPLATE[1]} first appears {scenario.NEW_TEMPLATE_FIRST_DAY} days before the last",
        _find_new_template,
    ),
    Fact("bad records", "a broken exporter sends 23 lines that are no records", _find_bad_burst),
    Fact("duplicates", f"{scenario.REPEATED_COUNT} records are sent twice", _find_repeated),
    Fact(
        "contradictions",
        f"{scenario.CONTRADICTED_COUNT} records are sent again with other content",
        _find_contradicted,
    ),
    Fact(
        "late batch",
        f"{scenario.LATE_BATCH[1]}: one day's records arrive {scenario.LATE_BATCH_DELAY} days late",
        _find_late_batch,
    ),
    Fact("quiet elsewhere", "no other template breaks the drift or reliability threshold", _find_quiet_rest),
)

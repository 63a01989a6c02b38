"""One day of one template: its evaluations, and what turns out about them later.

Belongs here: the sample's random model. Does not belong here: order of arrival, files, what is planted where
(`scenario`). Randomness comes in as a generator of the caller's.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from random import Random

from orchestration.demo import scenario
from orchestration.demo.scenario import Extractor, Template

Record = dict[str, object]

# Evaluations a day and drift on top of the template's own, Monday first: weekend documents come from other senders.
_WEEKDAY_VOLUME = (12, 13, 13, 12, 11, 9, 8)
_WEEKDAY_DRIFT = (0.0, 0.0, 0.0, 0.0, 0.004, 0.015, 0.015)
_DAY_NOISE = 0.006
_RECORD_NOISE = 0.02
_USUAL_DRIFT = (0.02, 0.28)
_HIGH_DRIFT = (0.02, 0.60)

# The made-up pipelines' own rules.
_REVIEW_ABOVE_DRIFT = 0.30
_REVIEW_BELOW_RELIABILITY = 0.80
_REJECT_BELOW_RELIABILITY = 0.60

_FIRST_SECOND, _LAST_SECOND = 6 * 3600, 20 * 3600
_LANGUAGES = ("en", "en", "en", "de", "fr")
_SHARE_BORN_DIGITAL = 0.1
_SHARE_HANDWRITTEN = 0.15

_SHARE_WITH_FEEDBACK = 0.6
_SHARE_ONLY_COUNTS = 0.1
_SHARE_WITH_COUNTS = 0.3


def template_day(
    rng: Random, tenant_id: str, template: Template, last_day: date, ago: int
) -> Iterator[tuple[Record, Extractor]]:
    """The day's evaluations in order of time, each with the extractor that made it.

    Args:
        rng: the source of all randomness.
        tenant_id: whose template it is.
        template: the template.
        last_day: the sample's last day, which is part of every record_id.
        ago: days before the last day.
    """
    day = last_day - timedelta(ago)
    daily_drift = _daily_drift(rng, (tenant_id, template.name), template, day, ago)
    bounds = _HIGH_DRIFT if daily_drift > _REVIEW_ABOVE_DRIFT else _USUAL_DRIFT
    count = _WEEKDAY_VOLUME[day.weekday()] + rng.randint(0, 1)
    for number, second in enumerate(sorted(rng.sample(range(_FIRST_SECOND, _LAST_SECOND), count)), start=1):
        extractor, propensity = _choose(rng, template, ago)
        drift = _clipped(rng.gauss(daily_drift, _RECORD_NOISE), *bounds)
        reliability = _reliability(rng, (tenant_id, template.name), extractor, ago)
        record: Record = {
            "record_id": f"sample-{last_day:%Y%m%d}/{template.name}/{day.isoformat()}/{number:02d}",
            "template": template.name,
            "extractor_vendor": extractor.vendor,
            "extractor_model": extractor.model,
            "drift_score": drift,
            "reliability_score": reliability,
            "decision": _decision(drift, reliability),
            "created_at": rfc3339(datetime.combine(day, time()) + timedelta(seconds=second)),
            "features": _features(rng, (tenant_id, template.name), template, ago),
            "propensity": propensity,
            "batch_key": f"{template.name}-{day.isoformat()}",
        }
        yield record, extractor


def later_feedback(rng: Random, evaluation: Record, extractor: Extractor, last_day: date) -> Iterator[Record]:
    """What turns out about an evaluation one to ten days later: one feedback, or none (yet)."""
    known_at = datetime.fromisoformat(str(evaluation["created_at"])) + timedelta(
        days=rng.randint(1, 10), minutes=rng.randint(0, 600)
    )
    if rng.random() >= _SHARE_WITH_FEEDBACK or known_at.date() > last_day:
        return
    success = rng.random() < extractor.success_rate
    form = rng.random()
    content: Record = {} if form < _SHARE_ONLY_COUNTS else {"success": success}
    if form < _SHARE_WITH_COUNTS:
        total = rng.randint(8, 20)
        correct = total if success else total - rng.randint(1, 5)
        content |= {"fields_correct": correct, "fields_total": total}
    name = evaluation["record_id"]
    yield {"record_id": name, "feedback_key": f"{name}/checked", **content, "created_at": rfc3339(known_at)}


def rfc3339(moment: datetime) -> str:
    """A UTC time as records carry it, to the second."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def ndjson_line(record: Mapping[str, object]) -> bytes:
    """The record as one line of NDJSON, without its line end."""
    return json.dumps(record, separators=(",", ":")).encode()


def _daily_drift(rng: Random, subject: tuple[str, str], template: Template, day: date, ago: int) -> float:
    usual = template.drift + _WEEKDAY_DRIFT[day.weekday()] + rng.gauss(0.0, _DAY_NOISE)
    if subject == scenario.SUDDEN_DRIFT and ago < scenario.SUDDEN_DRIFT_DAYS:
        return usual + scenario.SUDDEN_DRIFT_MEAN - template.drift
    if subject == scenario.SLOW_DRIFT and ago < scenario.SLOW_DRIFT_DAYS:
        return usual + scenario.SLOW_DRIFT_RISE * (1 - ago / scenario.SLOW_DRIFT_DAYS)
    return usual


def _choose(rng: Random, template: Template, ago: int) -> tuple[Extractor, float]:
    extractor, propensity = rng.choices(template.extractors, [weight for _, weight in template.extractors])[0]
    if extractor == scenario.LEXORA_OLD and ago < scenario.NEW_MODEL_DAYS:
        return scenario.LEXORA_NEW, propensity
    return extractor, propensity


def _reliability(rng: Random, subject: tuple[str, str], extractor: Extractor, ago: int) -> float:
    if extractor == scenario.LEXORA_NEW and subject in scenario.UNSURE_TEMPLATES:
        return _clipped(rng.gauss(scenario.UNSURE_RELIABILITY, 0.02), 0.62, 0.86)
    if ago >= scenario.LAST_HARD_DOCUMENT_DAY and rng.random() < scenario.HARD_DOCUMENT_RATE:
        return _clipped(rng.uniform(0.5, 0.79), 0.5, 0.79)
    return _clipped(rng.gauss(extractor.reliability, 0.02), 0.82, 0.995)


def _decision(drift: float, reliability: float) -> str:
    if reliability < _REJECT_BELOW_RELIABILITY:
        return "reject"
    return "review" if drift > _REVIEW_ABOVE_DRIFT or reliability < _REVIEW_BELOW_RELIABILITY else "accept"


def _features(rng: Random, subject: tuple[str, str], template: Template, ago: int) -> Record:
    new_scanner = subject == scenario.SUDDEN_DRIFT and ago < scenario.SUDDEN_DRIFT_DAYS
    return {
        "pages": max(1, round(rng.gauss(template.pages, 1))),
        "language": rng.choice(_LANGUAGES),
        "scan_dpi": None if rng.random() < _SHARE_BORN_DIGITAL else 150 if new_scanner else 300,
        "ink_density": _clipped(rng.gauss(0.11, 0.03), 0.01, 0.5),
        "handwritten": rng.random() < _SHARE_HANDWRITTEN,
    }


def _clipped(value: float, lowest: float, highest: float) -> float:
    return round(min(max(value, lowest), highest), 4)

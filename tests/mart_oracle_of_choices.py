"""The marts of extractor selection computed once more, in Python, from the records as sent: decision by decision."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from mart_records import SHARES, TEMPLATES, Record, snapshot_id

Arm = tuple[str, str, str]
Measures = dict[str, float]

_ADDING = ("_count", "_sum", "_sum_sq", "_correct", "_total", "_sq_sum", "_max")
_REASONS = {
    "too_small": "propensity_too_small",
    "not_in_snapshot": "extractor_not_in_snapshot",
    "at_odds": "propensity_at_odds",
}
_QUARANTINED = ("early_feedback", *_REASONS)


def check_performance_by_day(
    mart: list[Record], tenant: str, evaluations: list[Record], counted: Mapping[str, Record]
) -> None:
    """Assert that every measure of every arm and day is what its decisions add up to."""
    expected: dict[tuple[date, Arm], Measures] = defaultdict(lambda: defaultdict(float))
    for record in evaluations:
        feedback = counted.get(record["record_id"])
        for arm, name, value in _measures(record, feedback, weight_of(tenant, record)):
            group = expected[_day(record), arm]
            group[name] = max(group[name], value) if name.endswith("_max") else group[name] + value
    found = {(row["date"], (row["template"], row["extractor_vendor"], row["extractor_model"])): row for row in mart}
    # What could have been chosen has a row from the first outcome on, be it one that counts for nothing.
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for name, value in row.items():
            if name.endswith(_ADDING) and name.removesuffix("_count") not in _QUARANTINED:
                assert (value or 0) == pytest.approx(expected[key][name], rel=1e-9, abs=1e-12), (key, name)


def check_quarantine(
    mart: list[Record],
    tenant: str,
    evaluations: list[Record],
    newest: Mapping[str, Record],
    counted: Mapping[str, Record],
) -> None:
    """Assert that exactly what is left out is told, and why."""
    expected: dict[tuple[date, Arm, str], int] = defaultdict(int)
    for record in evaluations:
        if record["record_id"] not in newest:
            continue
        if record["record_id"] not in counted:
            expected[_day(record), _arm(record), "feedback_before_decision"] += 1
        problem = weight_of(tenant, record)
        if isinstance(problem, str):
            expected[_day(record), _arm(record), _REASONS[problem]] += 1
    assert {
        (row["date"], (row["template"], row["extractor_vendor"], row["extractor_model"]), row["reason"]): row[
            "decision_count"
        ]
        for row in mart
    } == expected
    assert all(row["field"] and row["remedy"] for row in mart)


def weight_of(tenant: str, record: Record) -> float | str | None:
    """The inverse propensity; why it can't be used; or None where none was sent, or it says nothing."""
    propensity = record.get("propensity")
    if propensity is None or record.get("assigned_by") not in (None, "share"):
        return None
    if propensity < 1e-9:
        return "too_small"
    published = {
        snapshot_id(tenant, template): SHARES if template == record["template"] else {} for template in TEMPLATES
    }
    shares = published.get(record.get("snapshot_id", ""))
    if shares is not None:
        share = shares.get((record["extractor_vendor"], record["extractor_model"]))
        if share is None:
            return "not_in_snapshot"
        if abs(share - propensity) > 1e-9:
            return "at_odds"
    return float(1 / propensity)


def _measures(record: Record, feedback: Record | None, weight: float | str | None) -> Iterable[tuple[Arm, str, float]]:
    arm = _arm(record)
    yield arm, "evaluation_count", 1
    for name, field in (("cost", "cost_usd"), ("latency", "latency_ms")):
        if field in record:
            yield from ((arm, f"{name}_count", 1), (arm, f"{name}_sum", record[field]))
            yield arm, f"{name}_sum_sq", record[field] ** 2
    if feedback is None:
        return
    succeeded = feedback.get("success", feedback.get("fields_correct") == feedback.get("fields_total"))
    yield arm, "feedback_count", 1
    yield arm, "success_count" if succeeded else "failure_count", 1
    rewards: dict[str, float] = {"success": float(succeeded)}
    if "fields_total" in feedback:
        rewards["fields"] = rate = feedback["fields_correct"] / feedback["fields_total"]
        yield from ((arm, name, feedback[name]) for name in ("fields_correct", "fields_total"))
        yield from ((arm, "document_count", 1), (arm, "rate_sum", rate), (arm, "rate_sum_sq", rate**2))
    if not isinstance(weight, float):
        return
    for objective, reward in rewards.items():
        yield from ((arm, f"{objective}_{name}", value) for name, value in _logged(reward, weight).items())
        listed = record.get("eligible_extractors")
        chances = [arm] if listed is None else [(arm[0], *_named(extractor)) for extractor in listed]
        kind = "open" if listed is None else "eligible"
        for one in chances:
            yield one, f"{objective}_{kind}_count", 1
            yield one, f"{objective}_{kind}_reward_sum", reward
            yield one, f"{objective}_{kind}_reward_sq_sum", reward**2


def _logged(reward: float, weight: float) -> Measures:
    return {
        "logged_count": 1,
        "weight_sum": weight,
        "weight_sq_sum": weight**2,
        "weight_max": weight,
        "reward_sum": reward,
        "reward_weight_sum": reward * weight,
        "reward_weight_sq_sum": reward * weight**2,
        "reward_sq_weight_sum": reward**2 * weight,
        "reward_sq_weight_sq_sum": reward**2 * weight**2,
    }


def _named(extractor: str) -> tuple[str, str]:
    vendor, _, model = extractor.partition("/")
    return vendor, model


def _arm(record: Record) -> Arm:
    return record["template"], record["extractor_vendor"], record["extractor_model"]


def _day(record: Record) -> Any:
    return datetime.fromisoformat(record["created_at"]).astimezone(UTC).date()

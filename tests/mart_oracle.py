"""The marts' numbers computed once more, in Python, from the records as sent: independent of every line of SQL."""

import math
import statistics
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from mart_oracle_of_choices import check_performance_by_day, check_quarantine
from mart_records import BATCH_KEYS, TENANTS, Record, Sent, records_of

from assets.evaluations.manifests import batch_checksum

Read = Callable[[str], list[Record]]


def check_marts(read: Read, sent: Iterable[Sent]) -> None:
    """Assert that every mart made of evaluations says what the records say.

    Args:
        read: gives a relation's rows as dictionaries.
        sent: the records that count: neither refused nor in conflict with an earlier one.
    """
    sent = list(sent)
    for tenant in TENANTS:

        def mart(name: str, tenant: str = tenant) -> list[Record]:
            return [row for row in read(f"marts.{name}") if row["tenant_id"] == tenant]

        evaluations = records_of(sent, tenant, "evaluations")
        newest = _newest_feedback(evaluations, records_of(sent, tenant, "feedback"))
        counted = _counted_feedback(evaluations, newest)
        _check_daily_stats(mart("evaluation_daily_stats"), evaluations)
        _check_drift_history(mart("drift_history"), evaluations)
        _check_score_months(
            [row for row in read("intermediate.int_score_months") if row["tenant_id"] == tenant], mart("drift_history")
        )
        _check_drift_trends(mart("drift_trends"), evaluations)
        _check_performance(mart("extractor_performance"), evaluations, counted)
        check_performance_by_day(mart("extractor_performance_daily"), tenant, evaluations, counted)
        check_quarantine(mart("selection_quarantine"), tenant, evaluations, newest, counted)
        _check_comparison(mart("extractor_comparison"), evaluations, counted)
        _check_templates(mart("template_performance"), evaluations, counted)
        _check_overview(mart("overview"), evaluations)
        _check_features(mart("feature_drift"), evaluations)
        _check_reviews(mart("review_queue"), evaluations, newest)
        _check_batches(mart("batch_reconciliation"), evaluations)
        _check_quality(mart("data_quality"), evaluations, counted)


def _day(record: Record) -> date:
    return datetime.fromisoformat(record["created_at"]).astimezone(UTC).date()


def _numbers(records: Iterable[Record], name: str) -> list[float]:
    return [record[name] for record in records if name in record]


def _mean(values: list[Any]) -> Any:
    return pytest.approx(statistics.fmean(values), abs=1e-14) if values else None


def _stdev(values: list[float]) -> Any:
    return pytest.approx(statistics.stdev(values), abs=1e-14) if len(values) > 1 else None


def _quantile(values: list[float], fraction: float) -> Any:
    """Within a bin's width of the smallest value that at least this fraction does not exceed."""
    if not values:
        return None
    rank = next(rank for rank in range(1, len(values) + 1) if rank >= fraction * len(values))
    return pytest.approx(sorted(values)[rank - 1], abs=0.02)


def _grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _newest_feedback(evaluations: list[Record], feedback: list[Record]) -> dict[str, Record]:
    """The newest feedback of each evaluation that landed, by record_id."""
    record_ids = {record["evaluation_id"]: record["record_id"] for record in evaluations}
    newest = {record["record_id"]: record for record in evaluations if {"success", "fields_total"} & record.keys()}
    for record in sorted(feedback, key=_time):
        record_id = record.get("record_id") or record_ids.get(record["evaluation_id"], "")
        if record_id not in newest or _time(newest[record_id]) <= _time(record):
            newest[record_id] = record
    known = set(record_ids.values())
    return {record_id: record for record_id, record in newest.items() if record_id in known}


def _counted_feedback(evaluations: list[Record], newest: dict[str, Record]) -> dict[str, Record]:
    """What of it was not given before its evaluation happened."""
    earliest = {record["record_id"]: _time(record) - timedelta(minutes=5) for record in evaluations}
    return {record_id: record for record_id, record in newest.items() if _time(record) >= earliest[record_id]}


def _time(record: Record) -> datetime:
    return datetime.fromisoformat(record["created_at"])


def _succeeded(feedback: Record) -> bool:
    return bool(feedback.get("success", feedback.get("fields_correct") == feedback.get("fields_total", 0)))


def _judged(group: Iterable[Record], counted: dict[str, Record]) -> list[Record]:
    return [counted[record["record_id"]] for record in group if record["record_id"] in counted]


def _extractor(record: Record) -> tuple[Any, ...]:
    return record["template"], record["extractor_vendor"], record["extractor_model"]


def _check_daily_stats(mart: list[Record], evaluations: list[Record]) -> None:
    groups = _grouped(evaluations, lambda r: (_day(r), r["template"], r.get("decision", "undecided")))
    assert {(row["date"], row["template"], row["decision"]) for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["date"], row["template"], row["decision"]]
        assert row["count"] == len(group)
        assert row["avg_drift"] == _mean(_numbers(group, "drift_score"))
        assert row["avg_reliability"] == _mean(_numbers(group, "reliability_score"))


def _check_drift_history(mart: list[Record], evaluations: list[Record]) -> None:
    groups = _grouped(evaluations, lambda r: (_day(r), r["template"]))
    assert {(row["date"], row["template"]) for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["date"], row["template"]]
        drift, reliability = _numbers(group, "drift_score"), _numbers(group, "reliability_score")
        assert (row["evaluation_count"], row["drift_count"]) == (len(group), len(drift))
        assert (row["drift_score"], row["reliability_score"]) == (_mean(drift), _mean(reliability))
        assert (row["drift_stddev"], row["reliability_stddev"]) == (_stdev(drift), _stdev(reliability))
        assert (row["drift_p50"], row["drift_p95"]) == (_quantile(drift, 0.5), _quantile(drift, 0.95))
        assert row["reliability_p05"] == _quantile(reliability, 0.05)
        if drift:
            assert (row["drift_min"], row["drift_max"]) == pytest.approx((min(drift), max(drift)), rel=0, abs=1e-20)


def _check_score_months(months: list[Record], history: list[Record]) -> None:
    """Against the mart, which has been checked: to the bit, since forecasts are made of it."""
    found = []
    for row in months:
        count = len(row["days"]) // 4
        numbers = [row[f"{name}_{what}"] for name in ("drift", "reliability") for what in ("scores", "counts")]
        ordinals = struct.unpack(f">{count}i", row["days"])
        for ordinal, *told in zip(ordinals, *(struct.unpack(f">{count}d", each) for each in numbers), strict=True):
            day = date(2000, 1, 1) + timedelta(days=ordinal)
            assert day.replace(day=1) == row["month"]
            found.append((row["template"], day, *(None if math.isnan(number) else number for number in told)))
        assert list(ordinals) == sorted(set(ordinals))
    names = ("template", "date", "drift_score", "drift_count", "reliability_score", "reliability_count")
    assert sorted(found, key=lambda row: row[:2]) == sorted(
        (tuple(row[name] for name in names) for row in history), key=lambda row: row[:2]
    )


def _check_drift_trends(mart: list[Record], evaluations: list[Record]) -> None:
    days = _grouped(evaluations, lambda r: (_day(r), r["template"]))
    assert {(row["date"], row["template"]) for row in mart} == days.keys()
    for row in mart:
        same = [record for record in evaluations if record["template"] == row["template"]]

        def window(first: int, last: int, row: Record = row, same: list[Record] = same) -> list[Record]:
            return [record for record in same if first <= (row["date"] - _day(record)).days <= last]

        week, before = _numbers(window(0, 6), "drift_score"), _numbers(window(7, 13), "drift_score")
        month = _numbers(window(0, 29), "drift_score")
        assert row["evaluation_count_7d"] == len(window(0, 6))
        assert (row["drift_avg_7d"], row["drift_avg_30d"]) == (_mean(week), _mean(month))
        assert row["drift_p95_30d"] == _quantile(month, 0.95)
        assert row["reliability_avg_30d"] == _mean(_numbers(window(0, 29), "reliability_score"))
        change = statistics.fmean(week) - statistics.fmean(before) if week and before else None
        assert row["drift_change_7d"] == (None if change is None else pytest.approx(change, abs=1e-14))


def _check_performance(mart: list[Record], evaluations: list[Record], counted: dict[str, Record]) -> None:
    groups = _grouped(evaluations, _extractor)
    assert {_extractor(row) for row in mart} == groups.keys()
    for row in mart:
        group = groups[_extractor(row)]
        judged = _judged(group, counted)
        successes = sum(map(_succeeded, judged))
        assert (row["evaluation_count"], row["feedback_count"]) == (len(group), len(judged))
        assert (row["success_count"], row["failure_count"]) == (successes, len(judged) - successes)
        assert row["fields_correct"] == sum(_numbers(judged, "fields_correct"))
        assert row["fields_total"] == sum(_numbers(judged, "fields_total"))
        assert row["updated_at"] == max(datetime.fromisoformat(record["created_at"]) for record in [*group, *judged])


def _check_comparison(mart: list[Record], evaluations: list[Record], counted: dict[str, Record]) -> None:
    groups = _grouped(evaluations, _extractor)
    assert {_extractor(row) for row in mart} == groups.keys()
    for row in mart:
        group = groups[_extractor(row)]
        rivals = [record for record in evaluations if record["template"] == row["template"]]
        assert row["evaluation_share"] == pytest.approx(len(group) / len(rivals))
        assert row["accept_rate"] == _mean([record.get("decision") == "accept" for record in group])
        assert row["avg_drift_score"] == _mean(_numbers(group, "drift_score"))
        assert row["success_rate"] == _mean(list(map(_succeeded, _judged(group, counted))))
        assert (row["first_date"], row["last_date"]) == (min(map(_day, group)), max(map(_day, group)))


def _check_templates(mart: list[Record], evaluations: list[Record], counted: dict[str, Record]) -> None:
    groups = _grouped(evaluations, lambda r: r["template"])
    assert {row["template"] for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["template"]]
        assert (row["evaluation_count"], row["feedback_count"]) == (len(group), len(_judged(group, counted)))
        assert row["undecided_count"] == sum("decision" not in record for record in group)
        assert row["drift_stddev"] == _stdev(_numbers(group, "drift_score"))
        assert (row["first_date"], row["last_date"]) == (min(map(_day, group)), max(map(_day, group)))


def _check_overview(mart: list[Record], evaluations: list[Record]) -> None:
    [overview] = mart
    assert overview["total_evaluations"] == len(evaluations)
    assert overview["avg_drift_score"] == _mean(_numbers(evaluations, "drift_score"))
    assert overview["avg_reliability_score"] == _mean(_numbers(evaluations, "reliability_score"))
    assert overview["template_count"] == len({record["template"] for record in evaluations})


def _check_features(mart: list[Record], evaluations: list[Record]) -> None:
    sent = [record for record in evaluations if "features" in record]
    days = _grouped(sent, lambda r: (_day(r), r["template"]))
    assert {(row["date"], row["template"]) for row in mart} == days.keys()
    assert {row["feature"] for row in mart} == {"pages", "blurred", "note", "dpi"}
    for row in mart:
        group = days[row["date"], row["template"]]
        measured = row["feature"] in ("pages", "blurred")
        assert row["value_count"] == (len(group) if measured else 0)
        assert row["null_count"] == (len(group) if row["feature"] == "dpi" else 0)
        if measured:
            before = [
                record["features"][row["feature"]]
                for back in range(1, 29)
                for record in days.get((row["date"] - timedelta(days=back), row["template"]), [])
            ]
            assert row["mean"] == _mean([record["features"][row["feature"]] for record in group])
            assert (row["baseline_count"], row["baseline_mean"]) == (len(before), _mean(before))


def _check_reviews(mart: list[Record], evaluations: list[Record], counted: dict[str, Record]) -> None:
    asked = {r["evaluation_id"]: r["record_id"] for r in evaluations if r.get("decision") == "review"}
    assert {str(row["evaluation_id"]) for row in mart} == asked.keys()
    for row in mart:
        answer = counted.get(asked[str(row["evaluation_id"])])
        assert row["status"] == ("open" if answer is None else "reviewed")
        assert row["is_success"] == (None if answer is None else _succeeded(answer))


def _check_batches(mart: list[Record], evaluations: list[Record]) -> None:
    landed = {key: [r["record_id"] for r in evaluations if r.get("batch_key") == key] for key in BATCH_KEYS}
    assert {row["batch_key"]: row["landed_count"] for row in mart} == {key: len(ids) for key, ids in landed.items()}
    for row in mart:
        ids = landed[row["batch_key"]]
        assert row["expected_count"] == BATCH_KEYS[row["batch_key"]]
        assert row["landed_checksum"] == batch_checksum(ids)
        # Declared a moment ago.
        assert row["status"] == ("COMPLETE" if len(ids) >= row["expected_count"] else "WAITING")
        assert row["reason"] == ("surplus" if len(ids) > row["expected_count"] else None)
        assert row["landed_count"] + row["missing_count"] == row["expected_count"] + row["surplus_count"]


def _check_quality(mart: list[Record], evaluations: list[Record], counted: dict[str, Record]) -> None:
    days = _grouped(evaluations, _day)
    found = {row["date"]: row for row in mart if row["evaluation_count"]}
    assert found.keys() == days.keys()
    for day, group in days.items():
        assert found[day]["drift_coverage"] == _mean(["drift_score" in record for record in group])
        assert found[day]["feedback_count"] == len(_judged(group, counted))

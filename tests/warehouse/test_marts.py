"""The marts' numbers: against an independent computation, and the same however the records came."""

import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from assets.warehouse.build import run_dbt
from storage.database import Connection, Database
from storage.tenants import create_tenant

Record = dict[str, Any]
TENANTS = ("acme", "globex")
FIRST_DAY = datetime(2026, 4, 1, tzinfo=UTC)
DAYS = 40
_EMPTY_RAW = """
truncate raw.evaluations, raw.evaluation_keys, raw.feedback, raw.ingest_batches, raw.rejected_records, access.templates
"""


def _evaluations(chance: random.Random, count: int) -> list[Record]:
    records = []
    for number in range(count):
        # Some days stay empty, so that windows by date and windows by row differ.
        day = chance.choice([day for day in range(DAYS) if day % 7 != 3])
        record: Record = {
            "record_id": f"r{number}",
            "template": chance.choice(["invoice", "receipt", "a|b", "ä 'quoted' {template}"]),
            "extractor_vendor": chance.choice(["x", "x|y"]),
            "extractor_model": chance.choice(["m1", "y|m1"]),
            "drift_score": chance.choice([None, 0.1 + 0.2, 1.0, 0.0, 5e-324, chance.random(), chance.random()]),
            "reliability_score": chance.choice([None, chance.random()]),
            "decision": chance.choice([None, "accept", "review", "reject"]),
            "created_at": (FIRST_DAY + timedelta(days=day, seconds=chance.randrange(86_400))).isoformat(),
            "score": 1.0,
        }
        if chance.random() < 0.2:
            record |= _judgement(chance)
        records.append({name: value for name, value in record.items() if value is not None})
    return records


def _judgement(chance: random.Random) -> Record:
    total = chance.randrange(1, 9)
    counted = {"fields_correct": chance.choice([total, chance.randrange(total + 1)]), "fields_total": total}
    said = {"success": chance.random() < 0.7}
    return chance.choice([said, counted, said | counted])


def _feedback(chance: random.Random, count: int, evaluations: int) -> list[Record]:
    """Feedback of which some is corrected later and some is about evaluations that never land."""
    return [
        _judgement(chance)
        | {
            "record_id": f"r{chance.randrange(int(evaluations * 1.1))}",
            "feedback_key": f"f{number}",
            "created_at": (FIRST_DAY + timedelta(days=60, seconds=number)).isoformat(),
        }
        for number in range(count)
    ]


def _day(record: Record) -> date:
    return datetime.fromisoformat(record["created_at"]).astimezone(UTC).date()


def _scores(records: Iterable[Record], name: str) -> list[float]:
    return [record[name] for record in records if name in record]


def _mean(values: list[float]) -> Any:
    return pytest.approx(statistics.fmean(values), abs=1e-14) if values else None


def _stdev(values: list[float]) -> Any:
    return pytest.approx(statistics.stdev(values), abs=1e-14) if len(values) > 1 else None


def _counted_feedback(evaluations: list[Record], feedback: list[Record]) -> dict[str, Record]:
    newest = {record["record_id"]: record for record in evaluations if {"success", "fields_total"} & record.keys()}
    for record in sorted(feedback, key=lambda record: str(record["created_at"])):
        newest[record["record_id"]] = record
    known = {record["record_id"] for record in evaluations}
    return {record_id: record for record_id, record in newest.items() if record_id in known}


def _succeeded(feedback: Record) -> bool:
    return bool(feedback.get("success", feedback.get("fields_correct") == feedback.get("fields_total", 0)))


def _grouped(records: list[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


@pytest.fixture
def landed(connection: Connection, push: Any) -> dict[str, tuple[list[Record], list[Record]]]:
    """Two tenants' records, landed with feedback before its evaluation, resends and late days."""
    sent = {}
    for seed, tenant in enumerate(TENANTS):
        create_tenant(connection, tenant)
        chance = random.Random(seed)  # noqa: S311
        evaluations, feedback = _evaluations(chance, 300), _feedback(chance, 150, 300)
        chance.shuffle(evaluations)
        push(tenant, "feedback", feedback[:50])
        push(tenant, "evaluations", evaluations[:200])
        push(tenant, "feedback", feedback[40:])
        push(tenant, "evaluations", evaluations[150:])
        sent[tenant] = (evaluations, feedback)
    return sent


def test_every_mart_shows_what_an_independent_computation_finds(
    database: Database, landed: dict[str, tuple[list[Record], list[Record]]], rows: Any
) -> None:
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database)
    for tenant, (evaluations, feedback) in landed.items():

        def mart(name: str, tenant: str = tenant) -> list[Record]:
            return [row for row in rows(f"marts.{name}") if row["tenant_id"] == tenant]

        _check_daily_stats(mart("evaluation_daily_stats"), evaluations)
        _check_drift_history(mart("drift_history"), evaluations)
        _check_drift_trends(mart("drift_trends"), evaluations)
        _check_extractors(mart("extractor_performance"), mart("extractor_comparison"), evaluations, feedback)
        _check_templates(mart("template_performance"), evaluations, feedback)
        [overview] = mart("overview")
        assert overview["total_evaluations"] == len(evaluations)
        assert overview["avg_drift_score"] == _mean(_scores(evaluations, "drift_score"))
        assert overview["avg_reliability_score"] == _mean(_scores(evaluations, "reliability_score"))
        assert overview["template_count"] == len({record["template"] for record in evaluations})


def _check_daily_stats(mart: list[Record], evaluations: list[Record]) -> None:
    groups = _grouped(evaluations, lambda r: (_day(r), r["template"], r.get("decision", "undecided")))
    assert {(row["date"], row["template"], row["decision"]) for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["date"], row["template"], row["decision"]]
        assert row["count"] == len(group)
        assert row["avg_drift"] == _mean(_scores(group, "drift_score"))
        assert row["avg_reliability"] == _mean(_scores(group, "reliability_score"))


def _check_drift_history(mart: list[Record], evaluations: list[Record]) -> None:
    groups = _grouped(evaluations, lambda r: (_day(r), r["template"]))
    assert {(row["date"], row["template"]) for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["date"], row["template"]]
        drift, reliability = _scores(group, "drift_score"), _scores(group, "reliability_score")
        assert (row["evaluation_count"], row["drift_count"]) == (len(group), len(drift))
        assert (row["drift_score"], row["reliability_score"]) == (_mean(drift), _mean(reliability))
        assert (row["drift_stddev"], row["reliability_stddev"]) == (_stdev(drift), _stdev(reliability))
        if drift:
            assert (row["drift_min"], row["drift_max"]) == pytest.approx((min(drift), max(drift)), rel=0, abs=1e-20)


def _check_drift_trends(mart: list[Record], evaluations: list[Record]) -> None:
    for row in mart:
        same = [record for record in evaluations if record["template"] == row["template"]]

        def window(first: int, last: int, row: Record = row, same: list[Record] = same) -> list[Record]:
            return [record for record in same if first <= (row["date"] - _day(record)).days <= last]

        week, before = _scores(window(0, 6), "drift_score"), _scores(window(7, 13), "drift_score")
        assert row["evaluation_count_7d"] == len(window(0, 6))
        assert row["drift_avg_7d"] == _mean(week)
        assert row["drift_avg_30d"] == _mean(_scores(window(0, 29), "drift_score"))
        assert row["reliability_avg_30d"] == _mean(_scores(window(0, 29), "reliability_score"))
        change = statistics.fmean(week) - statistics.fmean(before) if week and before else None
        assert row["drift_change_7d"] == (None if change is None else pytest.approx(change, abs=1e-14))


def _check_extractors(
    performance: list[Record], comparison: list[Record], evaluations: list[Record], feedback: list[Record]
) -> None:
    counted = _counted_feedback(evaluations, feedback)
    groups = _grouped(evaluations, lambda r: (r["template"], r["extractor_vendor"], r["extractor_model"]))
    compared = {(row["template"], row["extractor_vendor"], row["extractor_model"]): row for row in comparison}
    assert len(performance) == len(groups) == len(compared)
    for row in performance:
        key = (row["template"], row["extractor_vendor"], row["extractor_model"])
        judged = [counted[record["record_id"]] for record in groups[key] if record["record_id"] in counted]
        successes = sum(map(_succeeded, judged))
        assert row["evaluation_count"] == len(groups[key])
        assert (row["success_count"], row["failure_count"]) == (successes, len(judged) - successes)
        assert row["fields_correct"] == sum(record.get("fields_correct", 0) for record in judged)
        assert row["fields_total"] == sum(record.get("fields_total", 0) for record in judged)
        assert row["updated_at"] == max(
            datetime.fromisoformat(record["created_at"]) for record in [*groups[key], *judged]
        )
        assert compared[key]["success_rate"] == (pytest.approx(successes / len(judged)) if judged else None)
    for template, rivals in _grouped(comparison, lambda row: row["template"]).items():
        assert sum(row["evaluation_share"] for row in rivals) == pytest.approx(1), template


def _check_templates(mart: list[Record], evaluations: list[Record], feedback: list[Record]) -> None:
    counted = _counted_feedback(evaluations, feedback)
    groups = _grouped(evaluations, lambda r: r["template"])
    assert {row["template"] for row in mart} == groups.keys()
    for row in mart:
        group = groups[row["template"]]
        assert row["evaluation_count"] == len(group)
        assert row["undecided_count"] == sum("decision" not in record for record in group)
        assert row["drift_stddev"] == _stdev(_scores(group, "drift_score"))
        assert row["feedback_count"] == sum(record["record_id"] in counted for record in group)
        assert (row["first_date"], row["last_date"]) == (min(map(_day, group)), max(map(_day, group)))


def test_another_order_and_split_of_the_same_records_gives_the_same_marts_as_does_another_build(
    database: Database,
    connection: Connection,
    landed: dict[str, tuple[list[Record], list[Record]]],
    push: Any,
    checksums: Any,
) -> None:
    run_dbt(["run"], database)
    first = checksums()
    run_dbt(["run"], database)
    assert checksums() == first

    connection.execute(_EMPTY_RAW)
    chance = random.Random(7)  # noqa: S311
    for tenant, (evaluations, feedback) in landed.items():
        push(tenant, "evaluations", chance.sample(evaluations, len(evaluations)))
        for record in chance.sample(feedback, len(feedback))[::30]:
            push(tenant, "feedback", [record])
        push(tenant, "feedback", chance.sample(feedback, len(feedback)))
    run_dbt(["run"], database)
    assert checksums() == first


def test_scores_that_do_not_vary_have_their_own_value_as_mean_and_no_spread(
    database: Database, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    awkward = 0.1 + 0.2  # 17 digits: a cast to numeric would round it out of its own minimum and maximum
    push(tenant, "evaluations", [an_evaluation(drift_score=awkward, score=n) for n in range(7)])
    run_dbt(["build", "--select", "+drift_history", "--exclude-resource-type", "unit_test"], database)
    [row] = rows("marts.drift_history")
    assert (row["drift_score"], row["drift_min"], row["drift_max"], row["drift_stddev"]) == (awkward,) * 3 + (0.0,)


def test_feedback_never_crosses_tenants(
    database: Database, connection: Connection, push: Any, an_evaluation: Any, rows: Any
) -> None:
    for name in TENANTS:
        create_tenant(connection, name)
    shared = "0190f2d4-0000-7000-8000-000000000001"
    for name in TENANTS:
        push(name, "evaluations", [an_evaluation(record_id="same", evaluation_id=shared)])
    push("globex", "feedback", [{"evaluation_id": shared, "success": False}])
    push("acme", "feedback", [{"record_id": "same", "success": True}])
    run_dbt(["run", "--select", "+extractor_performance"], database)
    counts = {
        row["tenant_id"]: (row["success_count"], row["failure_count"]) for row in rows("marts.extractor_performance")
    }
    assert counts == {"acme": (1, 0), "globex": (0, 1)}


def test_overview_has_a_row_for_a_tenant_without_data_and_counts_today_and_alerts(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    create_tenant(connection, "silent")
    today = datetime.now(UTC)
    connection.execute("select raw.ensure_evaluations_month(%s)", (today.date(),))
    land_now = [an_evaluation(record_id="t", created_at="2026-05-01T23:59:59.999999Z"), an_evaluation(record_id="u")]
    push(tenant, "evaluations", land_now)
    connection.execute("update raw.evaluations set created_at = now() where record_id = 'u'")
    alert = """
    insert into alerting.alerts (tenant_id, event_type, template, epoch, status, severity, metric, value, threshold,
        breach_count, window_start, window_end, started_at, resolved_at)
    values (%(tenant)s, 'drift_high', 'invoice', %(epoch)s, %(status)s, 'warning', 'drift_score', 0.5, 0.3, 1, %(at)s,
        %(at)s, %(at)s, %(resolved)s)
    """
    for epoch, status, age in ((1, "resolved", 400), (2, "resolved", 10), (3, "firing", 200)):
        at = today - timedelta(days=age)
        resolved = at + timedelta(seconds=90) if status == "resolved" else None
        connection.execute(alert, {"tenant": tenant, "epoch": epoch, "status": status, "at": at, "resolved": resolved})
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database)
    overview = {row["tenant_id"]: row for row in rows("marts.overview")}
    assert overview["silent"]["total_evaluations"] == overview["silent"]["alert_count"] == 0
    assert (overview[tenant]["total_evaluations"], overview[tenant]["evaluations_today"]) == (2, 1)
    assert (overview[tenant]["alert_count"], overview[tenant]["firing_alert_count"]) == (3, 1)
    recent = {row["status"]: row for row in rows("marts.recent_alerts")}
    assert recent["resolved"]["seconds_to_resolve"] == 90
    assert recent.keys() == {"resolved", "firing"}
    assert len(rows("marts.recent_alerts")) == 2


def test_a_batch_that_commits_during_the_build_is_left_to_the_next_and_none_is_skipped(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    with database.connect() as slow:
        batch = slow.execute("select uuidv7()").fetchall()[0][0]
        receipt = """
        insert into raw.ingest_batches (batch_id, tenant_id, kind, door, accepted, duplicates, conflicts, rejected)
        values (%s, %s, 'evaluations', 'test', 1, 0, 0, 0)
        """
        slow.execute(receipt, (batch, tenant))
        # Landed after the slow batch began, committed before it.
        push(tenant, "evaluations", [an_evaluation(record_id="quick")])
        slow.execute(
            """
            insert into raw.evaluations (evaluation_id, tenant_id, record_key, record_id, batch_id, template_id,
                template, extractor_vendor, extractor_model, drift_score, decision, created_at)
            select uuidv7(), tenant_id, uuidv7(), 'slow', %s, template_id, template, extractor_vendor,
                extractor_model, drift_score, decision, created_at
            from raw.evaluations where record_id = 'quick'
            """,
            (batch,),
        )
        run_dbt(["run"], database)
    # The slow batch is there now, but the aggregate was built before: that is no error, only not yet.
    run_dbt(["test", "--exclude-resource-type", "unit_test"], database)
    assert [row["evaluation_count"] for row in rows("marts.drift_history")] == [1]
    run_dbt(["build", "--exclude-resource-type", "unit_test"], database)
    assert [row["evaluation_count"] for row in rows("marts.drift_history")] == [2]


def test_batches_of_a_restored_backup_count_although_their_numbers_lie_in_the_future(
    database: Database, connection: Connection, tenant: str, push: Any, an_evaluation: Any, rows: Any
) -> None:
    push(tenant, "evaluations", [an_evaluation()])
    connection.execute("update raw.ingest_batches set xact_id = '9000000000'")
    run_dbt(["build", "--select", "+drift_history", "--exclude-resource-type", "unit_test"], database)
    assert [row["evaluation_count"] for row in rows("marts.drift_history")] == [1]

"""The demo's sample is what it says: deterministic, admissible, and abnormal only where it is planted."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.evaluations.contract import EVALUATION, FEEDBACK, Refused, parse
from assets.evaluations.record_fields import Evaluation, Feedback
from orchestration.demo import scenario
from orchestration.demo.sample import Sample, TenantSample, generate, write

LAST_DAY = date(2026, 6, 30)
NOW = datetime(2026, 7, 1, tzinfo=UTC)
WATCHED_DAYS = 8  # alerts look at seven days; one more, as a day may pass between the sample and the demo


def admitted(tenant: TenantSample, last_day: date) -> dict[str, Evaluation]:
    """The evaluations that stand when all lines have landed: the first content of each record_id."""
    now = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
    bad = {line.payload for line in tenant.bad}
    firsts: dict[str, Evaluation] = {}
    for payload in tenant.evaluations:
        if payload not in bad:
            record = parse(EVALUATION, payload, now)
            firsts.setdefault(record["record_id"], record)
    return firsts


@pytest.fixture(scope="module")
def sample() -> Sample:
    return generate(LAST_DAY)


@pytest.fixture(scope="module")
def records(sample: Sample) -> dict[tuple[str, str], list[Evaluation]]:
    """Standing evaluations by (tenant, template)."""
    grouped: dict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for tenant in sample.tenants:
        for record in admitted(tenant, LAST_DAY).values():
            grouped[tenant.tenant_id, record["template"]].append(record)
    return grouped


def days_ago(record: Evaluation, last_day: date = LAST_DAY) -> int:
    return (last_day - record["created_at"].date()).days


def test_the_same_last_day_makes_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    written = [path.read_bytes() for path in write(sample, tmp_path / "one")]
    assert [path.read_bytes() for path in write(generate(LAST_DAY), tmp_path / "two")] == written
    assert len(written) == 6


def test_another_last_day_shares_no_record_id(sample: Sample) -> None:
    other = generate(LAST_DAY + timedelta(1))
    for ours, theirs in zip(sample.tenants, other.tenants, strict=True):
        assert not admitted(ours, LAST_DAY).keys() & admitted(theirs, LAST_DAY + timedelta(1)).keys()


def test_it_covers_120_days_a_dozen_templates_and_a_plausible_volume(
    records: dict[tuple[str, str], list[Evaluation]],
) -> None:
    assert len(records) == 12
    for subject, own in records.items():
        counts: dict[int, int] = defaultdict(int)
        for record in own:
            counts[days_ago(record)] += 1
        first_day = scenario.NEW_TEMPLATE_FIRST_DAY if subject == scenario.NEW_TEMPLATE else scenario.DAYS - 1
        assert sorted(counts) == list(range(first_day + 1))
        assert 8 <= min(counts.values()) <= max(counts.values()) <= 14


def test_every_bad_line_is_refused_with_its_code_and_no_other_is(sample: Sample) -> None:
    bad = [line for tenant in sample.tenants for line in tenant.bad]
    assert len(bad) == len({line.payload for line in bad}) == 23
    for line in bad:
        with pytest.raises(Refused) as refused:
            parse(EVALUATION, line.payload, NOW)
        assert (line.fault, refused.value.code) == (line.fault, line.code)
    for tenant in sample.tenants:
        lines = set(tenant.evaluations)
        assert {line.payload for line in tenant.bad} <= lines
        assert len(admitted(tenant, LAST_DAY)) == len(lines) - len(tenant.bad) - len(tenant.contradicted)


def test_a_few_records_come_twice_and_a_few_with_other_content(sample: Sample) -> None:
    for tenant in sample.tenants:
        for record_id in (*tenant.repeated, *tenant.contradicted):
            sent = [line for line in tenant.evaluations if f'"{record_id}"'.encode() in line]
            assert len(sent) == 2
            assert (sent[0] == sent[1]) == (record_id in tenant.repeated)
            assert parse(EVALUATION, sent[0], NOW) == admitted(tenant, LAST_DAY)[record_id]
    assert [len(tenant.repeated) for tenant in sample.tenants] == [0, 0, scenario.REPEATED_COUNT]
    assert [len(tenant.contradicted) for tenant in sample.tenants] == [0, 0, scenario.CONTRADICTED_COUNT]


@settings(max_examples=10, deadline=None)
@given(last_day=st.dates(date(2010, 1, 1), date(2060, 1, 1)))
def test_whatever_the_last_day_thresholds_are_broken_only_where_planted(last_day: date) -> None:
    high: set[tuple[str, str]] = set()
    low: set[tuple[str, str, str]] = set()
    for tenant in generate(last_day).tenants:
        for record in admitted(tenant, last_day).values():
            if days_ago(record, last_day) > WATCHED_DAYS:
                continue
            breaks_drift, breaks_reliability = record["drift_score"] > 0.30, record["reliability_score"] < 0.80
            assert (record["decision"] == "accept") != (breaks_drift or breaks_reliability)
            if breaks_drift:
                high.add((tenant.tenant_id, record["template"]))
            if breaks_reliability:
                low.add((tenant.tenant_id, record["template"], record["extractor_model"]))
    assert high == {scenario.SUDDEN_DRIFT}
    assert low == {(*subject, scenario.LEXORA_NEW.model) for subject in scenario.UNSURE_TEMPLATES}


def test_drift_jumps_and_climbs_as_planted_and_nowhere_else(
    records: dict[tuple[str, str], list[Evaluation]],
) -> None:
    def mean_drift(subject: tuple[str, str], first: int, last: int) -> float:
        return mean(record["drift_score"] for record in records[subject] if last <= days_ago(record) <= first)

    assert mean_drift(scenario.SUDDEN_DRIFT, 1, 0) == pytest.approx(scenario.SUDDEN_DRIFT_MEAN, abs=0.02)
    assert mean_drift(scenario.SUDDEN_DRIFT, 29, 2) == pytest.approx(0.12, abs=0.02)
    assert mean_drift(scenario.SLOW_DRIFT, 6, 0) - mean_drift(scenario.SLOW_DRIFT, 34, 7) > 0.03
    for subject in records.keys() - {scenario.SUDDEN_DRIFT, scenario.SLOW_DRIFT, scenario.NEW_TEMPLATE}:
        assert abs(mean_drift(subject, 6, 0) - mean_drift(subject, 34, 7)) < 0.02


def test_drift_has_a_weekly_rhythm(records: dict[tuple[str, str], list[Evaluation]]) -> None:
    by_weekend: dict[bool, list[float]] = {True: [], False: []}
    for own in records.values():
        for record in own:
            by_weekend[record["created_at"].weekday() >= 5].append(record["drift_score"])
    assert mean(by_weekend[True]) - mean(by_weekend[False]) > 0.008
    assert len(by_weekend[True]) / 2 < 0.8 * len(by_weekend[False]) / 5


def test_late_feedback_tells_that_the_new_model_version_is_worse(sample: Sample) -> None:
    results: dict[str, list[bool]] = defaultdict(list)
    evaluations = 0
    for tenant in sample.tenants:
        standing = admitted(tenant, LAST_DAY)
        evaluations += len(standing)
        for payload in tenant.feedback:
            feedback: Feedback = parse(FEEDBACK, payload, NOW)
            evaluation = standing[feedback["record_id"]]
            assert 1 <= (feedback["created_at"].date() - evaluation["created_at"].date()).days <= 11
            counted = "fields_total" in feedback and feedback["fields_correct"] == feedback["fields_total"]
            if "success" in feedback and "fields_total" in feedback:
                assert feedback["success"] == counted
            results[evaluation["extractor_model"]].append(feedback.get("success", counted))
    assert sum(len(own) for own in results.values()) == pytest.approx(0.58 * evaluations, rel=0.05)
    rates = {model: mean(own) for model, own in results.items()}
    assert rates.pop(scenario.LEXORA_NEW.model) == pytest.approx(0.70, abs=0.06)
    assert len(rates) == 4
    assert min(rates.values()) > 0.88


def test_one_batch_arrives_days_after_newer_records(sample: Sample) -> None:
    tenant = next(own for own in sample.tenants if own.tenant_id == scenario.LATE_BATCH[0])
    bad = {line.payload for line in tenant.bad}
    behind = set()
    newest = datetime.min.replace(tzinfo=UTC)
    for payload in tenant.evaluations:
        if payload not in bad:
            record = parse(EVALUATION, payload, NOW)
            if newest - record["created_at"] > timedelta(days=2):
                behind.add((record["template"], days_ago(record)))
            newest = max(newest, record["created_at"])
    assert behind == {(scenario.LATE_BATCH[1], scenario.LATE_BATCH_DAY)}

"""`policy_value` from landed records through dbt, against what the definitions make of the same records one by one."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import fsum, sqrt
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pytest
from mart_records import evaluation, push

from assets.selection.assets import definitions
from assets.selection.policies import change_policy
from assets.selection.policy_value import INTERVAL_Z
from assets.warehouse.build import run_dbt
from storage.database import Connection, Database
from storage.tenants import create_tenant

TENANT = "acme"
OBJECTIVES = {"invoice": "success", "receipt": "fields"}
ARMS = ("v/a", "v/b", "v/c")
LAST = datetime(2026, 5, 20, 12, tzinfo=UTC)
WINDOW_DAYS = 90
MODELS = ["run", "--select", "+extractor_performance_daily"]
FOUND = """
select
    template, extractor_vendor || '/' || extractor_model, estimator, estimate, lower, upper, gain, gain_lower,
    gain_upper, on_policy_value, effective_sample_size, largest_weight, logged_count, refusal
from ml.policy_value
"""
MEANS = """
select template, extractor_vendor || '/' || extractor_model, mean
from ml.current_posteriors
inner join ml.posterior_snapshots using (posterior_id)
inner join ml.extractor_posteriors using (posterior_id)
"""
Record = dict[str, Any]


class Decision(NamedTuple):
    """A logged decision: who was chosen with which weight, how it turned out, among whom if that was said."""

    arm: str
    weight: float
    reward: float
    eligible: Sequence[str] | None


def records(generator: np.random.Generator, count: int) -> Iterator[tuple[Record, list[Record]]]:
    """Evaluations with what is said of each, later: nothing, once, corrected, from before it was made."""
    for number in range(count):
        template = ("invoice", "receipt")[number % 2]
        at = LAST - timedelta(hours=int(generator.integers(0, 24 * 120)) if number else 0)
        shares = generator.dirichlet([12, 9, 12])
        among = list(ARMS if generator.random() < 0.7 else ARMS[:2])
        shares = shares[: len(among)] / shares[: len(among)].sum()
        arm = int(generator.choice(len(among), p=shares))
        record = evaluation(record_id=f"r{number}", template=template, created_at=at.isoformat())
        record["extractor_vendor"], record["extractor_model"] = among[arm].split("/")
        if len(among) < len(ARMS) or generator.random() < 0.3:
            record["eligible_extractors"] = among
        if generator.random() < 0.9:
            record["propensity"] = float(shares[arm])
        assigned = generator.choice(["", "share", "override", "fallback", "retry"], p=[0.4, 0.45, 0.05, 0.05, 0.05])
        if assigned:
            record["assigned_by"] = str(assigned)
        said = []
        for again in range(generator.choice(3, p=[0.05, 0.75, 0.2])):
            early = generator.random() < 0.1
            after = (
                timedelta(hours=-1, minutes=again)
                if early
                else timedelta(days=int(generator.integers(0, 5)), minutes=again)
            )
            feedback = {"record_id": f"r{number}", "created_at": (at + after).isoformat()}
            total = int(generator.integers(1, 12))
            right = int(generator.binomial(total, 0.6 + 0.1 * arm))
            said.append(
                feedback | {"success": bool(generator.random() < 0.5 + 0.1 * arm)}
                if generator.random() < (0.8 if template == "invoice" else 0.1)
                else feedback | {"fields_correct": right, "fields_total": total}
            )
        yield record, said


def decisions(sent: Sequence[tuple[Record, list[Record]]], template: str) -> Iterator[Decision]:
    """What an estimate of a template's objective can be made of, in the last 90 days."""
    for record, said in sent:
        at = datetime.fromisoformat(record["created_at"])
        if record["template"] != template or at.date() <= LAST.date() - timedelta(days=WINDOW_DAYS) or not said:
            continue
        newest = max(said, key=lambda feedback: datetime.fromisoformat(feedback["created_at"]))
        if datetime.fromisoformat(newest["created_at"]) < at - timedelta(minutes=5):
            continue
        if record.get("assigned_by", "share") != "share" or "propensity" not in record:
            continue
        if OBJECTIVES[template] == "fields":
            if "fields_total" not in newest:
                continue
            reward = newest["fields_correct"] / newest["fields_total"]
        else:
            reward = float(newest.get("success", newest.get("fields_correct") == newest.get("fields_total")))
        arm = f"{record['extractor_vendor']}/{record['extractor_model']}"
        yield Decision(arm, 1 / record["propensity"], reward, record.get("eligible_extractors"))


def estimates(logged: Sequence[Decision], arm: str, model: float) -> dict[str, tuple[float, ...]]:
    """Value and gain with their 95 % intervals, by estimator, from their definitions."""
    could = [each for each in logged if each.eligible is None or arm in each.eligible]
    weights = [each.weight if each.arm == arm else 0.0 for each in could]
    rewards = [each.reward for each in could]
    count = len(could)
    both = list(zip(weights, rewards, strict=True))
    total = fsum(weights)
    snips = fsum(w * r for w, r in both) / total
    terms = {
        "ips": [w * r for w, r in both],
        "snips": [snips + count / total * w * (r - snips) for w, r in both],
        "dr": [model + w * (r - model) for w, r in both],
    }
    found = {}
    for name, of_value in terms.items():
        of_gain = [term - reward for term, reward in zip(of_value, rewards, strict=True)]
        found[name] = (*_interval(of_value), *_interval(of_gain), fsum(rewards) / count)
        found[name] += (total**2 / fsum(w * w for w in weights), max(weights), sum(w > 0 for w in weights))
    return found


def _interval(terms: Sequence[float]) -> tuple[float, float, float]:
    count = len(terms)
    mean = fsum(terms) / count
    reach = INTERVAL_Z * sqrt(fsum((term - mean) ** 2 for term in terms) / (count * (count - 1)))
    return mean, mean - reach, mean + reach


def test_every_estimate_is_what_its_definition_makes_of_the_records_one_by_one(
    database: Database, connection: Connection
) -> None:
    generator = np.random.default_rng(620)
    sent = list(records(generator, 1500))
    create_tenant(connection, TENANT)
    assert push(connection, TENANT, "evaluations", [record for record, _ in sent]).accepted == len(sent)
    change_policy(connection, TENANT, "receipt", {"objective": "fields"})
    feedback = [one for _, said in sent for one in said]
    for number in range(2):  # the second half comes late, when marts are there
        half = feedback[number::2]
        assert push(connection, TENANT, "feedback", half).accepted == len(half)
        run_dbt(MODELS, database)
    dg.materialize(definitions(), resources={"database": database})

    means = {(template, arm): mean for template, arm, mean in connection.execute(MEANS)}
    rows = {row[:3]: row[3:] for row in connection.execute(FOUND)}
    assert len(rows) == len(OBJECTIVES) * len(ARMS) * 3
    for template in OBJECTIVES:
        logged = list(decisions(sent, template))
        assert len(logged) > 200
        for arm in ARMS:
            for estimator, expected in estimates(logged, arm, means[template, arm]).items():
                *found, refusal = rows[template, arm, estimator]
                assert refusal is None
                assert found == pytest.approx(list(expected), rel=1e-9, abs=1e-9), (template, arm, estimator)

"""The Great Expectations suite that judges a materialized window of evaluations.

The door judges each record alone and refuses; the suite looks at what landed as a whole and raises a flag.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

DECISIONS = ("accept", "review", "reject", "undecided")
SCORES = ("drift_score", "reliability_score")
_EXAMPLES = 10


@dataclass(frozen=True)
class Rule:
    """One expectation, as data: the check's name, what it promises, and the expectation with its arguments."""

    name: str
    description: str
    expectation: str
    arguments: dict[str, Any]


RULES: tuple[Rule, ...] = (
    Rule(
        "records_are_unique",
        "No (tenant_id, record_id) stands twice.",
        "ExpectCompoundColumnsToBeUnique",
        {"column_list": ["tenant_id", "record_id"]},
    ),
    *(
        Rule(
            f"{column}_is_a_fraction",
            f"Every {column} that was sent lies in [0, 1].",
            "ExpectColumnValuesToBeBetween",
            {"column": column, "min_value": 0, "max_value": 1},
        )
        for column in SCORES
    ),
    Rule(
        "decisions_are_known",
        "Every decision is accept, review, reject or undecided.",
        "ExpectColumnValuesToBeInSet",
        {"column": "decision", "value_set": list(DECISIONS)},
    ),
    Rule(
        "evaluations_carry_a_drift_score",
        "At least nine of ten evaluations carry a drift_score; a pipeline that stops sending it shows here.",
        "ExpectColumnValuesToNotBeNull",
        {"column": "drift_score", "mostly": 0.9},
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What one rule found: passed or not, how many rows were against it, and up to ten of them by tenant and record."""

    rule: Rule
    passed: bool
    rows: int
    unexpected: int
    examples: list[str]


def validate(frame: pd.DataFrame) -> list[Outcome]:
    """Judge the rows of a window.

    Args:
        frame: shape (rows, columns); columns tenant_id, record_id, decision, drift_score, reliability_score.
    """
    if frame.empty:
        return [Outcome(rule, True, 0, 0, []) for rule in RULES]
    with _great_expectations() as gx:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        suite = gx.ExpectationSuite(name="evaluations")
        for rule in RULES:
            make: Callable[..., Any] = getattr(gx.expectations, rule.expectation)
            suite.add_expectation(make(**rule.arguments, meta={"rule": rule.name}))
        source = context.data_sources.add_pandas("landed")
        batch = source.add_dataframe_asset("window").add_batch_definition_whole_dataframe("whole")
        report = batch.get_batch(batch_parameters={"dataframe": frame}).validate(suite)
    found = {result.expectation_config.meta["rule"]: result for result in report.results}
    return [_outcome(rule, found[rule.name], frame) for rule in RULES]


def _outcome(rule: Rule, result: Any, frame: pd.DataFrame) -> Outcome:
    details = result.result
    against = frame.loc[(details.get("partial_unexpected_index_list") or [])[:_EXAMPLES]]
    return Outcome(
        rule=rule,
        passed=bool(result.success),
        rows=len(frame),
        unexpected=int(details.get("unexpected_count") or 0),
        examples=[_example(rule, row) for row in against.to_dict("records")],
    )


def _example(rule: Rule, row: Mapping[Any, Any]) -> str:
    record = f"{row['tenant_id']}/{row['record_id']}"
    column = rule.arguments.get("column")
    value = None if column is None else row[column]
    return record if pd.isna(value) else f"{record} ({value})"


@contextmanager
def _great_expectations() -> Iterator[Any]:
    # Importing it costs ten seconds of CPU and it phones home unless told not to: here, and only when it is needed.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    yield great_expectations

"""The examples do what their README says, with the commands' own code on a real database."""

import re
import runpy
import shlex
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from assets.evaluations.columns import parse_mapping
from assets.evaluations.files import Format
from assets.evaluations.push import push_file
from orchestration.demo.real_log import convert_real_log
from storage.clock import Clock
from storage.database import Connection

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONVERTER = runpy.run_path(str(EXAMPLES / "aider_records.py"))


def documented_push() -> list[str]:
    """The arguments of the `tidemark push` that README shows for the real log."""
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    found = re.search(r"tidemark push aider_records\.csv(?:.*\\\n)*.*", readme)
    assert found is not None
    return shlex.split(found.group().replace("\\\n", " "))


def test_the_real_log_lands_whole_with_the_mapping_that_readme_shows(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path, mapping = convert_real_log(tmp_path)
    arguments = documented_push()
    pairs = [after for flag, after in pairwise(arguments) if flag == "--map"]
    assert pairs == list(mapping)
    report = push_file(
        connection, tenant, "evaluations", path, clock=Clock(), file_format=Format.CSV, mapping=parse_mapping(pairs)
    )
    assert (report.accepted, report.duplicates, report.conflicts, report.rejected) == (316, 0, 0, 0)
    landed = connection.execute(
        """
        select count(distinct record_id), count(distinct template), count(reliability_score),
            min(created_at)::date::text, max(created_at)::date::text,
            count(*) filter (where extractor_vendor = 'unknown'), count(distinct (extractor_vendor, extractor_model)),
            count(features ->> 'seconds_per_case')
        from raw.evaluations
        """
    ).fetchone()
    assert landed is not None
    assert landed[:6] == (316, 12, 316, "2023-11-06", "2025-10-03", 4)
    assert landed[7] == 316
    feedback = connection.execute("select count(*), min(fields_total), max(fields_total) from raw.feedback").fetchone()
    assert feedback == (316, 33, 225)


def test_the_script_writes_the_same_to_a_file_and_to_standard_output(tmp_path: Path) -> None:
    script = [sys.executable, str(EXAMPLES / "aider_records.py"), str(EXAMPLES / "aider_leaderboards.csv")]
    printed = subprocess.run(script, check=True, capture_output=True).stdout
    subprocess.run([*script, str(tmp_path / "out.csv")], check=True)
    assert (tmp_path / "out.csv").read_bytes() == printed
    assert subprocess.run(script[:2], check=False, capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt-4o-2024-08-06", ("openai", "gpt-4o-2024-08-06", "")),
        ("o3 (high) + gpt-4.1", ("openai", "o3 (high) + gpt-4.1", "")),
        ("openrouter/anthropic/claude-3.5-sonnet", ("anthropic", "claude-3.5-sonnet", "openrouter/anthropic")),
        ("ollama/hermes3:8b-llama3.1-fp16", ("nousresearch", "hermes3:8b-llama3.1-fp16", "ollama")),
        ("Llama-3.1-Nemotron-70B-Instruct-HF", ("nvidia", "Llama-3.1-Nemotron-70B-Instruct-HF", "")),
        ("R1+Sonnet", ("deepseek", "R1+Sonnet", "")),
        ("Command R+ (08-24)", ("cohere", "Command R+ (08-24)", "")),
        (
            "Qwen3-32B diff with VLLM, bfloat16, recommended /no_think settings",
            ("alibaba", "Qwen3-32B diff with VLLM, bfloat16, recommended /no_think settings", ""),
        ),
        ("Deepinfra via OpenRouter: BF16", ("deepinfra", "Deepinfra via OpenRouter: BF16", "")),
        ("Quasar Alpha", ("unknown", "Quasar Alpha", "")),
    ],
)
def test_a_model_name_is_split_into_vendor_model_and_route(name: str, parts: tuple[str, str, str]) -> None:
    assert CONVERTER["split_model"](name) == parts


def test_a_row_without_a_count_of_test_cases_leaves_the_field_counts_out() -> None:
    row = dict.fromkeys(("dirname", "board", "test_cases", "pass_rate_2"), "")
    converted = CONVERTER["convert"](row | {"model": "gpt-4", "date": "2024-01-02", "pass_rate_1": "61.7"})
    assert (converted["fields_correct"], converted["fields_total"]) == ("", "")
    assert converted["reliability_score"] == "0.617"


def test_the_first_records_hold_exactly_one_bad_line(connection: Connection, tenant: str) -> None:
    path = EXAMPLES / "first_records.ndjson"
    first = push_file(connection, tenant, "evaluations", path, clock=Clock())
    assert (first.accepted, first.rejected) == (7, 1)
    (problem,) = first.problems
    assert (problem.line.number, problem.field) == (6, "drift_score")
    again = push_file(connection, tenant, "evaluations", path, clock=Clock())
    assert (again.accepted, again.duplicates, again.rejected) == (0, 7, 1)
    decisions = Counter(row[0] for row in connection.execute("select decision from raw.evaluations"))
    assert decisions == {"accept": 5, "review": 1, "undecided": 1}

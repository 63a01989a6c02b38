"""Turns the Aider leaderboards' table into one whose columns Tidemark's contract knows.

Usage: python examples/aider_records.py aider_leaderboards.csv aider_records.csv   (standard output if OUT is left out)

It is what a user writes for a log of their own: it splits and converts what needs it, and leaves the plain renaming of
columns to `tidemark push --map` (MAPPING).
"""

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

# The first rule that matches the model's name (lower case) names its maker. Families come before the hosts that
# serve them, derived models before the family they derive from.
VENDORS: tuple[tuple[str, str], ...] = (
    (r"nemotron", "nvidia"),
    (r"hermes", "nousresearch"),
    (r"tulu", "allenai"),
    (r"dracarys", "abacusai"),
    (r"wizardlm", "microsoft"),
    (r"openhands", "all-hands-ai"),
    (r"granite", "ibm"),
    (r"codegeex", "zhipu"),
    (r"^yi\b", "01-ai"),
    (r"gpt|^o[1-9]\b", "openai"),
    (r"claude|sonnet|haiku|opus", "anthropic"),
    (r"gemini|gemma", "google"),
    (r"deepseek|^r1\b", "deepseek"),
    (r"qwen|qwq", "alibaba"),
    (r"codestral|mistral", "mistral"),
    (r"llama-?\d|llama \d", "meta"),
    (r"command", "cohere"),
    (r"grok", "xai"),
    (r"kimi", "moonshot"),
    (r"\bnova\b", "amazon"),
    # Boards that compare hosts of one model name the host alone.
    (r"fireworks", "fireworks"),
    (r"hyperbolic", "hyperbolic"),
    (r"deepinfra", "deepinfra"),
    (r"openrouter", "openrouter"),
    (r"huggingface", "huggingface"),
    (r"mlx-community", "mlx-community"),
    (r"ollama", "ollama"),
)
UNKNOWN_VENDOR = "unknown"

# Without spaces: a slash in "recommended /no_think settings" is none of a route.
_ROUTE = re.compile(r"((?:[\w.-]+/)*)(.+)")

# What `tidemark push --map` is told about the columns that aren't fields of the contract.
MAPPING: tuple[str, ...] = (
    "board=template",
    "route=features.route",
    "edit_format=features.edit_format",
    "versions=features.aider_versions",
    "pass_rate_1=features.pass_rate_1",
    "percent_cases_well_formed=features.percent_cases_well_formed",
    "num_malformed_responses=features.malformed_responses",
    "error_outputs=features.error_outputs",
    "syntax_errors=features.syntax_errors",
    "test_timeouts=features.test_timeouts",
    "seconds_per_case=features.seconds_per_case",
    "total_cost=features.total_cost",
    "pass_num_1=",
    "pass_num_2=",
)

_CONSUMED = ("dirname", "model", "date", "test_cases", "pass_rate_2")
_ADDED = (
    "record_id",
    "extractor_vendor",
    "extractor_model",
    "route",
    "created_at",
    "reliability_score",
    "fields_correct",
    "fields_total",
)


def split_model(name: str) -> tuple[str, str, str]:
    """Split a model's published name into (vendor, model, route).

    The route is through whom it was called (`openrouter/anthropic`), empty if the name doesn't tell. Of a pair
    (`R1+Sonnet`) the first one, which plans, names the vendor. A name without a rule gets the vendor "unknown" and
    keeps its model name, so that extractors stay apart even where nobody knows who made them.
    """
    parts = _ROUTE.fullmatch(name.strip())
    route, model = parts.groups() if parts else ("", name)
    planner = model.lower().split("+")[0].strip()
    vendor = next((vendor for pattern, vendor in VENDORS if re.search(pattern, planner)), UNKNOWN_VENDOR)
    return vendor, model, route.rstrip("/")


def convert(row: Mapping[str, str]) -> dict[str, str]:
    """One run as a row whose columns the contract (and MAPPING) knows; empty where nothing was published."""
    vendor, model, route = split_model(row["model"])
    # Boards with a single try publish no second rate: there the first is the final one.
    percent = row["pass_rate_2"] or row["pass_rate_1"]
    total = int(row["test_cases"] or 0)
    kept = {name: value for name, value in row.items() if name not in _CONSUMED}
    return kept | {
        # Run names repeat across boards, never within one.
        "record_id": f"{row['board']}/{row['dirname']}",
        "extractor_vendor": vendor,
        "extractor_model": model,
        "route": route,
        "created_at": f"{row['date']}T00:00:00Z",
        "reliability_score": f"{float(percent) / 100:.4g}" if percent else "",
        "fields_correct": str(round(float(percent) * total / 100)) if percent and total else "",
        "fields_total": str(total) if percent and total else "",
    }


def read(path: Path) -> Iterator[dict[str, str]]:
    """The converted rows of the leaderboards' table at `path`."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield convert(row)


def write(rows: list[dict[str, str]], out: TextIO) -> None:
    """Write converted rows with a header; the contract's columns come first."""
    columns = [*_ADDED, *(name for name in rows[0] if name not in _ADDED)]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def main(arguments: list[str]) -> int:
    """Convert IN to OUT, or to standard output."""
    if len(arguments) not in (1, 2):
        print("usage: python aider_records.py IN.csv [OUT.csv]", file=sys.stderr)  # noqa: T201
        return 2
    rows = list(read(Path(arguments[0])))
    if len(arguments) == 1:
        write(rows, sys.stdout)
        return 0
    with Path(arguments[1]).open("w", encoding="utf-8", newline="") as out:
        write(rows, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

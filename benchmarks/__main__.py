"""`python -m benchmarks [NAME…] [--full] [--json]`: runs every `bench_NAME.py`, or those named; prints one table."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row

_PREFIX = "bench_"
_FILE_WIDTH = 160
# Below it two decimals would hide what was measured.
_SMALL = 0.1


def main(arguments: list[str]) -> int:
    """Run and print; 2 if a name isn't known."""
    names = sorted(path.stem.removeprefix(_PREFIX) for path in Path(__file__).parent.glob(f"{_PREFIX}*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios, never a pass or fail on time.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}; all if none is given")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--full", action="store_true", help="the warehouse with up to 20M rows: an hour, 40 GB of disk")
    options = parser.parse_args(arguments)
    if options.full:
        os.environ["BENCH_FULL"] = "1"
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    answers = {}
    for name in options.names or names:
        print(f"{name} …", file=sys.stderr)
        run: Callable[[], list[Row]] = import_module(f"benchmarks.{_PREFIX}{name}").run
        answers[name] = run()
    if options.json:
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in answers.items()}, indent=2))
    else:
        _print_table(answers)
    return 0


def _print_table(answers: dict[str, list[Row]]) -> None:
    table = Table("benchmark", "question", "ratio", "aim", "figures")
    table.columns[2].justify = "right"
    for name, rows in answers.items():
        for row in rows:
            ratio = "-" if row.ratio is None else f"{row.ratio:.3g}" if row.ratio < _SMALL else f"{row.ratio:.2f}"
            table.add_row(name, row.question, ratio, row.aim, row.figures)
    # A log file has no width to fit into.
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

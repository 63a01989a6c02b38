"""The real log that comes with the checkout, made into records as `examples/README.md` tells a user to.

Belongs here: running the example's own converter, so that the demo and the example can't drift apart. Does not belong
here: any conversion.
"""

import runpy
from pathlib import Path

from storage.errors import UsageError

TENANT_ID = "demo-aider"
TENANT_NAME = "Aider leaderboards (demo, real data)"

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def convert_real_log(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Write the converted table into `folder` and return its path and the `--map` pairs to push it with.

    Raises:
        UsageError: the examples aren't there, as in an installation without the checkout.
    """
    table, converter = _EXAMPLES / "aider_leaderboards.csv", _EXAMPLES / "aider_records.py"
    if not (table.is_file() and converter.is_file()):
        raise UsageError(f"{_EXAMPLES} lacks the real log's files. Run the demo from a checkout of Tidemark.")
    example = runpy.run_path(str(converter))
    target = folder / "aider_records.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as out:
        example["write"](list(example["read"](table)), out)
    mapping: tuple[str, ...] = example["MAPPING"]
    return target, mapping

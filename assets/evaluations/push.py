"""A whole file through the landing, batch by batch, in memory that doesn't grow with the file."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from assets.evaluations.files import Format, read_lines
from assets.evaluations.landing import judge, land_judged
from assets.evaluations.verdicts import Kind, Line, Problem, Receipt
from storage.clock import Clock
from storage.database import Connection
from storage.errors import UsageError

MOST_LINES_A_BATCH = 10_000
MOST_BYTES_A_BATCH = 32 * 1024 * 1024
_PROBLEMS_SHOWN = 100


@dataclass
class PushReport:
    """What became of a file: the sum over its batches, with its first problems."""

    batches: list[str] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records were judged."""
        return self.accepted + self.duplicates + self.conflicts + self.rejected

    def add(self, receipt: Receipt) -> None:
        """Count one more batch in."""
        self.batches.append(str(receipt.batch_id))
        self.accepted += receipt.accepted
        self.duplicates += receipt.duplicates
        self.conflicts += receipt.conflicts
        self.rejected += receipt.rejected
        self.problems += receipt.problems[: _PROBLEMS_SHOWN - len(self.problems)]

    def as_dict(self) -> dict[str, object]:
        """For scripts; the counts are named as in the HTTP answer."""
        return {
            "batches": self.batches,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "rejected": self.rejected,
            "errors": [problem.as_dict() for problem in self.problems],
        }


def push_file(
    connection: Connection,
    tenant_id: str,
    kind: Kind,
    path: Path,
    *,
    clock: Clock,
    file_format: Format | None = None,
    mapping: Mapping[str, str] | None = None,
    door: str = "cli",
    on_batch: Callable[[PushReport], None] = lambda _: None,
) -> PushReport:
    """Land a file, batch by batch; pushing it again is harmless.

    While PostgreSQL lands a batch, the next one is read and judged; it waits until the former is committed.

    Args:
        connection: in autocommit mode.
        tenant_id: an existing tenant.
        kind: what the file's records are.
        path: the file.
        clock: the server's time.
        file_format: by the suffix if None.
        mapping: column to field, for CSV and Parquet.
        door: recorded in the receipts.
        on_batch: called after each commit, for progress.

    Raises:
        UsageError: the file can't be read, or holds no record.
    """
    report = PushReport()
    with ThreadPoolExecutor(1, "landing") as postgres:
        under_way: Future[Receipt] | None = None
        for lines in in_batches(read_lines(path, kind, file_format, mapping or {})):
            judged = judge(tenant_id, kind, lines, clock.now())
            if under_way is not None:
                report.add(under_way.result())
                on_batch(report)
            under_way = postgres.submit(land_judged, connection, judged, door=door, source=path.name)
        if under_way is not None:
            report.add(under_way.result())
            on_batch(report)
    if not report.batches:
        raise UsageError(f"{path} holds no record: it is empty, or has only blank lines or a header.")
    return report


def in_batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Group lines up to 10,000 records or 32 MiB a batch."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.payload)
        if len(batch) >= MOST_LINES_A_BATCH or size >= MOST_BYTES_A_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

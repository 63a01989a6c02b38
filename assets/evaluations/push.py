"""A whole file through the landing, batch by batch, in memory that doesn't grow with the file."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from assets.evaluations.files import Format, read_lines
from assets.evaluations.landing import InTransaction, judge, land_judged
from assets.evaluations.verdicts import Kind, Line, Problem, Receipt
from storage.clock import Clock
from storage.database import Connection
from storage.errors import UsageError
from storage.garbage import rare_garbage_collection

MOST_LINES_A_BATCH = 10_000
MOST_BYTES_A_BATCH = 32 * 1024 * 1024
_PROBLEMS_SHOWN = 100
_SWITCH_SECONDS = 0.0002


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
    lines = read_lines(path, kind, file_format, mapping or {})
    for receipt in land_lines(connection, tenant_id, kind, lines, clock=clock, door=door, source=path.name):
        report.add(receipt)
        on_batch(report)
    if not report.batches:
        raise UsageError(f"{path} holds no record: it is empty, or has only blank lines or a header.")
    return report


def land_lines(
    connection: Connection,
    tenant_id: str,
    kind: Kind,
    lines: Iterable[Line],
    *,
    clock: Clock,
    door: str,
    source: str,
    with_batch: Callable[[Sequence[Line]], InTransaction | None] = lambda _: None,
) -> Iterator[Receipt]:
    """Land lines however many there are; a receipt is handed over after its commit.

    While PostgreSQL lands a batch, the next one is read and judged; it waits until the former is committed.

    Args:
        connection: in autocommit mode.
        tenant_id: an existing tenant.
        kind: what the lines are.
        lines: in the order of their source. If they end in an exception, what came before it lands.
        clock: the server's time.
        door: recorded in the receipts.
        source: what the sender calls it.
        with_batch: makes of a batch what is to be written in the transaction that lands it.
    """
    with rare_garbage_collection(), _quick_turns(), ThreadPoolExecutor(1, "landing") as postgres:
        under_way: Future[Receipt] | None = None
        # Of a file that has been pushed before PostgreSQL's log gets an error or two, and not one a batch.
        unseen = True
        try:
            for batch in in_batches(lines):
                judged = judge(tenant_id, kind, batch, clock.now(), unseen=unseen)
                if under_way is not None:
                    receipt = under_way.result()
                    unseen = unseen and not receipt.duplicates and not receipt.conflicts
                    yield receipt
                under_way = postgres.submit(
                    land_judged, connection, judged, door=door, source=source, in_transaction=with_batch(batch)
                )
        except UsageError:
            # Before the source's end is told, its last batch has landed; or it has not, and that is the worse news.
            if under_way is not None:
                yield under_way.result()
            raise
        if under_way is not None:
            yield under_way.result()


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let the thread that lands go on as soon as PostgreSQL has answered.

    By Python's own interval (5 ms) it waited as long for the judging thread after each of its many short waits, and the
    two took as long together as one after the other.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Group lines up to 10,000 records or 32 MiB a batch; what came before a UsageError of theirs is a batch too."""
    batch: list[Line] = []
    size = 0
    try:
        for line in lines:
            batch.append(line)
            size += len(line.payload)
            if len(batch) >= MOST_LINES_A_BATCH or size >= MOST_BYTES_A_BATCH:
                yield batch
                batch, size = [], 0
    except UsageError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch

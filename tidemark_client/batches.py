"""Records grouped into requests' bodies, by count and by bytes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tidemark_client.encoding import Record, to_line
from tidemark_client.errors import InvalidRecordError
from tidemark_client.results import PushResult, refused_unsent


@dataclass
class Batch:
    """Lines that go out in one request, and the records amid them that can't.

    Attributes:
        lines: the records as they are sent.
        indexes: their places in what was pushed, None each for records of a queue.
        unsent: the result of the records that were refused here.
    """

    lines: list[bytes] = field(default_factory=list)
    indexes: list[int | None] = field(default_factory=list)
    unsent: PushResult = field(default_factory=PushResult)

    @classmethod
    def of_queue(cls, lines: list[bytes]) -> "Batch":
        """A batch of records whose places nobody knows any more."""
        return cls(lines, [None] * len(lines))

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def records(self) -> int:
        """How many records it stands for."""
        return len(self.lines) + self.unsent.rejected

    @property
    def body(self) -> bytes:
        """The request's body, NDJSON."""
        return b"\n".join(self.lines) + b"\n"

    def halves(self) -> tuple["Batch", "Batch"]:
        """Its records in two, at least one line in each."""
        middle = len(self.lines) // 2
        border = self.indexes[middle]
        first, second = PushResult(), PushResult()
        for problem in self.unsent.problems:
            half = first if border is not None and (problem.index or 0) < border else second
            half.add(PushResult(rejected=1, problems=[problem]))
        return (
            Batch(self.lines[:middle], self.indexes[:middle], first),
            Batch(self.lines[middle:], self.indexes[middle:], second),
        )

    def after(self, index: int) -> "Batch":
        """Its records from that place on."""
        lines = [(place, line) for place, line in zip(self.indexes, self.lines, strict=True) if (place or 0) >= index]
        unsent = [problem for problem in self.unsent.problems if (problem.index or 0) >= index]
        return Batch(
            [line for _, line in lines],
            [place for place, _ in lines],
            PushResult(rejected=len(unsent), problems=unsent),
        )

    def judged(self, result: PushResult) -> PushResult:
        """The result of its lines together with that of the records which were refused here."""
        if not self.unsent.rejected:
            return result
        result.add(self.unsent)
        result.problems.sort(key=lambda problem: problem.index or 0)
        return result


def in_batches(records: Iterable[Record], most_records: int, most_bytes: int) -> Iterator[Batch]:
    """Group records, in their order; none is read before the batch before it was taken.

    Args:
        records: anything that can be iterated over once.
        most_records: a batch's largest count.
        most_bytes: a batch's largest body, unpacked, unless a single record is larger.
    """
    batch, size = Batch(), 0
    for index, record in enumerate(records):
        try:
            line = to_line(record)
        except InvalidRecordError as error:
            payload = record if isinstance(record, bytes) else b""
            batch.unsent.add(refused_unsent(index, error.field, error.code, error.reason, payload))
        else:
            if batch.lines and size + len(line) + 1 > most_bytes:
                yield batch
                batch, size = Batch(), 0
            batch.lines.append(line)
            batch.indexes.append(index)
            size += len(line) + 1
        if batch.records >= most_records:
            yield batch
            batch, size = Batch(), 0
    if batch.records:
        yield batch

"""A file through the HTTP door of a server elsewhere: sent by the Python client, reported by the file's own lines."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from assets.evaluations.files import Format, read_lines
from assets.evaluations.push import PushReport
from assets.evaluations.verdicts import Line, Problem
from storage.errors import TidemarkError, UsageError
from tidemark_client import Client, DeliveryError, PushResult

_PROBLEMS_SHOWN = 100


def push_file_to(
    client: Client,
    path: Path,
    *,
    file_format: Format | None = None,
    mapping: Mapping[str, str] | None = None,
    on_batch: Callable[[PushReport], None] = lambda _: None,
) -> PushReport:
    """Send a file's evaluations; pushing it again is harmless.

    A row of which the reader can't make a record is reported as rejected, and not sent.

    Args:
        client: one that takes problems by a function, since the report has them.
        path: the file.
        file_format: by the suffix if None.
        mapping: column to field, for CSV and Parquet.
        on_batch: called after each answer, for progress.

    Raises:
        UsageError: the file can't be read, or holds no record.
        TidemarkError: the server did not take all of it.
    """
    journey = _Journey(read_lines(path, "evaluations", file_format, mapping or {}))

    def answered(result: PushResult) -> None:
        journey.arrived(result)
        on_batch(journey.report)

    try:
        client.push(journey.records(), on_batch=answered)
    except DeliveryError as error:
        raise TidemarkError(
            f"{path}: {journey.report.accepted + journey.report.duplicates:,} records have landed, the rest has not: "
            f"{error.reason}. Push the file again: what has landed is recognized."
        ) from None
    report = journey.report
    report.problems.sort(key=lambda problem: problem.line.number)
    if not report.records:
        raise UsageError(f"{path} holds no record: it is empty, or has only blank lines or a header.")
    return report


class _Journey:
    """A file's lines on their way, and the report of those that have arrived."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        # The numbers of the lines that are not answered yet: never more than one request's, and one.
        self._numbers: deque[int] = deque()
        self._answered = 0
        self._told = 0
        self._refused_here = 0
        self.report = PushReport()

    def records(self) -> Iterator[bytes]:
        for line in self._lines:
            if line.refused is None:
                self._numbers.append(line.number)
                yield line.payload if line.record is None else line.record
            else:
                self._refused_here += 1
                self.report.rejected += 1
                self._report(Problem.rejected(line, line.refused))

    def arrived(self, result: PushResult) -> None:
        for found in result.problems[self._told :]:
            assert found.index is not None  # noqa: S101 - only a queue's problems have none
            line = Line(self._numbers[found.index - self._answered], found.payload)
            self._report(Problem(line, found.verdict, found.field, found.code, found.reason))
        self._told = len(result.problems)
        while self._answered < result.records:
            self._numbers.popleft()
            self._answered += 1
        report = self.report
        report.batches, report.accepted, report.duplicates = result.batches, result.accepted, result.duplicates
        report.conflicts, report.rejected = result.conflicts, result.rejected + self._refused_here

    def _report(self, problem: Problem) -> None:
        if len(self.report.problems) < _PROBLEMS_SHOWN:
            self.report.problems.append(problem)

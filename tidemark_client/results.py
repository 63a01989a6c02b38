"""What became of the records: counts, and the problems of those that were refused."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MOST_PROBLEMS = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record did not land.

    Attributes:
        index: its place in what was pushed, from 0; None if it came through the queue of `Client.enqueue`.
        verdict: `rejected`, or a `conflict` with another record that landed under the same id.
        field: the field at fault, if it is one.
        code: a stable name of the reason.
        reason: the reason in words, which follow the field's name.
        payload: the record as it was or would have been sent; not in the repr, because it is your data.
        batch_id: the server's receipt, which keeps the record; None if it was refused before it was sent.
    """

    index: int | None
    verdict: Literal["rejected", "conflict"]
    field: str | None
    code: str
    reason: str
    payload: bytes = dataclasses.field(repr=False, default=b"")
    batch_id: str | None = None

    @property
    def record_id(self) -> str | None:
        """The record's own record_id, which `Client.enqueue` returned; None if it has none that can be read."""
        try:
            record = json.loads(self.payload)
        except (ValueError, RecursionError):
            return None
        name = record.get("record_id") if isinstance(record, dict) else None
        return name if isinstance(name, str) else None

    def __str__(self) -> str:
        where = f"queued record {self.record_id}" if self.index is None else f"record {self.index}"
        return f"{where}: {self.verdict}: {self.field + ': ' if self.field else ''}{self.reason}"


@dataclass
class PushResult:
    """The sum over every answer; what it counts is committed on the server, but for what was refused unsent.

    Attributes:
        batches: the receipts' ids, one a request that landed.
        accepted: records that are new.
        duplicates: records that had landed before, with the same content.
        conflicts: records whose id had landed before with other content; the first stands.
        rejected: records that the contract, or the client, refused.
        problems: of conflicts and rejects, in the order of the records; the first 10,000. The server names at most 100
            in one answer, so there may be fewer than were refused: `unnamed` counts the rest.
    """

    batches: list[str] = dataclasses.field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records were judged."""
        return self.accepted + self.duplicates + self.conflicts + self.rejected

    @property
    def refused(self) -> int:
        """How many of them did not land."""
        return self.conflicts + self.rejected

    @property
    def unnamed(self) -> int:
        """How many were refused without a problem in `problems`; `tidemark rejects list` shows them all."""
        return self.refused - len(self.problems)

    def add(self, other: "PushResult") -> None:
        """Count another result in."""
        self.batches += other.batches
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts
        self.rejected += other.rejected
        self.problems += other.problems[: MOST_PROBLEMS - len(self.problems)]


def refused_unsent(index: int | None, field_name: str | None, code: str, reason: str, payload: bytes) -> PushResult:
    """The result of one record that never left."""
    return PushResult(rejected=1, problems=[Problem(index, "rejected", field_name, code, reason, payload)])


def read_receipt(document: object, indexes: Sequence[int | None], lines: Sequence[bytes]) -> PushResult | None:
    """The server's answer to a batch, or None if it isn't one that accounts for every record sent.

    Args:
        document: the answer's JSON.
        indexes: the records' places in what was pushed.
        lines: the records as they were sent, in the same order.
    """
    if not isinstance(document, Mapping):
        return None
    batch_id, errors = document.get("batch_id"), document.get("errors", [])
    counts = [document.get(name) for name in ("accepted", "duplicates", "conflicts", "rejected")]
    whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
    if not isinstance(batch_id, str) or not isinstance(errors, list) or len(whole) != len(counts):
        return None
    if sum(whole) != len(lines):
        return None
    problems = [problem for error in errors if (problem := _problem(error, batch_id, indexes, lines)) is not None]
    accepted, duplicates, conflicts, rejected = whole
    return PushResult([batch_id], accepted, duplicates, conflicts, rejected, problems)


def _problem(error: object, batch_id: str, indexes: Sequence[int | None], lines: Sequence[bytes]) -> Problem | None:
    if not isinstance(error, Mapping):
        return None
    line, field_name = error.get("line"), error.get("field")
    if not isinstance(line, int) or not 1 <= line <= len(lines):
        return None
    return Problem(
        indexes[line - 1],
        "conflict" if error.get("verdict") == "conflict" else "rejected",
        field_name if isinstance(field_name, str) else None,
        str(error.get("code", "")),
        str(error.get("reason", "")),
        lines[line - 1],
        batch_id,
    )

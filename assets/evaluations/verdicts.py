"""What goes into a landing and what comes out of it: lines, problems, receipts."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, NamedTuple

from assets.evaluations.contract import Refused

Kind = Literal["evaluations", "feedback"]


_LONGEST_ID = 200


class Place(NamedTuple):
    """Where a file can be read on from: before it, all is done.

    Attributes:
        offset: bytes of the (unpacked) text, or rows of a Parquet file.
        lines: physical lines, or rows.
    """

    offset: int
    lines: int


BEGINNING = Place(0, 0)


class Line(NamedTuple):
    """One record as a door received it.

    Attributes:
        number: its place in what was sent, from 1.
        payload: its bytes, exactly as sent.
        record: the JSON document to judge, where `payload` is of another format (a CSV line, a Parquet row).
        refused: why the door itself couldn't make a record of it.
        after: where its file goes on behind it, for a reader that wants to come back.
        received_at: when it came, aware, if that is not now.
    """

    number: int
    payload: bytes
    record: bytes | None = None
    refused: Refused | None = None
    after: Place = BEGINNING
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one line did not land: `rejected`, or a `conflict` with what had landed before."""

    line: Line
    verdict: Literal["rejected", "conflict"]
    field: str | None
    code: str
    reason: str

    @classmethod
    def rejected(cls, line: Line, why: Refused) -> "Problem":
        """The contract, or the door, refused it."""
        return cls(line, "rejected", why.field, why.code, why.reason)

    @classmethod
    def conflict(cls, line: Line, field: str) -> "Problem":
        """Another content stands under the same identity."""
        reason = f"this {field} has landed before with other content; the first one stands"
        return cls(line, "conflict", field, "conflict", reason)

    @property
    def record_id(self) -> str | None:
        """The record_id that the record was sent with, if it has one that can be read and shown."""
        try:
            # Not the contract's reader, because what was refused for a NaN has a name all the same.
            record = json.loads(self.line.payload if self.line.record is None else self.line.record)
        except (ValueError, RecursionError):
            return None
        name = record.get("record_id") if isinstance(record, dict) else None
        return name if isinstance(name, str) and 0 < len(name) <= _LONGEST_ID and name.isprintable() else None

    def as_dict(self) -> dict[str, object]:
        """For answers and scripts."""
        return {
            "line": self.line.number,
            "record_id": self.record_id,
            "verdict": self.verdict,
            "field": self.field,
            "code": self.code,
            "reason": self.reason,
        }


@dataclass(slots=True)
class Outcome:
    """What became of a batch's lines, before it is committed."""

    accepted: int = 0
    duplicates: int = 0
    problems: list[Problem] = field(default_factory=list)
    touched_days: set[date] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one batch; true once it is handed over, because the batch is committed then."""

    batch_id: uuid.UUID
    accepted: int
    duplicates: int
    problems: tuple[Problem, ...]

    @property
    def conflicts(self) -> int:
        """Records whose identity was taken by other content."""
        return sum(problem.verdict == "conflict" for problem in self.problems)

    @property
    def rejected(self) -> int:
        """Records that the contract refused."""
        return sum(problem.verdict == "rejected" for problem in self.problems)


def in_line_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort problems as their sender will look for them."""
    return tuple(sorted(problems, key=lambda problem: problem.line.number))

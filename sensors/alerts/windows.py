"""Moving windows: the mean of a subject's newest evaluations, as a pure function of the batches in their order.

A window holds the newest `limit` evaluations that have the metric (all, if there is no limit), none of them more than
`span` older than the newest, by (created_at, evaluation_id). How old they are by a clock is of no matter to what it
holds. Of `decision_review` the mean is the share of reviews among what was decided.

Each batch moves it:

* an evaluation newer than all before it enters alone, pushes out what is too many or too old by then, and the new mean
  is judged; so of data in its order nothing depends on how it was cut into batches;
* those that come late, older than what an earlier batch has brought, enter together where they belong, and if any did,
  the mean is judged once. Before that, what has been told of windows that they fall into is taken up again (`Late`).

A mean is judged from `min_n` evaluations on, and only where what moved it is within the rule's maximum age.

Values are whole billionths, so that a sum is exact however it came about, and the mean, rounded to a billionth, is the
very number that SQL finds: `round(avg(round(value::numeric, 9)), 9)`.

Belongs here: what is in a window. Does not belong here: reading and keeping it (`window_rows`), what a mean does to an
alert (`states`).
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sensors.alerts.states import Comparison, Observation, Subject

BILLION = 1_000_000_000

Key = tuple[datetime, UUID]
Batch = tuple[int, UUID]
"""Transaction and batch: what was landed until then is known by comparing them."""


class Row(NamedTuple):
    """One evaluation that has the metric; `value` in billionths."""

    created_at: datetime
    evaluation_id: UUID
    value: int
    correlation_id: str | None = None
    is_kept: bool = False


@dataclass(frozen=True)
class Rule:
    """What a subject's mean is held against.

    Attributes:
        clear_gap: from the threshold to the clear value.
        limit, span, min_n: as in the module's text.
        text: what people have set, to compare.
        basis: where the bound comes from; JSON.
    """

    subject: Subject
    threshold: float
    clear_gap: float
    comparison: Comparison
    severity: str
    for_n: int
    clear_n: int
    max_age: timedelta
    limit: int | None
    span: timedelta
    min_n: int
    text: str
    basis: Mapping[str, object]

    def is_broken(self, mean: float, gap: float = 0.0) -> bool:
        """Whether a mean is beyond the threshold, or beyond what is `gap` away from it."""
        bound = self.threshold + gap
        return mean > bound if self.comparison == "above" else mean < bound


class Reading(NamedTuple):
    """A window right after it has moved; `row` is what moved it, `value` the mean in billionths."""

    row: Row
    value: int
    first: Key
    last: Key
    size: int
    until: Batch

    @property
    def mean(self) -> float:
        """In the metric's unit."""
        return self.value / BILLION


@dataclass(frozen=True)
class Late:
    """A batch's late evaluations of a subject, the oldest and the newest of those within the maximum age."""

    rule: Rule
    earliest: datetime
    latest: datetime
    until: Batch

    @property
    def subject(self) -> Subject:
        """Whose."""
        return self.rule.subject


class Window:
    """The newest evaluations of a subject: their number, their sum, and the oldest ones by name.

    Args:
        limit: how many at most.
        span: how much older than the newest at most.
        count, total: of what is in it.
        newest: its last one; None: nothing has been in it.
        front: its oldest, sorted: as many as moving it may push out, and one more; all, if it has less.
    """

    def __init__(
        self,
        limit: int | None,
        span: timedelta,
        count: int = 0,
        total: int = 0,
        newest: Key | None = None,
        front: Iterable[Row] = (),
    ) -> None:
        self._limit, self._span = limit, span
        self.count, self.total, self.newest = count, total, newest
        self._front, self._head = list(front), 0

    @property
    def oldest(self) -> list[Row]:
        """Its oldest ones, with all that have entered since it was made."""
        return self._front[self._head :]

    def add(self, row: Row) -> bool:
        """Let one enter; False if it is too old for it."""
        if self.newest is not None:
            is_full = self._limit is not None and self.count == self._limit
            if row.created_at < self.newest[0] - self._span or (is_full and row < self._front[self._head]):
                return False
        insort(self._front, row, lo=self._head)
        self.count += 1
        self.total += row.value
        self.newest = max(self.newest or row[:2], row[:2])
        horizon = self.newest[0] - self._span
        while (self._limit is not None and self.count > self._limit) or self._front[self._head].created_at < horizon:
            self.count -= 1
            self.total -= self._front[self._head].value
            self._head += 1
        return True

    def read(self, row: Row, until: Batch) -> Reading:
        """As it stands, moved by a row."""
        assert self.newest is not None  # noqa: S101 - a row has entered
        return Reading(row, mean(self.total, self.count), self._front[self._head][:2], self.newest, self.count, until)


def mean(total: int, count: int) -> int:
    """Rounded to the nearest, halves up: as PostgreSQL rounds numbers of the sign that scores have."""
    return (2 * total + count) // (2 * count)


def move(
    rule: Rule, window: Window, rows: Sequence[Row], until: Batch, fresh_from: datetime
) -> list[tuple[Row, Late | Reading]]:
    """Let a batch's rows enter; what is to be judged, each with the row that caused it.

    Args:
        rule: whose `min_n` and subject.
        window: is moved.
        rows: of one batch, sorted.
        until: the batch.
        fresh_from: what is older enters, and has nothing judged.
    """
    newest = window.newest
    late = [row for row in rows if newest is not None and row[:2] < newest]
    found: list[tuple[Row, Late | Reading]] = []
    if late and late[-1].created_at >= fresh_from:
        earliest = next(row.created_at for row in late if row.created_at >= fresh_from)
        found.append((late[0], Late(rule, earliest, late[-1].created_at, until)))
    entered = [row for row in late if window.add(row)]
    if entered and entered[-1].created_at >= fresh_from and window.count >= rule.min_n:
        found.append((late[0], window.read(entered[-1], until)))
    for row in rows[len(late) :]:
        window.add(row)
        if row.created_at >= fresh_from and window.count >= rule.min_n:
            found.append((row, window.read(row, until)))
    return found


def observation(rule: Rule, seen: Reading) -> Observation:
    """A reading, held against its rule."""
    breach = rule.is_broken(seen.mean)
    window = {
        "window_n": rule.limit,
        "span_seconds": rule.span.total_seconds(),
        "evaluation_count": seen.size,
        "first": {"created_at": seen.first[0].isoformat(), "evaluation_id": str(seen.first[1])},
        "last": {"created_at": seen.last[0].isoformat(), "evaluation_id": str(seen.last[1])},
        "until": {"xact_id": str(seen.until[0]), "batch_id": str(seen.until[1])},
    }
    return Observation(
        subject=rule.subject,
        source="window",
        value=seen.mean,
        threshold=rule.threshold,
        breach=breach,
        severity=rule.severity,
        clear_n=rule.clear_n,
        starts=seen.first[0],
        ends=seen.last[0],
        evaluation_count=seen.size,
        evaluation_id=seen.row.evaluation_id,
        correlation_id=seen.row.correlation_id,
        between=not breach and rule.is_broken(seen.mean, rule.clear_gap),
        for_n=rule.for_n,
        comparison=rule.comparison,
        rule=rule.text,
        basis={"rule": rule.basis, "window": window},
    )

"""When a sender that usually sends has become silent: judged by its own past arrivals, and by nothing else.

A sender's clock runs while it usually sends. For each hour of the week, the share of past weeks in which something
arrived says how many arrivals to expect of it; a gap is as long as the arrivals that were expected in it. So a weekend
without records lasts no time for who never sends on weekends, and gaps of night and day are of one kind. Usual is what
all but half a percent of the past gaps stayed within, in a finite sample: the ceil((n + 1)(1 - alpha))-th of n gaps in
order, or the longest of fewer. By chance alone a gap is longer with a probability of alpha at most, or 1 / (n + 1).
One expected arrival more than that, and two hours, are silence.

Belongs here: the calculation. Does not belong here: where arrivals come from, and what is done about silence.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

MOST_WEEKS = 8
FEWEST_WEEKS = 4
FEWEST_GAPS = 20
ALPHA = Fraction(1, 200)
# For what comes an hour late: a slow job, the end of summer time.
PATIENCE = timedelta(hours=2)
_HOUR = 3600
_WEEK = 168


@dataclass(frozen=True)
class Rhythm:
    """What to expect of a sender after its last arrival.

    Attributes:
        gaps: how many past gaps it is learned from.
        usual: the length of gap that is usual, in expected arrivals that stayed out.
        silent_from: if nothing arrives until then, that is unusual; aware.
    """

    gaps: int
    usual: float
    silent_from: datetime

    @property
    def is_regular(self) -> bool:
        """Whether it usually leaves out no more than one expected arrival."""
        return self.usual <= 1


def rhythm_of(arrivals: Sequence[datetime]) -> Rhythm | None:
    """Learn a sender's rhythm; None if its past is too short: below 4 weeks, or 20 gaps in the last 8.

    Args:
        arrivals: times at which something arrived, oldest first, aware; one for each such hour is enough.
    """
    if not arrivals:
        return None
    hours = sorted({int(arrival.timestamp()) // _HOUR for arrival in arrivals})
    last = hours[-1]
    weeks = min((last - hours[0]) // _WEEK, MOST_WEEKS)
    recent = [hour for hour in hours if hour > last - weeks * _WEEK]
    if weeks < FEWEST_WEEKS or len(recent) <= FEWEST_GAPS:
        return None
    active_weeks = Counter(hour % _WEEK for hour in recent)
    gaps = sorted(_missed(recent, active_weeks))
    rank = min(math.ceil((len(gaps) + 1) * (1 - ALPHA)), len(gaps))
    # Of a past gap's own week nothing arrived in its hours: the other weeks say what was expected of them.
    usual = Fraction(gaps[rank - 1], weeks - 1)
    return Rhythm(len(gaps), float(usual), _when_missed(last, active_weeks, weeks, usual + 1) + PATIENCE)


def _missed(hours: Sequence[int], active_weeks: Counter[int]) -> list[int]:
    """For each gap, the sum over its empty hours of the weeks in which the same hour was not empty."""
    arrived = set(hours)
    gaps, missed = [], 0
    for hour in range(hours[0] + 1, hours[-1] + 1):
        if hour in arrived:
            gaps.append(missed)
            missed = 0
        else:
            missed += active_weeks[hour % _WEEK]
    return gaps


def _when_missed(last: int, active_weeks: Counter[int], weeks: int, expected: Fraction) -> datetime:
    """The end of the hour by which so many expected arrivals will have stayed out."""
    hour, missed = last, 0
    while Fraction(missed, weeks) < expected:
        hour += 1
        missed += active_weeks[hour % _WEEK]
    return datetime.fromtimestamp((hour + 1) * _HOUR, UTC)

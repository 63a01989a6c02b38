"""Shifts: how much likelier two rates are than one, how weekdays differ, whether a rate has returned.

Belongs here: formulas over arrays. Does not belong here: when a shift is a change (watch.py).
"""

import numpy as np
from scipy import special

from assets.selection.evidence import Floats

WEEK = 7
_TRUST_IN_BEFORE = 200.0  # feedbacks: more of them don't fix a rate any better
_RHYTHM_STANDS_OUT = 16.81  # 99 % of chi-square with six degrees of freedom


def weekday_effects(surprise: Floats, information: Floats) -> Floats:
    """Effects of the weekdays (first axis), shrunk by moments; 0 where they don't stand out of the noise."""
    known = (information > 0).all(axis=0)
    safe = np.where(information > 0, information, 1.0)
    total = safe.sum(axis=0)
    mean = surprise.sum(axis=0) / total
    spread = (surprise**2 / safe).sum(axis=0) - mean**2 * total
    found = known & (spread > _RHYTHM_STANDS_OUT)
    variance = np.where(found, (spread - (WEEK - 1)) / total, 1.0)
    return np.where(found, (surprise - mean * safe) / (safe + 1 / variance), 0.0)


def gain(good_before: Floats, count_before: Floats, good: Floats, count: Floats) -> Floats:
    """Log-likelihood of two rates over that of one, nats."""
    parts = (good_before, count_before), (good - good_before, count - count_before)
    return np.asarray(sum(_log_likelihood(*part) for part in parts) - _log_likelihood(good, count))


def odds_of_return(good: Floats, count: Floats, rate_before: float, count_before: float) -> Floats:
    """Of each day after the first, how much likelier what came from it on is under the rate before than since; nats.

    Args:
        good: running sum of the successes since a restart, from 0, shape (days + 1,).
        count: likewise of the feedback.
        rate_before: the rate before the restart.
        count_before: the feedback that is known from.
    """
    weight = min(count_before, _TRUST_IN_BEFORE)
    late_good, late_bad = good[-1] - good[1:-1], np.maximum(count[-1] - count[1:-1] - good[-1] + good[1:-1], 0.0)
    since_good = good[1:-1] - good[0]
    since_bad = np.maximum(count[1:-1] - count[0] - since_good, 0.0)
    before = _log_evidence(late_good, late_bad, weight * rate_before, weight * (1 - rate_before))
    return np.asarray(before - _log_evidence(late_good, late_bad, since_good, since_bad))


def _log_evidence(good: Floats, bad: Floats, known_good: Floats | float, known_bad: Floats | float) -> Floats:
    """Log-probability under a Beta that has seen what is known, but for a constant."""
    first, second = known_good + 0.5, known_bad + 0.5
    return np.asarray(special.betaln(first + good, second + bad) - special.betaln(first, second))


def _log_likelihood(good: Floats, count: Floats) -> Floats:
    count = np.maximum(count, 0.0)
    good = np.clip(good, 0.0, count)
    bad = count - good
    return np.asarray(special.xlogy(good, good) + special.xlogy(bad, bad) - special.xlogy(count, count))

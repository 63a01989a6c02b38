"""Shifts: how much likelier two rates are than one, and how weekdays differ.

Belongs here: two formulas over arrays. Does not belong here: when a shift is a change (watch.py).
"""

import numpy as np
from scipy import special

from assets.selection.evidence import Floats

WEEK = 7
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


def _log_likelihood(good: Floats, count: Floats) -> Floats:
    count = np.maximum(count, 0.0)
    good = np.clip(good, 0.0, count)
    bad = count - good
    return np.asarray(special.xlogy(good, good) + special.xlogy(bad, bad) - special.xlogy(count, count))

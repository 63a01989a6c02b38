"""Fingerprints of histories: as long as one is the same, what was made of it stands.

A history's is the sum of its days' numbers, modulo 2^64: that of the days within a window up to any day is a difference
of two sums, whenever the first day that somebody has read is. Made by nobody who would forge one: its maker is the
platform, and what it decides is whether work is done again.

Belongs here: arrays to numbers. Does not belong here: where they are kept (`stored`).
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from assets.forecasts.panel import Floats, Panel

Hashes = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# So many templates at once: the words of one chunk fit a processor's cache better than those of all.
_CHUNK = 512


def history_hashes(panel: Panel, window: int) -> Hashes:
    """The fingerprint of each template's days up to and with each day: (n, T).

    Args:
        panel: values and counts count; known events don't, since one that is told later undoes no verdict.
        window: so many calendar days up to the day; earlier ones don't count.
    """
    first = panel.first_day.toordinal()
    ordinals: _Words = np.arange(first, first + panel.values.shape[1]).astype(np.uint64)
    found = np.empty(panel.values.shape, dtype=np.int64)
    for start in range(0, len(found), _CHUNK):
        rows = slice(start, start + _CHUNK)
        values = np.where(np.isnan(panel.values[rows]), 0.0, panel.values[rows])
        days: _Words = _bits(panel.counts[rows]) + ordinals * _GOLDEN
        words = mixed(_bits(values) ^ mixed(days))
        words[np.isnan(panel.values[rows])] = 0
        sums = np.cumsum(words, axis=1, dtype=np.uint64)
        if sums.shape[1] > window:
            sums[:, window:] = sums[:, window:] - sums[:, :-window].copy()
        found[rows] = sums.view(np.int64)
    return found


def with_events(hashes: Hashes, panel: Panel, window: int) -> Hashes:
    """Fingerprints of histories together with the known changes in them: (n, T).

    Args:
        hashes: of the panel's days, from `history_hashes`.
        panel: whose events count.
        window: as for the hashes.
    """
    rows = np.flatnonzero(panel.events.any(axis=1))
    ordinals: _Words = np.arange(panel.events.shape[1]).astype(np.uint64) + np.uint64(panel.first_day.toordinal())
    words = np.where(panel.events[rows], mixed(ordinals * _GOLDEN + _GOLDEN), np.uint64(0))
    sums = np.cumsum(words, axis=1, dtype=np.uint64)
    if sums.shape[1] > window:
        sums[:, window:] = sums[:, window:] - sums[:, :-window].copy()
    found = hashes.copy()
    found[rows] += sums.view(np.int64)
    return found


def joined(hashes: Hashes, *parts: Floats) -> Hashes:
    """Fingerprints of hashes together with numbers: (n) each."""
    words = hashes.view(np.uint64)
    for part in parts:
        words = mixed(words + _GOLDEN) ^ mixed(_bits(np.asarray(part, dtype=np.float64)))
    return words.view(np.int64)


def text_number(text: str) -> float:
    """A number for `joined` that another text does not have."""
    return float(int.from_bytes(blake2b(text.encode(), digest_size=6).digest()))


def mixed(words: _Words) -> _Words:
    """Every bit of each word depends on all of it (splitmix64's finisher)."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


def _bits(values: Floats) -> _Words:
    words: _Words = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    return words

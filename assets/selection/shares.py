"""Shares of a template's arms, and which arm a key falls to: the law of Thompson sampling without drawing.

An arm's share is floor / K + (1 - floor) * P(best) over the template's K arms. Shares lie side by side from 0 to 1 as
half-open intervals [share_lo, share_hi); a key's hash is a place in [0, 1), and the arm whose interval holds it is the
key's. So a retry with the same key gets the same arm, over keys each arm is taken with the probability of its share,
and an arm's propensity is share_hi - share_lo in double precision, exactly. In SQL the place is marts.share_of_key.

A rate of which nothing was heard may be anything, so an arm that is there by a slip (a typo in a model's name) may be
the best with a probability of a quarter, and several such of a half. Arms of which next to nothing was heard therefore
get a tenth together, beside their parts of the floor, until more was: a candidate soon is heard of, a slip never. Not
before another has feedback enough to be judged by: where all is new, nobody knows who is meant.

Belongs here: shares, places, picking. Does not belong here: P(best) (best.py), overrides and reasons (decisions.py).
"""

from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

import numpy as np
import numpy.typing as npt

from storage.errors import TidemarkError, UsageError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

FLOOR = 0.05
# What arms that are not heard of get together, of what isn't the floor; with how many feedbacks an arm is heard of, and
# with how many another is judged by, before which nothing is held back.
UNHEARD = 0.1
LEAST_FEEDBACK = 3
ENOUGH_FEEDBACK = 30
NO_ARM = -1
_BITS = 53
_SUM_WITHIN = 1e-6


class SharesError(TidemarkError):
    """Probabilities or a floor of which no shares can be made."""


def canonical_order(arms: Sequence[tuple[str, str]]) -> list[int]:
    """Indices of (vendor, model) in the order in which shares are laid: by code points, as `collate "C"` in SQL."""
    return sorted(range(len(arms)), key=lambda index: arms[index])


def share_bounds(
    p_best: npt.ArrayLike, mask: npt.ArrayLike | None = None, floor: float = FLOOR
) -> tuple[Floats, Floats]:
    """`share_lo` and `share_hi` of each arm, shape (templates, arms), NaN off the mask.

    A template's intervals tile [0, 1): the first begins at 0.0, each ends bit for bit where the next begins, the last
    ends at 1.0.

    Args:
        p_best: the probability of being best, shape (templates, arms), the arms in their canonical order.
        mask: which arms exist, same shape; all by default.
        floor: what is dealt out evenly, from 0 to 1: so much of the traffic explores whatever is believed.

    Raises:
        SharesError: a probability is not in [0, 1], a template's don't sum to 1, the shapes or the floor are wrong.
    """
    p = np.asarray(p_best, dtype=float)
    exists = np.ones(p.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    _refuse_impossible(p, exists, floor)
    count = exists.sum(axis=1, keepdims=True)
    share = np.where(exists, floor / np.maximum(count, 1) + (1 - floor) * np.where(exists, p, 0.0), 0.0)
    high = np.minimum(np.cumsum(share, axis=1), 1.0)
    # From a template's last arm on: rounding must not leave a gap below 1.
    high[np.cumsum(exists, axis=1) == count] = 1.0
    low = np.concatenate([np.zeros((len(p), 1)), high[:, :-1]], axis=1)[:, : p.shape[1]]
    return np.where(exists, low, np.nan), np.where(exists, high, np.nan)


def held_back(p_best: npt.ArrayLike, is_heard: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Floats:
    """What `share_bounds` deals out where not every arm is heard of, shape (templates, arms), NaN off the mask.

    Probabilities as they are, but where arms that aren't heard of have more than a tenth together: then a tenth, and
    the others the rest, both in proportion. Where no arm is heard of nothing is held back.

    Args:
        p_best: the probability of being best, shape (templates, arms); sums to 1 over a template's arms.
        is_heard: which arms have feedback enough to tell a candidate from a slip, same shape.
        mask: which arms exist, same shape; all by default.
    """
    p, heard = np.asarray(p_best, dtype=float), np.asarray(is_heard, dtype=bool)
    exists = np.ones(p.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    p = np.where(exists, p, 0.0)
    unknown, known = (np.where(of, p, 0.0).sum(axis=1, keepdims=True) for of in (~heard, heard))
    with np.errstate(divide="ignore", invalid="ignore"):
        held = np.where(heard, (1 - UNHEARD) * (p / known), UNHEARD * (p / unknown))
    dealt = np.where((unknown > UNHEARD) & (known > 0), held, p)
    return np.where(exists, dealt, np.nan)


def unit_interval(template_id: UUID, key: str) -> float:
    """The place of a key in [0, 1): the first 53 bits of sha256 of `template_id:key` in UTF-8, over 2^53.

    Raises:
        UsageError: the key has a NUL or half of a surrogate pair, which no text in PostgreSQL can have.
    """
    return float(unit_intervals(template_id, [key])[0])


def unit_intervals(template_id: UUID, keys: Sequence[str]) -> Floats:
    """`unit_interval` of many keys of a template, shape (keys,).

    Raises:
        UsageError: as `unit_interval`.
    """
    beginning = f"{template_id}:".encode()
    try:
        texts = [key.encode() for key in keys]
    except UnicodeEncodeError as error:
        raise UsageError(
            f"key {error.object!r} has half of a surrogate pair: keys are texts of whole characters"
        ) from None
    if any(b"\0" in text for text in texts):
        raise UsageError("a key has a NUL character: keys are texts that PostgreSQL can hold")
    digests = b"".join([sha256(beginning + text).digest() for text in texts])
    first = np.frombuffer(digests, dtype=">u8")[::4]
    return (first >> np.uint64(64 - _BITS)).astype(np.float64) / 2.0**_BITS


def pick(low: npt.ArrayLike, high: npt.ArrayLike, units: npt.ArrayLike) -> Indices:
    """The arm whose share holds each place, shape (keys,); -1 where there is no arm.

    Args:
        low: `share_lo`, of one template (arms,), or of each key's template (keys, arms).
        high: `share_hi`, same shape.
        units: the keys' places in [0, 1), shape (keys,).
    """
    lows, highs, places = np.asarray(low), np.asarray(high), np.asarray(units)
    found = np.full(len(places), NO_ARM)
    for arm in range(lows.shape[-1]):
        found[(lows[..., arm] <= places) & (places < highs[..., arm])] = arm
    return found


def _refuse_impossible(p: Floats, exists: npt.NDArray[np.bool_], floor: float) -> None:
    if p.ndim != 2 or p.shape != exists.shape:  # noqa: PLR2004
        raise SharesError(f"p_best and mask must share one (templates, arms) shape: {p.shape}, {exists.shape}")
    if not 0 <= floor <= 1:
        raise SharesError(f"floor {floor} is impossible: it is a part of the traffic, from 0 to 1.")
    wrong = exists & ~((p >= 0) & (p <= 1))
    if wrong.any():
        template, arm = (int(index) for index in np.argwhere(wrong)[0])
        raise SharesError(f"p_best {p[template, arm]} of template {template}, arm {arm} is no probability.")
    total = np.where(exists, p, 0.0).sum(axis=1)
    off = exists.any(axis=1) & (np.abs(total - 1) > _SUM_WITHIN)
    if off.any():
        template = int(np.flatnonzero(off)[0])
        raise SharesError(f"p_best of template {template} sums to {total[template]}, not to 1.")

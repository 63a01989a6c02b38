"""The scale on which scores are forecast: the arcsine of the root, whose noise hardly depends on the level.

A mean of `c` scores in [0, 1] has a variance of at most p(1-p)/c; on this scale that is at most 1/(4c) at every level,
0 and 1 included, so that no smoothing is needed which would make a day's value depend on its count. A logit needs it.

Belongs here: the way there and back, and how much noisier a day of few evaluations is. Does not belong here: levels,
trends, bounds.
"""

import numpy as np

from assets.forecasts.panel import Floats

# Evaluations at which the noise within a day equals the noise between days: none at all, and three orders of
# magnitude. Which of them a template follows is learnt from its own residuals.
HALF_COUNTS = np.array([0.0, 16.0, 128.0, 1024.0])
TOP = np.pi / 2


def to_scale(values: Floats) -> Floats:
    """Scores in [0, 1] to angles in [0, pi/2]; NaN stays NaN."""
    angles: Floats = np.arcsin(np.sqrt(values))
    return angles


def from_scale(angles: Floats) -> Floats:
    """Angles to scores in [0, 1]; what lies beyond the ends is brought to them."""
    scores: Floats = np.square(np.sin(np.clip(angles, 0.0, TOP)))
    return scores


def relative_variance(counts: Floats) -> Floats:
    """(K, n) variance of a day's mean in units of the variance between days, for each of HALF_COUNTS."""
    ratio: Floats = 1.0 + HALF_COUNTS[:, None] / np.maximum(counts, 1.0)
    return ratio

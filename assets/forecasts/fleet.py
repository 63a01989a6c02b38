"""What a fleet knows of templates in general: the empirical-Bayes start of those that are young.

A template of which nothing is known starts with the fleet's level, noise, weekday pattern and dependence from day to
day; each of its own days moves it away from them. There is no age at which one rule hands over to another.

Belongs here: these priors and how they are learnt from templates' states. Does not belong here: the states (state.py).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from assets.forecasts.panel import Floats
from assets.forecasts.scale import HALF_COUNTS
from assets.forecasts.state import FEATURES, PAIRS, State

# A template younger than this says too little of its own noise to teach others.
TEACHING_DAYS = 20
MIN_TEACHERS = 5
EM_ROUNDS = 30
# A small fleet doesn't show how much coefficients differ: as many templates that differ as by default are thought of.
SUPPOSED_TEMPLATES = 5.0
LEAST_SPREAD = 0.03  # of counts over templates, on the logarithmic scale: below it they explain nothing
LOG_COUNT, LOG_COUNTS = np.log(50.0), np.log((5.0, 500.0))
NOISE_DAYS = (3.0, 60.0)  # a template's own noise outweighs the fleet's after so many days, at least and at most


@dataclass(frozen=True)
class Fleet:
    """Priors of a template on the arcsine scale.

    Attributes:
        level, level_variance: of templates' levels.
        noise: (K,) variance between days, if within-day noise follows each of scale.HALF_COUNTS.
        noise_days: weight of `noise` in days.
        within: (K,) share of templates that follow each of scale.HALF_COUNTS.
        weekday_share: variance of weekday effects in units of the noise.
        beta: (F,) how a forecast follows the newest days (state.py): the mean over templates, and `information` (F, F),
            the inverse of their covariance over templates.
        beta_by_count: (F,) what a template with e times as many evaluations a day as LOG_COUNT has more of: days
            of few evaluations hang together less.
    """

    level: float
    level_variance: float
    noise: Floats
    noise_days: float
    within: Floats
    weekday_share: float
    beta: Floats
    information: Floats
    beta_by_count: Floats

    def expected_beta(self, log_count: Floats) -> Floats:
        """(F, n) coefficients of templates with so many evaluations a day, as the fleet's are."""
        rise = self.beta_by_count[:, None] * _count_feature(log_count)
        expected: Floats = np.clip(self.beta[:, None] + rise, 0.0, 1.5)
        return expected


# Drift of about 0.15, noise of two to three points, some dependence from day to day: where nothing else is known.
DEFAULT: Final = Fleet(
    level=0.4,
    level_variance=0.06,
    noise=0.05**2 / (1.0 + HALF_COUNTS / 100.0),
    noise_days=5.0,
    within=np.array([0.4, 0.3, 0.2, 0.1]),
    weekday_share=0.2,
    beta=np.array([0.5, 0.4, 0.3]),
    information=np.diag([2.5, 5.0, 15.0]),
    beta_by_count=np.zeros(FEATURES),
)


def learn(state: State) -> Fleet:
    """Learn the priors from templates' states, the same to the bit in whatever order they come."""
    teachers = np.flatnonzero(state.age >= TEACHING_DAYS)
    if len(teachers) < MIN_TEACHERS:
        return DEFAULT
    weight = state.noise_weight[teachers]
    noises = np.log(np.maximum(state.noise_sum[:, teachers] / weight, 1e-8))
    likely = state.within[:, teachers]
    spread = _mean(np.square(noises[0] - _mean(noises[0]))) - 2.0 / _mean(weight)
    beta, by_count, information = _coefficients(state, teachers)
    noise_typical = np.sum(
        likely * np.exp(noises) * (1.0 + HALF_COUNTS[:, None] / state.typical_count[teachers]), axis=0
    )
    levels = state.levels()[teachers]
    return Fleet(
        level=_mean(levels),
        level_variance=max(_mean(np.square(levels - _mean(levels))), 0.01),
        noise=np.exp([_mean(row) for row in noises]),
        noise_days=float(np.clip(2.0 / max(spread, 1e-3), *NOISE_DAYS)),
        within=np.array([_mean(row) for row in likely]),
        weekday_share=_weekday_share(state, teachers, noise_typical),
        beta=beta,
        information=information,
        beta_by_count=by_count,
    )


def _coefficients(state: State, teachers: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """Templates' coefficients by EM (Laird and Ware 1982): mean, rise with the count, inverse of the covariance."""
    information = np.empty((len(teachers), FEATURES, FEATURES))
    for row, (i, j) in enumerate(PAIRS):
        information[:, i, j] = information[:, j, i] = state.information[row, teachers]
    cross = state.cross[:, teachers].T
    count = _count_feature(state.log_count[teachers])
    centre, width = _mean(count), _mean(np.square(count)) + LEAST_SPREAD
    supposed = np.linalg.inv(DEFAULT.information)
    beta, by_count, precision = DEFAULT.beta, DEFAULT.beta_by_count, DEFAULT.information
    for _ in range(EM_ROUNDS):
        expected = beta + np.outer(count, by_count)
        uncertain = np.linalg.inv(information + precision)
        own = np.einsum("nij,nj->ni", uncertain, cross + np.einsum("ij,nj->ni", precision, expected))
        by_count = np.array([_mean((of - _mean(of)) * count) for of in own.T]) / (width - centre**2)
        beta = np.array([_mean(of) for of in own.T]) - by_count * centre
        off = own - beta - np.outer(count, by_count)
        spread = uncertain + np.einsum("ni,nj->nij", off, off)
        covariance = np.array([[_mean(spread[:, i, j]) for j in range(FEATURES)] for i in range(FEATURES)])
        covariance += SUPPOSED_TEMPLATES / len(teachers) * supposed
        precision = np.linalg.inv((covariance + covariance.T) / 2.0)
    return beta, by_count, precision


def _count_feature(log_count: Floats) -> Floats:
    """How many evaluations a day, within the range in which they tell days apart."""
    feature: Floats = np.clip(log_count, *LOG_COUNTS) - LOG_COUNT
    return feature


def _weekday_share(state: State, teachers: np.ndarray, noise: Floats) -> float:
    visits = state.weekday_weight[:, teachers]
    known = visits >= 1.0
    effects = np.where(known, state.weekday_sum[:, teachers] / np.maximum(visits, 1.0), 0.0)
    days = np.maximum(known.sum(axis=0), 2)
    effects = np.where(known, effects - effects.sum(axis=0) / days, 0.0)
    # What means of pure noise would spread is taken off.
    chance = np.where(known, noise / np.maximum(visits, 1.0), 0.0).sum(axis=0) / days
    excess = (np.square(effects).sum(axis=0) / (days - 1) - chance) / np.maximum(noise, 1e-12)
    return float(np.clip(_mean(excess), 1e-3, 100.0))


def _mean(values: Floats) -> float:
    """A mean that doesn't depend on the order of its values."""
    return float(np.sort(values).sum() / len(values))

"""Innovations: each day's score against what the days before it let expect, for all templates at once.

One step of the recursion forecasts a day from the state (mean and standard deviation on the arcsine scale), compares,
and lets the day into the state:

- Days of few evaluations weigh less, by how much the template's own residuals say (scale.py).
- A day more than HOLD standard deviations off, or STILL_HELD in a run of them, is held back: it moves neither level,
  weekdays nor coefficients; the first of a run counts as HOLD in the noise. After QUARANTINE such days in a row the new
  level is learnt afresh, from their mean on, or from where they have climbed to.
- On the day of a known event the level is forgotten (weight EVENT_WEIGHT of a day is left), so that the forecast is
  honestly wide and the next days teach the new level; weekdays and coefficients stay, of the noise
  EVENT_NOISE_DAYS.

Belongs here: the recursion. Does not belong here: how improbable an innovation is (calibration.py).
"""

from dataclasses import dataclass

import numpy as np

from assets.forecasts.fleet import Fleet
from assets.forecasts.panel import Bools, Floats
from assets.forecasts.scale import relative_variance
from assets.forecasts.state import FEATURES, KEPT, MEMORIES, PAIRS, SIZE, WEEK, State, Tails
from assets.forecasts.structure import FAR_OFF, Structure

HOLD = 3.0
STILL_HELD = 1.5  # on the day after a held one: an incident's later days are told from noise more easily
QUARANTINE = 14
CLEAR_SLOPE = 3.0  # standard errors from which held days are on their way
EVENT_WEIGHT = 0.05
EVENT_NOISE_DAYS = 15.0  # a new extractor's noise may differ
NOISE_KEPT = 0.99  # noise is that of the last months
REGRESSION_KEPT = 0.995
WEEKDAY_KEPT = 0.97  # a visit a week: the pattern of the last half year
MIDWEEK = 3
# A fleet's share counts as so many weekdays beside a template's own; and the least part of it, and the most at all.
SHARE_WEEKDAYS = 7.0
LEAST_SHARE, MOST_SHARE = 0.1, 100.0
NEIGHBOUR = 0.1  # weight with which each memory leans on the next longer one: it carries gaps and first days
MIN_SD = 0.0025  # a quarter of a point of drift at its steepest: below it all is rounding


@dataclass(frozen=True)
class Outlook:
    """A forecast of one day on the arcsine scale.

    Attributes:
        mean: (n,).
        sd: (n,) of a day of given evaluations.
        tails: (n,) class of the template's tails (state.py).
        by_prophet: (n,) whether Prophet had a part in the mean.
    """

    mean: Floats
    sd: Floats
    tails: Tails
    by_prophet: Bools


def fresh(n: int, fleet: Fleet) -> State:
    """States of `n` templates of which nothing is known."""
    state = State.of(np.zeros((SIZE, n)))
    state.within[:] = fleet.within[:, None]
    state.beta[:] = fleet.beta[:, None]
    state.weekday_share[:] = fleet.weekday_share
    state.log_count[:] = np.log(50.0)
    state.anchor[:], state.anchor_variance[:] = fleet.level, fleet.level_variance
    return state


class Recursion:
    """Steps templates' states through days, under one fleet's priors."""

    def __init__(self, state: State, fleet: Fleet) -> None:
        self.state = state
        self.fleet = fleet
        # (F, n) coefficients that are held to when they are renewed; NaN, or None, where none are.
        self.pinned: Floats | None = None

    def step(
        self, weekday: int, values: Floats, counts: Floats, events: Bools, structure: Structure | None = None
    ) -> tuple[Outlook, Floats]:
        """Forecast a day, then learn from it.

        Args:
            weekday: 0 for Monday.
            values: (n,) angles, NaN where nothing was scored.
            counts: (n,) evaluations.
            events: (n,) whether a known change takes effect.
            structure: Prophet's forecasts of the week, if it has a part in the day's.

        Returns:
            The forecast for a day of `counts` evaluations (typical ones where nothing was scored), and (n,) innovations
            in standard deviations, NaN where nothing was scored.
        """
        state = self.state
        if weekday == 0:
            self.renew()
        if events.any():
            self._forget(events)
            if structure is not None:
                structure.forget(events)
        observed = ~np.isnan(values)
        typical = state.typical_count
        usual, _ = self._noise(typical)
        base, features, longest, uncertainty = self._level(usual)
        season = self._season(weekday)
        noise, relative = self._noise(np.where(observed, counts, typical))
        sd = np.maximum(np.sqrt(noise + usual * uncertainty), MIN_SD)
        mean = base + season
        if structure is not None:
            mean = structure.blend(weekday, mean, state.beta)
        by_prophet = np.zeros(len(mean), dtype=bool) if structure is None else ~np.isnan(structure.expected[weekday])
        tails = state.tails()
        z = ((values - mean) / sd).astype(np.float32).astype(float)
        if structure is not None:
            structure.learn(weekday, values, np.abs(z) > FAR_OFF)
        self._learn(weekday, values, counts, observed, z, sd, mean, season, features, longest, usual, noise, relative)
        return Outlook(mean, sd, tails, by_prophet), z

    def ahead(self, weekday: int, days: int, structure: Structure | None = None) -> tuple[Floats, Floats]:
        """Forecast the coming `days` from a day of `weekday` on, each forecast fed back as if it had come true.

        Returns:
            (days, n) means, and (n,) the sd of the first day, both for typical numbers of evaluations.
        """
        state = self.state
        usual, _ = self._noise(state.typical_count)
        sums, weights = state.sums.copy(), state.weights.copy()
        sd = np.maximum(np.sqrt(usual + usual * self._uncertainty(weights, usual)), MIN_SD)
        means = np.empty((days, sums.shape[1]))
        for step in range(days):
            memories = self._memories(sums, weights, usual, state.anchor)
            base = memories[-1] + self._pull(memories)
            means[step] = base + self._season((weekday + step) % WEEK)
            sums = sums * KEPT[:, None] + base
            weights = weights * KEPT[:, None] + 1.0
        if structure is not None:
            means = structure.ahead(weekday, means, state.beta)
        return means, sd

    def growth(self, days: int) -> Floats:
        """(days, n) sd of the coming days' errors in units of the first's.

        An error on the first day is let into what the next days are forecast from: the squares of what follows add up.
        """
        state = self.state
        usual, _ = self._noise(state.typical_count)
        uncertain = self._uncertainty(state.weights, usual)
        sums, weights = np.zeros(state.sums.shape), state.weights.copy()
        error, squares = np.ones(len(usual)), uncertain.copy()
        growth = np.empty((days, len(usual)))
        for day in range(days):
            squares = squares + np.square(error)
            growth[day] = np.sqrt(squares / (1.0 + uncertain))
            sums = sums * KEPT[:, None] + error
            weights = weights * KEPT[:, None] + 1.0
            memories = self._memories(sums, weights, usual, anchor=0.0)
            error = memories[-1] + self._pull(memories)
        return growth

    def _noise(self, counts: Floats) -> tuple[Floats, Floats]:
        """(n,) variance of a day of `counts` evaluations, and (K, n) what each law of within-day noise multiplies."""
        state, fleet = self.state, self.fleet
        between = (fleet.noise_days * fleet.noise[:, None] + state.noise_sum) / (fleet.noise_days + state.noise_weight)
        relative = relative_variance(counts)
        return np.sum(state.within * between * relative, axis=0), relative

    def _memories(self, sums: Floats, weights: Floats, noise: Floats, anchor: Floats | float) -> list[Floats]:
        prior = self._prior_weight(noise)
        longer = (sums[-1] + prior * anchor) / (weights[-1] + prior)
        memories = [longer]
        for row in range(MEMORIES - 2, -1, -1):
            longer = (sums[row] + NEIGHBOUR * longer) / (weights[row] + NEIGHBOUR)
            memories.insert(0, longer)
        return memories

    def _prior_weight(self, noise: Floats) -> Floats:
        weight: Floats = noise / self.state.anchor_variance + 1e-6
        return weight

    def _uncertainty(self, weights: Floats, noise: Floats) -> Floats:
        uncertain: Floats = 1.0 / (weights[-1] + self._prior_weight(noise))
        return uncertain

    def _pull(self, memories: list[Floats]) -> Floats:
        pull: Floats = np.zeros_like(memories[0])
        for row in range(FEATURES):
            pull = pull + self.state.beta[row] * (memories[row] - memories[row + 1])
        return pull

    def _level(self, noise: Floats) -> tuple[Floats, list[Floats], Floats, Floats]:
        state = self.state
        memories = self._memories(state.sums, state.weights, noise, state.anchor)
        features = [memories[row] - memories[row + 1] for row in range(FEATURES)]
        return memories[-1] + self._pull(memories), features, memories[-1], self._uncertainty(state.weights, noise)

    def _season(self, weekday: int) -> Floats:
        state = self.state
        prior = 1.0 / state.weekday_share
        season: Floats = state.weekday_sum[weekday] / (state.weekday_weight[weekday] + prior)
        return season

    def _learn(
        self,
        weekday: int,
        values: Floats,
        counts: Floats,
        observed: Bools,
        z: Floats,
        sd: Floats,
        mean: Floats,
        season: Floats,
        features: list[Floats],
        longest: Floats,
        usual: Floats,
        noise: Floats,
        relative: Floats,
    ) -> None:
        state = self.state
        after_held = state.held > 0
        held = observed & (np.abs(z) > np.where(after_held, STILL_HELD, HOLD))
        state.held[:] = np.where(held, state.held + 1.0, np.where(observed, 0.0, state.held))
        state.held_sum[:] = np.where(held, state.held_sum + values - season, np.where(observed, 0.0, state.held_sum))
        moment = state.held_moment + state.held * (values - season)
        state.held_moment[:] = np.where(held, moment, np.where(observed, 0.0, state.held_moment))
        weight = np.where(observed & ~held, np.clip(usual / noise, 0.02, 4.0), 0.0)
        error = np.where(observed, np.clip(z, -HOLD, HOLD) * sd, 0.0)
        deseasoned = np.where(weight > 0, values - season, 0.0)

        seen = observed.astype(float)
        state.age[:] += seen
        # The first held day of a run is noise, perhaps; those after it are an incident's.
        used = (observed & (state.held <= 1.0)).astype(float)
        kept = np.where(used > 0, NOISE_KEPT, 1.0)
        own = used * np.square(error) * noise / np.square(sd)
        state.noise_sum[:] = state.noise_sum * kept + own / relative
        state.noise_log[:] = state.noise_log * kept + used * np.log(relative)
        state.noise_weight[:] = state.noise_weight * kept + used
        size = used * np.minimum(np.abs(np.where(observed, z, 0.0)), HOLD)
        state.size_sum[:] = state.size_sum * kept + size
        state.square_sum[:] = state.square_sum * kept + np.square(size)
        state.shape_weight[:] = state.shape_weight * kept + used
        gain = seen * np.maximum(0.05, 1.0 / np.maximum(state.age, 1.0))
        state.log_count[:] += gain * (np.log(np.maximum(counts, 1.0)) - state.log_count)

        # The fall after an incident would teach that nothing follows from yesterday, the first weekdays that all does.
        learning = (weight > 0) & ~after_held & (state.age > 2 * WEEK)
        kept = np.where(learning, REGRESSION_KEPT, 1.0)
        scaled = np.where(learning, weight / usual, 0.0)
        target = np.where(weight > 0, mean + error - season - longest, 0.0)
        for row, (i, j) in enumerate(PAIRS):
            state.information[row] = state.information[row] * kept + scaled * features[i] * features[j]
        for row in range(FEATURES):
            state.cross[row] = state.cross[row] * kept + scaled * features[row] * target
        state.regression_days[:] = state.regression_days * kept + learning

        state.week[weekday] = np.where(weight > 0, values, mean)
        state.week_weight[weekday] = weight
        self._learn_weekday((weekday - MIDWEEK) % WEEK)

        state.sums[:] = state.sums * KEPT[:, None] + weight * deseasoned
        state.weights[:] = state.weights * KEPT[:, None] + weight
        # Yesterday's memory takes the first of them, clipped: where days hang together the next will be high too.
        first = held & ~after_held
        state.sums[0] += np.where(first, mean + error - season, 0.0)
        state.weights[0] += first
        accept = state.held >= QUARANTINE
        if accept.any():
            # From the old level the new one would be far off again, and held for another two weeks.
            level = self._held_level(usual)
            self._forget(accept)
            state.anchor[accept] = level[accept]
            state.held[accept] = state.held_sum[accept] = state.held_moment[accept] = 0.0

    def _held_level(self, usual: Floats) -> Floats:
        """(n,) where held days have come to: their mean, or the end of their line where they clearly climb or fall."""
        state = self.state
        run = np.maximum(state.held, 2.0)
        mean = state.held_sum / run
        # Of the numbers from 1 to `run`: sum of squares around their mean.
        spread = run * (np.square(run) - 1.0) / 12.0
        slope = (state.held_moment - state.held_sum * (run + 1.0) / 2.0) / spread
        clear = np.abs(slope) > CLEAR_SLOPE * np.sqrt(usual / spread)
        level: Floats = mean + np.where(clear, slope, 0.0) * (run + 1.0) / 2.0
        return level

    def _learn_weekday(self, weekday: int) -> None:
        """Let in a weekday, three days later, by the mean of the week around it: no other weekday's effect is in that.

        A forecast in its place would have taken part of the effect for dependence from day to day, or the reverse.
        """
        state = self.state
        weight = np.where(state.age >= WEEK, state.week_weight[weekday], 0.0)
        middle = sum(state.week[row] for row in range(WEEK)) / WEEK
        kept = np.where(weight > 0, WEEKDAY_KEPT, 1.0)
        state.weekday_sum[weekday] = state.weekday_sum[weekday] * kept + weight * (state.week[weekday] - middle)
        state.weekday_weight[weekday] = state.weekday_weight[weekday] * kept + weight

    def _forget(self, which: Bools) -> None:
        """Leave of the level what EVENT_WEIGHT of a day would tell."""
        state = self.state
        usual, _ = self._noise(state.typical_count)
        level = self._memories(state.sums, state.weights, usual, state.anchor)[-1]
        variance = np.maximum(usual, MIN_SD**2) / EVENT_WEIGHT
        state.anchor[which], state.anchor_variance[which] = level[which], variance[which]
        state.sums[:, which] = 0.0
        state.weights[:, which] = 0.0
        left = np.minimum(1.0, EVENT_NOISE_DAYS / np.maximum(state.noise_weight, 1.0))
        for sums in (state.noise_sum, state.noise_log, state.noise_weight):
            sums[..., which] *= left[which]

    def renew(self) -> None:
        """Once a week: each template's coefficients, and which law its within-day noise follows."""
        state, fleet = self.state, self.fleet
        n = state.age.shape[0]
        information = np.empty((n, FEATURES, FEATURES))
        for row, (i, j) in enumerate(PAIRS):
            information[:, i, j] = information[:, j, i] = state.information[row] + fleet.information[i, j]
        expected = fleet.expected_beta(state.log_count)
        # Term by term: a product of matrices adds in an order that depends on how many templates there are.
        cross = np.stack(
            [
                own + sum(fleet.information[row, column] * expected[column] for column in range(FEATURES))
                for row, own in enumerate(state.cross)
            ],
            axis=1,
        )
        state.beta[:] = np.clip(np.linalg.solve(information, cross[:, :, None])[:, :, 0].T, -0.3, 1.5)
        if self.pinned is not None:
            state.beta[:] = np.where(np.isnan(self.pinned), state.beta, self.pinned)
        weight = fleet.noise_days + state.noise_weight
        between = (fleet.noise_days * fleet.noise[:, None] + state.noise_sum) / weight
        likelihood = -0.5 * (state.noise_weight * np.log(between) + state.noise_log)
        likelihood -= likelihood.max(axis=0)
        likely = fleet.within[:, None] * np.exp(likelihood)
        state.within[:] = likely / likely.sum(axis=0)
        usual, _ = self._noise(state.typical_count)
        visits = np.maximum(state.weekday_weight, 1.0)
        excess = np.square(state.weekday_sum / visits) / usual - np.minimum(state.weekday_weight, 1.0) / visits
        own = sum(excess[row] for row in range(WEEK))
        share = (SHARE_WEEKDAYS * fleet.weekday_share + own) / (SHARE_WEEKDAYS + WEEK)
        state.weekday_share[:] = np.clip(share, LEAST_SHARE * fleet.weekday_share, MOST_SHARE)

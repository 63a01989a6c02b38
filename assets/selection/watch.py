"""Watching: since which day an arm's evidence speaks of the extractor that it is today.

Belongs here: the generalised-likelihood-ratio restart of every arm, its robustness against what all arms share. Does
not belong here: likelihoods and weekday effects themselves (shifts.py), all days at once (changes.py).

Each day, for each arm with feedback, the days since its last restart are cut in two at every day: the statistic of a
cut is the gain in log-likelihood (nats) of two rates over one, n1 kl(p1, p) + n2 kl(p2, p) with kl of the Bernoulli law
(Maillard 2019, "Sequential change-point detection"; Besson et al. 2022, "Efficient change-point detection for tackling
piecewise-stationary bandits"). Above `THRESHOLD` the arm restarts at the best cut. Before that the statistic is freed
of what is no change of the arm:

- a rhythm: weekday effects of the tenant, the template and the arm are subtracted from three weeks on, each as far as
  it stands out of the noise;
- restless days: divided by the overdispersion of the template's days before the cut, if above 1;
- a shock: if the template's other arms, or the tenant's other templates, are likelier to have shared the arm's shift
  since the cut than not to have moved, the cut is none of the arm's. As long as the other arms can't tell, for a week
  at most, and where the last two days look as before the cut, nothing restarts.

A drop may pass: as soon as an arm's newest days are far likelier under the rate before its last restart than under the
rate since, that restart is taken back, what was known before it counts again, and the days between are void.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from assets.selection.evidence import Floats, Integers, Mask
from assets.selection.shifts import WEEK, gain, odds_of_return, weekday_effects

# By simulation of arms without a change (n a day 1, 3, 10, 50, 1000 x rates 0.05, 0.5, 0.8, 0.95, 0.99; 600 arms of 300
# days each; the bare statistic, cuts from the eighth day and 20 feedbacks on): alarms per 10,000 arm-days, mean and
# worst of the 25 cases, were 2.8 and 4.3 at 8 nats, 1.1 and 2.3 at 9, 0.4 and 1.0 at 10, 0.2 and 0.5 at 11.
THRESHOLD = 10.5
# A cut needs a week before it, so that one weekend isn't a change, and so much feedback.
_DAYS_BEFORE = 7
_COUNT_BEFORE = 20
_WEEKS_OF_RHYTHM = 3
_SHARED = 1.5  # nats of likelihood that make it believed, or not, that other arms moved along
# While the other arms have too little feedback to say, a shift may be a shock to all: it is waited for.
_DAYS_OF_DOUBT = 7
_DAYS_OF_RECOVERY = 2
_DAYS_TO_SETTLE = 14  # after so many days a shift that arms share is their level
_PASSED = 6.0  # nats: in simulation at 10 feedbacks a day 17 % of drops that stay were taken back at 4, 4 % at 6
_DAYS_TO_PASS = 28
_TINY = 1e-300
_ROUNDING = 1e-6
_BASELINE_COUNT = 10  # feedbacks from which an arm's next day is predicted
_RESTLESS_INFORMATION = 1.0
_RESTLESS_DAYS = 7  # weight, in days, of the assumption that days are as restless as chance alone makes them
_RESTLESS_CAP = 25.0
_CHUNK_CELLS = 512
_RECENT_DAYS = 28  # older cuts are looked at once a week: what shows only after weeks isn't urgent


@dataclass(frozen=True)
class Changes:
    """The last change of every arm, shape (templates, arms).

    `restart_day` is the first day that counts, `alarm_day` the day on which that was found, both -1 without a change.
    `statistic` (nats) is that of the last change at its alarm, without one that of the last day's best cut. Rates and
    counts `before` are of the days between the restart before and this one, `after` of those from the restart on; NaN
    and 0 without. `void`, of shape (templates, arms, days), marks the days of drops that passed.
    """

    restart_day: Integers
    alarm_day: Integers
    statistic: Floats
    threshold: float
    rate_before: Floats
    rate_after: Floats
    count_before: Floats
    count_after: Floats
    void: Mask


class Watch:
    """What is known after each of the days that `step` was given, oldest first.

    Running sums have the shape (days + 1, templates, arms): the entry of a day is the sum over the days before it.
    """

    def __init__(self, shape: tuple[int, int], days: int, groups: npt.ArrayLike) -> None:
        self.day = 0
        _, self._tenant = np.unique(np.asarray(groups), return_inverse=True)
        templates, tenants = shape[0], int(self._tenant.max(initial=-1)) + 1
        self._good, self._all = np.zeros((days + 1, *shape)), np.zeros((days + 1, *shape))
        # Surprise is (successes - expected), information its variance, both discounted for the baseline's own error.
        self._surprise, self._information = np.zeros((days + 1, *shape)), np.zeros((days + 1, *shape))
        self._trusted = np.zeros((days + 1, *shape))
        self._of_tenant = np.zeros((3, days + 1, tenants))
        self._restlessness, self._judged = np.zeros((days + 1, templates)), np.zeros((days + 1, templates))
        self._rhythm = np.zeros((2, WEEK, *shape))
        self.since = np.zeros(shape, dtype=np.int64)
        self._origin = self.since.copy()  # of the test's days: moves with what all arms share, too
        self.alarm_day = np.full(shape, -1, dtype=np.int64)
        self._statistic = np.zeros(shape)
        self._before = np.zeros((2, *shape))
        self._void = np.zeros((*shape, days), dtype=bool)
        self._regime = self.since, self._origin, self.alarm_day, self._statistic, self._before
        self._earlier = tuple(values.copy() for values in self._regime)

    def step(self, successes: Floats, failures: Floats) -> Mask:
        """Take in one more day's (pseudo-)counts, shape (templates, arms); says which arms restart."""
        day, count = self.day, successes + failures
        seen_good, seen = self._from(self._origin, self._good), self._from(self._origin, self._all)
        rate = (seen_good + 0.5) / (seen + 1)
        trust = np.where(seen >= _BASELINE_COUNT, seen / np.maximum(seen + count, 1.0), 0.0)
        information = count * rate * (1 - rate)
        adjusted = np.clip(successes - information * self._weekday_effect(day), 0.0, count)
        raw_surprise = trust * (successes - count * rate)
        surprise = trust * (adjusted - count * rate)
        information *= trust

        self._rhythm[0, day % WEEK] += raw_surprise
        self._rhythm[1, day % WEEK] += information
        for sums, values in (
            (self._good, adjusted),
            (self._all, count),
            (self._surprise, surprise),
            (self._information, information),
            (self._trusted, trust * count),
        ):
            np.add(sums[day], values, out=sums[day + 1])
        tenants = self._of_tenant.shape[2]
        for of_tenant, values in zip(self._of_tenant, (surprise, information, trust * count), strict=True):
            of_tenant[day + 1] = of_tenant[day] + np.bincount(self._tenant, values.sum(axis=1), minlength=tenants)
        judged = information >= _RESTLESS_INFORMATION
        excess = np.where(judged, np.minimum(surprise**2 / np.where(judged, information, 1.0), _RESTLESS_CAP), 0.0)
        self._restlessness[day + 1] = self._restlessness[day] + excess.sum(axis=1)
        self._judged[day + 1] = self._judged[day] + judged.sum(axis=1)
        self.day += 1
        self._take_back(count > 0)
        return self._restart(count > 0)

    def changes(self) -> Changes:
        """The last change of every arm as of the last day given."""
        changed = self.alarm_day >= 0
        statistic = self._statistic.copy()
        cells = np.flatnonzero(~changed & (self._all[self.day] > 0))
        for start in range(0, len(cells), _CHUNK_CELLS):
            part = cells[start : start + _CHUNK_CELLS]
            statistic.ravel()[part] = self._cuts(part).own.max(axis=0, initial=0.0)
        count = np.where(changed, self._from(self.since, self._all), 0.0)
        good = self._from(self.since, self._good)
        return Changes(
            restart_day=np.where(changed, self.since, -1),
            alarm_day=self.alarm_day.copy(),
            statistic=statistic,
            threshold=THRESHOLD,
            rate_before=np.where(changed, self._before[0], np.nan),
            rate_after=np.where(changed, good / np.where(count > 0, count, 1.0), np.nan),
            count_before=self._before[1].copy(),
            count_after=count,
            void=self._void[..., : self.day].copy(),
        )

    def _from(self, first: Integers, sums: Floats) -> Floats:
        return np.asarray(sums[self.day] - np.take_along_axis(sums, first[None], axis=0)[0])

    def _weekday_effect(self, day: int) -> Floats:
        """By how much a day of this weekday differs from others on the logit scale, per arm; mostly 0."""
        if day < _WEEKS_OF_RHYTHM * WEEK:
            return np.zeros(self.since.shape)
        of_template = self._rhythm.sum(axis=3)
        tenants = self._of_tenant.shape[2]
        flat = [np.bincount(self._tenant, row, minlength=tenants) for row in of_template.reshape(2 * WEEK, -1)]
        of_tenant = np.reshape(flat, (2, WEEK, tenants))
        effects = weekday_effects(*of_tenant)[:, self._tenant]
        for surprise, information in (of_template, self._rhythm):
            if surprise.ndim > effects.ndim:
                effects = effects[..., None]
            effects = effects + weekday_effects(surprise - information * effects, information)
        return np.asarray(effects[day % WEEK])

    def _restart(self, fed: Mask) -> Mask:
        cells = self._possible(np.flatnonzero(fed))
        restarts = np.zeros(fed.shape, dtype=bool)
        if not len(cells):
            return restarts
        cuts = self._cuts(cells)
        place = np.arange(len(cells))
        cut, common = cuts.own.argmax(axis=0), cuts.common.argmax(axis=0)
        found = cuts.own[cut, place] >= THRESHOLD
        strongest = cuts.common[common, place]
        settled = (strongest >= THRESHOLD) & ~found & (cuts.own[cut, place] <= 0)
        settled &= cuts.first + common <= self.day - _DAYS_TO_SETTLE
        self._origin.ravel()[cells[settled]] = cuts.first + common[settled]
        for which in np.flatnonzero(found):
            template, arm = np.unravel_index(cells[which], fed.shape)
            since = cuts.first + int(cut[which])
            # What an arm's own change did to its last days is no rhythm.
            own = np.diff(self._surprise[since : self.day + 1, template, arm])
            np.subtract.at(self._rhythm[0, :, template, arm], np.arange(since, self.day) % WEEK, own)
            restarts[template, arm] = True
            for kept, values in zip(self._earlier, self._regime, strict=True):
                kept[..., template, arm] = values[..., template, arm]
            self.since[template, arm] = self._origin[template, arm] = since
            self.alarm_day[template, arm] = self.day - 1
            self._statistic[template, arm] = cuts.own[cut[which], which]
            self._before[:, template, arm] = cuts.rate[cut[which], which], cuts.count_before[cut[which], which]
        return restarts

    def _take_back(self, fed: Mask) -> None:
        """Undo restarts of arms that are back at the rate before."""
        recent = fed & (self.alarm_day >= 0) & (self.day - self.alarm_day <= _DAYS_TO_PASS)
        for template, arm in np.argwhere(recent):
            first = int(self.since[template, arm])
            good, count = (sums[first : self.day + 1, template, arm] for sums in (self._good, self._all))
            odds = odds_of_return(good, count, *self._before[:, template, arm])
            if odds.max(initial=0.0) < _PASSED:
                continue
            passed = first + 1 + int(odds.argmax())
            self._void[template, arm, first:passed] = True
            for sums in (self._good, self._all):
                lost = sums[passed, template, arm] - sums[first, template, arm]
                sums[first:passed, template, arm] = sums[first, template, arm]
                sums[passed : self.day + 1, template, arm] -= lost
            for kept, values in zip(self._earlier, self._regime, strict=True):
                values[..., template, arm] = kept[..., template, arm]

    def _possible(self, cells: Integers) -> Integers:
        """Those of the cells that have a cut above the threshold, before all that speaks against it.

        kl is at most the chi-square distance, which is cheap: logarithms are taken only of cuts that it lets pass.
        """
        day, found = self.day, []
        oldest = day - _RECENT_DAYS if day % WEEK else 0
        flat_good, flat_all, origin = (x.reshape(len(x), -1) for x in (self._good, self._all, self._origin[None]))
        for start in range(0, len(cells), _CHUNK_CELLS):
            part = cells[start : start + _CHUNK_CELLS]
            first = max(int(origin[0, part].min()) + _DAYS_BEFORE, oldest)
            if first >= day:
                continue
            dense = len(part) == part[-1] - part[0] + 1
            columns: slice | Integers = slice(int(part[0]), int(part[-1]) + 1) if dense else part
            base_good, base_all = flat_good[origin[0, part], part], flat_all[origin[0, part], part]
            end_good, end_all = flat_good[day, part] - base_good, flat_all[day, part] - base_all
            rate = end_good / np.maximum(end_all, _TINY)
            before = flat_all[first:day, columns] - base_all
            deviation = before * rate
            np.subtract(flat_good[first:day, columns], deviation, out=deviation)
            deviation -= base_good
            deviation *= deviation
            bound = end_all - before
            bound *= before
            bound *= THRESHOLD * rate * (1 - rate) / np.maximum(end_all, _TINY)
            exceeds = deviation >= bound
            exceeds &= before >= _COUNT_BEFORE
            cut, place = np.nonzero(exceeds)
            late = first + cut >= origin[0, part[place]] + _DAYS_BEFORE
            cut, place = cut[late], place[late]
            gained = gain(
                flat_good[first + cut, part[place]] - base_good[place],
                before[cut, place],
                end_good[place],
                end_all[place],
            )
            found.append(part[np.unique(place[gained >= THRESHOLD])])
        return np.concatenate(found) if found else cells[:0]

    def _cuts(self, cells: Integers) -> "_Cuts":
        """Every cut of the cells."""
        day, templates, arms = self.day, *np.unravel_index(cells, self.since.shape)
        since = self._origin[templates, arms]
        first = min(int(since.min()) + _DAYS_BEFORE, day)
        window = slice(first, day + 1)

        def of_arm(sums: Floats) -> Floats:
            return sums[window, templates, arms]

        good, total = of_arm(self._good), of_arm(self._all)
        good_before, count_before = (
            good[:-1] - self._good[since, templates, arms],
            total[:-1] - self._all[since, templates, arms],
        )
        good_after, count_after = good[-1] - good[:-1], total[-1] - total[:-1]
        possible = (count_before >= _COUNT_BEFORE) & (count_after > 0)
        possible &= np.arange(first, day)[:, None] >= since + _DAYS_BEFORE
        good_all, count_all = good_before + good_after, count_before + count_after
        statistic = gain(good_before, count_before, good_all, count_all)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = good_all / count_all
            information = count_before * count_after / count_all * rate * (1 - rate)
            shift = (good_after - count_after * rate) / information
            change = good_after / count_after - good_before / count_before
            shared = np.zeros(statistic.shape, dtype=bool)
            likeliest = []
            for rates, rate_error, logits, logit_error in self._others(window, templates, arms, since):
                # Log-likelihood of having shared the arm's shift over not having moved; shocks may add or multiply.
                by_rate = (change * rates - change**2 / 2) / rate_error
                by_logit = (shift * logits - shift**2 / 2) / logit_error
                likeliest.append(np.fmax(by_rate, by_logit))
                shared |= likeliest[-1] > _SHARED
            waited = day - np.arange(first, day)[:, None] >= _DAYS_OF_DOUBT
            alone = self._information[day, templates].sum(axis=1) <= self._information[day, templates, arms] + _ROUNDING
            held = ~(waited | alone | (likeliest[0] < -_SHARED))
            held |= self._recovered(templates, arms, good_before / count_before, good_after / count_after)
            rate_before = good_before / count_before
        restless = (_RESTLESS_DAYS + self._restlessness[first:day, templates]) / (
            _RESTLESS_DAYS + self._judged[first:day, templates]
        )
        statistic = np.where(possible, statistic / np.maximum(restless, 1.0), 0.0)
        # Doubt is judged at the best cut: of many cuts beside it one always has an answer by chance.
        held = np.take_along_axis(held, statistic.argmax(axis=0)[None], axis=0) if len(held) else held
        common = np.where(shared, statistic, 0.0)
        own = np.where(shared | held, 0.0, statistic - common.max(axis=0, initial=0.0))
        return _Cuts(first, own, common, rate_before, count_before)

    def _recovered(self, templates: Integers, arms: Integers, before: Floats, after: Floats) -> Mask:
        """Where the last two days don't speak for the rate after the cut against that before it."""
        start = max(self.day - _DAYS_OF_RECOVERY, 0)
        good = self._good[self.day, templates, arms] - self._good[start, templates, arms]
        count = self._all[self.day, templates, arms] - self._all[start, templates, arms]
        odds = special.xlogy(good, before) + special.xlogy(count - good, 1 - before)
        odds -= special.xlogy(good, after) + special.xlogy(count - good, 1 - after)
        return np.asarray(odds > -_SHARED)

    def _others(
        self, window: slice, templates: Integers, arms: Integers, since: Integers
    ) -> Iterator[tuple[Floats, Floats, Floats, Floats]]:
        """How rates and logits moved at each cut, with error variances: the template's other arms, other templates."""
        tenant = self._tenant[templates]
        sums = self._surprise, self._information, self._trusted
        own = [(values[window, templates, arms], values[since, templates, arms]) for values in sums]
        template = [(values[window][:, templates].sum(axis=2), values[since, templates].sum(axis=1)) for values in sums]
        of_tenant = [(values[window][:, tenant], values[since, tenant]) for values in self._of_tenant]
        for whole, part in ((template, own), (of_tenant, template)):
            at = [values - without for (values, _), (without, _) in zip(whole, part, strict=True)]
            begin = [values - without for (_, values), (_, without) in zip(whole, part, strict=True)]
            sides = [(values[:-1] - start, values[-1] - values[:-1]) for values, start in zip(at, begin, strict=True)]
            # What is left of nothing by subtraction is rounding, not information.
            surprise, information, count = (
                [np.where(known > _ROUNDING, value, 0.0) for value, known in zip(values, sides[1], strict=True)]
                for values in sides
            )
            yield (
                surprise[1] / count[1] - surprise[0] / count[0],
                information[1] / count[1] ** 2 + information[0] / count[0] ** 2,
                surprise[1] / information[1] - surprise[0] / information[0],
                1 / information[1] + 1 / information[0],
            )


class _Cuts(NamedTuple):
    """Arrays of shape (cuts, cells); the first cut's day. `own` is the statistic in nats less what arms share."""

    first: int
    own: Floats
    common: Floats
    rate: Floats
    count_before: Floats

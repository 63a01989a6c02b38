"""The rolling judgement: which history each day is judged by, and the verdict.

Rules, for one template:

- A day is judged when it is complete (before today, UTC). The newest JUDGED_DAYS days with data are judged, and the
  HORIZON days from today on are forecast without a verdict.
- With fewer than MIN_DAYS earlier days there is no forecast. Below PROPHET_DAYS a day is judged by the z-score of the
  days before it. From then on Prophet is fitted once a calendar week, on the days before its Monday (before the first
  day that has PROPHET_DAYS earlier ones, in the week of the handover), so that a verdict stays what it was when more
  days come.
- Flagged days are quarantined: of the QUARANTINE_DAYS newest days with data the flagged ones are left out of a fit,
  unless all of them are flagged: then it is a new level, not an incident, and the fit accepts it.

Belongs here: these rules, pure. Does not belong here: how a band is computed (bands.py), storage (assets.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import blake2b
from itertools import groupby
from typing import Literal, NamedTuple
from uuid import UUID

from assets.forecasts.bands import RECIPES, Band, FitError, prophet_bands, zscore_bands
from assets.forecasts.history import Day, History, Subject

JUDGED_DAYS = 14
HORIZON = 7
MIN_DAYS = 7
PROPHET_DAYS = 30
QUARANTINE_DAYS = 14
# Three years of days hold two full seasons and bound a fit's cost, however old a template is.
FITTED_DAYS = 3 * 365
INACTIVE_AFTER = timedelta(days=60)

Method = Literal["prophet", "zscore"]
Fitter = Callable[[History, Sequence[date]], list[Band]]
FITTERS: Mapping[Method, Fitter] = {"prophet": prophet_bands, "zscore": zscore_bands}


class Model(NamedTuple):
    """A fit: by which method, on which days. `model_id` is a hash of all that its forecasts depend on."""

    model_id: UUID
    subject: Subject
    method: Method
    fitted_from: date
    fitted_to: date
    fitted_days: int
    history_hash: bytes


class Forecast(NamedTuple):
    """What was expected of a day, and what came; `actual` is None for a day that isn't judged."""

    date: date
    band: Band
    actual: float | None
    evaluations: int
    is_anomaly: bool
    model: Model


Remembered = Mapping[tuple[UUID, date], Band]


@dataclass
class Judgement:
    """Everything said about one template; `failures` are the reasons why a z-score stood in for Prophet."""

    subject: Subject
    forecasts: list[Forecast] = field(default_factory=list)
    fits: int = 0
    failures: list[str] = field(default_factory=list)


def is_inactive(history: History, today: date) -> bool:
    """Whether a template's newest complete day is so old that nobody waits for its forecast."""
    days = history.before(today).days
    return not days or days[-1].date < today - INACTIVE_AFTER


def judge(
    history: History,
    today: date,
    *,
    flagged: frozenset[date] = frozenset(),
    remembered: Remembered | None = None,
    fitters: Mapping[Method, Fitter] = FITTERS,
) -> Judgement:
    """Judge a template's newest complete days and forecast the coming ones.

    Args:
        history: all days known; those from `today` on are ignored, being incomplete.
        today: the current UTC date.
        flagged: dates that earlier judgements found anomalous; those judged anew are ignored.
        remembered: bands by (model_id, date) that earlier judgements computed; a fit whose bands are all there is
            spared.
        fitters: the bands of each method.
    """
    complete = history.before(today)
    judged = complete.days[-JUDGED_DAYS:]
    verdict = Judgement(history.subject)
    flags = {day for day in flagged if judged and day < judged[0].date}
    forecaster = _Forecaster(complete, remembered or {}, fitters, verdict)
    for (origin, method), block in groupby(judged, key=lambda day: _origin(complete, day.date)):
        if method is None:
            continue
        days = list(block)
        model, bands = forecaster.forecast(origin, method, [day.date for day in days], flags)
        fresh = [_judged(day, band, model) for day, band in zip(days, bands, strict=True)]
        flags.update(forecast.date for forecast in fresh if forecast.is_anomaly)
        verdict.forecasts.extend(fresh)
    if len(complete.days) >= MIN_DAYS:
        ahead = [today + timedelta(days=step) for step in range(HORIZON)]
        model, bands = forecaster.forecast(today, _method(len(complete.days)), ahead, flags)
        verdict.forecasts.extend(
            Forecast(day, band, None, 0, False, model) for day, band in zip(ahead, bands, strict=True)
        )
    return verdict


def _origin(complete: History, day: date) -> tuple[date, Method | None]:
    """The date before which a model may have looked to judge `day`, and the method; None where too little is known."""
    earlier = len(complete.before(day).days)
    if earlier < MIN_DAYS:
        return day, None
    if earlier < PROPHET_DAYS:
        return day, "zscore"
    handover = complete.days[PROPHET_DAYS - 1].date + timedelta(days=1)
    return max(day - timedelta(days=day.weekday()), handover), "prophet"


def _method(days: int) -> Method:
    return "prophet" if days >= PROPHET_DAYS else "zscore"


def _judged(day: Day, band: Band, model: Model) -> Forecast:
    return Forecast(day.date, band, day.drift, day.evaluations, day.drift > band.upper, model)


@dataclass(frozen=True)
class _Forecaster:
    """Fits or remembers models of one template's history, and notes in `verdict` what that took."""

    complete: History
    remembered: Remembered
    fitters: Mapping[Method, Fitter]
    verdict: Judgement

    def forecast(
        self, origin: date, method: Method, dates: Sequence[date], flags: set[date]
    ) -> tuple[Model, list[Band]]:
        """Bands of `dates` by a model of what came before `origin`, flagged days apart."""
        known = quarantine(self.complete.before(origin), flags).newest(FITTED_DAYS)
        try:
            return self._bands(known, method, dates)
        except FitError as error:
            self.verdict.failures.append(f"{origin}: {error}")
            return self._bands(known, "zscore", dates)

    def _bands(self, known: History, method: Method, dates: Sequence[date]) -> tuple[Model, list[Band]]:
        model = _model(known, method)
        stored = [self.remembered[model.model_id, day] for day in dates if (model.model_id, day) in self.remembered]
        if len(stored) == len(dates):
            return model, stored
        bands = self.fitters[method](known, dates)
        self.verdict.fits += 1
        return model, bands


def quarantine(history: History, flags: Iterable[date]) -> History:
    """The days to fit on: of the newest QUARANTINE_DAYS without the flagged ones, unless all are flagged."""
    newest = [day.date for day in history.days[-QUARANTINE_DAYS:]]
    left_out = frozenset(newest).intersection(flags)
    return history if len(left_out) == len(newest) else history.without(left_out)


def _model(known: History, method: Method) -> Model:
    history_hash = blake2b(b"".join(_content(known.days)), digest_size=16).digest()
    about = f"{known.subject.tenant_id}\0{known.subject.template_id}\0{method}\0{RECIPES[method]}\0".encode()
    return Model(
        model_id=UUID(bytes=blake2b(about + history_hash, digest_size=16).digest()),
        subject=known.subject,
        method=method,
        fitted_from=known.days[0].date,
        fitted_to=known.days[-1].date,
        fitted_days=len(known.days),
        history_hash=history_hash,
    )


def _content(days: Iterable[Day]) -> Iterator[bytes]:
    for day in days:
        yield f"{day.date.toordinal()}:{day.drift!r};".encode()

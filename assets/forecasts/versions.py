"""What a version of a forecaster is made of: the record of its fit, as it is remembered, registered and served.

A forecast is made from the record, after its numbers were rounded to what the record holds: the version that is in the
registry says the same, to the bit, as the one that served.

Belongs here: the record, Prophet's fits to records and back, records in words. Does not belong here: fitting
(structure.py), tables (registry.py).
"""

from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from assets.forecasts import prophet_fits
from assets.forecasts.panel import Floats
from assets.forecasts.prophet_design import NEVER, WEEKLY, YEARLY, Frame, Settings
from assets.forecasts.scale import HALF_COUNTS
from assets.forecasts.state import FEATURES

_SETTINGS = Settings()
_WEEKLY_TERMS, _YEARLY_TERMS = 2 * WEEKLY[1], 2 * YEARLY[1]
_NO_CHANGEPOINT = -1

# Prophet's parameters have its own names, and are in units of y_scale on the arcsine scale of the scores. Days are
# counted from first_day, a date's ordinal, which is 0 where Prophet has no part. `pull` and `within` are the
# recursion's: how it follows the newest days, and how likely each law of the noise within a day is (state.py).
VERSION = np.dtype(
    [
        ("first_day", "<i4"),
        ("start", "<i2"),
        ("span", "<i2"),
        ("rows", "<i2"),
        ("weekly", "?"),
        ("yearly", "?"),
        ("y_scale", "<f8"),
        ("k", "<f8"),
        ("m", "<f8"),
        ("sigma_obs", "<f8"),
        ("changepoints", "<i2", (_SETTINGS.n_changepoints,)),
        ("delta", "<f4", (_SETTINGS.n_changepoints,)),
        ("beta", "<f4", (_WEEKLY_TERMS + _YEARLY_TERMS,)),
        ("pull", "<f8", (FEATURES,)),
        ("within", "<f8", (len(HALF_COUNTS),)),
    ]
)
# (n,) of VERSION.
Versions = npt.NDArray[np.void]


def is_record(content: bytes) -> bool:
    """Whether bytes are of a record's length; of a release whose records are others they are not."""
    return len(content) == VERSION.itemsize


def none(n: int) -> Versions:
    """Records of `n` templates in which nothing stands."""
    return np.zeros(n, dtype=VERSION)


def has_prophet(records: Versions) -> npt.NDArray[np.bool_]:
    """(n,) in which there is a fit of Prophet's."""
    has: npt.NDArray[np.bool_] = records["first_day"] > 0
    return has


def record(fits: prophet_fits.Fits) -> Versions:
    """Prophet's fits as records; regressors are steps that last, and are put to the offset."""
    records = none(len(fits))
    records["first_day"] = fits.first_day.toordinal()
    for name in ("start", "span", "rows", "weekly", "yearly", "y_scale"):
        records[name] = getattr(fits.frame, name)
    for name in ("k", "sigma_obs", "delta"):
        records[name] = getattr(fits, name)
    terms = _WEEKLY_TERMS + _YEARLY_TERMS
    records["beta"] = fits.beta[:, :terms]
    # Steps of known events have all been taken when the history ends.
    records["m"] = fits.m + fits.beta[:, terms:].sum(axis=1)
    knees = fits.frame.changepoints
    records["changepoints"] = np.where(knees < NEVER, knees, _NO_CHANGEPOINT)
    return records


def expected(records: Versions, first_day: date, days: int) -> Floats:
    """(n, days) what Prophet's fits expect of the days from `first_day` on."""
    later = records["first_day"].astype(np.int64) - first_day.toordinal()
    knees = records["changepoints"].astype(np.int64)
    frame = Frame(
        start=records["start"] + later,
        span=records["span"].astype(np.int64),
        rows=records["rows"].astype(np.int64),
        y_scale=records["y_scale"],
        changepoints=np.where(knees == _NO_CHANGEPOINT, NEVER, knees + later[:, None]),
        weekly=records["weekly"],
        yearly=records["yearly"],
    )
    n = len(records)
    fits = prophet_fits.Fits(
        settings=_SETTINGS,
        first_day=first_day,
        frame=frame,
        k=records["k"],
        m=records["m"],
        delta=records["delta"].astype(np.float64),
        beta=records["beta"].astype(np.float64),
        sigma_obs=records["sigma_obs"],
        log_posterior=np.full(n, np.nan),
        status=np.full(n, prophet_fits.FITTED),
        regressors=np.empty((n, 0, days)),
        models=np.full(n, "", dtype=object),
        errors=np.full(n, "", dtype=object),
    )
    return prophet_fits.components(fits, first_day, days).yhat


def in_words(content: bytes) -> dict[str, Any]:
    """A record's bytes as names, numbers and dates.

    Raises:
        ValueError: it is of another length than a record: another release wrote it.
    """
    if not is_record(content):
        raise ValueError(f"{len(content)} bytes are no record of {VERSION.itemsize}: another release wrote it")
    its = np.frombuffer(content, dtype=VERSION)[0]
    words: dict[str, Any] = {"recursion": {"pull": its["pull"].tolist(), "within": its["within"].tolist()}}
    if its["first_day"]:
        knees = its["changepoints"][its["changepoints"] != _NO_CHANGEPOINT]
        words["prophet"] = {
            "start": _day(its, its["start"]),
            "span_days": int(its["span"]),
            "fitted_days": int(its["rows"]),
            **{name: float(its[name]) for name in ("y_scale", "k", "m", "sigma_obs")},
            "changepoints": [_day(its, knee) for knee in knees],
            "delta": its["delta"][: len(knees)].tolist(),
            "beta_weekly": its["beta"][:_WEEKLY_TERMS].tolist() if its["weekly"] else [],
            "beta_yearly": its["beta"][_WEEKLY_TERMS:].tolist() if its["yearly"] else [],
        }
    return words


def _day(its: np.void, day: np.int16) -> str:
    return (date.fromordinal(int(its["first_day"])) + timedelta(days=int(day))).isoformat()

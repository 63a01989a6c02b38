"""Prophet itself, in processes of its own: for settings that the batch solver doesn't serve, and to compare with it.

Each process is spawned, imports Prophet once (4 s), keeps its progress to itself and leaves no files behind. A template
that Prophet refuses is told by name and stops no other.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import current_process, get_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from assets.forecasts.prophet_design import NOISE_PRIOR_SCALE, TREND_PRIOR_SCALE, Floats, Ints, Settings
from assets.forecasts.prophet_fits import Fits, components

if TYPE_CHECKING:
    import pandas as pd

_SAMPLES = 1000
_SEED = 20_260_101
# Days after the newest one on which forecasts are compared.
_COMPARED_DAYS = 7
_NOISY_LOGGERS = ("prophet", "prophet.plot", "prophet.models", "cmdstanpy")


class Job(NamedTuple):
    """One template's history as a process gets it: values (T,) with NaN, regressors (R, T + horizon)."""

    values: Floats
    first_day: date
    regressors: Floats
    settings: Settings


class Fitted(NamedTuple):
    """Prophet's model as JSON, or why there is none; and its parameters, in its own units."""

    model: str
    error: str
    k: float
    m: float
    delta: Floats
    sigma_obs: float
    log_posterior: float


class Forecast(NamedTuple):
    """Of one template: (days,) each, in the values' own units; trend + weekly + yearly + others is `yhat`."""

    trend: Floats
    weekly: Floats
    yearly: Floats
    others: Floats
    samples: Floats


class Compared(NamedTuple):
    """Our fits against Prophet's own, for a sample of templates.

    Attributes:
        templates: (m,) which.
        gained: (m,) log posterior of ours less that of Prophet's; never much below 0.
        apart: (m,) largest difference of `yhat` from Prophet's as it ends by itself, in units of the scale.
        moved: (m,) the same from Prophet's when it begins at our maximum: what it would still change.
        errors: why Prophet has no fit, by template; the others' figures are NaN there.
    """

    templates: Ints
    gained: Floats
    apart: Floats
    moved: Floats
    errors: dict[int, str]


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_pool(work: Callable[[_In], _Out], jobs: Sequence[_In], processes: int | None = None) -> list[_Out]:
    """`work` of each job, in spawned processes (as many as cores, unless told otherwise), answers in order.

    A daemonic process, as Celery's are, may have none of its own: there one job follows the other.
    """
    count = min(len(jobs), processes or os.cpu_count() or 1)
    if not count:
        return []
    if current_process().daemon:
        _silence()
        return [work(job) for job in jobs]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_silence) as pool:
        return list(pool.map(work, jobs, chunksize=max(1, len(jobs) // (8 * count))))


def fit_one(job: Job) -> Fitted:
    """Prophet's fit of one history."""
    try:
        model, parameters = _prophet(job, None)
    except Exception as error:  # Stan's failures come as many types, and one template must not fail the others.
        return Fitted("", f"{type(error).__name__}: {error}", np.nan, np.nan, np.zeros(0), np.nan, np.nan)
    from prophet.serialize import model_to_json

    known = (parameters[name] for name in ("k", "m", "delta", "sigma_obs"))
    k, m, delta, sigma = known
    density = log_density(model, parameters) if job.settings.in_process else np.nan
    return Fitted(model_to_json(model), "", float(k[0]), float(m[0]), delta, float(sigma[0]), density)


def forecast_one(asked: tuple[str, Job, date, int]) -> Forecast:
    """A fitted model's forecast with samples (days, samples) of its predictive law, the same each time."""
    from prophet.serialize import model_from_json

    text, job, first_day, days = asked
    model = model_from_json(text)
    frame = _frame(job, first_day, days)
    model.uncertainty_samples = 0
    parts = model.predict(frame)
    model.uncertainty_samples = _SAMPLES
    np.random.seed(_SEED)  # Prophet draws from the global source; this process is its own.
    samples = model.predictive_samples(frame)["yhat"]
    trend = parts["trend"].to_numpy(dtype=float)
    share = trend if job.settings.seasonality_mode == "multiplicative" else 1.0
    weekly, yearly = (share * parts[name] if name in parts else np.zeros(days) for name in ("weekly", "yearly"))
    others = parts["yhat"] - trend - weekly - yearly
    return Forecast(trend, np.asarray(weekly), np.asarray(yearly), np.asarray(others), samples)


def compare(fits: Fits, values: Floats, sample: int, seed: int, processes: int | None = None) -> Compared:
    """Fit a random sample of templates by Prophet too.

    Args:
        fits: made in process, without weights.
        values: (n, T) that were fitted.
        sample: how many templates, at most as many as were solved.
        seed: of the choice.
        processes: as many as cores if None.
    """
    solved = np.flatnonzero(np.isfinite(fits.log_posterior))
    chosen = np.sort(np.random.default_rng(seed).permutation(solved)[:sample])
    jobs = [(Job(values[i], fits.first_day, fits.regressors[i], fits.settings), fits.of(np.array([i]))) for i in chosen]
    answers = in_pool(_compare_one, jobs, processes)
    figures = np.array([answer[0] for answer in answers]).reshape(-1, 3)
    errors = {int(i): answer[1] for i, answer in zip(chosen, answers, strict=True) if answer[1]}
    return Compared(chosen, figures[:, 0], figures[:, 1], figures[:, 2], errors)


def _compare_one(asked: tuple[Job, Fits]) -> tuple[tuple[float, float, float], str]:
    job, ours = asked
    days = len(job.values) + (_COMPARED_DAYS if not len(job.regressors) else 0)
    start = int(ours.frame.start[0])
    yhat = components(ours, job.first_day, days).yhat[0, start:]
    try:
        model, theirs = _prophet(job, None)
        began = stan_parameters(model, ours)
        again, _ = _prophet(job, began)
        frame = _frame(job, job.first_day, days)
        apart, moved = (
            float(np.abs(each.predict(frame)["yhat"].to_numpy(dtype=float)[start:] - yhat).max() / each.y_scale)
            for each in (model, again)
        )
    except Exception as error:  # as in fit_one
        return (np.nan, np.nan, np.nan), f"{type(error).__name__}: {error}"
    return (log_density(model, began) - log_density(model, theirs), apart, moved), ""


def stan_parameters(model: Any, ours: Fits) -> dict[str, Floats]:
    """Parameters of one fit in process as the fitted `prophet.Prophet` of the same history orders them."""
    beta = ours.beta[0]
    terms = {"yearly": beta[6:26], "weekly": beta[:6]}
    used = [terms[name] for name in model.seasonalities] + [beta[26:]]
    ordered = np.concatenate(used)
    changes = model.changepoints_t
    return {
        "k": ours.k,
        "m": ours.m,
        "delta": np.resize(ours.delta[0], len(changes)) if len(model.changepoints) else np.zeros(1),
        "beta": ordered if len(ordered) else np.zeros(1),
        "sigma_obs": ours.sigma_obs,
    }


def log_density(model: Any, parameters: dict[str, Floats]) -> float:
    """`prophet.stan`'s log density for linear or flat growth and additive terms, up to a constant.

    In the design that the fitted `prophet.Prophet` made itself.
    """
    k, m, delta, beta, sigma = (parameters[name] for name in ("k", "m", "delta", "beta", "sigma_obs"))
    features, scales, _, _ = model.make_all_seasonality_features(model.history)
    t, y = (model.history[name].to_numpy(dtype=float) for name in ("t", "y_scaled"))
    if model.growth == "flat":
        trend = np.full(len(t), m[0])
    else:
        passed = t[:, None] >= model.changepoints_t
        trend = (k[0] + passed @ delta) * t + m[0] - passed @ (model.changepoints_t * delta)
    residuals = y - trend - features.to_numpy(dtype=float) @ beta
    return -float(
        len(y) * np.log(sigma[0])
        + residuals @ residuals / (2 * sigma[0] ** 2)
        + (sigma[0] / NOISE_PRIOR_SCALE) ** 2 / 2
        + (k[0] ** 2 + m[0] ** 2) / (2 * TREND_PRIOR_SCALE**2)
        + np.abs(delta).sum() / model.changepoint_prior_scale
        + ((beta / np.array(scales)) ** 2).sum() / 2
    )


def _prophet(job: Job, start: dict[str, Floats] | None) -> tuple[Any, dict[str, Floats]]:
    """The fitted model and its parameters as vectors; begun where told, or where Prophet begins."""
    from prophet import Prophet

    settings = job.settings
    holidays = None
    if settings.holidays:
        import pandas as pd

        holidays = pd.DataFrame(settings.holidays, columns=["holiday", "ds"])
        holidays["ds"] = pd.to_datetime(holidays["ds"])
    model = Prophet(
        growth=settings.growth,
        n_changepoints=settings.n_changepoints,
        changepoint_range=settings.changepoint_range,
        changepoint_prior_scale=settings.changepoint_prior_scale,
        seasonality_prior_scale=settings.seasonality_prior_scale,
        weekly_seasonality=settings.weekly_seasonality,
        yearly_seasonality=settings.yearly_seasonality,
        daily_seasonality=False,
        seasonality_mode=settings.seasonality_mode,
        holidays=holidays,
        uncertainty_samples=0,
    )
    for number in range(len(job.regressors)):
        model.add_regressor(f"regressor_{number}", settings.regressor_prior_scale, standardize=False, mode="additive")
    history = _frame(job, job.first_day, len(job.values))
    history["y"] = job.values
    # Stan leaves a folder a fit behind until the process ends.
    with tempfile.TemporaryDirectory(prefix="tidemark-prophet-") as folder:
        more = (
            {} if start is None else {"init": {n: v if n in ("delta", "beta") else v.item() for n, v in start.items()}}
        )
        model.fit(history.dropna(subset="y"), seed=_SEED, output_dir=folder, **more)
    return model, {name: np.ravel(model.params[name]) for name in ("k", "m", "delta", "beta", "sigma_obs")}


def _frame(job: Job, first_day: date, days: int) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame({"ds": pd.date_range(first_day, periods=days)})
    if job.settings.growth == "logistic":
        frame["cap"] = job.settings.cap
    offset = (first_day - job.first_day).days
    for number, regressor in enumerate(job.regressors):
        frame[f"regressor_{number}"] = regressor[offset : offset + days]
    return frame


def _silence() -> None:
    """For a process's life: both packages set their levels anew when they are first used."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).disabled = True

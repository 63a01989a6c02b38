"""The batch solver is Prophet: the same density, a maximum of it, the same predictive law, for any history at all."""

import tempfile
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.forecasts import prophet_map, prophet_solver
from assets.forecasts.prophet_design import Floats, fourier
from assets.forecasts.prophet_map import STATUSES, Fits, Settings, components, fit, predict, quantile, spread
from assets.forecasts.prophet_reference import Job, compare, fit_one, forecast_one, log_density, stan_parameters
from assets.forecasts.prophet_spread import parameter_variance

FIRST_DAY = date(2023, 3, 1)
_TAU = 0.05


def _histories(generator: np.random.Generator, lengths: list[int], days: int) -> Floats:
    """(n, days): waves, slopes that change, steps, outliers, gaps; the last as many days as asked."""
    made = np.full((len(lengths), days), np.nan)
    for row, length in enumerate(lengths):
        t = np.arange(length)
        values = generator.uniform(0.1, 0.5) + generator.choice([0.005, 0.03]) * generator.standard_normal(length)
        values += generator.uniform(0, 0.05) * np.sin(2 * np.pi * (t + generator.integers(7)) / 7)
        values += generator.normal(0, 0.3) * np.maximum(t - generator.integers(length), 0) / length
        values += generator.choice([0.0, 0.1]) * (t >= generator.integers(length))
        values[generator.random(length) < generator.choice([0, 0.02])] += 0.5
        if length > 10:
            values[generator.random(length) < generator.choice([0, 0.1, 0.5])] = np.nan
        made[row, days - length :] = np.clip(values, 0, 1)
    return made


# The same as Prophet --------------------------------------------------------------------------------------------------


def test_our_maximum_is_at_least_prophets_and_prophet_cannot_improve_on_it() -> None:
    """Short, long, gappy, with and without seasonalities: 24 real fits, each also begun at our maximum."""
    lengths = [6, 8, 10, 13, 15, 20, 28, 29, 35, 45, 60, 90, 99, 100, 101, 130, 200, 300, 365, 400, 500, 731, 760, 800]
    values = _histories(np.random.default_rng(3), lengths, 800)
    values[4, ~(np.arange(800) % 7 == 3)] = np.nan
    values[12] = (values[12] > np.nanmedian(values[12])).astype(float) + 0 * values[12]
    fits = fit(values, FIRST_DAY)
    found = compare(fits, values, sample=24, seed=1, processes=2)
    assert not found.errors
    assert len(found.templates) >= 22
    assert found.gained.min() > -1e-4
    fitted = fits.status[found.templates] == STATUSES.index("fitted")
    assert fitted.sum() >= 20
    assert found.moved[fitted].max() < 1e-3


@pytest.fixture(scope="module")
def prophet_fit() -> tuple[Any, Fits, Floats]:
    """A real Prophet holding our parameters of the same history: little noise, marked changes of the slope.

    Prophet itself stays on a peak with 30 times the noise, whose density is 200 nats below.
    """
    pandas, prophet = pytest.importorskip("pandas"), pytest.importorskip("prophet")
    generator = np.random.default_rng(8)
    t = np.arange(120)
    wave = 0.05 * np.sin(2 * np.pi * t / 7)
    values = 0.2 + 0.006 * np.abs(t % 60 - 30) + wave + 0.001 * generator.standard_normal(120)
    fits = fit(values[None], FIRST_DAY)
    frame = pandas.DataFrame({"ds": pandas.date_range(FIRST_DAY, periods=120), "y": values})
    with tempfile.TemporaryDirectory() as folder:
        model = prophet.Prophet(uncertainty_samples=0).fit(frame, output_dir=folder)
    ours = stan_parameters(model, fits)
    theirs = {name: np.ravel(model.params[name]) for name in ours}
    assert log_density(model, ours) > log_density(model, theirs) + 100
    for name, value in ours.items():
        model.params[name] = value.reshape(1, -1)
    return model, fits, values


def test_the_density_is_the_one_that_prophets_own_program_computes(prophet_fit: tuple[Any, Fits, Floats]) -> None:
    model, fits, _ = prophet_fit
    ours = stan_parameters(model, fits)
    generator = np.random.default_rng(2)
    # Not at a kink, where a change is 0.
    other = {name: value + 0.01 * generator.random(value.shape) for name, value in ours.items()}
    program = model.stan_backend
    history = model.history[["ds", "y"]]
    _, data = program.prepare_data(ours, asdict(type(model)(uncertainty_samples=0).preprocess(history)))
    inits = [{name: v if name in ("delta", "beta") else v.item() for name, v in each.items()} for each in (ours, other)]
    by_stan = [float(program.model.log_prob(init, data, jacobian=False, sig_figs=18)["lp__"].iloc[0]) for init in inits]
    assert log_density(model, ours) - log_density(model, other) == pytest.approx(by_stan[0] - by_stan[1], rel=1e-9)
    assert fits.log_posterior[0] == pytest.approx(log_density(model, ours), abs=1e-6)


def test_forecasts_and_spread_are_prophets_without_its_samples(prophet_fit: tuple[Any, Fits, Floats]) -> None:
    """At 90 days the law is a mixture of few changes; where all is noise a Gaussian's quantiles would do."""
    model, fits, values = prophet_fit
    pandas = pytest.importorskip("pandas")
    new, days = FIRST_DAY + timedelta(days=len(values)), 90
    frame = pandas.DataFrame({"ds": pandas.date_range(new, periods=days)})
    model.uncertainty_samples = 40_000
    np.random.seed(5)
    samples = model.predictive_samples(frame)["yhat"]
    yhat = predict(fits, new, days)[0]
    model.uncertainty_samples = 0
    np.testing.assert_allclose(yhat, model.predict(frame)["yhat"], atol=1e-9)
    sd = spread(fits, new, days)[0]
    np.testing.assert_allclose(sd, samples.std(axis=1), rtol=0.03)
    for probability in (0.01, 0.4, 0.9, 0.999):
        bound = yhat + quantile(fits, new, days, probability)[0]
        below = (samples <= bound[:, None]).mean(axis=1)
        np.testing.assert_allclose(below, probability, atol=5 * np.sqrt(probability * (1 - probability) / 40_000))
    # Not what a Gaussian of the same spread would say.
    assert quantile(fits, new, days, 0.999)[0, 6] > 1.1 * 3.09 * sd[6]


# A maximum -----------------------------------------------------------------------------------------------------------


@st.composite
def _weighted(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Histories (3, T), weights and one regressor, a step."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = [draw(st.integers(40, 180)) for _ in range(3)]
    values = _histories(generator, lengths, 180)
    weights = generator.choice([0.2, 1.0, 5.0], values.shape)
    step = (np.arange(187) >= 180 - draw(st.integers(5, 30))).astype(float)
    return values, weights, np.tile(step, (3, 1, 1))


@settings(max_examples=25, deadline=None)
@given(_weighted())
def test_the_conditions_for_a_maximum_hold(drawn: tuple[Floats, Floats, Floats]) -> None:
    """Gradient zero in what is used, within the Laplace prior's slope in changes that are not; a design of its own."""
    values, weights, regressors = drawn
    fits = fit(values, FIRST_DAY, weights, regressors)
    for row in np.flatnonzero(fits.status == STATUSES.index("fitted")):
        seen = np.flatnonzero(~np.isnan(values[row]))
        start, span = seen[0], seen[-1] - seen[0]
        t = (seen - start) / span
        knees = (fits.frame.changepoints[row] - start) / span
        changes = np.maximum(t[:, None] - knees, 0)
        weekly = fourier(FIRST_DAY, 180, yearly=False)[seen] * fits.frame.weekly[row]
        smooth = np.column_stack([np.ones(len(t)), t, weekly, regressors[row, 0, seen]])
        beta = np.r_[fits.m[row], fits.k[row], fits.beta[row, :6], fits.beta[row, 26]]
        left = values[row, seen] / fits.frame.y_scale[row] - smooth @ beta - changes @ fits.delta[row]
        weight, sigma = weights[row, seen], fits.sigma_obs[row]
        by_smooth = smooth.T @ (weight * left) / sigma**2 - beta / np.r_[25, 25, np.full(7, 100)]
        by_change = changes.T @ (weight * left) / sigma**2
        size = np.abs(smooth.T) @ (weight * np.abs(left)) / sigma**2 + 1
        assert (np.abs(by_smooth) < 1e-6 * size).all()
        used = fits.delta[row] != 0
        np.testing.assert_allclose(by_change[used], np.sign(fits.delta[row][used]) / _TAU, rtol=1e-5)
        assert (np.abs(by_change[~used]) < (1 + 1e-6) / _TAU).all()
        # The noise: 4 s^2 + T s = SSE.
        assert 4 * sigma**4 + len(t) * sigma**2 == pytest.approx((weight * left**2).sum(), rel=1e-6)


def _same(one: Fits, other: Fits) -> bool:
    names = ("k", "m", "delta", "beta", "sigma_obs", "log_posterior", "status")
    return all(np.array_equal(getattr(one, n), getattr(other, n), equal_nan=n != "status") for n in names)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_template_is_fitted_to_the_same_bytes_in_any_company_and_order(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = [int(generator.integers(1, 760)) for _ in range(8)]
    values = _histories(generator, lengths, 760)
    new = FIRST_DAY + timedelta(days=760)
    fits = fit(values, FIRST_DAY)
    assert _same(fits, fit(values, FIRST_DAY))
    chosen = generator.permutation(8)[:count]
    alone, part = fit(values[chosen], FIRST_DAY), fits.of(chosen)
    assert _same(alone, part)
    for law in (predict, spread, lambda *asked: quantile(*asked, 0.999)):
        assert np.array_equal(law(alone, new, 7), law(fits, new, 7)[chosen], equal_nan=True)
    doubt = parameter_variance(fits, values, new, 7)
    assert np.array_equal(parameter_variance(alone, values[chosen], new, 7), doubt[chosen])


def test_what_is_not_used_changes_nothing() -> None:
    """Weights of 1, no regressors, a start at the answer; a weight of 0 is a day that wasn't observed."""
    generator = np.random.default_rng(6)
    values = _histories(generator, [20, 60, 200, 400], 400)
    plain = fit(values, FIRST_DAY)
    assert _same(plain, fit(values, FIRST_DAY, np.ones(values.shape), np.empty((4, 0, 400))))
    again = fit(values, FIRST_DAY, start=plain)
    np.testing.assert_allclose(again.log_posterior, plain.log_posterior, atol=1e-8)
    later = predict(plain, FIRST_DAY, 430)
    np.testing.assert_allclose(predict(again, FIRST_DAY, 430), later, atol=1e-7)
    away = generator.random(values.shape) < 0.2
    assert _same(
        fit(values, FIRST_DAY, np.where(away, 0.0, 1.0)),
        fit(np.where(away, np.nan, values), FIRST_DAY),
    )


# Extensions -----------------------------------------------------------------------------------------------------------


def test_a_known_step_is_a_regressor_and_forecasts_carry_it_on() -> None:
    generator = np.random.default_rng(4)
    step = (np.arange(107) >= 95).astype(float)
    values = 0.2 + 0.15 * step[:100] + 0.01 * generator.standard_normal((1, 100))
    fits = fit(values, FIRST_DAY, regressors=step[None, None])
    new = FIRST_DAY + timedelta(days=100)
    np.testing.assert_allclose(predict(fits, new, 7), 0.35, atol=0.02)
    parts = components(fits, new, 7)
    np.testing.assert_allclose(parts.regressors, 0.15, atol=0.02)
    np.testing.assert_array_equal(parts.yhat, predict(fits, new, 7))
    with pytest.raises(ValueError, match="the regressors tell of 107 days"):
        predict(fits, new, 8)


def test_doubt_about_parameters_is_what_repeated_histories_show() -> None:
    """A flat model of 20 days: the mean's variance is sigma^2 / 20, and noise with more weight counts for more."""
    generator = np.random.default_rng(9)
    values = 0.5 + 0.02 * generator.standard_normal((400, 20))
    flat = Settings(growth="flat", weekly_seasonality=False)
    new = FIRST_DAY + timedelta(days=20)
    fits = fit(values, FIRST_DAY, settings=flat)
    doubt = parameter_variance(fits, values, new, 1)[:, 0]
    assert doubt.mean() == pytest.approx(predict(fits, new, 1).var(), rel=0.2)
    np.testing.assert_allclose(spread(fits, new, 5), (fits.sigma_obs * fits.frame.y_scale)[:, None] * np.ones(5))
    weights = np.full(values.shape, 4.0)
    heavier = fit(values, FIRST_DAY, weights, settings=flat)
    np.testing.assert_allclose(heavier.sigma_obs, 2 * fits.sigma_obs, rtol=0.02)
    wider = quantile(fits, new, 1, 0.975, parameter_variance(fits, values, new, 1))
    np.testing.assert_allclose(wider, 1.96 * np.sqrt(spread(fits, new, 1) ** 2 + doubt[:, None]), rtol=1e-4)


# Any history ---------------------------------------------------------------------------------------------------------


def _of(days: int, **at: float) -> Floats:
    values = np.full(days, np.nan)
    for day, value in at.items():
        values[int(day[1:])] = value
    return values


_T = np.arange(60)
_NOISE = 0.01 * np.random.default_rng(1).standard_normal(60)
_EDGES: dict[str, tuple[Floats, str, float | None]] = {
    "nothing observed": (_of(60), "empty", np.nan),
    "one day": (_of(60, d7=0.4), "point", 0.4),
    "two days": (_of(60, d7=0.4, d8=0.41), "exact", None),
    "two equal days": (_of(60, d7=0.4, d50=0.4), "constant", 0.4),
    "constant": (np.full(60, 0.3), "constant", 0.3),
    "all 0": (np.zeros(60), "constant", 0.0),
    "all 1": (np.ones(60), "constant", 1.0),
    "a wave without noise": (0.5 + 0.1 * np.sin(2 * np.pi * _T / 7), "exact", None),
    "0 or 1": ((_NOISE > 0).astype(float), "fitted", None),
    "an extreme outlier": (np.where(_T == 30, 1e6, 0.2 + _NOISE), "fitted", None),
    "a long gap": (np.where((_T > 5) & (_T < 50), np.nan, 0.2 + _NOISE), "fitted", None),
    "tiny values": (1e-12 * (1 + _NOISE), "fitted", None),
    "negative values": (-0.2 + _NOISE, "fitted", None),
}


@pytest.mark.parametrize("name", _EDGES)
def test_each_odd_history_has_its_answer(name: str) -> None:
    values, status, expected = _EDGES[name]
    fits = fit(values[None], FIRST_DAY)
    new = FIRST_DAY + timedelta(days=60)
    yhat, sd = predict(fits, new, 7)[0], spread(fits, new, 7)[0]
    bound = quantile(fits, new, 7, 0.999)[0]
    assert STATUSES[fits.status[0]] == status
    if expected is not None:
        np.testing.assert_allclose(yhat, expected, rtol=1e-12)
    if status in ("empty", "point"):
        assert np.isnan(sd).all()
        assert np.isnan(bound).all()
    else:
        assert np.isfinite(yhat).all()
        assert (sd > 0).all()
        assert (bound > 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"values": np.array([[0.1, np.nan], [0.2, np.inf]])}, r"values\[1, 1\] is infinite"),
        ({"weights": -np.ones((2, 2))}, "weights must be finite and not negative"),
        ({"weights": np.ones((2, 3))}, r"weights have shape \(2, 3\)"),
        ({"regressors": np.ones((2, 1, 1))}, "wanted"),
        ({"regressors": np.full((2, 1, 2), np.nan)}, "not finite"),
        ({"settings": Settings(growth="logistic", cap=1.0), "weights": np.ones((2, 2))}, "knows no weights"),
        ({"start": fit(np.ones((3, 2)), FIRST_DAY)}, "start has delta of shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(**({"values": np.ones((2, 2)), "first_day": FIRST_DAY} | given))


def test_days_before_the_histories_and_impossible_quantiles_are_refused() -> None:
    fits = fit(np.ones((1, 3)), FIRST_DAY)
    with pytest.raises(ValueError, match="before the first day"):
        predict(fits, FIRST_DAY - timedelta(days=1), 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(fits, FIRST_DAY, 3, 1.0)


def test_a_search_that_does_not_end_is_told_and_forecasts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prophet_solver, "_MAX_NOISE_STEPS", 1)
    fits = fit(np.vstack([0.2 + _NOISE, np.full(60, 0.2)]), FIRST_DAY)
    assert [STATUSES[status] for status in fits.status] == ["failed", "constant"]
    assert fits.errors[0]
    assert np.isnan(predict(fits, FIRST_DAY, 60)[0]).all()


# Prophet itself ------------------------------------------------------------------------------------------------------


def test_settings_of_prophet_alone_are_fitted_by_it_behind_the_same_functions() -> None:
    """A holiday lifts its day; odd histories have the same answers as in process."""
    generator = np.random.default_rng(12)
    values = 0.3 + 0.01 * generator.standard_normal((1, 60))
    values[0, 30] += 0.2
    values = np.vstack([values, np.full((1, 60), 0.4), np.full((1, 60), np.nan)])
    new = FIRST_DAY + timedelta(days=60)
    feast = (("feast", FIRST_DAY + timedelta(days=30)), ("feast", new + timedelta(days=1)))
    fits = fit(values, FIRST_DAY, settings=Settings(holidays=feast))
    assert [STATUSES[status] for status in fits.status] == ["fitted", "constant", "empty"]
    parts = components(fits, new, 3)
    np.testing.assert_allclose(parts.regressors[0], [0, 0.2, 0], atol=0.03)
    np.testing.assert_allclose(parts.yhat[1], 0.4)
    assert np.isnan(parts.yhat[2]).all()


def test_prophets_other_forms_answer_in_the_same_units_and_its_failures_are_told() -> None:
    generator = np.random.default_rng(13)
    values = (0.3 + 0.001 * np.arange(90)) * (1 + 0.3 * np.sin(2 * np.pi * np.arange(90) / 7))
    values += 0.002 * generator.standard_normal(90)
    new = FIRST_DAY + timedelta(days=90)
    for form in (Settings(seasonality_mode="multiplicative"), Settings(growth="logistic", cap=1.0)):
        job = Job(values, FIRST_DAY, np.empty((0, 90)), form)
        fitted = fit_one(job)
        assert fitted.error == ""
        forecast = forecast_one((fitted.model, job, new, 7))
        truth = (0.3 + 0.001 * np.arange(90, 97)) * (1 + 0.3 * np.sin(2 * np.pi * np.arange(90, 97) / 7))
        yhat = forecast.trend + forecast.weekly + forecast.yearly + forecast.others
        np.testing.assert_allclose(yhat, truth, atol=0.05)
        np.testing.assert_allclose(forecast.others, 0, atol=1e-12)
        np.testing.assert_allclose(forecast.samples.mean(axis=1), yhat, atol=0.01)
    failed = fit_one(Job(values, FIRST_DAY, np.empty((0, 90)), Settings(growth="logistic", cap=-1.0)))
    assert "cap" in failed.error
    assert prophet_map.fit(np.full((1, 5), np.nan), FIRST_DAY, settings=Settings(growth="logistic", cap=1.0)).status[0]

"""Promises of the harness that compares detectors: it counts right what is known beforehand."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from assets.forecasts.panel import Panel
from benchmarks.bench_detection import BUDGET, JUDGED, SOUGHT, Trial, equal_budget, recall, watch_change
from benchmarks.bench_real import HORIZON, LEVEL, ORIGINS, losses, read
from benchmarks.forecast_methods import Ahead, Watched
from benchmarks.forecast_series import FAMILIES, Change, make_fleet

FLEET = make_fleet("mixture", 2000, 60, seed=7)


class Oracle:
    """Knows the scores without the change, so that whatever differs is one."""

    def watch(self, panel: Panel, rate: float) -> Watched:
        change = (panel.values != FLEET.panel.values) & np.isfinite(panel.values)
        p_value = np.where(np.isfinite(panel.values), rate, np.nan)
        return Watched(p_value[:, -JUDGED:], change[:, -JUDGED:])

    def ahead(self, panel: Panel, level: float) -> Ahead:
        raise NotImplementedError


@dataclass
class Coin:
    """Alarms by chance, and far more often than it was asked to."""

    seed: int

    def watch(self, panel: Panel, rate: float) -> Watched:
        p_value = np.random.default_rng(self.seed).random((len(panel.values), JUDGED))
        return Watched(p_value, p_value < np.sqrt(rate))

    def ahead(self, panel: Panel, level: float) -> Ahead:
        raise NotImplementedError


@pytest.mark.parametrize(("change", "window"), [(change, window) for change, window, _ in SOUGHT])
def test_who_knows_the_change_finds_all_of_it_and_a_coin_its_budget(change: Change, window: int) -> None:
    share, days = recall(watch_change(Trial(FLEET, Oracle()), change, BUDGET), window)
    assert (share.hits, len(days)) == (share.of, share.of)
    rate = equal_budget([Trial(FLEET, Coin(1))])
    share, _ = recall(watch_change(Trial(FLEET, Coin(2)), change, rate), window)
    expected = 1 - (1 - BUDGET) ** window
    assert share.hits / share.of == pytest.approx(expected, abs=4 * np.sqrt(expected / share.of) + 0.1 * expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_the_same_again_within_its_range_and_its_noise_is_what_it_says(family: str) -> None:
    ages = np.full(300, 120)
    fleet, again, other = (make_fleet(family, 300, 120, seed, ages) for seed in (1, 1, 2))
    values, counts = fleet.panel.values, fleet.panel.counts
    assert values.tobytes() == again.panel.values.tobytes() != other.panel.values.tobytes()
    assert (np.isnan(values) == (counts == 0)).all()
    assert np.isfinite(values[:, 0]).all()
    assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()
    # The sd around a template's own mean holds the noise and, where there is one, the structure.
    assert (np.nanstd(values, axis=1) >= 0.5 * fleet.noise[:, 0]).all()


class Yesterday:
    """The newest score for all days ahead, between 0 and 1."""

    def __init__(self, _: Panel, days: int) -> None:
        self.days = days

    def watch(self, panel: Panel, rate: float) -> Watched:
        raise NotImplementedError

    def ahead(self, panel: Panel, level: float) -> Ahead:
        assert level == LEVEL
        yhat = np.repeat(panel.values[:, -1:], self.days, axis=1)
        return Ahead(yhat, np.zeros(yhat.shape), np.ones(yhat.shape))


def test_series_of_ones_own_are_one_fleet_and_a_stair_s_losses_are_its_steps(tmp_path: Path) -> None:
    days = np.arange(np.datetime64("2025-01-01"), np.datetime64("2025-12-31"))
    stair = np.arange(len(days)) / 1000
    (tmp_path / "stair.csv").write_text(
        "date,value\n" + "".join(f"{d},{v}\n" for d, v in zip(days, stair, strict=True))
    )
    (tmp_path / "late.csv").write_text("date,value\n2025-12-01,4000\n2025-12-02,\n2025-12-03,5000\n")
    panel = read(tmp_path)
    assert [subject.template for subject in panel.subjects] == ["late", "stair"]
    assert (panel.values[1] == stair).all()
    late = np.flatnonzero(np.isfinite(panel.values[0]))
    assert [str(days[day]) for day in late] == ["2025-12-01", "2025-12-03"]
    found = losses(panel, Yesterday)
    assert np.isnan(found.error[0]).all()
    assert found.error[1] == pytest.approx(np.tile(np.arange(1, HORIZON + 1), (ORIGINS, 1)))
    ends = 1000 * (1 - LEVEL) / 2  # stair and 1 - stair above and below, in steps of a thousandth
    assert found.pinball[1, :, 1:] == pytest.approx(np.full((ORIGINS, HORIZON - 1), ends))


@pytest.mark.parametrize(("text", "said"), [("date,value\n7.5.2026,1\n", "line 2"), ("day,value\n", "has no value")])
def test_a_file_that_cannot_be_read_is_named_with_what_it_needs(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ValueError, match=f"mine.csv.*{said}.*date"):
        read(tmp_path)

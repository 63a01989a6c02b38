"""Promises of P(best), E[max], expected loss, P(worse), value remaining and the cheapest arm."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from assets.selection.best import ArmsError, Best, best, cheapest_within, probability_best

Arms = list[tuple[float, float]]
TAILS = (1e-13, 1e-10, 1e-7, 1e-4, 0.01, 0.1, 0.3, 0.5)
# Everything is promised for these: parameters of any size beside each other, arms that are nearly or quite the same.
HARD: list[Arms] = [
    [(1, 1), (1, 1)],
    [(0.1, 0.1), (0.1, 0.1), (0.1, 1e9)],
    [(0.1, 1e9), (1e9, 0.1), (0.1, 0.1)],
    [(1e9, 1e9), (1.00001e9, 1e9), (0.1, 0.1)],
    [(9e8, 1e8), (9.0001e8, 1e8), (8.9999e8, 1e8), (95, 12), (3, 0.1)],
    [(1e9, 0.3), (1e4, 0.1), (50, 0.1), (1e9, 2)],
    [(1, 1e9), (0.1, 1e3), (2, 5e8)],
    [(41, 7), (77, 25), (9, 1), (160, 45), (0.5, 0.5)],
    [(300 + i, 40 + i % 3) for i in range(20)],
    [(10 ** (i / 2 - 1), 10 ** ((7 * i % 20) / 2 - 1)) for i in range(20)],
]
parameters = st.floats(-1, 9).map(lambda exponent: float(10**exponent))
law = st.tuples(parameters, parameters)
arms = st.lists(law, min_size=2, max_size=7)
examples = settings(deadline=None, max_examples=60)


def of(laws: Arms, **options: object) -> Best:
    alpha, beta = np.array(laws, dtype=float).T
    return best(alpha[None], beta[None], **options)  # type: ignore[arg-type]


def integral(values: Callable[[float], float], edges: Iterable[float]) -> float:
    return sum(
        float(integrate.quad(values, low, high, epsabs=1e-10, epsrel=0)[0])
        for low, high in pairwise(sorted(edges))
        if high - low > 1e-12
    )


def p_best(laws: Arms) -> np.ndarray:
    return of(laws).p_best[0]


def below(arm: tuple[float, float], rate: float, complement: float) -> float:
    """The distribution function; from the complement where the rate rounds to 1."""
    a, b = arm
    return float(special.betainc(a, b, rate) if rate < 0.5 else special.betaincc(b, a, complement))


def above(arm: tuple[float, float], rate: float, complement: float) -> float:
    return below(arm[::-1], complement, rate)


def by_quantiles(laws: Arms, arm: int) -> float:
    """P(best) as the mean, over an arm's own quantiles, of the others' distribution functions: no density in it.

    Both halves of the probability are measured from their own end, so that no digit is lost at either.
    """
    a, b = laws[arm]

    def others(rate: float, complement: float) -> float:
        return float(np.prod([below(law, rate, complement) for index, law in enumerate(laws) if index != arm]))

    def from_left(u: float) -> float:
        rate = float(special.betaincinv(a, b, u))
        return others(rate, 1 - rate if rate < 0.5 else float(special.betainccinv(b, a, u)))

    def from_right(v: float) -> float:
        complement = float(special.betaincinv(b, a, v))
        return others(1 - complement if complement < 0.5 else float(special.betainccinv(a, b, v)), complement)

    lows = [(rate, 1 - rate) for law in laws for rate in special.betaincinv(*law, TAILS)]
    highs = [(1 - rest, rest) for law in laws for rest in special.betaincinv(*law[::-1], TAILS)]
    lefts = {0.0, 0.5} | {u for place in lows + highs if 0 < (u := below((a, b), *place)) < 0.5}
    rights = {0.0, 0.5} | {v for place in lows + highs if 0 < (v := above((a, b), *place)) < 0.5}
    return integral(from_left, lefts) + integral(from_right, rights)


@pytest.mark.parametrize("laws", HARD[:8])
def test_p_best_agrees_with_an_independent_quadrature(laws: Arms) -> None:
    assert p_best(laws) == pytest.approx([by_quantiles(laws, arm) for arm in range(len(laws))], abs=1e-8)


@pytest.mark.parametrize("laws", HARD[8:])
def test_p_best_of_twenty_arms_agrees_for_those_that_matter(laws: Arms) -> None:
    found = p_best(laws)
    for arm in np.argsort(found)[-3:]:
        assert found[arm] == pytest.approx(by_quantiles(laws, int(arm)), abs=1e-8)


@pytest.mark.parametrize("counts", [(3, 4, 5, 6), (30, 4, 25, 2), (1, 9, 1, 9), (200, 50, 180, 61)])
def test_p_best_of_two_arms_is_the_closed_form_for_whole_parameters(counts: tuple[int, int, int, int]) -> None:
    a, b, c, d = counts
    # P(second > first) as a finite sum, exact for whole parameters (Miller 2015, "Formulas for Bayesian A/B Testing").
    expected = sum(
        np.exp(special.betaln(a + i, b + d) - np.log(d + i) - special.betaln(1 + i, d) - special.betaln(a, b))
        for i in range(c)
    )
    assert p_best([(a, b), (c, d)])[1] == pytest.approx(expected, abs=1e-11)


@examples
@given(law, st.integers(2, 20))
def test_identical_arms_share_alike(one: tuple[float, float], count: int) -> None:
    found = of([one] * count)
    assert found.p_best[0] == pytest.approx(np.full(count, 1 / count), abs=1e-10)
    assert found.best.tolist() == [0]


def test_arms_that_differ_by_less_than_either_is_known_are_told_apart() -> None:
    for size in (1e3, 1e6, 1e9, 9e11):
        step = np.sqrt(size) / 10
        # Logits of large counts are normal, those of a thousand not to the last digit.
        expected = special.ndtr(np.log((size + step) / size) / np.sqrt(3 / size + 1 / (size + step)))
        assert p_best([(size + step, size), (size, size)])[0] == pytest.approx(
            expected, abs=1e-5 if size < 1e4 else 1e-7
        )


def test_everything_agrees_with_monte_carlo() -> None:
    laws, draws = HARD[7], 400_000
    rates = np.stack([np.random.default_rng(i).beta(*law, draws) for i, law in enumerate(laws)])
    found, largest = of(laws, incumbent=[1]), rates.max(axis=0)
    leader = int(found.best[0])
    assert found.p_best[0] == pytest.approx(np.bincount(rates.argmax(axis=0)) / draws, abs=2.5 / np.sqrt(draws))
    assert found.expected_best[0] == pytest.approx(largest.mean(), abs=5 * largest.std() / np.sqrt(draws))
    assert found.expected_loss[0] == pytest.approx((largest - rates).mean(axis=1), abs=2.5 / np.sqrt(draws))
    assert found.p_worse[0] == pytest.approx((rates < rates[1]).mean(axis=1), abs=2.5 / np.sqrt(draws))
    within = (largest / rates[leader] - 1 <= found.value_remaining[0]).mean()
    assert within == pytest.approx(0.95, abs=5 * np.sqrt(0.95 * 0.05 / draws))


@pytest.mark.parametrize("laws", HARD)
def test_the_expected_best_is_the_integral_of_its_survival_function(laws: Arms) -> None:
    places = {float(rate) for law in laws for rate in special.betaincinv(*law, [*TAILS, *(1 - q for q in TAILS[1:])])}

    def survival(rate: float) -> float:
        return 1 - float(np.prod([below(law, rate, 1 - rate) for law in laws]))

    expected = integral(survival, {0.0, 1.0} | places)
    found = of(laws)
    assert found.expected_best[0] == pytest.approx(expected, abs=1e-7)
    assert found.expected_loss[0] == pytest.approx([max(0, expected - a / (a + b)) for a, b in laws], abs=1e-7)


@pytest.mark.parametrize(
    "laws", [HARD[0], HARD[3], HARD[4], HARD[7], [(80, 20), (81, 20)], [(0.1, 0.1), (0.2, 3), (5, 50)]]
)
def test_value_remaining_is_the_quantile_that_it_says(laws: Arms) -> None:
    found = of(laws)
    leader, factor = int(found.best[0]), 1 + found.value_remaining[0]
    a, b = laws[leader]

    def others(u: float) -> float:
        rate = min(1.0, factor * float(special.betaincinv(a, b, u)))
        return float(np.prod([special.betainc(*law, rate) for index, law in enumerate(laws) if index != leader]))

    rates = [min(1.0, rate / factor) for law in laws for q in TAILS for rate in special.betaincinv(*law, [q, 1 - q])]
    reached = integral(
        others, {0.0, 1.0, *TAILS, *(float(special.betainc(a, b, rate)) for rate in [*rates, 1 / factor])}
    )
    assert found.value_remaining[0] > 0
    assert reached == pytest.approx(0.95, abs=1e-6)


def test_nothing_remains_where_the_best_is_clear_and_for_a_single_arm() -> None:
    assert of([(900, 100), (500, 500)]).value_remaining.tolist() == [0.0]
    alone = of([(3, 4)], incumbent=[0])
    assert alone.p_best.tolist() == [[1.0]]
    assert (alone.value_remaining[0], alone.expected_loss[0, 0], alone.p_worse[0, 0]) == (
        0.0,
        pytest.approx(0, abs=1e-12),
        0,
    )
    assert alone.expected_best[0] == pytest.approx(3 / 7, abs=1e-12)


def test_without_arms_there_is_no_row_and_without_templates_nothing() -> None:
    found = best([[1.0, 2.0]], [[1.0, 2.0]], [[False, False]])
    assert np.isnan(found.p_best).all()
    assert np.isnan([found.expected_best[0], found.value_remaining[0]]).all()
    assert found.best.tolist() == [-1]
    assert best(np.zeros((0, 3)), np.zeros((0, 3))).p_best.shape == (0, 3)
    assert best(np.zeros((2, 0)), np.zeros((2, 0))).best.tolist() == [-1, -1]


@examples
@given(arms)
def test_probabilities_sum_to_one_and_losses_are_not_negative(laws: Arms) -> None:
    found = of(laws, incumbent=[0])
    assert found.p_best.sum() == pytest.approx(1, abs=1e-9)
    assert (found.p_best >= 0).all()
    assert (found.expected_loss >= 0).all()
    assert found.value_remaining[0] >= 0
    assert ((found.p_worse >= 0) & (found.p_worse <= 1)).all()


@examples
@given(arms, st.data())
def test_naming_the_arms_in_another_order_changes_nothing(laws: Arms, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(laws))))
    one, other = of(laws, incumbent=[order[0]]), of([laws[i] for i in order], incumbent=[0])
    for field in ("p_best", "expected_loss", "p_worse"):
        assert getattr(other, field)[0] == pytest.approx(getattr(one, field)[0, order], abs=1e-12)
    assert other.expected_best == pytest.approx(one.expected_best, abs=1e-12)
    assert laws[order[other.best[0]]] == laws[one.best[0]] or one.p_best[0, order[other.best[0]]] == pytest.approx(
        one.p_best.max(), abs=1e-12
    )


@examples
@given(arms)
def test_minimising_is_the_mirror(laws: Arms) -> None:
    least, mirrored = of(laws, incumbent=[0], minimise=True), of([law[::-1] for law in laws], incumbent=[0])
    for field in ("p_best", "best", "expected_loss", "p_worse", "value_remaining"):
        assert (getattr(least, field) == getattr(mirrored, field)).all()
    assert least.expected_best[0] == 1 - mirrored.expected_best[0]


def test_minimising_finds_the_least_rate() -> None:
    rates = np.stack([np.random.default_rng(i).beta(*law, 200_000) for i, law in enumerate(HARD[7])])
    least = of(HARD[7], minimise=True)
    assert least.p_best[0] == pytest.approx(np.bincount(rates.argmin(axis=0)) / 200_000, abs=0.005)
    assert least.expected_best[0] == pytest.approx(rates.min(axis=0).mean(), abs=0.003)
    assert least.expected_loss[0] == pytest.approx((rates - rates.min(axis=0)).mean(axis=1), abs=0.003)


@examples
@given(arms, st.integers(0, 6), st.sampled_from([1.0, 0.01, 1000.0]))
def test_one_more_success_never_lowers_its_own_arm(laws: Arms, which: int, successes: float) -> None:
    arm = which % len(laws)
    more = list(laws)
    more[arm] = laws[arm][0] + successes, laws[arm][1]
    assert p_best(more)[arm] >= p_best(laws)[arm] - 1e-9


@examples
@given(st.lists(st.lists(law, min_size=0, max_size=6), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_templates_and_gaps_beside_it_change_nothing_and_the_same_input_gives_the_same_bytes(
    templates: list[Arms], random: object
) -> None:
    shape = len(templates), 8
    alpha, beta, mask = np.full(shape, np.nan), np.full(shape, -1.0), np.zeros(shape, dtype=bool)
    places = [sorted(random.sample(range(8), len(laws))) for laws in templates]  # type: ignore[attr-defined]
    for row, laws in enumerate(templates):
        for place, (a, b) in zip(places[row], laws, strict=True):
            alpha[row, place], beta[row, place], mask[row, place] = a, b, True
    incumbent = np.array([place[-1] if place else -1 for place in places])
    together, again = (best(alpha, beta, mask, incumbent=incumbent) for _ in range(2))
    for row, laws in enumerate(templates):
        if laws:
            alone = of(laws, incumbent=[len(laws) - 1])
            for field in ("p_best", "expected_loss", "p_worse"):
                assert getattr(together, field)[row, places[row]] == pytest.approx(getattr(alone, field)[0], abs=1e-11)
            assert together.best[row] in places[row]
    assert np.isnan(together.p_best[~mask]).all()
    assert (probability_best(alpha, beta, mask)[mask] == together.p_best[mask]).all()
    for field in ("p_best", "best", "expected_best", "expected_loss", "p_worse", "value_remaining"):
        assert getattr(together, field).tobytes() == getattr(again, field).tobytes()


def test_only_templates_with_an_incumbent_compare_with_it() -> None:
    found = best([[5, 9], [5, 9]], [[5, 5], [5, 5]], incumbent=[-1, 1])
    assert np.isnan(found.p_worse[0]).all()
    assert found.p_worse[1].tolist() == [pytest.approx(found.p_best[1, 1], abs=1e-12), 0.0]


@pytest.mark.parametrize("wrong", [0.05, -1, np.nan, np.inf, 1e13])
def test_impossible_parameters_are_refused_by_name(wrong: float) -> None:
    with pytest.raises(ArmsError, match=r"beta .* of template 1, arm 0 is impossible"):
        best([[1, 1], [1, 1]], [[1, 1], [wrong, 1]])
    assert best([[1, 1]], [[1, wrong]], [[True, False]]).p_best[0, 0] == 1


@pytest.mark.parametrize("incumbent", [[2], [-2], [1], [0, 0], [0.0]])
def test_an_incumbent_that_is_no_arm_is_refused(incumbent: list[int]) -> None:
    with pytest.raises(ArmsError, match="incumbent"):
        best([[1, 1]], [[1, 1]], [[True, False]], incumbent=incumbent)
    with pytest.raises(ArmsError, match="shape"):
        best([1, 1], [1, 1])


@pytest.mark.parametrize(
    ("loss", "cost", "tolerance", "expected"),
    [
        ([0.001, 0.02, 0.2], [5.0, 2.0, 1.0], 0.02, 1),
        ([0.001, 0.02, 0.2], [5.0, 2.0, 1.0], 0.2, 2),
        ([0.03, 0.02, 0.2], [1.0, 2.0, 0.5], 0.01, 1),
        ([0.001, 0.02, 0.2], [5.0, np.nan, 1.0], 0.02, 0),
        ([0.02, 0.001, 0.2], [np.nan, np.nan, 1.0], 0.02, 1),
        ([0.02, 0.001, 0.2], [3.0, 3.0, 3.0], 1.0, 1),
        ([0.0, 0.0, 0.2], [3.0, 3.0, 3.0], 0.0, 0),
    ],
)
def test_the_cheapest_within_the_tolerance(
    loss: list[float], cost: list[float], tolerance: float, expected: int
) -> None:
    assert cheapest_within([loss], [cost], [[True] * 3], tolerance).tolist() == [expected]


def test_an_arm_that_does_not_exist_is_not_cheap_and_impossible_costs_are_refused() -> None:
    assert cheapest_within([[0.0, np.nan]], [[2.0, 1.0]], [[True, False]], 1.0).tolist() == [0]
    assert cheapest_within([[np.nan]], [[1.0]], [[False]], 0.1).tolist() == [-1]
    for wrong in (-1.0, np.inf):
        with pytest.raises(ArmsError, match=r"cost .* of template 0, arm 1"):
            cheapest_within([[0.0, 0.1]], [[1.0, wrong]], [[True, True]], 0.1)
    with pytest.raises(ArmsError, match="tolerance"):
        cheapest_within([[0.0]], [[1.0]], [[True]], -0.1)

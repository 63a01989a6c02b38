"""What exact selection costs: P(best) against drawing and against scipy's quadrature, and recommendations a second.

CPU seconds of one process. What is dear by the other way is measured on fewer templates or recommendations and scaled;
the figures say on how many. `mabwiser`, a library of bandits, is measured where it is installed.
"""

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString
from uuid import UUID

import numpy as np
import numpy.typing as npt
from scipy import integrate, stats

from assets.selection.best import best, probability_best
from assets.selection.shares import pick, share_bounds, unit_intervals
from benchmarks.fresh_databases import fresh_database, fresh_server
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full
from storage.database import Connection, connect

_ARMS = 5
_DRAWS = 10_000
_PROMISED_ERROR = 1e-6
_BY_QUADRATURE = 40
_BY_LOOP = 2_000
_BREAKS = np.array([1e-9, 1e-5, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-5, 1 - 1e-9])

_TABLES = """
create temporary table keys (template_id uuid, key text);
create temporary table shares (template_id uuid, arm int, share_lo double precision, share_hi double precision);
"""
# The place of a key is computed once, not once an arm.
_PICK = """
with placed as materialized (
    select template_id, marts.share_of_key(template_id, key) as place from keys
)
select count(*), sum(shares.arm), sum(shares.share_hi - shares.share_lo)
from placed
inner join shares
    on shares.template_id = placed.template_id
    and placed.place >= shares.share_lo
    and placed.place < shares.share_hi
"""

Floats = npt.NDArray[np.float64]


def run() -> list[Row]:
    """Of 1,000 templates and 200,000 recommendations; with `--full` of 10,000 and 2M."""
    templates = 10_000 if is_full() else 1_000
    alpha, beta = _posteriors(templates)
    probability_best(alpha[:10], beta[:10])
    return [*_probabilities(alpha, beta), *_recommendations(alpha, beta, 2_000_000 if is_full() else 200_000)]


def _posteriors(templates: int) -> tuple[Floats, Floats]:
    """Arms whose rates lie about as far apart as they are known, after 10 to 1,000 feedbacks each."""
    generator = np.random.default_rng(6)
    count: Floats = np.exp(generator.uniform(np.log(10), np.log(1000), (templates, _ARMS)))
    rate = np.clip(generator.uniform(0.5, 0.97, (templates, 1)) + generator.normal(0, 0.03, count.shape), 0.01, 0.99)
    success, feedback = np.round(rate * count), np.ceil(count)
    return 1.0 + success, 1.0 + feedback - success


def _cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


# P(best) --------------------------------------------------------------------------------------------------------------


def _probabilities(alpha: Floats, beta: Floats) -> list[Row]:
    exact: list[Floats] = []
    drawn: list[Floats] = []
    reference: list[Floats] = []
    templates = len(alpha)
    some = np.linspace(0, templates - 1, _BY_QUADRATURE).astype(int)
    seconds = min(_cpu(lambda: exact.append(probability_best(alpha, beta))) for _ in range(3))
    everything = _cpu(lambda: best(alpha, beta, incumbent=np.zeros(templates, dtype=int)))
    drawing = _cpu(lambda: drawn.append(_by_drawing(alpha, beta)))
    by_scipy = _cpu(lambda: reference.append(_by_scipy(alpha[some], beta[some]))) * templates / len(some)
    error = np.abs(exact[0][some] - reference[0]).max()
    size = f"{templates:,} templates x {_ARMS} arms"
    return [
        Row(
            f"CPU of P(best) / of {_DRAWS:,} draws",
            seconds / drawing,
            "<= 0.1",
            f"{size}: {seconds:.2f} s; {drawing:.1f} s, which is off by up to {np.abs(drawn[0] - exact[0]).max():.3f}",
        ),
        Row(
            f"CPU of P(best), expected best, losses and value remaining / of {_DRAWS:,} draws",
            everything / drawing,
            "",
            f"{size}: {everything:.2f} s; {drawing:.1f} s without any of these",
        ),
        Row(
            "CPU of P(best) / of a loop of scipy.integrate.quad",
            seconds / by_scipy,
            "",
            f"{size}: {seconds:.2f} s; {by_scipy:.0f} s, scaled from {len(some)} templates",
        ),
        Row(
            "largest absolute error of P(best) / the promised 1e-6",
            float(error) / _PROMISED_ERROR,
            "<= 1",
            f"{error:.1e} from quad to 1e-11, on {len(some)} templates",
        ),
    ]


def _by_drawing(alpha: Floats, beta: Floats) -> Floats:
    generator = np.random.default_rng(1)
    found = np.empty(alpha.shape)
    for row, (a, b) in enumerate(zip(alpha, beta, strict=True)):
        largest = generator.beta(a, b, (_DRAWS, _ARMS)).argmax(axis=1)
        found[row] = np.bincount(largest, minlength=_ARMS) / _DRAWS
    return found


def _by_scipy(alpha: Floats, beta: Floats) -> Floats:
    return np.array([_template_by_scipy(a, b) for a, b in zip(alpha, beta, strict=True)])


def _template_by_scipy(a: Floats, b: Floats) -> list[float]:
    edges = [0.0, *np.unique(stats.beta.ppf(_BREAKS[:, None], a, b)).tolist(), 1.0]

    def integrand(rate: float, arm: int) -> float:
        below = stats.beta.cdf(rate, a, b)
        return float(stats.beta.pdf(rate, a[arm], b[arm]) * np.delete(below, arm).prod())

    return [
        sum(integrate.quad(integrand, *edge, args=(arm,), epsabs=1e-11, epsrel=0)[0] for edge in pairwise(edges))
        for arm in range(len(a))
    ]


# Recommendations ------------------------------------------------------------------------------------------------------


def _recommendations(alpha: Floats, beta: Floats, count: int) -> list[Row]:
    low, high = share_bounds(probability_best(alpha, beta))
    rows = np.arange(count) % len(alpha)
    ids = [UUID(int=number + 1) for number in range(len(alpha))]
    keys = [[f"document-{key}" for key in range(row, count, len(ids))] for row in range(len(ids))]
    places: list[Floats] = []
    hashing = _cpu(lambda: places.extend(map(unit_intervals, ids, keys)))
    # As keys come: one of each template in turn.
    units = np.empty(count)
    for row, of_template in enumerate(places):
        units[row :: len(ids)] = of_template
    picked: list[npt.NDArray[np.intp]] = []
    picking = min(_cpu(lambda: picked.append(pick(low[rows], high[rows], units))) for _ in range(3))
    loop = _BY_LOOP / _cpu(lambda: _by_rvs_loop(alpha, beta, rows[:_BY_LOOP]))
    in_sql = _per_second_in_sql(ids, keys, low, high, picked[0])
    peer = _per_second_of_mabwiser(alpha[0], beta[0])
    rate, hashed = count / picking, count / (picking + hashing)
    beside = f"{loop:,.0f}/s by beta.rvs, measured on {_BY_LOOP:,}"
    return [
        Row(
            "recommendations a second, vectorised / by a loop of beta.rvs",
            rate / loop,
            ">= 1M/s",
            f"{rate:,.0f}/s; {beside}",
        ),
        Row("the same with hashing the keys", hashed / loop, "", f"{hashed:,.0f}/s; {beside}"),
        Row(
            "recommendations a second, in SQL / by a loop of beta.rvs",
            in_sql / loop,
            ">= 50k/s",
            f"{in_sql:,.0f}/s by the clock, one connection; {beside}",
        ),
        Row(
            "recommendations a second, vectorised / by mabwiser",
            None if peer is None else rate / peer,
            "",
            "mabwiser is not installed" if peer is None else f"{rate:,.0f}/s; {peer:,.0f}/s, measured on {_BY_LOOP:,}",
        ),
    ]


def _by_rvs_loop(alpha: Floats, beta: Floats, rows: npt.NDArray[np.intp]) -> list[int]:
    generator = np.random.default_rng(2)
    return [
        int(
            np.argmax(
                [stats.beta.rvs(a, b, random_state=generator) for a, b in zip(alpha[row], beta[row], strict=True)]
            )
        )
        for row in rows
    ]


def _per_second_in_sql(
    ids: list[UUID], keys: list[list[str]], low: Floats, high: Floats, expected: npt.NDArray[np.intp]
) -> float:
    shares = zip(ids, low.tolist(), high.tolist(), strict=True)
    with (
        TemporaryDirectory(prefix="tidemark-bench-") as home,
        fresh_server(Path(home) / "postgres") as server,
        connect(fresh_database(server), autocommit=True) as connection,
    ):
        connection.execute(_TABLES)
        _copy(connection, "keys", [(template, key) for template, some in zip(ids, keys, strict=True) for key in some])
        _copy(connection, "shares", [(i, arm, lo[arm], hi[arm]) for i, lo, hi in shares for arm in range(_ARMS)])
        connection.execute("analyze keys, shares")
        started = time.perf_counter()
        row = connection.execute(_PICK).fetchone()
        seconds = time.perf_counter() - started
    assert row is not None
    assert tuple(row[:2]) == (len(expected), expected.sum())
    return len(expected) / seconds


def _copy(connection: Connection, table: LiteralString, rows: list[tuple[object, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def _per_second_of_mabwiser(alpha: Floats, beta: Floats) -> float | None:
    """Its Thompson sampling, taught the same feedback on one template; None if it isn't installed."""
    if find_spec("mabwiser") is None:
        return None
    mab = import_module("mabwiser.mab")
    arms = list(range(_ARMS))
    outcomes = [
        (arm, reward) for arm in arms for reward, n in ((1, alpha[arm]), (0, beta[arm])) for _ in range(int(n) - 1)
    ]
    bandit = mab.MAB(arms, mab.LearningPolicy.ThompsonSampling(), seed=3)
    bandit.fit([arm for arm, _ in outcomes], [reward for _, reward in outcomes])
    return _BY_LOOP / _cpu(lambda: [bandit.predict() for _ in range(_BY_LOOP)])

"""Promises of shares and of the arm that a key falls to, in Python and in SQL."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assets.selection.shares import (
    FLOOR,
    UNHEARD,
    SharesError,
    canonical_order,
    held_back,
    pick,
    share_bounds,
    unit_interval,
    unit_intervals,
)
from storage.database import Connection, Database
from storage.errors import UsageError

TEMPLATE = UUID("6f1de2c1-4c8e-5a70-9d53-1a7c3f0f7a11")
weights = st.one_of(st.just(0.0), st.floats(1e-12, 1.0))
templates = st.lists(st.lists(weights, min_size=0, max_size=8).filter(lambda row: not row or sum(row) > 0), min_size=1)
floors = st.sampled_from([0.0, 0.05, 0.3, 1.0])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def table(rows: list[list[float]], random: object) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities at random places among eight, with their mask."""
    p, mask = np.full((len(rows), 8), np.nan), np.zeros((len(rows), 8), dtype=bool)
    for number, row in enumerate(rows):
        places = sorted(random.sample(range(8), len(row)))  # type: ignore[attr-defined]
        p[number, places], mask[number, places] = np.array(row) / sum(row) if row else [], True
    return p, mask


@settings(deadline=None)
@given(templates, floors, st.randoms(use_true_random=False))
def test_shares_tile_the_unit_interval_and_none_is_below_its_floor(
    rows: list[list[float]], floor: float, random: object
) -> None:
    p, mask = table(rows, random)
    low, high = share_bounds(p, mask, floor)
    for number, row in enumerate(rows):
        lows, highs = low[number, mask[number]], high[number, mask[number]]
        if row:
            assert (lows[0], highs[-1]) == (0.0, 1.0)
        assert lows[1:].tobytes() == highs[:-1].tobytes()
        assert highs - lows == pytest.approx(
            floor / len(row) + (1 - floor) * p[number, mask[number]] if row else [], abs=1e-12
        )
        assert (highs - lows >= floor / max(len(row), 1) - 1e-12).all()
        assert (highs >= lows).all()
    assert np.isnan(low[~mask]).all()
    assert np.isnan(high[~mask]).all()


@settings(deadline=None)
@given(templates, floors, st.randoms(use_true_random=False))
def test_what_next_to_nothing_was_heard_of_gets_a_tenth_at_most_and_the_others_what_thompson_sampling_gives_them(
    rows: list[list[float]], floor: float, random: object
) -> None:
    p, mask = table(rows, random)
    heard = np.array([[random.random() < 0.5 for _ in range(8)] for _ in rows])  # type: ignore[attr-defined]
    dealt = held_back(p, heard, mask)
    low, high = share_bounds(dealt, mask, floor)
    for number, row in enumerate(rows):
        at, of = mask[number], heard[number] & mask[number]
        if not row:
            continue
        assert dealt[number, at].sum() == pytest.approx(1, abs=1e-9)
        assert (high - low)[number, at].min() >= floor / len(row) - 1e-12
        unheard, known = dealt[number, at & ~of].sum(), p[number, of].sum()
        if p[number, at & ~of].sum() <= UNHEARD or known == 0:
            assert dealt[number, at].tobytes() == p[number, at].tobytes(), "nothing to hold back"
            continue
        assert unheard == pytest.approx(UNHEARD)
        # Among those that are heard of the law stays as it was; so it does among the others.
        for those in (of, at & ~of):
            ratio = dealt[number, those] * p[number, those].sum() - p[number, those] * dealt[number, those].sum()
            assert ratio == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(templates, st.randoms(use_true_random=False), st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_every_place_falls_to_exactly_the_arm_whose_share_holds_it(
    rows: list[list[float]], random: object, places: list[float]
) -> None:
    p, mask = table(rows, random)
    low, high = share_bounds(p, mask)
    for number, row in enumerate(rows):
        borders = [*places, *low[number, mask[number]], float(np.nextafter(1.0, 0.0))]
        picked = pick(low[number], high[number], borders)
        again = pick(np.tile(low[number], (len(borders), 1)), np.tile(high[number], (len(borders), 1)), borders)
        assert (picked == again).all()
        for place, arm in zip(borders, picked, strict=True):
            assert arm == -1 if not row else low[number, arm] <= place < high[number, arm]


def test_the_arms_order_is_that_of_code_points_and_not_a_language_s() -> None:
    arms = [("b", "x"), ("a", "é"), ("B", "x"), ("a", "z"), ("a", "Z")]
    assert [arms[index] for index in canonical_order(arms)] == [
        ("B", "x"),
        ("a", "Z"),
        ("a", "z"),
        ("a", "é"),
        ("b", "x"),
    ]


@pytest.mark.parametrize(
    ("p_best", "floor", "message"),
    [
        ([[0.5, 0.6]], 0.05, "sums to"),
        ([[1.5, -0.5]], 0.05, "template 0, arm 0"),
        ([[0.5, np.nan]], 0.05, "template 0, arm 1"),
        ([[1.0]], 1.1, "floor"),
        ([1.0], 0.05, "shape"),
    ],
)
def test_impossible_probabilities_and_floors_are_refused_by_name(p_best: object, floor: float, message: str) -> None:
    with pytest.raises(SharesError, match=message):
        share_bounds(p_best, floor=floor)  # type: ignore[arg-type]


def test_a_key_that_postgresql_cannot_hold_is_refused() -> None:
    for key in ("a\0b", "\ud800"):
        with pytest.raises(UsageError, match="key"):
            unit_interval(TEMPLATE, key)


def test_keys_fall_evenly_and_each_arm_gets_its_share() -> None:
    places = unit_intervals(TEMPLATE, [f"document-{number}" for number in range(100_000)])
    assert stats.chisquare(np.histogram(places, 1000, (0, 1))[0]).pvalue > 0.001
    low, high = share_bounds([[0.9, 0.1, 0.0]])
    taken = np.bincount(pick(low[0], high[0], places), minlength=3)
    assert stats.chisquare(taken, (high - low)[0] * len(places)).pvalue > 0.001
    assert (high - low)[0].min() == pytest.approx(FLOOR / 3, abs=1e-12)
    # Keys fall anew on each template: who is in a rare arm here need not be there.
    other = unit_intervals(UUID(int=1), [f"document-{number}" for number in range(100_000)])
    assert abs(np.corrcoef(places, other)[0, 1]) < 0.02


def test_the_place_of_a_key_is_the_beginning_of_its_hash_as_any_tool_computes_it() -> None:
    # printf 'TEMPLATE:KEY' | sha256sum | cut -c1-14
    assert unit_interval(TEMPLATE, "invoice-4711") == (0xFCAB155CD5182A >> 3) / 2**53
    assert unit_interval(UUID(int=0), "") == (0x3716E724091650 >> 3) / 2**53
    assert unit_interval(UUID(int=0), "é") == (0xD8F1E1178793E2 >> 3) / 2**53


def places_in_sql(connection: Connection, keys: list[tuple[UUID, str]]) -> list[float]:
    rows = connection.execute(
        "select marts.share_of_key(template_id, key) from unnest(%s::uuid[], %s::text[]) with ordinality"
        " as keys (template_id, key, place) order by place",
        ([template for template, _ in keys], [key for _, key in keys]),
    )
    return [row[0] for row in rows]


def test_python_and_sql_agree_bit_for_bit(connection: Connection) -> None:
    compared = 0

    @settings(deadline=None, max_examples=60, database=None)
    @given(st.lists(st.tuples(st.uuids(), texts), min_size=20, max_size=100))
    def agree(keys: list[tuple[UUID, str]]) -> None:
        nonlocal compared
        in_python = [unit_interval(template, key) for template, key in keys]
        assert np.array(places_in_sql(connection, keys)).tobytes() == np.array(in_python).tobytes()
        compared += len(keys)

    agree()
    many = [(TEMPLATE, f"{number}'é\\{'🧾' * (number % 3)}") for number in range(3000)]
    assert places_in_sql(connection, many) == unit_intervals(TEMPLATE, [key for _, key in many]).tolist()
    assert compared >= 1200


def test_readers_may_ask_where_a_key_falls(database: Database, connection: Connection) -> None:
    expected = [(unit_interval(TEMPLATE, "a"), None)]
    for role in ("bi_reader", "api_reader"):
        with database.connect() as reader:
            reader.execute(f"set role {role}")  # type: ignore[arg-type]
            asked = "select marts.share_of_key(%s, 'a'), marts.share_of_key(null, 'a')"
            assert reader.execute(asked, (TEMPLATE,)).fetchall() == expected
    granted = "select has_function_privilege('public', 'marts.share_of_key(uuid, text)', 'execute')"
    assert connection.execute(granted).fetchall() == [(False,)]


def test_a_pipeline_picks_in_sql_what_python_picks(connection: Connection) -> None:
    low, high = share_bounds([[0.7, 0.25, 0.05]])
    keys = [f"key {number}" for number in range(2000)]
    rows = connection.execute(
        """
        select shares.arm
        from unnest(%(keys)s::text[]) with ordinality as asked (key, place)
        inner join unnest(%(low)s::float8[], %(high)s::float8[]) with ordinality as shares (lo, hi, arm)
            on marts.share_of_key(%(template)s, asked.key) >= shares.lo
            and marts.share_of_key(%(template)s, asked.key) < shares.hi
        order by asked.place
        """,
        {"keys": keys, "low": low[0].tolist(), "high": high[0].tolist(), "template": TEMPLATE},
    ).fetchall()
    assert [row[0] - 1 for row in rows] == pick(low[0], high[0], unit_intervals(TEMPLATE, keys)).tolist()

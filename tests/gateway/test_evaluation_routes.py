"""`GET /v1/evaluations` and what hangs on it: a tenant's evaluations as they landed, nobody else's."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import orjson
import pytest
from door import problem, serving
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from selection_rows import arm, plant_recommendation

from assets.evaluations.landing import land
from assets.evaluations.reading import Wanted, find_evaluations
from assets.evaluations.verdicts import Kind, Line
from gateway.pages import seeing
from storage.api_keys import create_key
from storage.database import Connection, Database, connect
from storage.leaks import find_leaks
from storage.pool import connection_pool
from storage.tenants import create_tenant

FIRST = datetime(2026, 4, 29, tzinfo=UTC)
TEMPLATES = ("claim", "invoice", "ünï 'x' %s")
_DRAWN = random.Random(5)  # noqa: S311


def _record(number: int) -> dict[str, Any]:
    """One of 240 evaluations over two months, six at each moment."""
    drawn = random.Random(number)  # noqa: S311
    record: dict[str, Any] = {
        "record_id": f"r{number}",
        "evaluation_id": str(UUID(int=drawn.getrandbits(128))),
        "template": TEMPLATES[number % 3],
        "extractor_vendor": f"vendor-{number % 2}",
        "extractor_model": f"model-{number % 5}",
        "drift_score": round(drawn.random(), 2),
        "created_at": (FIRST + timedelta(hours=2 * (number // 6))).isoformat(),
    }
    if number % 4:
        record |= {"reliability_score": round(drawn.random(), 2), "score": drawn.choice([-3, 0, 1e300, 2.5])}
    if number % 3:
        record |= {"decision": drawn.choice(["accept", "review", "reject"]), "label": drawn.choice(["low", "high"])}
    if number % 6 == 0:
        record["embedding"] = [round(drawn.gauss(0, 1), 3) for _ in range(384)]
    return record


RECORDS = [_record(number) for number in range(240)]
NEWEST_FIRST = sorted(RECORDS, key=lambda record: (record["created_at"], record["evaluation_id"]), reverse=True)
PLAIN, RICH = RECORDS[1], RECORDS[0]
RICH["features"] = {"pages": 3, "ratio": 1e300, "tiny": -0.0, "lang": "ünï", "scanned": True, "none": None}
RICH |= {
    "decision_id": "d-1",
    "assigned_by": "share",
    "snapshot_id": str(UUID(int=8)),
    "cost_usd": 0.25,
    "latency_ms": 1,
}
RICH["eligible_extractors"] = sorted({"v/m", f"{RICH['extractor_vendor']}/{RICH['extractor_model']}"})


@dataclass(frozen=True)
class World:
    """Two tenants' evaluations, and the door to them."""

    database: Database
    owner: Connection
    client: httpx.Client
    keys: dict[str, dict[str, str]]

    def get(self, path: str = "", tenant: str = "acme", **parameters: Any) -> httpx.Response:
        return self.client.get(f"/v1/evaluations{path}", params=parameters, headers=self.keys[tenant])

    def ids(self, limit: int, **parameters: Any) -> list[str]:
        """The identifiers on all pages."""
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.get(limit=limit, **parameters, **cursor)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert set(page) == {"data", "next_cursor"}
            found += [row["evaluation_id"] for row in page["data"]]
            if page["next_cursor"] is None:
                return found
            assert len(found) <= len(RECORDS)
            assert len(page["data"]) == limit
            cursor = {"cursor": page["next_cursor"]}


def _land(owner: Connection, tenant: str, kind: Kind, records: list[dict[str, Any]]) -> None:
    lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
    assert not land(owner, tenant, kind, lines, door="test", now=FIRST + timedelta(days=60)).problems


@pytest.fixture(scope="module")
def world(prepared: Callable[..., Database]) -> Iterator[World]:
    database = prepared()
    now = datetime.now(UTC)
    with connect(database.platform, autocommit=True) as owner:
        for tenant in ("acme", "globex"):
            create_tenant(owner, tenant)
        _land(owner, "acme", "evaluations", _DRAWN.sample(RECORDS, len(RECORDS)))
        theirs = {"record_id": "theirs", "evaluation_id": str(UUID(int=7)), "embedding": RICH["embedding"]}
        _land(owner, "globex", "evaluations", [PLAIN | theirs])
        at = "2026-05-20T00:00:00Z"
        for about, feedback in (
            ({"record_id": RICH["record_id"]}, {"success": False, "created_at": "2026-05-19T00:00:00Z"}),
            ({"evaluation_id": RICH["evaluation_id"]}, {"fields_correct": 3, "fields_total": 3, "created_at": at}),
        ):
            _land(owner, "acme", "feedback", [about | feedback])
        keys = {tenant: {"X-API-Key": create_key(owner, tenant, ["read"], now=now)[1]} for tenant in ("acme", "globex")}
        with serving(database) as client:
            yield World(database, owner, client, keys)


WANTED = st.fixed_dictionaries(
    {},
    optional={
        "template": st.sampled_from([*TEMPLATES, "nothing"]),
        "extractor_vendor": st.sampled_from(["vendor-0", "vendor-1"]),
        "extractor_model": st.sampled_from(["model-0", "model-4"]),
        "label": st.sampled_from(["low", "high"]),
        "decision": st.sampled_from(["review", "undecided"]),
        "drift_score_min": st.sampled_from([0, 0.25, 0.9]),
        "drift_score_max": st.sampled_from([0.5, 1]),
        "reliability_score_min": st.sampled_from([0.1]),
        "reliability_score_max": st.sampled_from([0.7]),
        "score_min": st.sampled_from([-5, 2.5]),
        "score_max": st.sampled_from([1, 1e300]),
        "from": st.sampled_from(["2026-04-30T22:00:00Z", "2026-05-01T01:00:00+03:00"]),
        "to": st.sampled_from(["2026-05-02T00:00:00Z"]),
    },
)


def _is_wanted(record: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for name, value in wanted.items():
        bound = {"_min": 1, "_max": -1}.get(name[-4:])
        if bound is not None:
            score = record.get(name[:-4])
            if score is None or (score - value) * bound < 0:
                return False
        elif name in ("from", "to"):
            is_before = datetime.fromisoformat(record["created_at"]) < datetime.fromisoformat(value)
            if is_before != (name == "to"):
                return False
        elif record.get(name, "undecided" if name == "decision" else None) != value:
            return False
    return True


@given(wanted=WANTED, limit=st.sampled_from([1, 7, 60, 1000]))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_hold_exactly_what_the_filters_admit_once_each_and_the_newest_first(
    world: World, wanted: dict[str, Any], limit: int
) -> None:
    expected = [record["evaluation_id"] for record in NEWEST_FIRST if _is_wanted(record, wanted)]
    assert world.ids(limit if limit > 1 or len(expected) < 20 else 20, **wanted) == expected


_HISTORY = """
insert into raw.evaluations (
    evaluation_id, tenant_id, record_key, record_id, batch_id, template_id, template, extractor_vendor, extractor_model,
    decision, created_at
)
select
    gen_random_uuid(), 'initech', gen_random_uuid(), 'r' || number, gen_random_uuid(), gen_random_uuid(), 'invoice',
    'v', 'm', 'accept', timestamptz '2026-08-01T00:00:00Z' + number / 5000 * interval '1 day'
from generate_series(1, 20000) as number
"""


def test_what_a_page_costs_is_the_rows_on_it_whatever_the_history_and_its_statistics(world: World) -> None:
    world.owner.execute("select raw.ensure_evaluations_month('2026-08-01')")
    world.owner.execute(_HISTORY)
    with connection_pool(world.database.platform) as pool:
        for prepare in ("select 1", "analyze raw.evaluations"):
            world.owner.execute(prepare)  # type: ignore[call-overload]
            for after in (None, (datetime(2026, 8, 3, tzinfo=UTC), UUID(int=2**127))):
                with seeing(pool, "initech") as connection:
                    before = _rows_read(connection)
                    wanted = Wanted(decision="accept")
                    assert len(find_evaluations(connection, "initech", wanted, after=after, limit=500)) == 500
                    assert _rows_read(connection) - before == 500, (prepare, after)


def _rows_read(connection: Connection) -> int:
    row = connection.execute(
        """select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_all_tables
        where schemaname = 'raw' and relname like 'evaluations%'"""
    ).fetchone()
    return int(row[0]) if row else 0


def test_one_evaluation_is_shown_as_it_was_sent_with_the_newest_feedback(world: World) -> None:
    shown = orjson.loads(world.get(f"/{RICH['evaluation_id']}").content)
    for name, value in RICH.items():
        if name == "embedding":
            assert np.allclose(shown[name], value, atol=0.002)  # halves
        elif name == "created_at":
            assert datetime.fromisoformat(shown[name]) == datetime.fromisoformat(value)
        else:
            assert shown[name] == value, name
    assert shown["feedback"] == {
        "success": True,
        "fields_correct": 3,
        "fields_total": 3,
        "created_at": "2026-05-20T00:00:00.000000Z",
    }
    assert "tenant_id" not in shown
    plain = world.get(f"/{PLAIN['evaluation_id']}").json()
    assert (plain["features"], plain["embedding"], plain["feedback"], plain["decision"]) == (
        None,
        None,
        None,
        PLAIN.get("decision", "undecided"),
    )


@pytest.mark.parametrize("parameters", [{}, {"template": "claim", "to": "2026-05-01T00:00:00Z"}])
def test_nearest_are_those_of_the_smallest_cosine_distance(world: World, parameters: dict[str, str]) -> None:
    target = np.array(RICH["embedding"])
    distances = sorted(
        (1 - float(target @ other / np.linalg.norm(target) / np.linalg.norm(other)), record["evaluation_id"])
        for record in RECORDS
        if "embedding" in record and record is not RICH and _is_wanted(record, dict(parameters))
        for other in [np.array(record["embedding"])]
    )
    answer = world.get(f"/{RICH['evaluation_id']}/nearest", k=7, **parameters).json()
    assert [row["evaluation_id"] for row in answer["data"]] == [evaluation_id for _, evaluation_id in distances[:7]]
    assert np.allclose([row["distance"] for row in answer["data"]], [d for d, _ in distances[:7]], atol=0.001)
    assert answer["searched"]["evaluations"] == sum(_is_wanted(record, dict(parameters)) for record in RECORDS)
    assert len(world.get(f"/{RICH['evaluation_id']}/nearest").json()["data"]) == 10


def test_nearest_to_an_evaluation_without_embedding_is_refused_with_the_reason(world: World) -> None:
    assert "without an embedding" in str(problem(world.get(f"/{PLAIN['evaluation_id']}/nearest"), 422)["detail"])


@given(unknown=st.uuids())
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_tenants_evaluation_reads_byte_for_byte_as_an_unknown_one(world: World, unknown: UUID) -> None:
    for theirs in (RICH["evaluation_id"], PLAIN["evaluation_id"]):
        for path in ("", "/nearest"):
            crossed = world.get(f"/{theirs}{path}", "globex")
            problem(crossed, 404)
            assert crossed.content == world.get(f"/{unknown}{path}", "globex").content


def test_another_tenants_rows_are_on_no_page_and_no_neighbours(world: World) -> None:
    assert [row["record_id"] for row in world.get(tenant="globex").json()["data"]] == ["theirs"]
    assert world.get(f"/{UUID(int=7)}/nearest", "globex", k=100).json()["data"] == []
    assert str(UUID(int=7)) not in world.ids(1000)


def test_the_database_itself_shows_the_door_one_tenant(world: World) -> None:
    with connection_pool(world.database.platform) as pool, seeing(pool, "globex") as connection:
        for table in ("raw.evaluations", "raw.feedback", "access.templates"):
            tenants = connection.execute(f"select distinct tenant_id from {table}").fetchall()  # type: ignore[arg-type]  # noqa: S608
            assert tenants in ([("globex",)], []), table
        for partition in connection.execute("select inhrelid::regclass::text from pg_inherits").fetchall():
            may = connection.execute("select has_table_privilege(%s, 'select')", partition).fetchone()
            assert may == (False,), partition
    assert find_leaks(world.owner) == []


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("", "tenant_id=globex", "tenant_id"),
        ("", "decision=maybe", "decision"),
        ("", "drift_score_min=NaN", "drift_score_min"),
        ("", "drift_score_min=inf", "drift_score_min"),
        ("", "score_max=1e", "score_max"),
        ("", "from=2026-05-01", "from"),
        ("", "from=2026-05-01T00:00:00", "from"),
        ("", "to=1714521600", "to"),
        ("", "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z", "from"),
        ("", "label=a&label=b", "label"),
        ("", "limit=1001", "limit"),
        ("", "cursor=AAAA", "cursor"),
        ("/nope", "", "evaluation_id"),
        (f"/{UUID(int=1)}", "k=1", "k"),
        (f"/{UUID(int=1)}/nearest", "k=0", "k"),
        (f"/{UUID(int=1)}/nearest", "k=101", "k"),
        (f"/{UUID(int=1)}/nearest", "limit=5", "limit"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_by_name(
    world: World, path: str, query: str, parameter: str
) -> None:
    answer = world.client.get(f"/v1/evaluations{path}?{query}", headers=world.keys["acme"])
    errors = problem(answer, 422)["errors"]
    assert isinstance(errors, list)
    assert [error["parameter"] for error in errors] == [parameter]


def test_a_cursor_goes_on_only_where_it_came_from(world: World) -> None:
    cursor = world.get(limit=2, template="claim").json()["next_cursor"]
    assert world.get(limit=5, template="claim", cursor=cursor).status_code == 200
    problem(world.get(cursor=cursor), 422)
    problem(world.get(tenant="globex", template="claim", cursor=cursor), 422)


def _recommendation(world: World, tenant: str = "acme", **parameters: str) -> httpx.Response:
    return world.client.get("/v1/recommendations", params=parameters, headers=world.keys[tenant])


def test_a_recommendation_names_the_extractor_and_every_probability(world: World) -> None:
    arms = [arm("vendor-0", "model-0", 90, 10), arm("vendor-0", "model-1", 84, 16)]
    plant_recommendation(world.owner, "acme", "claim", arms)
    best = _recommendation(world, template="claim").json()
    assert (best["mode"], best["extractor_model"], best["propensity"]) == ("best", "model-0", 1.0)
    assert [arm["extractor_model"] for arm in best["extractors"]] == ["model-0", "model-1"]
    assert sum(arm["p_best"] for arm in best["extractors"]) == pytest.approx(1)
    drawn = _recommendation(world, template="claim", mode="sample").json()
    chosen = next(arm for arm in drawn["extractors"] if arm["extractor_model"] == drawn["extractor_model"])
    assert (drawn["propensity"], drawn["assigned_by"]) == (chosen["share"], "share")


def test_without_feedback_or_template_a_recommendation_says_what_is_missing(world: World) -> None:
    assert "no feedback" in str(problem(_recommendation(world, template="invoice"), 409)["detail"])
    unknown = _recommendation(world, "globex", template="never heard of")
    problem(unknown, 404)
    assert _recommendation(world, "globex", template="claim").content == unknown.content
    problem(_recommendation(world), 422)
    problem(_recommendation(world, template="claim", mode="worst"), 422)

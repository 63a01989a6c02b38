"""`GET /v1/dashboard/*`: the marts' rows of the key's tenant, whole, once each, and of no other tenant."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from door import problem, serving
from mart_records import empty_marts

from assets.evaluations.landing import land
from assets.evaluations.verdicts import Line
from assets.warehouse.build import run_dbt
from gateway.dashboards import DASHBOARDS
from gateway.pages import reading
from gateway.problems import ProblemError
from storage.api_keys import create_key
from storage.database import Connection, Database, connect
from storage.pool import connection_pool
from storage.tenants import create_tenant

NAMES = [dashboard.name for dashboard in DASHBOARDS]
MARTS = {dashboard.name: dashboard.mart for dashboard in DASHBOARDS}
TEMPLATES = ("claim", "invoice", "ünï <b>&'\"%")
NEWEST, DAYS = date(2026, 5, 31), 45
_ALERT = """
insert into alerting.alerts (tenant_id, event_type, template, extractor_vendor, epoch, status, severity, metric, value,
    threshold, breach_count, window_start, window_end, started_at, resolved_at)
select %(tenant)s, 'drift_high', 'invoice', '', epoch, case when epoch = 7 then 'firing' else 'resolved' end, 'warning',
    'drift_score', 0.5, 0.3, 1, %(at)s, %(at)s, %(at)s, case when epoch = 7 then null else %(at)s end
from generate_series(1, 7) as epoch
"""


@dataclass(frozen=True)
class World:
    """A database with the marts of two tenants, and the door to it."""

    database: Database
    owner: Connection
    client: httpx.Client
    keys: dict[str, dict[str, str]]

    def get(self, name: str, tenant: str = "acme", **parameters: Any) -> httpx.Response:
        return self.client.get(f"/v1/dashboard/{name}", params=parameters, headers=self.keys[tenant])

    def rows(self, name: str, tenant: str = "acme", **parameters: Any) -> list[dict[str, Any]]:
        """All rows, page by page."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.get(name, tenant, **parameters, **cursor)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert set(page) == {"data", "next_cursor"}
            rows += page["data"]
            if page["next_cursor"] is None:
                return rows
            assert len(page["data"]) == parameters.get("limit", 100)
            cursor = {"cursor": page["next_cursor"]}


def _evaluations(last: date, days: int, templates: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "template": template,
            "extractor_vendor": "vendor",
            "extractor_model": model,
            "drift_score": 0.25,
            "reliability_score": 0.9,
            "created_at": f"{last - timedelta(days=ago)}T08:00:00Z",
        }
        for template in templates
        for model in ("reader-1", "reader-2")
        for ago in range(days)
    ]


@pytest.fixture(scope="module")
def world(prepared: Callable[..., Database]) -> Iterator[World]:
    database = prepared(empty_marts)
    now = datetime.now(UTC)
    keys = {}
    with connect(database.platform, autocommit=True) as owner:
        for tenant, last, days, templates in (
            ("acme", NEWEST, DAYS, TEMPLATES),
            ("globex", NEWEST + timedelta(days=9), 2, ("invoice",)),
        ):
            create_tenant(owner, tenant)
            records = _evaluations(last, days, templates)
            lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, start=1)]
            land(owner, tenant, "evaluations", lines, door="test", now=now)
            owner.execute(_ALERT, {"tenant": tenant, "at": now})
            keys[tenant] = {"X-API-Key": create_key(owner, tenant, ["read"], now=now)[1]}
        create_tenant(owner, "initech")
        keys["initech"] = {"X-API-Key": create_key(owner, "initech", ["read"], now=now)[1]}
        run_dbt(["run"], database)
        with serving(database) as client:
            yield World(database, owner, client, keys)


@pytest.mark.parametrize("name", NAMES)
def test_pages_of_any_size_hold_every_row_of_the_tenant_once_and_in_one_order(name: str, world: World) -> None:
    everything = {"from": "2000-01-01"} if name == "drift-trends" else {}
    whole = world.rows(name, limit=1000, **everything)
    key = next(dashboard.order[-1][0] for dashboard in DASHBOARDS if dashboard.name == name)
    expected = world.owner.execute(f"select {key}::text from marts.{MARTS[name]} where tenant_id = 'acme'").fetchall()  # type: ignore[arg-type]  # noqa: S608
    assert sorted(row[key] for row in whole) == sorted(row[0] for row in expected)
    assert {row["tenant_id"] for row in whole} == {"acme"}
    for limit in (1, 2, 7):
        assert world.rows(name, limit=limit, **everything) == whole


@pytest.mark.parametrize("name", NAMES)
def test_another_tenants_rows_are_nowhere(name: str, world: World) -> None:
    theirs = world.rows(name, "globex")
    assert {row["tenant_id"] for row in theirs} == {"globex"}
    assert not [row for row in world.rows(name, "initech") if row["tenant_id"] != "initech"]


def test_a_reading_is_bound_to_its_tenant_by_the_database_and_writes_nothing(world: World) -> None:
    with connection_pool(world.database.platform) as pool:
        with reading(pool, "globex") as cursor:
            assert cursor.execute("select current_user as me").fetchall() == [{"me": "api_reader"}]
            for mart in MARTS.values():
                seen = cursor.execute(f"select distinct tenant_id from marts.{mart}").fetchall()  # type: ignore[arg-type]  # noqa: S608
                assert seen == [{"tenant_id": "globex"}], mart
            assert cursor.execute("show transaction_read_only").fetchall() == [{"transaction_read_only": "on"}]
        with pytest.raises(ProblemError), reading(pool, "globex") as cursor:
            cursor.execute("select 1 from access.api_keys")
        with pool.connection() as connection:
            # The pool may lend the connection that read or, while that is being asked, one that never saw a tenant.
            tenant = "coalesce(current_setting('tidemark.tenant_id', true), '')"
            left = connection.execute(f"select current_user, {tenant}").fetchone()
    assert left == (world.database.platform.user, "")


def test_values_are_plain_json_and_times_are_utc(world: World) -> None:
    (overview,) = world.rows("overview")
    assert overview["total_evaluations"] == DAYS * len(TEMPLATES) * 2
    assert overview["avg_drift_score"] == 0.25
    assert overview["last_date"] == NEWEST.isoformat()
    alert = world.rows("alerts")[0]
    assert alert["started_at"].endswith("Z")
    assert datetime.fromisoformat(alert["started_at"]).tzinfo == UTC
    assert alert["extractor_model"] is None or isinstance(alert["extractor_model"], str)
    assert world.get("overview").headers["cache-control"] == "no-store"


def test_drift_trends_show_30_days_up_to_the_tenants_newest_the_newest_first(world: World) -> None:
    days = [row["date"] for row in world.rows("drift-trends", limit=7)]
    assert days == sorted(days, reverse=True)
    assert (days[0], days[-1], len(days)) == ("2026-05-31", "2026-05-02", 30 * len(TEMPLATES))


@pytest.mark.parametrize(
    ("parameters", "first", "last"),
    [
        ({"from": "2026-05-30"}, "2026-05-30", "2026-05-31"),
        ({"to": "2026-05-10"}, "2026-04-17", "2026-05-10"),
        ({"from": "2026-05-01", "to": "2026-05-01"}, "2026-05-01", "2026-05-01"),
    ],
)
def test_drift_trends_of_chosen_days(parameters: dict[str, str], first: str, last: str, world: World) -> None:
    rows = world.rows("drift-trends", template="claim", limit=4, **parameters)
    days = [row["date"] for row in rows]
    assert (days[-1], days[0], len(days)) == (
        first,
        last,
        (date.fromisoformat(last) - date.fromisoformat(first)).days + 1,
    )
    assert {row["template"] for row in rows} == {"claim"}
    assert world.rows("drift-trends", to="0001-01-01") == []


def test_filters_choose_rows_and_take_any_text_as_a_value(world: World) -> None:
    odd = TEMPLATES[-1]
    assert [row["template"] for row in world.rows("extractors", template=odd)] == [odd, odd]
    assert world.rows("extractors", template="'; drop table marts.overview; --") == []
    assert len(world.rows("alerts", status="resolved")) == 6
    assert len(world.rows("alerts", status="firing", event_type="drift_high", template="invoice")) == 1
    assert world.rows("alerts", event_type="template_new") == []


@pytest.mark.parametrize(
    ("name", "query", "parameter"),
    [
        ("overview", "template=invoice", "template"),
        ("templates", "order=tenant_id", "order"),
        ("templates", "tenant_id=globex", "tenant_id"),
        ("drift-trends", "from=yesterday", "from"),
        ("drift-trends", "to=20260501", "to"),
        ("drift-trends", "from=2026-05-02&to=2026-05-01", "from"),
        ("drift-trends", "from=2026-02-30", "from"),
        ("extractors", "template=", "template"),
        ("extractors", "template=a%00b", "template"),
        ("extractors", "template=a&template=b", "template"),
        ("alerts", "status=open", "status"),
        ("alerts", "event_type=drift", "event_type"),
        ("alerts", "limit=0", "limit"),
        ("alerts", "limit=1001", "limit"),
        ("alerts", "limit=-1", "limit"),
        ("alerts", "limit=%D9%A3", "limit"),
        ("alerts", "limit=" + "9" * 5000, "limit"),
        ("alerts", "cursor=", "cursor"),
        ("alerts", "cursor=AAAA", "cursor"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_by_name(
    name: str, query: str, parameter: str, world: World
) -> None:
    answer = world.client.get(f"/v1/dashboard/{name}?{query}", headers=world.keys["acme"])
    errors = problem(answer, 422)["errors"]
    assert isinstance(errors, list)
    assert [error["parameter"] for error in errors] == [parameter]


def test_every_wrong_parameter_is_named_at_once(world: World) -> None:
    document = problem(world.get("alerts", colour="red", limit="many", status="open"), 422)
    assert all(name in str(document["detail"]) for name in ("colour", "limit", "status"))


def test_a_cursor_goes_on_only_where_it_came_from(world: World) -> None:
    cursor = world.get("drift-trends", limit=2).json()["next_cursor"]
    assert world.get("drift-trends", limit=5, cursor=cursor).status_code == 200
    for name, tenant, parameters in (
        ("drift-trends", "globex", {}),
        ("drift-trends", "acme", {"template": "claim"}),
        ("alerts", "acme", {}),
    ):
        problem(world.get(name, tenant, cursor=cursor, **parameters), 422)
    for changed in (cursor[:-1], cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:], cursor + "="):
        problem(world.get("drift-trends", cursor=changed), 422)


def test_every_order_ends_in_the_marts_key_and_has_no_nulls(world: World) -> None:
    for dashboard in DASHBOARDS:
        columns = dict(
            world.owner.execute(
                "select attname, attnotnull from pg_attribute where attrelid = %s::regclass and attnum > 0",
                (f"marts.{dashboard.mart}",),
            ).fetchall()
        )
        assert all(columns[column] for column, _ in dashboard.order), dashboard.name
        assert all(known.column in columns for known in dashboard.filters), dashboard.name
        key = world.owner.execute(
            "select attname from pg_index inner join pg_attribute on attrelid = indrelid and attnum = any(indkey) "
            "where indisprimary and indrelid = %s::regclass",
            (f"marts.{dashboard.mart}",),
        ).fetchall()
        assert key == [(dashboard.order[-1][0],)]


def test_health_tells_that_the_marts_are_built_and_when(world: World) -> None:
    checks = world.client.get("/health").json()["checks"]
    assert checks["marts"] == "ok"
    assert datetime.now(UTC) - datetime.fromisoformat(checks["marts_built_at"]) < timedelta(hours=1)


def test_openapi_lists_every_dashboard_with_its_parameters(world: World) -> None:
    document = world.client.get("/openapi.json").json()
    for dashboard in DASHBOARDS:
        operation = document["paths"][f"/v1/dashboard/{dashboard.name}"]["get"]
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert named == {"limit", "cursor", *(known.name for known in dashboard.filters)}
        assert set(operation["responses"]) == {"200", "401", "403", "422", "503"}
        assert operation["security"]

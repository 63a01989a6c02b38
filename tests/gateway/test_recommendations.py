"""`GET /v1/recommendations`: from memory, read again when another recommendation holds, each tenant its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from door import problem, serving
from mart_records import evaluation, push
from selection_rows import arm, plant_recommendation

from assets.selection.policies import Extractor, change_policy
from assets.selection.published import read_recommendation
from assets.selection.publishing import publish
from assets.selection.recommend import choose, unit_of
from gateway.recommendation_board import RecommendationBoard
from storage.api_keys import create_key
from storage.clock import Clock
from storage.database import Connection, Database
from storage.pool import Pool, connection_pool
from storage.postgres_url import PostgresUrl
from storage.tenants import create_tenant

ARMS = [arm("v", "alpha", 90, 10, cost=0.02), arm("v", "beta", 84, 16, cost=0.01)]
WAITED_SECONDS = 20


@dataclass
class Door:
    """The door with a reading key of each tenant."""

    client: httpx.Client
    keys: dict[str, str]

    def ask(self, tenant: str = "acme", **parameters: str) -> httpx.Response:
        return self.client.get(
            "/v1/recommendations", params={"template": "invoice"} | parameters, headers={"X-API-Key": self.keys[tenant]}
        )


@pytest.fixture
def door(database: Database, connection: Connection) -> Iterator[Door]:
    keys = {}
    for tenant in ("acme", "globex"):
        create_tenant(connection, tenant)
        push(connection, tenant, "evaluations", [evaluation()])
        _, keys[tenant] = create_key(connection, tenant, ["read"], now=Clock().now())
    plant_recommendation(connection, "acme", "invoice", ARMS)
    with serving(database) as client:
        yield Door(client, keys)


def test_a_key_gets_what_python_picks_for_it_with_all_that_a_record_is_to_say(
    door: Door, connection: Connection
) -> None:
    found = read_recommendation(connection, "acme", "invoice")
    chosen = set()
    for number in range(40):
        answer: dict[str, Any] = door.ask(mode="sample", key=f"doc {number}").json()
        choice = choose(found, "sample", unit_of(found, f"doc {number}"))
        assert (answer["extractor_model"], answer["propensity"]) == (choice.arm.extractor_model, choice.propensity)
        assert (answer["assigned_by"], answer["snapshot_id"]) == ("share", str(found.snapshot_id))
        chosen.add(answer["extractor_model"])
    assert chosen == {"alpha", "beta"}
    best = door.ask().json()
    assert (best["extractor_model"], best["propensity"], best["assigned_by"]) == ("alpha", 1.0, "override")
    assert "add mode=sample" in str(problem(door.ask(key="doc 1"), 422)["detail"])
    assert (best["decision"], best["cheapest"], best["evidence_to"]) == ("explore", "v/alpha", "2026-05-10")
    assert sum(one["share"] for one in best["extractors"]) == 1


def test_it_is_answered_from_memory_until_something_else_holds(door: Door, connection: Connection) -> None:
    assert door.ask().json()["extractor_model"] == "alpha"
    connection.execute("revoke select on ml.extractor_recommendations from api_reader")
    assert door.ask().json()["extractor_model"] == "alpha", "nothing was read"
    connection.execute("grant select on ml.extractor_recommendations to api_reader")
    with connection.transaction():
        override = {"override": Extractor("v", "beta"), "override_reason": "a trial"}
        change_policy(connection, "acme", "invoice", override)
        publish(connection, "acme")
    end = time.monotonic() + WAITED_SECONDS
    while (answer := door.ask(mode="sample", key="doc").json())["extractor_model"] != "beta":
        assert time.monotonic() < end, "the notification was not heard"
        time.sleep(0.02)
    assert (answer["propensity"], answer["assigned_by"]) == (1.0, "override")
    assert "An override sets v/beta" in answer["reason"]


class LatePool:
    """A pool whose next reader is overtaken: between its reading and its end `meanwhile` runs."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.meanwhile: Callable[[], None] | None = None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with self.pool.connection() as connection:
            yield connection
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()


class HeardBoard(RecommendationBoard):
    """A board that tells when it listens and when it has heard of a tenant."""

    def __init__(self, pool: Pool, url: PostgresUrl) -> None:
        super().__init__(pool, url)
        self.listens, self.has_heard = threading.Event(), threading.Event()

    def _hear(self, tenant_id: str) -> None:
        super()._hear(tenant_id)
        (self.has_heard if tenant_id else self.listens).set()


def test_what_changes_while_it_is_read_is_not_kept(door: Door, database: Database) -> None:
    def ask_twice(board: HeardBoard, pool: LatePool) -> list[str]:
        def override() -> None:
            with database.connect() as connection:
                change = {"override": Extractor("v", "beta"), "override_reason": "a trial"}
                change_policy(connection, "acme", "invoice", change)
                publish(connection, "acme")
            assert board.has_heard.wait(WAITED_SECONDS)

        assert board.listens.wait(WAITED_SECONDS)
        pool.meanwhile = override
        return [str(board.find("acme", "invoice").recommended) for _ in range(2)]

    async def ask(pool: LatePool) -> list[str]:
        board = HeardBoard(pool, database.platform)  # type: ignore[arg-type] # as much of a pool as is used
        keeping = asyncio.create_task(board.keep())
        try:
            return await asyncio.to_thread(ask_twice, board, pool)
        finally:
            keeping.cancel()

    with connection_pool(database.platform) as real:
        assert asyncio.run(ask(LatePool(real))) == ["v/alpha", "v/beta"]


def test_a_door_that_was_there_before_the_database_answers_once_it_is(
    door: Door, database: Database, tmp_path: Path
) -> None:
    expected = door.ask().json()
    real = database.platform
    place = tmp_path / "postgres"
    early = replace(database, platform=replace(real, host=str(place)))
    with serving(early) as client:
        before = Door(client, door.keys)
        assert problem(before.ask(), 503)
        place.symlink_to(real.host)
        end = time.monotonic() + 3 * WAITED_SECONDS
        while (answer := before.ask()).status_code == 503:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert answer.json() == expected


def test_another_tenants_recommendation_is_as_unknown_as_one_that_is_nowhere(
    door: Door, connection: Connection
) -> None:
    assert "no feedback" in str(problem(door.ask("globex"), 409)["detail"])
    push(connection, "acme", "evaluations", [evaluation(template="theirs")])
    plant_recommendation(connection, "acme", "theirs", ARMS)
    elsewhere = door.ask("globex", template="theirs")
    problem(elsewhere, 404)
    assert (
        door.ask("globex", template="nowhere").json()["detail"].replace("nowhere", "theirs")
        == elsewhere.json()["detail"]
    )
    # Known to the door although it was published after the tenant's others were read.
    assert door.ask("acme", template="theirs").json()["extractor_model"] == "alpha"

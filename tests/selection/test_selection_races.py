"""Promises of selection when several people decide at once, or one is killed; snapshots are beyond anyone's reach."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from mart_records import evaluation, push
from selection_rows import arm, plant_recommendation

from assets.selection.policies import Extractor, change_policy, read_policy_list, read_rulings, rule
from assets.selection.publishing import publish
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.tenants import create_tenant

TENANT = "acme"
ALPHA, BETA = Extractor("v", "alpha"), Extractor("v", "beta")
WAITED_SECONDS = 20
Decide = Callable[[Connection], object]
WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and pid <> %s
"""
PUBLISHED = """
select
    (select jsonb_agg(to_jsonb(x) - 'recorded_at' order by to_jsonb(x)::text) from ml.extractor_shares as x),
    (
        select jsonb_agg(to_jsonb(x) - 'published_at' - 'superseded_at' order by x.snapshot_id)
        from ml.recommendation_snapshots as x
    ),
    (select jsonb_agg(x.snapshot_id order by x.template_id) from ml.current_recommendations as x)
"""


@pytest.fixture
def published(connection: Connection) -> None:
    create_tenant(connection, TENANT)
    push(connection, TENANT, "evaluations", [evaluation()])
    plant_recommendation(connection, TENANT, "invoice", [arm("v", "alpha", 90, 10), arm("v", "beta", 84, 16)])


@contextmanager
def while_undecided(database: Database, first: Decide, second: Decide) -> Iterator[Future[None]]:
    """`second` begins while `first` is done and not yet committed; the block sees what became of the second."""

    def decide() -> None:
        with database.connect() as connection:
            second(connection)
            publish(connection, TENANT)

    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads:
        with database.connect() as mine, database.connect(autocommit=True) as watching:
            first(mine)
            outcome = threads.submit(decide)
            end = time.monotonic() + WAITED_SECONDS
            while not outcome.done() and watching.execute(waiting).fetchone() == (0,):
                assert time.monotonic() < end
                time.sleep(0.01)
            publish(mine, TENANT)
        yield outcome


def test_two_people_who_decide_at_once_lose_neither_decision(
    published: None, database: Database, connection: Connection
) -> None:
    def incumbent(at: Connection) -> None:
        change_policy(at, TENANT, "invoice", {"incumbent": ALPHA})

    def floor(at: Connection) -> None:
        change_policy(at, TENANT, "invoice", {"exploration_floor": 0.2})

    with while_undecided(database, incumbent, floor) as outcome:
        outcome.result()
    [(_, policy)] = read_policy_list(connection, TENANT)
    assert (policy.incumbent, policy.exploration_floor) == (ALPHA, 0.2)
    told = """select incumbent_model, exploration_floor
        from ml.current_recommendations join ml.recommendation_snapshots using (snapshot_id)"""
    assert connection.execute(told).fetchall() == [("alpha", 0.2)]


def test_what_two_decisions_would_make_impossible_together_is_refused_to_the_later(
    published: None, database: Database, connection: Connection
) -> None:
    def in_use(at: Connection) -> None:
        change_policy(at, TENANT, "invoice", {"incumbent": ALPHA})

    def retire(at: Connection) -> None:
        rule(at, TENANT, ALPHA, is_retired=True)

    def beta_after_alpha(at: Connection) -> None:
        rule(at, TENANT, BETA, predecessor_model="alpha")

    def alpha_after_beta(at: Connection) -> None:
        rule(at, TENANT, ALPHA, predecessor_model="beta")

    with (
        while_undecided(database, in_use, retire) as outcome,
        pytest.raises(UsageError, match="is the incumbent"),
    ):
        outcome.result()
    with (
        while_undecided(database, beta_after_alpha, alpha_after_beta) as outcome,
        pytest.raises(UsageError, match="comes after itself"),
    ):
        outcome.result()
    [ruling] = read_rulings(connection)[TENANT]
    assert (ruling.extractor, ruling.predecessor, ruling.is_retired) == (BETA, ALPHA, False)


def publishing(database: Database) -> None:
    with database.connect() as connection:
        publish(connection, TENANT)


def test_who_is_killed_in_the_middle_of_publishing_leaves_nothing_and_the_next_publishes_the_same_bytes(
    published: None, database: Database, connection: Connection
) -> None:
    before = connection.execute(PUBLISHED).fetchone()
    change = {"exploration_floor": 0.2, "incumbent": ALPHA}
    with database.connect() as undisturbed:
        change_policy(undisturbed, TENANT, "invoice", change)
        publish(undisturbed, TENANT)
        expected = undisturbed.execute(PUBLISHED).fetchone()
        undisturbed.rollback()
    assert expected != before
    change_policy(connection, TENANT, "invoice", change)
    with database.connect() as blocker:
        blocker.execute("lock table ml.extractor_shares in exclusive mode")
        doomed = multiprocessing.get_context("spawn").Process(target=publishing, args=(database,))
        doomed.start()
        end = time.monotonic() + 3 * WAITED_SECONDS
        while connection.execute(WAITING, (blocker.info.backend_pid,)).fetchone() == (0,):
            assert doomed.is_alive(), f"it ended ({doomed.exitcode}) before it came to the shares"
            assert time.monotonic() < end
            time.sleep(0.02)
        assert doomed.pid is not None
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.join()
        blocker.rollback()
    assert doomed.exitcode == -signal.SIGKILL
    assert connection.execute(PUBLISHED).fetchone() == before
    publish(connection, TENANT)
    assert connection.execute(PUBLISHED).fetchone() == expected


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("posterior_snapshots", "template"),
        ("extractor_posteriors", "alpha"),
        ("recommendation_snapshots", "reason"),
        ("extractor_shares", "share_lo"),
    ],
)
def test_no_part_of_a_snapshot_can_be_changed(published: None, connection: Connection, table: str, column: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(f"update ml.{table} set {column} = {column}")  # noqa: S608 - this test's own names

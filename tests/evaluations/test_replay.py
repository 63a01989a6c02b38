"""Replay: what a mended contract admits lands from its kept bytes, once, and what it refuses still says why."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from poison import good, line

from assets.evaluations.landing import land
from assets.evaluations.push import push_file
from assets.evaluations.replay import ReplayReport, replay
from assets.evaluations.verdicts import Kind, Line, Receipt
from storage.clock import Clock
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.settings import PROJECT_ROOT, Settings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CLOCK = Clock(lambda: NOW)
LATER = Clock(lambda: datetime(2026, 6, 3, tzinfo=UTC))
# Refused by a clock that was behind, and admissible when it is later.
AHEAD = "2026-06-02T00:00:00Z"


def _land(connection: Connection, tenant: str, *payloads: bytes, kind: Kind = "evaluations") -> Receipt:
    lines = [Line(number, payload) for number, payload in enumerate(payloads, start=1)]
    return land(connection, tenant, kind, lines, door="http", now=NOW, source="morning")


def _rejects(connection: Connection) -> list[tuple[Any, ...]]:
    query = "select code, occurrences, replayed_at is not null from raw.rejected_records order by line"
    return connection.execute(query).fetchall()


def test_what_passes_now_lands_once_from_its_own_bytes_and_the_rest_says_why(
    connection: Connection, tenant: str
) -> None:
    first = _land(
        connection,
        tenant,
        line(good(1, created_at=AHEAD)),
        line(good(2)),
        line(good(3, created_at=AHEAD, success=True)),
        line(good(4, colour="red")),
        line(good(2, created_at=AHEAD)),
    )
    assert (first.accepted, first.rejected) == (1, 4)

    report = replay(connection, tenant, clock=LATER)
    again = replay(connection, tenant, clock=LATER)

    assert report == ReplayReport(accepted=2, rejected=2)
    assert again == ReplayReport(rejected=2)
    assert _rejects(connection) == [
        ("datetime_in_future", 1, True),
        ("datetime_in_future", 1, True),
        ("unknown_field", 1, False),
        ("conflict", 1, False),
    ]
    receipts = connection.execute(
        "select door, source, accepted, rejected, touched_days from raw.ingest_batches order by batch_id"
    ).fetchall()
    assert [receipt[:4] for receipt in receipts] == [("http", "morning", 1, 4), ("replay", "morning", 2, 0)]
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (3,)
    assert connection.execute("select success from raw.feedback").fetchall() == [(True,)]
    # Sent again, it has landed; refused again by a clock that is behind, it shows again.
    assert _land(connection, tenant, line(good(1, created_at=AHEAD))).rejected == 1
    assert _rejects(connection)[0] == ("datetime_in_future", 2, False)
    assert replay(connection, tenant, clock=LATER).duplicates == 1


def test_only_what_is_asked_for_is_replayed_and_a_conflict_never(connection: Connection, tenant: str) -> None:
    _land(connection, tenant, *(line(good(number, created_at=AHEAD)) for number in range(3)), b"nonsense")
    _land(connection, tenant, line(good(7)), line(good(7, drift_score=0.9)))
    ids = dict(connection.execute("select convert_from(payload, 'utf8'), rejected_id from raw.rejected_records"))
    own = ids[line(good(1, created_at=AHEAD)).decode()]

    assert replay(connection, tenant, clock=LATER, ids=[own]).accepted == 1
    assert replay(connection, tenant, clock=LATER, code="json_invalid") == ReplayReport(rejected=1)
    assert replay(connection, tenant, clock=LATER) == ReplayReport(accepted=2, rejected=1)
    with pytest.raises(UsageError, match="is a conflict: the record that landed first stands"):
        replay(connection, tenant, clock=LATER, ids=[ids[line(good(7, drift_score=0.9)).decode()]])
    with pytest.raises(UsageError, match="tidemark rejects list"):
        replay(connection, "other", clock=LATER, ids=[own])


def test_feedback_and_rows_of_csv_are_replayed_and_a_row_that_is_none_says_what_to_do(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    feedback = {"record_id": "good-1", "success": False, "created_at": AHEAD}
    _land(connection, tenant, line(feedback), kind="feedback")
    path = tmp_path / "rows.csv"
    path.write_text(
        "record_id,template,extractor_vendor,extractor_model,drift_score,created_at\n"
        f"r-1,invoice,v,m,0.5,{AHEAD}\nr-2,too,few\n"
    )
    push_file(connection, tenant, "evaluations", path, clock=CLOCK)

    report = replay(connection, tenant, clock=LATER)

    assert report == ReplayReport(accepted=2, unreadable=1)
    assert connection.execute("select record_id, drift_score from raw.evaluations").fetchall() == [("r-1", 0.5)]
    assert connection.execute("select success from raw.feedback").fetchall() == [(False,)]


def test_a_crash_between_landing_and_note_undoes_both_and_the_next_replay_does_both(
    database: Database, connection: Connection, tenant: str
) -> None:
    payloads = [line(good(number, created_at=AHEAD)) for number in range(5)]
    _land(connection, tenant, *payloads)
    connection.execute(
        """create function raw.crash() returns trigger language plpgsql as
           $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$"""
    )
    connection.execute("create trigger crash before update on raw.rejected_records execute function raw.crash()")
    with database.connect(autocommit=True) as own, pytest.raises(psycopg.OperationalError):
        replay(own, tenant, clock=LATER)
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (0,)
    connection.execute("drop trigger crash on raw.rejected_records")
    assert replay(connection, tenant, clock=LATER).accepted == 5


def test_the_command_line_replays_and_lists_what_it_replayed(
    settings: Settings, connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, b"nonsense", line(good(1)))
    # As if an older contract had refused what today's admits.
    connection.execute("update raw.rejected_records set payload = %s", (line(good(2)),))

    def tidemark(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestration.cli", "rejects", *arguments, "--tenant", tenant, "--json"]
        return subprocess.run(command, cwd=PROJECT_ROOT, env=os.environ, capture_output=True, text=True, check=False)

    replayed = tidemark("replay")
    assert (replayed.returncode, json.loads(replayed.stdout)["accepted"]) == (0, 1)
    [listed] = json.loads(tidemark("list").stdout)
    assert listed["replayed_at"] is not None
    _land(connection, tenant, b"worse")
    assert tidemark("replay", "--code", "json_invalid").returncode == 1


def test_the_same_bytes_that_mean_another_record_are_another_dead_letter_and_both_are_replayed(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    row = f"r-1,invoice,v,m,0.2,0.4,{AHEAD}"
    for name, columns in (("a", "drift_score,reliability_score"), ("b", "reliability_score,drift_score")):
        record_id = "record_id" if name == "a" else "label"
        header = f"{record_id},template,extractor_vendor,extractor_model,{columns},created_at"
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{row}\n")
        push_file(connection, tenant, "evaluations", tmp_path / f"{name}.csv", clock=CLOCK)
    assert _rejects(connection) == [("datetime_in_future", 1, False)] * 2
    assert replay(connection, tenant, clock=LATER) == ReplayReport(accepted=2)
    landed = connection.execute("select drift_score, reliability_score, label from raw.evaluations order by 1")
    assert landed.fetchall() == [(0.2, 0.4, None), (0.4, 0.2, "r-1")]


def test_replayed_feedback_is_as_old_as_it_is_and_does_not_undo_what_has_corrected_it(
    connection: Connection, tenant: str
) -> None:
    _land(connection, tenant, line({"record_id": "r", "success": True, "colour": "red"}), kind="feedback")
    came_at = NOW - timedelta(hours=1)
    # As if a mended contract knew the field: what it says now passes.
    payload = line({"record_id": "r", "success": True})
    connection.execute("update raw.rejected_records set payload = %s, last_received_at = %s", (payload, came_at))
    _land(connection, tenant, line({"record_id": "r", "success": False}), kind="feedback")
    assert replay(connection, tenant, clock=LATER) == ReplayReport(accepted=1)
    in_order = connection.execute("select success, created_at from raw.feedback order by created_at").fetchall()
    assert in_order == [(True, came_at), (False, NOW)]

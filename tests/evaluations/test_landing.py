"""Landing (DESIGN invariants 1 and 2): what is acknowledged is there, refusals are kept, repeats change nothing."""

import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.evaluations.landing import judge, land, land_judged
from assets.evaluations.verdicts import Kind, Line, Receipt
from storage.database import Connection, Database
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def record(number: int, **changes: object) -> dict[str, object]:
    return {
        "record_id": f"r-{number}",
        "template": f"template-{number % 3}",
        "extractor_vendor": "acme-ai",
        "extractor_model": "reader-2",
        "drift_score": (number % 10) / 20,
        "created_at": f"2026-0{1 + number % 5}-15T10:00:00Z",
    } | changes


def lines(*records: object) -> list[Line]:
    return [
        Line(number, item if isinstance(item, bytes) else json.dumps(item).encode())
        for number, item in enumerate(records, start=1)
    ]


def push(connection: Connection, tenant: str, *records: object, kind: Kind = "evaluations") -> Receipt:
    return land(connection, tenant, kind, lines(*records), door="test", now=NOW)


def _count(connection: Connection, table: str, tenant: str) -> int:
    row = connection.execute(f"select count(*) from {table} where tenant_id = %s", (tenant,)).fetchone()  # noqa: S608
    assert row is not None
    return int(row[0])


def test_one_broken_line_amid_good_ones_takes_nobody_along_and_is_kept_byte_for_byte(
    connection: Connection, tenant: str
) -> None:
    broken = b'{"template": \xff oops'
    receipt = push(connection, tenant, record(1), broken, record(2))

    assert (receipt.accepted, receipt.rejected) == (2, 1)
    kept = connection.execute("select line, code, payload, batch_id from raw.rejected_records").fetchall()
    assert kept == [(2, "json_invalid", broken, receipt.batch_id)]
    receipts = connection.execute(
        "select batch_id, accepted, rejected, touched_days from raw.ingest_batches"
    ).fetchall()
    assert receipts == [(receipt.batch_id, 2, 1, [date(2026, 2, 15), date(2026, 3, 15)])]


def test_a_batch_that_was_thought_to_be_new_gets_the_same_verdicts(connection: Connection, tenant: str) -> None:
    taken = str(uuid.uuid4())
    push(connection, tenant, record(1), record(2, evaluation_id=taken))
    batch = lines(
        record(1), record(1, drift_score=0.9), record(3), record(3), record(4, evaluation_id=taken), record(5), b"{"
    )

    receipt = land_judged(connection, judge(tenant, "evaluations", batch, NOW, unseen=True), door="test")

    told = [(problem.line.number, problem.verdict, problem.field) for problem in receipt.problems]
    assert (receipt.accepted, receipt.duplicates) == (2, 2)
    assert told == [(2, "conflict", "record_id"), (5, "conflict", "evaluation_id"), (7, "rejected", None)]
    assert _count(connection, "raw.evaluations", tenant) == _count(connection, "raw.evaluation_keys", tenant) == 4
    again = land_judged(connection, judge(tenant, "evaluations", lines(record(6)), NOW, unseen=True), door="test")
    assert (again.accepted, again.problems) == (1, ())


def test_a_repeat_is_a_duplicate_and_other_content_a_conflict_whose_evidence_is_kept(
    connection: Connection, tenant: str
) -> None:
    push(connection, tenant, record(1))
    other = json.dumps(record(1, drift_score=0.9)).encode()

    again = push(connection, tenant, record(1), other, other)

    assert (again.accepted, again.duplicates, again.conflicts) == (0, 1, 2)
    assert connection.execute("select drift_score from raw.evaluations").fetchall() == [(0.05,)]
    kept = connection.execute("select verdict, field, payload, occurrences from raw.rejected_records").fetchall()
    assert kept == [("conflict", "record_id", other, 2)]


def test_an_evaluation_id_stands_for_one_record_of_its_tenant(connection: Connection, tenant: str) -> None:
    create_tenant(connection, "other")
    own = str(uuid.uuid4())

    receipt = push(connection, tenant, record(1, evaluation_id=own), record(2, evaluation_id=own))

    assert (receipt.accepted, [problem.field for problem in receipt.problems]) == (1, ["evaluation_id"])
    assert push(connection, "other", record(2, evaluation_id=own)).accepted == 1


def test_a_record_without_an_id_gets_one_from_its_content(connection: Connection, tenant: str) -> None:
    anonymous = {name: value for name, value in record(1).items() if name != "record_id"}
    receipt = push(connection, tenant, anonymous, dict(reversed(anonymous.items())), anonymous | {"drift_score": 0.5})
    assert (receipt.accepted, receipt.duplicates) == (2, 1)


def test_every_field_arrives_as_it_was_sent(connection: Connection, tenant: str) -> None:
    sent = record(
        1,
        evaluation_id="0190c3a0-0000-7000-8000-000000000001",
        template_version="v7",
        reliability_score=1,
        decision="review",
        created_at="2026-05-01T01:30:00.123456+02:00",
        features={"pages": 3, "language": "de", "scanned": True, "note": None},
        embedding=[0.5] * 384,
        score=-12.5,
        label="low",
        propensity=0.25,
        batch_key="nightly",
        correlation_id="c-1",
        decision_id="d-1",
        eligible_extractors=["x/y", "acme-ai/reader-2"],
        assigned_by="share",
        snapshot_id="0190c3a0-0000-7000-8000-000000000002",
        cost_usd=0.004,
        latency_ms=850,
        success=True,
        fields_correct=4,
        fields_total=5,
    )
    assert push(connection, tenant, sent).accepted == 1
    row = connection.execute(
        """select evaluation_id::text, template_version, reliability_score, decision, created_at, features,
                  (embedding <-> array_fill(0.5, array[384])::halfvec(384)), score, label, propensity, batch_key,
                  correlation_id, decision_id, eligible_extractors, assigned_by, snapshot_id::text, cost_usd, latency_ms
           from raw.evaluations"""
    ).fetchone()
    assert row == (
        sent["evaluation_id"],
        "v7",
        1.0,
        "review",
        datetime(2026, 4, 30, 23, 30, 0, 123456, tzinfo=UTC),
        sent["features"],
        0.0,
        -12.5,
        "low",
        0.25,
        "nightly",
        "c-1",
        "d-1",
        ["acme-ai/reader-2", "x/y"],
        "share",
        sent["snapshot_id"],
        0.004,
        850.0,
    )
    feedback = connection.execute("select success, fields_correct, fields_total from raw.feedback").fetchall()
    assert feedback == [(True, 4, 5)]


def test_feedback_is_idempotent_and_touches_the_day_of_its_evaluation(connection: Connection, tenant: str) -> None:
    push(connection, tenant, record(1))
    late = {"record_id": "r-1", "success": False, "created_at": "2026-05-30T00:00:00Z"}
    early = {"record_id": "not-yet-there", "success": True}
    keyed = {"record_id": "r-1", "success": True, "feedback_key": "k"}

    first = push(connection, tenant, late, early, keyed, late, keyed | {"success": False}, kind="feedback")
    again = push(connection, tenant, late, early, keyed, kind="feedback")

    assert (first.accepted, first.duplicates, first.conflicts) == (3, 1, 1)
    assert (again.accepted, again.duplicates) == (0, 3)
    days = connection.execute("select touched_days from raw.ingest_batches where kind = 'feedback' order by batch_id")
    assert days.fetchall() == [([date(2026, 2, 15)],), ([],)]


def test_an_unknown_tenant_lands_nothing(connection: Connection) -> None:
    try:
        push(connection, "nobody", record(1))
    except Exception as error:
        assert "tenant" in str(error)  # noqa: PT017 - whichever of the foreign keys spoke first
    assert _count(connection, "raw.evaluations", "nobody") == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_split_and_repetition_of_the_same_records_leaves_the_same_rows(
    connection: Connection, data: st.DataObject
) -> None:
    tenant = f"t-{uuid.uuid4().hex}"
    create_tenant(connection, tenant)
    sent = [record(number) for number in range(12)] + [b"broken 1", b"broken 2"]
    extra = data.draw(st.lists(st.sampled_from(sent), max_size=12))
    mixed = data.draw(st.permutations(sent + extra))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(mixed)), max_size=4)) | {0, len(mixed)})

    receipts = [push(connection, tenant, *mixed[start:end]) for start, end in pairwise(cuts)]

    assert sum(receipt.accepted for receipt in receipts) == 12
    assert sum(receipt.accepted + receipt.duplicates + receipt.rejected for receipt in receipts) == len(mixed)
    rows = connection.execute(
        "select record_id, template, drift_score from raw.evaluations where tenant_id = %s order by record_id",
        (tenant,),
    ).fetchall()
    wanted = [(item["record_id"], item["template"], item["drift_score"]) for item in sent if isinstance(item, dict)]
    assert rows == sorted(wanted)
    kept = connection.execute(
        "select payload, occurrences from raw.rejected_records where tenant_id = %s order by payload", (tenant,)
    ).fetchall()
    assert kept == [(line, mixed.count(line)) for line in (b"broken 1", b"broken 2")]


def test_landings_at_once_agree_on_who_was_first(database: Database, connection: Connection, tenant: str) -> None:
    records = [record(number) for number in range(300)]

    def one(turn: int) -> Receipt:
        shuffled = records[turn * 37 :] + records[: turn * 37]
        with database.connect(autocommit=True) as own:
            return push(own, tenant, *shuffled, b"broken")

    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(one, range(6)))

    assert sum(receipt.accepted for receipt in receipts) == 300
    assert sum(receipt.duplicates for receipt in receipts) == 5 * 300
    assert _count(connection, "raw.evaluations", tenant) == 300
    assert connection.execute("select occurrences from raw.rejected_records").fetchall() == [(6,)]


_PUSH_FOR_EVER = """
import os, sys
from pathlib import Path
from assets.evaluations.push import push_file
from storage.clock import Clock
from storage.database import connect
from storage.postgres_url import PostgresUrl
with connect(PostgresUrl.parse(os.environ["TIDEMARK_DATABASE_URL"]), autocommit=True) as connection:
    push_file(connection, "acme", "evaluations", Path(sys.argv[1]), clock=Clock(),
              on_batch=lambda report: print(report.batches[-1], report.accepted, flush=True))
"""


def test_a_kill_9_in_the_middle_loses_nothing_acknowledged_and_the_next_push_completes_it(
    database: Database, connection: Connection, tenant: str, tmp_path: Path, monkeypatch: object
) -> None:
    path = tmp_path / "many.ndjson"
    path.write_bytes(b"\n".join(json.dumps(record(number)).encode() for number in range(60_000)))
    command = [sys.executable, "-c", _PUSH_FOR_EVER, str(path)]
    environment = {"TIDEMARK_DATABASE_URL": database.platform.libpq(), "PYTHONPATH": str(Path.cwd())}

    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(2)]
    time.sleep(0.05)
    child.kill()
    acknowledged += child.stdout.readlines()
    child.wait()

    for line in acknowledged:
        batch_id = line.split()[0]
        row = connection.execute("select count(*) from raw.evaluations where batch_id = %s", (batch_id,)).fetchone()
        assert row == (10_000,)
    assert _count(connection, "raw.evaluations", tenant) < 60_000
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert _count(connection, "raw.evaluations", tenant) == _count(connection, "raw.evaluation_keys", tenant) == 60_000

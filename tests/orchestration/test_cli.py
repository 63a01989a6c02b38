"""The command line, run as a user runs it: exit 0, 1 or 2, and a message that names the remedy."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.database import Connection, Database
from storage.settings import PROJECT_ROOT, Settings

GOOD = {
    "record_id": "r-1",
    "template": "invoice",
    "extractor_vendor": "v",
    "extractor_model": "m",
    "drift_score": 0.1,
    "created_at": "2026-05-01T00:00:00Z",
}


def tidemark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *arguments],
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_broken_line_amid_good_ones_is_named_and_exits_1_while_the_others_land(
    settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "records.ndjson"
    path.write_bytes(
        json.dumps(GOOD).encode() + b"\nnot \xff json\n" + json.dumps(GOOD | {"record_id": "r-2"}).encode()
    )

    first = tidemark("push", str(path), "--tenant", tenant)
    again = tidemark("push", str(path), "--tenant", tenant, "--json")

    assert first.returncode == again.returncode == 1
    assert "2 accepted, 0 duplicates, 0 conflicts, 1 rejected" in first.stdout
    assert "line 2: rejected: is not JSON" in first.stdout
    (report,) = json.loads(again.stdout)
    assert (report["duplicates"], report["rejected"], report["errors"][0]["line"]) == (2, 1, 2)
    assert connection.execute("select count(*) from raw.evaluations").fetchone() == (2,)
    (reject,) = json.loads(tidemark("rejects", "list", "--tenant", tenant, "--json").stdout)
    assert (reject["line"], reject["occurrences"]) == (2, 2)
    assert "not" in tidemark("rejects", "list", "--tenant", tenant).stdout
    shown = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "rejects", "show", reject["rejected_id"], "--tenant", tenant],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=True,
    )
    assert shown.stdout == b"not \xff json"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("push", "absent.csv", "--tenant", "acme"), 2, "absent.csv does not exist"),
        (("push", "pyproject.toml", "--tenant", "acme"), 2, "--format"),
        (("push", "examples/first_records.ndjson", "--tenant", "nobody"), 2, "tidemark tenant create nobody"),
        (("push", "examples/aider_leaderboards.csv", "--tenant", "acme"), 2, "no field of the contract"),
        (("push",), 2, "Missing"),
        (("tenant", "create", "No Slug"), 2, "lower-case"),
        (("rejects", "show", "nothing", "--tenant", "acme"), 1, "tidemark rejects list"),
        (("recommend", "--tenant", "acme", "--template", "nowhere"), 2, "nowhere"),
    ],
)
def test_wrong_use_is_answered_with_the_remedy_and_no_traceback(
    arguments: tuple[str, ...], status: int, message: str, settings: Settings, tenant: str
) -> None:
    result = tidemark(*arguments)
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_that_is_away_or_not_ours_is_explained(settings: Settings, connection: Connection) -> None:
    away = tidemark("migrate", TIDEMARK_DATABASE_URL="postgresql://ada:s3cret@127.0.0.1:1/nowhere")
    assert (away.returncode, "s3cret" in away.stderr) == (1, False)
    assert "does not answer" in away.stderr
    assert "TIDEMARK_DATABASE_URL" in away.stderr

    connection.execute("drop table public.alembic_version")
    half = tidemark("migrate")
    assert half.returncode == 1
    assert "half migrated" in half.stderr
    assert "backup" in half.stderr


def test_settings_are_shown_without_secrets(settings: Settings) -> None:
    shown = tidemark("settings", "--json", TIDEMARK_DATABASE_URL="postgresql://ada:s3cret@db/tidemark")
    assert shown.returncode == 0
    assert {row["variable"] for row in json.loads(shown.stdout)} >= {"TIDEMARK_HOME", "TIDEMARK_DATABASE_URL"}
    assert "s3cret" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("variable", "other", "name"),
    [
        ("TIDEMARK_DAGSTER_PORT", "TIDEMARK_GATEWAY_PORT", "Dagster's page"),
        ("TIDEMARK_GATEWAY_PORT", "TIDEMARK_DAGSTER_PORT", "the HTTP door"),
    ],
)
def test_a_port_in_use_is_named_before_anything_starts(
    variable: str, other: str, name: str, settings: Settings
) -> None:
    with socket.socket() as taken, socket.socket() as free:
        for listener in (taken, free):
            listener.bind(("127.0.0.1", 0))
        taken.listen()
        port, free_port = (str(listener.getsockname()[1]) for listener in (taken, free))
        free.close()
        environment = {variable: port, other: free_port}
        up = tidemark("up", **environment)
        doctor = tidemark("doctor", "--json", **environment)
    assert up.returncode == doctor.returncode == 1
    assert f"port {port} is in use" in up.stderr
    assert f"{variable}=" in up.stderr
    wrong = {row["check"]: row["result"] for row in json.loads(doctor.stdout) if row["result"] != "ok"}
    assert list(wrong) == [f"port of {name}"]


def test_psql_reads_the_platform_s_database(settings: Settings) -> None:
    result = tidemark("psql", "-c", "select 6 * 7 as answer")
    assert result.returncode == 0
    assert "42" in result.stdout


def test_names_that_look_like_markup_or_need_unicode_reach_people_and_scripts_unchanged(
    settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.ndjson"
    path.write_text(json.dumps(GOOD | {"template": "a[/b] :smile: ü", "drift_score": 7}))
    tidemark("push", str(path), "--tenant", tenant)
    plain = tidemark("rejects", "list", "--tenant", tenant)
    scripted = tidemark(
        "rejects", "list", "--tenant", tenant, "--json", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert plain.returncode == scripted.returncode == 0, plain.stderr + scripted.stderr
    (reject,) = json.loads(scripted.stdout)
    assert "a[/b] :smile:" in reject["payload_start"]


def test_a_key_is_shown_once_listed_without_its_secret_rotated_and_revoked(settings: Settings, tenant: str) -> None:
    made = tidemark("key", "create", "--tenant", tenant, "--scope", "read", "--expires-in-days", "30", "--json")
    first = json.loads(made.stdout)
    rotated = json.loads(tidemark("key", "rotate", first["key_id"], "--tenant", tenant, "--json").stdout)
    revoked = tidemark("key", "revoke", first["key_id"], "--tenant", tenant)
    listed = tidemark("key", "list", "--tenant", tenant, "--json")

    assert first["key"].startswith("tm_live_")
    assert rotated["replaces"]["key_id"] == first["key_id"]
    assert revoked.returncode == 0
    states = {row["key_id"]: row["state"] for row in json.loads(listed.stdout)}
    assert states == {first["key_id"]: "revoked", rotated["key_id"]: "live"}
    secrets = [text["key"].split("_")[3] for text in (first, rotated)]
    assert not [secret for secret in secrets if secret in listed.stdout + revoked.stdout]
    told = tidemark("key", "create", "--tenant", tenant, "--scope", "read")
    assert "not shown again" in told.stdout
    assert "tm_live_" in told.stdout
    assert tidemark("key", "create", "--tenant", tenant, "--scope", "write").returncode == 2


def test_a_tenant_s_month_is_limited_and_freed_again(settings: Settings, tenant: str) -> None:
    limited = tidemark("tenant", "limit", tenant, "--records-a-month", "1000", "--json")
    assert json.loads(limited.stdout) == {"tenant": tenant, "records_a_month": 1000, "accepted_this_month": 0}
    (listed,) = json.loads(tidemark("tenant", "list", "--json").stdout)
    assert (listed["records_a_month"], listed["accepted_this_month"]) == (1000, 0)
    assert "may land 1000 records a month; 0 were" in tidemark("tenant", "limit", tenant).stdout
    freed = tidemark("tenant", "limit", tenant, "--records-a-month", "none")
    assert "any number of records" in freed.stdout


def test_a_declared_batch_is_shown(settings: Settings, connection: Connection, tenant: str) -> None:
    declared = tidemark("manifest", "declare", "--tenant", tenant, "--batch-key", "2026-05-01", "--expected", "3")
    assert "Batch 2026-05-01 should have 3 records." in declared.stdout
    (shown,) = json.loads(tidemark("manifest", "list", "--tenant", tenant, "--json").stdout)
    assert (shown["batch_key"], shown["expected"], shown["checksum"]) == ("2026-05-01", 3, None)
    assert (shown["status"], shown["due_at"] > shown["declared_at"]) == ("WAITING", True)


def test_a_database_that_goes_away_amid_a_push_is_a_message_that_says_to_push_again(
    settings: Settings, database: Database, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "records.ndjson"
    path.write_text(json.dumps(GOOD))
    with ThreadPoolExecutor(1) as pool, database.connect() as holder:
        holder.execute("lock table raw.evaluations in access exclusive mode")
        pushing = pool.submit(tidemark, "push", str(path), "--tenant", tenant)
        end_it = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
        while connection.execute(end_it).fetchone() is None and not pushing.done():
            pass
        pushed = pushing.result()
    assert pushed.returncode == 1
    assert "run this again" in pushed.stderr
    assert "Traceback" not in pushed.stderr

"""The drop folder: each file lands once whatever dies, grows or is broken; nothing in the folder is touched."""

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.drop_folder.folder import DropFolder
from assets.drop_folder.landing import Landed, land_ready
from assets.drop_folder.ledger import only_worker, reports
from assets.drop_folder.looking import look
from storage.clock import Clock
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.settings import PROJECT_ROOT, Settings
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, tzinfo=UTC)
COUNTS = ("accepted", "duplicates", "conflicts", "rejected")


class _At(Clock):
    """A clock that stands where it was put."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


def _record(number: int, **more: object) -> dict[str, object]:
    return {
        "record_id": f"r-{number}",
        "template": "invoice",
        "extractor_vendor": "v",
        "extractor_model": "m",
        "drift_score": 0.25,
        "created_at": "2026-05-01T00:00:00Z",
    } | more


def _ndjson(numbers: range) -> bytes:
    return b"".join(json.dumps(_record(number)).encode() + b"\n" for number in numbers)


def _csv(numbers: range) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(_record(0)))
    writer.writeheader()
    writer.writerows(_record(number) for number in numbers)
    return text.getvalue().encode()


def _parquet(numbers: range) -> bytes:
    file = io.BytesIO()
    pd.DataFrame([_record(number) for number in numbers]).to_parquet(file, row_group_size=4)
    return file.getvalue()


def _lay(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _land(connection: Connection, folder: Path | str, clock: Clock | None = None) -> Landed:
    drop = DropFolder(str(folder))
    seen = look(connection, drop, NOW, at_once=True)
    return land_ready(connection, drop, seen.ready, clock or _At())


def _state(connection: Connection, path: str) -> tuple[object, ...]:
    (report,) = reports(connection, paths=[path])
    return (report["state"], *(report[count] for count in COUNTS))


def _ids(connection: Connection) -> int:
    rows = connection.execute("select count(*), count(distinct record_id) from raw.evaluations").fetchall()
    [(count, distinct)] = rows
    assert count == distinct
    return int(count)


def _judged(connection: Connection) -> int:
    """Lines judged, by the receipts: what no ledger can gloss over."""
    query = "select coalesce(sum(accepted + duplicates + conflicts + rejected), 0)::bigint from raw.ingest_batches"
    [(judged,)] = connection.execute(query).fetchall()
    return int(judged)


_WORKER = """
import sys
from assets.drop_folder.folder import DropFolder
from assets.drop_folder.landing import land_ready
from assets.drop_folder.looking import look
from assets.evaluations import push
from storage.clock import Clock
from storage.database import locate_database
from storage.settings import load_settings

push.MOST_LINES_A_BATCH = 2000
with locate_database(load_settings()).connect(autocommit=True) as connection:
    folder = DropFolder(sys.argv[1])
    seen = look(connection, folder, Clock().now(), at_once=True)
    land_ready(connection, folder, seen.ready, Clock())
"""


def _worker(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WORKER, str(folder)], cwd=PROJECT_ROOT, env=dict(os.environ))


def test_a_killed_worker_leaves_a_file_that_lands_on_with_every_line_judged_exactly_once(
    settings: Settings, connection: Connection, tenant: str, tmp_path: Path
) -> None:
    choice = random.Random(4)  # noqa: S311 - order, not secrets
    numbers = [*range(50_000), *choice.choices(range(50_000), k=10_000)]
    choice.shuffle(numbers)
    lines = b"\n".join(json.dumps(_record(number)).encode() for number in numbers)
    path = _lay(tmp_path, f"{tenant}/log.ndjson", lines)

    kills = 0
    while True:
        [(before,)] = connection.execute("select coalesce(max(lines_done), 0) from raw.dropped_files").fetchall()
        child = _worker(tmp_path)
        while child.poll() is None:
            [(done,)] = connection.execute("select coalesce(max(lines_done), 0) from raw.dropped_files").fetchall()
            if kills < 2 and done > before:
                child.kill()
                kills += 1
                child.wait()
            time.sleep(0.005)
        if _state(connection, f"{tenant}/log.ndjson")[0] == "landed":
            break

    assert kills == 2
    assert _ids(connection) == 50_000
    assert _judged(connection) == 60_000
    assert _state(connection, f"{tenant}/log.ndjson") == ("landed", 50_000, 10_000, 0, 0)
    assert path.read_bytes() == lines


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.ndjson", _ndjson),
        ("a.jsonl.gz", lambda numbers: gzip.compress(_ndjson(numbers))),
        ("a.csv", lambda numbers: b"\xef\xbb\xbf" + _csv(numbers).replace(b"invoice", b'"in\nvoice"')),
        ("a.csv.gz", lambda numbers: gzip.compress(_csv(numbers))),
        ("a.parquet", _parquet),
    ],
)
def test_every_format_goes_on_where_its_landing_was_interrupted(
    name: str,
    make: Callable[[range], bytes],
    connection: Connection,
    tenant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assets.evaluations.push.MOST_LINES_A_BATCH", 3)
    _lay(tmp_path, f"{tenant}/{name}", make(range(20)))
    folder = DropFolder(str(tmp_path))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            land_ready(connection, folder, look(connection, folder, NOW, at_once=True).ready, _At(), interrupt)
        assert 0 < _ids(connection) < 20
    assert _land(connection, tmp_path).total("accepted") == 20
    assert (_ids(connection), _judged(connection)) == (20, 20)
    assert not look(connection, folder, NOW, at_once=True).ready


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.floats(0, 1), max_size=4), name=st.sampled_from(["ndjson", "csv"]), end=st.booleans())
def test_a_file_that_is_appended_to_at_any_byte_loses_no_line_and_lands_none_twice(
    connection: Connection, tenant: str, tmp_path: Path, cuts: list[float], name: str, end: bool
) -> None:
    start = uuid.uuid4().int
    content = (_ndjson if name == "ndjson" else _csv)(range(start, start + 8))
    content = content if end else content.rstrip(b"\r\n")
    path = _lay(tmp_path, f"{tenant}/{uuid.uuid4()}.{name}", b"")
    rows = _ids(connection)
    # Half a header is no beginning of a file of records.
    least = content.index(b"\n") + 1 if name == "csv" else 0
    places = sorted({max(least, int(cut * len(content))) for cut in cuts} | {len(content)})
    for place in places:
        with path.open("ab") as file:
            file.write(content[path.stat().st_size : place])
        _land(connection, tmp_path)
    assert _ids(connection) == rows + 8
    state, accepted, duplicates, conflicts, rejected = _state(connection, f"{tenant}/{path.name}")
    assert (state, accepted, duplicates, conflicts) == ("landed", 8, 0, 0)
    assert int(str(rejected)) <= len(places)


def test_other_content_under_a_known_name_is_a_new_version_from_the_start(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    path = f"{tenant}/a.ndjson"
    _lay(tmp_path, path, _ndjson(range(10)))
    _land(connection, tmp_path)
    _lay(tmp_path, path, _ndjson(range(100, 130)))
    assert _state_after(connection, tmp_path, path) == ("landed", 30, 0, 0, 0)
    _lay(tmp_path, path, json.dumps(_record(100, template="other")).encode())
    assert _state_after(connection, tmp_path, path) == ("landed", 0, 0, 1, 0)
    states = connection.execute("select version, state from raw.dropped_files order by version").fetchall()
    assert states == [(1, "superseded"), (2, "superseded"), (3, "landed")]


def _state_after(connection: Connection, folder: Path, path: str) -> tuple[object, ...]:
    _land(connection, folder)
    return _state(connection, path)


def test_a_file_waits_until_it_rests_but_whole_lines_of_a_log_that_never_does_land(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    folder, clock = DropFolder(str(tmp_path)), _At()
    log = _lay(tmp_path, f"{tenant}/log.ndjson", _ndjson(range(5)))
    _lay(tmp_path, f"{tenant}/resting.csv", _csv(range(10, 13)))

    def ready() -> list[str]:
        return [item.file.path.rpartition("/")[2] for item in look(connection, folder, clock.now()).ready]

    assert ready() == []
    clock.time += timedelta(seconds=2)
    assert ready() == []
    for number in range(6, 9):
        clock.time += timedelta(seconds=15)
        log.write_bytes(_ndjson(range(number)))
        assert ready() == ["resting.csv"]
    log.write_bytes(_ndjson(range(9)) + b'{"record_id": "half')
    clock.time += timedelta(seconds=15)
    seen = look(connection, folder, clock.now())
    assert [item.settled for item in seen.ready] == [False, True]
    assert land_ready(connection, folder, seen.ready, clock).total("accepted") == 9 + 3
    assert _state(connection, f"{tenant}/log.ndjson") == ("landed", 9, 0, 0, 0)
    assert ready() == []


def test_a_poison_file_fails_with_its_reason_and_keeps_no_other_from_landing(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    secret = _lay(tmp_path / "elsewhere", "secret.ndjson", _ndjson(range(900, 901)))
    drop = tmp_path / "drop"
    packed = gzip.compress(
        b"".join(json.dumps(_record(n, correlation_id=uuid.uuid4().hex)).encode() + b"\n" for n in range(50))
    )
    poison = {
        "cut.ndjson.gz": (packed[: len(packed) // 2], "cut off"),
        "no.ndjson.gz": (b"not gzip at all", "damaged"),
        "broken.parquet": (_parquet(range(20))[:-30], "no readable Parquet"),
        "columns.csv": (b"colour,weight\nred,3\n", "name the columns so in the file"),
        "empty.csv": (b"", "is empty"),
        "semicolons.csv": (b"record_id;template\n1;2\n", "commas"),
    }
    for name, (content, _) in poison.items():
        _lay(drop, f"{tenant}/{name}", content)
    (drop / tenant / "folder.ndjson").mkdir()
    (drop / tenant / "loop.ndjson").symlink_to(drop / tenant / "loop.ndjson")
    (drop / tenant / "outside.ndjson").symlink_to(secret)
    os.mkfifo(drop / tenant / "pipe.ndjson")
    for name in (f"{tenant}/notes.txt", "nobody/a.ndjson", "stray.ndjson"):
        _lay(drop, name, b"x")
    for name in (".hidden.ndjson", "half.ndjson.tmp", "half.ndjson.part", "_SUCCESS", "_temporary/a.ndjson"):
        _lay(drop, f"{tenant}/{name}", b"x")
    _lay(drop, f"{tenant}/z_good.ndjson", _ndjson(range(1000, 1010)))
    before = {path: path.lstat() for path in drop.rglob("*")}

    seen = look(connection, DropFolder(str(drop)), NOW, at_once=True)
    landed = _land(connection, drop)

    assert landed.failed == len(poison)
    for name, (_, reason) in poison.items():
        (report,) = reports(connection, paths=[f"{tenant}/{name}"])
        assert (report["state"], reason in str(report["error"])) == ("failed", True), report
    assert _state(connection, f"{tenant}/z_good.ndjson") == ("landed", 10, 0, 0, 0)
    assert connection.execute("select count(*) from raw.evaluations where record_id = 'r-900'").fetchone() == (0,)
    left = [item.path for item in seen.left_alone]
    names = ("folder.ndjson", "loop.ndjson", "notes.txt", "outside.ndjson", "pipe.ndjson")
    assert left == sorted([*(f"{tenant}/{name}" for name in names), "nobody", "stray.ndjson"])
    assert {path: _told(path.lstat()) for path in drop.rglob("*")} == {p: _told(s) for p, s in before.items()}

    # What is right is tried again, and goes on behind what had landed of it.
    _lay(drop, f"{tenant}/cut.ndjson.gz", packed)
    _lay(drop, f"{tenant}/columns.csv", _csv(range(2000, 2003)))
    assert [file["state"] for file in _land(connection, drop).files] == ["landed", "landed"]
    assert _ids(connection) == 10 + 50 + 3


def _told(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode


def test_a_file_that_is_taken_away_is_reported_and_lands_when_it_comes_back(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    folder, path = DropFolder(str(tmp_path)), _lay(tmp_path, f"{tenant}/a.ndjson", _ndjson(range(3)))
    seen = look(connection, folder, NOW, at_once=True)
    away = path.rename(tmp_path / "away")
    assert land_ready(connection, folder, seen.ready, _At()).failed == 1
    away.rename(path)
    path.touch()
    look(connection, folder, NOW)
    path.rename(away)
    look(connection, folder, NOW)
    (report,) = reports(connection)
    assert "taken away" in str(report["error"])
    away.rename(path)
    assert _land(connection, tmp_path).total("accepted") == 3


def test_feedback_has_a_folder_of_its_own_and_tenants_are_kept_apart(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    create_tenant(connection, "other")
    _lay(tmp_path, f"{tenant}/feedback/f.ndjson", b'{"record_id": "r-1", "success": true}\n')
    _lay(tmp_path, "other/a.ndjson", _ndjson(range(3)))
    drop = DropFolder(str(tmp_path))
    seen = look(connection, drop, NOW, tenant=tenant, at_once=True)
    assert land_ready(connection, drop, seen.ready, _At()).total("accepted") == 1
    assert connection.execute("select tenant_id, count(*) from raw.feedback group by 1").fetchall() == [(tenant, 1)]
    _land(connection, tmp_path)
    by_tenant = connection.execute("select tenant_id, count(*) from raw.evaluations group by 1").fetchall()
    assert by_tenant == [("other", 3)]
    receipt = connection.execute("select door, source from raw.ingest_batches where tenant_id = 'other'").fetchall()
    assert receipt == [("drop_folder", "other/a.ndjson")]


def test_two_workers_at_once_land_each_line_once(
    database: Database, connection: Connection, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.evaluations.push.MOST_LINES_A_BATCH", 50)
    for number in range(4):
        _lay(tmp_path, f"{tenant}/{number}.ndjson", _ndjson(range(number * 1000, number * 1000 + 500)))
    folder = DropFolder(str(tmp_path))
    ready = look(connection, folder, NOW, at_once=True).ready

    def work() -> None:
        with database.connect(autocommit=True) as own:
            land_ready(own, folder, ready, _At())

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (_ids(connection), _judged(connection)) == (2000, 2000)
    with database.connect(autocommit=True) as own, only_worker(own, f"{tenant}/0.ndjson") as alone:
        assert alone
        _lay(tmp_path, f"{tenant}/0.ndjson", _ndjson(range(5000, 5010)))
        assert _land(connection, tmp_path).files == ()
    assert _land(connection, tmp_path).total("accepted") == 10


def test_an_object_store_is_a_drop_folder_too(connection: Connection, tenant: str) -> None:
    store = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4()}"
    address = f"memory:/{root}"
    with pytest.raises(UsageError, match="no folder memory:"):
        _land(connection, address)
    for name, content in {
        "a.ndjson": _ndjson(range(5)),
        "b.parquet": _parquet(range(10, 20)),
        "c.csv.gz": gzip.compress(_csv(range(30, 33))),
        "feedback/f.csv": b"record_id,success\nr-1,true\n",
    }.items():
        store.pipe(f"{root}/{tenant}/{name}", content)
    assert Counter(str(file["state"]) for file in _land(connection, address).files) == {"landed": 4}
    assert _ids(connection) == 18
    assert not look(connection, DropFolder(address), NOW, at_once=True).ready
    store.pipe(f"{root}/{tenant}/a.ndjson", _ndjson(range(7)))
    assert [(file["accepted"], file["duplicates"]) for file in _land(connection, address).files] == [(7, 0)]


def test_a_store_that_fails_amid_a_file_is_asked_again(
    connection: Connection, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"memory://{uuid.uuid4()}"
    fsspec.filesystem("memory").pipe(f"{address}/{tenant}/a.ndjson", _ndjson(range(5)))

    def away(*_: object, **__: object) -> None:
        raise TimeoutError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr("fsspec.implementations.memory.MemoryFileSystem._open", away)
        landed = _land(connection, address)
    assert landed.interrupted == (f"{tenant}/a.ndjson: {tenant}/a.ndjson can't be read: the store does not answer.",)
    assert _land(connection, address).total("accepted") == 5


@pytest.mark.parametrize("address", ["s3://bucket/drop", "nowhere://drop"])
def test_a_store_whose_package_is_missing_is_named_with_the_remedy(address: str) -> None:
    with pytest.raises(UsageError, match=f"TIDEMARK_DROP_FOLDER={address}.*Install"):
        DropFolder(address)


def test_a_folder_that_becomes_a_link_after_the_look_is_not_followed(
    connection: Connection, tenant: str, tmp_path: Path
) -> None:
    create_tenant(connection, "other")
    _lay(tmp_path, "other/a.ndjson", b'{"record_id": "theirs", "success": true}\n')
    mine = _lay(tmp_path, "acme/feedback/a.ndjson", b'{"record_id": "mine", "success": true}\n')
    folder = DropFolder(str(tmp_path))
    ready = [item for item in look(connection, folder, NOW, at_once=True).ready if "acme" in item.file.path]
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.symlink_to(tmp_path / "other")
    landed = land_ready(connection, folder, ready, _At())
    assert [file["state"] for file in landed.files] == ["failed"]
    assert connection.execute("select count(*) from raw.feedback").fetchone() == (0,)


@pytest.mark.parametrize("written", [_ndjson, _csv])
def test_a_longer_file_in_which_an_earlier_line_changed_is_read_again_from_its_beginning(
    connection: Connection, tenant: str, tmp_path: Path, written: Callable[[range], bytes]
) -> None:
    name = "acme/a.ndjson" if written is _ndjson else "acme/a.csv"
    _lay(tmp_path, name, written(range(1, 5)))
    assert _land(connection, tmp_path).total("accepted") == 4
    # In its place, as a program does that writes its whole list anew, and of the same length up to what is new.
    anew = written(range(1, 7)).replace(b"r-2", b"r-9")
    with (tmp_path / name).open("r+b") as file:
        file.write(anew)
    assert _land(connection, tmp_path).total("accepted") == 3
    assert _ids(connection) == 7

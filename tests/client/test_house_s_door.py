"""The client at the house's own door: verdicts, keys, and a gateway that is killed amid a push."""

import math
import random
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from door import serving

from benchmarks.gateway_load import free_port, gateway_process
from orchestration.remote_push import push_file_to
from storage.api_keys import create_key
from storage.database import Connection, Database
from storage.settings import Settings
from tidemark_client import AuthenticationError, Client, PushResult, RecordsRejectedError

COUNT = 10_000


def _record(number: int, **fields: object) -> dict[str, object]:
    return {
        "record_id": f"r-{number}",
        "template": "invoice",
        "extractor_vendor": "v",
        "extractor_model": "m",
        "drift_score": number % 100 / 100,
        "created_at": datetime(2026, 5, 1, tzinfo=UTC),
        **fields,
    }


@pytest.fixture
def key(connection: Connection, tenant: str) -> str:
    return create_key(connection, tenant, ["ingest"], now=datetime.now(UTC))[1]


def test_verdicts_of_every_kind_come_back_to_their_records(
    database: Database, connection: Connection, key: str, tenant: str, tmp_path: Path
) -> None:
    records = [
        _record(0),
        _record(1, drift_score=7),
        _record(2, drift_score=math.nan),
        _record(0),
        _record(0, drift_score=0.9),
        b'{"template": "no',
        b"[]",
        _record(3, features={"pages": 3, "language": "de"}),
    ]
    path = tmp_path / "records.ndjson"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"template":\r\n')
    with serving(database) as http:
        url = str(http.base_url)
        with Client(url, key, batch_records=3) as client:
            with pytest.raises(RecordsRejectedError) as raised:
                client.push(records)
            record_id = client.record(template="t", extractor_vendor="v", extractor_model="m", score=1.5)
            assert client.flush(30).accepted == 1
        with Client(url, key, on_reject=lambda _: None) as quiet:
            assert [problem.line.number for problem in push_file_to(quiet, path).problems] == [2]
        _, reading = create_key(connection, tenant, ["read"], now=datetime.now(UTC))
        with Client(url, reading) as reader, pytest.raises(AuthenticationError, match="scope ingest"):
            reader.push(records)

    result = raised.value.result
    assert (result.accepted, result.duplicates, result.conflicts, result.rejected) == (2, 1, 1, 4)
    assert [problem.index for problem in result.problems] == [1, 2, 4, 5, 6]
    assert [problem.field for problem in result.problems] == ["drift_score", "drift_score", "record_id", None, None]
    # What was refused before it was sent has no receipt; the rest is kept by the server.
    assert [problem.batch_id is None for problem in result.problems] == [False, True, False, False, False]
    landed = connection.execute("select record_id from raw.evaluations").fetchall()
    assert {row[0] for row in landed} == {"r-0", "r-3", record_id}
    assert connection.execute("select count(*) from raw.rejected_records").fetchone() == (5,)


def test_a_push_outlives_the_gateway_s_death_and_lands_each_record_once(
    settings: Settings, connection: Connection, key: str
) -> None:
    port = free_port()
    chance = random.Random(1)  # noqa: S311 - a sample, not a secret
    # A fifth of the records is sent twice, as pipelines do.
    numbers = [*range(COUNT), *chance.sample(range(COUNT), COUNT // 5)]
    results: list[PushResult] = []
    with Client(f"http://127.0.0.1:{port}", key, batch_records=250, max_attempts=1000) as client:
        pushing = threading.Thread(target=lambda: results.append(client.push(map(_record, numbers))))
        pushing.start()
        for _ in range(2):
            with gateway_process(port, {}) as child:
                before = _landed(connection)
                while pushing.is_alive() and _landed(connection) < before + COUNT // 10:
                    time.sleep(0.02)
                child.send_signal(signal.SIGKILL)
        with gateway_process(port, {}):
            pushing.join(60)
    (result,) = results
    assert result.records == len(numbers)
    assert result.refused == 0
    assert _landed(connection) == COUNT
    # An answer that was lost may be given again as a verdict of duplicates.
    assert result.accepted <= COUNT


def _landed(connection: Connection) -> int:
    row = connection.execute("select count(*) from raw.evaluations").fetchone()
    assert row is not None
    return int(row[0])

"""`Client.push`: whatever the server does, nothing acknowledged is lost, nothing is doubled, problems are in order."""

import json
import math
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unruly_door import ACTS, KEY, Door, unruly_door

from storage.settings import PROJECT_ROOT
from tidemark_client import (
    AuthenticationError,
    Client,
    DeliveryError,
    InvalidRecordError,
    Problem,
    RecordsRejectedError,
    RequestRefusedError,
)
from tidemark_client.clock import Clock
from tidemark_client.encoding import to_line
from tidemark_client.patience import LONGEST_WAIT, seconds_of


class PatientClock(Clock):
    """Waits take no time; they are remembered."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.elapsed

    def wait(self, seconds: float, stop: threading.Event) -> None:  # noqa: ARG002 - it never stops
        self.waits.append(seconds)
        self.elapsed += seconds


@pytest.fixture(scope="module")
def running() -> Iterator[Door]:
    with unruly_door() as door:
        yield door


@pytest.fixture
def door(running: Door) -> Door:
    _reset(running)
    return running


def _reset(door: Door, **state: object) -> None:
    fresh: dict[str, object] = {"script": [], "always": "ok", "landed": {}, "answers": {}, "requests": []}
    limits: dict[str, object] = {"most_records": 10_000, "most_bytes": 8 * 1024 * 1024, "slow_seconds": 0.0}
    for name, value in (fresh | limits | state).items():
        setattr(door, name, value)


def _client(door: Door, **options: Any) -> Client:
    return Client(door.url, KEY, **{"clock": PatientClock(), **options})


def _record(number: int, **fields: object) -> dict[str, object]:
    return {"record_id": f"r-{number}", "template": "invoice", "drift_score": 0.1, **fields}


Kind = st.sampled_from(["good", "good", "good", "anonymous", "bad", "nan", "not json", "too large"])


def _of_kind(kind: str, number: int) -> Any:
    return {
        "good": _record(number),
        "anonymous": {"template": "invoice", "drift_score": number / 100},
        "bad": _record(number, template=""),
        "nan": _record(number, drift_score=math.nan),
        "not json": b"{%d" % number,
        "too large": _record(number, label="x" * 2000),
    }[kind]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(Kind, max_size=25),
    script=st.lists(st.sampled_from(ACTS), max_size=12),
    batch=st.integers(1, 10),
    most=st.integers(1, 10),
    attempts=st.integers(1, 5),
    idempotent=st.booleans(),
)
def test_under_any_misbehaviour_what_is_acknowledged_has_landed_once_and_the_rest_is_counted(
    running: Door, kinds: list[str], script: list[str], batch: int, most: int, attempts: int, idempotent: bool
) -> None:
    _reset(running, script=list(script), most_records=most, most_bytes=1000)
    records = [_of_kind(kind, number) for number, kind in enumerate(kinds)]
    expected = {number for number, kind in enumerate(kinds) if kind in ("good", "anonymous")}
    told: list[Problem] = []
    with _client(running, batch_records=batch, max_attempts=attempts, deadline=1e6, on_reject=told.append) as client:
        failed = None
        try:
            result = client.push(iter(records) if idempotent else records, idempotent=idempotent)
        except DeliveryError as error:
            result, failed = error.result, error

        judged = range(result.records)
        acknowledged = expected & set(judged)
        assert result.accepted + result.duplicates == len(acknowledged)
        assert [problem.index for problem in told] == sorted(set(judged) - expected)
        assert result.problems == told
        # By content, which leaves out the ids that the client made.
        landed = sorted(_place(content) for content in running.landed.values())
        assert set(landed) >= acknowledged
        assert set(landed) <= expected
        assert len(landed) == len(set(landed))
        left = len(records) - result.records
        assert bool(left) == bool(failed)
        if failed:
            assert 0 < failed.unsent <= left
            assert failed.unread or failed.unsent == left
        running.script.clear()
        if idempotent:
            again = client.push(records)
            assert again.records == len(records)
            assert {_place(content) for content in running.landed.values()} == expected
            assert len(running.landed) == len(expected)


def _place(content: str) -> int:
    record = json.loads(content)
    named = str(record.get("record_id", ""))
    return int(named[2:]) if named.startswith("r-") else round(record["drift_score"] * 100)


def test_refused_records_raise_after_everything_was_sent(door: Door) -> None:
    records = [_record(0), _record(1, template=""), _record(0, drift_score=0.9), _record(3)]
    with _client(door, batch_records=2) as client, pytest.raises(RecordsRejectedError) as raised:
        client.push(records)
    result = raised.value.result
    assert (result.accepted, result.rejected, result.conflicts, result.unnamed) == (2, 1, 1, 0)
    assert [(problem.index, problem.verdict) for problem in result.problems] == [(1, "rejected"), (2, "conflict")]
    assert json.loads(result.problems[0].payload)["record_id"] == "r-1"
    assert "record 1: rejected: template: must not be empty" in str(raised.value)
    assert str(raised.value).startswith("2 of 4 records were refused")
    assert "The others landed." in str(raised.value)
    with _client(door) as client, pytest.raises(RecordsRejectedError, match="1 of 1 record was refused") as alone:
        client.push([_record(1, template="")])
    assert "landed" not in str(alone.value)
    # As worker processes hand their errors on.
    assert pickle.loads(pickle.dumps(raised.value)).result == result  # noqa: S301 - our own
    assert set(door.landed) == {"r-0", "r-3"}


def test_retries_keep_their_idempotency_key_and_honour_retry_after(door: Door) -> None:
    clock = PatientClock()
    door.script = ["503 soon", "unheard", "429 date", "503"]
    with _client(door, clock=clock) as client:
        result = client.push([_record(0)])
    # The answer of the landing that was not heard is the one that comes in the end.
    assert (result.accepted, len(door.landed)) == (1, 1)
    assert len({request["Idempotency-Key"] for request in door.requests}) == 1
    assert len(clock.waits) == 4
    assert clock.waits[0] >= 2
    assert 1 <= clock.waits[2] <= 3 + LONGEST_WAIT
    assert clock.waits[1] <= 1


def test_what_a_server_asks_for_is_read_in_both_forms() -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert seconds_of("120", now) == 120
    assert seconds_of("Fri, 01 May 2026 12:00:30 GMT", now) == 30
    assert seconds_of("Fri, 01 May 2026 11:00:00 GMT", now) == 0
    no_time = (None, "", "soon", "-1", "Fri, 99 May", "Fri, 01 May 2026 12:00:30 +99999999999999")
    assert [seconds_of(text, now) for text in no_time] == [None] * 6


def test_a_server_that_asks_for_more_than_the_deadline_is_given_up_at_once_with_its_own_words(door: Door) -> None:
    clock = PatientClock()
    door.script, door.always = ["503 soon"], "429 month"
    with _client(door, clock=clock, deadline=400.0) as client, pytest.raises(DeliveryError) as raised:
        client.push(_record(number) for number in range(3))
    assert (raised.value.unsent, raised.value.kept) == (3, 0)
    assert "429 Too Many Requests: the month is full; it asks for 1,728,000 s" in str(raised.value)
    assert len(clock.waits) == 1


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        ("401", AuthenticationError, "tidemark key create"),
        ("403", AuthenticationError, "not now"),
        ("400", RequestRefusedError, "not now"),
        ("422", RequestRefusedError, "not now"),
        ("308", RequestRefusedError, "308"),
        ("portal", RequestRefusedError, "is the URL a Tidemark server's?"),
    ],
)
def test_what_no_retry_helps_is_not_retried(door: Door, act: str, error: type[DeliveryError], told: str) -> None:
    door.script = ["ok", act]
    with _client(door, batch_records=2) as client, pytest.raises(error, match="5 records are unsent") as raised:
        client.push([_record(number) for number in range(7)])
    assert raised.value.result.accepted == 2
    assert told in str(raised.value)
    assert len(door.requests) == 2


def test_an_answer_that_does_not_come_is_asked_for_again(door: Door) -> None:
    door.slow_seconds = 0.6
    with _client(door, timeout=0.2, max_attempts=2) as client:
        with pytest.raises(DeliveryError, match="Timeout"):
            client.push([_record(0)])
        door.slow_seconds = 0
        assert client.push([_record(0)]).duplicates == 1


def test_the_key_is_in_no_error_repr_or_message(door: Door) -> None:
    secret = "tm_live_x_verysecret_y"
    client = Client(door.url, secret, clock=PatientClock(), max_attempts=1)
    with pytest.raises(AuthenticationError) as refused:
        client.push([_record(0)])
    away = Client("http://127.0.0.1:1", secret, clock=PatientClock(), max_attempts=1)
    with pytest.raises(DeliveryError, match="ConnectError") as lost:
        away.push([_record(0)])
    for error in (refused.value, lost.value):
        assert error.__cause__ is None
        # A reporter of errors shows the whole chain, with each exception's attributes.
        context: BaseException | None = error
        while context is not None:
            assert "verysecret" not in f"{context!r}{vars(context)}"
            assert "httpx" not in type(context).__module__
            context = context.__context__
    assert "verysecret" not in f"{client!r}{vars(client)}"
    with pytest.raises(ValueError, match="api_key") as wrong:
        Client(door.url, secret + "\n")
    assert "verysecret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"drift_score": math.nan}, "drift_score", "not_finite"),
        ({"drift_score": numpy.float32("inf")}, "drift_score", "not_finite"),
        ({"features": {"pages": 3, "skew": math.nan}}, "features.skew", "not_finite"),
        ({"embedding": numpy.array([0.5, math.nan])}, "embedding", "not_finite"),
        ({"created_at": datetime(2026, 5, 1, tzinfo=UTC).replace(tzinfo=None)}, "created_at", "naive_datetime"),
        ({"label": "\ud800"}, "label", "encoding"),
        ({"label": {1, 2}}, "label", "type"),
        ({"label": "x" * 9_000_000}, None, "too_large"),
    ],
)
def test_what_can_t_be_sent_is_named_by_its_field(fields: dict[str, object], field: str | None, code: str) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        to_line(_record(1, **fields))
    assert (raised.value.field, raised.value.code) == (field, code)


def test_times_ids_and_numpy_s_numbers_are_written_as_the_contract_wants_them() -> None:
    evaluation_id = uuid.uuid4()
    line = to_line(
        {
            "evaluation_id": evaluation_id,
            "created_at": datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
            "drift_score": numpy.float32(0.5),
            "fields_total": numpy.int64(3),
            "success": numpy.bool_(True),
            "embedding": numpy.array([0.25, 1.0]),
            "label": "ü",
        }
    )
    assert json.loads(line) == {
        "evaluation_id": str(evaluation_id),
        "created_at": "2026-05-01T12:00:00+00:00",
        "drift_score": 0.5,
        "fields_total": 3,
        "success": True,
        "embedding": [0.25, 1.0],
        "label": "ü",
    }


def test_it_is_imported_where_only_httpx_is_installed() -> None:
    script = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ROOMS:
            raise ImportError(name + " is not installed here")
ROOMS = {"storage", "assets", "sensors", "gateway", "orchestration", "dagster", "pydantic", "psycopg", "orjson"}
sys.meta_path.insert(0, Nothing())
import tidemark_client
import tidemark_client.spool
tidemark_client.Client("http://127.0.0.1:1", "key").close()
print(sorted(ROOMS & {name.partition(".")[0] for name in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.stdout.strip(), run.stderr) == ("[]", "")

"""`Client.enqueue`: what was taken is delivered once, through crashes, forks, refusals and the end of the process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unruly_door import ACTS, KEY, Door, unruly_door

from storage.settings import PROJECT_ROOT
from tidemark_client import (
    AuthenticationError,
    Client,
    DeliveryError,
    InvalidRecordError,
    Problem,
    QueueFullError,
    RecordsRejectedError,
    SpoolError,
)

ENDLESS = """
import os, sys
from tidemark_client import Client
client = Client(os.environ["URL"], os.environ["KEY"], spool=os.environ["SPOOL"], batch_records=20, flush_interval=0.01)
for number in range(10**9):
    record_id = client.record(template="invoice", drift_score=0.1)
    sys.stdout.write(record_id + "\\n")
    sys.stdout.flush()
"""

ENDING = """
import os
from tidemark_client import Client
client = Client(os.environ["URL"], os.environ["KEY"], flush_interval=3600)
for number in range(500):
    client.record(record_id=f"r-{number}", template="invoice", drift_score=0.1)
"""


@pytest.fixture
def door() -> Iterator[Door]:
    with unruly_door() as door:
        yield door


def _client(door: Door, **options: Any) -> Client:
    return Client(door.url, KEY, **{"flush_interval": 0.01, **options})


def _eventually(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


def _child(script: str, door: Door, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=PROJECT_ROOT,
        env=os.environ | {"URL": door.url, "KEY": KEY} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_every_record_taken_before_kill_9_arrives_exactly_once(door: Door, tmp_path: Path) -> None:
    taken: list[str] = []
    for round_number in range(3):
        # In the last round nothing gets through: all of it is the spool's to deliver.
        door.script = [*ACTS] * 3
        door.always = "ok" if round_number < 2 else "lost"
        child = _child(ENDLESS, door, SPOOL=str(tmp_path))
        assert child.stdout
        for _ in range(300):
            taken.append(child.stdout.readline().strip())
        os.kill(child.pid, signal.SIGKILL)
        # Whole lines only: the last one may have been cut by the kill.
        taken += [line.strip() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.wait()
        child.stdout.close()
    assert not set(taken) <= set(door.landed)
    door.script, door.always = [], "ok"
    with _client(door, spool=tmp_path) as client:
        result = client.flush(30)
    assert result.conflicts == result.rejected == 0
    # Landed by id, so that twice is impossible here; that a resend is the same record is what no conflict says.
    assert set(taken) <= set(door.landed)
    # One record a kill may have been taken without the word of it getting out.
    assert len(door.landed) <= len(taken) + 3


def test_a_process_that_ends_sends_what_it_has_queued(door: Door) -> None:
    child = _child(ENDING, door)
    assert child.wait(60) == 0
    assert set(door.landed) == {f"r-{number}" for number in range(500)}


def test_records_go_out_by_age_and_by_count_without_a_flush(door: Door) -> None:
    with _client(door, flush_interval=0.05) as client:
        first = client.record(template="invoice", drift_score=0.1)
        _eventually(lambda: first in door.landed)
    with _client(door, flush_interval=3600, batch_records=5) as client:
        ids = {client.enqueue({"template": "invoice"}) for _ in range(5)}
        _eventually(lambda: ids <= set(door.landed) and not client.pending)
        client.record(template="invoice")
        assert client.pending == 1
    assert len(door.landed) == 7
    assert all("created_at" in json.loads(content) for content in door.landed.values())


def test_refused_records_are_told_at_the_flush_or_to_the_caller_s_function(door: Door) -> None:
    with _client(door) as client:
        client.record(template="invoice")
        client.record(template="")
        with pytest.raises(RecordsRejectedError, match="template: must not be empty") as raised:
            client.flush(20)
        assert (raised.value.result.accepted, raised.value.result.rejected) == (1, 1)
        assert client.flush(20).records == 0
        with pytest.raises(InvalidRecordError, match="drift_score: is NaN"):
            client.record(template="invoice", drift_score=float("nan"))
    told: list[Problem] = []
    with _client(door, on_reject=told.append) as client:
        client.record(template="", record_id="r-9")
        assert client.flush(20).rejected == 1
    assert told[0].record_id == "r-9"
    assert str(told[0]).startswith("queued record r-9: rejected: template: ")


def test_a_server_that_is_away_costs_nothing_with_a_spool_and_is_told_at_the_close(door: Door, tmp_path: Path) -> None:
    door.always = "503"
    client = _client(door, spool=tmp_path / "spool", max_attempts=2)
    ids = {client.record(template="invoice") for _ in range(30)}
    with pytest.raises(DeliveryError, match="503") as raised:
        client.flush(20)
    assert (raised.value.unsent, raised.value.kept) == (30, 30)
    with pytest.raises(DeliveryError, match="30 of them are kept"):
        client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.record(template="invoice")
    door.always = "ok"
    # No flush: what an earlier process left is sent by itself.
    with _client(door, spool=tmp_path / "spool"):
        _eventually(lambda: ids <= set(door.landed))
    assert not list((tmp_path / "spool").glob("*.segment"))


def test_an_outage_fails_no_block_whose_records_are_all_in_the_spool(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door.script, door.always = ["ok"], "503"
    client = _client(door, spool=tmp_path, close_timeout=1, batch_records=1)
    client.record(template="")
    _eventually(lambda: client.pending == 0)
    client.record(template="invoice", record_id="r-1")
    # What was refused before the outage is told all the same.
    with pytest.raises(RecordsRejectedError, match="template: must not be empty"):
        client.__exit__(None, None, None)
    with _client(door, spool=tmp_path, close_timeout=1) as client:
        client.record(template="invoice", record_id="r-2")
    assert "2 records are unsent: not answered within 1 s; the last attempt: the server answered 503" in caplog.text
    unkept = _client(door, close_timeout=0.2)
    unkept.record(template="invoice")
    with pytest.raises(DeliveryError, match="1 record is unsent"):
        unkept.__exit__(None, None, None)
    door.always = "ok"
    _client(door, spool=tmp_path).close()
    assert set(door.landed) == {"r-1", "r-2"}


def test_a_push_that_fails_leaves_the_rest_in_the_spool_as_far_as_it_fits(door: Door, tmp_path: Path) -> None:
    door.script, door.always = ["ok"], "503"
    records = [{"record_id": f"r-{number}", "template": "invoice"} for number in range(100)]
    client = _client(door, spool=tmp_path, spool_bytes=4096, batch_records=10, max_attempts=1)
    with pytest.raises(DeliveryError, match="90 records are unsent") as raised:
        client.push(records)
    assert 20 < raised.value.kept < 90
    door.always = "ok"
    assert client.flush(20).accepted == raised.value.kept
    assert set(door.landed) == {f"r-{number}" for number in range(10 + raised.value.kept)}
    client.close()


def test_a_flush_asks_for_an_attempt_of_its_own_though_an_older_one_is_in_vain_meanwhile(
    door: Door, tmp_path: Path
) -> None:
    door.script = ["503 when released"]
    with _client(door, spool=tmp_path, max_attempts=1) as client:
        client.record(template="invoice", record_id="r-1")
        _eventually(lambda: len(door.requests) == 1)
        threading.Timer(0.3, door.released.set).start()
        client.flush(20)
    assert set(door.landed) == {"r-1"}


def test_a_refused_key_is_raised_at_the_flush_and_nothing_is_dropped(door: Door, tmp_path: Path) -> None:
    client = Client(door.url, "tm_live_revoked", flush_interval=0.01, spool=tmp_path)
    client.record(template="invoice", record_id="r-1")
    with pytest.raises(AuthenticationError, match="tidemark key create") as raised:
        client.flush(20)
    assert raised.value.kept == 1
    with pytest.raises(AuthenticationError):
        client.close()
    with _client(door, spool=tmp_path) as renewed:
        renewed.flush(20)
    assert set(door.landed) == {"r-1"}


@pytest.mark.parametrize("spooled", [False, True])
def test_a_full_queue_raises_or_blocks_until_there_is_room(door: Door, tmp_path: Path, spooled: bool) -> None:
    door.always = "503"
    options = {"spool": tmp_path, "spool_bytes": 3000} if spooled else {"memory_bytes": 3000}
    client = _client(door, when_full="raise", **options)
    taken: list[str] = []

    def fill() -> None:
        for _ in range(1000):
            taken.append(client.record(template="invoice"))

    with pytest.raises(QueueFullError, match="no room"):
        fill()
    assert 5 < len(taken) < 40
    door.always = "ok"
    client.close()

    client = _client(door, when_full="block", **options)
    door.always = "503"
    blocked = threading.Thread(target=lambda: [client.record(template="invoice") for _ in range(40)])
    blocked.start()
    _eventually(lambda: client.pending > 5)
    assert blocked.is_alive()
    door.always = "ok"
    blocked.join(20)
    assert not blocked.is_alive()
    assert client.close().accepted == 40
    assert len(door.landed) == 40 + len(taken)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_queue_of_its_own_and_no_share_of_the_spool(door: Door, tmp_path: Path) -> None:
    with _client(door, flush_interval=3600) as client, _client(door, flush_interval=3600, spool=tmp_path) as spooled:
        client.record(record_id="parent", template="invoice")
        spooled.record(record_id="spooled", template="invoice")
        child = os.fork()
        if not child:
            status = 1
            try:
                client.record(record_id="child", template="invoice")
                client.flush(20)
                spooled.record(template="invoice")
            except SpoolError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert set(door.landed) == {"child"}
        with pytest.raises(SpoolError, match="in use"):
            _client(door, spool=tmp_path)
    assert set(door.landed) == {"child", "parent", "spooled"}
    assert len(door.requests) == 3


@pytest.mark.parametrize("ending", ["pass", "sys.exit()", "sys.exit(0)", "raise RuntimeError", "sys.exit(3)"])
def test_no_way_out_of_a_block_with_refused_records_looks_like_success(door: Door, ending: str) -> None:
    program = f"""
import os, sys
from tidemark_client import Client
with Client(os.environ["URL"], os.environ["KEY"], flush_interval=3600) as client:
    client.record(record_id="bad-1", template="")
    {ending}
"""
    with _child(program, door) as child:
        pass
    assert child.returncode == (3 if "3" in ending else 1)

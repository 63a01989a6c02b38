"""`tidemark up`: the HTTP door, the dispatcher, Dagster's page and its daemon, children of one process that stops all.

Dagster's own `dagster dev` ignores SIGTERM when a script starts it, so the page and the daemon are children of ours.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from storage.database import Database, connect, create_if_missing
from storage.locks import AdvisoryLock
from storage.settings import PROJECT_ROOT

_STOP_PATIENCE_SECONDS = 20.0
_ORPHANS_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.3
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Service:
    """One child: its name for people, and its command."""

    name: str
    command: Sequence[str]


def dagster_services(port: int) -> list[Service]:
    """Dagster's web page, on the loopback address alone because it has no login of its own, and its daemon."""
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    page = ["-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "--log-level", "warning", *workspace]
    daemon = ["-m", "dagster._daemon", "run", "--log-level", "info", *workspace]
    return [Service("page", [sys.executable, *page]), Service("daemon", [sys.executable, *daemon])]


def gateway_service() -> Service:
    """The HTTP door; where it listens it reads from the settings."""
    return Service("gateway", [sys.executable, "-m", "gateway"])


def dispatcher_service() -> Service:
    """What judges and delivers at once."""
    return Service("dispatcher", [sys.executable, "-m", "sensors.dispatcher"])


@contextmanager
def serving(database: Database) -> Iterator[bool]:
    """Be the one that serves this database until the block ends; False if another process does."""
    create_if_missing(database.dagster)
    with connect(database.dagster, autocommit=True) as connection:
        yield connection.execute("select pg_try_advisory_lock(%s)", (AdvisoryLock.SERVING.value,)).fetchone() == (True,)


def is_served(database: Database) -> bool:
    """Whether a `tidemark up` serves this database now."""
    with serving(database) as alone:
        return not alone


class Supervisor:
    """Starts services, waits until one ends or a signal comes, and stops the rest.

    Each service writes to a file of its own in `logs`: on one terminal, three programs tell nobody anything.
    """

    def __init__(self, services: Sequence[Service], environment: Mapping[str, str], logs: Path) -> None:
        self._services = services
        self._logs = logs
        self._environment = dict(environment)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    def start(self) -> None:
        """Start every service, each in a process group of its own so that a Ctrl-C reaches it through us alone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._logs.mkdir(parents=True, exist_ok=True)
        for service in self._services:
            with self.log_of(service.name).open("wb") as log:
                self._children[service.name] = subprocess.Popen(
                    service.command,
                    env=self._environment,
                    cwd=PROJECT_ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no other threads
                )

    def log_of(self, name: str) -> Path:
        """Where a service writes; begun anew at each start."""
        return self._logs / f"{name}.log"

    def wait(self) -> str | None:
        """Block until a signal (None) or until a service ends by itself (its name)."""
        while self.is_whole():
            time.sleep(_POLL_SECONDS)
        ended = (name for name, child in self._children.items() if child.poll() is not None)
        return None if self._stopping else next(ended)

    def is_whole(self) -> bool:
        """Whether every service runs and nobody has asked to stop."""
        return not self._stopping and all(child.poll() is None for child in self._children.values())

    def stop(self) -> None:
        """Ask every service to end, wait, and end by force what does not, down to the last grandchild."""
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _STOP_PATIENCE_SECONDS
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline - time.monotonic()))
        # Each service leads a session; who is left in it are code servers and runs that lost their parent.
        for number, patience in ((signal.SIGTERM, _ORPHANS_PATIENCE_SECONDS), (signal.SIGKILL, _STOP_PATIENCE_SECONDS)):
            for process in self._left():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            deadline = time.monotonic() + patience
            while self._left() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        for child in self._children.values():
            child.wait()

    def _left(self) -> list[psutil.Process]:
        sessions = {child.pid for child in self._children.values()}
        return [process for process in psutil.process_iter() if _is_alive_in(process, sessions)]

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _die_with_parent() -> None:
    # A kill -9 of `tidemark up` would else leave a page and a daemon behind that hold its port.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_alive_in(process: psutil.Process, sessions: set[int]) -> bool:
    try:
        return os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        return False

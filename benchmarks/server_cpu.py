"""CPU seconds of a PostgreSQL server, all its processes."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

_PATIENCE_SECONDS = 5.0


def postmaster_of(data: Path) -> psutil.Process:
    """The process that runs the server over a folder."""
    return psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))


def wait_for_back_ends(postmaster: psutil.Process, database: str) -> None:
    """Wait until closed connections are gone: a process that is just ending is in nobody's account."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and any(_is_back_end(process, database) for process in postmaster.children()):
        time.sleep(0.01)


def server_cpu(postmaster: psutil.Process) -> float:
    """CPU seconds so far: processes that have ended are in the postmaster's account of its children."""
    ended = postmaster.cpu_times()
    total = ended.user + ended.system + ended.children_user + ended.children_system
    for process in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return float(total)


def _is_back_end(process: psutil.Process, database: str) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return True
    # The server's own processes are titled `postgres: checkpointer`, a zombie has no title.
    return not title or f" {database} " in title or "parallel worker" in title

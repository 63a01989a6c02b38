"""The supervisor: children run together and stop together, whoever ends first."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from orchestration.supervisor import Service, Supervisor

_SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
_STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time\n"
    "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_IGN)\n"
    "print('up', flush=True); time.sleep(600)",
]
_ENDS = [sys.executable, "-c", "print('no such table', flush=True); raise SystemExit(3)"]


@pytest.fixture(autouse=True)
def _own_signals() -> object:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _children(supervisor: Supervisor) -> list[psutil.Process]:
    return [psutil.Process(child.pid) for child in supervisor._children.values()]


def test_a_service_that_ends_by_itself_is_named_its_log_kept_and_the_others_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor([Service("page", _SLEEP), Service("daemon", _ENDS)], os.environ, tmp_path)
    supervisor.start()
    children = _children(supervisor)
    assert supervisor.wait() == "daemon"
    supervisor.stop()
    assert supervisor.log_of("daemon").read_text() == "no such table\n"
    assert not any(child.is_running() for child in children)


def test_a_service_that_ignores_the_request_to_end_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.supervisor._STOP_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("orchestration.supervisor._ORPHANS_PATIENCE_SECONDS", 0.5)
    supervisor = Supervisor([Service("page", _STUBBORN)], os.environ, tmp_path)
    supervisor.start()
    (child,) = _children(supervisor)
    while "up" not in supervisor.log_of("page").read_text():
        time.sleep(0.05)
    supervisor.stop()
    assert not child.is_running()


def test_a_kill_9_takes_the_services_along(tmp_path: Path) -> None:
    parent, children = _supervised(tmp_path)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_service_and_leaves_none_behind(number: signal.Signals, tmp_path: Path) -> None:
    parent, children = _supervised(tmp_path)
    parent.send_signal(number)
    assert parent.wait(30) == 0
    assert not any(child.is_running() for child in children)


def _supervised(tmp_path: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    script = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        from orchestration.supervisor import Service, Supervisor
        services = [Service("a", {_SLEEP!r}), Service("b", {_SLEEP!r})]
        supervisor = Supervisor(services, os.environ, Path({str(tmp_path)!r}))
        supervisor.start()
        print(*(child.pid for child in supervisor._children.values()), flush=True)
        assert supervisor.wait() is None
        supervisor.stop()
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    return parent, children

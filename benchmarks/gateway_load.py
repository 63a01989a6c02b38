"""A gateway in a process of its own, and senders that push batches at it until each is answered.

Belongs here: what tests of faults and benchmarks of them share. Does not belong here: when something is killed, and
what must hold afterwards.
"""

import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from storage.settings import PROJECT_ROOT

_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.05
_POLL_SECONDS = 0.005
_PATH = "/v1/evaluations"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def gateway_process(port: int, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m gateway`, ended by kill -9 when the block ends; it need not serve yet when the block begins.

    Args:
        port: of loopback.
        environment: variables in place of this process's own, and beside them.
    """
    served = {"TIDEMARK_GATEWAY_PORT": str(port), "TIDEMARK_LOG_FORMAT": "json"}
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        cwd=PROJECT_ROOT,
        env={**os.environ, **served, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def with_resends(records: int, sent: int, chance: random.Random) -> list[int]:
    """The numbers of `records` records in an order to send them in; as many are there again as makes `sent` of them."""
    numbers = [*range(records), *chance.choices(range(records), k=sent - records)]
    chance.shuffle(numbers)
    return numbers


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that comes soon."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(_POLL_SECONDS)


class Sender:
    """Pushes batches, each until it is answered, and remembers what was acknowledged.

    Attributes:
        acknowledged: numbers of the records whose batch was answered by 200.
        accepted: the sum of what the answers said was new.
        statuses: of all answers.
    """

    def __init__(self, url: str, key: str, lines: Callable[[int], bytes], numbers: Sequence[int], batch: int) -> None:
        """Make a sender of the lines that `lines` gives for `numbers`, in batches of so many; `key` is of ingest."""
        self.acknowledged: set[int] = set()
        self.accepted = 0
        self.statuses: set[int] = set()
        self._url = url
        self._lines = lines
        self._headers = {"X-API-Key": key, "Content-Type": "application/x-ndjson"}
        self._batches: queue.SimpleQueue[tuple[int, Sequence[int]]] = queue.SimpleQueue()
        for place, start in enumerate(range(0, len(numbers), batch)):
            self._batches.put((place, numbers[start : start + batch]))
        self._lock = threading.Lock()

    @contextmanager
    def at_work(self, pushers: int) -> Iterator[list[Future[None]]]:
        """Push with so many threads until no batch is left; the block's end waits for that and raises what they did."""
        with ThreadPoolExecutor(pushers) as pool:
            pushing = [pool.submit(self._run) for _ in range(pushers)]
            yield pushing
            for pusher in pushing:
                pusher.result()

    def until(self, acknowledged: int) -> None:
        """Wait until so many records are acknowledged."""
        until(lambda: len(self.acknowledged) >= acknowledged)

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while True:
                try:
                    place, numbers = self._batches.get_nowait()
                except queue.Empty:
                    return
                self._insist(client, place, numbers)

    def _insist(self, client: httpx.Client, place: int, numbers: Sequence[int]) -> None:
        content = b"\n".join(map(self._lines, numbers))
        headers = self._headers | {"Idempotency-Key": f"batch-{place}"}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = client.post(f"{self._url}{_PATH}", content=content, headers=headers)
            except httpx.TransportError:
                time.sleep(_PAUSE_SECONDS)
                continue
            with self._lock:
                self.statuses.add(answer.status_code)
                if answer.status_code == httpx.codes.OK:
                    self.accepted += answer.json()["accepted"]
                    self.acknowledged.update(numbers)
                    return
            time.sleep(_PAUSE_SECONDS)
        raise AssertionError(f"batch {place} was never answered: {self.statuses}")

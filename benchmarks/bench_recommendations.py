"""What a recommendation costs over HTTP: a round trip to a door that has all of them in memory, and publishing them.

A round trip is the server's time and the client's and the loopback's on top.
"""

import time
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from assets.evaluations.contract import template_id
from assets.selection.publishing import publish
from assets.selection.snapshots import ArmPosterior, TemplatePosteriors, write_posteriors
from benchmarks.fresh_databases import TENANT, fresh_database, fresh_server
from benchmarks.gateway_load import free_port, gateway_process, until
from benchmarks.rows import Row
from benchmarks.warehouse_history import is_full
from storage.api_keys import create_key
from storage.database import Connection, connect

_ARMS = 5
_REQUESTS = 2_000
_WARM_UP = 200
_AIM_MS = 5.0


def run() -> list[Row]:
    """1,000 templates of five extractors, with `--full` 10,000; 2,000 requests one after the other."""
    templates = 10_000 if is_full() else 1_000
    with TemporaryDirectory(prefix="tidemark-bench-") as folder, fresh_server(Path(folder) / "postgres") as server:
        url = fresh_database(server)
        with connect(url, autocommit=True) as connection:
            learning, publishing = _publish(connection, templates)
            _, key = create_key(connection, TENANT, ["read"], now=datetime.now(UTC))
        port = free_port()
        with gateway_process(port, {"TIDEMARK_DATABASE_URL": url.libpq(), "TIDEMARK_HOME": folder}):
            seconds = _ask(port, key, templates)
    p50, p99 = (1000 * float(np.quantile(seconds, at)) for at in (0.5, 0.99))
    return [
        Row(
            "a recommendation over HTTP, p99 / 5 ms",
            p99 / _AIM_MS,
            "<= 1",
            f"{templates:,} templates in memory: round trip p50 {p50:.2f} ms, p99 {p99:.2f} ms of {_REQUESTS:,}; "
            f"{templates:,} snapshots of posteriors stored in {learning:.1f} s, published in {publishing:.1f} s",
        )
    ]


def _publish(connection: Connection, templates: int) -> tuple[float, float]:
    generator = np.random.default_rng(6)
    found = []
    for number in range(templates):
        name = f"template {number:05}"
        identity = template_id(TENANT, name)
        good, bad = generator.integers(5, 500, (2, _ARMS))
        arms = [_arm(arm, int(good[arm]), int(bad[arm])) for arm in range(_ARMS)]
        found.append(TemplatePosteriors(TENANT, identity, name, "success", date(2026, 5, 1), arms))
    started = time.perf_counter()
    write_posteriors(connection, found)
    learnt = time.perf_counter()
    publish(connection)
    return learnt - started, time.perf_counter() - learnt


def _arm(number: int, good: int, bad: int) -> ArmPosterior:
    alpha, beta = 1.0 + good, 1.0 + bad
    mean = alpha / (alpha + beta)
    counts = good + bad, good, bad, float(good + bad)
    return ArmPosterior("v", f"m{number}", *counts, alpha, beta, mean, 0.9 * mean, 0.1 + 0.9 * mean, None, None, None)


def _ask(port: int, key: str, templates: int) -> list[float]:
    seconds = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=30) as client:
        until(lambda: _is_served(client))
        for number in range(_WARM_UP + _REQUESTS):
            query = {"template": f"template {number * 7919 % templates:05}", "mode": "sample", "key": f"doc {number}"}
            started = time.perf_counter()
            answer = client.get("/v1/recommendations", params=query)
            seconds.append(time.perf_counter() - started)
            answer.raise_for_status()
    return seconds[_WARM_UP:]


def _is_served(client: httpx.Client) -> bool:
    try:
        client.get("/health")
    except httpx.TransportError:
        return False
    return True

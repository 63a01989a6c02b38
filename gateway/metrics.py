"""Prometheus metrics of the door: what went through it, counted here, and what waits behind it, asked of the database.

No label names a tenant: whoever may scrape is not whoever may know the customers, and labels must stay few.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assets.evaluations.verdicts import Receipt
from gateway.standing import Standing

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_RECORDS = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self, bytes_in_flight: Callable[[], int], standing: Callable[[], Standing | None]) -> None:
        self.registry = CollectorRegistry()
        self._records = Counter(
            "tidemark_records", "Records judged.", ("door", "kind", "verdict"), registry=self.registry
        )
        self._batches = Histogram(
            "tidemark_batch_records", "Records in a batch.", ("door", "kind"), buckets=_RECORDS, registry=self.registry
        )
        self._ignored = Counter(
            "tidemark_ignored_log_records",
            "Log records that told no evaluation, passed over.",
            ("door",),
            registry=self.registry,
        )
        self._requests = Histogram(
            "tidemark_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        in_flight = Gauge("tidemark_in_flight_bytes", "Bytes of unanswered requests.", registry=self.registry)
        in_flight.set_function(bytes_in_flight)
        self.registry.register(_Behind(standing))

    def landed(self, door: str, kind: str, receipt: Receipt) -> int:
        """Count one batch in; returns how many records it had."""
        counted = verdicts(receipt)
        for verdict, records in counted.items():
            self._records.labels(door, kind, verdict).inc(records)
        total = sum(counted.values())
        self._batches.labels(door, kind).observe(total)
        return total

    def ignored(self, door: str, records: int) -> None:
        """Count log records of another kind."""
        self._ignored.labels(door).inc(records)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request in."""
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)


def verdicts(receipt: Receipt) -> Mapping[str, int]:
    """How many records got which verdict."""
    return {
        "accepted": receipt.accepted,
        "duplicate": receipt.duplicates,
        "conflict": receipt.conflicts,
        "rejected": receipt.rejected,
    }


class _Behind(Collector):
    def __init__(self, standing: Callable[[], Standing | None]) -> None:
        self._standing = standing

    def describe(self) -> Iterable[Metric]:
        # Without it the registry would collect at registration, before there is a database to ask.
        return []

    def collect(self) -> Iterable[Metric]:
        standing = self._standing()
        yield GaugeMetricFamily(
            "tidemark_database_up",
            "Whether the database answers; without it the next ones are missing.",
            value=standing is not None,
        )
        if standing is None:
            return
        yield GaugeMetricFamily(
            "tidemark_backlog_batches",
            "Landed batches that alerts have not been judged by yet.",
            value=standing.backlog_batches,
        )
        yield GaugeMetricFamily(
            "tidemark_backlog_age_seconds", "Age of the oldest of them.", value=standing.backlog_age_seconds
        )
        deliveries = GaugeMetricFamily(
            "tidemark_webhook_deliveries",
            "Deliveries that are open, and those made in the last 24 hours.",
            labels=("state",),
        )
        for state, count in standing.deliveries.items():
            deliveries.add_metric((state,), count)
        yield deliveries
        yield GaugeMetricFamily(
            "tidemark_webhook_endpoints_held_back",
            "Active endpoints whose breaker is not closed.",
            value=standing.endpoints_held_back,
        )

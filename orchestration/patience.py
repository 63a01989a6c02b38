"""How long to wait before what has failed is asked for again."""

from collections.abc import Sequence
from datetime import timedelta

from dagster import RunRecord

from storage.clock import Clock


def pause_after(failures: Sequence[RunRecord], clock: Clock) -> str | None:
    """Why not to try yet: after each failure in a row the pause doubles, from one minute on.

    Args:
        failures: the runs that failed one after the other, at most as many as the pause may double.
        clock: the server's time.
    """
    if not failures:
        return None
    pause = timedelta(minutes=2 ** (len(failures) - 1))
    resume = max(record.create_timestamp for record in failures) + pause
    if clock.now() >= resume:
        return None
    job = failures[0].dagster_run.job_name
    return f"The last {len(failures)} runs of {job} failed: next try at {resume:%H:%M:%S} UTC. Their runs tell why."

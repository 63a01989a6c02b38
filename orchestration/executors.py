"""Where forecasts run: in the run's own process, in processes of this machine, or on Celery's workers.

Belongs here: which of Dagster's executors, by configuration. Does not belong here: what is spread over them (assets).
"""

from typing import TYPE_CHECKING

from storage.database import Database, connect
from storage.errors import UsageError
from storage.locks import AdvisoryLock
from storage.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

_MISSING = "TIDEMARK_FORECAST_EXECUTOR is celery, whose packages are missing: pip install 'tidemark[celery]'"
_BROKER, _BACKEND = "TIDEMARK_CELERY_BROKER", "TIDEMARK_CELERY_BACKEND"


def forecast_executor(settings: Settings) -> "dg.ExecutorDefinition":
    """The executor of the job `forecast`.

    Raises:
        UsageError: Celery is asked for and its packages are not installed.
    """
    import dagster as dg

    if settings.forecast_executor == "multiprocess":
        return dg.multiprocess_executor
    if settings.forecast_executor == "celery":
        return _celery()
    return dg.in_process_executor


def celery_environment(settings: Settings, database: Database) -> dict[str, str]:
    """Where runs and workers meet; none if forecasts don't run on Celery's.

    Dagster's database is there anyway and carries the few messages of a night; a broker of one's own takes its place.
    """
    if settings.forecast_executor != "celery":
        return {}
    address = database.dagster.sqlalchemy("psycopg2")
    broker, backend = settings.celery_broker, settings.celery_backend
    return {
        _BROKER: broker.get_secret_value() if broker else f"sqla+{address}",
        _BACKEND: backend.get_secret_value() if backend else f"db+{address}",
    }


def prepare_broker(settings: Settings, database: Database) -> None:
    """Make the broker's tables and queue in Dagster's database, one process at a time.

    kombu makes what is missing when it is first used, and of two processes that do so at once one fails.
    """
    if settings.forecast_executor != "celery" or settings.celery_broker:
        return
    try:
        from kombu import Connection
    except ImportError:
        raise UsageError(_MISSING) from None
    address = celery_environment(settings, database)[_BROKER]
    with connect(database.dagster, autocommit=True) as one_at_a_time:
        one_at_a_time.execute("select pg_advisory_lock(%s)", (AdvisoryLock.BROKER,))
        with Connection(address) as broker, broker.SimpleQueue("dagster"):
            pass


def _celery() -> "dg.ExecutorDefinition":
    try:
        from dagster_celery import celery_executor
    except ImportError:
        raise UsageError(_MISSING) from None
    # By name, so that neither address is written into runs' configuration, which Dagster's page shows.
    config = {"broker": {"env": _BROKER}, "backend": {"env": _BACKEND}}
    configured: dg.ExecutorDefinition = celery_executor.configured(config)
    return configured

"""The delivery sensor: drains the outbox every five seconds. Never through a run, which would cost seconds to start.

Does not belong here: delivering itself (`delivery`).
"""

import dagster as dg
from dagster import DefaultSensorStatus

from sensors.webhooks.delivery import Options, drain
from storage.clock import Clock
from storage.database import Database
from storage.secrets import secret_box
from storage.settings import load_settings

INTERVAL_SECONDS = 5
TICK_SECONDS = 40.0  # a tick is cut at 60 and an exchange may take 15


@dg.sensor(
    name="webhook_deliveries",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=DefaultSensorStatus.RUNNING,
    description="Sends due webhooks, signed, and writes what came back: what a dispatcher does at once, if one runs.",
)
def webhook_deliveries(database: dg.ResourceParam[Database], clock: dg.ResourceParam[Clock]) -> dg.SkipReason:
    """A tick of the sensor; its message says what was sent."""
    settings = load_settings()
    options = Options(allowed=settings.webhook_allowed_networks, seconds=TICK_SECONDS, page_url=settings.page_url)
    result = drain(lambda: database.connect(autocommit=True), secret_box(settings), clock, options)
    return dg.SkipReason(result.message())


def definitions() -> list[dg.SensorDefinition]:
    """What this room hands to orchestration."""
    return [webhook_deliveries]

"""Webhooks among Dagster's jobs: the delivery log pruned each night, dead letters sent again from the launchpad.

Does not belong here: what may go (`retention`), what is sent again (`replays`), sending it (`sensors`).
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
from pydantic import Field

from sensors.webhooks.deliveries import Selection
from sensors.webhooks.replays import OVER, replay_deliveries
from sensors.webhooks.retention import prune_delivery_log
from storage.audit import acting_as
from storage.clock import Clock
from storage.database import Database
from storage.errors import UsageError
from storage.settings import Settings


def delivery_log_retention(nightly: str) -> dg.AssetsDefinition:
    """The asset that prunes the log.

    Args:
        nightly: the tag of what a refresh leaves to the nightly run.
    """

    @dg.asset(
        name="webhook_retention",
        group_name="maintenance",
        owners=["team:tidemark"],
        kinds={"postgres"},
        tags={nightly: ""},
        description="Forgets bodies of events older than TIDEMARK_WEBHOOK_BODIES_RETENTION_DAYS, and attempts and "
        "deliveries older than TIDEMARK_WEBHOOK_ATTEMPTS_RETENTION_DAYS; never of what is still open.",
    )
    def webhook_retention(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult[None]:
        now = clock.now()
        with database.connect(autocommit=True) as connection, acting_as(f"run:{context.run_id}"):
            pruned = prune_delivery_log(
                connection,
                now - timedelta(days=settings.webhook_bodies_retention_days),
                now - timedelta(days=settings.webhook_attempts_retention_days),
            )
        return dg.MaterializeResult(metadata={f"{name}_dropped": count for name, count in vars(pruned).items()})

    return webhook_retention


class ReplayConfig(dg.Config):
    """Which deliveries to send again."""

    tenant: str = Field(description="Whose deliveries.")
    state: str = Field("failed", description=f"One of {', '.join(OVER)}.")
    webhook_id: str | None = Field(None, description="Only those to this endpoint.")
    event_type: str | None = Field(None, description="Only deliveries of such events.")
    since: str | None = Field(None, description="Queued at this time or later, such as 2026-05-01T00:00:00Z.")
    until: str | None = Field(None, description="Queued before this time.")
    key: str | None = Field(
        None, description="Names this replay; the run, if not given: a run that is retried sends nothing twice."
    )


@dg.op(description="Queues deliveries again; whoever drains the outbox sends them, with the same bytes as before.")
def queue_again(
    context: dg.OpExecutionContext,
    config: ReplayConfig,
    database: dg.ResourceParam[Database],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Queue what is chosen, however many."""
    try:
        chosen = Selection(
            webhook_id=None if config.webhook_id is None else UUID(config.webhook_id),
            # An unknown one is refused by name.
            state=config.state,  # type: ignore[arg-type]
            event_type=config.event_type,
            since=_time(config.since),
            until=_time(config.until),
        )
        key = config.key or f"run:{context.run.root_run_id or context.run_id}"
        queued, without_body, left = 0, 0, 1
        with database.connect(autocommit=True) as connection, acting_as(f"run:{context.run_id}"):
            while left:
                done = replay_deliveries(connection, config.tenant, chosen, now=clock.now(), key=key)
                queued, without_body, left = queued + done.queued, done.without_body, done.left
    except (ValueError, UsageError) as wrong:
        raise dg.Failure(str(wrong), allow_retries=False) from None
    told: dict[str, Any] = {"queued": queued, "without_body": without_body}
    context.add_output_metadata(told)
    context.log.info(f"{queued} deliveries queued again; {without_body} have no body any more")


@dg.job(
    description="Sends dead letters, or other deliveries that are over, again: say which in the launchpad. Repeating a "
    "run sends nothing twice."
)
def replay_webhook_deliveries() -> None:
    """One op, whose configuration says which deliveries."""
    queue_again()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no offset: write {text}Z for UTC")
    return time

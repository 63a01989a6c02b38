"""Where a report's numbers come from: SQL over the marts of one tenant.

Belongs here: one snapshot, read with the rights of a tenant's reader and nothing more. Does not belong here: what the
numbers mean to people (compose.py).
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg

from assets.reports.numbers import (
    SHOWN_AHEAD,
    SHOWN_ALERTS,
    SHOWN_CHOICES,
    SHOWN_EXTRACTORS,
    SHOWN_HISTORY,
    SHOWN_PANELS,
    SHOWN_REVIEWS,
    SHOWN_TEMPLATES,
    WINDOW_DAYS,
    Alert,
    Choice,
    Curve,
    DriftDay,
    ExtractorPosterior,
    ForecastDay,
    Headline,
    QualityDay,
    Report,
    Review,
    Standing,
    Volume,
)
from assets.reports.queries import (
    NAME_TENANT,
    ONE_SNAPSHOT,
    READ_ALERTS,
    READ_AS_TENANT,
    READ_CHOICES,
    READ_DRIFT,
    READ_FORECASTS,
    READ_HEADLINE,
    READ_POSTERIORS,
    READ_QUALITY,
    READ_REVIEWS,
    READ_STANDINGS,
    READ_VOLUMES,
)
from storage.database import Connection
from storage.errors import TidemarkError
from storage.tenants import require_tenant


def read_report(connection: Connection, tenant_id: str) -> Report:
    """The numbers of one tenant's report, all of one moment.

    Args:
        connection: the platform's own, in autocommit mode.
        tenant_id: whose report it is.

    Raises:
        UsageError: there is no such tenant.
        TidemarkError: the marts, or this tenant's row in them, are yet to be built.
    """
    with connection.transaction():
        connection.execute(ONE_SNAPSHOT)
        require_tenant(connection, tenant_id)
        connection.execute(NAME_TENANT, {"tenant_id": tenant_id})
        connection.execute(READ_AS_TENANT)
        with _explained():
            return _report(connection, tenant_id)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        missing = str(error.diag.message_primary)
        raise TidemarkError(f"the marts are yet to be built ({missing}). Build them with: tidemark refresh") from error
    except (psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege) as error:
        found = str(error.diag.message_primary)
        raise TidemarkError(
            f"the marts are of an earlier version ({found}). Bring them up to date with: tidemark refresh --force"
        ) from error


def _report(connection: Connection, tenant_id: str) -> Report:
    row = connection.execute(READ_HEADLINE, {"tenant_id": tenant_id}).fetchone()
    if row is None:
        raise TidemarkError(f"tenant {tenant_id!r} is not in the marts yet. Build them with: tidemark refresh --force")
    headline = Headline(*row)
    window = _window(tenant_id, headline.as_of)
    standing_count, standings = _counted(connection, READ_STANDINGS, window, SHOWN_TEMPLATES)
    choice_count, choices = _counted(connection, READ_CHOICES, window, SHOWN_CHOICES)
    alert_count, alerts = _counted(connection, READ_ALERTS, window, SHOWN_ALERTS)
    review_count, reviews = _counted(connection, READ_REVIEWS, window, SHOWN_REVIEWS)
    shown = [Standing(*standing) for standing in standings]
    return Report(
        tenant_id=tenant_id,
        headline=headline,
        volumes=[Volume(*volume) for volume in connection.execute(READ_VOLUMES, window)],
        standings=shown,
        standing_count=standing_count,
        curves=_curves(connection, window, shown[:SHOWN_PANELS]),
        choices=[_choice(connection, tenant_id, *choice) for choice in choices],
        choice_count=choice_count,
        alerts=[Alert(*alert) for alert in alerts],
        recent_alert_count=alert_count,
        quality=[QualityDay(*day) for day in connection.execute(READ_QUALITY, window)],
        reviews=[Review(*review) for review in reviews],
        review_count=review_count,
    )


def _window(tenant_id: str, as_of: date) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "as_of": as_of,
        "since": as_of - timedelta(days=WINDOW_DAYS - 1),
        "history_since": as_of - SHOWN_HISTORY,
        "ahead_until": as_of + SHOWN_AHEAD,
    }


def _counted(
    connection: Connection, query: str, window: dict[str, Any], limit: int
) -> tuple[int, list[tuple[Any, ...]]]:
    """How many rows there are in all, which is the query's first column, and those that are shown."""
    rows = connection.execute(query, window | {"limit": limit}).fetchall()
    return (rows[0][0] if rows else 0), [row[1:] for row in rows]


def _curves(connection: Connection, window: dict[str, Any], standings: list[Standing]) -> list[Curve]:
    of_these = window | {"templates": [standing.template_id for standing in standings]}
    days: dict[UUID, list[DriftDay]] = defaultdict(list)
    for template_id, *day in connection.execute(READ_DRIFT, of_these):
        days[template_id].append(DriftDay(*day))
    forecasts: dict[UUID, list[ForecastDay]] = defaultdict(list)
    for template_id, *forecast in connection.execute(READ_FORECASTS, of_these):
        forecasts[template_id].append(ForecastDay(*forecast))
    return [
        Curve(standing, days[standing.template_id], forecasts[standing.template_id])
        for standing in standings
        if days[standing.template_id]
    ]


def _choice(connection: Connection, tenant_id: str, template_id: UUID, template: str, extractor_count: int) -> Choice:
    of_this = {"tenant_id": tenant_id, "template_id": template_id, "limit": SHOWN_EXTRACTORS}
    arms = [ExtractorPosterior(*arm) for arm in connection.execute(READ_POSTERIORS, of_this)]
    return Choice(template, extractor_count, arms)

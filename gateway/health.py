"""`GET /health`: can this door serve? For supervisors and load balancers, so without a key and without details.

Also told, and no reason for 503, because records can land all the same: how long alerts lag behind, and when those who
work behind the door were last seen.

503 where no request can be answered: the database is away, or its schema isn't this version's. Marts that aren't built
yet are told but leave the door open: the first refresh comes after the first records, which come in here.
"""

from http import HTTPStatus

import psycopg
from fastapi import APIRouter, Response

from gateway.dashboards import DASHBOARDS
from gateway.problems import ProblemError, documented, unavailable
from gateway.standing import Standing, StandingBoard
from storage.database import Connection
from storage.migrate import head_revision
from storage.pool import Pool

_REVISION = "select version_num from public.alembic_version"

_MARTS = """
select
    (select bool_and(to_regclass('marts.' || mart) is not null) from unnest(%(marts)s::text []) as mart) as are_built,
    (select max(taken_at) from intermediate.marks) as built_at
"""


def health_route(pool: Pool, standing: StandingBoard) -> APIRouter:
    """The route, asking through `pool`."""
    router = APIRouter(tags=["operation"])
    head = head_revision()

    @router.get("/health", summary="Whether this door can serve.", responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
    def health(response: Response) -> dict[str, object]:
        response.headers["Cache-Control"] = "no-store"
        return {"status": "ok", "checks": _checks(pool, head) | _behind(standing.read())}

    return router


def _checks(pool: Pool, head: str) -> dict[str, object]:
    try:
        with pool.connection() as connection:
            _require_revision(connection, head)
            marts = [dashboard.mart for dashboard in DASHBOARDS]
            row = connection.execute(_MARTS, {"marts": marts}).fetchone()
    except psycopg.OperationalError:
        raise _unwell("the database does not answer", {"database": "away"}) from None
    are_built, built_at = row or (False, None)
    marts_state = "ok" if are_built else "not built yet: run `tidemark refresh`"
    return {"database": "ok", "schema": "ok", "marts": marts_state, "marts_built_at": built_at if are_built else None}


def _behind(standing: Standing | None) -> dict[str, object]:
    if standing is None:
        return {}
    return {
        "backlog_batches": standing.backlog_batches,
        "backlog_age_seconds": round(standing.backlog_age_seconds, 3),
        "endpoints_held_back": standing.endpoints_held_back,
        "dispatcher_seen_at": standing.dispatcher_seen_at,
        "sweeper_seen_at": standing.sweeper_seen_at,
        "daemon_seen_at": standing.daemon_seen_at,
    }


def _require_revision(connection: Connection, head: str) -> None:
    try:
        row = connection.execute(_REVISION).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    if row != (head,):
        wrong = {"database": "ok", "schema": f"at {row[0] if row else 'nothing'}, not at {head}"}
        raise _unwell("the schema is another version's: run `tidemark migrate` with the version that serves", wrong)


def _unwell(detail: str, checks: dict[str, str]) -> ProblemError:
    return unavailable(detail, checks=checks)

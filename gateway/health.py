"""`GET /health`: can this door serve? For supervisors and load balancers, so without a key and without details.

503 where no request can be answered: the database is away, or its schema isn't this version's. Marts that aren't built
yet are told but leave the door open: the first refresh comes after the first records, which come in here.
"""

from http import HTTPStatus

import psycopg
from fastapi import APIRouter, Response

from gateway.dashboards import DASHBOARDS
from gateway.problems import ProblemError, documented
from storage.migrate import head_revision
from storage.pool import Pool

RETRY_AFTER = {"Retry-After": "5"}

_STATE = """
select
    (select version_num from public.alembic_version) as revision,
    (select bool_and(to_regclass('marts.' || mart) is not null) from unnest(%(marts)s::text []) as mart) as has_marts
"""


def health_route(pool: Pool) -> APIRouter:
    """The route, asking through `pool`."""
    router = APIRouter(tags=["operation"])
    head = head_revision()

    @router.get("/health", summary="Whether this door can serve.", responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
    def health(response: Response) -> dict[str, object]:
        response.headers["Cache-Control"] = "no-store"
        return {"status": "ok", "checks": _checks(pool, head)}

    return router


def _checks(pool: Pool, head: str) -> dict[str, str]:
    marts = [dashboard.mart for dashboard in DASHBOARDS]
    try:
        with pool.connection() as connection:
            row = connection.execute(_STATE, {"marts": marts}).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    except psycopg.OperationalError:
        raise _unwell("the database does not answer", {"database": "away"}) from None
    revision, has_marts = row or (None, False)
    if revision != head:
        wrong = {"database": "ok", "schema": f"at {revision or 'nothing'}, not at {head}"}
        raise _unwell("the schema is another version's: run `tidemark migrate` with the version that serves", wrong)
    return {"database": "ok", "schema": "ok", "marts": "ok" if has_marts else "not built yet: run `tidemark refresh`"}


def _unwell(detail: str, checks: dict[str, str]) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER, checks=checks)

"""What people decide about forecasters: which version is to serve a template, until they take it back.

Belongs here: showing the registry, rolling back and unpinning, each with its trace in the registry and in the audit
log. Does not belong here: registering versions (`registry`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import dict_row

from assets.forecasts.methods import Method
from storage.audit import record_audit
from storage.database import Connection
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.tenants import lock_tenant

if TYPE_CHECKING:
    # numpy only where something is computed: the command line has this module at hand whatever it is asked.
    from assets.forecasts.panel import Measure

FIRST_VERSION = "the first comes after a template's first week of scored days, with `tidemark refresh`"
_FIND = "select template_id from access.templates where tenant_id = %(tenant_id)s and template = %(template)s"
_LIST = """
select
    templates.template, champion.measure, model.method, model.version, champion.is_pinned, promoted.promoted_at,
    promoted.because, promoted.promoted_by
from ml.forecast_champions as champion
inner join ml.forecast_models as model using (model_id)
inner join access.templates as templates
    on champion.tenant_id = templates.tenant_id and champion.template_id = templates.template_id
left join lateral (
    select * from ml.forecast_promotions as promotion
    where
        promotion.tenant_id = champion.tenant_id
        and promotion.template_id = champion.template_id
        and promotion.measure = champion.measure
    order by promotion.promoted_at desc, promotion.promotion_id desc
    limit 1
) as promoted on true
where champion.tenant_id = %(tenant_id)s
order by templates.template, champion.measure
"""
_VERSIONS = """
select
    model.version, model.method, champion.model_id is not null as is_champion, model.fitted_from, model.fitted_to,
    model.fitted_days, model.pinball, model.coverage, encode(int8send(model.history_hash), 'hex') as history,
    model.computed_at, model.model_id
from ml.forecast_models as model
left join ml.forecast_champions as champion using (model_id)
where
    model.tenant_id = %(tenant_id)s and model.template_id = %(template_id)s and model.measure = %(measure)s
order by model.version desc
limit %(limit)s
"""
_HISTORY = """
select
    promotion.promoted_at, model.version, model.method, replaced.version as replaced_version, promotion.because,
    promotion.promoted_by
from ml.forecast_promotions as promotion
inner join ml.forecast_models as model on promotion.model_id = model.model_id
left join ml.forecast_models as replaced on promotion.replaced_model_id = replaced.model_id
where
    promotion.tenant_id = %(tenant_id)s
    and promotion.template_id = %(template_id)s
    and promotion.measure = %(measure)s
order by promotion.promoted_at desc, promotion.promotion_id desc
"""
_CHAMPION = """
select champion.model_id, champion.is_pinned, model.version
from ml.forecast_champions as champion
inner join ml.forecast_models as model using (model_id)
where
    champion.tenant_id = %(tenant_id)s and champion.template_id = %(template_id)s and champion.measure = %(measure)s
for update of champion
"""
_VERSION = """
select model_id, method from ml.forecast_models
where
    tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and version = %(version)s
"""
_NEWEST = """
select model_id from ml.forecast_models
where tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and method = %(method)s
order by version desc
limit 1
"""
_MOVE = """
update ml.forecast_champions
set
    model_id = %(model_id)s,
    is_pinned = %(is_pinned)s,
    chosen_method = case when %(is_pinned)s then %(method)s::text end
where tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s
"""
_TRACE = """
insert into ml.forecast_promotions
    (tenant_id, template_id, measure, model_id, replaced_model_id, because, promoted_by)
values
    (%(tenant_id)s, %(template_id)s, %(measure)s, %(model_id)s, %(replaced)s, %(because)s, %(by)s)
"""


def list_champions(connection: Connection, tenant_id: str) -> list[Mapping[str, Any]]:
    """Which version serves each of a tenant's templates, since when and why."""
    return _rows(connection, _LIST, {"tenant_id": tenant_id})


def list_versions(
    connection: Connection, tenant_id: str, template: str, measure: "Measure", limit: int = 20
) -> list[Mapping[str, Any]]:
    """A template's newest versions, the newest first.

    Raises:
        NotFoundError: no such template, or none of its versions is registered yet.
    """
    values = _subject(connection, tenant_id, template, measure)
    rows = _rows(connection, _VERSIONS, {**values, "limit": limit})
    if not rows:
        raise _none_registered(template, measure)
    return rows


def list_promotions(
    connection: Connection, tenant_id: str, template: str, measure: "Measure"
) -> list[Mapping[str, Any]]:
    """Each time another version was made a template's champion, the newest first.

    Raises:
        NotFoundError: no such template.
    """
    return _rows(connection, _HISTORY, _subject(connection, tenant_id, template, measure))


def roll_back(
    connection: Connection,
    tenant_id: str,
    template: str,
    measure: "Measure",
    *,
    to: int | Method,
    reason: str,
    author: str,
) -> None:
    """Let an earlier version, or another method, serve, and no back-test promote another until that is taken back.

    What serves is the version's method, which goes on learning from new days. Both versions stay in the registry, and
    so does who changed it and why.

    Raises:
        NotFoundError: no such template or version.
        ConflictError: it is the champion, and pinned, already.
        UsageError: no reason.
    """
    if not reason.strip():
        raise UsageError("reason: say why another version is better; it is kept with the promotion")
    lock_tenant(connection, tenant_id)
    values = _subject(connection, tenant_id, template, measure)
    present, is_pinned, current = _champion(connection, values, template, measure)
    model_id, method = _wanted(connection, values, template, to, present)
    if is_pinned and to == current:
        raise ConflictError(f"version {to} of {template!r} is pinned already")
    values |= {"model_id": model_id, "method": method, "replaced": present, "is_pinned": True}
    values |= {"because": reason.strip(), "by": author}
    connection.execute(_MOVE, values)
    connection.execute(_TRACE, values)
    detail = {"measure": measure, "to": to, "method": method, "replaced_version": current, "reason": reason.strip()}
    record_audit(connection, tenant_id=tenant_id, action="forecast.rollback", subject=template, detail=detail)


def unpin(connection: Connection, tenant_id: str, template: str, measure: "Measure", *, author: str) -> None:
    """Take a rollback back: from the next refresh on the version that forecasts best serves again.

    Raises:
        NotFoundError: no such template.
        ConflictError: nothing is pinned.
    """
    lock_tenant(connection, tenant_id)
    values = _subject(connection, tenant_id, template, measure)
    present, is_pinned, current = _champion(connection, values, template, measure)
    if not is_pinned:
        raise ConflictError(f"{measure} of {template!r} has no pinned version: `tidemark forecast list` shows them")
    values |= {"model_id": present, "method": None, "replaced": present, "is_pinned": False}
    values |= {"because": "unpinned", "by": author}
    connection.execute(_MOVE, values)
    connection.execute(_TRACE, values)
    detail = {"measure": measure, "version": current}
    record_audit(connection, tenant_id=tenant_id, action="forecast.unpin", subject=template, detail=detail)


def _subject(connection: Connection, tenant_id: str, template: str, measure: "Measure") -> dict[str, Any]:
    found = connection.execute(_FIND, {"tenant_id": tenant_id, "template": template}).fetchone()
    if found is None:
        raise NotFoundError("template", f"{template!r} of tenant {tenant_id!r}", "`tidemark forecast list` shows them")
    return {"tenant_id": tenant_id, "template_id": found[0], "measure": measure}


def _champion(
    connection: Connection, values: Mapping[str, Any], template: str, measure: "Measure"
) -> tuple[UUID, bool, int]:
    row = connection.execute(_CHAMPION, values).fetchone()
    if row is None:
        raise _none_registered(template, measure)
    model_id, is_pinned, version = row
    return model_id, is_pinned, version


def _wanted(
    connection: Connection, values: Mapping[str, Any], template: str, to: int | Method, present: UUID
) -> tuple[UUID, str]:
    if isinstance(to, str):
        found = connection.execute(_NEWEST, {**values, "method": to}).fetchone()
        # Before it has served there is no version of it: the next refresh registers one.
        return (found[0] if found else present), to
    found = connection.execute(_VERSION, {**values, "version": to}).fetchone()
    if found is None:
        raise NotFoundError(
            "version", f"{to} of {template!r}, {values['measure']}", "`tidemark forecast show` lists them"
        )
    return found[0], found[1]


def _none_registered(template: str, measure: "Measure") -> NotFoundError:
    return NotFoundError("version", f"of {template!r}, {measure}", f"None is registered: {FIRST_VERSION}")


def _rows(connection: Connection, query: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(query, values))

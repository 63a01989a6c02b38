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
IS_BETTER = "in the back-test its loss was lower by 3 % or more"
# Between a choice and the next refresh, what is told of the days ahead is still told by what served before.
_LIST = """
select
    templates.template, champion.measure, told.method,
    case when champion.holds_fit or not told.is_waiting then model.version end as version,
    case when told.is_waiting then 'from the next refresh on' else 'now' end as serves,
    champion.is_pinned, tried.pinball, tried.coverage, tried.days as backtest_days,
    case when told.is_tried_best then champion.chosen_at else promoted.promoted_at end as promoted_at,
    case when told.is_tried_best then %(is_better)s else promoted.because end as because,
    case when told.is_tried_best then 'platform' else promoted.promoted_by end as promoted_by
from ml.forecast_champions as champion
inner join ml.forecast_models as model using (model_id)
inner join access.templates as templates
    on champion.tenant_id = templates.tenant_id and champion.template_id = templates.template_id
left join lateral (
    select forecast.computed_at from ml.drift_forecasts as forecast
    where
        forecast.tenant_id = champion.tenant_id
        and forecast.template_id = champion.template_id
        and forecast.measure = champion.measure
    order by forecast.date desc
    limit 1
) as newest on true
cross join lateral (
    select
        is_waiting,
        is_waiting and champion.chosen_method is not null and not champion.is_pinned as is_tried_best,
        case when is_waiting then coalesce(champion.chosen_method, 'prophet') else model.method end as method
    from (values (coalesce(champion.chosen_at > newest.computed_at, false))) as since (is_waiting)
) as told
left join ml.forecast_backtests as tried
    on
        champion.tenant_id = tried.tenant_id
        and champion.template_id = tried.template_id
        and champion.measure = tried.measure
        and told.method = tried.method
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
    model.fitted_days, model.pinball, model.coverage, model.backtest_days,
    encode(int8send(model.history_hash), 'hex') as history, model.computed_at, model.model_id,
    model.parameters is not null as is_fit_kept
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
select champion.model_id, champion.is_pinned, champion.holds_fit, model.version
from ml.forecast_champions as champion
inner join ml.forecast_models as model using (model_id)
where
    champion.tenant_id = %(tenant_id)s and champion.template_id = %(template_id)s and champion.measure = %(measure)s
for update of champion
"""
_VERSION = """
select model_id, method, parameters from ml.forecast_models
where
    tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and version = %(version)s
"""
_ONE_VERSION = """
select
    version, method, fitted_from, fitted_to, fitted_days, pinball, coverage, backtest_days,
    encode(int8send(history_hash), 'hex') as history, recipe, computed_at, model_id, parameters
from ml.forecast_models
where
    tenant_id = %(tenant_id)s and template_id = %(template_id)s and measure = %(measure)s and version = %(version)s
"""
_MOVE = """
update ml.forecast_champions
set
    model_id = %(model_id)s,
    is_pinned = %(is_pinned)s,
    holds_fit = %(holds_fit)s,
    chosen_method = case when %(is_pinned)s then %(method)s::text end,
    chosen_at = clock_timestamp()
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
    return _rows(connection, _LIST, {"tenant_id": tenant_id, "is_better": IS_BETTER})


def list_versions(
    connection: Connection, tenant_id: str, template: str, measure: "Measure", limit: int = 20
) -> list[Mapping[str, Any]]:
    """A template's newest versions, the newest first.

    Raises:
        NotFoundError: no such template.
    """
    values = _subject(connection, tenant_id, template, measure)
    return _rows(connection, _VERSIONS, {**values, "limit": limit})


def read_version(
    connection: Connection, tenant_id: str, template: str, measure: "Measure", version: int
) -> Mapping[str, Any]:
    """One version with what it is made of, in names and numbers; `parameters` is None where none were kept.

    Raises:
        NotFoundError: no such template or version.
    """
    from assets.forecasts.versions import in_words

    values = _subject(connection, tenant_id, template, measure)
    rows = _rows(connection, _ONE_VERSION, {**values, "version": version})
    if not rows:
        raise _no_version(template, measure, version)
    content = rows[0]["parameters"]
    return {**rows[0], "parameters": None if content is None else in_words(content)}


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

    A version is held to: its fit serves as it was registered, and is not fitted anew; from day to day the recursion
    goes on. Of a method it is the newest version that serves, fitted anew each week. All versions stay in the registry,
    and so does who changed it and why.

    Raises:
        NotFoundError: no such template or version.
        ConflictError: it is the champion, and pinned, already; of that version no fit was kept; or the template has no
            version yet.
        UsageError: no reason.
    """
    if not reason.strip():
        raise UsageError("reason: say why another version is better; it is kept with the promotion")
    lock_tenant(connection, tenant_id)
    values = _subject(connection, tenant_id, template, measure)
    present, _, holds_fit, current = _champion(connection, values, template, measure)
    model_id, method = _wanted(connection, values, template, to, present)
    if holds_fit and to == current:
        raise ConflictError(f"version {to} of {template!r} is pinned already")
    values |= {"model_id": model_id, "method": method, "replaced": present, "is_pinned": True}
    values |= {"holds_fit": isinstance(to, int)}
    pinned_to = f"version {to}" if isinstance(to, int) else method
    values |= {"because": f"pinned to {pinned_to}: {reason.strip()}", "by": author}
    connection.execute(_MOVE, values)
    connection.execute(_TRACE, values)
    detail = {"measure": measure, "to": to, "method": method, "replaced_version": current, "reason": reason.strip()}
    record_audit(connection, tenant_id=tenant_id, action="forecast.rollback", subject=template, detail=detail)


def unpin(connection: Connection, tenant_id: str, template: str, measure: "Measure", *, author: str) -> None:
    """Take a rollback back: from the next refresh on the version that forecasts best serves again.

    Raises:
        NotFoundError: no such template.
        ConflictError: nothing is pinned, or there is no version yet.
    """
    lock_tenant(connection, tenant_id)
    values = _subject(connection, tenant_id, template, measure)
    present, is_pinned, _, current = _champion(connection, values, template, measure)
    if not is_pinned:
        raise ConflictError(f"{measure} of {template!r} has nothing pinned: `tidemark forecast list` shows them")
    values |= {"model_id": present, "method": None, "replaced": present, "is_pinned": False}
    values |= {"holds_fit": False}
    values |= {"because": "unpinned", "by": author}
    connection.execute(_MOVE, values)
    connection.execute(_TRACE, values)
    detail = {"measure": measure, "version": current}
    record_audit(connection, tenant_id=tenant_id, action="forecast.unpin", subject=template, detail=detail)


def _subject(connection: Connection, tenant_id: str, template: str, measure: "Measure") -> dict[str, Any]:
    found = connection.execute(_FIND, {"tenant_id": tenant_id, "template": template}).fetchone()
    if found is None:
        remedy = "nothing has landed under this name; `tidemark forecast list` shows whose forecasts there are"
        raise NotFoundError("template", f"{template!r} of tenant {tenant_id!r}", remedy)
    return {"tenant_id": tenant_id, "template_id": found[0], "measure": measure}


def _champion(
    connection: Connection, values: Mapping[str, Any], template: str, measure: "Measure"
) -> tuple[UUID, bool, bool, int]:
    row = connection.execute(_CHAMPION, values).fetchone()
    if row is None:
        raise ConflictError(f"{measure} of {template!r} has no version yet: {FIRST_VERSION}")
    model_id, is_pinned, holds_fit, version = row
    return model_id, is_pinned, holds_fit, version


def _wanted(
    connection: Connection, values: Mapping[str, Any], template: str, to: int | Method, present: UUID
) -> tuple[UUID, str]:
    if isinstance(to, str):
        # The alias follows when the next refresh has fitted it.
        return present, to
    from assets.forecasts.versions import is_record

    found = connection.execute(_VERSION, {**values, "version": to}).fetchone()
    if found is None:
        raise _no_version(template, values["measure"], to)
    model_id, method, parameters = found
    if parameters is None or not is_record(parameters):
        why = (
            "its fit was not kept (`tidemark forecast show` says of which it was)"
            if parameters is None
            else "another release fitted it"
        )
        raise ConflictError(
            f"version {to} of {template!r} can't serve: {why}. "
            f"`tidemark forecast rollback --method {method}` pins its method"
        )
    return model_id, method


def _no_version(template: str, measure: "Measure", version: int) -> NotFoundError:
    return NotFoundError("version", f"{version} of {template!r}, {measure}", "`tidemark forecast show` lists them")


def _rows(connection: Connection, query: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(query, values))

"""The registry of forecasters: every version of a template's, which one serves, and who decided so.

A forecaster learns from each day, and is fitted anew once a week, on the days before Monday: that is a version. The
alias `champion` is on the version that serves a template; another method gets it by a back-test, or by a rollback.

Belongs here: SQL over `ml.forecast_models`, `ml.forecast_champions`, `ml.forecast_promotions`. Does not belong here:
fitting (`judging`), what people change by command (`rollbacks`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

import numpy as np
import numpy.typing as npt

from assets.forecasts.binary_rows import copy_columns
from assets.forecasts.history import Subject
from assets.forecasts.methods import METHODS
from assets.forecasts.panel import Bools, Measure
from assets.forecasts.rollbacks import IS_BETTER
from assets.forecasts.serving import Serving
from assets.forecasts.versions import VERSION, Versions, is_record
from storage.database import Connection

Ints = npt.NDArray[np.int32]

# Whatever changes the numbers for an unchanged history belongs in here: what is ahead is then forecast anew. What has
# been judged stands.
RECIPE = "2"

_FRESH = """
create temporary table fresh_models (
    ordinal integer primary key, place integer not null, model_id uuid not null, method integer not null,
    fitted_from date not null, fitted_to date not null, fitted_days integer not null, history_hash bigint not null
) on commit drop;
create temporary table fresh_owners (
    place integer primary key, tenant_id text not null, template_id uuid not null
) on commit drop;
create temporary table fresh_parameters (ordinal integer primary key, parameters bytea not null) on commit drop
"""
_COPY_MODELS = "copy fresh_models from stdin (format binary)"
_COPY_OWNERS = "copy fresh_owners from stdin (format binary)"
_COPY_PARAMETERS = "copy fresh_parameters from stdin (format binary)"
_DROP_FRESH = "drop table fresh_models, fresh_owners, fresh_parameters"
_UNKNOWN = """
select fresh.ordinal from fresh_models as fresh
where not exists (select from ml.forecast_models as known where known.model_id = fresh.model_id)
order by fresh.ordinal
"""
_REGISTER = """
insert into ml.forecast_models
    (model_id, tenant_id, template_id, measure, version, method, fitted_from, fitted_to, fitted_days, history_hash,
     recipe, parameters, pinball, coverage, backtest_days)
select
    fresh.model_id, owner.tenant_id, owner.template_id, %(measure)s,
    coalesce(latest.version, 0)
    + row_number() over (partition by fresh.place order by fresh.fitted_to, fresh.method),
    name.method, fresh.fitted_from, fresh.fitted_to, fresh.fitted_days, fresh.history_hash, %(recipe)s,
    made_of.parameters, tried.pinball, tried.coverage, coalesce(tried.days, 0)
from fresh_models as fresh
inner join fresh_owners as owner using (place)
cross join lateral (values ((%(methods)s::text [])[fresh.method + 1])) as name (method)
left join fresh_parameters as made_of using (ordinal)
left join ml.forecast_backtests as tried
    on
        owner.tenant_id = tried.tenant_id
        and owner.template_id = tried.template_id
        and tried.measure = %(measure)s
        and name.method = tried.method
        and tried.pinball is not null
left join lateral (
    select max(known.version) as version from ml.forecast_models as known
    where
        known.tenant_id = owner.tenant_id and known.template_id = owner.template_id and known.measure = %(measure)s
) as latest on true
where fresh.ordinal = any(%(unknown)s)
"""
_VERSIONS = """
select known.version from fresh_models as fresh
inner join ml.forecast_models as known using (model_id)
order by fresh.ordinal
"""
_FRESH_CHAMPIONS = """
create temporary table fresh_champions (
    tenant_id text not null, template_id uuid not null, model_id uuid not null
) on commit drop
"""
_COPY_CHAMPIONS = "copy fresh_champions from stdin (format binary)"
# A newer version of the same method takes over without a word: of that the registry itself tells.
_PROMOTE = """
with changed as (
    select fresh.*, present.model_id as replaced_model_id, present.chosen_method = model.method as is_chosen,
        present.is_pinned
    from fresh_champions as fresh
    inner join ml.forecast_models as model on fresh.model_id = model.model_id
    left join ml.forecast_champions as present
        on
            fresh.tenant_id = present.tenant_id
            and fresh.template_id = present.template_id
            and present.measure = %(measure)s
    left join ml.forecast_models as before on present.model_id = before.model_id
    where
        before.method is distinct from model.method and not coalesce(present.holds_fit, false)
)

insert into ml.forecast_promotions
    (tenant_id, template_id, measure, model_id, replaced_model_id, because, promoted_by)
select
    changed.tenant_id, changed.template_id, %(measure)s, changed.model_id, changed.replaced_model_id,
    case
        when replaced_model_id is null then 'the first forecast'
        when pinned.because is not null then pinned.because
        when is_chosen then %(is_better)s
        else 'there are days enough for it, or no longer'
    end,
    coalesce(pinned.promoted_by, 'platform')
from changed
left join lateral (
    select promotion.because, promotion.promoted_by from ml.forecast_promotions as promotion
    where
        changed.is_chosen
        and changed.is_pinned
        and promotion.tenant_id = changed.tenant_id
        and promotion.template_id = changed.template_id
        and promotion.measure = %(measure)s
        and promotion.promoted_by <> 'platform'
    order by promotion.promoted_at desc, promotion.promotion_id desc
    limit 1
) as pinned on true
"""
_POINT = """
insert into ml.forecast_champions as present (tenant_id, template_id, measure, model_id)
select tenant_id, template_id, %(measure)s, model_id from fresh_champions
on conflict (tenant_id, template_id, measure) do update set model_id = excluded.model_id
where present.model_id <> excluded.model_id and not present.holds_fit
"""
_CHOSEN = """
select
    champion.tenant_id, champion.template_id, champion.chosen_method, held_to.model_id, held_to.version,
    held_to.fitted_to, held_to.parameters
from ml.forecast_champions as champion
left join ml.forecast_models as held_to on champion.model_id = held_to.model_id and champion.holds_fit
where champion.measure = %(measure)s and champion.chosen_method is not null
"""


@dataclass(frozen=True)
class Fits:
    """Versions that forecasts were made by, an array a column; each template, method and history once.

    Attributes:
        place: which of the subjects.
        method: which of the methods' names.
        fitted_from, fitted_to: days since 2000-01-01.
        history_hash: fingerprint of the days up to fitted_to.
        is_newest: whether it is of the week that the days ahead are forecast by.
    """

    place: Ints
    method: Ints
    fitted_from: Ints
    fitted_to: Ints
    fitted_days: Ints
    history_hash: npt.NDArray[np.int64]
    is_newest: Bools


def register(
    connection: Connection,
    measure: Measure,
    subjects: Sequence[Subject],
    methods: Sequence[str],
    fits: Fits,
    learnt: Versions,
) -> tuple[npt.NDArray[np.void], Ints, int]:
    """Register what isn't yet, each with its method's newest back-test.

    Args:
        connection: its transaction is the caller's.
        measure: of all.
        subjects: of fits by their place.
        methods: names of methods, by number.
        fits: at least one.
        learnt: of each subject what its newest week's fit is made of; earlier weeks are registered without.

    Returns:
        Identifiers and versions of all fits, and how many are new.
    """
    ids = _identifiers(measure, subjects, methods, fits)
    with connection.cursor() as cursor:
        cursor.execute(_FRESH)
        columns = [fits.place, ids, fits.method, fits.fitted_from, fits.fitted_to, fits.fitted_days, fits.history_hash]
        copy_columns(connection, _COPY_MODELS, [np.arange(len(ids), dtype=np.int32), *columns])
        with cursor.copy(_COPY_OWNERS) as copy:
            copy.set_types(["int4", "text", "uuid"])
            for place, subject in enumerate(subjects):
                copy.write_row((place, *subject[:2]))
        cursor.execute("analyze fresh_models, fresh_owners")
        unknown = np.array([row[0] for row in cursor.execute(_UNKNOWN)], dtype=np.int32)
        if len(unknown):
            _copy_parameters(connection, fits, unknown, learnt)
            values = {"measure": measure, "methods": list(methods), "recipe": RECIPE, "unknown": unknown.tolist()}
            cursor.execute(_REGISTER, values)
        versions = np.array([row[0] for row in cursor.execute(_VERSIONS)], dtype=np.int32)
        cursor.execute(_DROP_FRESH)
    return ids, versions, len(unknown)


def _copy_parameters(connection: Connection, fits: Fits, unknown: Ints, learnt: Versions) -> None:
    newest = unknown[fits.is_newest[unknown]]
    # Of templates that were not judged in this run nothing is at hand.
    ours = newest[learnt["within"][fits.place[newest]].any(axis=1)]
    records = learnt[fits.place[ours]].view(f"V{learnt.dtype.itemsize}")
    copy_columns(connection, _COPY_PARAMETERS, [ours, records])


def read_serving(connection: Connection, measure: Measure, subjects: Sequence[Subject]) -> Serving:
    """Who is to serve each template: Prophet's method, nothing pinned, where nobody has chosen."""
    serving = Serving.prophet(len(subjects))
    places = {subject[:2]: place for place, subject in enumerate(subjects)}
    for tenant_id, template_id, method, *pinned in connection.execute(_CHOSEN, {"measure": measure}):
        if (place := places.get((tenant_id, template_id))) is None:
            continue
        serving.methods[place] = METHODS.index(method)
        model_id, version, fitted_to, parameters = pinned
        if model_id is not None and is_record(parameters):
            serving.since[place] = fitted_to.toordinal() + 1
            serving.fits[place] = np.frombuffer(parameters, dtype=VERSION)[0]
            serving.model_ids[place], serving.model_versions[place] = np.void(model_id.bytes), version
    return serving


def crown(
    connection: Connection, measure: Measure, subjects: Sequence[Subject], model_ids: npt.NDArray[np.void]
) -> int:
    """Put the alias `champion` on the versions that serve now; returns how many templates have another method."""
    with connection.cursor() as cursor:
        cursor.execute(_FRESH_CHAMPIONS)
        with cursor.copy(_COPY_CHAMPIONS) as copy:
            copy.set_types(["text", "uuid", "uuid"])
            for subject, model_id in zip(subjects, model_ids, strict=True):
                copy.write_row((subject.tenant_id, subject.template_id, UUID(bytes=model_id.tobytes())))
        promoted = cursor.execute(_PROMOTE, {"measure": measure, "is_better": IS_BETTER}).rowcount
        cursor.execute(_POINT, {"measure": measure})
        cursor.execute("drop table fresh_champions")
    return promoted


def _identifiers(
    measure: Measure, subjects: Sequence[Subject], methods: Sequence[str], fits: Fits
) -> npt.NDArray[np.void]:
    owners = [f"{subject.tenant_id}\0{subject.template_id}\0{measure}\0".encode() for subject in subjects]
    recipes = [f"{method}\0{RECIPE}\0".encode() for method in methods]
    parts = zip(fits.place.tolist(), fits.method.tolist(), fits.history_hash.tolist(), strict=True)
    digests = [
        blake2b(owners[place] + recipes[method] + number.to_bytes(8, signed=True), digest_size=16).digest()
        for place, method, number in parts
    ]
    return np.frombuffer(b"".join(digests), dtype="V16")

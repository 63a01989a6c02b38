"""What people decide about extractors: objective, incumbent, override, floor, tolerance; retired and succeeding models.

Belongs here: reading and changing those decisions, each change with its audit entry. Does not belong here: what follows
from them (`publishing`), for which whoever changes one calls `publishing.publish` in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple
from uuid import UUID

from storage.audit import record_audit
from storage.database import Connection
from storage.errors import NotFoundError, UsageError
from storage.tenants import lock_tenant

Objective = Literal["success", "fields"]
DEFAULT_FLOOR = 0.05
DEFAULT_TOLERANCE = 0.01

_FIND_TEMPLATE = "select template_id from access.templates where tenant_id = %(tenant_id)s and template = %(template)s"
_KNOWN_TEMPLATES = "select template from access.templates where tenant_id = %(tenant_id)s order by template limit 20"
_POLICY = """
select
    objective, exploration_floor, tolerance, incumbent_vendor, incumbent_model, override_vendor, override_model,
    override_reason
from ml.selection_policies
where tenant_id = %(tenant_id)s and template_id = %(template_id)s
"""
_POLICIES = """
select
    tenant_id, template_id, objective, exploration_floor, tolerance, incumbent_vendor, incumbent_model,
    override_vendor, override_model, override_reason
from ml.selection_policies
"""
_NAMED_POLICIES = """
select
    templates.template, objective, exploration_floor, tolerance, incumbent_vendor, incumbent_model, override_vendor,
    override_model, override_reason
from ml.selection_policies
inner join access.templates using (tenant_id, template_id)
where tenant_id = %(tenant_id)s
order by templates.template
"""
_SAVE_POLICY = """
insert into ml.selection_policies
    (tenant_id, template_id, objective, exploration_floor, tolerance, incumbent_vendor, incumbent_model,
     override_vendor, override_model, override_reason)
values
    (%(tenant_id)s, %(template_id)s, %(objective)s, %(exploration_floor)s, %(tolerance)s, %(incumbent_vendor)s,
     %(incumbent_model)s, %(override_vendor)s, %(override_model)s, %(override_reason)s)
on conflict (tenant_id, template_id) do update set
    objective = excluded.objective,
    exploration_floor = excluded.exploration_floor,
    tolerance = excluded.tolerance,
    incumbent_vendor = excluded.incumbent_vendor,
    incumbent_model = excluded.incumbent_model,
    override_vendor = excluded.override_vendor,
    override_model = excluded.override_model,
    override_reason = excluded.override_reason,
    updated_at = now()
"""
_RULINGS = """
select tenant_id, extractor_vendor, extractor_model, predecessor_model, retired_at is not null
from ml.extractor_rulings
where %(tenant_id)s::text is null or tenant_id = %(tenant_id)s
order by tenant_id, extractor_vendor, extractor_model
"""
_SAVE_RULING = """
insert into ml.extractor_rulings (tenant_id, extractor_vendor, extractor_model, predecessor_model, retired_at)
values
    (%(tenant_id)s, %(vendor)s, %(model)s, %(predecessor_model)s, case when %(is_retired)s then now() end)
on conflict (tenant_id, extractor_vendor, extractor_model) do update set
    predecessor_model = excluded.predecessor_model,
    retired_at = case when excluded.retired_at is not null then coalesce(extractor_rulings.retired_at, now()) end,
    updated_at = now()
"""
# Of what the last refresh learnt: an extractor that no evaluation has named is a slip of the pen.
_KNOWN_EXTRACTORS = """
select distinct posteriors.extractor_vendor, posteriors.extractor_model
from ml.current_posteriors
inner join ml.extractor_posteriors as posteriors using (posterior_id)
where
    current_posteriors.tenant_id = %(tenant_id)s
    and (%(template_id)s::uuid is null or current_posteriors.template_id = %(template_id)s)
order by 1, 2
"""


class Extractor(NamedTuple):
    """Who produces results: a model's provider and name."""

    vendor: str
    model: str

    def __str__(self) -> str:
        """As people write it, and as `eligible_extractors` names it."""
        return f"{self.vendor}/{self.model}"


@dataclass(frozen=True)
class Policy:
    """What holds for one template.

    Attributes:
        objective: what is to be as high as can be: the rate of successes (feedback that tells of fields alone is one if
            all are right), or the accuracy of fields.
        exploration_floor: the part of decisions that all extractors share evenly, in [0, 1].
        tolerance: a difference in the objective that is not worth a change, in [0, 1).
        incumbent: the extractor in use.
        override: the one to use whatever the feedback says.
        override_reason: why; there is one with every override.
    """

    objective: Objective = "success"
    exploration_floor: float = DEFAULT_FLOOR
    tolerance: float = DEFAULT_TOLERANCE
    incumbent: Extractor | None = None
    override: Extractor | None = None
    override_reason: str | None = None


@dataclass(frozen=True)
class Ruling:
    """What holds for one extractor on all of a tenant's templates."""

    extractor: Extractor
    predecessor: Extractor | None = None
    is_retired: bool = False


def find_extractor(connection: Connection, tenant_id: str, name: str) -> Extractor:
    """The extractor that people call vendor/model; either may have slashes of its own.

    An unknown one's vendor ends at the first slash.

    Raises:
        UsageError: no such name can be, or it is two extractors' name.
    """
    found = [extractor for extractor in _known(connection, tenant_id) if str(extractor) == name]
    if len(found) > 1:
        told = " and ".join(f"{extractor.model!r} of {extractor.vendor!r}" for extractor in found)
        raise UsageError(f"extractor {name!r} may be {told}: send their evaluations under names that differ")
    vendor, slash, model = name.partition("/")
    if not (vendor and slash and model):
        raise UsageError(f"extractor {name!r}: give vendor/model")
    return found[0] if found else Extractor(vendor, model)


def find_template(connection: Connection, tenant_id: str, template: str) -> UUID:
    """A template's identifier.

    Raises:
        NotFoundError: the tenant has no such template; the message names those it has.
    """
    found = connection.execute(_FIND_TEMPLATE, {"tenant_id": tenant_id, "template": template}).fetchone()
    if found is None:
        known = [row[0] for row in connection.execute(_KNOWN_TEMPLATES, {"tenant_id": tenant_id})]
        listed = f"known are {', '.join(known)}" if known else "it has none yet, send evaluations with tidemark push"
        raise NotFoundError("template", f"{template!r} of tenant {tenant_id!r}", listed)
    template_id: UUID = found[0]
    return template_id


def read_policy(connection: Connection, tenant_id: str, template_id: UUID) -> Policy:
    """What holds for a template: the defaults where nobody has decided."""
    row = connection.execute(_POLICY, {"tenant_id": tenant_id, "template_id": template_id}).fetchone()
    return Policy() if row is None else _policy(row)


def read_policies(connection: Connection) -> dict[tuple[str, UUID], Policy]:
    """Every tenant's decisions by tenant and template; where there is none the defaults hold."""
    return {(row[0], row[1]): _policy(row[2:]) for row in connection.execute(_POLICIES)}


def read_policy_list(connection: Connection, tenant_id: str) -> list[tuple[str, Policy]]:
    """A tenant's decisions, each with its template's name, by that name."""
    rows = connection.execute(_NAMED_POLICIES, {"tenant_id": tenant_id})
    return [(row[0], _policy(row[1:])) for row in rows]


def change_policy(
    connection: Connection,
    tenant_id: str,
    template: str,
    changes: Mapping[str, object],
) -> Policy:
    """Change what holds for a template.

    Args:
        connection: its transaction is the caller's, who publishes the recommendation that follows.
        tenant_id: an existing tenant.
        template: one of its templates.
        changes: new values by the name of `Policy`'s field; None takes a decision back.

    Raises:
        NotFoundError: no such template.
        UsageError: a value that can't be, an extractor that is unknown or retired, an override without a reason.
    """
    lock_tenant(connection, tenant_id)
    template_id = find_template(connection, tenant_id, template)
    before = read_policy(connection, tenant_id, template_id)
    after = _checked(replace(before, **changes))  # type: ignore[arg-type] # the caller's names are checked there
    for name in ("incumbent", "override"):
        extractor = changes.get(name)
        if isinstance(extractor, Extractor):
            _require_choosable(connection, tenant_id, template_id, extractor, name)
    if after != before:
        connection.execute(_SAVE_POLICY, {"tenant_id": tenant_id, "template_id": template_id} | _columns(after))
        record_audit(
            connection,
            tenant_id=tenant_id,
            action="selection.set",
            subject=template,
            detail={name: _plain(value) for name, value in changes.items()},
        )
    return after


def read_rulings(connection: Connection, tenant_id: str | None = None) -> dict[str, list[Ruling]]:
    """What was decided about extractors, by tenant; of all tenants if None is named."""
    found: dict[str, list[Ruling]] = {}
    for tenant, vendor, model, predecessor, is_retired in connection.execute(_RULINGS, {"tenant_id": tenant_id}):
        earlier = None if predecessor is None else Extractor(vendor, predecessor)
        found.setdefault(tenant, []).append(Ruling(Extractor(vendor, model), earlier, is_retired))
    return found


def rule(
    connection: Connection,
    tenant_id: str,
    extractor: Extractor,
    *,
    is_retired: bool | None = None,
    predecessor_model: str | Literal[""] | None = None,
) -> Ruling:
    """Retire an extractor or bring it back, or name the version before it; what isn't given stays.

    Args:
        connection: its transaction is the caller's.
        tenant_id: an existing tenant.
        extractor: who is meant; a successor may be one that nobody has used yet.
        is_retired: whether it is no longer to be chosen.
        predecessor_model: a model of the same vendor; empty takes it back.

    Raises:
        UsageError: an extractor that is its own predecessor, or to be retired or brought back and unknown, or to be
            retired and an incumbent or an override.
    """
    lock_tenant(connection, tenant_id)
    known = {ruling.extractor: ruling for ruling in read_rulings(connection, tenant_id).get(tenant_id, [])}
    before = known.get(extractor, Ruling(extractor))
    predecessor = before.predecessor
    if predecessor_model is not None:
        predecessor = Extractor(extractor.vendor, predecessor_model) if predecessor_model else None
    after = Ruling(extractor, predecessor, before.is_retired if is_retired is None else is_retired)
    _refuse_circles(after, known.values())
    if is_retired is False and not before.is_retired:
        _require_known(extractor, _known(connection, tenant_id), f"restore {extractor}")
    if after.is_retired and not before.is_retired:
        _require_known(extractor, _known(connection, tenant_id), f"retire {extractor}")
        _refuse_in_use(connection, tenant_id, extractor)
    if after != before:
        connection.execute(
            _SAVE_RULING,
            {
                "tenant_id": tenant_id,
                "vendor": extractor.vendor,
                "model": extractor.model,
                "predecessor_model": predecessor.model if predecessor else None,
                "is_retired": after.is_retired,
            },
        )
        record_audit(
            connection,
            tenant_id=tenant_id,
            action="selection.extractor",
            subject=str(extractor),
            detail={"predecessor": _plain(after.predecessor), "is_retired": after.is_retired},
        )
    return after


def set_pooling(connection: Connection, tenant_id: str, *, pools: bool) -> None:
    """Agree, or no longer agree, that priors are learnt together with the other tenants that do."""
    connection.execute("update access.tenants set pools_extractors = %s where tenant_id = %s", (pools, tenant_id))
    record_audit(connection, tenant_id=tenant_id, action="tenant.pool", subject=tenant_id, detail={"pools": pools})


def read_pooling(connection: Connection, tenant_id: str) -> bool:
    """Whether an existing tenant agrees to that."""
    query = "select pools_extractors from access.tenants where tenant_id = %s"
    row = connection.execute(query, (tenant_id,)).fetchone()
    return row is not None and row[0]


def _policy(row: tuple[object, ...]) -> Policy:
    objective, floor, tolerance, incumbent_vendor, incumbent_model, override_vendor, override_model, reason = row
    return Policy(
        objective,  # type: ignore[arg-type]
        floor,  # type: ignore[arg-type]
        tolerance,  # type: ignore[arg-type]
        None if incumbent_vendor is None else Extractor(str(incumbent_vendor), str(incumbent_model)),
        None if override_vendor is None else Extractor(str(override_vendor), str(override_model)),
        None if reason is None else str(reason),
    )


def _columns(policy: Policy) -> dict[str, object]:
    incumbent, override = policy.incumbent, policy.override
    return {
        "objective": policy.objective,
        "exploration_floor": policy.exploration_floor,
        "tolerance": policy.tolerance,
        "incumbent_vendor": incumbent.vendor if incumbent else None,
        "incumbent_model": incumbent.model if incumbent else None,
        "override_vendor": override.vendor if override else None,
        "override_model": override.model if override else None,
        "override_reason": policy.override_reason,
    }


def _checked(policy: Policy) -> Policy:
    if not 0 <= policy.exploration_floor <= 1:
        raise UsageError(f"exploration floor {policy.exploration_floor}: give a part of all decisions, from 0 to 1")
    if not 0 <= policy.tolerance < 1:
        raise UsageError(f"tolerance {policy.tolerance}: give a difference of rates, from 0 to below 1")
    if policy.override is None:
        return replace(policy, override_reason=None)
    if not (policy.override_reason or "").strip():
        raise UsageError(f"an override to {policy.override} needs a reason: --reason")
    return policy


def _require_choosable(
    connection: Connection, tenant_id: str, template_id: UUID, extractor: Extractor, what: str
) -> None:
    _require_known(extractor, _known(connection, tenant_id, template_id), f"{what} {extractor}", " on this template")
    if any(ruling.extractor == extractor and ruling.is_retired for ruling in _of(connection, tenant_id)):
        raise UsageError(
            f"{what} {extractor}: is retired. Bring it back first: tidemark selection restore {extractor} "
            f"--tenant {tenant_id}"
        )


def _known(connection: Connection, tenant_id: str, template_id: UUID | None = None) -> list[Extractor]:
    values = {"tenant_id": tenant_id, "template_id": template_id}
    return [Extractor(*row) for row in connection.execute(_KNOWN_EXTRACTORS, values)]


def _require_known(extractor: Extractor, known: Sequence[Extractor], what: str, where: str = "") -> None:
    if extractor not in known:
        listed = (
            f"Known{where}: {', '.join(map(str, known))}."
            if known
            else "None is known yet: send evaluations with feedback, then run: tidemark refresh"
        )
        raise UsageError(f"{what}: unknown extractor. {listed}")


def _of(connection: Connection, tenant_id: str) -> Iterable[Ruling]:
    return read_rulings(connection, tenant_id).get(tenant_id, [])


def _refuse_circles(new: Ruling, known: Iterable[Ruling]) -> None:
    before = {ruling.extractor: ruling.predecessor for ruling in known} | {new.extractor: new.predecessor}
    seen, at = {new.extractor}, new.predecessor
    while at is not None:
        if at in seen:
            raise UsageError(f"predecessor {new.predecessor} of {new.extractor}: it comes after itself that way")
        seen.add(at)
        at = before.get(at)


def _refuse_in_use(connection: Connection, tenant_id: str, extractor: Extractor) -> None:
    for (tenant, template_id), policy in read_policies(connection).items():
        if tenant == tenant_id and extractor in (policy.incumbent, policy.override):
            row = connection.execute(
                "select template from access.templates where tenant_id = %s and template_id = %s",
                (tenant_id, template_id),
            ).fetchone()
            name = row[0] if row else template_id
            what = "override" if extractor == policy.override else "incumbent"
            raise UsageError(
                f"{extractor} is the {what} of template {name!r}: set another, or run first: "
                f"tidemark selection unset {what} --template {name} --tenant {tenant_id}"
            )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Extractor) else value

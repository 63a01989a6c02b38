"""Leaks: what a reader may read that row-level security does not guard, and tables of tenants' rows that lack it.

A policy guards a table and nothing that is made from it: a view looks with its owner's eyes, a materialized view has no
policies, a function may be SECURITY DEFINER. Whoever makes one of these in a schema that readers may use, and grants
it, shows them all tenants. Where rows are a tenant's, row-level security has to be on even if nobody may read them: a
grant by mistake then shows nothing. This asks PostgreSQL's catalogue whether all of that is so.

Belongs here: finding leaks. Does not belong here: policies and grants (migrations; dbt's macro share_with_readers).
"""

from dataclasses import dataclass

from storage.database import Connection

# A reader is whoever has the rights of a reader role; those who may do everything anyway are none. Reading begins with
# the right to use the schema: a grant without it opens nothing.
_FIND = """
with readers as (
    select oid, rolname, rolbypassrls
    from pg_roles
    where
        (pg_has_role(oid, 'bi_reader', 'usage') or pg_has_role(oid, 'api_reader', 'usage'))
        and not rolsuper
        and rolname <> current_user
),
schemas as (
    select readers.oid as reader, readers.rolname, pg_namespace.oid, pg_namespace.nspname
    from readers cross join pg_namespace
    where
        nspname <> 'information_schema' and nspname !~ '^pg_'
        and has_schema_privilege(readers.oid, pg_namespace.oid, 'usage')
),
relations as (
    select schemas.rolname, schemas.reader, schemas.nspname, class.*
    from schemas inner join pg_class as class on class.relnamespace = schemas.oid
    where
        class.relkind in ('r', 'p', 'v', 'm', 'f')
        and has_any_column_privilege(schemas.reader, class.oid, 'select')
),
of_tenants as (
    select class.oid, format('%%I.%%I', pg_namespace.nspname, class.relname) as name, class.relrowsecurity
    from pg_class as class
    inner join pg_namespace on pg_namespace.oid = class.relnamespace
    inner join pg_attribute on pg_attribute.attrelid = class.oid
    where
        pg_namespace.nspname in ('raw', 'access', 'alerting', 'ml', 'intermediate')
        and class.relkind in ('r', 'p')
        and pg_attribute.attname = 'tenant_id'
),
leaks as (
    select
        rolname,
        format('%%I.%%I', nspname, relname) as name,
        case
            when relkind = 'm' then 'a materialized view has no row-level security'
            when relkind = 'f' then 'a foreign table has no row-level security'
            when relkind = 'v' then 'the view looks with its owner''s eyes: set (security_invoker = true)'
            when not relrowsecurity then 'row-level security is off'
            when pg_has_role(reader, relowner, 'usage') then 'policies do not bind its owner'
            else 'a policy shows more than the reader''s tenants'
        end as why
    from relations
    where
        relkind in ('m', 'f')
        or relkind = 'v' and not exists (
            select from pg_options_to_table(reloptions)
            where option_name = 'security_invoker' and option_value::boolean
        )
        or relkind in ('r', 'p') and (
            not relrowsecurity
            or pg_has_role(reader, relowner, 'usage')
            or exists (
                select from pg_policy
                where
                    polrelid = relations.oid and polpermissive and polcmd in ('r', '*')
                    and exists (
                        select from unnest(polroles) as role where role = 0 or pg_has_role(reader, role, 'usage')
                    )
                    and (polroles::regrole[]::text, pg_get_expr(polqual, polrelid)) not in (
                        ('{bi_reader}', %(of_reader)s), ('{api_reader}', %(of_api)s)
                    )
            )
        )
    union all
    select schemas.rolname, pg_proc.oid::regprocedure::text, 'the function has its owner''s rights: security invoker'
    from schemas inner join pg_proc on pg_proc.pronamespace = schemas.oid
    where
        pg_proc.prosecdef
        and has_function_privilege(schemas.reader, pg_proc.oid, 'execute')
        and pg_proc.oid <> 'access.reader_tenant_ids()'::regprocedure
    union all
    select rolname, 'role ' || quote_ident(rolname), 'the role bypasses row-level security: nobypassrls' from readers
    where rolbypassrls
    union all
    select null, name, 'row-level security is off' from of_tenants where not relrowsecurity
    union all
    select role::regrole::name, name, 'a policy shows more than the reader''s tenants'
    from of_tenants
    inner join pg_policy on polrelid = of_tenants.oid
    cross join unnest(polroles) as role
    where
        polpermissive and polcmd in ('r', '*')
        and (role::regrole::text, pg_get_expr(polqual, polrelid)) not in (
            ('bi_reader', %(of_reader)s), ('api_reader', %(of_api)s), ('tidemark_dbt', 'true')
        )
        -- Whose tables these are sees all of them anyway; the audit log it doesn't own.
        and not exists (select from pg_class where oid = 'raw.evaluations'::regclass and relowner = role)
)
select
    name, why,
    coalesce(array_agg(distinct rolname::text order by rolname::text) filter (where rolname is not null), '{}')
from leaks group by name, why order by name, why
"""
_OF_READER = "(tenant_id = ANY (( SELECT access.reader_tenant_ids() AS reader_tenant_ids)::text[]))"
_OF_API = "(tenant_id = ( SELECT access.api_tenant_id() AS api_tenant_id))"


@dataclass(frozen=True)
class Leak:
    """Something that shows its readers the rows of tenants that are not theirs."""

    name: str
    """The relation, function or role."""
    why: str
    """What is wrong with it, and the remedy where there is one."""
    readers: tuple[str, ...]
    """The roles that it is open to; none where only a grant is missing."""

    def __str__(self) -> str:
        return f"{self.name}: {self.why} (open to {', '.join(self.readers) or 'nobody yet'})"


def find_leaks(connection: Connection) -> list[Leak]:
    """What row-level security does not guard and ought to; empty where all is well."""
    found = connection.execute(_FIND, {"of_reader": _OF_READER, "of_api": _OF_API})
    return [Leak(name, why, tuple(readers)) for name, why, readers in found]

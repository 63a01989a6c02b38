-- A login for a BI tool that sees the marts of one tenant. Run it as the platform's owner; run it again to give the
-- login one more tenant, another password or another limit:
--
--   export TIDEMARK_READER_PASSWORD='…'
--   psql "$TIDEMARK_DATABASE_URL" -v role=acme_bi -v tenant=acme -f deploy/postgres/reader.sql
--
-- The password comes from the environment, because other users of the machine can read a command line; -v password=…
-- works too. A SCRAM verifier (SCRAM-SHA-256$…) is taken as it is: then the server's log never holds the password.
-- More: -v connections=8 (how many at once), -v seconds=30 (for a statement; advice that the login can overrule).
\set ON_ERROR_STOP on
\if :{?password} \else
    \getenv password TIDEMARK_READER_PASSWORD
\endif
\if :{?password} \else
    \set password ''
\endif
\if :{?role} \else
    \set role ''
\endif
\if :{?tenant} \else
    \set tenant ''
\endif
\if :{?connections} \else
    \set connections 8
\endif
\if :{?seconds} \else
    \set seconds 30
\endif
\set timeout :seconds s

begin;

-- psql puts no variables into a dollar-quoted body: it reads them as settings of this transaction.
select
    set_config('reader.role', :'role', true) as role,
    set_config('reader.tenant', :'tenant', true) as tenant,
    set_config('reader.has_password', (:'password' <> '')::text, true) as has_password
\gset checked_

do $$
declare
    reader constant text := current_setting('reader.role');
    tenant constant text := current_setting('reader.tenant');
begin
    if reader = '' or tenant = '' or not current_setting('reader.has_password')::boolean then
        raise exception 'a reader needs a role, a tenant and a password'
            using hint = 'psql … -v role=acme_bi -v tenant=acme, with TIDEMARK_READER_PASSWORD in the environment';
    end if;
    if not exists (select from access.tenants where tenant_id = tenant) then
        raise exception 'there is no tenant %', tenant using hint = 'tidemark tenant list';
    end if;
    -- What a role may do beyond bi_reader it could do as a reader too: only a role with nothing else becomes one.
    if exists (
        select from pg_roles
        where rolname = reader and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
    ) or exists (
        select from pg_auth_members
        where member::regrole = to_regrole(quote_ident(reader)) and roleid::regrole <> 'bi_reader'::regrole
    ) then
        raise exception 'role % may do more than read marts', reader using hint = 'Choose a role of its own for BI.';
    end if;
end $$;

select format('create role %I', :'role') where to_regrole(quote_ident(:'role')) is null
\gexec

alter role :"role" with login password :'password' connection limit :connections;
grant bi_reader to :"role";
grant connect on database :"DBNAME" to :"role";

-- Advice: the login may set these otherwise. watchdog.sql is what holds.
alter role :"role" set statement_timeout = :'timeout';
alter role :"role" set idle_in_transaction_session_timeout = '60s';
alter role :"role" set default_transaction_read_only = on;
-- Marts are in UTC; a tool that asks for no time zone gets the days that they mean.
alter role :"role" set timezone = 'UTC';
alter role :"role" set search_path = marts;

insert into access.reader_tenants (role_name, tenant_id) values (:'role', :'tenant') on conflict do nothing;
select access.record_audit(:'tenant', session_user, 'reader.grant', :'role', '{}') as entry
\gset recorded_

-- Only a superuser may say how much a role's sorts may spill to disk; unlike the timeouts, it holds.
select format('alter role %I set temp_file_limit = %L', :'role', '2GB')
where exists (select from pg_roles where rolname = current_user and rolsuper)
\gexec

commit;

select role_name as reader, array_agg(tenant_id order by tenant_id) as tenants
from access.reader_tenants
where role_name = :'role'
group by role_name;

-- A login for one of the platform's processes, with the rights of its role and no more. Run it as a superuser, after
-- `tidemark migrate`; run it again to change the password:
--
--   export TIDEMARK_LOGIN_PASSWORD='…'
--   psql "postgresql://postgres@db.example.com/tidemark" -v login=tidemark_gateway -v as=tidemark_api -f deploy/postgres/login.sql
--
-- -v as= is tidemark_ingest (pushes records), tidemark_api (serves HTTP), tidemark_dbt (builds marts) or retention (drops
-- what need no longer be kept). A SCRAM verifier (SCRAM-SHA-256$…) is taken as it is.
\set ON_ERROR_STOP on
\if :{?password} \else
    \getenv password TIDEMARK_LOGIN_PASSWORD
\endif
\if :{?password} \else
    \set password ''
\endif
\if :{?login} \else
    \set login ''
\endif
\if :{?as} \else
    \set as ''
\endif

begin;

-- psql puts no variables into a dollar-quoted body: it reads them as settings of this transaction.
select
    set_config('process.login', :'login', true) as login,
    set_config('process.role', :'as', true) as role,
    set_config('process.has_password', (:'password' <> '')::text, true) as has_password
\gset checked_

do $$
declare
    process_login constant text := current_setting('process.login');
    process_role constant text := current_setting('process.role');
begin
    if
        process_login = '' or not current_setting('process.has_password')::boolean
        or process_role not in ('tidemark_ingest', 'tidemark_api', 'tidemark_dbt', 'retention')
    then
        raise exception 'a login needs a name, a password and a role that there is'
            using hint = 'psql … -v login=tidemark_gateway -v as=tidemark_api, with TIDEMARK_LOGIN_PASSWORD in the '
            'environment; as is tidemark_ingest, tidemark_api, tidemark_dbt or retention';
    end if;
    -- What it may do beyond its role it could do for whoever has its password.
    if exists (
        select from pg_roles
        where rolname = process_login and (rolsuper or rolcreaterole or rolcreatedb or rolreplication)
    ) or exists (
        select from pg_auth_members
        where
            member::regrole = to_regrole(quote_ident(process_login))
            and roleid::regrole <> to_regrole(quote_ident(process_role))
    ) then
        raise exception 'role % may do more than %', process_login, process_role
            using hint = 'Choose a login of its own for each process.';
    end if;
end $$;

select format('create role %I', :'login') where to_regrole(quote_ident(:'login')) is null
\gexec

alter role :"login" with login password :'password';
grant :"as" to :"login";
grant connect, temporary on database :"DBNAME" to :"login";
alter role :"login" set timezone = 'UTC';

-- Records are landed by COPY, which PostgreSQL refuses where policies bind: of these two, grants alone say what they may.
select format('alter role %I bypassrls', :'login') where :'as' in ('tidemark_ingest', 'tidemark_api')
\gexec

select access.record_audit(null, session_user, 'login.grant', :'login', jsonb_build_object('role', :'as')) as entry
\gset recorded_

commit;

select member::regrole as login, roleid::regrole as role from pg_auth_members
where member::regrole = to_regrole(quote_ident(:'login'));

-- The audit log in daily partitions. Its tables, and the schema that holds them, belong to a role which nobody can log in
-- as and no login is a member of: whoever isn't a superuser can add entries, seal days and drop what seals have released,
-- each by a function that runs with that role's rights, and nothing else. What a superuser does shows in the seals.

do $$
begin
    begin
        create role audit_owner nologin;
    exception when duplicate_object or unique_violation then
        null;
    end;
    if not pg_has_role(current_user, 'audit_owner', 'set') then
        grant audit_owner to current_user with inherit false, set true;
    end if;
end $$;

create temporary table entries_before on commit drop as table access.audit_log;
drop table access.audit_log;

create table access.audit_log (
    entry_id uuid not null default uuidv7(),
    tenant_id text,
    at timestamptz not null,
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null,
    primary key (at, entry_id)
) partition by range (at);
comment on table access.audit_log is
    'Append-only: who did which administrative action on what. One partition a UTC day; written by access.record_audit.';
comment on column access.audit_log.tenant_id is 'Null where the action is on no single tenant.';
comment on column access.audit_log.actor is 'key:<key_id> over HTTP, run:<run_id> in Dagster, else the user of the system.';

create table access.audit_seals (
    day date primary key,
    entries bigint not null check (entries >= 0),
    first_entry uuid,
    last_entry uuid,
    entries_digest bytea not null check (octet_length(entries_digest) = 32),
    keep_from date not null,
    sealed_at timestamptz not null,
    previous_digest bytea not null check (octet_length(previous_digest) = 32),
    digest bytea not null check (octet_length(digest) = 32)
);
comment on table access.audit_seals is
    'One row an ended UTC day of the audit log, chained by SHA-256; the format is in storage/audit_chain.py. '
    'Append-only, kept for ever. No tenant: all of them.';
comment on column access.audit_seals.keep_from is 'Entries of days before this one are released: retention may drop them.';
comment on column access.audit_seals.previous_digest is 'The digest of the day before; zeros in the first seal.';

create trigger append_only before update or delete or truncate on access.audit_log
    for each statement execute function access.refuse_change();
create trigger append_only before update or delete or truncate on access.audit_seals
    for each statement execute function access.refuse_change();

-- A trigger of the parent does not see what is done to a partition: each has its own.
create function access.ensure_audit_day(day date) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
    partition_name text := 'audit_log_' || to_char(day, 'YYYYMMDD');
begin
    if to_regclass(format('access.%I', partition_name)) is not null then return; end if;
    lock table access.audit_log in share update exclusive mode;
    if to_regclass(format('access.%I', partition_name)) is not null then return; end if;
    execute format('create table access.%I (like access.audit_log including all)', partition_name);
    execute format('alter table access.%I enable row level security', partition_name);
    execute format(
        'create trigger append_only before update or delete or truncate on access.%I
        for each statement execute function access.refuse_change()',
        partition_name
    );
    execute format(
        'alter table access.audit_log attach partition access.%I for values from (%L) to (%L)',
        partition_name,
        to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
    );
end $$;
comment on function access.ensure_audit_day (date) is 'Makes the partition of a day of the audit log, if there is none.';

create function access.ensure_audit_days_ahead() returns void
language sql security definer set search_path = pg_catalog as $$
    select access.ensure_audit_day((clock_timestamp() at time zone 'UTC')::date + ahead) from generate_series(0, 7) as ahead
$$;
comment on function access.ensure_audit_days_ahead () is
    'Makes the partitions of today and the coming week, so that no action has to make one.';

create function access.record_audit(of_tenant text, by_actor text, done text, on_subject text, with_detail jsonb)
returns void language plpgsql security definer set search_path = pg_catalog as $$
declare
    -- Before the time: whoever seals a day waits for all transactions that had a number before its end.
    own_number constant xid8 := pg_current_xact_id();
    -- A clock that was set back must not add to a day that is sealed.
    moment constant timestamptz := greatest(
        clock_timestamp(), (select (max(day) + 1)::timestamp at time zone 'UTC' from access.audit_seals)
    );
begin
    perform access.ensure_audit_day((moment at time zone 'UTC')::date);
    insert into access.audit_log (tenant_id, at, actor, action, subject, detail)
    values (of_tenant, moment, by_actor, done, on_subject, with_detail);
end $$;
comment on function access.record_audit (text, text, text, text, jsonb) is 'Adds an entry to the audit log, timed by the server.';

-- The digests are calculated by who calls this; what the server can tell itself is not taken on trust.
create function access.seal_audit_day(seal access.audit_seals) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
    newest access.audit_seals;
    refusal text;
begin
    lock table access.audit_seals in share row exclusive mode;
    select * into newest from access.audit_seals order by day desc limit 1;
    if seal.day >= (clock_timestamp() at time zone 'UTC')::date then
        refusal := 'has not ended';
    elsif pg_current_xact_id() > pg_snapshot_xmin(pg_current_snapshot()) then
        refusal := 'waits for transactions that began before its end';
    elsif
        newest.day is not null
        and (seal.day, seal.previous_digest) is distinct from (newest.day + 1, newest.digest)
    then
        refusal := 'does not follow the newest seal';
    elsif seal.keep_from < newest.keep_from or seal.keep_from > seal.day - 29 then
        refusal := 'would release what is younger than 30 days, or take back what was released';
    elsif seal.entries <> (
        select count(*) from access.audit_log
        where
            at >= seal.day::timestamp at time zone 'UTC'
            and at < (seal.day + 1)::timestamp at time zone 'UTC'
    ) then
        refusal := 'has other entries';
    end if;
    if refusal is not null then
        raise exception 'the audit log''s day % %', to_char(seal.day, 'YYYY-MM-DD'), refusal
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into access.audit_seals values (seal.*);
end $$;
comment on function access.seal_audit_day (access.audit_seals) is
    'Adds the seal of a day that has ended and whose transactions have, next in the chain.';

create function access.released_audit_days() returns setof date
language sql stable security definer set search_path = pg_catalog as $$
    select held.day
    from (
        select to_date(right(partition.relname, 8), 'YYYYMMDD') as day
        from pg_inherits
        inner join pg_class as partition on partition.oid = pg_inherits.inhrelid
        where pg_inherits.inhparent = 'access.audit_log'::regclass
    ) as held
    inner join access.audit_seals as seals on seals.day = held.day
    where held.day < (select max(keep_from) from access.audit_seals)
    order by held.day
$$;
comment on function access.released_audit_days () is 'The sealed days that are no longer to be kept and still held, oldest first.';

create function access.drop_released_audit_days() returns setof date
language plpgsql security definer set search_path = pg_catalog set lock_timeout = '5s' as $$
declare
    released date;
begin
    for released in select access.released_audit_days() loop
        execute format('drop table access.%I', 'audit_log_' || to_char(released, 'YYYYMMDD'));
        return next released;
    end loop;
end $$;
comment on function access.drop_released_audit_days () is
    'Drops the entries of days that the newest seal has released; returns the days. Seals stay.';

do $$
declare
    platform constant name := current_user;
    relation regclass;
begin
    for relation in
        select 'access.audit_log'::regclass
        union all select 'access.audit_seals'::regclass
    loop
        execute format('alter table %s enable row level security', relation);
        execute format(
            'create policy the_platform_sees_all on %s for select to %I using (true)', relation, platform
        );
        execute format('grant select on %s to %I', relation, platform);
    end loop;

    perform access.ensure_audit_day(day)
    from (select distinct (at at time zone 'UTC')::date as day from entries_before) as days;
    insert into access.audit_log select entry_id, tenant_id, at, actor, action, subject, detail from entries_before;

    grant usage, create on schema access to audit_owner;
    alter function access.refuse_change() owner to audit_owner;
    alter function access.ensure_audit_day(date) owner to audit_owner;
    alter function access.ensure_audit_days_ahead() owner to audit_owner;
    alter function access.record_audit(text, text, text, text, jsonb) owner to audit_owner;
    alter function access.seal_audit_day(access.audit_seals) owner to audit_owner;
    alter function access.released_audit_days() owner to audit_owner;
    alter function access.drop_released_audit_days() owner to audit_owner;
    alter table access.audit_seals owner to audit_owner;
    for relation in select 'access.audit_log'::regclass union all
        select inhrelid::regclass from pg_inherits where inhparent = 'access.audit_log'::regclass
    loop
        execute format('alter table %s owner to audit_owner', relation);
    end loop;

    -- The schema too, because the owner of a schema may drop what is in it.
    execute format('grant create on database %I to audit_owner', current_database());
    alter schema access owner to audit_owner;
    execute format('revoke create on database %I from audit_owner', current_database());

    set local role audit_owner;
    revoke all on function
        access.ensure_audit_day (date), access.ensure_audit_days_ahead (),
        access.record_audit (text, text, text, text, jsonb), access.seal_audit_day (access.audit_seals),
        access.released_audit_days (), access.drop_released_audit_days ()
    from public;
    execute format('grant usage, create on schema access to %I with grant option', platform);
    execute format('grant select on access.audit_log, access.audit_seals to %I', platform);
    execute format(
        'grant execute on function
            access.ensure_audit_days_ahead (), access.record_audit (text, text, text, text, jsonb),
            access.seal_audit_day (access.audit_seals)
        to %I with grant option',
        platform
    );
    grant usage on schema access to retention;
    grant execute on function access.released_audit_days (), access.drop_released_audit_days () to retention;
    reset role;
    if not (select rolsuper from pg_roles where rolname = platform) then
        execute format('revoke audit_owner from %I', platform);
    end if;
end $$;

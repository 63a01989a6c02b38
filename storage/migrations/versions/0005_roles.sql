-- Roles with the least rights for what each does, and row-level security on every table that has rows of tenants.
--
-- Nobody logs in as one of these. deploy/postgres/login.sql makes logins that have their rights; a deployment with one
-- login, which owns everything, needs none of them: policies do not bind an owner.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['tidemark_ingest', 'tidemark_api', 'tidemark_dbt'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
    -- Granted once a server, and only if need be: two databases that migrate at once would trip over the same row.
    if not pg_has_role('tidemark_api', 'tidemark_ingest', 'usage') then
        grant tidemark_ingest to tidemark_api;
    end if;
    if not pg_has_role('tidemark_api', 'api_reader', 'set') then
        grant api_reader to tidemark_api with inherit false, set true;
    end if;
    if not pg_has_role(current_user, 'tidemark_dbt', 'usage') then
        grant tidemark_dbt to current_user with inherit true, set true;
    end if;
end $$;

-- row-level security -------------------------------------------------------------------------------------------------

-- Without a policy a role sees nothing, whatever it was granted by mistake.
do $$
declare
    relation regclass;
begin
    for relation in
        select pg_class.oid
        from pg_class
        inner join pg_attribute on pg_attribute.attrelid = pg_class.oid
        where
            pg_class.relnamespace::regnamespace::text in ('raw', 'access', 'alerting', 'ml', 'intermediate')
            and pg_class.relkind in ('r', 'p')
            and pg_attribute.attname = 'tenant_id'
            and not pg_class.relrowsecurity
    loop
        execute format('alter table %s enable row level security', relation);
    end loop;
end $$;

-- With its owner's rights, so that the months that a landing makes belong to the owner; and with row-level security, which
-- a partition does not take over from its parent.
create or replace function raw.ensure_evaluations_month(day date) returns void
language plpgsql security definer set search_path = pg_catalog as $$
declare
    first_day date := date_trunc('month', day)::date;
    partition_name text := 'evaluations_' || to_char(first_day, 'YYYYMM');
begin
    if to_regclass(format('raw.%I', partition_name)) is not null then return; end if;
    -- The table's own lock and not an advisory one: only the former makes the catalogue cache notice another's commit.
    lock table raw.evaluations in share update exclusive mode;
    if to_regclass(format('raw.%I', partition_name)) is not null then return; end if;
    -- Made apart and attached: that asks for a lock which lets readers and writers of other months go on.
    execute format('create table raw.%I (like raw.evaluations including all)', partition_name);
    execute format('alter table raw.%I enable row level security', partition_name);
    execute format(
        'alter table raw.evaluations attach partition raw.%I for values from (%L) to (%L)',
        partition_name,
        to_char(first_day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(first_day + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
    );
end $$;
comment on function raw.ensure_evaluations_month (date) is 'Makes the partition of a month of evaluations, if there is none.';
revoke all on function raw.ensure_evaluations_month (date) from public;

-- tidemark_ingest: lands records -------------------------------------------------------------------------------------

-- What it wrote it can't read again, but for what tells whether a record is new. Its logins bypass row-level security,
-- because PostgreSQL refuses COPY into a table that has it; these grants are what binds them.
grant usage on schema raw, access to tidemark_ingest;
grant execute on function raw.ensure_evaluations_month (date) to tidemark_ingest;
grant execute on function access.ensure_audit_days_ahead () to tidemark_ingest;
grant select on public.alembic_version, raw.dropped_months, access.tenants, access.templates to tidemark_ingest;
grant select on raw.evaluation_keys to tidemark_ingest;
grant insert on
    raw.evaluation_keys, raw.evaluations, raw.feedback, raw.ingest_batches, raw.rejected_records, raw.batch_manifests,
    access.templates
to tidemark_ingest;
grant select (record_key) on raw.evaluations to tidemark_ingest;
grant select (feedback_id, payload_hash) on raw.feedback to tidemark_ingest;
grant
    select (tenant_id, kind, verdict, payload_sha256, occurrences, last_received_at),
    update (occurrences, last_received_at, replayed_at)
on raw.rejected_records to tidemark_ingest;
grant select, update (expected, checksum, declared_at) on raw.batch_manifests to tidemark_ingest;

-- tidemark_api: the HTTP door ----------------------------------------------------------------------------------------

-- Landing comes with tidemark_ingest, the figures with api_reader, which it becomes for a tenant. It makes no keys, reads
-- no signing secret and no audit log, and changes nothing that models or dbt have written.
grant usage on schema marts, intermediate, alerting, ml to tidemark_api;
grant select on intermediate.marks to tidemark_api;
grant select, update (last_used_at) on access.api_keys to tidemark_api;
grant execute on function access.record_audit (text, text, text, text, jsonb) to tidemark_api;
grant select on ml.extractor_posteriors, raw.ingest_batches, alerting.thresholds to tidemark_api;
grant select, insert, update on alerting.alerts, alerting.webhooks, alerting.webhook_deliveries, alerting.positions
to tidemark_api;
grant select, insert, update, delete on alerting.silences to tidemark_api;
grant select, insert on alerting.events to tidemark_api;
grant usage on sequence alerting.event_seq to tidemark_api;
grant select on alerting.delivery_attempts to tidemark_api;
grant
    insert, select (secret_id, tenant_id, webhook_id, valid_from, valid_to), update (valid_to)
on alerting.webhook_secrets to tidemark_api;

-- tidemark_dbt: builds the warehouse ---------------------------------------------------------------------------------

-- dbt becomes this role whoever starts it (dbt_project/profiles.yml): it owns what it builds and reads what it builds from.
grant usage, create on schema staging, intermediate, marts to tidemark_dbt;
grant usage on schema raw, access, alerting, ml to tidemark_dbt;
grant execute on function access.reader_tenant_ids (), access.api_tenant_id () to tidemark_dbt;
grant select on raw.dropped_months to tidemark_dbt;
do $$
declare
    relation regclass;
    relation_kind text;
begin
    foreach relation in array array[
        'raw.evaluations', 'raw.evaluation_keys', 'raw.feedback', 'raw.ingest_batches', 'raw.batch_manifests',
        'raw.rejected_records', 'access.tenants', 'access.templates', 'alerting.alerts', 'alerting.webhooks',
        'alerting.webhook_deliveries', 'ml.drift_forecasts', 'ml.extractor_posteriors'
    ]::regclass []
    loop
        execute format('create policy dbt_reads_all_tenants on %s for select to tidemark_dbt using (true)', relation);
        execute format('grant select on %s to tidemark_dbt', relation);
    end loop;

    for relation, relation_kind in
        select pg_class.oid, case pg_class.relkind when 'v' then 'view' else 'table' end
        from pg_class
        where
            pg_class.relnamespace::regnamespace::text in ('staging', 'intermediate', 'marts')
            and pg_class.relkind in ('r', 'v')
    loop
        execute format('alter %s %s owner to tidemark_dbt', relation_kind, relation);
    end loop;
    if to_regprocedure('marts.drift_history_as_of(timestamptz)') is not null then
        alter function marts.drift_history_as_of(timestamptz) owner to tidemark_dbt;
    end if;
end $$;

-- The warehouse by increments: which folds of batches each dbt model has in it, and what its models calculate with.

drop table intermediate.horizons;
drop table if exists
    intermediate.int_feedback_latest, intermediate.int_feedback_daily, intermediate.int_evaluations_daily,
    intermediate.int_templates_daily, intermediate.int_extractor_totals
cascade;

create table intermediate.marks (
    model text primary key,
    from_fold bigint not null,
    to_fold bigint not null check (to_fold >= from_fold),
    whole_fold bigint not null,
    is_whole boolean not null,
    taken_at timestamptz not null
);
comment on table intermediate.marks is
    'Which folds each dbt model has in it, written in the transaction that put them there. No tenant: all of them.';
comment on column intermediate.marks.from_fold is 'The model had the folds up to this one before its last build.';
comment on column intermediate.marks.to_fold is 'It has the folds up to this one now.';
comment on column intermediate.marks.whole_fold is 'Up to which fold it was last made anew.';
comment on column intermediate.marks.is_whole is 'Its last build made it anew and did not add to it.';
comment on column intermediate.marks.taken_at is 'When its last build began.';

create table intermediate.definitions (
    model text primary key,
    digest text not null,
    described_as text not null
);
comment on table intermediate.definitions is
    'By which definition and descriptions each model was made. A build that finds another one makes it anew. No tenant.';

-- The upsert's row lock makes a second build of the same model wait for the first, whoever started it and however.
create function intermediate.take_folds(this_model text, parents text[], anew boolean) returns void
language sql as $$
    insert into intermediate.marks as mark (model, from_fold, to_fold, whole_fold, is_whole, taken_at)
    select this_model, 0, available.fold, available.fold, anew, now()
    from (
        select coalesce(min(to_fold), 0) as fold from intermediate.marks where model = any (parents)
    ) as available
    on conflict (model) do update set
        from_fold = mark.to_fold,
        to_fold = greatest(mark.to_fold, excluded.to_fold),
        whole_fold = case when anew then greatest(mark.to_fold, excluded.to_fold) else mark.whole_fold end,
        is_whole = anew,
        taken_at = excluded.taken_at
$$;
comment on function intermediate.take_folds (text, text[], boolean) is
    'Notes that a model now takes in the folds that all its parents have; part of the transaction that does it.';

create function intermediate.take_increments(this_model text, parents text[], anew boolean) returns void
language plpgsql as $$
declare
    parent text;
begin
    if not anew then
        select theirs.model into parent
        from intermediate.marks as theirs inner join intermediate.marks as ours on ours.model = this_model
        where theirs.model = any (parents) and ours.to_fold < theirs.whole_fold;
        if found then
            raise exception '% was made anew: % would count twice what it has already', parent, this_model
                using hint = 'Rebuild from the batches on: tidemark refresh --full.';
        end if;
    end if;
    perform intermediate.take_folds(this_model, parents, anew);
end $$;
comment on function intermediate.take_increments (text, text[], boolean) is
    'The same for a model that adds what its parents have new: refuses to add some twice.';

create function intermediate.require_whole(parent text, this_model text) returns void language plpgsql as $$
begin
    if not exists (select from intermediate.marks where model = parent and is_whole) then
        raise exception '% keeps only what is new: % can''t be made anew from it alone', parent, this_model
            using hint = 'Rebuild from the batches on: tidemark refresh --full.';
    end if;
end $$;
comment on function intermediate.require_whole (text, text) is
    'Refuses to make a model anew from a parent that keeps only increments.';

-- Stable, so that the planner estimates with their values and takes the index on fold_id instead of all of history.
create function intermediate.fold_from(this_model text) returns bigint language sql stable as $$
    select coalesce((select from_fold from intermediate.marks where model = this_model), 0)
$$;
create function intermediate.fold_to(this_model text) returns bigint language sql stable as $$
    select coalesce((select to_fold from intermediate.marks where model = this_model), 9223372036854775807)
$$;
comment on function intermediate.fold_from (text) is 'A build takes the folds after this one.';
comment on function intermediate.fold_to (text) is 'A build takes the folds up to this one.';

-- ANALYZE costs seconds on a large table, whatever has changed in it: done at first, and again after a tenth is new.
create function intermediate.analyze_if_needed(relation regclass) returns void language plpgsql as $$
begin
    if exists (
        select 1 from pg_class
        where
            oid = relation
            and (reltuples < 0 or pg_stat_get_mod_since_analyze(oid) > 500 + 0.1 * greatest(reltuples, 0))
    ) then
        execute format('analyze %s', relation);
    end if;
end $$;
comment on function intermediate.analyze_if_needed (regclass) is 'ANALYZE, if never done or a tenth of the rows is new.';

create function intermediate.histogram_quantile(histogram vector, fraction double precision)
returns double precision language plpgsql immutable strict parallel safe as $$
declare
    counts real[] := histogram::real[];
    number double precision := 0;
    below double precision := 0;
    wanted double precision;
    bin integer := 0;
    width constant double precision := 1.0 / array_length(counts, 1);
    counted real;
begin
    foreach counted in array counts loop
        number := number + counted;
    end loop;
    if number = 0 then return null; end if;
    wanted := fraction * number;
    foreach counted in array counts loop
        if counted > 0 and below + counted >= wanted then
            return width * (bin + (wanted - below) / counted);
        end if;
        below := below + counted;
        bin := bin + 1;
    end loop;
    return 1;
end $$;
comment on function intermediate.histogram_quantile (vector, double precision) is
    'The quantile of values in [0, 1] counted in bins of equal width, linear within a bin; null if nothing was counted.';

-- What is older than the newest dropped month is no longer whole in raw: aggregates of it are all that is left.
create table raw.dropped_months (
    month date primary key check (month = date_trunc('month', month)::date),
    evaluation_count bigint not null,
    dropped_at timestamptz not null default clock_timestamp()
);
comment on table raw.dropped_months is 'Months of evaluations that retention has dropped. No tenant: all of them.';
create function raw.dropped_before() returns date language sql stable as $$
    select coalesce((select max(month) + interval '1 month' from raw.dropped_months)::date, '-infinity'::date)
$$;
comment on function raw.dropped_before () is 'Days before this one may be incomplete in raw: rebuilds keep their aggregates.';

-- Feedback follows its batch into the warehouse; forecasts and alerts are read by what changed.
create index on ml.drift_forecasts (computed_at);
create index on alerting.webhook_deliveries (created_at);
create index on raw.batch_manifests (declared_at);

-- A view that someone makes in marts would lend its owner's eyes to every reader: rights come with a policy or not at all.
alter default privileges in schema marts revoke select, references on tables from bi_reader;

do $$
declare
    role_name text;
begin
    foreach role_name in array array['api_reader', 'retention'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            null;
        end;
        -- Who made a role may grant it, but not yet become it.
        execute format('grant %I to current_user with inherit false, set true', role_name);
    end loop;
end $$;
grant usage on schema marts to api_reader;
grant usage on schema raw to retention;

create function access.api_tenant_id() returns text language sql stable as $$
    select nullif(current_setting('tidemark.tenant_id', true), '')
$$;
comment on function access.api_tenant_id () is
    'The tenant that the HTTP door acts for. Binds role api_reader only, which nobody can log in as.';
grant usage on schema access to api_reader;
revoke all on function access.api_tenant_id () from public;
grant execute on function access.api_tenant_id () to api_reader;

-- Retention: what role retention may drop, and only by these functions. They run with their owner's rights, so every
-- condition on what may go is in here and not in who calls them.

create table raw.dropped_evaluations (
    month date not null references raw.dropped_months,
    tenant_id text not null,
    evaluation_count bigint not null check (evaluation_count > 0),
    primary key (month, tenant_id)
);
comment on table raw.dropped_evaluations is
    'How many evaluations of a tenant went with a dropped month, so that counts still add up from door to mart.';

-- The models that ask raw.evaluations itself, or hold sums of it that a rebuild could not make again. Up to the oldest of
-- their marks everything is in the warehouse; below the lock on the month, nothing can be added to it.
create function raw.fold_in_all_models() returns bigint
language sql stable set search_path = pg_catalog as $$
    select case when count(*) = 8 then min(to_fold) end
    from intermediate.marks
    where
        model in (
            'int_feedback_versions', 'int_evaluation_deltas', 'int_evaluations_daily', 'int_extractor_totals',
            'int_templates_daily', 'int_reviews', 'int_batch_keys', 'int_features_daily'
        )
$$;
comment on function raw.fold_in_all_models () is
    'The newest fold that is in every model which reads raw.evaluations; null before the first build.';

create function raw.months_held() returns setof date
language sql stable set search_path = pg_catalog as $$
    select to_date(right(partition.relname, 6), 'YYYYMM')
    from pg_inherits
    inner join pg_class as partition on partition.oid = pg_inherits.inhrelid
    where pg_inherits.inhparent = 'raw.evaluations'::regclass
$$;
comment on function raw.months_held () is 'The months that raw.evaluations has partitions for.';

create function raw.partition_of(month date) returns regclass
language sql stable set search_path = pg_catalog as $$
    select to_regclass(format('raw.%I', 'evaluations_' || to_char(month, 'YYYYMM')))
$$;
comment on function raw.partition_of (date) is 'The partition of raw.evaluations that holds a month; null if there is none.';

create function raw.refusal_to_drop(month date, keep_from date) returns text
language plpgsql set search_path = pg_catalog as $$
declare
    last_fold bigint := raw.fold_in_all_models();
    unfolded bigint;
begin
    if month is distinct from date_trunc('month', month)::date or raw.partition_of(month) is null then
        return 'is no month that raw.evaluations holds';
    end if;
    if keep_from is null or month >= date_trunc('month', least(keep_from, current_date - 31))::date then
        return 'does not lie wholly before the month of the first day to keep';
    end if;
    if last_fold is null or to_regclass('intermediate.int_batches') is null then
        return 'is not in the warehouse: it was never built';
    end if;
    execute format(
        'select count(*) from (select distinct batch_id from %s) as landed
        left join intermediate.int_batches as folded using (batch_id)
        where folded.fold_id is null or folded.fold_id > $1',
        raw.partition_of(month)
    ) into unfolded using last_fold;
    if unfolded > 0 then
        return format('holds evaluations of %s batches that are not in all models of the warehouse yet', unfolded);
    end if;
    return null;
end $$;
comment on function raw.refusal_to_drop (date, date) is
    'Why a month of evaluations may not be dropped; null if it may. Never what is younger than 31 days.';

create function raw.droppable_months(keep_from date)
returns table (month date, refusal text)
language sql security definer set search_path = pg_catalog as $$
    select held.month, raw.refusal_to_drop(held.month, keep_from)
    from raw.months_held() as held (month)
    where held.month < date_trunc('month', keep_from)::date
    order by held.month
$$;
comment on function raw.droppable_months (date) is
    'The months of evaluations that lie wholly before the month of keep_from, oldest first, and what speaks against each.';

-- The parent is locked first, whole and briefly: a landing that waited for the partition while this waited for the parent
-- would be a deadlock, and the landing might be the one to die of it. What is busy is left for another day.
create function raw.drop_evaluations_month(month date, keep_from date) returns bigint
language plpgsql security definer set search_path = pg_catalog set lock_timeout = '5s' as $$
declare
    refusal text;
    dropped bigint;
begin
    lock table raw.evaluations in access exclusive mode;
    refusal := raw.refusal_to_drop(month, keep_from);
    if refusal is null and exists (
        select from raw.months_held() as older (month) where older.month < drop_evaluations_month.month
    ) then
        refusal := 'is not the oldest month: an older one is still there';
    end if;
    if refusal is not null then
        raise exception '%', refusal
            using errcode = 'object_not_in_prerequisite_state', hint = 'Bring the warehouse up to date: tidemark refresh.';
    end if;
    execute format('select count(*) from %s', raw.partition_of(month)) into dropped;
    insert into raw.dropped_months as known (month, evaluation_count) values (month, dropped)
    on conflict on constraint dropped_months_pkey do update set
        evaluation_count = known.evaluation_count + excluded.evaluation_count, dropped_at = clock_timestamp();
    execute format(
        'insert into raw.dropped_evaluations as known (month, tenant_id, evaluation_count)
        select $1, tenant_id, count(*) from %s group by tenant_id
        on conflict on constraint dropped_evaluations_pkey do update set
            evaluation_count = known.evaluation_count + excluded.evaluation_count',
        raw.partition_of(month)
    ) using month;
    execute format('alter table raw.evaluations detach partition %s', raw.partition_of(month));
    execute format('drop table %s', raw.partition_of(month));
    return dropped;
end $$;
comment on function raw.drop_evaluations_month (date, date) is
    'Drops a month of evaluations that is wholly in the warehouse, oldest first; returns how many. Keys and feedback stay.';

create function raw.drop_superseded_history() returns bigint
language plpgsql security definer set search_path = pg_catalog as $$
declare
    dropped bigint;
begin
    if to_regclass('marts.drift_history_versions') is null then return 0; end if;
    delete from marts.drift_history_versions where known_to < now() - interval '90 days';
    get diagnostics dropped = row_count;
    return dropped;
end $$;
comment on function raw.drop_superseded_history () is
    'Forgets what drift_history said until more than 90 days ago; what it says now stays, however old. Returns how many.';

revoke all on function
    raw.fold_in_all_models (), raw.months_held (), raw.partition_of (date), raw.refusal_to_drop (date, date), raw.droppable_months (date),
    raw.drop_evaluations_month (date, date), raw.drop_superseded_history ()
from public;
grant execute on function
    raw.droppable_months (date), raw.drop_evaluations_month (date, date), raw.drop_superseded_history ()
to retention;

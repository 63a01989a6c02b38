-- Snapshots of recommendations and posteriors go with the months whose records they were published for.

alter table ml.recommendation_snapshots add column superseded_at timestamptz;
comment on column ml.recommendation_snapshots.superseded_at is
    'Since when another recommendation holds for the template; null while this one does.';
create index on ml.recommendation_snapshots (superseded_at) where superseded_at is not null;

update ml.recommendation_snapshots set superseded_at = now()
where not exists (
    select from ml.current_recommendations as present
    where present.snapshot_id = recommendation_snapshots.snapshot_id
);

create function ml.drop_superseded_snapshots() returns bigint
language plpgsql security definer set search_path = pg_catalog as $$
declare
    dropped bigint;
begin
    -- A day for clocks that differ: a record may be dated a little before it was chosen.
    delete from ml.recommendation_snapshots
    where superseded_at < raw.dropped_before()::timestamp at time zone 'UTC' - interval '1 day';
    get diagnostics dropped = row_count;
    delete from ml.posterior_snapshots as known
    where
        not exists (
            select from ml.current_posteriors as present where present.posterior_id = known.posterior_id
        )
        and not exists (
            select from ml.recommendation_snapshots as header where header.posterior_id = known.posterior_id
        );
    return dropped;
end
$$;
comment on function ml.drop_superseded_snapshots () is
    'Forgets recommendations that were superseded before the oldest evaluations that are kept, and what they rested on;
    returns how many.';
revoke all on function ml.drop_superseded_snapshots () from public;
grant execute on function ml.drop_superseded_snapshots () to retention;
grant usage on schema ml to retention;

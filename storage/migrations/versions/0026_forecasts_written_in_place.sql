-- A day's row is forecast seven times, then judged. With room on its page, and no index on what changes but one of
-- ranges, that is written in place instead of into five indexes.
alter table ml.drift_forecasts set (fillfactor = 50);
drop index ml.drift_forecasts_computed_at_idx;
create index on ml.drift_forecasts using brin (computed_at) with (autosummarize = on);

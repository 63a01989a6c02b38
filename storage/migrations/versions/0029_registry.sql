-- Any method may be a template's champion; a version's fit may be held to; back-tests are put to versions.

alter table ml.forecast_champions
drop constraint forecast_champions_chosen_method_check,
add constraint forecast_champions_chosen_method_check
check (chosen_method in ('prophet', 'ewma', 'seasonal_naive', 'zscore')),
add column holds_fit boolean not null default false,
add column chosen_at timestamptz,
add check (is_pinned or not holds_fit);
comment on column ml.forecast_champions.is_pinned is
    'Somebody has rolled back: no back-test promotes another method until that is taken back.';
comment on column ml.forecast_champions.holds_fit is
    'The rollback was to a version: its fit serves, and the alias stays on it, until that is taken back.';
comment on column ml.forecast_champions.chosen_at is
    'When a method was last chosen, or no longer: forecasts computed before say what served until then.';

comment on table ml.forecast_models is
    'The registry: one row a version of a template''s forecaster, fitted on the days before the Monday after fitted_to.
    Never changed, but that the results of the first back-test are put to versions that were registered before it.';
comment on column ml.forecast_models.parameters is
    'What was fitted, a record of fixed length, little-endian, as docs/forecasts.md has it: Prophet''s parameters and
    the recursion''s. Null of weeks that had passed already when their version was registered.';
comment on column ml.forecast_models.pinball is
    'Mean pinball loss of its method in the newest back-test when it was registered, or in the first one after that, in
    units of the score; null before there is one. Likewise coverage, the part of days within the band.';
comment on column ml.forecast_models.backtest_days is 'On so many days that was tried; 0 before.';

create function ml.complete_version() returns trigger language plpgsql as $$
declare
    results constant text [] = array['pinball', 'coverage', 'backtest_days'];
begin
    if old.pinball is not null
    or to_jsonb(old) - results is distinct from to_jsonb(new) - results then
        raise exception 'ml.forecast_models: versions are never changed; results are put to one once'
        using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;

drop trigger append_only on ml.forecast_models;
create trigger append_only before truncate on ml.forecast_models
for each statement execute function access.refuse_change();
create trigger completed_once before update on ml.forecast_models
for each row execute function ml.complete_version();

-- Any method may be a template's champion.

alter table ml.forecast_champions
drop constraint forecast_champions_chosen_method_check,
add constraint forecast_champions_chosen_method_check
check (chosen_method in ('prophet', 'ewma', 'seasonal_naive', 'zscore'));

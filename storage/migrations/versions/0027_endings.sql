-- Why an alert is over.

alter table alerting.alerts
add column resolved_because text
check (resolved_because in ('within_bounds', 'new_level', 'outdated', 'by_hand', 'rebaselined'));
comment on column alerting.alerts.resolved_because is
'new_level: forecasts take a lasting change for normal now; outdated: nothing newer is known. Null of what is open.';

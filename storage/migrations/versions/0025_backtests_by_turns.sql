-- Templates are tried by turns: when was each last?

alter table ml.forecast_backtests add column tried_on date;
comment on column ml.forecast_backtests.tried_on is 'When it was last tried; a week later it is its turn again.';

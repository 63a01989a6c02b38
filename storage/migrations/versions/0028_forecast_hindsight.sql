create table ml.forecast_hindsight (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    measure text not null check (measure in ('drift', 'reliability')),
    looked_back_from date not null,
    history_hash bigint not null,
    days integer not null,
    looked_on date not null,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, measure)
);
comment on table ml.forecast_hindsight is
    'One row a measure and template whose days before its first verdict have been judged in hindsight.';
comment on column ml.forecast_hindsight.looked_back_from is 'The last day that was.';
comment on column ml.forecast_hindsight.history_hash is
    'Made of the template''s days up to that one: should they change, days that have no verdict are judged.';
comment on column ml.forecast_hindsight.days is 'How many days had to be judged.';
comment on column ml.forecast_hindsight.looked_on is 'On which day that was done: a day has only so much time for it.';
alter table ml.forecast_hindsight enable row level security;

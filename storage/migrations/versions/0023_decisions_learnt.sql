-- What people decide changes what is learnt although nothing lands: whether it has is seen by comparing.

create table ml.decisions_learnt (
    is_only boolean primary key default true check (is_only),
    decisions jsonb not null,
    learnt_at timestamptz not null default now()
);
comment on table ml.decisions_learnt is
    'One row: of what people decided, all that changes what is learnt, as it was when it was last learnt from.';
comment on column ml.decisions_learnt.decisions is
    'Templates whose objective is fields, extractors with their predecessors, and tenants that pool.';

insert into ml.decisions_learnt (decisions) values ('{"fields": [], "pooled": [], "predecessors": []}');

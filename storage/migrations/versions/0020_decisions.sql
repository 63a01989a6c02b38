-- Decisions: among whom an extractor was chosen, by what, and what it cost.

alter table raw.evaluations
add column decision_id text,
add column eligible_extractors text[] check (cardinality(eligible_extractors) between 1 and 100),
add column assigned_by text check (assigned_by in ('share', 'override', 'fallback', 'retry')),
add column snapshot_id uuid,
add column cost_usd double precision check (cost_usd >= 0 and cost_usd <= 1e6),
add column latency_ms double precision check (latency_ms >= 0 and latency_ms <= 1e9);
comment on column raw.evaluations.decision_id is 'The sender''s name for the choice of this extractor.';
comment on column raw.evaluations.eligible_extractors is
    'Among which it was chosen, as vendor/model, in order, itself among them; null: among all of its template.';
comment on column raw.evaluations.assigned_by is
    'What chose it: its share, or else an override, a fallback or a retry, whose propensity estimates nothing.';
comment on column raw.evaluations.snapshot_id is 'The snapshot of ml.extractor_shares that it was chosen by.';
comment on column raw.evaluations.cost_usd is 'What the result cost, in US dollars.';
comment on column raw.evaluations.latency_ms is 'How long the result took, in milliseconds.';

-- Of months that retention has dropped, these two alone know anything: made anew, they take it along.
alter table if exists intermediate.int_feedback_versions
add column if not exists evaluated_at timestamptz,
add column if not exists is_early boolean not null default false,
add column if not exists propensity_problem text,
add column if not exists weight numeric,
add column if not exists eligible_extractors text[];
alter table if exists intermediate.int_evaluations_daily
add column if not exists cost_count bigint not null default 0,
add column if not exists cost_sum numeric not null default 0,
add column if not exists latency_count bigint not null default 0,
add column if not exists latency_sum numeric not null default 0,
add column if not exists latency_sum_sq numeric not null default 0;

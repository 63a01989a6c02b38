-- Selection: what people decide, what was learnt, what is recommended. Snapshots never change: whoever was told an
-- extractor's share can be shown years later what it rested on.

create table ml.selection_policies (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    objective text not null default 'success' check (objective in ('success', 'fields')),
    exploration_floor double precision not null default 0.05 check (exploration_floor between 0 and 1),
    tolerance double precision not null default 0.01 check (tolerance >= 0 and tolerance < 1),
    incumbent_vendor text,
    incumbent_model text,
    override_vendor text,
    override_model text,
    override_reason text,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, template_id),
    check ((incumbent_vendor is null) = (incumbent_model is null)),
    check ((override_vendor is null) = (override_model is null)),
    check ((override_vendor is null) = (override_reason is null))
);
comment on table ml.selection_policies is 'What people decided about a template''s selection; without a row the defaults.';
comment on column ml.selection_policies.objective is
    'What is to be as high as can be: the rate of successes, or the accuracy of fields.';
comment on column ml.selection_policies.exploration_floor is 'The part of decisions that all extractors share evenly.';
comment on column ml.selection_policies.tolerance is 'A difference in the objective that is not worth a change.';
comment on column ml.selection_policies.incumbent_vendor is 'With incumbent_model: the extractor in use.';
comment on column ml.selection_policies.override_vendor is 'With override_model: used whatever the feedback says.';

create table ml.extractor_rulings (
    tenant_id text not null references access.tenants,
    extractor_vendor text not null,
    extractor_model text not null,
    predecessor_model text check (predecessor_model <> extractor_model),
    retired_at timestamptz,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_rulings is 'What people decided about an extractor, for all templates of a tenant.';
comment on column ml.extractor_rulings.predecessor_model is
    'The version before it, of the same vendor: a new version starts from what is known of it.';
comment on column ml.extractor_rulings.retired_at is 'Since when it is no longer to be chosen.';

alter table access.tenants add column pools_extractors boolean not null default false;
comment on column access.tenants.pools_extractors is
    'Whether priors are learnt together with the other tenants that have agreed to it.';

-- Computed from feedback, so the next refresh brings it back in its new shape.
drop table ml.extractor_posteriors cascade;

create table ml.extractor_priors (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    extractor_vendor text not null,
    extractor_model text not null,
    objective text not null check (objective in ('success', 'fields')),
    alpha double precision not null check (alpha > 0),
    beta double precision not null check (beta > 0),
    basis text not null,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_priors is
    'One row an extractor of a template: the Beta distribution that is assumed before its own feedback, learnt from the
    tenant''s other templates.';
comment on column ml.extractor_priors.basis is 'How it was learnt: correlated, beta, predecessor or uniform.';

create table ml.posterior_snapshots (
    posterior_id uuid primary key,
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    objective text not null check (objective in ('success', 'fields')),
    evidence_to date not null,
    computed_at timestamptz not null default now()
);
create index on ml.posterior_snapshots (tenant_id, template_id, computed_at);
comment on table ml.posterior_snapshots is
    'One row a state of knowledge of a template; its extractors in extractor_posteriors.';
comment on column ml.posterior_snapshots.posterior_id is 'Made of the content: the same knowledge is the same snapshot.';
comment on column ml.posterior_snapshots.evidence_to is 'The newest day of decisions whose feedback is in it.';

create table ml.extractor_posteriors (
    posterior_id uuid not null references ml.posterior_snapshots on delete cascade,
    tenant_id text not null references access.tenants,
    extractor_vendor text not null,
    extractor_model text not null,
    feedback_count bigint not null,
    success_count bigint not null,
    failure_count bigint not null,
    effective_count double precision not null,
    alpha double precision not null check (alpha > 0),
    beta double precision not null check (beta > 0),
    mean double precision not null,
    lower double precision not null,
    upper double precision not null,
    restarted_on date,
    mean_cost_usd double precision,
    mean_latency_ms double precision,
    primary key (posterior_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_posteriors is
    'One row an extractor of a snapshot: the Beta posterior of its objective, 95 % credible interval.';
comment on column ml.extractor_posteriors.effective_count is
    'How many independent yes-or-no feedbacks the evidence since the last change is worth.';
comment on column ml.extractor_posteriors.restarted_on is 'The first day of evidence, after a change in its quality.';

create table ml.current_posteriors (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    posterior_id uuid not null references ml.posterior_snapshots,
    primary key (tenant_id, template_id)
);
create index on ml.current_posteriors (posterior_id);
comment on table ml.current_posteriors is 'Which snapshot is what is known of a template now.';

create table ml.recommendation_snapshots (
    snapshot_id uuid primary key,
    posterior_id uuid not null references ml.posterior_snapshots,
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    decision text not null check (decision in ('promote', 'keep', 'explore', 'stop', 'insufficient', 'alarm')),
    reason text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    assigned_by text not null check (assigned_by in ('share', 'override')),
    incumbent_vendor text,
    incumbent_model text,
    cheapest_vendor text,
    cheapest_model text,
    exploration_floor double precision not null,
    tolerance double precision not null,
    expected_max double precision not null,
    value_remaining double precision not null,
    published_at timestamptz not null default now()
);
create index on ml.recommendation_snapshots (posterior_id);
create index on ml.recommendation_snapshots (tenant_id, template_id, published_at);
comment on table ml.recommendation_snapshots is
    'One row a published recommendation: what was learnt, and what people decided; its shares in extractor_shares.';
comment on column ml.recommendation_snapshots.snapshot_id is
    'Made of the content. Pipelines send it back with their evaluations.';
comment on column ml.recommendation_snapshots.cheapest_vendor is
    'With cheapest_model: the cheapest extractor whose objective is within the tolerance of the best; null where no cost
    is known.';

comment on column ml.recommendation_snapshots.expected_max is 'Expected objective of whichever extractor is best.';
comment on column ml.recommendation_snapshots.value_remaining is
    'With 95 % probability no extractor is better than the most probably best one by more than this part of it.';

create table ml.extractor_shares (
    snapshot_id uuid not null references ml.recommendation_snapshots on delete cascade,
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    extractor_vendor text not null,
    extractor_model text not null,
    p_best double precision not null check (p_best between 0 and 1),
    expected_loss double precision not null,
    share_lo double precision not null check (share_lo between 0 and 1),
    share_hi double precision not null check (share_hi between share_lo and 1),
    p_worse_than_incumbent double precision,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (snapshot_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_shares is
    'One row an extractor that may be chosen: which part of the decisions it gets, those whose key falls into
    [share_lo, share_hi).';
comment on column ml.extractor_shares.expected_loss is 'Expected difference to whichever extractor is best.';

comment on column ml.extractor_shares.recorded_at is
    'When it was written down: evaluations that were received before are not judged by it.';

create trigger append_only before update or truncate on ml.extractor_shares
for each statement execute function access.refuse_change();

create table ml.current_recommendations (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    snapshot_id uuid not null references ml.recommendation_snapshots,
    since timestamptz not null default now(),
    primary key (tenant_id, template_id)
);
create index on ml.current_recommendations (snapshot_id);
comment on table ml.current_recommendations is 'Which snapshot holds for a template.';

create view ml.extractor_recommendations with (security_invoker = true) as
select
    header.tenant_id,
    header.template_id,
    header.template,
    arms.extractor_vendor,
    arms.extractor_model,
    header.snapshot_id,
    known.objective,
    header.decision,
    header.reason,
    header.assigned_by,
    header.value_remaining,
    known.evidence_to,
    header.exploration_floor,
    header.tolerance,
    header.published_at,
    arms.extractor_vendor = header.extractor_vendor and arms.extractor_model = header.extractor_model as is_recommended,
    coalesce(arms.extractor_vendor = header.incumbent_vendor and arms.extractor_model = header.incumbent_model, false)
        as is_incumbent,
    coalesce(arms.extractor_vendor = header.cheapest_vendor and arms.extractor_model = header.cheapest_model, false)
        as is_cheapest,
    shares.share_lo,
    shares.share_hi,
    shares.p_worse_than_incumbent,
    shares.p_best,
    shares.expected_loss,
    arms.mean,
    arms.lower,
    arms.upper,
    arms.alpha,
    arms.beta,
    arms.effective_count,
    arms.feedback_count,
    arms.success_count,
    arms.failure_count,
    arms.restarted_on,
    arms.mean_cost_usd,
    arms.mean_latency_ms
from ml.current_recommendations as present
inner join ml.recommendation_snapshots as header on present.snapshot_id = header.snapshot_id
inner join ml.posterior_snapshots as known on header.posterior_id = known.posterior_id
inner join ml.extractor_posteriors as arms on known.posterior_id = arms.posterior_id
inner join ml.extractor_shares as shares
    on header.snapshot_id = shares.snapshot_id
    and arms.extractor_vendor = shares.extractor_vendor
    and arms.extractor_model = shares.extractor_model;
comment on view ml.extractor_recommendations is 'One row an extractor of a template: the recommendation that holds now.';

create table ml.extractor_changes (
    change_id uuid primary key default uuidv7(),
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    objective text not null check (objective in ('success', 'fields')),
    changed_on date not null,
    found_on date not null,
    statistic double precision not null,
    threshold double precision not null,
    mean_before double precision not null,
    mean_after double precision not null,
    count_before double precision not null,
    count_after double precision not null,
    evidence_to date not null,
    computed_at timestamptz not null default now(),
    unique (tenant_id, template_id, extractor_vendor, extractor_model)
);
comment on table ml.extractor_changes is
    'One row an extractor of a template whose quality has changed: the newest change that its feedback shows.';
comment on column ml.extractor_changes.changed_on is 'The first day of the new quality, as far as it can be told.';
comment on column ml.extractor_changes.found_on is 'The newest day of evidence when it was found.';
comment on column ml.extractor_changes.evidence_to is 'The newest day whose feedback is in mean_after.';
comment on column ml.extractor_changes.statistic is 'Log-likelihood ratio of a change against none.';

create table ml.policy_value (
    tenant_id text not null references access.tenants,
    template_id uuid not null,
    template text not null,
    extractor_vendor text not null,
    extractor_model text not null,
    objective text not null check (objective in ('success', 'fields')),
    estimator text not null check (estimator in ('ips', 'snips', 'dr')),
    estimate double precision,
    lower double precision,
    upper double precision,
    on_policy_value double precision,
    gain double precision,
    gain_lower double precision,
    gain_upper double precision,
    logged_count bigint not null,
    effective_sample_size double precision,
    largest_weight double precision,
    refusal text,
    computed_at timestamptz not null default now(),
    primary key (tenant_id, template_id, extractor_vendor, extractor_model, estimator),
    check ((estimate is null) = (refusal is not null))
);
comment on table ml.policy_value is
    'One row an extractor of a template and estimator: what the objective would have been, had it been used always.';
comment on column ml.policy_value.refusal is 'Why the logs can''t carry an estimate; null if they can.';

do $$
declare
    relation regclass;
begin
    foreach relation in array array[
        'ml.selection_policies', 'ml.extractor_rulings', 'ml.extractor_priors', 'ml.posterior_snapshots',
        'ml.current_posteriors', 'ml.extractor_posteriors', 'ml.recommendation_snapshots', 'ml.extractor_shares', 'ml.current_recommendations',
        'ml.extractor_changes', 'ml.policy_value'
    ]::regclass []
    loop
        execute format('alter table %s enable row level security', relation);
    end loop;
    foreach relation in array array[
        'ml.posterior_snapshots', 'ml.extractor_posteriors', 'ml.recommendation_snapshots', 'ml.extractor_shares',
        'ml.current_recommendations'
    ]::regclass []
    loop
        execute format(
            'create policy the_api_sees_its_tenant on %s for select to api_reader
            using (tenant_id = (select access.api_tenant_id()))',
            relation
        );
        execute format('grant select on %s to api_reader', relation);
    end loop;
    foreach relation in array array[
        'ml.posterior_snapshots', 'ml.extractor_posteriors', 'ml.recommendation_snapshots', 'ml.extractor_shares',
        'ml.current_recommendations', 'ml.policy_value', 'ml.extractor_changes'
    ]::regclass []
    loop
        execute format('create policy dbt_reads_all_tenants on %s for select to tidemark_dbt using (true)', relation);
        execute format('grant select on %s to tidemark_dbt', relation);
    end loop;
end $$;

insert into alerting.thresholds (event_type, comparison, value, severity, clear_n) values
    ('extractor_change', 'above', 0.02, 'warning', 1);
comment on column alerting.thresholds.value is
    'The bound, itself within bounds. Of drift_anomaly a margin above the forecast''s upper bound, of drift_predicted one
    above the bound of drift_high, of extractor_change by how much an extractor''s objective fell.';

grant select on ml.extractor_recommendations to api_reader, tidemark_dbt;

-- Snapshots never change: what shares rest on is as append-only as the shares are. When one was superseded is no part
-- of it.

create trigger append_only before update or truncate on ml.posterior_snapshots
for each statement execute function access.refuse_change();

create trigger append_only before update or truncate on ml.extractor_posteriors
for each statement execute function access.refuse_change();

create trigger append_only before update of
snapshot_id, posterior_id, tenant_id, template_id, template, decision, reason, extractor_vendor, extractor_model,
assigned_by, incumbent_vendor, incumbent_model, cheapest_vendor, cheapest_model, exploration_floor, tolerance,
expected_max, value_remaining, published_at
or truncate on ml.recommendation_snapshots
for each statement execute function access.refuse_change();

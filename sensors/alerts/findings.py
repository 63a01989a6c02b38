"""What assets have found, held against the rules: forecasts, and features of the input. Read anew with every scan.

* `drift_anomaly`: a day above its forecast's upper bound, of reliability below the lower one; the threshold adds a
  margin. A forecast follows a lasting shift, and after an alarm its bound opens again, so that a day within it is only
  `between` as long as it is far from what was expected of the same weekday two weeks before. A day whose records have
  all been corrected away is no day any more: it takes back what was told of it, and does nothing else.
* `drift_predicted`: the probability that a template's score crosses the bound of `drift_high`, or of `reliability_low`,
  within a week, by the newest forecast. Its window is the history that the forecast was fitted on; the day on which
  the probability passes the threshold is in the baseline. Where nothing has come since, it ends with that week.
* `feature_drift`: the largest shift of a feature's mean on a day, in standard deviations of the 28 days before, of
  those that chance does not explain. A day tests all features of a template, so each p-value counts as many times
  (Bonferroni).

* `extractor_change`: by how much an extractor's objective fell at its newest change. Its window is from the change to
  the newest feedback; a recovery is a change too, and ends it.

A day that isn't over may raise an alert but not resolve one: the rest of it is still to come.

Belongs here: reading the last days of `ml` and marts. Does not belong here: what is unusual (assets), what becomes of
it (`states`).
"""

from collections.abc import Iterator
from datetime import datetime

from sensors.alerts.observations import longest_age, read_observations
from sensors.alerts.states import Observation
from storage.database import Connection

HORIZON_DAYS = 7
CHANCE = 0.001
# A third of the way to the bound of a single day, about a standard deviation: of 2 of them a lasting shift keeps its
# alert open for two thirds of the next two weeks (without this, a sixth), a spike's is open for 1.5 days (1.1).
FAR = 1 / 3

# Templates whose alert a finding may still end, amend or retract, whatever it says by now.
_ALERTED = """
            select alerts.tenant_id, alerts.template, alerts.metric from alerting.alerts
            where alerts.event_type = %(event_type)s and alerts.status in ('pending', 'firing')
            union all
            select alerts.tenant_id, alerts.template, alerts.metric from alerting.alerts
            where
                alerts.event_type = %(event_type)s
                and not alerts.is_retracted
                and alerts.told_end >= %(now)s - %(longest_age)s
"""

# Of a template's two measures each has its alert, told apart by the metric, and may have been re-baselined by itself.
_OWN_BOUND = """
        select rebaselines.rebaseline_id, rebaselines.bound
        from alerting.rebaselines
        where
            rebaselines.ended_at is null
            and rebaselines.tenant_id = watched.tenant_id
            and rebaselines.event_type = %(event_type)s
            and rebaselines.template = watched.template
            and rebaselines.metric = watched.metric
        order by rebaselines.created_at desc, rebaselines.rebaseline_id desc
        limit 1
"""
_BASIS = """
        rule.basis - 'rebaseline_id' - 'rebaselined_bound' || jsonb_strip_nulls(
            jsonb_build_object('rebaseline_id', own.rebaseline_id, 'rebaselined_bound', own.bound)
        ) as basis
"""
# Only who broke a bound or may have an alert to change: of ten thousand healthy templates none asks for its rules.
_ANOMALIES = f"""
with watched as materialized (
    select tenant_id, template_id, template, measure, measure || '_score' as metric
    from ml.drift_forecasts
    where date >= (%(now)s - %(longest_age)s)::date and date <= %(now)s::date and is_anomaly
    union
    select
        alerted.tenant_id, templates.template_id, alerted.template, replace(alerted.metric, '_score', ''),
        alerted.metric
    from ({_ALERTED}) as alerted
    inner join access.templates using (tenant_id, template)
),

rules as materialized (
    select
        watched.tenant_id, watched.template_id, watched.measure, watched.metric, rule.value, rule.clear_gap,
        rule.severity, rule.for_n, rule.clear_n, rule.max_age, own.bound,
        {_BASIS}
    from watched
    cross join lateral alerting.rules_for(watched.tenant_id, watched.template) as rule
    left join lateral ({_OWN_BOUND}) as own on true
    where rule.event_type = 'drift_anomaly' and rule.enabled
),

judged as (
    select
        days.*, rules.metric, rules.value, rules.bound, rules.clear_gap, rules.severity, rules.for_n, rules.clear_n,
        rules.basis,
        case days.measure when 'drift' then 'above' else 'below' end as comparison,
        case days.measure when 'drift' then 1 else -1 end as side,
        case days.measure
            when 'drift' then alerting.widest('above', days.yhat_upper + rules.value, rules.bound)
            else alerting.widest('below', days.yhat_lower - rules.value, rules.bound)
        end as edge,
        days.actual is null as is_withdrawn,
        before.yhat as yhat_before,
        before.width as width_before
    from rules
    inner join ml.drift_forecasts as days using (tenant_id, template_id, measure)
    -- The slow channel tightens the bound of the bad side alone: the other one tells the width of a single day.
    left join lateral (
        select
            earlier.yhat,
            case earlier.measure
                when 'drift' then earlier.yhat - earlier.yhat_lower
                else earlier.yhat_upper - earlier.yhat
            end as width
        from ml.drift_forecasts as earlier
        where
            earlier.tenant_id = days.tenant_id
            and earlier.template_id = days.template_id
            and earlier.measure = days.measure
            and earlier.date in (days.date - 14, days.date - 7)
        order by earlier.date
        limit 1
    ) as before on true
    where
        days.date >= (%(now)s - rules.max_age)::date
        and days.date <= %(now)s::date
        and (days.actual is not null or (days.p_crossing is null and days.date < %(now)s::date))
),

seen as (
    select
        *,
        is_anomaly and (actual - edge) * side > 0 as breach,
        coalesce((actual - yhat_before) * side > value + %(far)s * width_before, false)
        and (bound is null or (actual - bound) * side > 0) as is_far
    from judged
)

select
    seen.tenant_id,
    'drift_anomaly' as event_type,
    seen.metric,
    seen.template,
    '' as extractor_vendor,
    '' as extractor_model,
    coalesce(seen.actual, seen.yhat) as value,
    seen.edge as threshold,
    seen.comparison,
    seen.breach,
    seen.is_withdrawn,
    not seen.breach and (seen.is_far or (seen.actual - seen.edge) * side > seen.clear_gap) as between,
    seen.severity,
    seen.for_n,
    seen.clear_n,
    seen.date::timestamptz as starts,
    (seen.date + 1)::timestamptz as ends,
    seen.date < %(now)s::date as is_final,
    seen.evaluation_count,
    concat_ws('|', seen.value, seen.bound) as rule,
    jsonb_build_object(
        'rule', seen.basis,
        'forecast', jsonb_strip_nulls(jsonb_build_object(
            'model_id', seen.model_id, 'model_version', seen.model_version, 'method', seen.method,
            'fitted_from', seen.fitted_from, 'fitted_to', seen.fitted_to, 'fitted_days', seen.fitted_days,
            'expected', seen.yhat, 'lower', seen.yhat_lower, 'upper', seen.yhat_upper, 'p_value', seen.p_value
        ))
    ) as basis,
    case
        when seen.breach
            then alerting.drift_contributors(seen.tenant_id, seen.template_id, seen.date, seen.yhat, seen.measure)
        else '[]'
    end as contributors
from seen
where seen.breach or seen.date < %(now)s::date
order by seen.date, seen.tenant_id, seen.template, seen.metric
"""  # noqa: S608 - constants of this module

_PREDICTIONS = f"""
with watched as materialized (
    select tenant_id, template_id, template, measure, measure || '_crossing_probability' as metric
    from ml.drift_forecasts
    where
        date >= %(now)s::date
        and date <= %(now)s::date + %(horizon)s
        and p_crossing > (select min(value) from alerting.thresholds where event_type = %(event_type)s)
    union
    select
        alerted.tenant_id, templates.template_id, alerted.template,
        replace(alerted.metric, '_crossing_probability', ''), alerted.metric
    from ({_ALERTED}) as alerted
    inner join access.templates using (tenant_id, template)
),

rules as materialized (
    select
        watched.*, rule.event_type, rule.value, rule.clear_gap, rule.severity, rule.for_n, rule.clear_n, rule.max_age,
        own.bound, alerting.widest('above', rule.value, own.bound) as threshold,
        {_BASIS}
    from watched
    cross join lateral alerting.rules_for(watched.tenant_id, watched.template) as rule
    left join lateral ({_OWN_BOUND}) as own on true
    where rule.event_type = 'drift_predicted' and rule.enabled
),

days as (
    select
        days.tenant_id, days.template_id, days.measure, days.date, days.p_crossing, days.yhat, days.fitted_from,
        days.fitted_to, days.fitted_days, days.model_id, days.model_version, days.method, days.threshold as crossed,
        max(days.fitted_to) over (partition by days.tenant_id, days.template_id, days.measure) as newest_fitted_to
    from rules
    inner join ml.drift_forecasts as days using (tenant_id, template_id, measure)
    where
        days.date >= %(now)s::date
        and days.date <= %(now)s::date + %(horizon)s
        and days.p_crossing is not null
),

-- Of rows that an earlier run left, none is mixed with the newest one's.
forecasts as (
    select
        tenant_id,
        template_id,
        measure,
        fitted_to,
        max(p_crossing) as predicted,
        min(fitted_from) as fitted_from,
        max(fitted_days) as fitted_days,
        min(crossed) as crossed,
        (array_agg(model_id order by date))[1] as model_id,
        (array_agg(model_version order by date))[1] as model_version,
        (array_agg(method order by date))[1] as method,
        jsonb_agg(
            jsonb_build_object('date', date, 'value', p_crossing, 'expected', yhat) order by p_crossing desc, date
        ) as days
    from days
    where fitted_to = newest_fitted_to
    group by tenant_id, template_id, measure, fitted_to
),

seen as (
    select
        rules.*, forecasts.predicted, forecasts.fitted_from, forecasts.fitted_to, forecasts.fitted_days,
        forecasts.crossed, forecasts.model_id, forecasts.model_version, forecasts.method, forecasts.days,
        forecasts.predicted > rules.threshold as breach,
        (
            select min((day ->> 'date')::date) from jsonb_array_elements(forecasts.days) as day
            where (day ->> 'value')::double precision > rules.threshold
        ) as expected_on
    from rules
    inner join forecasts using (tenant_id, template_id, measure)
    where forecasts.fitted_to >= (%(now)s - rules.max_age)::date
),

outdated as (
    select
        rules.tenant_id, rules.template, rules.metric, rules.threshold, rules.severity, rules.for_n, rules.clear_n,
        alerts.value, alerts.evaluation_count, alerts.window_start as starts,
        alerts.window_end + %(horizon)s * interval '1 day' as ends,
        concat_ws('|', rules.value, rules.bound) as rule
    from rules
    inner join alerting.alerts using (tenant_id, event_type, template, metric)
    where
        alerts.status in ('pending', 'firing')
        and alerts.window_end + %(horizon)s * interval '1 day' <= %(now)s
        and not exists (
            select from seen
            where (seen.tenant_id, seen.template, seen.metric) = (rules.tenant_id, rules.template, rules.metric)
        )
)

select
    seen.tenant_id,
    seen.event_type,
    seen.metric,
    seen.template,
    '' as extractor_vendor,
    '' as extractor_model,
    seen.predicted as value,
    seen.threshold,
    seen.breach,
    not seen.breach and seen.predicted > seen.threshold + seen.clear_gap as between,
    seen.severity,
    seen.for_n,
    seen.clear_n,
    seen.fitted_from::timestamptz as starts,
    (seen.fitted_to + 1)::timestamptz as ends,
    seen.fitted_days as evaluation_count,
    concat_ws('|', seen.crossed, seen.value, seen.bound) as rule,
    jsonb_build_object(
        'rule', seen.basis,
        'forecast', jsonb_strip_nulls(jsonb_build_object(
            'model_id', seen.model_id, 'model_version', seen.model_version, 'method', seen.method,
            'fitted_from', seen.fitted_from, 'fitted_to', seen.fitted_to, 'fitted_days', seen.fitted_days,
            'bound', seen.crossed, 'expected_on', seen.expected_on
        ))
    ) as basis,
    seen.days as contributors,
    false as is_outdated
from seen
union all
select
    tenant_id, %(event_type)s, metric, template, '', '', value, threshold, false, false, severity, for_n, 1, starts,
    ends, evaluation_count, rule, null, '[]', true
from outdated
order by ends, tenant_id, template, metric
"""  # noqa: S608 - constants of this module

_FEATURES = f"""
with tested as (
    select *, count(*) over (partition by tenant_id, template, date) as tests
    from marts.feature_drift
    where date >= (%(now)s - %(longest_age)s)::date and date <= %(now)s::date and p_value is not null
),

days as (
    select
        tenant_id,
        template_id,
        template,
        date,
        coalesce(max(abs(shift)) filter (where p_value * tests < %(chance)s), 0) as value,
        max(value_count + null_count) as evaluation_count,
        max(tests) as tests
    from tested
    group by tenant_id, template_id, template, date
),

rules as materialized (
    select templates.*, rule.*
    from (select distinct days.tenant_id, days.template from days) as templates
    cross join lateral alerting.rules_for(templates.tenant_id, templates.template) as rule
    where rule.event_type = 'feature_drift' and rule.enabled
),

judged as (
    select
        days.tenant_id,
        days.template_id,
        days.template,
        days.date,
        days.value,
        days.evaluation_count,
        days.tests,
        rules.severity,
        rules.for_n,
        rules.clear_n,
        rules.clear_gap,
        rules.basis,
        rules.value as bound,
        rules.bound as own_bound,
        alerting.widest('above', rules.value, rules.bound) as threshold
    from days
    inner join rules using (tenant_id, template)
    where days.date >= (%(now)s - rules.max_age)::date
),

watched as (
    select *, bool_or(value > threshold) over (partition by tenant_id, template) as is_broken from judged
)

select
    watched.tenant_id,
    'feature_drift' as event_type,
    'feature_shift' as metric,
    watched.template,
    '' as extractor_vendor,
    '' as extractor_model,
    watched.value,
    watched.threshold,
    watched.value > watched.threshold as breach,
    watched.value <= watched.threshold and watched.value > watched.threshold + watched.clear_gap as between,
    watched.severity,
    watched.for_n,
    watched.clear_n,
    watched.date::timestamptz as starts,
    (watched.date + 1)::timestamptz as ends,
    watched.date < %(now)s::date as is_final,
    watched.evaluation_count,
    concat_ws('|', watched.bound, watched.own_bound) as rule,
    jsonb_build_object(
        'rule', watched.basis,
        'profile', jsonb_build_object(
            'from', watched.date - 28, 'to', watched.date - 1, 'features_tested', watched.tests,
            'p_value_below', %(chance)s::double precision / watched.tests
        )
    ) as basis,
    case
        when watched.value > watched.threshold then (
            select jsonb_agg(to_jsonb(worst))
            from (
                select feature, shift, p_value, mean, baseline_mean, value_count, baseline_count
                from marts.feature_drift as day
                where
                    day.tenant_id = watched.tenant_id
                    and day.template_id = watched.template_id
                    and day.date = watched.date
                    and day.p_value * watched.tests < %(chance)s
                order by abs(day.shift) desc nulls last, day.feature
                limit 5
            ) as worst
        )
        else '[]'
    end as contributors
from watched
where
    (watched.value > watched.threshold or watched.date < %(now)s::date)
    and (
        watched.is_broken
        or (watched.tenant_id, watched.template) in (select tenant_id, template from ({_ALERTED}) as alerted)
    )
order by watched.date, watched.tenant_id, watched.template
"""  # noqa: S608 - constants of this module

# An alert of an extractor whose change is no longer found, because late feedback explains it, ends with a drop of 0.
_DROPS = f"""
with changes as materialized (
    select
        tenant_id, template, extractor_vendor, extractor_model, objective, changed_on, found_on, evidence_to,
        mean_before, mean_after, count_before, count_after, statistic, threshold as statistic_bound,
        mean_before - mean_after as fall
    from ml.extractor_changes
    where evidence_to >= (%(now)s - %(longest_age)s)::date
    union all
    select
        known.tenant_id, known.template, alerts.extractor_vendor, alerts.extractor_model, known.objective,
        case when known.evidence_to < alerts.told_end::date then alerts.told_start::date else known.evidence_to end,
        known.evidence_to, known.evidence_to, null, null, 0, 0, null, null, 0
    from alerting.alerts
    inner join ml.posterior_snapshots as known using (tenant_id, template)
    inner join ml.current_posteriors using (posterior_id)
    where
        alerts.event_type = %(event_type)s
        and alerts.status in ('pending', 'firing')
        and not exists (
            select 1 from ml.extractor_changes as changes
            where
                (changes.tenant_id, changes.template, changes.extractor_vendor, changes.extractor_model)
                = (alerts.tenant_id, alerts.template, alerts.extractor_vendor, alerts.extractor_model)
        )
),

judged as (
    select
        changes.*,
        rule.severity, rule.for_n, rule.clear_n, rule.clear_gap, rule.basis, rule.value, rule.bound,
        alerting.widest('above', rule.value, rule.bound) as threshold
    from changes
    cross join lateral alerting.rules_for(
        changes.tenant_id, changes.template, changes.extractor_vendor, changes.extractor_model
    ) as rule
    where
        rule.event_type = 'extractor_change'
        and rule.enabled
        and changes.evidence_to >= (%(now)s - rule.max_age)::date
)

select
    judged.tenant_id,
    'extractor_change' as event_type,
    'objective_drop' as metric,
    judged.template,
    judged.extractor_vendor,
    judged.extractor_model,
    judged.fall as value,
    judged.threshold,
    judged.fall > judged.threshold as breach,
    judged.fall <= judged.threshold and judged.fall > judged.threshold + judged.clear_gap as between,
    judged.severity,
    judged.for_n,
    judged.clear_n,
    judged.changed_on::timestamptz as starts,
    (judged.evidence_to + 1)::timestamptz as ends,
    judged.count_after::bigint as evaluation_count,
    concat_ws('|', judged.value, judged.bound) as rule,
    jsonb_build_object(
        'rule', judged.basis,
        'change', jsonb_build_object(
            'objective', judged.objective, 'changed_on', judged.changed_on, 'found_on', judged.found_on,
            'mean_before', judged.mean_before, 'mean_after', judged.mean_after, 'count_before', judged.count_before,
            'count_after', judged.count_after, 'log_likelihood_ratio', judged.statistic,
            'log_likelihood_ratio_above', judged.statistic_bound
        )
    ) as basis
from judged
where
    judged.fall > judged.threshold
    or (judged.tenant_id, judged.template) in (select tenant_id, template from ({_ALERTED}) as alerted)
order by judged.evidence_to, judged.tenant_id, judged.template, judged.extractor_vendor, judged.extractor_model
"""  # noqa: S608 - constants of this module

_HAS_FEATURES = "select to_regclass('marts.feature_drift') is not null"


def of_assets(connection: Connection, now: datetime) -> Iterator[Observation]:
    """What the newest findings say of every template that breaks a rule or has an alert they may change, oldest first.

    Args:
        connection: in UTC.
        now: against which the rules' maximum age is taken, aware.
    """
    age = longest_age(connection)
    if age is None:
        return
    queries = [("drift_anomaly", _ANOMALIES), ("drift_predicted", _PREDICTIONS), ("extractor_change", _DROPS)]
    if connection.execute(_HAS_FEATURES).fetchone() == (True,):
        queries.append(("feature_drift", _FEATURES))
    parameters = {"now": now, "longest_age": age, "horizon": HORIZON_DAYS, "chance": CHANCE, "far": FAR}
    for event_type, query in queries:
        yield from read_observations(connection, query, parameters | {"event_type": event_type}, "finding")

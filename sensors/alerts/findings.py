"""What assets have found, held against the rules: forecasts, and features of the input. Read anew with every scan.

* `drift_anomaly`: a day above its forecast's upper bound; the threshold adds a margin.
* `drift_predicted`: the newest forecast crosses the bound of `drift_high`, plus a margin, within a week. Its window is
  the history that the forecast was fitted on.
* `feature_drift`: the largest shift of a feature's mean on a day, in standard deviations of the 28 days before, of
  those that chance does not explain. A day tests all features of a template, so each p-value counts as many times
  (Bonferroni).

A day that isn't over may raise an alert but not resolve one: the rest of it is still to come.

Belongs here: reading the last days of `ml` and marts. Does not belong here: what is unusual (assets), what becomes of
it (`states`). `extractor_change` has no finding yet.
"""

from collections.abc import Iterator
from datetime import datetime

from sensors.alerts.observations import longest_age, read_observations
from sensors.alerts.states import Observation
from storage.database import Connection

HORIZON_DAYS = 7
CHANCE = 0.001

_ANOMALIES = """
with days as materialized (
    select * from ml.drift_forecasts
    where date >= (%(now)s - %(longest_age)s)::date and date <= %(now)s::date and actual is not null
),

rules as materialized (
    select templates.*, rule.*
    from (select distinct days.tenant_id, days.template from days) as templates
    cross join lateral alerting.rules_for(templates.tenant_id, templates.template) as rule
    where rule.event_type = 'drift_anomaly' and rule.enabled
),

bounded as (
    select
        *,
        alerting.widest('above', days.yhat_upper + rules.value, rules.bound) as threshold
    from days
    inner join rules using (tenant_id, template)
    where days.date >= (%(now)s - rules.max_age)::date
),

judged as (
    select *, is_anomaly and actual > threshold as breach from bounded
),

watched as materialized (
    select tenant_id, template from judged where breach
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'drift_anomaly' and status in ('pending', 'firing')
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'drift_anomaly' and not is_retracted and told_end >= %(now)s - %(longest_age)s
)

select
    judged.tenant_id,
    'drift_anomaly' as event_type,
    'drift_score' as metric,
    judged.template,
    '' as extractor_vendor,
    '' as extractor_model,
    judged.actual as value,
    judged.threshold,
    judged.breach,
    not judged.breach and judged.actual > judged.threshold + judged.clear_gap as between,
    judged.severity,
    judged.for_n,
    judged.clear_n,
    judged.date::timestamptz as starts,
    (judged.date + 1)::timestamptz as ends,
    judged.date < %(now)s::date as is_final,
    judged.evaluation_count,
    concat_ws('|', judged.value, judged.bound) as rule,
    jsonb_build_object(
        'rule', judged.basis,
        'forecast', jsonb_strip_nulls(jsonb_build_object(
            'model_id', judged.model_id, 'method', judged.method, 'fitted_from', judged.fitted_from,
            'fitted_to', judged.fitted_to, 'fitted_days', judged.fitted_days, 'expected', judged.yhat,
            'lower', judged.yhat_lower, 'upper', judged.yhat_upper
        ))
    ) as basis,
    case
        when judged.breach
            then alerting.drift_contributors(judged.tenant_id, judged.template_id, judged.date, judged.yhat)
        else '[]'
    end as contributors
from judged
inner join watched using (tenant_id, template)
where judged.breach or judged.date < %(now)s::date
order by judged.date
"""

_PREDICTIONS = """
with days as materialized (
    select * from ml.drift_forecasts
    where date >= %(now)s::date and date <= %(now)s::date + %(horizon)s and actual is null
),

-- Of rows that an earlier model left, none is mixed with the newest one's.
newest as (
    select tenant_id, template, max(fitted_to) as fitted_to from days group by tenant_id, template
),

rules as materialized (
    select
        newest.*,
        rule.*,
        high.value as high_value,
        alerting.widest('above', high.value + rule.value, rule.bound) as threshold
    from newest
    cross join lateral alerting.rules_for(newest.tenant_id, newest.template) as rule
    cross join lateral alerting.rules_for(newest.tenant_id, newest.template) as high
    where
        rule.event_type = 'drift_predicted'
        and rule.enabled
        and high.event_type = 'drift_high'
        and newest.fitted_to >= (%(now)s - rule.max_age)::date
),

predicted as (
    select
        rules.tenant_id,
        rules.template,
        coalesce(
            (array_agg(days.yhat order by days.date) filter (where days.yhat > rules.threshold))[1], max(days.yhat)
        ) as value,
        min(days.date) filter (where days.yhat > rules.threshold) as crossing_on,
        max(days.fitted_days) as fitted_days,
        min(days.fitted_from) as fitted_from,
        (array_agg(days.model_id order by days.date))[1] as model_id,
        (array_agg(days.method order by days.date))[1] as method,
        jsonb_agg(jsonb_build_object('date', days.date, 'value', days.yhat) order by days.yhat desc, days.date)
            as contributors
    from rules
    inner join days using (tenant_id, template, fitted_to)
    group by rules.tenant_id, rules.template
),

watched as materialized (
    select tenant_id, template from predicted where crossing_on is not null
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'drift_predicted' and status in ('pending', 'firing')
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'drift_predicted' and not is_retracted and told_end >= %(now)s - %(longest_age)s
)

select
    rules.tenant_id,
    rules.event_type,
    'predicted_drift_score' as metric,
    rules.template,
    '' as extractor_vendor,
    '' as extractor_model,
    predicted.value,
    rules.threshold,
    predicted.crossing_on is not null as breach,
    predicted.crossing_on is null and predicted.value > rules.threshold + rules.clear_gap as between,
    rules.severity,
    rules.for_n,
    rules.clear_n,
    predicted.fitted_from::timestamptz as starts,
    (rules.fitted_to + 1)::timestamptz as ends,
    predicted.fitted_days as evaluation_count,
    concat_ws('|', rules.high_value, rules.value, rules.bound) as rule,
    jsonb_build_object(
        'rule', rules.basis,
        'forecast', jsonb_strip_nulls(jsonb_build_object(
            'model_id', predicted.model_id, 'method', predicted.method, 'fitted_from', predicted.fitted_from,
            'fitted_to', rules.fitted_to, 'fitted_days', predicted.fitted_days, 'crossing_on', predicted.crossing_on
        ))
    ) as basis,
    predicted.contributors
from rules
inner join predicted using (tenant_id, template)
inner join watched using (tenant_id, template)
order by rules.fitted_to
"""

_FEATURES = """
with tested as materialized (
    select *, count(*) over (partition by tenant_id, template, date) as tests
    from marts.feature_drift
    where date >= (%(now)s - %(longest_age)s)::date and date <= %(now)s::date and p_value is not null
),

days as (
    select
        tenant_id,
        template,
        date,
        coalesce(max(abs(shift)) filter (where p_value * tests < %(chance)s), 0) as value,
        max(value_count + null_count) as evaluation_count,
        max(tests) as tests
    from tested
    group by tenant_id, template, date
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

watched as materialized (
    select tenant_id, template from judged where value > threshold
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'feature_drift' and status in ('pending', 'firing')
    union
    select tenant_id, template from alerting.alerts
    where event_type = 'feature_drift' and not is_retracted and told_end >= %(now)s - %(longest_age)s
)

select
    judged.tenant_id,
    'feature_drift' as event_type,
    'feature_shift' as metric,
    judged.template,
    '' as extractor_vendor,
    '' as extractor_model,
    judged.value,
    judged.threshold,
    judged.value > judged.threshold as breach,
    judged.value <= judged.threshold and judged.value > judged.threshold + judged.clear_gap as between,
    judged.severity,
    judged.for_n,
    judged.clear_n,
    judged.date::timestamptz as starts,
    (judged.date + 1)::timestamptz as ends,
    judged.date < %(now)s::date as is_final,
    judged.evaluation_count,
    concat_ws('|', judged.bound, judged.own_bound) as rule,
    jsonb_build_object(
        'rule', judged.basis,
        'profile', jsonb_build_object(
            'from', judged.date - 28, 'to', judged.date - 1, 'features_tested', judged.tests,
            'p_value_below', %(chance)s::double precision / judged.tests
        )
    ) as basis,
    case
        when judged.value > judged.threshold then (
            select jsonb_agg(to_jsonb(worst))
            from (
                select tested.feature, tested.shift, tested.p_value, tested.mean, tested.baseline_mean,
                    tested.value_count, tested.baseline_count
                from tested
                where
                    tested.tenant_id = judged.tenant_id
                    and tested.template = judged.template
                    and tested.date = judged.date
                    and tested.p_value * tested.tests < %(chance)s
                order by abs(tested.shift) desc nulls last, tested.feature
                limit 5
            ) as worst
        )
        else '[]'
    end as contributors
from judged
inner join watched using (tenant_id, template)
where judged.value > judged.threshold or judged.date < %(now)s::date
order by judged.date
"""

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
    parameters = {"now": now, "longest_age": age}
    yield from read_observations(connection, _ANOMALIES, parameters, "finding")
    yield from read_observations(connection, _PREDICTIONS, parameters | {"horizon": HORIZON_DAYS}, "finding")
    if connection.execute(_HAS_FEATURES).fetchone() == (True,):
        yield from read_observations(connection, _FEATURES, parameters | {"chance": CHANCE}, "finding")

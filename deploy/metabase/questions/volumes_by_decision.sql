-- Volumes by decision: stacked bars, date across, one colour a decision.
select
    date,
    decision,
    sum(count) as evaluation_count
from marts.evaluation_daily_stats
where date > (now() at time zone 'utc')::date - 90
group by date, decision
order by date, decision

{{ config(materialized='view', post_hook="alter view {{ this }} set (security_invoker = true)") }}

select day::date as date_day
from generate_series(timestamp '2000-01-01', now() + interval '1 year', interval '1 day') as days (day)

{{ config(materialized='table') }}

-- A value's own histogram: 50 bins of equal width over [0, 1] with a one in its bin. Sums of these are histograms.
select
    numbers.bin,
    (
        select array_agg((other.bin = numbers.bin)::integer order by other.bin)
        from generate_series(0, 49) as other (bin)
    )::real []::vector as one
from generate_series(0, 49) as numbers (bin)

{{ config(unique_key='bin') }}

-- A value's own histogram: 50 bins of equal width over [0, 1] with a one in its bin. Sums of these are histograms.
-- Bin 50 is that of 1.0 alone, which counts among the last.
with bins as (
    select
        numbers.bin,
        (
            select array_agg((other.bin = least(numbers.bin, 49))::integer order by other.bin)
            from generate_series(0, 49) as other (bin)
        )::real[]::vector as one
    from generate_series(0, 50) as numbers (bin)
)

{{ changed_rows('bins', ['bin', 'one']) }}

{#-
    How models follow what has landed. A fold is what one build takes in: int_batches numbers it. Every table that
    follows carries, in fold_id, the fold that last changed a row; intermediate.marks says which folds a model has in it.
    The mark is moved in the transaction that builds the model, so a build that dies is a build that never was.
-#}

{#- A pre-hook: this build takes in the folds that all these parents have. -#}
{%- macro follow(parents) -%}
    {{ join_by_index() }};
    select intermediate.take_folds(
        '{{ this.identifier }}', array['{{ parents | join("', '") }}'], {{ 'false' if is_incremental() else 'true' }}
    )
{%- endmacro -%}

{#- The same for a model that adds what its parents have new to what it has itself. -#}
{%- macro follow_increments(parents) -%}
    {{ join_by_index() }};
    select intermediate.take_increments(
        '{{ this.identifier }}', array['{{ parents | join("', '") }}'], {{ 'false' if is_incremental() else 'true' }}
    )
{%- endmacro -%}

{#- And where a parent keeps nothing but increments: the model can only be made anew together with it. -#}
{%- macro require_whole(parent) -%}
    {%- if not is_incremental() -%}
    select intermediate.require_whole('{{ parent }}', '{{ this.identifier }}')
    {%- endif -%}
{%- endmacro -%}

{#-
    A pre-hook of what keeps increments: made anew, it begins with what its consumer has not added yet. Its own mark is
    ahead of that where a build died between the two, and of dropped months the consumer keeps what it has.
-#}
{%- macro begin_where_it_ends(consumer) -%}
    {%- if not is_incremental() -%}
    update intermediate.marks
    set from_fold = coalesce((select to_fold from intermediate.marks where model = '{{ consumer }}'), 0)
    where model = '{{ this.identifier }}'
    {%- endif -%}
{%- endmacro -%}

{#- The condition on the parent's rows that changed since this model's last build. -#}
{%- macro in_new_folds(fold_id='fold_id') -%}
    {{ fold_id }} > intermediate.fold_from('{{ this.identifier }}')
    and {{ fold_id }} <= intermediate.fold_to('{{ this.identifier }}')
{%- endmacro -%}

{#- Everything up to the fold that this build takes in, for what is made anew. -#}
{%- macro in_known_folds(fold_id='fold_id') -%}
    {{ fold_id }} <= (select intermediate.fold_to('{{ this.identifier }}'))
{%- endmacro -%}

{#-
    For increments. The tables that they are joined by have just been made and have no statistics yet; one
    wrong guess and a hash join reads all of history for a thousand new rows. No bitmaps either: in a month that has no
    statistics yet they were made of the rows of a batch and of all the month's rows, once a batch.
-#}
{%- macro join_by_index() -%}
    {%- if is_incremental() and not is_restated() -%}
        set local enable_hashjoin = off;
        set local enable_mergejoin = off;
        set local enable_seqscan = off;
        set local enable_bitmapscan = off;
    {%- endif -%}
    set local jit = off
{%- endmacro -%}

{%- macro analyze_if_needed() -%}
    select intermediate.analyze_if_needed('{{ this }}')
{%- endmacro -%}

{#-
    Days of this build's folds, as ranges: days no further apart than a window reaches make one. Each day from a range's
    first to `reach` days after its last is restated, and no day belongs to two ranges.
-#}
{%- macro changed_ranges(relation, keys, reach) -%}
    select
        {{ keys | join(', ') }},
        min(date) as first_date,
        max(date) as last_date
    from (
        select
            *,
            count(*) filter (where gap > {{ reach }}) over (partition by {{ keys | join(', ') }} order by date) as range_number
        from (
            select
                {{ keys | join(', ') }},
                date,
                date - lag(date) over (partition by {{ keys | join(', ') }} order by date) as gap
            from {{ relation }}
            where {{ in_new_folds() }}
        ) as changed_days
    ) as numbered
    group by {{ keys | join(', ') }}, range_number
{%- endmacro -%}

{#-
    The evaluations of the batches that a build takes in. An increment finds them by batch and month, both of which are
    indexed, so that its cost is that of the new rows and not of the partitions there are. What is made anew takes all
    that raw still has whole; where retention has dropped months, the model keeps what it has and adds what is new.
-#}
{%- macro arrived_evaluations(batches, evaluations) -%}
    {%- if is_incremental() -%}
    select
        months.fold_id,
        months.received_at,
        landed.*
    from (
        select distinct
            {{ batches }}.batch_id,
            {{ batches }}.fold_id,
            {{ batches }}.received_at,
            date_trunc('month', touched.day)::date as month
        from {{ batches }}
        cross join unnest({{ batches }}.touched_days) as touched (day)
        where {{ batches }}.kind = 'evaluations' and {{ in_new_folds(batches ~ '.fold_id') }}
    ) as months
    cross join lateral (
        select *
        from {{ evaluations }}
        where
            {{ evaluations }}.batch_id = months.batch_id
            and {{ evaluations }}.created_at >= months.month::timestamp at time zone 'UTC'
            and {{ evaluations }}.created_at < (months.month + interval '1 month') at time zone 'UTC'
    ) as landed
    {%- else -%}
    select
        {{ batches }}.fold_id,
        {{ batches }}.received_at,
        {{ evaluations }}.*
    from {{ evaluations }}
    inner join {{ batches }} on {{ evaluations }}.batch_id = {{ batches }}.batch_id
    where
        {{ in_known_folds(batches ~ '.fold_id') }}
        and (
            {{ evaluations }}.date >= (select raw.dropped_before())
            or {{ in_new_folds(batches ~ '.fold_id') }}
        )
    {%- endif -%}
{%- endmacro -%}

{#- A pre-hook: increments that all these models have added up are no longer needed. -#}
{%- macro forget_taken_increments(consumers) -%}
    {%- if is_incremental() -%}
    delete from {{ this }}
    where fold_id <= (
        select min(to_fold) from intermediate.marks where model = any (array['{{ consumers | join("', '") }}'])
        having count(*) = {{ consumers | length }}
    )
    {%- endif -%}
{%- endmacro -%}

{#-
    A pre-hook of int_batches: a horizon from the future is another server's, and would lie in the past once this one's
    numbers have passed it. Without one, every batch is looked at, until the next fold writes this server's.
-#}
{%- macro forget_horizon_of_another_server() -%}
    {%- if is_incremental() -%}
    update {{ this }} set horizon = '0'
    where fold_id = (select max(fold_id) from {{ this }}) and horizon > pg_snapshot_xmin(pg_current_snapshot())
    {%- endif -%}
{%- endmacro -%}

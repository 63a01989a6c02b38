{#-
    The rows of a small relation that differ from what the model has already. A merge writes every row that it is given:
    without this, nothing new would rewrite the whole table at each build.
-#}
{%- macro changed_rows(relation, columns) -%}
    {%- if is_incremental() -%}
select * from {{ relation }}
except
select
    {{ columns | join(',\n    ') }}
from {{ this }}
    {%- else -%}
select * from {{ relation }}
    {%- endif -%}
{%- endmacro -%}

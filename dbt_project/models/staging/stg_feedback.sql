select
    feedback_id,
    tenant_id,
    batch_id,
    record_key,
    evaluation_id,
    coalesce(success, fields_correct = fields_total) as is_success,
    fields_correct,
    fields_total,
    -- Feedback that came inside its evaluation's record has the record's key as its own.
    coalesce(feedback_id = record_key, false) as came_with_evaluation,
    created_at
from {{ source('raw', 'feedback') }}

-- The same bytes are another dead letter where they mean another record: a row under another CSV header, feedback that was
-- sent to another evaluation's path, an event of another resource. Told apart by their bytes alone, the second was never
-- replayed.

alter table raw.rejected_records
    drop column payload_sha256,
    add column identity bytea not null generated always as (
        sha256(payload) || case when record is null then '' else sha256(record) end
    ) stored,
    add unique (tenant_id, kind, verdict, identity);
comment on table raw.rejected_records is
    'Dead letters and conflicts, byte for byte. The same record sent again raises occurrences instead of adding a row.';
comment on column raw.rejected_records.identity is 'SHA-256 of the payload, and of the record if it has one of its own.';
grant select (identity) on raw.rejected_records to tidemark_ingest;

alter table raw.ingest_batches add column correlation_id text;
comment on column raw.ingest_batches.correlation_id is
    'Of the request that brought the batch: found in its lines of the log, and in alerts on records that have none.';

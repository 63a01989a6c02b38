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

-- All that was read of a file, and not its last record alone: a file that is written anew and longer, with one line of the
-- same length changed, kept that change for itself. What landed before this is read again, and recognized.
alter table raw.dropped_files
    drop column tail_sha256,
    add column read_bytes bigint not null default 0,
    add column read_sha256 bytea;
comment on column raw.dropped_files.tail_bytes is
    'Length of the last record before offset_done, without its line''s end: it may turn out to have been the beginning of one.';
comment on column raw.dropped_files.read_bytes is 'How many of its first bytes had been read when offset_done was reached.';
comment on column raw.dropped_files.read_sha256 is 'Of those bytes: where it is still theirs, the file has but grown.';

alter table raw.ingest_batches add column correlation_id text;
comment on column raw.ingest_batches.correlation_id is
    'Of the request that brought the batch: found in its lines of the log, and in alerts on records that have none.';

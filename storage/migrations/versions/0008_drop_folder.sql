-- The drop folder's memory. Each batch of a file moves its row on in the transaction that lands it, so a worker that was
-- killed goes on where it stopped, and no line is judged twice.

create table raw.dropped_files (
    tenant_id text not null references access.tenants,
    path text not null,
    version integer not null check (version > 0),
    kind text not null check (kind in ('evaluations', 'feedback')),
    state text not null check (state in ('waiting', 'landing', 'landed', 'failed', 'superseded')),
    size bigint not null check (size >= 0),
    mark text not null,
    marked_at timestamptz not null,
    read_mark text,
    read_size bigint not null default 0,
    offset_done bigint not null default 0,
    lines_done bigint not null default 0,
    tail_bytes bigint not null default 0,
    tail_sha256 bytea,
    accepted bigint not null default 0,
    duplicates bigint not null default 0,
    conflicts bigint not null default 0,
    rejected bigint not null default 0,
    batches bigint not null default 0,
    first_seen_at timestamptz not null,
    finished_at timestamptz,
    error text,
    primary key (tenant_id, path, version)
);
create index on raw.dropped_files (tenant_id, path) where state in ('waiting', 'landing');
comment on table raw.dropped_files is
    'One row a file of the drop folder and version of its content: how far it has landed, and with which verdicts.';
comment on column raw.dropped_files.path is 'Relative to the drop folder, the tenant''s own folder included.';
comment on column raw.dropped_files.version is
    'From 1; a new one where the content did not merely grow. A file that grows goes on in its row.';
comment on column raw.dropped_files.state is
    'waiting: seen, and perhaps still being written; landing: a worker is at it, or was killed at it; superseded: there is '
    'a newer version.';
comment on column raw.dropped_files.mark is
    'What the folder told of the file when it was looked at last (size, time, entity tag): it changes with the content.';
comment on column raw.dropped_files.read_mark is 'The mark under which landing began last; null if it never did.';
comment on column raw.dropped_files.offset_done is
    'Where landing goes on: in bytes of the unpacked text, in rows of a Parquet file.';
comment on column raw.dropped_files.lines_done is 'The same place in physical lines, or rows.';
comment on column raw.dropped_files.tail_bytes is
    'Length of the last record before offset_done, without its line''s end. With its hash it tells growth from new content.';

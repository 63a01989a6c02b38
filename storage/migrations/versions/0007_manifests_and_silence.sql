-- Manifests: what a sender declares, against what landed and what was refused. Silence: against each sender's own rhythm.

create function raw.manifest_grace() returns interval language sql immutable parallel safe as $$
    select interval '1 hour'
$$;
comment on function raw.manifest_grace () is 'How long after its declaration a batch may go on arriving.';

create function raw.record_checksum(record_id text) returns bigint language sql immutable strict parallel safe as $$
    select ('x' || encode(substring(sha256(convert_to(record_id, 'UTF8')) for 8), 'hex'))::bit(64)::bigint
$$;
comment on function raw.record_checksum (text) is
    'The first 8 bytes of the SHA-256 of a record_id; a batch''s checksum is these of all its records, xored.';

-- What was refused is often no JSON at all, and some of it is made to break whoever parses it: nothing here may fail.
create function raw.batch_key_of(document bytea) returns text
language plpgsql immutable strict parallel safe set search_path = pg_catalog as $$
declare
    content text;
begin
    content := convert_from(document, 'UTF8');
    begin
        return content::json ->> 'batch_key';
    exception when others then
        return substring(content from '"batch_key"\s*:\s*"([^"\\]{1,200})"');
    end;
exception when others then
    return null;
end $$;
comment on function raw.batch_key_of (bytea) is
    'The batch_key that a refused record names, where that can be read; also of what is not quite JSON, such as a NaN.';

create index on raw.rejected_records (batch_id);
create index on raw.rejected_records (replayed_at) where replayed_at is not null;

-- Of months that retention has dropped nobody can make it any more: there it stays null, and is compared with nothing.
alter table if exists intermediate.int_batch_keys add column record_checksum bigint;

-- Silence and missing batches are two alerts of one event type about one tenant.
alter table alerting.alerts
    drop constraint alerts_tenant_id_event_type_template_extractor_vendor_extra_key,
    add constraint one_alert_an_epoch
        unique (tenant_id, event_type, template, extractor_vendor, extractor_model, metric, epoch);
drop index alerting.one_open_alert_a_subject;
create unique index one_open_alert_a_subject on alerting.alerts
    (tenant_id, event_type, template, extractor_vendor, extractor_model, metric) where status = 'firing';
comment on column alerting.alerts.template is 'Empty where the subject is the whole tenant.';

insert into alerting.thresholds (event_type, comparison, value, severity, clear_n)
values ('evaluations_missing', 'above', 0, 'warning', 1);

create table alerting.arrivals (
    tenant_id text not null references access.tenants,
    template text not null,
    hour timestamptz not null,
    primary key (tenant_id, template, hour)
);
comment on table alerting.arrivals is
    'Hours in which new evaluations of a template arrived, or of any (template empty); a few weeks back.';

create table alerting.rhythms (
    tenant_id text not null references access.tenants,
    template text not null,
    last_arrived_at timestamptz not null,
    silent_from timestamptz,
    primary key (tenant_id, template)
);
create index on alerting.rhythms (silent_from) where silent_from is not null;
comment on table alerting.rhythms is
    'When evaluations of a template, or of any (template empty), last arrived, and until when more are expected.';
comment on column alerting.rhythms.silent_from is
    'If nothing arrives until then, that is unusual by the sender''s own past; null where it has no usual.';

alter table alerting.positions add column read_at timestamptz;
comment on column alerting.positions.read_at is 'When it was last read on: while nobody looks, nobody is silent.';

-- Of templates this would have to read the evaluations; they are learned as they arrive.
insert into alerting.arrivals (tenant_id, template, hour)
select distinct tenant_id, '', date_trunc('hour', received_at, 'UTC')
from raw.ingest_batches
where kind = 'evaluations' and accepted > 0 and received_at > now() - interval '9 weeks';

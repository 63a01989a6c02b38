-- Where a key falls among a template's shares, so that a pipeline can pick its extractor in SQL alone: the one whose
-- [share_lo, share_hi) holds marts.share_of_key(template_id, key). The same as unit_interval of assets/selection/shares.py.

-- The first 53 bits are what a double precision number holds exactly: 14 hexadecimal digits less 3 bits, over 2^53.
-- Bound to its functions when it is made, whatever the caller's search_path.
create function marts.share_of_key (template_id uuid, key text) returns double precision
language sql immutable parallel safe strict
return (
    ('x' || left(encode(sha256(convert_to(template_id::text || ':' || key, 'UTF8')), 'hex'), 14))::bit(56)::bigint >> 3
)::double precision / 9007199254740992::double precision;
comment on function marts.share_of_key (uuid, text) is
    'A number in [0, 1), always the same for a template and a key: the extractor whose share holds it is the key''s.';
revoke all on function marts.share_of_key (uuid, text) from public;
grant execute on function marts.share_of_key (uuid, text) to bi_reader, api_reader, tidemark_dbt;

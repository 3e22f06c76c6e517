-- Which master key the data was written with, and the keys that it seals.

create table settings (
    singleton boolean primary key default true,
    master_key_id bytea not null,
    constraint settings_singleton_check check (singleton)
);

-- Keys that sign what others verify by /.well-known/jwks.json. The public half is what is published, the private one is
-- sealed by the master key (`gateway/store/signing_keys.py`).
create table signing_keys (
    kid text primary key, -- the thumbprint (RFC 7638)
    algorithm text not null,
    public jsonb not null,
    sealed bytea not null,
    created_at timestamptz not null,
    signs_from timestamptz not null, -- after it is published, where another one signs until then
    signs_until timestamptz, -- null until another one is to follow it
    needed_until timestamptz, -- what it signed has expired by then; written ahead, so that few signatures write it
    constraint signing_keys_algorithm_check check (algorithm in ('RS256', 'ES256', 'EdDSA'))
);

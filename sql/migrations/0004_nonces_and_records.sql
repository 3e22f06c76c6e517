-- Nonces of signed requests, the audit record, and which master key the data was written with.

create table mac_nonces (
    key bytea primary key,
    expires_at timestamptz not null
);
create index mac_nonces_expires_at on mac_nonces (expires_at);

create table events (
    event_id bigint generated always as identity primary key,
    at timestamptz not null,
    kind text not null,
    subject text,
    client_id text,
    detail jsonb not null default '{}'
);

create table settings (
    singleton boolean primary key default true,
    master_key_id bytea not null,
    constraint settings_singleton_check check (singleton)
);

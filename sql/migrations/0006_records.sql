-- The audit record, and which master key the data was written with.

create table events (
    event_id bigint generated always as identity primary key,
    at timestamptz not null,
    kind text not null,
    subject text,
    client_id text,
    detail jsonb not null default '{}',
    -- The minute that an event counts failures of; null for an event that stands for one act. Anybody can fail, so that
    -- an event each would let strangers fill the table: failures of one minute and account are one event.
    minute timestamptz
);
create unique index events_minute on events (minute, kind, subject, client_id) nulls not distinct
where minute is not null;

create table settings (
    singleton boolean primary key default true,
    master_key_id bytea not null,
    constraint settings_singleton_check check (singleton)
);
